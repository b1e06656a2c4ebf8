package deploy

import (
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
	Stages   []Stage  // in the order of promotion
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
	Watch     time.Duration // how long a shifted release is watched before it settles, default 60 s
	Warm      time.Duration // how long the release before stays up after that, default 5 min
	Stable    time.Duration // how long health must hold before the shift, default 5 s
	Drain     time.Duration // overrides Service.Drain where set
}

// Setting is one variable of a stage. Its value is never printed, whether or not it is a secret.
type Setting struct {
	Name  string
	Value secret.Text
}

// Problem is one mistake in what a person wrote. `config` turns Path into file, line and column.
type Problem struct {
	Path    []string // from the root of the document: services, api, path; a list's index is a decimal number
	Message string   // a sentence that begins with the field
	Hint    string   // what to do; empty where the message says it
	Name    bool     // the mistake is in the last name of Path, not in what stands there
}
