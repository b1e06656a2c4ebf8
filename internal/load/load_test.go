package load_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

// serve answers with the handler over TLS and HTTP/2, and returns a plan that reaches it.
func serve(t *testing.T, h http.Handler) (load.Plan, *httptest.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return load.Plan{URL: s.URL, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}, Timeout: 5 * time.Second,
		DownloadTime: 200 * time.Millisecond, UploadBytes: 200_000, DownloadBytes: 100_000}, s
}

func every(p load.Plan) load.Plan {
	p.Gets, p.Fresh, p.Uploads, p.Downloads, p.Sockets, p.Streams = 2, 2, 2, 2, 2, 2
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Every kind of client sends the header of the plan.
func TestEveryClientHasTheHeader(t *testing.T) {
	app := load.NewApp(load.About{})
	plan, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "dock" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		app.ServeHTTP(w, r)
	}))
	plan = every(plan)
	plan.Header, plan.Time = load.Basic(secret.New("dock")), time.Second
	if r := load.Run(t.Context(), plan); r.Failed != 0 || r.Requests == 0 || len(r.Kinds) != 6 {
		t.Error(r.Summary())
	}
	plan.Header = load.Basic(secret.New("wharf"))
	if r := load.Run(t.Context(), plan); r.Failed != r.Requests || r.Requests == 0 {
		t.Error(r.Summary())
	}
}

// A good app fails nothing, over both protocols and every kind of client, also when it sends its sockets and streams away.
func TestGoodAppFailsNothing(t *testing.T) {
	app := load.NewApp(load.About{Release: "r1"})
	var h2 atomic.Int64
	var current atomic.Pointer[load.App]
	current.Store(app)
	plan, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h2.Add(int64(r.ProtoMajor - 1))
		current.Load().ServeHTTP(w, r)
	}))
	h := load.Start(t.Context(), every(plan))
	if err := h.Await(within(t, 10*time.Second), 100); err != nil {
		t.Fatal(err)
	}
	current.Store(load.NewApp(load.About{Release: "r2"}))
	app.Shutdown(t.Context())
	if err := h.Await(within(t, 10*time.Second), 300); err != nil {
		t.Fatal(err)
	}
	r := h.Stop()
	if r.Failed != 0 || r.Killed != 0 {
		t.Error(r.Summary())
	}
	for _, kind := range []string{"get", "fresh", "upload", "download", "socket", "stream"} {
		if r.Kinds[kind].Requests == 0 {
			t.Errorf("no %s was done", kind)
		}
	}
	if r.Served["r1"] == 0 || r.Served["r2"] == 0 || h2.Load() == 0 {
		t.Errorf("served %v, %d over HTTP/2", r.Served, h2.Load())
	}
	if r.Kinds["socket"].Ended < 2 || r.Kinds["stream"].Ended < 2 {
		t.Errorf("ended: %+v", r.Kinds)
	}
	if r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P99 || r.Gap <= 0 || r.Kinds["download"].Latency.P50 < 190*time.Millisecond {
		t.Errorf("figures: %+v", r)
	}
}

// Every way of answering badly is a failed request, of the right kind. Each is a planted fault for the clients.
func TestBadAnswersFail(t *testing.T) {
	app := load.NewApp(load.About{})
	hijack := func(write string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprint(conn, write)
				conn.Close()
			}
		}
	}
	cases := []struct {
		name    string
		plan    load.Plan
		handler http.HandlerFunc
		cause   string
	}{
		{"status", load.Plan{Gets: 1}, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "bad gateway to 10.1.2.3:80", http.StatusBadGateway)
		}, "status 502"},
		{"another's answer", load.Plan{Gets: 1}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "zero") }, "wrong body"},
		{"cut answer", load.Plan{Gets: 1}, hijack("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1"), "cut"},
		{"no answer", load.Plan{Fresh: 1}, hijack(""), "no answer"},
		{"any app, cut", load.Plan{Gets: 1, Paths: []string{"/x"}}, hijack("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1"), "cut"},
		{"any app, status", load.Plan{Gets: 1, Paths: []string{"/x"}}, http.NotFound, "status 404"},
		{"upload lost a byte", load.Plan{Uploads: 1}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			app.ServeHTTP(w, r)
		}, "wrong digest"},
		{"upload without answer", load.Plan{Uploads: 1}, hijack(""), "no answer"},
		{"download cut", load.Plan{Downloads: 1}, hijack("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n123"), "cut"},
		{"download changed", load.Plan{Downloads: 1}, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte{7}, 100_000))
		}, "wrong digest"},
		{"socket cut", load.Plan{Sockets: 1}, func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				conn.CloseNow()
			}
		}, "socket cut"},
		{"socket error", load.Plan{Sockets: 1}, func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				_ = conn.Close(websocket.StatusInternalError, "")
			}
		}, "socket closed 1011"},
		{"socket mixed up", load.Plan{Sockets: 1}, func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				_ = conn.Write(r.Context(), websocket.MessageText, []byte("other"))
				_, _, _ = conn.Read(r.Context())
			}
		}, "wrong echo"},
		{"socket refused", load.Plan{Sockets: 1}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) }, "status 503"},
		{"event cut", load.Plan{Streams: 1}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "id: 1\ndata: x\n\nid: 2\nda") }, "event cut"},
		{"event cut at a line", load.Plan{Streams: 1}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "id: 1\ndata: x\n\nid: 2\n") }, "event cut"},
		{"events do not go on", load.Plan{Streams: 1}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "id: 1\ndata: x\n\n") }, "event lost"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			plan, _ := serve(t, c.handler)
			c.plan.URL, c.plan.TLS, c.plan.Timeout, c.plan.Requests = plan.URL, plan.TLS, plan.Timeout, 3
			c.plan.UploadBytes, c.plan.DownloadBytes, c.plan.DownloadTime = 1000, 100_000, 10*time.Millisecond
			r := load.Run(within(t, 5*time.Second), c.plan)
			if r.Failed == 0 || len(r.Failures) == 0 || !slices.ContainsFunc(r.Failures, func(f load.Failure) bool { return f.Cause == c.cause }) {
				t.Errorf("want %q: %s", c.cause, r.Summary())
			}
			if strings.Contains(r.Summary(), "10.1.2.3") || strings.Contains(r.Summary(), "127.0.0.1") {
				t.Errorf("an address is told: %s", r.Summary())
			}
		})
	}
}

// A client may repeat a GET once, a POST never (RFC 9110 §9.2.2), and a GET only while no answer has begun.
func TestRetryOnce(t *testing.T) {
	app := load.NewApp(load.About{})
	failing := func(n int64) (http.Handler, *atomic.Int64) {
		var asked atomic.Int64
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) <= n {
				panic(http.ErrAbortHandler)
			}
			app.ServeHTTP(w, r)
		}), &asked
	}
	cases := []struct {
		name                   string
		plan                   load.Plan
		fails                  int64
		failed, retried, asked int
	}{
		{"one failure of a GET", load.Plan{Fresh: 1}, 1, 0, 1, 2},
		{"two failures of a GET", load.Plan{Fresh: 1}, 2, 1, 1, 2},
		{"one failure of a POST", load.Plan{Uploads: 1}, 1, 1, 0, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, asked := failing(c.fails)
			plan, server := serve(t, h)
			server.Config.ErrorLog = nil
			c.plan.URL, c.plan.TLS, c.plan.Requests = plan.URL, plan.TLS, 1
			r := load.Run(within(t, 5*time.Second), c.plan)
			if r.Failed != c.failed || r.Retried != c.retried || int(asked.Load()) != c.asked {
				t.Errorf("asked %d times: %s", asked.Load(), r.Summary())
			}
		})
	}
}

// The transport repeats on its own when a kept connection turns out closed; that is counted, and more than once is a failure.
func TestRetriesOfTheTransportCount(t *testing.T) {
	var asked, dropped atomic.Int64
	app := load.NewApp(load.About{})
	plan, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			dropped.Add(1)
			panic(http.ErrAbortHandler) // on a connection that was used before
		}
		app.ServeHTTP(w, r)
	}))
	plan.Gets, plan.Requests = 1, 5
	r := load.Run(within(t, 5*time.Second), plan)
	if r.Failed != 0 || r.Retried != 1 || dropped.Load() != 1 {
		t.Errorf("%d dropped: %s", dropped.Load(), r.Summary())
	}
}

// What is in flight during a marked kill is counted apart, what fails later is not.
func TestKillIsCountedApart(t *testing.T) {
	app := load.NewApp(load.About{})
	var aloft atomic.Int64
	plan, server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		aloft.Add(1)
		defer aloft.Add(-1)
		app.ServeHTTP(w, r)
	}))
	plan.Downloads, plan.DownloadTime = 3, 2*time.Second
	h := load.Start(t.Context(), plan)
	// All three are under way and their answers have begun, so that none may be repeated.
	underWay := func() {
		t.Helper()
		for ctx := within(t, 10*time.Second); aloft.Load() < 3; {
			select {
			case <-ctx.Done():
				t.Fatal("the downloads do not begin")
			case <-time.After(time.Millisecond):
			}
		}
		<-time.After(500 * time.Millisecond)
	}
	underWay()
	h.Kill(func() {
		server.CloseClientConnections()
		for aloft.Load() > 0 {
			<-time.After(time.Millisecond)
		}
	})
	underWay()
	server.CloseClientConnections()
	if r := h.Stop(); r.Killed == 0 || r.Failed == 0 || r.Killed+r.Failed > 6 {
		t.Error(r.Summary())
	}
}

// A pause of the server shows as a gap though nothing failed.
func TestGapIsSeen(t *testing.T) {
	app := load.NewApp(load.About{})
	var asked atomic.Int64
	plan, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 5 {
			<-time.After(300 * time.Millisecond)
		}
		app.ServeHTTP(w, r)
	}))
	plan.Gets, plan.Requests = 1, 10
	if r := load.Run(within(t, 5*time.Second), plan); r.Failed != 0 || r.Gap < 300*time.Millisecond {
		t.Error(r.Summary())
	}
}

// What is still in flight when the clients are told to stop is no gap: they ask nothing any more.
func TestWaitForTheLastAnswerIsNoGap(t *testing.T) {
	plan, _ := serve(t, load.NewApp(load.About{}))
	plan.Gets, plan.Downloads, plan.DownloadTime, plan.DownloadBytes = 1, 1, 2*time.Second, 100_000
	h := load.Start(t.Context(), plan)
	if err := h.Await(within(t, 5*time.Second), 5); err != nil {
		t.Fatal(err)
	}
	if r := h.Stop(); r.Failed != 0 || r.Kinds["download"].Requests != 1 || r.Gap > time.Second {
		t.Error(r.Summary())
	}
}

// The bounds of a plan hold.
func TestBounds(t *testing.T) {
	plan, _ := serve(t, load.NewApp(load.About{}))
	plan.Gets = 4
	byCount, byTime := plan, plan
	byCount.Requests, byTime.Time = 17, 200*time.Millisecond
	if r := load.Run(within(t, 5*time.Second), byCount); r.Requests != 17 {
		t.Error(r.Summary())
	}
	byCount.Sockets, byCount.Streams = 1, 1 // they hold their connections until the others have done enough
	if r := load.Run(within(t, 5*time.Second), byCount); r.Took > 3*time.Second || r.Failed != 0 {
		t.Error(r.Summary())
	}
	if r := load.Run(within(t, 5*time.Second), byTime); r.Took < 200*time.Millisecond || r.Took > 2*time.Second || r.Failed != 0 {
		t.Error(r.Summary())
	}
}

// A plan may reach its origin through a dialer, without TLS.
func TestDialer(t *testing.T) {
	server := httptest.NewUnstartedServer(load.NewApp(load.About{}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	plan := load.Plan{URL: "http://shop.test", Gets: 2, Sockets: 1, Requests: 10,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		}}
	if r := load.Run(within(t, 5*time.Second), plan); r.Requests < 10 || r.Failed > 0 {
		t.Error(r.Summary())
	}
}

// gated holds back what it has read while there is a gate.
type gated struct {
	net.Conn
	gate *atomic.Pointer[chan struct{}]
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if held := g.gate.Load(); held != nil {
		<-*held
	}
	return n, err
}

// An answer that a slow client reads only after the kill does not prove that the connection outlived it.
func TestSocketKilledWithAnAnswerUnread(t *testing.T) {
	app := load.NewApp(load.About{})
	var gate atomic.Pointer[chan struct{}]
	var first atomic.Bool
	open, answered, killed, cut := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	plan, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first.CompareAndSwap(false, true) {
			app.ServeHTTP(w, r)
			return
		}
		defer close(cut)
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(r.Context())
		gate.Store(&open)
		if err == nil && conn.Write(r.Context(), kind, message) == nil {
			close(answered)
			<-killed
		}
	}))
	plan.Sockets = 1
	plan.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return gated{c, &gate}, err
	}
	h := load.Start(t.Context(), plan)
	<-answered
	h.Kill(func() { close(killed); <-cut })
	gate.Store(nil)
	close(open)
	if err := h.Await(within(t, 10*time.Second), 5); err != nil {
		t.Fatal(err)
	}
	if r := h.Stop(); r.Failed != 0 || r.Killed != 1 {
		t.Errorf("%s, want one killed and none failed", r.Summary())
	}
}
