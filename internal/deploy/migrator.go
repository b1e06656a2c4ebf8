package deploy

import (
	"context"
	"io/fs"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Migrator brings the schema of a database to where a release wants it. It is safe for concurrent use; of two at once on one
// database, one waits.
type Migrator interface {
	// Migrate runs what of the SQL files in dir the database has not seen, in the order of their names, each once, also when it was
	// killed in between. ErrMigration when one of them fails or does not fit what the database has seen: its error says which file,
	// which line, and what stands now. Files that the database has seen and dir does not have are of a later release, and fine.
	Migrate(ctx context.Context, url secret.Text, files fs.FS, dir string) (Migrated, error)
}

// Migrated is what a Migrate did.
type Migrated struct {
	Applied   []string `json:"applied"`              // names of files, in the order in which they ran
	Before    int      `json:"before"`               // files that were applied already
	Late      []string `json:"late,omitempty"`       // of Applied: those whose number is smaller than one that was applied before, as of a branch that was merged late
	TakenOver string   `json:"taken_over,omitempty"` // the tool whose record says what was applied before Lotse came: goose, golang-migrate, dbmate, supabase, atlas, prisma
}
