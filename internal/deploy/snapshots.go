package deploy

import (
	"context"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Snapshots keeps copies of the data of stages that can be restored. It is safe for concurrent use; of two that change the snapshots of
// one stage, one waits.
//
// A snapshot is whole or it is not there: what a crash or a cancel leaves of one is taken away by the next call for its stage. Errors name
// tables and files, and nothing of any row.
type Snapshots interface {
	// Take copies the data of a stage as it is at one moment, encrypted, and returns when the copy is whole and on the disk. Who works with
	// the database goes on meanwhile. ErrUnsupported where the server is newer than the tools of this machine, with what to install as a hint;
	// ErrNoSpace for a full disk.
	Take(ctx context.Context, order SnapshotOrder) (Snapshot, error)

	// List returns the snapshots of a stage, oldest first, also those that are damaged.
	List(ctx context.Context, stage StageRef) ([]Snapshot, error)

	// Prove restores a snapshot where nobody works with it, compares what came back with its manifest, asks check (nil: nothing more), and
	// keeps the outcome beside the snapshot: List shows it. A snapshot that is not proven is an error (ErrDamaged) that names what is wrong,
	// and the Proof says it too. The scratch is gone afterwards. Another error says that nothing was found out.
	Prove(ctx context.Context, stage StageRef, id string, check func(ctx context.Context, url secret.Text) error) (Proof, error)

	// Restore fills an empty database, and empty folders, with what a snapshot holds, and compares it with the manifest as Prove does. Nothing
	// else is touched. After an error what was filled is not to be used.
	Restore(ctx context.Context, stage StageRef, id string, to Data) error

	// Prune takes away what keep does not ask for, and returns it. It leaves alone what is newer than the newest proven snapshot, and that one.
	Prune(ctx context.Context, stage StageRef, keep Keep) ([]Snapshot, error)
}

// TakesSnapshots is what an engine has whose platform takes snapshots itself.
type TakesSnapshots interface {
	// Snapshots returns those of the stage, where the platform takes any of this database.
	Snapshots(db Database) (own Snapshots, takes bool)
}

// Data is where the data of a stage is.
type Data struct {
	Database string            // name of it, for people
	URL      secret.Text       // of the database; empty: the stage has none
	Volumes  map[string]string // name of a volume to its folder
}

// SnapshotOrder asks for a snapshot.
type SnapshotOrder struct {
	Stage   StageRef
	Why     SnapshotReason
	Rollout string // before whose migration it is taken; empty: of none
	Release Digest // what the stage served then; empty: nothing
	Data    Data
}

// SnapshotReason is why a snapshot was taken.
type SnapshotReason string

// The reasons for a snapshot.
const (
	SnapshotDaily     SnapshotReason = "daily"
	SnapshotFirst     SnapshotReason = "first"     // of a stage, soon after something serves there
	SnapshotMigration SnapshotReason = "migration" // before one
	SnapshotByHand    SnapshotReason = "by hand"
)

// Snapshot is what is known of one copy.
type Snapshot struct {
	ID      string         `json:"id"` // [a-z0-9-], at most 40 bytes; ids of one stage sort by time
	Stage   StageRef       `json:"stage"`
	Why     SnapshotReason `json:"why"`
	Rollout string         `json:"rollout,omitempty"` // as it was ordered
	Release Digest         `json:"release,omitempty"`
	At      time.Time      `json:"at"`                // the moment that it shows
	Took    time.Duration  `json:"took"`              // nanoseconds
	Size    int64          `json:"size"`              // bytes, as kept
	Content int64          `json:"content,omitempty"` // bytes of the database and the volumes, which a restore needs on the disk; 0: not known
	Server  string         `json:"server,omitempty"`  // version of the database
	Schema  string         `json:"schema,omitempty"`  // digest of it
	Rows    int64          `json:"rows"`              // of all tables
	Tables  int            `json:"tables"`
	Files   int64          `json:"files,omitempty"`   // of all volumes
	Volumes []string       `json:"volumes,omitempty"` // names
	Where   string         `json:"where"`             // a folder, or s3://BUCKET/PREFIX
	Damaged string         `json:"damaged,omitempty"` // why it cannot be used, as far as can be seen without restoring it
	Proof   *Proof         `json:"proof,omitempty"`   // of the last drill; nil: there was none
}

// Proof is the outcome of a drill.
type Proof struct {
	At    time.Time     `json:"at"`
	Took  time.Duration `json:"took"`            // nanoseconds, until it could be worked with: what coming back takes
	Wrong string        `json:"wrong,omitempty"` // what is not as it was; empty: proven
	Check string        `json:"check,omitempty"` // what the app's own check said, one line; empty: there is none
	// Compared is what of it was compared, where that is not every row; one line.
	Compared string `json:"compared,omitempty"`
}
