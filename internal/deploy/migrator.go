package deploy

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Migrator brings the schema of a database to where a release wants it. It is safe for concurrent use; of two at once on one
// database, one waits.
type Migrator interface {
	// Migrate runs what of the SQL files in dir the database has not seen, in the order of their names, each once, also when it was
	// killed in between; but not those that are named to wait. ErrMigration when one of them fails or does not fit what the database has
	// seen: its error says which file, which line, and what stands now. Files that the database has seen and dir does not have are of a
	// later release, and fine.
	Migrate(ctx context.Context, url secret.Text, files fs.FS, dir string, wait ...string) (Migrated, error)

	// Run runs a command that migrates by itself, under the lock of Migrate, and says what of the schema is different then. It runs
	// each time: what is new, the command knows. ErrMigration when it fails: the error says what stands, and the next Run goes on as the
	// command does. That a run before this one did not end is told.
	Run(ctx context.Context, url secret.Text, c MigrationCommand) (Migrated, error)

	// Judge finds out what the files that Migrate would run, or the command of Run, do to the code that uses the database now. It runs them on a clone of the
	// schema that is thrown away, and changes nothing of the database itself. ErrMigration where one of them cannot run at all, or does
	// not fit what the database has seen.
	Judge(ctx context.Context, q MigrationQuestion) (Judgement, error)
}

// MigrationQuestion says which files are to be judged, and against what.
type MigrationQuestion struct {
	URL   secret.Text // of the database; empty: it cannot be asked
	Files fs.FS
	Dir   string
	Ran   []string // names of files that ran there, by which it goes where the database cannot be asked

	Command *MigrationCommand // in place of Files and Dir: it is run, against a clone. ErrUnsupported where the database cannot be cloned
}

// MigrationCommand is a program of the app that migrates by itself.
type MigrationCommand struct {
	Line    string // as lotse.yaml has it
	History string // table in which it notes what it has run; empty: one that is known of a tool
	// Run runs it once and returns when it has ended, with these settings in place of those of the same names. ExitError where it fails.
	Run func(ctx context.Context, instead []Setting) error
	// Names are the settings by which it may find a database: what of them names one is another for the time of a judgement.
	Settings []Setting
}

// Migrated is what a Migrate did.
type Migrated struct {
	Applied   []string `json:"applied"`              // names of files, in the order in which they ran
	Before    int      `json:"before"`               // files that were applied already
	Late      []string `json:"late,omitempty"`       // of Applied: those whose number is smaller than one that was applied before, as of a branch that was merged late
	Waiting   []string `json:"waiting,omitempty"`    // files that were told to wait
	Changed   []string `json:"changed,omitempty"`    // of a command: what of the schema is different
	Resumed   bool     `json:"resumed,omitempty"`    // of a command: a run before did not end
	TakenOver string   `json:"taken_over,omitempty"` // the tool whose record says what was applied before Lotse came: goose, golang-migrate, dbmate, supabase, atlas, prisma
}

// MigrationClass is what a migration does to the code that runs already.
type MigrationClass string

// The classes, the worst last.
const (
	Expand    MigrationClass = "expand"    // it goes on
	Contract  MigrationClass = "contract"  // it breaks, or may
	Dangerous MigrationClass = "dangerous" // a table is locked for long, written anew, or its rows are lost
)

// Worse reports whether c is worse than other.
func (c MigrationClass) Worse(other MigrationClass) bool {
	order := []MigrationClass{Expand, Contract, Dangerous}
	return slices.Index(order, c) > slices.Index(order, other)
}

// Verdict is one thing that a statement of a migration does.
type Verdict struct {
	Class    MigrationClass `json:"class"`
	Rule     string         `json:"rule"`           // docs/migrations.md has them all
	Line     int            `json:"line"`           // in the file, from 1; 0: of a command
	Says     string         `json:"says,omitempty"` // of a command: the words of the statement, without values
	On       string         `json:"on,omitempty"`
	Lock     string         `json:"lock,omitempty"` // the strongest that is held on a table that was there: ACCESS EXCLUSIVE
	Rewrites bool           `json:"rewrites,omitempty"`
	Scans    bool           `json:"scans,omitempty"`
	Reason   string         `json:"reason"`
	Safer    string         `json:"safer,omitempty"`
	Allowed  string         `json:"allowed,omitempty"` // the reason for which it does not count
	Key      string         `json:"key,omitempty"`     // of what it is about, as AllowanceKey makes it
}

// JudgedFile is a migration that would run.
type JudgedFile struct {
	Name     string    `json:"name"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Needs    []string  `json:"needs,omitempty"` // files of the class contract before it, without which it cannot run or does something else
	Locks    []string  `json:"locks,omitempty"` // MODE on TABLE, of tables that were there
}

// Class is the worst of what counts.
func (f JudgedFile) Class() MigrationClass {
	worst := Expand
	for _, v := range f.Verdicts {
		if v.Allowed == "" && v.Class.Worse(worst) {
			worst = v.Class
		}
	}
	return worst
}

// Why is the first verdict that makes the file what it is; the zero Verdict for an expand file that nothing was found in.
func (f JudgedFile) Why() Verdict {
	for _, v := range f.Verdicts {
		if v.Allowed == "" && v.Class == f.Class() {
			return v
		}
	}
	return Verdict{}
}

// Judgement is what was found out about the migrations of a release.
type Judgement struct {
	Files  []JudgedFile  `json:"files"`            // in the order in which they would run
	Schema string        `json:"schema,omitempty"` // what the clone was made from
	Server string        `json:"server,omitempty"` // version of the PostgreSQL that it ran on
	Lacks  []string      `json:"lacks,omitempty"`  // what the clone could not be given
	Took   time.Duration `json:"took"`             // nanoseconds
}

// Of are the names of the files of a class.
func (j Judgement) Of(class MigrationClass) (names []string) {
	for _, f := range j.Files {
		if f.Class() == class {
			names = append(names, f.Name)
		}
	}
	return names
}

// String goes on from the name of the file.
func (v Verdict) String() string {
	at := fmt.Sprintf("line %d", v.Line)
	if v.Says != "" {
		at = "`" + v.Says + "`"
	}
	text := fmt.Sprintf("%s: %s (%s", at, v.Rule, v.Class)
	if v.On != "" {
		text += ", " + v.On
	}
	if v.Lock != "" {
		text += ", " + v.Lock
	}
	text += "): " + v.Reason
	if v.Allowed != "" {
		text += "; allowed: " + v.Allowed
	}
	return text
}
