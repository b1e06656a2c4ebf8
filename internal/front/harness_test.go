package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// asProcess makes this program a front of its own, as `lotse front` is.
const asProcess = "LOTSE_TEST_FRONT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asProcess); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := Run(ctx, Config{Dir: dir, Env: os.Environ(), Out: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Ready: func(address string) { fmt.Printf("{\"ready\":%q}\n", address) }})
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	host     = "shop.example.org"
	digest   = deploy.Digest("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	patience = 40 * time.Second
	token    = "hunter2-correct-horse"
	database = "postgres://shop:battery-staple@db.example.org/shop"
)

// appBinary builds the app that the tests run, once.
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

// specOf is a release with these services.
func specOf(services ...deploy.Service) Spec {
	return Spec{App: "shop", Stage: "dev", Rollout: "r1", Release: digest, Host: host, Redirects: []string{"www." + host}, Services: services, Drain: 10 * time.Second}
}

func web(mode string) deploy.Service {
	return deploy.Service{Name: "web", Command: "bin/app " + mode, Path: "/", Health: "/health"}
}

// release puts the app and the spec into a folder.
func release(t *testing.T, spec Spec) string {
	t.Helper()
	app, err := appBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bin/app"), string(app), 0o755)
	write(t, filepath.Join(dir, SpecFile), string(text), 0o644)
	return dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// ship is a running front.
type ship struct {
	t    *testing.T
	dir  string
	env  []string
	addr string
	out  *buffer
	errs *buffer
	stop func() error // ends it as SIGTERM does, and waits
	tell func(context.Context, Log, time.Time, []string) error
	cmd  *exec.Cmd // of one that is a process of its own
}

// environ is what a platform gives: settings, and where to listen.
func environ(t *testing.T, extra ...string) []string {
	t.Helper()
	run, err := os.MkdirTemp("", "fr") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	return append([]string{"PATH=" + os.Getenv("PATH"), "LOTSE_RUN=" + run, "LOTSE_FRONT_HOST=127.0.0.1", "PORT=0",
		"SECRET_TOKEN=" + token, "DATABASE_URL=" + database, "COLOUR=#ff8800"}, extra...)
}

// sail runs the release of a spec in this process.
func sail(t *testing.T, spec Spec, extra ...string) *ship {
	t.Helper()
	s := &ship{t: t, dir: release(t, spec), env: environ(t, extra...), out: &buffer{}, errs: &buffer{}}
	s.begin()
	return s
}

func (s *ship) begin() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Dir: s.dir, Env: s.env, Out: s.out, Log: slog.New(slog.NewTextHandler(s.errs, nil)), Ready: func(a string) { ready <- a }, Tell: s.tell})
	}()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	s.t.Cleanup(func() {
		if err := s.stop(); err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	select {
	case s.addr = <-ready:
	case err := <-ended:
		ended <- nil
		s.t.Fatalf("%v (%s)", err, deploy.HintOf(err))
	}
}

// launch runs it as a process of its own.
func launch(t *testing.T, spec Spec, edit ...func(*exec.Cmd)) *ship {
	t.Helper()
	s := &ship{t: t, dir: release(t, spec), env: environ(t), out: &buffer{}, errs: &buffer{}}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(exe)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = append(s.env, asProcess+"="+s.dir), s.out, s.errs
	for _, e := range edit {
		e(s.cmd)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceValue(func() error {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		return s.cmd.Wait()
	})
	t.Cleanup(func() { _ = s.stop() })
	until(t, "the front listens", func() bool {
		line, _, whole := strings.Cut(s.out.String(), "\n")
		var said struct{ Ready string }
		if whole && json.Unmarshal([]byte(line), &said) == nil {
			s.addr = said.Ready
		}
		return s.addr != ""
	})
	return s
}

// dial takes every name to this front.
func (s *ship) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, s.addr)
}

func (s *ship) get(url string, header ...string) (*http.Response, string, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(within(s.t), http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// page is a request that must have an answer.
func (s *ship) page(path string, header ...string) (*http.Response, string) {
	s.t.Helper()
	resp, body, err := s.get("https://"+host+path, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, body
}

// health asks as a balancer does: by address.
func (s *ship) health() (int, string) {
	resp, body, err := s.get("https://" + s.addr + "/.lotse/health")
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, body
}

func (s *ship) healthy() {
	s.t.Helper()
	until(s.t, "the front is healthy", func() bool { code, _ := s.health(); return code == http.StatusOK })
}

func (s *ship) client() *Client {
	s.t.Helper()
	c, err := Find(within(s.t), s.dir, s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *ship) status() Status {
	s.t.Helper()
	status, err := s.client().Status(within(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// pid is that of the app behind the service web.
func (s *ship) pid() int {
	s.t.Helper()
	var about struct{ PID int }
	if _, body := s.page("/about"); json.Unmarshal([]byte(body), &about) != nil || about.PID == 0 {
		s.t.Fatalf("no pid in %q", body)
	}
	return about.PID
}

// folder is where a running front has its socket.
func (s *ship) folder() folder {
	s.t.Helper()
	all, err := folders(s.dir, s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range all {
		if _, err := os.Stat(f.socket()); err == nil {
			return f
		}
	}
	s.t.Fatalf("no socket in %v", all)
	return ""
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}

// until polls a condition that ought to come true by itself.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for ctx := within(t); !cond(); {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func mustBe[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func mustSay(t *testing.T, what, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%s does not say %q: %s", what, want, got)
		}
	}
}

// refused runs a front that must not begin.
func refused(t *testing.T, dir string, env []string, want error, says ...string) error {
	t.Helper()
	err := Run(within(t), Config{Dir: dir, Env: env, Out: io.Discard, Ready: func(string) { t.Error("it has begun") }})
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	mustSay(t, "the error", err.Error(), says...)
	return err
}

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
