package watch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/latency"
	"github.com/lotse-eu/lotse/internal/watch"
)

// did is what one endpoint did: so many requests, of them errors, all in that time.
func did(endpoint string, requests, errors uint64, in time.Duration) deploy.Sample {
	h := make(latency.Histogram, latency.Buckets)
	h[latency.Bucket(in)] = requests
	return deploy.Sample{Service: "api", Method: "GET", Endpoint: endpoint, Requests: requests, Errors: errors, Latency: h}
}

func all(s ...deploy.Sample) []deploy.Sample { return s }

// rare are endpoints that are asked seldom.
func rare(n int, requests, errors uint64) (some []deploy.Sample) {
	for i := range n {
		some = append(some, did(fmt.Sprint("/rare/", i), requests, errors, time.Millisecond))
	}
	return some
}

func TestLook(t *testing.T) {
	const ms = time.Millisecond
	usual := deploy.Limits{Errors: 5, Requests: 50}
	for name, c := range map[string]struct {
		limits     deploy.Limits
		old, young []deploy.Sample
		says       string // empty: nothing is found
	}{
		"nothing":                         {usual, nil, nil, ""},
		"as before":                       {usual, all(did("/a", 1000, 10, 80*ms)), all(did("/a", 1000, 11, 80*ms)), ""},
		"better":                          {usual, all(did("/a", 1000, 500, 80*ms)), all(did("/a", 1000, 0, 8*ms)), ""},
		"errors":                          {usual, all(did("/a", 2000, 20, ms)), all(did("/a", 2000, 80, ms)), "api: GET /a: errors 4 % in 2000 requests, 1 % in 2000 of the release before"},
		"errors that do not matter":       {usual, all(did("/a", 900_000, 900, ms)), all(did("/a", 900_000, 3600, ms)), ""},
		"errors that may be chance":       {usual, all(did("/a", 100, 1, ms)), all(did("/a", 100, 5, ms)), ""},
		"latency":                         {usual, all(did("/a", 400, 0, 80*ms)), all(did("/a", 400, 0, 280*ms)), "api: GET /a: p95 2"},
		"latency that does not matter":    {usual, all(did("/a", 9000, 0, 8*ms)), all(did("/a", 9000, 0, 16*ms)), ""},
		"all in one bucket, some beyond":  {usual, all(did("/a", 2000, 0, 3*ms)), all(twoSpeeds(1880, 120)), "api: GET /a: p95 "},
		"rare ones, each alone by chance": {usual, rare(30, 40, 1), rare(30, 4, 1), "api: its rare endpoints together: errors 25 % in 120 requests"},
		"one that is new is beside none":  {deploy.Limits{Errors: 50}, all(did("/a", 1000, 0, ms)), all(did("/a", 1000, 0, ms), did("/new", 100, 40, 900*ms)), ""},
		"but not beyond the limit":        {usual, all(did("/a", 1000, 0, ms)), all(did("/a", 1000, 0, ms), did("/new", 900, 400, ms)), "api: errors 21.1 % in 1900 requests, over the limit of 5 %"},
		"a limit that it broke before":    {usual, all(did("/a", 1000, 80, ms)), all(did("/a", 1000, 90, ms)), ""},
		"a limit, and nothing before":     {usual, nil, all(did("/a", 200, 40, ms)), "api: errors 20 % in 200 requests, over the limit of 5 %"},
		"a limit by one that may be luck": {usual, nil, all(did("/a", 30, 3, ms)), ""},
		"a limit of latency":              {deploy.Limits{P95: time.Second}, nil, all(did("/a", 200, 0, 2*time.Second)), "api: p95 "},
		"no limit of latency":             {usual, nil, all(did("/a", 200, 0, 20*time.Second)), ""},
	} {
		var said []string
		for _, w := range watch.New(c.limits, 1, true).Look(c.old, c.young) {
			said = append(said, w.String())
		}
		if got := strings.Join(said, "\n"); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q in it", name, got, c.says)
		}
	}
}

// twoSpeeds are requests of 3 ms, and slow ones of 250 ms.
func twoSpeeds(quick, slow uint64) deploy.Sample {
	s := did("/a", quick, 0, 3*time.Millisecond)
	s.Requests += slow
	s.Latency[latency.Bucket(250*time.Millisecond)] = slow
	return s
}

// Slower by what another load explains is no reason beside minutes that are over; slower by much is.
func TestMinutesThatAreOver(t *testing.T) {
	before := did("/a", 500, 0, 14*time.Millisecond)
	for _, c := range []struct {
		took          time.Duration
		beside, worse bool
	}{{40 * time.Millisecond, true, true}, {40 * time.Millisecond, false, false}, {214 * time.Millisecond, false, true}} {
		if found := watch.New(deploy.Limits{}, 1, c.beside).Look(all(before), all(did("/a", 100, 0, c.took))); (len(found) > 0) != c.worse {
			t.Errorf("%s after 14ms, in the same minutes %v: %v", c.took, c.beside, found)
		}
	}
}

// A look is taken when there is enough that is new, and each one costs: what is found at once is not found after many looks.
func TestLooksAreCounted(t *testing.T) {
	usual, bad := did("/a", 5000, 50, time.Millisecond), func(n uint64) deploy.Sample { return did("/a", n, n/2, time.Millisecond) }
	j := watch.New(deploy.Limits{}, 1, true)
	if found := j.Look(all(usual), all(bad(19))); len(found) > 0 {
		t.Errorf("19 requests are judged: %v", found)
	}
	if found := j.Look(all(usual), all(did("/a", 100, 0, time.Millisecond))); len(found) > 0 {
		t.Errorf("what is well is condemned: %v", found)
	}
	if found := j.Look(all(usual), all(bad(149))); len(found) > 0 {
		t.Errorf("a look was taken though little was new: %v", found)
	}
	if found := j.Look(all(usual), all(bad(150))); len(found) == 0 {
		t.Error("no look was taken though half as much again was there")
	}
	narrow, n := did("/a", 400, 21, time.Millisecond), 0
	if len(watch.New(deploy.Limits{}, 1, true).Look(all(usual), all(narrow))) == 0 {
		t.Error("five times the errors are not found at the first look")
	}
	tired := watch.New(deploy.Limits{}, 1, true)
	for asked := uint64(20); asked < 260; asked = asked*3/2 + 1 {
		tired.Look(all(usual), all(did("/a", asked, 0, time.Millisecond)))
		n++
	}
	if len(tired.Look(all(usual), all(did("/a", 400, 13, time.Millisecond)))) > 0 {
		t.Errorf("after %d looks, a little is found as at the first", n)
	}
	if len(watch.New(deploy.Limits{}, 1, true).Look(all(usual), all(did("/a", 400, 13, time.Millisecond)))) == 0 {
		t.Error("at the first look, that little is not found")
	}
	if len(watch.New(deploy.Limits{}, 100, true).Look(all(usual), all(did("/a", 400, 13, time.Millisecond)))) > 0 {
		t.Error("in one of a hundred spans, that little is found as if it were the only one")
	}
}

// At the end of a span few requests are enough for what is no chance, and for nothing else; what was looked at is not looked at again.
func TestLast(t *testing.T) {
	before := did("/a", 2356, 17, time.Millisecond)
	for _, c := range []struct {
		requests, errors uint64
		worse            bool
	}{{10, 10, true}, {6, 6, true}, {10, 0, false}, {10, 1, false}, {1, 1, false}, {0, 0, false}} {
		if found := watch.New(deploy.Limits{}, 3, true).Last(all(before), all(did("/a", c.requests, c.errors, time.Millisecond))); (len(found) > 0) != c.worse {
			t.Errorf("%d of %d: %v", c.errors, c.requests, found)
		}
	}
	if found := watch.New(deploy.Limits{Errors: 5}, 3, true).Last(nil, all(did("/a", 10, 10, time.Millisecond))); len(found) == 0 {
		t.Error("beside nothing, the limit is not held")
	}
	j := watch.New(deploy.Limits{}, 1, true)
	if seen := all(did("/a", 100, 40, time.Millisecond)); len(j.Look(all(before), seen)) == 0 || len(j.Last(all(before), seen)) > 0 {
		t.Error("the same requests were looked at twice, or never")
	}
}

// What Lotse asked by itself is taken as it is.
func TestAlone(t *testing.T) {
	j := watch.New(deploy.Limits{Errors: 5, P95: time.Second}, 1, true)
	for name, c := range map[string]struct {
		asked deploy.Sample
		says  string
	}{
		"well":           {did("/", 20, 0, time.Millisecond), ""},
		"at the limit":   {did("/", 20, 1, time.Millisecond), ""},
		"over it":        {did("/", 20, 2, time.Millisecond), "api: GET /: errors 10 % in 20 requests, over the limit of 5 %"},
		"slow":           {did("/", 20, 0, 3*time.Second), "in 20 requests, over the limit of 1s"},
		"nothing at all": {did("/", 0, 0, 0), ""},
	} {
		var said []string
		for _, w := range j.Alone(all(c.asked)) {
			said = append(said, w.String())
		}
		if got := strings.Join(said, "\n"); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q in it", name, got, c.says)
		}
	}
}
