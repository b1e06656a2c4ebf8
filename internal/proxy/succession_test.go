package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// successor is another Server on the listeners of h, ready to run. What it is to find on disk stands still until it runs or is closed.
func (h *harbour) successor() (*Server, *Predecessor) {
	h.t.Helper()
	before, err := Succeed(h.t.Context(), h.cfg.Control)
	if err != nil || before == nil {
		h.t.Fatalf("succeed: %v", err)
	}
	cfg := h.cfg
	cfg.Predecessor, cfg.Listeners = before, nil
	for _, l := range h.cfg.Listeners {
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			h.t.Fatal(err)
		}
		again, err := net.FileListener(f)
		f.Close()
		if err != nil {
			h.t.Fatal(err)
		}
		cfg.Listeners = append(cfg.Listeners, again)
	}
	s, err := New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	s.goodbyeTime = 50 * time.Millisecond
	return s, before
}

func (h *harbour) run(s *Server) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	h.t.Cleanup(func() { _ = stop() })
	return stop
}

// TestSuccession has an answer under way at the first proxy while the second takes over: a drain of its release waits for it, what was
// counted comes over, and a change that was asked of the first goes to the second.
func TestSuccession(t *testing.T) {
	h := newHarbour(t)
	release := make(chan struct{})
	addr := instance(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		fmt.Fprint(w, "hello")
	})
	h.put(site(1, "a", addr))
	c := h.client("HTTP/1.1")
	for range 5 {
		h.get(c, "https://"+host+"/get")
	}
	slow := make(chan string, 1)
	go func() {
		_, body, err := h.tryGet(h.client("HTTP/1.1"), "https://"+host+"/slow")
		slow <- fmt.Sprint(body, err)
	}()
	eventually(t, "the slow request is in flight", func() bool { return h.server.stats().Services[0].InFlight == 1 })
	next, before := h.successor()
	changed := make(chan error, 1)
	go func() { changed <- h.steer.Put(context.Background(), site(2, "b", addr)) }() // asked of the first, which stands still
	h.run(next)
	eventually(t, "it is in place", func() bool { return next.inPlace.Load() })
	if err := receive(t, "the change", changed); err != nil {
		t.Errorf("a change meanwhile: %v", err)
	}
	if got, err := h.steer.Get(t.Context(), "shop/dev"); err != nil || got.Fence != 2 {
		t.Errorf("the second has %+v %v", got, err)
	}
	resp, _ := h.get(h.client("HTTP/2.0"), "https://"+host+"/get")
	mustBe(t, "who serves", resp.Header.Get("Lotse-Release"), "label-b")

	drained := make(chan error, 1)
	go func() {
		_, err := h.steer.Drain(context.Background(), "shop/dev", "a", 10*time.Second)
		drained <- err
	}()
	select {
	case err := <-drained:
		t.Errorf("the drain did not wait for the first proxy: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	mustBe(t, "the slow answer", receive(t, "the slow answer", slow), "hello<nil>")
	if err := receive(t, "the drain", drained); err != nil {
		t.Error(err)
	}
	if err := h.stop(); err != nil { // it ends by itself
		t.Error(err)
	}
	receive(t, "its end", before.gone)
	counted, samples := uint64(0), next.Samples("shop/dev", time.Now().Add(-time.Minute), time.Now())
	for _, s := range next.stats().Services {
		counted += s.Requests
	}
	mustBe(t, "requests counted", counted, uint64(7))
	mustBe(t, "requests in samples", requests(samples), uint64(7))
	mustBe(t, "since", next.stats().Since.Equal(h.server.stats().Since), true)
}

// TestSuccessorThatFails takes the name of the control socket, and dies: the first goes on, and is steered again.
func TestSuccessorThatFails(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("hello"))))
	next, before := h.successor()
	control, err := next.listenControl()
	if err != nil {
		t.Fatal(err)
	}
	before.Close() // before it was ready
	control.close()
	for _, l := range next.cfg.Listeners {
		l.Close()
	}
	next.retireAll()
	eventually(t, "the first is steered again", func() bool { return h.steer.Ping(t.Context()) == nil })
	h.put(site(2, "a", instance(t, says("again"))))
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "the answer", body, "again")

	next, _ = h.successor() // and can be succeeded
	h.run(next)
	eventually(t, "it is in place", func() bool { return next.inPlace.Load() })
	_, body = h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "the answer of the second", body, "again")
}

// TestSuccessorThatHangs is given up, and told so when it wakes.
func TestSuccessorThatHangs(t *testing.T) {
	h := newHarbour(t)
	h.server.readyTime = 100 * time.Millisecond
	h.put(site(1, "a", instance(t, says("hello"))))
	next, _ := h.successor()
	h.put(site(2, "a", instance(t, says("again")))) // waits until the first goes on
	if err := h.run(next)(); err == nil {
		t.Error("it took over all the same")
	}
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "the answer", body, "again")
}

func TestStateOfANewerVersion(t *testing.T) {
	dir := t.TempDir()
	if err := Readable(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no state: %v", err)
	}
	st := state{}.clone()
	st.Version = stateVersion + 1
	if err := (&store{dir}).save(st); err != nil {
		t.Fatal(err)
	}
	mustErr(t, "Readable", Readable(dir), ErrNewer)
	_, err := New(Config{StateDir: dir})
	mustErr(t, "New", err, ErrNewer)
	for _, name := range []string{stateFile, stateCopy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustErr(t, "Readable", Readable(dir), ErrDamaged)
}

// TestNobodyToSucceed is a first start, and one after a proxy that has left its socket behind.
func TestNobodyToSucceed(t *testing.T) {
	dir, err := os.MkdirTemp("", "ns")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	for range 2 {
		if p, err := Succeed(t.Context(), socket); p != nil || err != nil {
			t.Errorf("%v %v", p, err)
		}
		os.Remove(socket)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	old := filepath.Join(dir, "old")
	l, err := net.Listen("unix", old)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "404") })}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = Succeed(t.Context(), old)
	mustErr(t, "a proxy that does not know how", err, ErrNoSuccession)
}
