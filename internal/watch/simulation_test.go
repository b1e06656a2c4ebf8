package watch_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/latency"
	"github.com/lotse-eu/lotse/internal/watch"
)

var limits = deploy.Limits{Errors: 5, Requests: 50}

// app is a simulated one: endpoints with a share of the requests, errors, and a latency that is lognormal, as latencies nearly are.
type app []endpoint

type endpoint struct {
	service, path string
	weight        float64
	errors        float64
	median        time.Duration
	spread        float64 // of the logarithm
	tail          float64 // so many requests take later longer
	later         time.Duration
}

// shop has endpoints that are asked all the time and ones that are hardly ever.
func shop() app {
	a := app{
		{service: "site", path: "/", weight: 30, errors: 0.0005, median: 2 * time.Millisecond, spread: 0.3},
		{service: "api", path: "/api/orders", weight: 20, errors: 0.01, median: 80 * time.Millisecond, spread: 0.7},
		{service: "api", path: "/api/search", weight: 10, errors: 0.002, median: 250 * time.Millisecond, spread: 0.9},
	}
	for i := range 40 {
		a = append(a, endpoint{service: "api", path: fmt.Sprintf("/api/rare/%c%c", 'a'+i/26, 'a'+i%26), weight: 20 / float64(1+i), errors: 0.01 * float64(i%4), median: 40 * time.Millisecond, spread: 1})
	}
	return a
}

// but changes the endpoint that stands second, which has a tenth of the requests or so.
func (a app) but(change func(*endpoint)) app {
	b := slices.Clone(a)
	change(&b[1])
	return b
}

func (e endpoint) took(r *rand.Rand) time.Duration {
	d := time.Duration(float64(e.median) * math.Exp(e.spread*r.NormFloat64()))
	if r.Float64() < e.tail {
		d += e.later
	}
	return d
}

// counts is what a release did, as an engine counts it.
type counts struct {
	app   app
	sums  []float64 // of weights
	each  []deploy.Sample
	total int
}

func newCounts(a app) *counts {
	c := &counts{app: a}
	sum := 0.0
	for _, e := range a {
		sum += e.weight
		c.sums = append(c.sums, sum)
		c.each = append(c.each, deploy.Sample{Service: e.service, Method: "GET", Endpoint: e.path, Latency: make(latency.Histogram, latency.Buckets)})
	}
	return c
}

func (c *counts) ask(r *rand.Rand) {
	i, _ := slices.BinarySearch(c.sums, r.Float64()*c.sums[len(c.sums)-1])
	s := &c.each[i]
	s.Requests++
	c.total++
	if r.Float64() < c.app[i].errors {
		s.Errors++
	}
	s.Latency[latency.Bucket(c.app[i].took(r))]++
}

func (c *counts) samples() []deploy.Sample {
	return slices.DeleteFunc(slices.Clone(c.each), func(s deploy.Sample) bool { return s.Requests == 0 })
}

// rollout is one whole rollout: the steps of a canary and the watch behind it, so many requests in each, looked at twenty times in each.
// It returns how many requests the new release had had when it was condemned, and what for; 0 where it never was.
func rollout(r *rand.Rand, old, young app, shares []float64, each int) (int, []deploy.Worse) {
	asked := 0
	last := newCounts(old)
	for _, share := range append(slices.Clone(shares), 1) {
		judge, a, b := watch.New(limits, len(shares)+1, true), newCounts(old), newCounts(young)
		if share == 1 {
			a = last
		}
		for range 20 {
			for range each / 20 {
				if r.Float64() < share {
					b.ask(r)
					asked++
				} else {
					a.ask(r)
				}
			}
			if worse := judge.Look(a.samples(), b.samples()); len(worse) > 0 {
				return asked, worse
			}
		}
		if worse := judge.Last(a.samples(), b.samples()); len(worse) > 0 {
			return asked, worse
		}
		last = a
	}
	return 0, nil
}

// runs is how many rollouts a test simulates: enough to see a fault, and for a proof, all.
func runs(t *testing.T, few, many int) int {
	t.Helper()
	if os.Getenv("LOTSE_PROVE") != "" {
		return many
	}
	return few
}

var canary = []float64{0.05, 0.25}

// What is as good as the one before is condemned in fewer than 1 of 100 whole rollouts, over all looks, steps and endpoints.
func TestEqualReleasesPass(t *testing.T) {
	for _, each := range []int{2_000, runs(t, 5_000, 20_000)} {
		r, condemned, n := rand.New(rand.NewPCG(1, uint64(each))), 0, runs(t, 40, 2_000)
		for range n {
			if _, worse := rollout(r, shop(), shop(), canary, each); len(worse) > 0 {
				condemned++
				t.Logf("condemned: %v", worse)
			}
		}
		t.Logf("%d requests at each step: %d of %d equal releases condemned", each, condemned, n)
		if condemned*100 >= n {
			t.Errorf("%d of %d equal releases were condemned, want fewer than 1 in 100", condemned, n)
		}
	}
}

// The two that must be caught, and some more. Requests needed are those that the new release answered until it was condemned, on the
// endpoint that is worse about a seventh of them.
func TestWorseReleasesAreCaught(t *testing.T) {
	for _, worse := range []struct {
		name string
		app  app
		in   deploy.WorseIn
	}{
		{"errors 1 % -> 4 % on one endpoint", shop().but(func(e *endpoint) { e.errors = 0.04 }), deploy.WorseErrors},
		{"one endpoint 200 ms slower throughout", shop().but(func(e *endpoint) { e.tail, e.later = 1, 200*time.Millisecond }), deploy.WorseLatency},
		{"one endpoint 200 ms slower at p95, its median as before", shop().but(func(e *endpoint) { e.tail, e.later = 0.09, 320*time.Millisecond }), deploy.WorseLatency},
		{"one endpoint fails always", shop().but(func(e *endpoint) { e.errors = 1 }), deploy.WorseErrors},
	} {
		t.Run(worse.name, func(t *testing.T) {
			r, n := rand.New(rand.NewPCG(2, 3)), runs(t, 10, 300)
			var needed []int
			named := 0
			for range n {
				asked, found := rollout(r, shop(), worse.app, canary, 40_000)
				if len(found) == 0 {
					continue
				}
				if found[0].In != worse.in || found[0].Endpoint != "/api/orders" && found[0].Endpoint != "" {
					t.Errorf("condemned for %v", found)
				}
				if found[0].Endpoint != "" { // else it is among the rare ones still
					named++
				}
				needed = append(needed, asked)
			}
			slices.Sort(needed)
			if len(needed)*100 < 99*n {
				t.Fatalf("%d of %d were caught", len(needed), n)
			}
			if named*100 < 95*n {
				t.Errorf("its endpoint was named in %d of %d", named, n)
			}
			t.Logf("%d of %d caught; requests needed: median %d, 9 in 10 by %d, at most %d", len(needed), n, needed[len(needed)/2], needed[len(needed)*9/10], needed[len(needed)-1])
		})
	}
}
