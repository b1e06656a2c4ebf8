package aws

import (
	"encoding/json"
	"path"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Where things are on an instance.
const (
	current       = "/var/app/current"
	staging       = "/var/app/staging"
	lotseFolder   = "/var/lib/lotse"
	runFolder     = lotseFolder + "/run"
	volumesFolder = lotseFolder + "/volumes"
	authorities   = lotseFolder + "/rds.pem"        // certificates of those who sign the databases' certificates
	migrateFailed = lotseFolder + "/migrate.failed" // what a migration has said that failed
	frontOutput   = "/var/log/web.stdout.log"
)

// frontSpec is .lotse/front.json, as the front reads it. The two are of rooms that do not see each other; a test holds them together.
type frontSpec struct {
	App        string               `json:"app"`
	Stage      string               `json:"stage"`
	Rollout    string               `json:"rollout"`
	Release    deploy.Digest        `json:"release"`
	Host       string               `json:"host"`
	Redirects  []string             `json:"redirects,omitempty"`
	Private    bool                 `json:"private,omitempty"`
	Services   []deploy.Service     `json:"services"`
	Mounts     []deploy.VolumeMount `json:"mounts,omitempty"`
	Volumes    map[string]string    `json:"volumes,omitempty"`
	Settings   []string             `json:"settings,omitempty"`
	Migrations string               `json:"migrations,omitempty"`
	Wait       []string             `json:"wait,omitempty"`
	Postgres   int                  `json:"postgres,omitempty"`
	Drain      time.Duration        `json:"drain,omitempty"`
	Samples    *frontLog            `json:"samples,omitempty"`
}

// frontLog is where a front tells what it has counted.
type frontLog struct {
	Region string `json:"region"`
	Group  string `json:"group"`
	Stream string `json:"stream,omitempty"`
}

// frontStatus is what `lotse front status` prints.
type frontStatus struct {
	Release  deploy.Digest   `json:"release"`
	Rollout  string          `json:"rollout"`
	Services []serviceStatus `json:"services"`
	InFlight int64           `json:"inFlight"`
}

type serviceStatus struct {
	Name     string    `json:"name"`
	Healthy  bool      `json:"healthy"`
	Cause    string    `json:"cause,omitempty"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
}

// frontLine is one line of what services say, in the front's output. Lines of its access log have no text.
type frontLine struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Text    *string   `json:"text"`
}

func (e *Engine) spec(o deploy.Order, st *stack) frontSpec {
	m := o.Release.Manifest
	s := frontSpec{App: e.App, Stage: e.Stage.Name, Rollout: o.Rollout, Release: o.Release.Source(), Host: e.host, Redirects: e.others,
		Private: o.Stage.Private, Services: m.Services, Drain: o.Stage.Drain, Volumes: map[string]string{}}
	for _, v := range o.Settings {
		s.Settings = append(s.Settings, v.Name)
	}
	for _, j := range m.Jobs {
		s.Mounts = append(s.Mounts, j.Volumes...)
	}
	for _, name := range volumesOf(m) {
		s.Volumes[name] = path.Join(volumesFolder, name)
	}
	if st.logs != "" {
		s.Samples = &frontLog{Region: e.AWS.Region, Group: st.logs}
	}
	if e.MigratesInStart(o.Stage.Database) {
		s.Migrations, s.Postgres, s.Wait = o.Stage.Database.Migrations, o.Stage.Database.Postgres, o.Wait
	}
	return s
}

func (s frontSpec) json() ([]byte, error) { return json.MarshalIndent(s, "", "  ") }

// volumesOf are the names of the volumes that a release uses, each once, in their order.
func volumesOf(m deploy.Manifest) []string {
	var names []string
	seen := map[string]bool{}
	add := func(mounts []deploy.VolumeMount) {
		for _, v := range mounts {
			if !seen[v.Volume] {
				seen[v.Volume] = true
				names = append(names, v.Volume)
			}
		}
	}
	for _, s := range m.Services {
		add(s.Volumes)
	}
	for _, j := range m.Jobs {
		add(j.Volumes)
	}
	return names
}
