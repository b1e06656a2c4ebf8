package front

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// SpecFile is where the Spec lies in the folder of a release.
const SpecFile = ".lotse/front.json"

// Spec is what a front must know of the release that it runs. Its JSON is a contract with the engines that write it: fields are only
// ever added, and what is not there has its zero value. It holds no secret.
type Spec struct {
	App       string        `json:"app"`
	Stage     string        `json:"stage"`
	Rollout   string        `json:"rollout"`
	Release   deploy.Digest `json:"release"`             // as it goes from stage to stage (Release.Source): the header Lotse-Release is made of it
	Host      string        `json:"host"`                // host name of the stage's URL
	Redirects []string      `json:"redirects,omitempty"` // further host names, or https://host: sent to Host with path and query
	Private   bool          `json:"private,omitempty"`   // LOTSE_PRIVATE must hold the lock

	Services []deploy.Service     `json:"services"`
	Mounts   []deploy.VolumeMount `json:"mounts,omitempty"`   // what tasks want beside what the services want
	Volumes  map[string]string    `json:"volumes,omitempty"`  // name → absolute path, where it is already
	Settings []string             `json:"settings,omitempty"` // names of variables whose values are masked; none: all that no platform sets by itself

	Migrations string        `json:"migrations,omitempty"` // folder of the release with SQL files, for `lotse front migrate`
	Wait       []string      `json:"wait,omitempty"`       // names of migrations that do not run now
	Postgres   int           `json:"postgres,omitempty"`   // major version of the database that the platform runs for the stage; 0: none
	Drain      time.Duration `json:"drain,omitempty"`      // what requests in flight get at the end, in nanoseconds; 0: the longest of the services, or 30 s
	Samples    *Log          `json:"samples,omitempty"`    // where what was counted is told; nil: nowhere
}

// Log is a log of the platform's, which is there.
type Log struct {
	Region string `json:"region"`
	Group  string `json:"group"`
	Stream string `json:"stream,omitempty"` // made where it is not there; in a Spec empty: each front has its own
}

// Read reads the Spec of the release in dir, and says everything that is wrong with it. ErrNotFound where there is none, ErrBadInput
// where it cannot be used.
func Read(dir string) (Spec, error) {
	var s Spec
	path := filepath.Join(dir, SpecFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, deploy.Hint(fmt.Errorf("%w: there is no %s", deploy.ErrNotFound, path), "run it in the folder of a release that Lotse has put together for an instance")
	}
	if err != nil {
		return s, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%w: %s, %s", deploy.ErrBadInput, path, unread(data, err))
	}
	if wrong := s.problems(); len(wrong) > 0 {
		return s, fmt.Errorf("%w: %s: %s", deploy.ErrBadInput, path, strings.Join(wrong, "; "))
	}
	return s, nil
}

// unread says where the JSON ends to be one, without what stands there.
func unread(data []byte, err error) string {
	offset, what := int64(len(data)), "is cut off or no JSON"
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset, what = syntax.Offset, syntax.Error()
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset, what = kind.Offset, fmt.Sprintf("%s must be a %s and is a %s", kind.Field, kind.Type, kind.Value)
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	return fmt.Sprintf("line %d: %s", bytes.Count(before, []byte("\n"))+1, what)
}

// problems are sentences that begin with the field.
func (s Spec) problems() (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, must := range []struct{ name, value string }{{"app", s.App}, {"stage", s.Stage}, {"rollout", s.Rollout}, {"host", s.Host}} {
		if must.value == "" {
			bad("%s is missing", must.name)
		}
	}
	if s.Release.Short() == "" {
		bad("release is missing or no digest")
	}
	if len(s.Services) == 0 {
		bad("services is missing: there is nothing to run")
	}
	seen := map[string]bool{}
	for _, service := range s.Services {
		if service.Name == "" || service.Name != filepath.Base(service.Name) || seen[service.Name] {
			bad("services has the name %q, which is empty, no name, or there twice", service.Name)
		}
		if seen[service.Name] = true; (service.Static == "") == (service.Command == "") {
			bad("services.%s must have either static or command", service.Name)
		}
	}
	for _, m := range s.mounts() {
		if at := filepath.Clean(m.Path); !filepath.IsLocal(at) || at == "." {
			bad("volumes: %q cannot be put at %q", m.Volume, m.Path)
		}
		if !filepath.IsAbs(s.Volumes[m.Volume]) {
			bad("volumes has no absolute path for %q", m.Volume)
		}
	}
	if s.Migrations != "" && !filepath.IsLocal(s.Migrations) {
		bad("migrations is %q and must be a folder of the release", s.Migrations)
	}
	return wrong
}

// mounts are all links to volumes that the release's folder needs, each once.
func (s Spec) mounts() []deploy.VolumeMount {
	all := slices.Clone(s.Mounts)
	for _, service := range s.Services {
		all = append(all, service.Volumes...)
	}
	slices.SortFunc(all, func(a, b deploy.VolumeMount) int {
		return strings.Compare(a.Path+"\x00"+a.Volume, b.Path+"\x00"+b.Volume)
	})
	return slices.Compact(all)
}

func (s Spec) key() string { return s.App + "/" + s.Stage }

const usualDrain = 30 * time.Second

func (s Spec) drain() time.Duration {
	if s.Drain > 0 {
		return s.Drain
	}
	longest := time.Duration(0)
	for _, service := range s.Services {
		longest = max(longest, service.Drain)
	}
	if longest == 0 {
		return usualDrain
	}
	return longest
}

// hostOf takes the host name out of https://host[:port], or it is one.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
		return u.Hostname()
	}
	return address
}
