package proxy

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

// tick is a clock that a test moves.
type tick struct{ at atomic.Pointer[time.Time] }

func newTick() *tick {
	c := &tick{}
	c.set(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	return c
}

func (c *tick) now() time.Time          { return *c.at.Load() }
func (c *tick) set(t time.Time)         { c.at.Store(&t) }
func (c *tick) advance(d time.Duration) { c.set(c.now().Add(d)) }

// TestSamplesAreWhatClientsAsked asks many things, also of a second release and by Reach, and reads them over the control socket.
func TestSamplesAreWhatClientsAsked(t *testing.T) {
	clock := newTick()
	h := newHarbour(t, func(c *Config) { c.Clock = clock.now })
	addr := instance(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/bad"):
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/lost"):
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Path, "/half"):
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		default:
			fmt.Fprint(w, "hello")
		}
	})
	s := site(1, "a", addr)
	s.Releases[0].Share = 50
	s.Releases = append(s.Releases, release("b", 50, closedPort(t), addr)) // one target is dead: not an error
	h.put(s)
	c := h.client("HTTP/1.1")
	from := clock.now()
	for range 10 {
		h.get(c, "https://"+host+"/users/4711?name=me")
	}
	for range 4 {
		h.get(c, "https://"+host+"/bad")
		_, _, _ = h.tryGet(c, "https://"+host+"/half", func(r *http.Request) { r.Method = "POST" }) // which no client sends again
	}
	h.get(c, "https://"+host+"/lost/a")
	h.get(c, "https://"+host+"/lost/b")
	h.get(c, "https://"+host+"/users/1", func(r *http.Request) { r.Method = "BREW" })
	reached, err := http.NewRequest(http.MethodGet, "https://"+host+"/users/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.steer.Reach("shop/dev", "a").RoundTrip(reached)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	want := map[string][2]uint64{"GET /users/{id}": {10, 0}, "GET /bad": {4, 4}, "POST /half": {4, 4}, "GET …": {2, 0}, "OTHER /users/{id}": {1, 0}}
	var samples []Sample
	eventually(t, "everything is counted", func() bool { // a request is counted after its client has its answer
		if samples, err = h.steer.Samples(t.Context(), "shop/dev", from, from.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		return len(sums(samples)) == len(want) && requests(samples) == 21
	})
	for name, got := range sums(samples) {
		mustBe(t, name, got, want[name])
	}
	byRelease := map[string]uint64{}
	for _, s := range samples {
		mustBe(t, "the service", s.Service, "web")
		mustBe(t, "latencies of "+s.Release+" "+s.Endpoint, s.Latency.Sum(), s.Requests)
		byRelease[s.Release] += s.Requests
		if strings.Contains(fmt.Sprint(s), "4711") {
			t.Errorf("%v has an id", s)
		}
	}
	if a, b := byRelease["a"], byRelease["b"]; a != 10 && b != 10 {
		t.Errorf("with half of the traffic each, one has %d and the other %d of 21", a, b)
	}
	clock.advance(SampleSlot)
	if later, err := h.steer.Samples(t.Context(), "shop/dev", clock.now(), clock.now().Add(time.Minute)); err != nil || len(later) != 0 {
		t.Errorf("in the next slot: %v, %v", later, err)
	}
	if other, err := h.steer.Samples(t.Context(), "shop/prod", from, clock.now()); err != nil || len(other) != 0 {
		t.Errorf("of another site: %v, %v", other, err)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func sums(samples []Sample) map[string][2]uint64 {
	all := map[string][2]uint64{}
	for _, s := range samples {
		sum := all[s.Method+" "+s.Endpoint]
		all[s.Method+" "+s.Endpoint] = [2]uint64{sum[0] + s.Requests, sum[1] + s.Errors}
	}
	return all
}

func requests(samples []Sample) (n uint64) {
	for _, s := range samples {
		n += s.Requests
	}
	return n
}

func TestStreamsHaveNoLatencyInSamples(t *testing.T) {
	var tally Tally
	now := newTick().now()
	tally.Add(now, "GET", "/socket", 101, false, -1)
	got := tally.Read(now, now, now.Add(1))
	if len(got) != 1 || got[0].Requests != 1 || got[0].Latency.Sum() != 0 {
		t.Errorf("samples are %+v", got)
	}
}

func TestSlotsOfSamples(t *testing.T) {
	var tally Tally
	clock := newTick()
	begin := clock.now()
	for i := range 200 { // 2,000 s
		tally.Add(clock.now(), "GET", "/get", 200, i%2 == 0, latency.Bound(40))
		clock.advance(SampleSlot)
	}
	clock.advance(-SampleSlot)
	for span, want := range map[[2]time.Duration]uint64{
		{1990 * time.Second, 2000 * time.Second}: 1,
		{1985 * time.Second, 1995 * time.Second}: 2, // outwards
		{1900 * time.Second, 2000 * time.Second}: 10,
		{1100 * time.Second, 2000 * time.Second}: 90, // 15 minutes
		{0, 3000 * time.Second}:                  91, // older ones are gone
	} {
		got := tally.Read(clock.now(), begin.Add(span[0]), begin.Add(span[1]))
		mustBe(t, fmt.Sprint("requests in ", span), requests(got), want)
		if q := got[0].Latency.Quantile(0.5); q != latency.Bound(40) {
			t.Errorf("the median is %s", q)
		}
	}
	clock.advance(-time.Hour) // a clock that jumps back counts on
	tally.Add(clock.now(), "GET", "/get", 200, false, time.Millisecond)
	mustBe(t, "after a jump", requests(tally.Read(clock.now(), clock.now(), clock.now().Add(1))), uint64(1))
	clock.advance(2 * time.Hour)
	mustBe(t, "what is left in the end", len(tally.Read(clock.now(), begin, clock.now())), 0)
	mustBe(t, "series in the end", len(tally.all), 0)
}

// TestEndpointsInSamplesAreBounded asks for more words than there is room for; the first are kept apart, and nothing is lost.
func TestEndpointsInSamplesAreBounded(t *testing.T) {
	var tally Tally
	now := newTick().now()
	for i := range 1000 {
		tally.Add(now, "GET", "/"+letters(i), 200, false, time.Millisecond)
		tally.Add(now, "GET", "/no"+letters(i), 404, false, time.Millisecond)
	}
	got := tally.Read(now, now, now.Add(1))
	mustBe(t, "endpoints", len(got), endpointsMost)
	mustBe(t, "requests", requests(got), uint64(2000))
	rest := got[slices.IndexFunc(got, func(s Sample) bool { return s.Endpoint == otherEndpoint })]
	mustBe(t, "requests to the rest", rest.Requests, uint64(2000-endpointsMost+1))
}

func letters(i int) string {
	return string([]byte{byte('a' + i%26), byte('a' + i/26%26), byte('a' + i/676)})
}

func TestCountingAllocatesNothing(t *testing.T) {
	var tally Tally
	now := newTick().now()
	add := func() {
		tally.Add(now, "GET", "/api/orders/4711/items/aZ9kQ2mm/photo.jpeg", 200, false, time.Millisecond)
	}
	add()
	if n := testing.AllocsPerRun(100, add); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// TestSamplesCountedAtOnce counts and reads from many goroutines, while series come and go.
func TestSamplesCountedAtOnce(t *testing.T) {
	var tally Tally
	clock := newTick()
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		for ctx.Err() == nil {
			tally.forget(clock.now().Add(time.Hour)) // everything is too old
		}
	})
	for range 4 {
		writers.Go(func() {
			for i := range 2000 {
				tally.Add(clock.now(), "GET", "/"+letters(i%7), 200, false, time.Millisecond)
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	tally.Add(clock.now(), "GET", "/last", 200, false, time.Millisecond)
	if got := sums(tally.Read(clock.now(), clock.now(), clock.now().Add(1)))["GET /last"]; got != [2]uint64{1, 0} {
		t.Errorf("the last request: %v", got)
	}
}
