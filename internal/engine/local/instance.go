package local

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// instance is one copy of a service of a rollout.
type instance struct {
	name    string // <rollout>.<service>.<n>
	rollout string
	service deploy.Service
	number  int
	port    int // 0 for a worker
}

// instances returns all of a rollout, in the order of its services.
func (e *Engine) instances(n *note) []instance {
	var all []instance
	for _, s := range n.Services {
		if s.Command == "" {
			continue
		}
		for number := range max(1, s.Instances) {
			i := instance{name: fmt.Sprintf("%s.%s.%d", n.Rollout, s.Name, number), rollout: n.Rollout, service: s, number: number}
			if ports := n.Ports[s.Name]; number < len(ports) {
				i.port = ports[number]
			}
			all = append(all, i)
		}
	}
	return all
}

func (i instance) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(i.port)) }

func (e *Engine) dir(i instance) string  { return e.at("instances", i.name) }
func (e *Engine) home(i instance) string { return e.at("homes", i.name) }

// spec says what to run for an instance. Everything in it but the settings stands in the note, too.
func (e *Engine) spec(i instance, order deploy.Order) process.Spec {
	return process.Spec{
		Name: strings.Join([]string{e.App, e.Stage, i.name}, "-"), Command: []string{"/bin/sh", "-c", "exec " + i.service.Command},
		Dir: e.releaseDir(order.Release.ID), Env: e.environment(order, i.service.Name, strconv.Itoa(i.number), e.home(i), i.port),
		Mask: order.Hidden(), User: e.user, Limits: process.Limits{MemoryBytes: i.service.Memory, CPUs: i.service.CPUs}, Restart: true,
	}
}

// environment is the whole of it. HOST, PORT and LOTSE_… are ours whatever the settings say, since requests come where we
// said; everything else a setting may override.
func (e *Engine) environment(order deploy.Order, service, number, home string, port int) []string {
	ours := []string{"HOST=127.0.0.1", "LOTSE_APP=" + e.App, "LOTSE_STAGE=" + e.Stage, "LOTSE_RELEASE=" + order.Release.Source().Short(),
		"LOTSE_SERVICE=" + service, "LOTSE_INSTANCE=" + number}
	if port != 0 {
		ours = append(ours, "PORT="+strconv.Itoa(port))
	}
	env := []string{"PATH=" + reachable(os.Getenv("PATH"), e.user), "HOME=" + home, "TMPDIR=" + home + "/tmp"}
	for _, s := range order.Settings {
		env = set(env, s.Name, s.Value.Reveal())
	}
	for _, kv := range ours {
		name, value, _ := strings.Cut(kv, "=")
		env = set(env, name, value)
	}
	return env
}

// reachable leaves out of PATH what user may not enter. A shell that finds a folder closed says "permission denied" of a program
// that is not there at all.
func reachable(path string, user *process.User) string {
	if user == nil {
		return path
	}
	return strings.Join(slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool {
		for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
				return true
			}
		}
		return false
	}), string(filepath.ListSeparator))
}

// set replaces a variable: of two of one name, C takes the first and Go the last.
func set(env []string, name, value string) []string {
	env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	return append(env, name+"="+value)
}

// makeHome gives a process a folder of its own to write to.
func (e *Engine) makeHome(dir string) error {
	return errors.Join(e.private(dir), e.private(dir+"/tmp"))
}

// tail is the end of an instance's output, which its keeper has masked.
func (e *Engine) tail(i instance) []string {
	lines, err := process.Lines(e.dir(i), 20)
	if err != nil {
		return nil
	}
	var texts []string
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	return texts
}

// hostsOf are the stage's real host names: that of its URL, and those that are sent there.
func hostsOf(s deploy.Stage, port int) (host string, redirects map[string]string, err error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" {
		return "", nil, fmt.Errorf("%w: the stage's url %q has no host", deploy.ErrBadInput, s.URL)
	}
	to := "https://" + u.Hostname()
	if port != 0 && port != 443 {
		to = "https://" + net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	}
	for _, r := range s.Redirects {
		from, err := url.Parse(r)
		if err != nil || from.Hostname() == "" {
			return "", nil, fmt.Errorf("%w: the stage's redirect %q has no host", deploy.ErrBadInput, r)
		}
		if redirects == nil {
			redirects = map[string]string{}
		}
		redirects[from.Hostname()] = to
	}
	return u.Hostname(), redirects, nil
}
