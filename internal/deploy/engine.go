package deploy

import (
	"context"
	"net/http"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Engine runs one stage of one app. deploy asks for what is to be, the engine knows how this platform does it.
//
// This comment is the contract; enginetest.Run proves it.
//
//   - All verbs may be called at once, from any number of goroutines; the engine orders what must be ordered.
//   - Every verb that changes something carries the Fence of the lease it acts under. The engine keeps the greatest fence that
//     it has seen, where a crash does not lose it, and refuses a smaller one with ErrFenced before it changes anything.
//   - A cancelled verb returns soon with an error that wraps ctx.Err(). What it leaves is said at each verb.
//   - Errors answer errors.Is with the sentinels of this package; Retryable says whether the same call may succeed later.
//   - Values of settings appear in no error, listing, label or log.
type Engine interface {
	// Facts says what is so on this platform. It never changes during the life of an Engine.
	Facts() Facts

	// Start brings a release up beside whatever runs and gives it no traffic. It returns when every instance has answered
	// once. It is idempotent by Order.Rollout: a second Start with the same id waits for, or finds, the same instances.
	// A release that cannot run fails with a *StartError inside the services' start time. After an error or a cancel
	// nothing of the rollout is left; where a platform cannot take back at once what it has begun, List shows the rest until
	// it is gone, and Stop removes it.
	Start(ctx context.Context, fence Fence, order Order) error

	// Check returns nil only when every instance of the rollout answers now. Otherwise it says which did not, and why
	// (*CheckError); ErrUnknown for a rollout that this stage does not have.
	Check(ctx context.Context, rollout string) error

	// Reach returns a transport that takes requests for the stage's real host names to this rollout, whether or not it
	// has traffic. ErrUnknown as above.
	Reach(ctx context.Context, rollout string) (http.RoundTripper, error)

	// Shift gives the rollout this share of the stage's traffic, 0 to 100 in percent, and what remains to whoever had
	// traffic before; then it verifies what is served. With 100 nobody else gets new requests. Idempotent. A share that
	// the platform cannot give is ErrUnsupported. A rollout that does not answer is refused (*CheckError), an unknown one too
	// (ErrUnknown); a refused or cancelled Shift has changed nothing or everything, and List says which.
	Shift(ctx context.Context, fence Fence, rollout string, share int) error

	// Stop takes traffic from the rollout, lets what is in flight finish within drain, then removes all of it. Stopping
	// twice or an unknown rollout is fine. A cancelled Stop may be repeated and goes on where it was.
	Stop(ctx context.Context, fence Fence, rollout string, drain time.Duration) error

	// List returns everything of this stage that is there, also what an earlier process or version of Lotse left.
	List(ctx context.Context) ([]Running, error)
}

// Tasks is what an engine has that can run a command of a release once, beside its services (jobs, migrations).
type Tasks interface {
	// Task runs command in the folder and with the settings of a running rollout, and returns when it has ended. Output
	// is masked and goes to the rollout's log under name. A non-zero exit is an *ExitError with the tail of the output.
	Task(ctx context.Context, rollout, name, command string, mounts []VolumeMount) error
}

// TasksAhead is what an engine has that can run a command of a release that it has not started.
type TasksAhead interface {
	// TaskAhead runs command in the folder of the order's release and with its settings, but for those in instead, which are masked as
	// all are. It returns when the command and all that it has started have ended. Lines of its output go to yield, masked, and to a log
	// that Logs gives under name. A non-zero exit is an *ExitError with the tail of the output. Nothing else is left of it.
	TaskAhead(ctx context.Context, order Order, name, command string, instead []Setting, yield func(line string)) error
}

// Databases is what an engine has that runs a PostgreSQL for a stage alone. Its data outlives every release, and the engine never
// removes it.
type Databases interface {
	// DatabaseURL is how instances and migrations reach the stage's database, whether or not it runs. It is the same for as long as
	// there is the database. The setting is named DatabaseURL. ErrUnsupported for a major version that the platform does not have, with
	// what it has as a hint.
	DatabaseURL(ctx context.Context, db Database) (Setting, error)

	// OpenDatabase makes sure that the database is there and takes connections, and that it is started again when it ends or the
	// machine was. Idempotent. Data of another version, of another owner, or damaged, is refused and left alone, with the reason.
	OpenDatabase(ctx context.Context, fence Fence, db Database) error
}

// Migrates is what an engine has whose databases are reached from its instances alone: Start runs the migrations of the release
// (Stage.Database.Migrations) on the first instance before anything of the release runs, as Migrator does it, and fails with ErrMigration.
type Migrates interface {
	// MigratesInStart reports whether it does so for this database; where not, the database is reached from everywhere.
	MigratesInStart(db Database) bool
}

// Logs is what an engine has that keeps the output of instances.
type Logs interface {
	// Logs calls yield with each line, oldest first, until it returns false or everything was given. With Follow it goes on with the
	// stage, whichever rollouts come and go, until ctx ends; of one Rollout it ends when that is gone.
	Logs(ctx context.Context, q LogQuery, yield func(LogLine) bool) error
}

// LogQuery selects lines. Empty fields select everything.
type LogQuery struct {
	Rollout string
	Service string
	Lines   int       // the last so many of each instance, 0: all that is kept
	Since   time.Time // only what was said then or later; zero: whenever
	Follow  bool
}

// LogLine is one line of an instance's output, masked.
type LogLine struct {
	At       time.Time `json:"at"`
	Rollout  string    `json:"rollout"`
	Service  string    `json:"service"`
	Instance int       `json:"instance"`
	Text     string    `json:"text"`
}

// Fence is the number of a lease; a later lease has a greater one.
type Fence int64

// Facts says what is so on a platform, for plans, evidence and docs.
type Facts struct {
	Engine  string        `json:"engine"`  // local, aws, kube, memory
	Carries string        `json:"carries"` // who carries the requests: "lotse proxy", "load balancer", "dns", "cloudfront"
	Switch  time.Duration `json:"switch"`  // how long after a Shift the old release may still be given requests
	Shares  bool          `json:"shares"`  // shares between 0 and 100 can be given
	Sticky  bool          `json:"sticky"`  // a client stays with one release during a share

	TasksHere bool `json:"tasks_here,omitempty"` // what Tasks runs is on the controller's machine, and reaches its loopback

	Sampling time.Duration `json:"sampling,omitempty"` // the shortest span that Samples tells apart; 0: the engine is no Sampler
	Lag      time.Duration `json:"lag,omitempty"`      // how long after a request Samples has it
}

// Order is all that an engine is told about a release that it starts.
type Order struct {
	Rollout  string // id; [a-z0-9-], at most 40 bytes
	Release  Release
	Stage    Stage
	Settings []Setting
	Password secret.Text   // of a private stage
	Kept     []secret.Text // what Lotse keeps of the stage for itself: no instance gets it, and none may print it
	Wait     []string      // names of migrations that do not run in Start, where the engine runs them (Migrates)
}

// Running is one rollout that is on a stage.
type Running struct {
	Rollout  string           `json:"rollout"`
	Release  Digest           `json:"release"`
	Share    int              `json:"share"` // percent of new requests
	Since    time.Time        `json:"since"` // when it was started
	Services []RunningService `json:"services"`
}

// RunningService is one service of a running rollout.
type RunningService struct {
	Name      string            `json:"name"`
	Instances []RunningInstance `json:"instances,omitempty"` // none for a static service
}

// RunningInstance is one copy of a service.
type RunningInstance struct {
	Number   int    `json:"number"`
	Healthy  bool   `json:"healthy"`
	Restarts int    `json:"restarts,omitempty"`
	Note     string `json:"note,omitempty"` // why it is not healthy, or empty
}

// Adopter is what an engine has whose instances need somebody of this process to look after them.
type Adopter interface {
	// Adopt takes up the instances that List shows for a rollout, starts what of them is not running any more, and looks
	// after them from now on. It gives no traffic and takes none away. ErrUnknown for a rollout that this stage does not have.
	Adopt(ctx context.Context, rollout string, order Order) error
}
