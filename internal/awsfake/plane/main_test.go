package plane_test

import (
	"archive/zip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
	"github.com/lotse-eu/lotse/internal/front"
	"github.com/lotse-eu/lotse/internal/load"
)

// The test's own program is the app of the bundles: a Procfile calls it with APP set.
func TestMain(m *testing.M) {
	if mode := os.Getenv("APP"); mode != "" {
		if err := app(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// app is package load's App behind TLS with a self-made certificate, as the front of a release is.
func app(mode string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch mode {
	case "crash":
		return fmt.Errorf("cannot find the module that it needs")
	case "leaver": // leaves a child behind in a session of its own, which does not hear SIGTERM
		child := exec.Command(os.Args[0])
		child.Env = []string{"APP=stubborn"}
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Println("child", child.Process.Pid)
	case "front": // what a bundle of Lotse really runs
		return front.Run(ctx, front.Config{Dir: ".", Env: os.Environ(), Out: os.Stdout})
	case "task":
		c, err := front.Find(ctx, ".", os.Environ())
		if err != nil {
			return err
		}
		_, err = c.Task(ctx, front.Task{Name: "echo", Command: os.Args[1:]}, func(line string) { fmt.Println(line) })
		return err
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	a := load.NewApp(load.About{Release: os.Getenv("RELEASE"), PID: os.Getpid()})
	a.Setting = os.Getenv
	mux := http.NewServeMux()
	mux.HandleFunc("/.lotse/health", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "well") })
	mux.Handle("/", a)
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")))
	if err != nil {
		return err
	}
	if mode != "plain" { // behind a front
		l = tls.NewListener(l, selfMade())
	}
	server := &http.Server{Handler: mux}
	fmt.Println("app listens")
	go func() { _ = server.Serve(l) }()
	<-ctx.Done()
	fmt.Println("app ends")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	a.Shutdown(ctx)
	return server.Shutdown(ctx)
}

func selfMade() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// file of a bundle: a script where it begins with #!.
type files map[string]string

// bundle makes a ZIP with the app as web, the files, and what is in them instead.
func bundle(t *testing.T, more files) string {
	t.Helper()
	all := files{"Procfile": "web: exec SELF\n"}
	maps.Copy(all, more)
	for name, text := range all {
		all[name] = strings.ReplaceAll(text, "SELF", self(t))
	}
	name := filepath.Join(t.TempDir(), "bundle.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for name, text := range all {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o644)
		switch {
		case strings.HasPrefix(text, "#!"):
			h.SetMode(0o755)
		case strings.HasPrefix(text, "->"):
			h.SetMode(0o777 | fs.ModeSymlink)
			text = text[2:]
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t *testing.T, o plane.Options) *plane.Plane {
	t.Helper()
	if o.Folder == "" {
		o.Folder = t.TempDir()
	}
	p, err := plane.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// quick is a health check for tests.
func quick() plane.HealthCheck {
	return plane.HealthCheck{Path: "/.lotse/health", Interval: 30 * time.Millisecond, Timeout: time.Second, Healthy: 2, Unhealthy: 2}
}

func options(t *testing.T, id string, more files) plane.InstanceOptions {
	return plane.InstanceOptions{ID: id, Bundle: bundle(t, more), Health: quick(), Grace: 5 * time.Second,
		Environment: map[string]string{"APP": "good", "RELEASE": id, "GREETING": "moin $HOME 'x'"}}
}

func launch(t *testing.T, p *plane.Plane, o plane.InstanceOptions) *plane.Instance {
	t.Helper()
	i, err := p.Launch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// server is a target that is no instance: a handler behind TLS.
type server struct {
	id string
	s  *httptest.Server
}

func serve(t *testing.T, id string, h http.Handler) *server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return &server{id, s}
}

func (s *server) ID() string { return s.id }

func (s *server) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.s.Listener.Addr().String())
}

// says answers with a text, also to checks.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
}

const host = "app.example.com"

// balanced is a balancer with one listener for host, with the given default action.
func balanced(t *testing.T, p *plane.Plane, a plane.Action) *plane.Listener {
	t.Helper()
	b, err := p.NewBalancer(plane.BalancerOptions{Name: "alb.elb.amazonaws.com"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Listen(plane.ListenerOptions{Port: 443, Certificates: []plane.Certificate{{host, "*.example.com"}}, Default: a})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Names().Set(plane.Record{Name: host, Type: "A", Alias: b.Name()}); err != nil {
		t.Fatal(err)
	}
	return l
}

func group(t *testing.T, p *plane.Plane, name string, targets ...plane.Target) *plane.Group {
	t.Helper()
	g := p.NewGroup(plane.GroupOptions{Name: name, Health: quick(), Delay: 10 * time.Second})
	for _, target := range targets {
		if err := g.Register(target); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func healthy(t *testing.T, g *plane.Group) {
	t.Helper()
	eventually(t, "healthy targets of "+g.Name(), func() bool {
		for _, h := range g.Health() {
			if h.State != "healthy" {
				return false
			}
		}
		return true
	})
}

func client(t *testing.T, p *plane.Plane) *http.Client {
	tr := &http.Transport{DialContext: p.Dialer(), TLSClientConfig: p.TLS(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get returns code and body; 0 and the error where there is no whole answer.
func get(t *testing.T, c *http.Client, url string, header ...string) (int, string, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(header); at += 2 {
		r.Header.Set(header[at], header[at+1])
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error(), nil
	}
	return answer.StatusCode, string(body), answer
}

func self(t *testing.T) string {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
