package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The worst moment: swap and drain come between a request's look at the table and its reference.
func TestDrainBetweenLookAndReference(t *testing.T) {
	s, swap := bareServer(t)
	old := swap("old")
	var fresh *flight
	s.aimed = func() {
		if fresh != nil {
			return
		}
		fresh = swap("new")
		d, err := s.drain(t.Context(), "shop/dev", "old", time.Minute)
		mustBe(t, "drained", fmt.Sprint(d, err), "{0 0} <nil>")
	}
	x := &exchange{server: s, host: host, w: &sink{http.Header{}}, r: httptest.NewRequest(http.MethodGet, "/", nil)}
	mustBe(t, "aimed", x.aim(), true)
	mustBe(t, "on the new release", x.flight == fresh, true)
	mustBe(t, "references on old and new", fmt.Sprint(old.refs.Load(), fresh.refs.Load()), "0 1")
	x.land()
	mustBe(t, "references afterwards", fresh.refs.Load(), int64(0))
}

func bareServer(t *testing.T) (s *Server, swap func(id string) *flight) {
	t.Helper()
	s, err := New(Config{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s, func(id string) *flight {
		s.mu.Lock()
		defer s.mu.Unlock()
		d, err := s.draft(site(0, id), false)
		if err != nil {
			t.Fatal(err)
		}
		s.take(d)
		s.table.Store(s.table.Load().with("shop/dev", d.live))
		return s.flights[flightKey{"shop/dev", id}]
	}
}

// The proof beside table, tried: nobody ever holds a release that a drain has seen empty behind its swap.
func TestAcquireAndDrainNeverMissEachOther(t *testing.T) {
	s, swap := bareServer(t)
	s.aimed = runtime.Gosched
	current := swap("r")
	var emptied sync.Map // *flight → true
	var stopped atomic.Bool
	var missed, taken atomic.Int64
	var users sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		users.Go(func() {
			for !stopped.Load() {
				x := &exchange{server: s, host: host, w: &sink{http.Header{}}, r: httptest.NewRequest(http.MethodGet, "/", nil)}
				if !x.aim() {
					t.Error("no release")
					return
				}
				taken.Add(1)
				if _, ok := emptied.Load(x.flight); ok {
					missed.Add(1)
				}
				x.land()
			}
		})
	}
	for i := range 2000 {
		old := current
		current = swap(fmt.Sprint("r", i))
		for old.refs.Load() > 0 {
			runtime.Gosched()
		}
		emptied.Store(old, true)
		s.mu.Lock()
		delete(s.flights, flightKey{"shop/dev", old.id})
		s.mu.Unlock()
	}
	stopped.Store(true)
	users.Wait()
	if missed.Load() > 0 {
		t.Errorf("%d of %d requests held a release that was drained", missed.Load(), taken.Load())
	}
}

// A request that an instance has begun to receive is never sent again, whole or in part.
func TestUploadIsNotReplayed(t *testing.T) {
	var whole, partial, begun atomic.Int64
	body := strings.Repeat("u", 100_000)
	h := newHarbour(t)
	rude := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			fmt.Fprint(w, "kept") // so that the connection is kept for the POST
			return
		}
		begun.Add(1)
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil && n == int64(len(body)) {
			whole.Add(1)
		} else {
			partial.Add(1)
		}
		panic(http.ErrAbortHandler)
	}
	h.put(site(1, "a", instance(t, rude))) // one, so that the POST comes on the connection of the GET
	bothProtocols(t, func(t *testing.T, protocol string) {
		begun.Store(0)
		c := h.client(protocol)
		for i := range 10 {
			h.get(c, "https://"+host+"/")
			req, _ := http.NewRequest(http.MethodPost, "https://"+host+"/", strings.NewReader(body))
			req.Header.Set("Idempotency-Key", fmt.Sprint(i)) // which the transport takes as leave to send again
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			mustBe(t, "status", resp.StatusCode, http.StatusBadGateway)
		}
		mustBe(t, "times that an instance got one of ten", begun.Load(), int64(10))
		mustBe(t, "uploads in part", partial.Load(), int64(0))
	})
}

// The body of a request for which no instance could be dialled is still whole for the next.
func TestUploadSurvivesADeadInstance(t *testing.T) {
	h := newHarbour(t)
	dead := listen(t)
	dead.Close()
	h.put(site(1, "a", dead.Addr().String(), instance(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	})))
	bothProtocols(t, func(t *testing.T, protocol string) {
		for range 3 {
			resp, err := h.client(protocol).Post("https://"+host+"/", "", strings.NewReader(strings.Repeat("u", 100_000)))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			mustBe(t, "upload", string(text), "100000 <nil>")
		}
	})
}
