package pageload_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pageload"
)

const shell = `<!doctype html><meta charset="utf-8"><title>boats</title><link rel="icon" href="data:,"><h1>Boats near Kiel</h1>`

// opened is a browser, where there is one.
func opened(t *testing.T) (*pageload.Browser, string) {
	t.Helper()
	if _, err := pageload.Find(""); err != nil {
		t.Skip("NOT RUN: no Chromium is here, so that nothing was shown of how soon pages are there")
	}
	t.Setenv("TMPDIR", shortDir(t))
	dir := filepath.Join(t.TempDir(), "pageload")
	b, err := pageload.New(pageload.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return b, dir
}

// shortDir is one that leaves a unix socket room, and that nobody else looks into.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// visit is what is asked for in these tests: one load as fast as it goes.
func visit(site http.HandlerFunc, pages ...string) deploy.Visit {
	return deploy.Visit{Rollout: "r1", Address: "https://prod.shop.localhost:8443", Hosts: []string{"prod.shop.localhost", "www.shop.localhost"}, Site: site,
		Pages: pages, Times: 1, Each: 20 * time.Second, CPU: 1}
}

func page(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, shell+body)
	}
}

// A page that blocks for 3 s is seen to, and a healthy one is not: the figures, the files, the screenshot.
func TestFigures(t *testing.T) {
	b, dir := opened(t)
	var cookies, hosts atomic.Int64
	site := func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "prod.shop.localhost:8443" || r.TLS == nil {
			hosts.Add(1)
		}
		if r.URL.Path == "/" && r.Header.Get("Cookie") != "" {
			cookies.Add(1)
		}
		switch r.URL.Path {
		case "/heavy.js":
			w.Header().Set("Cache-Control", "max-age=3600")
			fmt.Fprint(w, "//"+strings.Repeat("x", 200_000))
		case "/slow.js":
			fmt.Fprint(w, "const end = performance.now() + 3000; while (performance.now() < end);")
		case "/slow":
			page(`<script src="/slow.js"></script><p>later`)(w, r)
		default:
			http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
			page(`<script src="/heavy.js?person=ada"></script>`)(w, r)
		}
	}
	late, err := b.Visit(t.Context(), visit(site, "/slow"))
	if err != nil {
		t.Fatal(err)
	}
	v := visit(site, "/")
	v.Times = 3
	seen, err := b.Visit(t.Context(), v) // in place of what was seen before of this rollout
	if err != nil {
		t.Fatal(err)
	}
	good, slow := seen.Pages[0], late.Pages[0]
	t.Logf("%s: %+v, %+v", seen.Browser, good, slow)
	if good.Slowest() > 2500*time.Millisecond || good.Load <= 0 || good.Paint <= 0 {
		t.Errorf("the healthy page is there after %s and %s", good.Load, good.Paint)
	}
	if slow.Load < 3*time.Second || slow.Slowest() < 3*time.Second {
		t.Errorf("the page with 3 s of script is there after %s and %s", slow.Load, slow.Paint)
	}
	if good.Requests != 2 || good.Bytes < 200_000 || good.Heaviest[0].Name != "/heavy.js" || good.Heaviest[0].Bytes < 200_000 {
		t.Errorf("the healthy page is made of %+v", good)
	}
	if cookies.Load() != 0 {
		t.Errorf("%d requests had a cookie of a load before", cookies.Load())
	}
	if hosts.Load() != 0 {
		t.Errorf("%d requests came for another host, or without TLS", hosts.Load())
	}
	kept := filepath.Join(dir, "r1")
	shot, err := os.ReadFile(filepath.Join(kept, "page-1.png"))
	if err != nil || http.DetectContentType(shot) != "image/png" {
		t.Errorf("the screenshot: %d bytes, %v", len(shot), err)
	}
	text, err := os.ReadFile(filepath.Join(kept, "visit.json"))
	if err != nil || !json.Valid(text) || strings.Contains(string(text), "ada") {
		t.Errorf("what is kept: %v\n%s", err, text)
	}
	for _, name := range []string{"page-1.png", "visit.json"} {
		if info, err := os.Stat(filepath.Join(kept, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is for others: %v", name, info.Mode())
		}
	}
	leftovers(t)
}

// leftovers fails the test where something of the browser runs on, or its profile is there.
func leftovers(t *testing.T) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "lotse-page-*")); len(left) > 0 {
		t.Errorf("profiles were left: %v", left)
	}
	if n := processesOf(os.TempDir()); n != 0 {
		t.Errorf("%d processes run on", n)
	}
}

// processesOf counts the processes whose command line names a profile in dir.
func processesOf(dir string) (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), "--user-data-dir="+dir) {
			n++
		}
	}
	return n
}

// What never ends, what answers with an error, and what leads away has no figure. Each says why.
func TestPagesThatDoNotPass(t *testing.T) {
	b, _ := opened(t)
	hang := make(chan struct{})
	defer close(hang)
	elsewhere := httptest.NewServer(page(""))
	defer elsewhere.Close()
	site := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang.png", "/never":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		case "/image":
			page(`<img src="/hang.png">`)(w, r)
		case "/loop":
			page(`<script>for (;;);</script>`)(w, r)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
			page("")(w, r)
		case "/away":
			http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "elsewhere.localhost", 1), http.StatusFound)
		}
	}
	for path, want := range map[string]string{"/image": "did not end loading within 1s", "/loop": "did not end loading within 1s", "/never": "did not end loading within 1s",
		"/broken": "answered with status 500", "/away": "leads to elsewhere.localhost, which is not this stage"} {
		v := visit(site, path)
		v.Each = time.Second
		if want[0] != 'd' {
			v.Each = 20 * time.Second
		}
		begun := time.Now()
		_, err := b.Visit(t.Context(), v)
		if !errors.Is(err, deploy.ErrGate) || !strings.Contains(err.Error(), path+" "+want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("%s: it took %s to say so", path, took)
		}
	}
	leftovers(t)
}

// The certificate of the visit is taken for the stage's hosts alone: what comes from another host with a certificate that nobody has
// signed does not come in, and is counted.
func TestOtherHostsAreChecked(t *testing.T) {
	b, _ := opened(t)
	var came atomic.Int64
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		fmt.Fprint(w, `document.body.innerHTML = "<h1>stolen</h1>"; new Image().src = "/stolen"`)
	}))
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.StartTLS()
	defer other.Close()
	var stolen atomic.Int64
	site := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stolen" {
			stolen.Add(1)
		}
		page(`<script src="`+strings.Replace(other.URL, "127.0.0.1", "cdn.localhost", 1)+`/x.js"></script>`)(w, r)
	}
	seen, err := b.Visit(t.Context(), visit(site, "/"))
	if err != nil {
		t.Fatal(err)
	}
	if came.Load() != 0 || stolen.Load() != 0 {
		t.Error("a certificate that nobody knows was taken for another host")
	}
	if seen.Pages[0].Foreign != 1 || seen.Pages[0].Requests != 2 {
		t.Errorf("requests to other hosts: %+v", seen.Pages[0])
	}
	leftovers(t)
}

// The network and the processor that are asked for make a difference.
func TestSlower(t *testing.T) {
	b, _ := opened(t)
	site := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big.js" {
			fmt.Fprint(w, "//"+strings.Repeat("x", 200_000))
			return
		}
		page(`<script src="/big.js"></script>`)(w, r)
	}
	v := visit(site, "/")
	v.Network = deploy.Networks()[1] // 200 kB at 1.6 Mbit/s take 1 s
	seen, err := b.Visit(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if got := seen.Pages[0].Load; got < time.Second {
		t.Errorf("over %s the page is there after %s", v.Network.Name, got)
	}
}

func TestNoBrowser(t *testing.T) {
	for _, path := range []string{pageload.None, "/nowhere/chromium"} {
		b, err := pageload.New(pageload.Config{Dir: filepath.Join(t.TempDir(), "p"), Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Visit(t.Context(), visit(nil, "/")); !errors.Is(err, deploy.ErrUnsupported) {
			t.Errorf("with %s: %v", path, err)
		}
	}
}

// A visit that is cancelled ends soon, with all of the browser.
func TestCancel(t *testing.T) {
	b, _ := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	site := func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }
	if _, err := b.Visit(ctx, visit(site, "/")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	leftovers(t)
}

// TestMain is also the process that is killed in the middle of a visit.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOTSE_TEST_VISIT")
	if dir == "" {
		os.Exit(m.Run())
	}
	b, err := pageload.New(pageload.Config{Dir: dir})
	if err == nil {
		_, err = b.Visit(context.Background(), visit(func(_ http.ResponseWriter, r *http.Request) {
			fmt.Println("asked")
			<-r.Context().Done()
		}, "/"))
	}
	fmt.Println(err)
	os.Exit(1)
}

// When the controller is killed, the browser ends with it, and the next one removes its profile.
func TestKill(t *testing.T) {
	_, dir := opened(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOTSE_TEST_VISIT="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "asked\n" {
		t.Fatal(line, err)
	}
	if processesOf(os.TempDir()) == 0 {
		t.Error("no browser runs during a visit")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for processesOf(os.TempDir()) > 0 {
		select {
		case <-deadline:
			t.Fatalf("%d processes of the browser run on", processesOf(os.TempDir()))
		case <-tick.C:
		}
	}
	if _, err := pageload.New(pageload.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	leftovers(t)
}

// Where this process is root, the browser runs as somebody else, who may lock its pages up.
func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: only root can run a browser as somebody else, so that nothing was shown of that")
	}
	opened(t)
	if err := os.Chmod(os.TempDir(), 0o711); err != nil {
		t.Fatal(err)
	}
	const uid = 61184
	b, err := pageload.New(pageload.Config{Dir: filepath.Join(t.TempDir(), "pageload"), UID: uid, GID: uid})
	if err != nil {
		t.Fatal(err)
	}
	var owners atomic.Value
	seen, err := b.Visit(t.Context(), visit(func(w http.ResponseWriter, r *http.Request) {
		owners.Store(ownersOf(os.TempDir()))
		page("")(w, r)
	}, "/"))
	if err != nil || seen.Pages[0].Load <= 0 {
		t.Fatalf("%v, %v", seen, err)
	}
	if got := owners.Load().(map[uint32]int); len(got) != 1 || got[uid] == 0 {
		t.Errorf("the processes of the browser belong to %v, want %d alone", got, uid)
	}
	leftovers(t)
}

// ownersOf counts the processes of browsers with a profile in dir, by their user.
func ownersOf(dir string) map[uint32]int {
	of := map[uint32]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), "--user-data-dir="+dir) {
			continue
		}
		if info, err := os.Stat(filepath.Dir(file)); err == nil {
			of[info.Sys().(*syscall.Stat_t).Uid]++
		}
	}
	return of
}

func TestPrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	b, err := pageload.New(pageload.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old", "new"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Prune([]string{"new"}); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "new" {
		t.Errorf("left are %v", left)
	}
}
