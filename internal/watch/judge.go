package watch

import (
	"fmt"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/latency"
)

const (
	allowed   = 0.005 // of equal releases, how many may be condemned in a whole rollout
	growth    = 1.5   // a look is taken when so many times the requests are there
	few       = 20    // requests of the new release without which nothing is looked at before the end
	rare      = 20    // an endpoint with fewer requests on either side is judged together with others, too
	slow      = 0.95  // the percentile of latency that is compared
	moreWrong = 0.005 // the smallest difference in errors that matters: half a percentage point
)

// The smallest difference in latency that matters: a part of what it was, and a time. Minutes that are not the same had another load, on
// this machine and on what the app asks, so that more is wanted there.
const (
	longer, longerBy           = 1.1, 20 * time.Millisecond
	longerSince, longerSinceBy = 1.5, 100 * time.Millisecond
)

// Judge judges one span of a rollout. It is a deploy.Judge; one goroutine uses it at a time.
type Judge struct {
	limits deploy.Limits
	beside bool    // both releases in the same minutes
	level  float64 // the error that this span may make
	looks  int
	seen   uint64 // requests at the last look
}

// New makes the judge of one of so many spans of a rollout. beside says that both releases are counted in the same minutes.
func New(limits deploy.Limits, spans int, beside bool) deploy.Judge {
	return &Judge{limits: limits, beside: beside, level: allowed / float64(max(1, spans))}
}

// Look implements deploy.Judge.
func (j *Judge) Look(old, young []deploy.Sample) []deploy.Worse {
	n := requests(young)
	if n < few || float64(n) < growth*float64(j.seen) {
		return nil // too little is new
	}
	return j.judge(old, young)
}

// Last implements deploy.Judge.
func (j *Judge) Last(old, young []deploy.Sample) []deploy.Worse {
	if requests(young) == j.seen {
		return nil // they were looked at
	}
	return j.judge(old, young)
}

func (j *Judge) judge(old, young []deploy.Sample) []deploy.Worse {
	j.seen = requests(young)
	j.looks++
	var asked []suspicion
	for _, p := range pair(old, young) {
		asked = append(asked, p.suspicions(j.beside)...)
	}
	for _, p := range byService(old, young) {
		asked = append(asked, p.overLimits(j.limits)...)
	}
	return holm(asked, j.level/float64(j.looks*(j.looks+1)))
}

// Alone implements deploy.Judge. There is no chance in what Lotse asks itself: the limits are taken as they are.
func (j *Judge) Alone(asked []deploy.Sample) (worse []deploy.Worse) {
	for _, s := range asked {
		p := pile{key: keyOf(s), young: s}
		if 100*rate(s) > j.limits.Errors {
			worse = append(worse, p.beyond(deploy.WorseErrors, percent(j.limits.Errors/100)))
		}
		if j.limits.P95 > 0 && p95(s) > j.limits.P95 {
			worse = append(worse, p.beyond(deploy.WorseLatency, shown(j.limits.P95)))
		}
	}
	return worse
}

// suspicion is one question, how likely its answer is by chance, and how much of the error that is allowed it gets: as much as it has of
// the requests, which do not depend on the answers.
type suspicion struct {
	chance, weight float64
	of             deploy.Worse
}

// suspicions asks both questions of a pair. What would not matter is asked, too, or the number of questions would depend on the answers.
func (p pile) suspicions(beside bool) []suspicion {
	part, by := longerSince, longerSinceBy
	if beside {
		part, by = longer, longerBy
	}
	weight := float64(p.young.Requests)
	errs := suspicion{1, weight, p.worse(deploy.WorseErrors)}
	if rate(p.young)-rate(p.old) >= moreWrong {
		errs.chance = drawn(p.young.Errors, p.young.Requests, p.old.Errors, p.old.Requests)
	}
	late := suspicion{1, weight, p.worse(deploy.WorseLatency)}
	if was, is := p95(p.old), p95(p.young); is-was >= by && float64(is) >= part*float64(was) {
		late.chance = slower(p.young.Latency, p.old.Latency)
	}
	return []suspicion{errs, late}
}

// slower is the chance that so many of the slow requests are the new one's.
func slower(young, old latency.Histogram) float64 {
	both := young.Add(old)
	at := latency.Bucket(both.Quantile(slow))
	least := 1.0
	for _, bound := range []int{at - 1, at} {
		least = min(least, drawn(above(young, bound), young.Sum(), above(old, bound), old.Sum()))
	}
	return min(1, 2*least)
}

// above is how many took longer than the bound of a bucket.
func above(h latency.Histogram, bucket int) (n uint64) {
	for i := bucket + 1; i < len(h); i++ {
		n += h[i]
	}
	return n
}

// overLimits asks whether a service is beyond the limits, by more than chance, and was not before.
func (p pile) overLimits(l deploy.Limits) (asked []suspicion) {
	weight := float64(p.young.Requests)
	if l.Errors > 0 && 100*rate(p.old) <= l.Errors {
		asked = append(asked, suspicion{atLeast(p.young.Errors, p.young.Requests, l.Errors/100), weight, p.beyond(deploy.WorseErrors, percent(l.Errors/100))})
	}
	if l.P95 > 0 && p95(p.old) <= l.P95 {
		late := above(p.young.Latency, latency.Bucket(l.P95))
		asked = append(asked, suspicion{atLeast(late, p.young.Latency.Sum(), 1-slow), weight, p.beyond(deploy.WorseLatency, shown(l.P95))})
	}
	return asked
}

func (p pile) worse(what deploy.WorseIn) deploy.Worse {
	w := deploy.Worse{Service: p.key.service, Method: p.key.method, Endpoint: p.key.endpoint, In: what,
		Is: percent(rate(p.young)), Was: percent(rate(p.old)), Requests: p.young.Requests, Before: p.old.Requests}
	if what == deploy.WorseLatency {
		w.Is, w.Was = shown(p95(p.young)), shown(p95(p.old))
	}
	return w
}

func (p pile) beyond(what deploy.WorseIn, limit string) deploy.Worse {
	w := p.worse(what)
	w.Was, w.Before, w.Limit = "", 0, limit
	return w
}

func percent(part float64) string { return fmt.Sprintf("%.3g %%", 100*part) }

func shown(d time.Duration) string { return latency.Rounded(d).String() }
