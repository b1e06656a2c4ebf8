package deploy

import (
	"reflect"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// App is what lotse.yaml describes, as plain values with every default filled in. `config` makes it, nobody changes it.
type App struct {
	Name     string
	Pipeline []StepSpec // in the order of the file
	Services []Service  // in the order of the file
	Jobs     []Job
	Volumes  []string // names; the data of a volume outlives releases
	Secrets  []string // names of settings that every stage must have before anything starts
	Source   Source
	Notify   []Notice
	Gates    Gates // what every stage asks that says nothing itself
	Leaks    []AllowedLeak
	Stages   []Stage          // in the order of promotion
	People   []PersonalColumn // what columns of the databases of all stages hold, in the order of the file
}

// Source is where pushed commits come from, for stages that a push starts.
type Source struct {
	Remote string   // URL of a git repository; empty: origin of the repository on this machine, or that repository where it has none
	Token  string   // name of the secret that opens Remote; empty: everybody may read it
	Paths  []string // globs; a push that touches nothing of them starts nothing. Empty: everything counts
	Ignore []string // globs of what does not count
}

// Notice is somebody who is told how rollouts end.
type Notice struct {
	Name   string
	Kind   string   // slack, discord or webhook
	URL    string   // name of the secret that holds the address, which is as good as a password
	On     []string // success, failure; empty: both
	Stages []string // empty: all
}

// StepSpec is one step of the pipeline. Paths are slash-separated and relative: Reads and Makes to In, In to the root of the
// checkout.
type StepSpec struct {
	Name    string
	Run     string        // given to `sh -eu -c`
	In      string        // folder to run in, "." where the file says nothing
	Reads   []string      // files and folders whose bytes are the step's inputs; empty: everything in the commit
	Makes   []string      // files and folders that the step leaves for others; they must exist when it ends
	Needs   []string      // steps whose outputs this one sees
	Public  []string      // variables of the stage that are baked into what the step makes, and so may be seen by everybody
	Timeout time.Duration // default 15 min
}

// Service is one program or one static site of an app. Exactly one of Static and Command is set.
type Service struct {
	Name      string        `json:"name"`
	Static    string        `json:"static,omitempty"`    // folder of the release to serve
	Fallback  string        `json:"fallback,omitempty"`  // file in Static that answers paths without a file (single-page apps)
	Immutable []string      `json:"immutable,omitempty"` // globs in Static that are cached for ever beside what is recognised by its name
	Command   string        `json:"command,omitempty"`   // given to `sh -c "exec …"` in the release's folder
	Path      string        `json:"path,omitempty"`      // prefix of the URL that it answers; empty for a worker
	Health    string        `json:"health,omitempty"`    // path asked for 2xx; empty: a connection is enough; a worker only has to stay
	Instances int           `json:"instances,omitempty"` // default 1
	Memory    int64         `json:"memory,omitempty"`    // bytes, 0 is no limit
	CPUs      float64       `json:"cpus,omitempty"`      // cores, 0 is no limit
	Files     []string      `json:"files,omitempty"`     // further files and folders of the commit that the command needs, from the root of the checkout
	Volumes   []VolumeMount `json:"volumes,omitempty"`
	Start     time.Duration `json:"start,omitempty"` // time to become healthy, default 60 s
	Drain     time.Duration `json:"drain,omitempty"` // time to finish what is in flight, default 30 s
}

// VolumeMount places a volume of the app at a path of the release's folder.
type VolumeMount struct {
	Volume string `json:"volume"`
	Path   string `json:"path"`
}

// Worker reports whether the service answers no requests.
func (s Service) Worker() bool { return s.Command != "" && s.Path == "" }

// Job is a command of the current release that runs on a schedule.
type Job struct {
	Name     string        `json:"name"`
	Command  string        `json:"command"`
	Schedule string        `json:"schedule"` // five fields of cron, or @daily and its kind; UTC unless it begins with CRON_TZ=
	Timeout  time.Duration `json:"timeout,omitempty"`
	Volumes  []VolumeMount `json:"volumes,omitempty"`
}

// Stage is dev, staging, prod, or whatever the file calls it.
type Stage struct {
	Name      string
	Engine    string   // "local" where the file says nothing
	URL       string   // https://host[:port]; the port where Lotse's proxy listens is not part of it
	Redirects []string // further addresses (https://host) that are sent to URL with their path and query
	EnvFile   string   // a .env file beside lotse.yaml that is not in the commit; empty: none
	Env       map[string]string
	Overlap   map[string]time.Duration // secrets whose value before is given beside the new one, as NAME_PREVIOUS, for so long after a change
	Private   bool                     // who wants to see it needs its password, and search engines are asked to stay away
	On        Push                     // what starts a deploy by itself; the zero value: nothing
	Database  Database                 // the zero value: none that Lotse knows of
	Gates     Gates                    // what a release is asked there, with what the app says where the stage says nothing
	AWS       AWS                      // of a stage with the engine aws; else the zero value
	Watch     time.Duration            // how long a shifted release is watched before it settles, default 60 s
	Warm      time.Duration            // how long the release before stays up after that, default 5 min
	Stable    time.Duration            // how long health must hold before the shift, default 5 s
	Drain     time.Duration            // overrides Service.Drain where set
	OldFiles  time.Duration            // how long the immutable files of a release stay after its end, for tabs that are open, default 24 h

	Approvals Consent  // whose yes a release needs to come here; not at the first stage
	SignOff   Consent  // whose yes it needs to leave for the next stage; not at the last
	Freeze    Freeze   // when it takes nothing but hotfixes
	Hotfix    string   // what the message of a hotfix holds; empty: [hotfix]
	Closed    []string // windows, as ParseWindow reads them, in which no rollout begins

	Strategy Strategy     // how it goes from one release to the next
	Canary   []CanaryStep // of the strategy Canary, with growing shares
	Limits   Limits
}

// Gates are what a release is asked before it gets traffic, beside its health.
type Gates struct {
	Smoke    []Expectation // in the order of the file
	PageLoad PageLoad
}

// Expectation is one smoke test. Exactly one of Get and Run is set.
type Expectation struct {
	Name     string
	Get      string        // path and query below the stage's URL
	Status   int           // that must be answered; 0: any from 200 to 299
	Contains string        // text that the answer must hold; empty: any answer will do
	Run      string        // command of the release, as a Job's
	Timeout  time.Duration // default 30 s
}

// PageLoad says how soon pages must be there in a real browser. The zero value: they are loaded once where there is a browser, and
// nothing is refused.
type PageLoad struct {
	Limit   time.Duration // a page that takes longer keeps the release from its traffic; 0: none does
	Off     bool          // no page is loaded
	Pages   []string      // paths and queries below the stage's URL; empty: / alone
	Network string        // name of one of Networks; empty: the first
	CPU     float64       // so many times slower than this machine; 0: as it is
}

// Or is g, with what other says of what g says nothing of.
func (g Gates) Or(other Gates) Gates {
	if len(g.Smoke) == 0 {
		g.Smoke = other.Smoke
	}
	if reflect.ValueOf(g.PageLoad).IsZero() {
		g.PageLoad = other.PageLoad
	}
	return g
}

// Push says what starts a rollout of a stage by itself.
type Push struct {
	Branch   string // first stage: pushes to it start a deploy
	Tag      string // a pattern; a pushed tag that matches starts a deploy of its commit at the first stage, at later stages the promotion of the release of its commit
	Schedule string // as ParseSchedule reads it. First stage: what was pushed goes at these times alone; later stages: what the stage before serves is promoted then
}

// Database is the PostgreSQL of a stage. At most one of Postgres and URL is set.
type Database struct {
	Postgres   int    // major version of the one that the engine runs for this stage alone
	URL        string // name of the secret that holds the address of one that somebody else runs
	Migrations string // folder of the commit with SQL files; empty: none
	Migrate    string // command of the release that migrates by itself, as a Job's; empty: none. Not together with Migrations
	History    string // table in which Migrate notes what it has run, where Lotse does not know it by itself
	Snapshots  SnapshotRule
}

// SnapshotRule says when copies of a stage's data are made by themselves, and what becomes of them.
type SnapshotRule struct {
	At     string // time of the day, as ParseDaily reads it; empty: none is made by itself, neither daily nor before a migration
	Keep   Keep
	To     string // an absolute folder, or s3://BUCKET/PREFIX; empty: below the state folder
	Check  string // command of the release, as a Job's, that is run on what a drill or a restore has brought back; empty: none
	Drills string // one of DrillsEach, DrillsWeekly and DrillsMonthly; empty: each, and weekly where the platform takes snapshots itself
}

// How often a drill is held.
const (
	DrillsEach    = "every" // snapshot
	DrillsWeekly  = "weekly"
	DrillsMonthly = "monthly"
)

// Migrates reports whether a release migrates the database before it starts.
func (d Database) Migrates() bool { return d.Migrations != "" || d.Migrate != "" }

// Variable is the name of the setting with the database's address.
func (d Database) Variable() string {
	if d.Own() {
		return DatabaseURL
	}
	return d.URL
}

// Own reports whether the engine runs the database.
func (d Database) Own() bool { return d.Postgres > 0 }

// DatabaseURL is the setting by which the services of a stage find the database that the engine runs for it.
const DatabaseURL = "DATABASE_URL"

// AWS says where in Amazon Web Services the stages with the engine aws are, with every default filled in. It is the same for all
// stages of an app.
type AWS struct {
	Region     string // of everything but the certificate of CloudFront; eu-central-1 where the file says nothing
	Account    string // twelve digits that the credentials must belong to; empty: whichever they are of
	Zone       string // name of the hosted zone in Route 53 that has the stages' hosts; empty: a person makes the records
	Balancer   string // AWSShared or AWSOwn
	Instance   string // EC2 instance type; empty: the smallest that is usual for the machine that builds
	Database   string // RDS instance class
	Repository string // owner/name on GitHub whose workflows may deploy by OpenID Connect; empty: none
	Budget     int    // USD a month at which people are told; 0: none
	Static     bool   // the app has files alone: S3 and CloudFront carry them, and there is no machine
	OutsideEU  string // why a region outside the European Union is lawful for this app; empty: it is refused
}

// Who carries the requests of a stage on AWS.
const (
	AWSShared = "shared" // one load balancer for all stages of the app; a shift changes the weights of its rule and takes seconds
	AWSOwn    = "own"    // each environment has its own; a shift swaps their names and takes as long as DNS
)

// Setting is one variable of a stage. Its value is never printed, whether or not it is a secret.
type Setting struct {
	Name  string
	Value secret.Text
	// Reference names the value where the platform keeps it and reads it itself (an ARN of Secrets Manager); an engine
	// that can then hands on the reference alone. Empty: there is only the value.
	Reference string
}

// Problem is one mistake in what a person wrote. `config` turns Path into file, line and column.
type Problem struct {
	Path    []string // from the root of the document: services, api, path; a list's index is a decimal number
	Message string   // a sentence that begins with the field
	Hint    string   // what to do; empty where the message says it
	Name    bool     // the mistake is in the last name of Path, not in what stands there
}
