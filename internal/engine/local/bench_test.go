package local_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// TestMain is also the keeper: process.Keepers starts this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "keep" {
		if err := process.Keep(context.Background(), os.Args[2], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// appBinary builds the app under test, once.
var appBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "app")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "app"), "github.com/lotse-eu/lotse/internal/load/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

const testTimeout = 700 * time.Millisecond // of a health question

// machine is a platform of its own: a state folder, a depot, a proxy, and the engines that were opened.
type machine struct {
	dir       string
	depot     *depot.Depot
	client    *proxy.Client
	authority *proxy.Authority
	port      int
	appDigest string
	appSize   int64
	log       *logBuffer
	stages    [2]deploy.Stage
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shortDir is a folder with a short name that other users may enter.
func shortDir(t enginetest.T) string {
	dir, err := os.MkdirTemp("", "l")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%v", err)
		}
	})
	return dir
}

func newMachine(t enginetest.T) *machine {
	m := &machine{dir: shortDir(t), log: &logBuffer{}}
	m.stages = [2]deploy.Stage{{Name: "dev", URL: "https://dev-shop.localhost", Redirects: []string{"https://www.dev-shop.localhost"}}, {Name: "prod", URL: "https://shop.localhost"}}
	var err error
	if m.depot, err = depot.Open(m.dir + "/depot"); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { m.depot.Close() })
	app, err := appBinary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	if m.appDigest, m.appSize, err = m.depot.Put(t.Context(), bytes.NewReader(app)); err != nil {
		t.Fatalf("%v", err)
	}
	m.startProxy(t)
	t.Cleanup(func() { m.endAll(t) }) // before the proxy goes
	return m
}

func (m *machine) startProxy(t enginetest.T) {
	var err error
	if m.authority, err = proxy.OpenAuthority(m.dir+"/ca", nil); err != nil {
		t.Fatalf("%v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	control := m.dir + "/p.sock"
	server, err := proxy.New(proxy.Config{StateDir: m.dir + "/proxy", Listeners: []net.Listener{l}, Control: control, Authority: m.authority,
		Log: slog.New(slog.NewTextHandler(m.log, nil)), AccessLog: m.log, Drain: 100 * time.Millisecond})
	if err != nil {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the proxy: %v", err)
		}
	})
	m.client = proxy.NewClient(control)
	for ctx := within(t, 10*time.Second); m.client.Ping(ctx) != nil; {
		if ctx.Err() != nil {
			t.Fatalf("the proxy does not answer")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func within(t enginetest.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func keepers(log *logBuffer) *process.Keepers {
	return &process.Keepers{Command: []string{os.Args[0], "keep"}, Log: slog.New(slog.NewTextHandler(log, nil))}
}

func (m *machine) config(s deploy.Stage) local.Config {
	return local.Config{App: enginetest.App, Stage: s.Name, Dir: m.stageDir(s), Depot: m.depot, Proxy: m.client, Keepers: keepers(m.log), Port: m.port,
		Timeout: testTimeout, Log: slog.New(slog.NewTextHandler(m.log, nil))}
}

func (m *machine) stageDir(s deploy.Stage) string {
	return filepath.Join(m.dir, "local", enginetest.App, s.Name)
}

func (m *machine) open(t enginetest.T, s deploy.Stage) *local.Engine {
	e, err := local.Open(m.config(s))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return e
}

// endAll ends every process that is still kept.
func (m *machine) endAll(t enginetest.T) {
	dirs, err := filepath.Glob(filepath.Join(m.dir, "local", "*", "*", "instances", "*"))
	if err != nil {
		t.Errorf("%v", err)
	}
	var ending sync.WaitGroup
	for _, dir := range dirs {
		ending.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := keepers(m.log).Stop(ctx, dir, 0); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	ending.Wait()
	stages, err := filepath.Glob(filepath.Join(m.dir, "local", "*", "*", "postgres"))
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, dir := range stages {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := local.StopDatabase(ctx, keepers(m.log), filepath.Dir(dir)); err != nil {
			t.Errorf("%v", err)
		}
		cancel()
	}
}

const startTime = 3 * time.Second

// release puts a release with these services into the depot's words. Each tag is one of its own.
func (m *machine) release(t enginetest.T, tag string, services ...deploy.Service) deploy.Release {
	digest, size, err := m.depot.Put(t.Context(), strings.NewReader(tag))
	if err != nil {
		t.Fatalf("%v", err)
	}
	man := deploy.Manifest{Format: 1, App: enginetest.App, Services: services, Files: []deploy.File{
		{Path: "app", Digest: deploy.Digest(m.appDigest), Size: m.appSize, Executable: true},
		{Path: "tag", Digest: deploy.Digest(digest), Size: size}}}
	raw, err := json.Marshal(man)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return deploy.Release{ID: deploy.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(raw))), Manifest: man}
}

func web(mode string, instances int) deploy.Service {
	return deploy.Service{Name: "web", Command: "./app " + mode, Path: "/", Health: "/health", Instances: instances, Start: startTime}
}

func (m *machine) plan(s deploy.Stage) load.Plan {
	return load.Plan{URL: fmt.Sprintf("%s:%d", s.URL, m.port), TLS: &tls.Config{RootCAs: m.authority.Pool()}, Dial: proxy.DialLocalhost(nil)}
}

func (m *machine) instance(s deploy.Stage, rollout, service string, n int) string {
	return filepath.Join(m.stageDir(s), "instances", fmt.Sprintf("%s.%s.%d", rollout, service, n))
}

func bench(t enginetest.T) enginetest.Bench {
	m := newMachine(t)
	return enginetest.Bench{
		Stages: m.stages, Start: startTime, Slack: 4 * time.Second,
		Open: func(t enginetest.T, s deploy.Stage) deploy.Engine { return m.open(t, s) },
		Release: func(t enginetest.T, kind enginetest.Kind, tag string, instances int) deploy.Release {
			return m.release(t, tag, web(string(kind), instances))
		},
		Plan: m.plan,
		Break: func(t enginetest.T, s deploy.Stage, rollout, service string, n int) func() {
			status, err := process.Inspect(m.instance(s, rollout, service, n))
			if err != nil || !status.Process {
				t.Fatalf("break: %+v %v", status, err)
			}
			send := func(sig unix.Signal) {
				if err := unix.Kill(status.PID, sig); err != nil {
					t.Errorf("break: %v", err)
				}
			}
			send(unix.SIGSTOP)
			stopped(t, status.PID)
			return func() { send(unix.SIGCONT) }
		},
		Outage: func(t enginetest.T, _ deploy.Stage) func() {
			rename := func(from, to string) {
				if err := os.Rename(m.dir+from, m.dir+to); err != nil {
					t.Errorf("outage: %v", err)
				}
			}
			rename("/p.sock", "/away")
			return func() { rename("/away", "/p.sock") }
		},
		Previous: func(t enginetest.T, s deploy.Stage) deploy.Running {
			m.plant(t, s)
			return deploy.Running{Rollout: "before", Release: "sha256:" + deploy.Digest(strings.Repeat("ab", 32)), Share: 100,
				Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Services: []deploy.RunningService{{Name: "web"}}}
		},
		Leftovers: m.leftovers,
		Written:   m.written,
	}
}

// stopped waits until no thread of a process runs any more: a signal takes its time on a busy machine.
func stopped(t enginetest.T, pid int) {
	for ctx := within(t, 20*time.Second); ; {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		still := err == nil && len(stats) > 0
		for _, path := range stats {
			raw, _ := os.ReadFile(path)
			_, after, _ := strings.Cut(string(raw), ") ")
			still = still && strings.HasPrefix(after, "T")
		}
		if still {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d does not stop", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// plant puts the files of format 1 in place, as they lie in testdata since that format was first released.
func (m *machine) plant(t enginetest.T, s deploy.Stage) {
	for from, to := range map[string]string{"rollout-1.json": "rollouts/before.json", "stage-1.json": "stage.json"} {
		raw, err := os.ReadFile("testdata/" + from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(m.stageDir(s), to)), 0o711)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(m.stageDir(s), to), raw, 0o600)
		}
		if err != nil {
			t.Fatalf("plant: %v", err)
		}
	}
}

// leftovers looks for everything that belongs to no rollout that runs: folders, claims, routes, processes.
func (m *machine) leftovers(t enginetest.T, s deploy.Stage, running []deploy.Running) []string {
	var left []string
	rollouts, releases := map[string]bool{}, map[string]bool{}
	for _, r := range running {
		rollouts[r.Rollout] = true
		releases[strings.TrimPrefix(string(r.Release), "sha256:")] = true
	}
	dir := m.stageDir(s)
	of := func(folder string, mine func(name string) bool) {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
		for _, e := range entries {
			if !mine(e.Name()) {
				left = append(left, folder+"/"+e.Name())
			}
		}
	}
	byRollout := func(name string) bool { rollout, _, _ := strings.Cut(name, "."); return rollouts[rollout] }
	of("rollouts", byRollout)
	of("instances", byRollout)
	of("homes", byRollout)
	of("tasks", byRollout)
	of("releases", func(name string) bool { return releases[name] })
	left = append(left, m.claimsLeft(t, s, rollouts)...)
	if site, err := m.client.Get(within(t, 5*time.Second), enginetest.App+"/"+s.Name); err == nil {
		for _, r := range site.Releases {
			if !rollouts[r.ID] {
				left = append(left, "a route to "+r.ID)
			}
		}
	}
	return append(left, strays(t, dir, rollouts)...)
}

func (m *machine) claimsLeft(t enginetest.T, s deploy.Stage, rollouts map[string]bool) []string {
	var left []string
	claims, err := filepath.Glob(filepath.Join(m.dir, "local", "ports", "*"))
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, c := range claims {
		owner, _ := os.ReadFile(c)
		stage, instance, _ := strings.Cut(string(owner), " ")
		rollout, _, _ := strings.Cut(instance, ".")
		if stage == enginetest.App+"/"+s.Name && !rollouts[rollout] {
			left = append(left, "port of "+instance)
		}
	}
	return left
}

// strays are processes that have a folder of this stage in their working directory or arguments and belong to no rollout.
func strays(t enginetest.T, dir string, rollouts map[string]bool) []string {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatalf("%v", err)
	}
	var left []string
	for _, p := range procs {
		cmdline, err := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink("/proc/" + p.Name() + "/cwd")
		text := strings.ReplaceAll(string(cmdline), "\x00", " ") + " " + cwd
		_, after, found := strings.Cut(text, dir+"/instances/")
		rollout, _, _ := strings.Cut(after, ".")
		inRelease := len(rollouts) == 0 && strings.Contains(text, dir+"/releases/")
		if found && !rollouts[rollout] || inRelease {
			left = append(left, "process "+text)
		}
	}
	return left
}

// written is every file of the engine and its keepers, and their logs.
func (m *machine) written(t enginetest.T) string {
	var all strings.Builder
	all.WriteString(m.log.String())
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what goes away meanwhile
		}
		fmt.Fprintln(&all, path)
		if d.Type().IsRegular() && !slices.Contains([]string{"app"}, d.Name()) && !strings.Contains(path, "/depot/") {
			raw, _ := os.ReadFile(path)
			all.Write(raw)
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v", err)
	}
	return all.String()
}

// TestContract proves the contract on this machine: real processes under real keepers behind the real proxy.
func TestContract(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Bench { return bench(t) })
}
