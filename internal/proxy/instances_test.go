package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// killable is an instance that can be ended as by kill -9 and started again on its port.
type killable struct {
	t    testing.TB
	addr string
	mu   sync.Mutex
	srv  *http.Server
	l    net.Listener
	f    http.HandlerFunc

	inFlight atomic.Int64
}

func newKillable(t testing.TB, f http.HandlerFunc) *killable {
	k := &killable{t: t, addr: "127.0.0.1:0", f: f}
	k.start()
	t.Cleanup(func() { k.kill() })
	return k
}

func (k *killable) start() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	if k.l, err = net.Listen("tcp", k.addr); err != nil {
		k.t.Fatal(err)
	}
	k.addr = k.l.Addr().String()
	k.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.inFlight.Add(1)
		defer k.inFlight.Add(-1)
		k.f(w, r)
	})}
	go func(s *http.Server, l net.Listener) { _ = s.Serve(l) }(k.srv, k.l)
}

// kill returns how many requests were in flight in it.
func (k *killable) kill() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.inFlight.Load()
	k.srv.Close()
	return n
}

// One of two instances dies under load and comes back: the other answers meanwhile, and the first is used again. The
// instances refuse to answer while their gate is shut, so that it is known what was in flight.
func TestOneOfTwoInstancesDies(t *testing.T) {
	h := newHarbour(t)
	var served [2]atomic.Int64
	var ks [2]*killable
	for i := range ks {
		ks[i] = newKillable(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			served[i].Add(1)
			fmt.Fprint(w, "a")
		})
	}
	s := site(1, "a", ks[0].addr, ks[1].addr)
	s.Releases[0].Routes[0].Health = "/up"
	h.put(s)
	const workers = 8
	m := newHammer(h, workers, fromItsRelease)
	m.atLeast(100)
	ks[0].kill()
	m.atLeast(200)
	ks[0].start()
	before := served[0].Load()
	eventually(t, "the first is used again", func() bool { return served[0].Load() > before+10 })
	m.stop()
	if n := m.failed.Load(); n > workers { // each worker had at most one request in flight
		t.Errorf("%d requests failed, but at most %d were in flight: %q", n, workers, m.examples)
	}
}

// The only instance is dead: requests wait, and are answered when it is back.
func TestRequestsWaitForTheOnlyInstance(t *testing.T) {
	h := newHarbour(t)
	up := new(atomic.Bool)
	var asked atomic.Int64
	k := newKillable(t, func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			if asked.Add(1); r.URL.Path != "/up" || r.Host != host {
				t.Errorf("%s%s was asked before the instance was well", r.Host, r.URL.Path)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		says("a")(w, r)
	})
	s := site(1, "a", k.addr)
	s.Releases[0].Routes[0].Health = "/up"
	h.put(s)
	k.kill()
	const clients = 20
	answers := make(chan string, clients)
	for i := range clients {
		c := h.client([]string{"HTTP/1.1", "HTTP/2.0"}[i%2])
		go func() {
			resp, err := c.Post("https://"+host+"/", "text/plain", bytes.NewReader([]byte("body")))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
		}()
	}
	waiting := func() int64 { return h.server.stats().Waiting }
	eventually(t, "all wait", func() bool { return waiting() == clients })
	mustBe(t, "references while waiting", h.flight("a").refs.Load(), int64(0))
	k.start()
	eventually(t, "it was asked how it is, and was not well", func() bool { return asked.Load() >= 3 })
	mustBe(t, "still waiting", waiting(), int64(clients))
	up.Store(true)
	for range clients {
		mustBe(t, "answer", receive(t, "an answer", answers), "200 a")
	}
	mustBe(t, "waiting afterwards", waiting(), int64(0))
}

// Requests that wait for a dead release go to the new one when traffic moves, although the old one still has others in
// the air.
func TestWaitingRequestsFollowTheShift(t *testing.T) {
	h := newHarbour(t)
	dead := listen(t)
	dead.Close()
	hanging, goOn := make(chan struct{}), make(chan struct{})
	s := site(1, "a", dead.Addr().String())
	s.Releases[0].Routes = append(s.Releases[0].Routes, Route{Prefix: "/hang", Service: "other",
		Targets: []string{instance(t, func(w http.ResponseWriter, r *http.Request) {
			close(hanging)
			<-goOn
		})}})
	h.put(s)
	answers := make(chan string, 2)
	for _, path := range []string{"/hang", "/"} {
		c := h.client("HTTP/2.0")
		go func() {
			_, body, err := h.tryGet(c, "https://"+host+path)
			answers <- fmt.Sprint(body, err)
		}()
	}
	receive(t, "the request that hangs", hanging)
	eventually(t, "the other waits", func() bool { return h.server.stats().Waiting == 1 })
	h.put(site(2, "b", instance(t, says("b"))))
	mustBe(t, "answer", receive(t, "the answer", answers), "b<nil>")
	close(goOn)
	mustBe(t, "answer", receive(t, "the answer", answers), "<nil>")
}

func TestTooManyWaitersAreTurnedAway(t *testing.T) {
	common := &siteCommon{}
	for i := range waitersMost + 1 {
		p := newPatience(common)
		defer p.end()
		mustBe(t, fmt.Sprint("waiter ", i, " is too many"), p.full, i >= waitersMost)
	}
	h := newHarbour(t)
	dead := listen(t)
	dead.Close()
	h.put(site(1, "a", dead.Addr().String()))
	h.server.table.Load().sites["shop/dev"].common.waiting.Store(waitersMost)
	resp, _ := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "status", resp.StatusCode, http.StatusServiceUnavailable)
	mustBe(t, "Retry-After", resp.Header.Get("Retry-After"), "1")
}
