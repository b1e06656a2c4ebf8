// Package e2e_test drives the one binary from outside, as people do: real processes, real git, real TLS, real HTTP/1.1 and
// HTTP/2. What is proven here is proven of the product; the rooms' own tests say why it holds.
package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// proving says whether everything that takes longer is asked for.
func proving() bool { return os.Getenv("LOTSE_PROVE") != "" }

// provesOnly leaves out what takes minutes, unless everything is asked for. unproven is what nothing was shown of then.
func provesOnly(t *testing.T, unproven string) {
	t.Helper()
	if !proving() {
		t.Skip("NOT RUN: it takes minutes, `make prove` runs it; nothing was shown of " + unproven)
	}
}

// binaries are built once, by whichever test comes first.
type binaries struct{ dir, lotse, app string }

var built = sync.OnceValues(build)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == lacking {
		fmt.Fprintln(os.Stderr, execLacking(os.Args[2:]))
		os.Exit(1)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(3, runtime.GOMAXPROCS(0)))); err != nil { // most of the time they wait for windows to pass
		panic(err)
	}
	code := m.Run()
	if b, err := built(); err == nil {
		os.RemoveAll(b.dir)
	}
	os.Exit(code)
}

// build makes lotse with the Makefile's flags, so that the build cache serves both, and the app under test, where every user
// may read them.
func build() (binaries, error) {
	dir, err := os.MkdirTemp("/tmp", "lotse-bin-")
	if err != nil {
		return binaries{}, err
	}
	b := binaries{dir, filepath.Join(dir, "lotse"), filepath.Join(dir, "app")}
	for to, from := range map[string]string{b.lotse: "../cmd/lotse", b.app: "../internal/load/app"} {
		if err := compile("", to, from); err != nil {
			return b, err
		}
	}
	return b, errors.Join(os.Chmod(dir, 0o755), touchSources())
}

func compile(tags, to, from string) error {
	cmd := exec.Command("go", "build", "-tags", tags, "-ldflags", "-s -w", "-o", to, from)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", from, err, out)
	}
	return nil
}

// builtWith is lotse with a build tag that no user has.
func builtWith(tag string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		b, err := built()
		if err != nil {
			return "", err
		}
		path := filepath.Join(b.dir, tag)
		return path, compile(tag, path, "../cmd/lotse")
	})
}

// touchSources lets go test see what the build has read, or it would repeat an old result from its cache.
func touchSources() error {
	for _, root := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(path, "_test.go") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// machine is one state folder with a controller, and everything that runs below it.
type machine struct {
	t           *testing.T
	bin         binaries
	work        string // traversable by every user; the test may put things here
	state       string
	https, http int
	api         *api.Client
	env         []string // added to the environment of lotse
	under       []string // what lotse serve is run by; nothing: itself
	controller  *exec.Cmd
	ended       chan struct{} // the controller has been buried
}

// newMachine makes a state folder and starts a controller on free ports. When the test ends, everything that runs is ended
// by its keepers, and what is left is an error.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := machineIn(t, folder(t))
	m.serve()
	return m
}

// machineIn is a machine in a folder, whose controller does not run yet.
func machineIn(t *testing.T, work string) *machine {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, bin: bin, work: work}
	m.state = filepath.Join(m.work, "s")
	m.https, m.http = freePort(t), freePort(t)
	m.api = api.NewClient(filepath.Join(m.state, "lotse.sock"))
	t.Cleanup(m.down)
	return m
}

// folder has a short path, since unix sockets will lie in it, and lets every user through, since instances run as others where the
// test is root. t.TempDir has neither.
func folder(t *testing.T) string { return folderIn(t, "/tmp") }

func folderIn(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "lt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freePort lies below what others take: the kernel's ports of clients, and the engine's of instances, which begin at 10240. So it stays
// free until it is bound, and it is given once.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 2048 + rand.IntN(8192)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var givenPorts sync.Map

// serve starts the controller and waits until it answers.
func (m *machine) serve() {
	m.t.Helper()
	m.start()
	m.await("the controller answers", 60*time.Second, func() bool {
		select {
		case <-m.ended:
			m.t.Fatalf("the controller has ended:\n%s", m.said())
		default:
		}
		return m.answers()
	})
}

func (m *machine) answers() bool {
	_, err := m.api.Ping(m.t.Context())
	return err == nil
}

// start starts the controller.
func (m *machine) start() {
	m.t.Helper()
	log, err := os.OpenFile(filepath.Join(m.work, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	argv := append(slices.Clone(m.under), m.bin.lotse, "serve", "--state", m.state, "--https", strconv.Itoa(m.https), "--http", strconv.Itoa(m.http))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), "LOTSE_CHROMIUM=none"), m.env...) // a browser at every deploy is no part of what most tests time
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}                    // a Ctrl-C is for the test, which then cleans up
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.controller, m.ended = cmd, ended
}

// said is the end of what the controllers of this machine have printed.
func (m *machine) said() string {
	raw, _ := os.ReadFile(filepath.Join(m.work, "serve.log"))
	return string(raw[max(0, len(raw)-6000):])
}

// killController ends the controller as a crash would, and returns when it is gone.
func (m *machine) killController() {
	_ = m.controller.Process.Kill()
	<-m.ended
}

// stopController asks the controller to end. What it started lives on.
func (m *machine) stopController() {
	_ = m.controller.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(30 * time.Second):
		m.t.Error("the controller does not end on SIGTERM")
		m.killController()
	}
}

// down ends everything and looks whether something is left.
func (m *machine) down() {
	if m.t.Failed() {
		m.t.Logf("the controller said:\n%s", m.said())
	}
	said, err := exec.Command(m.bin.lotse, "down", "--state", m.state).CombinedOutput()
	if err != nil {
		m.t.Errorf("lotse down: %v\n%s", err, said)
	}
	for _, p := range m.processes() {
		m.t.Errorf("process %d is left: %s", p.pid, p.is)
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// await polls until the condition holds. The time is a bound for hangs, not a claim about speed.
func (m *machine) await(what string, within time.Duration, holds func() bool) {
	m.t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			m.t.Fatalf("not within %s: %s\n%s", within, what, m.census())
		}
		<-tick.C
	}
}

// result is what a command said and how it ended.
type result struct {
	out, err string
	code     int
}

// lotse runs a command in dir, to its end. The state folder is given by the environment.
func (m *machine) lotse(dir string, args ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, m.bin.lotse, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(append(os.Environ(), m.env...), "LOTSE_STATE="+m.state)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		m.t.Fatalf("lotse %s: %v\n%s%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), out.String(), errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and returns what it printed.
func (m *machine) must(dir string, args ...string) string {
	m.t.Helper()
	r := m.lotse(dir, args...)
	if r.code != 0 {
		m.t.Fatalf("lotse %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// repository makes a git repository below the machine's folder and commits the files, by path.
func (m *machine) repository(files map[string]string) string {
	m.t.Helper()
	dir, err := os.MkdirTemp(m.work, "repo-")
	if err != nil {
		m.t.Fatal(err)
	}
	m.git(dir, "init", "-q", "-b", "main")
	m.commit(dir, files)
	return dir
}

// commit writes the files and commits everything.
func (m *machine) commit(dir string, files map[string]string) {
	m.t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.git(dir, "add", "-A")
	m.git(dir, "commit", "-q", "--allow-empty", "-m", "a change")
}

func (m *machine) git(dir string, args ...string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "git", append([]string{"-c", "user.name=E", "-c", "user.email=e@example.invalid",
		"-c", "commit.gpgsign=false", "-C", dir}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// url is the address of a *.localhost name on this machine's HTTPS port.
func (m *machine) url(host string) string {
	return fmt.Sprintf("https://%s:%d", host, m.https) //nolint:nosprintfhostport // a name, never an IPv6 address
}

// roots trusts what browsers would trust after `lotse trust`, and nothing else.
func (m *machine) roots() *x509.CertPool {
	m.t.Helper()
	authority, err := proxy.OpenAuthority(filepath.Join(m.state, "authority"), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return authority.Pool()
}

// client speaks to the machine's *.localhost names with a verified certificate, and follows no redirect.
func (m *machine) client() *http.Client {
	t := &http.Transport{DialContext: proxy.DialLocalhost(nil), TLSClientConfig: &tls.Config{RootCAs: m.roots()}, ForceAttemptHTTP2: true}
	m.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// plan reaches a host of this machine. It has no clients yet.
func (m *machine) plan(host string) load.Plan {
	return load.Plan{URL: m.url(host), TLS: &tls.Config{RootCAs: m.roots()}, Dial: proxy.DialLocalhost(nil)}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
