package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harbour is a running Server with its surroundings.
type harbour struct {
	t      testing.TB
	cfg    Config
	server *Server
	steer  *Client
	access *syncBuffer
	logs   *syncBuffer
	addr   string // of HTTPS
	plain  string // of HTTP
	stop   func() error
}

const host = "shop.localhost"

// newHarbour starts a Server in dirs of its own. Options change its Config; knobs change the Server before it runs.
func newHarbour(t testing.TB, options ...func(*Config)) *harbour {
	t.Helper()
	dir, err := os.MkdirTemp("", "px") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	authority, err := OpenAuthority(filepath.Join(dir, "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &harbour{t: t, access: &syncBuffer{}, logs: &syncBuffer{}}
	h.cfg = Config{StateDir: filepath.Join(dir, "state"), Control: filepath.Join(dir, "s"), Authority: authority,
		Log: slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), AccessLog: h.access,
		Pseudonym: func(netip.Addr) string { return "somebody" }, Drain: 10 * time.Second}
	for _, option := range options {
		option(&h.cfg)
	}
	h.start(nil)
	return h
}

func (h *harbour) start(knobs func(*Server)) {
	h.t.Helper()
	h.cfg.Listeners = []net.Listener{listen(h.t), listen(h.t)}
	h.addr, h.plain = h.cfg.Listeners[0].Addr().String(), h.cfg.Listeners[1].Addr().String()
	var err error
	if h.server, err = New(h.cfg); err != nil {
		h.t.Fatal(err)
	}
	h.server.goodbyeTime = 50 * time.Millisecond // most tests leave idle connections behind
	if knobs != nil {
		knobs(h.server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.server.Run(ctx) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	h.t.Cleanup(func() {
		if err := h.stop(); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
	h.steer = NewClient(h.cfg.Control)
	eventually(h.t, "the control socket answers", func() bool { return h.steer.Ping(h.t.Context()) == nil })
}

func (h *harbour) put(s Site) {
	h.t.Helper()
	if err := h.steer.Put(h.t.Context(), s); err != nil {
		h.t.Fatalf("Put: %v", err)
	}
}

// client speaks one protocol, "HTTP/1.1" or "HTTP/2.0", and keeps connections.
func (h *harbour) client(protocol string) *http.Client {
	tr := &http.Transport{DialContext: h.dial, TLSClientConfig: &tls.Config{RootCAs: h.cfg.Authority.Pool()},
		MaxIdleConnsPerHost: 100, DisableCompression: true}
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	tr.Protocols.SetHTTP2(protocol == "HTTP/2.0")
	c := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h.t.Cleanup(tr.CloseIdleConnections)
	return c
}

// dial takes every name to this harbour.
func (h *harbour) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, h.addr)
}

func (h *harbour) get(c *http.Client, url string, edit ...func(*http.Request)) (*http.Response, string) {
	h.t.Helper()
	resp, body, err := h.tryGet(c, url, edit...)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp, body
}

func (h *harbour) tryGet(c *http.Client, url string, edit ...func(*http.Request)) (*http.Response, string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	for _, e := range edit {
		e(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func bothProtocols(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, p := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// instance is an app's instance: a server that we did not write.
func instance(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, text)
	}
}

// site has one release per id, the first with all of the traffic, each with one service on its targets.
func site(fence int64, id string, targets ...string) Site {
	return Site{Key: "shop/dev", Fence: fence, Hosts: []string{host}, Releases: []Release{release(id, 100, targets...)}}
}

func release(id string, share int, targets ...string) Release {
	return Release{ID: id, Label: "label-" + id, Share: share, Routes: []Route{{Prefix: "/", Service: "web", Targets: targets}}}
}

// eventually polls a condition; the deadline is for tests that are broken.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func mustBe(t testing.TB, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func mustSay(t testing.TB, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s is %q, want %q in it", what, got, want)
	}
}

func mustErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error is %v, want %v", what, got, want)
	}
}
