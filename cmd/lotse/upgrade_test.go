package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// The test binary is also the program that the tests start: a keeper, a proxy.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "keep" || os.Args[1] == "proxy") {
		main()
		return
	}
	os.Exit(m.Run())
}

// quay is a proxy under a keeper, before an app that this process answers for.
type quay struct {
	t       *testing.T
	place   place
	keepers *process.Keepers
	client  *proxy.Client
	ports   ports
	refused atomic.Int64 // connections
	tls     *tls.Config
}

func newQuay(t *testing.T, drain time.Duration) *quay {
	dir, err := os.MkdirTemp("", "up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	q := &quay{t: t, place: place(dir), ports: ports{freePort(t), freePort(t)}}
	if q.keepers, err = openKeepers(slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.keepers.Stop(context.Background(), q.place.keeper(), 2*time.Second); err != nil {
			t.Error(err)
		}
	})
	q.start()
	app := httptest.NewServer(load.NewApp(load.About{Release: "one"}))
	t.Cleanup(func() {
		app.CloseClientConnections()
		app.Close()
	})
	site := proxy.Site{Key: "shop/prod", Fence: 1, Hosts: []string{"shop.localhost"}, Drain: drain, Releases: []proxy.Release{
		{ID: "one", Label: "one", Share: 100, Routes: []proxy.Route{{Prefix: "/", Service: "web", Targets: []string{app.Listener.Addr().String()}}}}}}
	if err := q.client.Put(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	authority, err := proxy.OpenAuthority(q.place.authority(), nil)
	if err != nil {
		t.Fatal(err)
	}
	q.tls = &tls.Config{RootCAs: authority.Pool()}
	return q
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (q *quay) start() {
	q.t.Helper()
	var err error
	if q.client, err = startProxy(q.t.Context(), q.place, q.keepers, q.ports); err != nil {
		q.t.Fatal(err)
	}
}

func (q *quay) url() string { return fmt.Sprintf("https://shop.localhost:%d", q.ports.HTTPS) }

// dial counts connections that are refused: a load may try again, and is not to have to.
func (q *quay) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", q.ports.HTTPS))
	if errors.Is(err, syscall.ECONNREFUSED) {
		q.refused.Add(1)
	}
	return conn, err
}

func (q *quay) hammer() *load.Hammer {
	h := load.Start(q.t.Context(), load.Plan{URL: q.url(), TLS: q.tls, Dial: q.dial, Gets: 2, Fresh: 2, Uploads: 1, Downloads: 1, Sockets: 1, Streams: 1,
		UploadBytes: 100_000, DownloadBytes: 50_000, DownloadTime: 100 * time.Millisecond, Pause: 10 * time.Millisecond})
	q.t.Cleanup(func() { h.Stop() })
	q.answers(h, 50)
	return h
}

func (q *quay) answers(h *load.Hammer, n int) {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(q.t.Context(), time.Minute)
	defer cancel()
	if err := h.Await(ctx, n); err != nil {
		q.t.Fatal(err)
	}
}

// upgrade is retried while the proxy before has not ended yet.
func (q *quay) upgrade() int {
	q.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		pid, err := upgrade(q.t.Context(), string(q.place))
		if err == nil {
			return pid
		}
		if !errors.Is(err, deploy.ErrBusy) || time.Now().After(deadline) {
			q.t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestUpgradeUnderLoad replaces the proxy again and again while clients of every kind hammer through it.
func TestUpgradeUnderLoad(t *testing.T) {
	times := 5
	if os.Getenv("LOTSE_PROVE") != "" {
		times = 50
	}
	q := newQuay(t, 2*time.Second) // on a busy machine under the race detector, what takes 100 ms takes one
	began, err := q.client.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := q.hammer()
	seen := map[int]bool{}
	for range times {
		pid := q.upgrade()
		if seen[pid] {
			t.Errorf("process %d again", pid)
		}
		seen[pid] = true
		q.answers(h, 50)
	}
	report := h.Stop()
	t.Logf("%d upgrades, %d refused connections: %s", times, q.refused.Load(), report.Summary())
	if report.Failed != 0 || q.refused.Load() != 0 {
		t.Errorf("%d requests failed and %d connections were refused", report.Failed, q.refused.Load())
	}
	q.settled()
	stats, err := q.client.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted := uint64(0)
	for _, s := range stats.Services {
		counted += s.Requests
	}
	if !stats.Since.Equal(began.Since) || counted < uint64(report.Kinds["get"].Requests+report.Kinds["fresh"].Requests) {
		t.Errorf("counted are %d requests since %s, answered were %d since %s", counted, stats.Since, report.Requests, began.Since)
	}
}

// settled waits until the proxy before has ended.
func (q *quay) settled() {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(q.t.Context(), time.Minute)
	defer cancel()
	pid, err := q.client.PID(ctx)
	if err != nil {
		q.t.Fatal(err)
	}
	if _, err := process.Await(ctx, q.place.keeper(), func(s process.Status) bool { return s.PID == pid }); err != nil {
		q.t.Fatal(err)
	}
}

// TestUpgradeFaultIsSeen ends the old proxy before the new one accepts: what the test above looks at turns red.
func TestUpgradeFaultIsSeen(t *testing.T) {
	q := newQuay(t, time.Second)
	h := q.hammer()
	if err := q.keepers.Stop(t.Context(), q.place.keeper(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	q.start()
	q.answers(h, 50)
	if report := h.Stop(); report.Failed == 0 && q.refused.Load() == 0 {
		t.Errorf("nobody has seen it: %s", report.Summary())
	}
}

// TestUpgradeLetsFinish has a websocket and a download go on through an upgrade, until the drain is over; and what is held and private
// stays so.
func TestUpgradeLetsFinish(t *testing.T) {
	drain, download := 6*time.Second, 3*time.Second
	if os.Getenv("LOTSE_PROVE") != "" {
		drain, download = 30*time.Second, 25*time.Second
	}
	q := newQuay(t, drain)
	client := &http.Client{Transport: &http.Transport{DialContext: q.dial, TLSClientConfig: q.tls, DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("%s/slow?bytes=100000&for=%s", q.url(), download))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	socket, _, err := websocket.Dial(t.Context(), q.url()+"/socket", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.CloseNow() }()
	begin := time.Now()
	if err := q.client.Hold(t.Context(), "shop/prod", 1, &proxy.Hold{For: time.Minute, Requests: 10, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, 1)
	go func() { // it waits at the old one, and goes on when the new one is told
		resp, err := client.Get(q.url() + "/get")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		held <- err
	}()
	q.until("a request waits", func() bool {
		c, err := q.client.Closure(t.Context(), "shop/prod")
		return err == nil && c.Held == 1
	})
	q.upgrade()
	if c, err := q.client.Closure(t.Context(), "shop/prod"); err != nil || c.Hold == nil {
		t.Errorf("the hold is lost: %+v %v", c, err)
	}
	if err := q.client.Hold(t.Context(), "shop/prod", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Errorf("what waited: %v", err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 100_000 {
		t.Errorf("the download has %d bytes after %s: %v", n, time.Since(begin), err)
	}
	_, _, err = socket.Read(t.Context())
	if code, took := websocket.CloseStatus(err), time.Since(begin); code != websocket.StatusGoingAway || took > drain {
		t.Errorf("the websocket ended with %v after %s", err, took)
	}
}

func (q *quay) until(what string, condition func() bool) {
	q.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			q.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestUpgradeRefused leaves the proxy that runs as it is, and says why.
func TestUpgradeRefused(t *testing.T) {
	if _, err := upgrade(t.Context(), t.TempDir()); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("where no proxy runs: %v", err)
	}
	q := newQuay(t, time.Second)
	before, err := q.client.PID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string]struct {
		command []string
		says    string
	}{
		"a program that ends":         {[]string{"/bin/sh", "-c", "exit 7"}, "exit code 7"},
		"a program that is not there": {[]string{"/nowhere/lotse"}, "/nowhere/lotse"},
		"a program that hangs":        {[]string{"/bin/sleep", "1000"}, "not ready"},
	} {
		err := q.keepers.Replace(t.Context(), q.place.keeper(), replace.command, func(ctx context.Context, _ int) error {
			select {
			case <-time.After(300 * time.Millisecond):
				return errors.New("not ready")
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if !errors.Is(err, process.ErrReplace) || !strings.Contains(err.Error(), replace.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that has the predecessor stand still, and dies.
	p, err := proxy.Succeed(t.Context(), q.place.control())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if now, err := q.client.PID(t.Context()); err != nil || now != before {
		t.Errorf("the proxy is %d and not %d: %v", now, before, err)
	}
	site, err := q.client.Get(t.Context(), "shop/prod")
	if err == nil {
		err = q.client.Put(t.Context(), site)
	}
	if err != nil {
		t.Errorf("it does not take a change any more: %v", err)
	}
	for _, name := range []string{"state.json", "state.copy.json"} {
		q.newer(q.place.at("proxy", "table", name))
	}
	if _, err := upgrade(t.Context(), string(q.place)); !errors.Is(err, deploy.ErrRefused) || !errors.Is(err, proxy.ErrNewer) {
		t.Errorf("a state of a newer version: %v", err)
	}
	if resp, err := (&http.Client{Transport: &http.Transport{DialContext: q.dial, TLSClientConfig: q.tls, DisableKeepAlives: true}}).Get(q.url() + "/get"); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
}

// newer makes a state file one that a later version has written.
func (q *quay) newer(path string) {
	q.t.Helper()
	raw, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		q.t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(raw), "\n")
	body = strings.Replace(strings.TrimSuffix(body, "\n"), `"version": 1`, `"version": 999`, 1)
	if err := os.WriteFile(path, fmt.Appendf(nil, "sha256:%x\n%s\n", sha256.Sum256([]byte(body)), body), 0o600); err != nil {
		q.t.Fatal(err)
	}
}
