package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hammer sends requests from many clients until stop, and counts those without a complete, correct answer.
type hammer struct {
	h        *harbour
	wg       sync.WaitGroup
	stopped  atomic.Bool
	done     atomic.Int64
	failed   atomic.Int64
	mu       sync.Mutex
	examples []string
}

// newHammer starts workers that keep connections, on both protocols, with GET and POST in turn. dial nil: the harbour's.
func newHammer(h *harbour, workers int, check func(resp *http.Response, body string) error) *hammer {
	m := &hammer{h: h}
	for i := range workers {
		c := h.client([]string{"HTTP/1.1", "HTTP/2.0"}[i%2])
		m.wg.Go(func() {
			for n := 0; !m.stopped.Load(); n++ {
				m.one(c, n%2 == 1, check)
			}
		})
	}
	return m
}

func (m *hammer) one(c *http.Client, post bool, check func(*http.Response, string) error) {
	method, body := http.MethodGet, []byte(nil)
	if post {
		method, body = http.MethodPost, bytes.Repeat([]byte("u"), 3000)
	}
	req, _ := http.NewRequest(method, "https://"+host+"/", bytes.NewReader(body))
	resp, err := c.Do(req)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			err = check(resp, string(data))
		}
	}
	m.done.Add(1)
	if err != nil {
		m.failed.Add(1)
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.examples) < 5 {
			m.examples = append(m.examples, err.Error())
		}
	}
}

func (m *hammer) stop() {
	m.stopped.Store(true)
	m.wg.Wait()
}

// atLeast waits until so many more requests are done.
func (m *hammer) atLeast(n int64) {
	m.h.t.Helper()
	from := m.done.Load()
	eventually(m.h.t, fmt.Sprint(n, " more requests are done"), func() bool { return m.done.Load() >= from+n })
}

// fromItsRelease: the header names the release whose instance answered.
func fromItsRelease(resp *http.Response, body string) error {
	if want := resp.Header.Get("Lotse-Release"); resp.StatusCode != http.StatusOK || "label-"+body != want {
		return fmt.Errorf("%d %q under %s", resp.StatusCode, body, want)
	}
	return nil
}

// shifts swaps releases under load: each is started, put, and its predecessor drained and killed at once. A swap or a
// drain that loses a request shows as a failed one.
func shifts(t *testing.T, knobs func(*Server), rounds int) (failed int64, examples []string) {
	h := newHarbour(t)
	if knobs != nil {
		h.stop()
		h.start(knobs)
	}
	start := func(id string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(len(id)))
			_, _ = io.WriteString(w, id[:1])
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, id[1:])
		}))
	}
	old, oldID := start("r0"), "r0"
	h.put(site(1, oldID, old.Listener.Addr().String()))
	m := newHammer(h, 8, fromItsRelease)
	for i := 1; i <= rounds; i++ {
		m.atLeast(40)
		id := fmt.Sprint("r", i)
		next := start(id)
		h.put(site(int64(i), id, next.Listener.Addr().String()))
		if d, err := h.steer.Drain(t.Context(), "shop/dev", oldID, time.Minute); err != nil || d.Cut > 0 {
			t.Errorf("drain: %+v %v", d, err)
		}
		old.CloseClientConnections()
		old.Close()
		old, oldID = next, id
	}
	m.atLeast(40)
	m.stop()
	old.Close()
	return m.failed.Load(), m.examples
}

func TestNoRequestFailsWhileReleasesShift(t *testing.T) {
	failed, examples := shifts(t, nil, 15)
	if failed > 0 {
		t.Errorf("%d requests failed, such as %q", failed, examples)
	}
}

// The planted fault: without draining, the same hammer must see failed requests.
func TestHammerSeesAMissingDrain(t *testing.T) {
	for range 10 {
		if failed, _ := shifts(t, func(s *Server) { s.noDrain = true }, 15); failed > 0 {
			return
		}
	}
	t.Error("nothing failed without draining: the hammer proves nothing")
}

// Ten callers put two sites with ever new tables, while clients hammer both releases.
func TestConcurrentPutsUnderLoad(t *testing.T) {
	h := newHarbour(t)
	a, b := instance(t, says("a")), instance(t, says("b"))
	h.put(site(0, "a", a))
	m := newHammer(h, 4, fromItsRelease)
	var callers sync.WaitGroup
	for caller := range 10 {
		callers.Go(func() {
			for i := range 10 {
				s := site(0, "a", a)
				s.Releases = append(s.Releases, release("b", 0, b))
				if (i+caller)%2 == 0 {
					s.Releases[0].Share, s.Releases[1].Share = 30, 70
				}
				if caller%5 == 0 {
					s = Site{Key: fmt.Sprint("other/", caller), Hosts: []string{fmt.Sprint("o", caller, ".localhost")}}
				}
				if err := h.steer.Put(context.Background(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	m.atLeast(20)
	m.stop()
	if n := m.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, such as %q", n, m.done.Load(), m.examples)
	}
}

// The whole proxy ends while clients with kept connections hammer it, and a successor has the sockets: nothing fails.
func TestKeptConnectionsLoseNothingWhenTheProxyEnds(t *testing.T) {
	first := newHarbour(t)
	first.stop()
	first.start(func(s *Server) { s.goodbyeTime = 5 * time.Second })
	first.put(site(1, "a", instance(t, says("a"))))
	files := []interface{ Close() error }{}
	second := &harbour{t: t, cfg: first.cfg, access: first.access, logs: first.logs}
	second.cfg.Listeners = nil
	for _, l := range first.cfg.Listeners {
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		again, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		second.cfg.Listeners = append(second.cfg.Listeners, again)
	}
	for _, f := range files {
		f.Close()
	}
	m := newHammer(first, 8, fromItsRelease)
	m.atLeast(100)
	server, err := New(second.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	m.atLeast(100)
	m.stop()
	mustBe(t, "control socket of the successor", first.steer.Ping(t.Context()), nil)
	cancel()
	if err := receive(t, "the successor's end", ended); err != nil {
		t.Error(err)
	}
	if n := m.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, such as %q", n, m.done.Load(), m.examples)
	}
}

// A connection that was idle when the end began has its next request answered, and is told that it was the last.
func TestIdleConnectionsGetOneMoreAnswer(t *testing.T) {
	h := newHarbour(t)
	h.stop()
	h.start(func(s *Server) { s.goodbyeTime = 10 * time.Second })
	h.put(site(1, "a", instance(t, says("a"))))
	raw, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.cfg.Authority.Pool(), ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	request := "POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 1\r\n\r\nx"
	answers := newAnswers(raw)
	fmt.Fprint(raw, request)
	mustBe(t, "first answer", answers.next(t), "200 close=false")
	end := make(chan error, 1)
	go func() { end <- h.stop() }()
	eventually(t, "the proxy is closing", h.server.closing.Load)
	fmt.Fprint(raw, request)
	mustBe(t, "second answer", answers.next(t), "200 close=true")
	if err := receive(t, "the end", end); err != nil {
		t.Error(err)
	}
}

// The end of the proxy drains like the end of a release: 1001 for websockets, time for downloads.
func TestEndOfTheProxyDrains(t *testing.T) {
	ends, goOn := make(chan int, 1), make(chan struct{})
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			echo(t, ends)(w, r)
			return
		}
		_, _ = io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		<-goOn
		_, _ = io.WriteString(w, "end")
	})))
	ws := h.dialWebsocket("/ws")
	resp, err := h.client("HTTP/2.0").Get("https://" + host + "/download")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- h.stop() }()
	if _, _, err := ws.ReadMessage(); !isGoingAway(err) {
		t.Errorf("the websocket ended with %v", err)
	}
	mustBe(t, "code at the instance", receive(t, "the end", ends), 1001)
	close(goOn)
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	mustBe(t, "download", fmt.Sprint(string(text), err), "beginend<nil>")
	if err := receive(t, "the end", end); err != nil {
		t.Error(err)
	}
	mustSay(t, "access log", h.access.String(), `"endpoint":"/download"`)
	mustSay(t, "access log", h.access.String(), `"endpoint":"/ws"`)
}

func TestDrainIsRefusedWhileServing(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("a"))))
	_, err := h.steer.Drain(t.Context(), "shop/dev", "a", time.Minute)
	mustErr(t, "drain", err, ErrServing)
	d, err := h.steer.Drain(t.Context(), "shop/dev", "never seen", time.Minute)
	mustBe(t, "drain of the unknown", fmt.Sprint(d, err), "{0 0} <nil>")
}

// A release that is called back while it drains serves on.
func TestCallingBackEndsTheDrain(t *testing.T) {
	goOn, began := make(chan struct{}), make(chan struct{}, 1)
	h := newHarbour(t)
	addr := instance(t, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-goOn
		fmt.Fprint(w, "a")
	})
	h.put(site(1, "a", addr))
	answer := make(chan string, 1)
	go func() {
		_, body, err := h.tryGet(h.client("HTTP/1.1"), "https://"+host+"/")
		answer <- fmt.Sprint(body, err)
	}()
	receive(t, "the request", began)
	h.put(site(2, "b", addr))
	failed := make(chan error, 1)
	go func() {
		_, err := h.steer.Drain(context.Background(), "shop/dev", "a", time.Minute)
		failed <- err
	}()
	h.put(site(3, "a", addr))
	mustErr(t, "drain", receive(t, "the drain", failed), ErrServing)
	close(goOn)
	mustBe(t, "answer", receive(t, "the answer", answer), "a<nil>")
}
