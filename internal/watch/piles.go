package watch

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/latency"
)

// key names what is compared. Without an endpoint it is what is rare in a service, or all of it.
type key struct{ service, method, endpoint string }

func keyOf(s deploy.Sample) key { return key{s.Service, s.Method, s.Endpoint} }

// pile is what both releases did at one place.
type pile struct {
	key        key
	old, young deploy.Sample
}

// pair puts together what is to be compared: endpoints that both releases answered, and the rare ones of each service together. What the
// release before never answered is compared with nothing.
func pair(old, young []deploy.Sample) (pairs []pile) {
	rest := map[string]*pile{}
	for _, p := range gathered(old, young, keyOf) {
		if p.old.Requests == 0 {
			continue
		}
		if p.young.Requests > 0 {
			pairs = append(pairs, p)
		}
		if p.old.Requests >= rare && p.young.Requests >= rare {
			continue
		}
		r := rest[p.key.service]
		if r == nil {
			r = &pile{key: key{service: p.key.service}}
			rest[p.key.service] = r
		}
		r.old, r.young = sum(r.old, p.old), sum(r.young, p.young)
	}
	for _, r := range rest {
		if r.young.Requests > 0 {
			pairs = append(pairs, *r)
		}
	}
	return pairs
}

func byService(old, young []deploy.Sample) []pile {
	return gathered(old, young, func(s deploy.Sample) key { return key{service: s.Service} })
}

// gathered sums samples by what by makes of them, in the order of names.
func gathered(old, young []deploy.Sample, by func(deploy.Sample) key) []pile {
	piles := map[key]pile{}
	for _, s := range old {
		p := piles[by(s)]
		p.key, p.old = by(s), sum(p.old, s)
		piles[p.key] = p
	}
	for _, s := range young {
		p := piles[by(s)]
		p.key, p.young = by(s), sum(p.young, s)
		piles[p.key] = p
	}
	all := make([]pile, 0, len(piles))
	for _, p := range piles {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pile) int {
		return cmp.Or(strings.Compare(a.key.service, b.key.service), strings.Compare(a.key.endpoint, b.key.endpoint), strings.Compare(a.key.method, b.key.method))
	})
	return all
}

func sum(a, b deploy.Sample) deploy.Sample {
	a.Requests, a.Errors, a.Latency = a.Requests+b.Requests, a.Errors+b.Errors, a.Latency.Add(b.Latency)
	return a
}

func requests(all []deploy.Sample) (n uint64) {
	for _, s := range all {
		n += s.Requests
	}
	return n
}

func rate(s deploy.Sample) float64 {
	return float64(s.Errors) / math.Max(1, float64(s.Requests))
}

// p95 is the 95th percentile, with a straight line through the logarithms within its bucket: a whole bucket is 19 % wide.
func p95(s deploy.Sample) time.Duration {
	rank, seen := slow*float64(s.Latency.Sum()), 0.0
	for i, c := range s.Latency {
		if c > 0 && seen+float64(c) >= rank {
			within := (rank - seen) / float64(c)
			return time.Duration(float64(latency.Bound(i)) * math.Pow(2, (within-1)/4))
		}
		seen += float64(c)
	}
	return 0
}
