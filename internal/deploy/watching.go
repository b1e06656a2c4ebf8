package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

const (
	lookEvery   = 5 * time.Second
	lastMinutes = 10 * time.Minute // of the release before, that a release is judged beside after the shift
	longestPart = 10 * time.Minute // of a span, that is judged at once
)

// span is one stretch of time in which a release is watched with one share of the traffic.
type span struct {
	w       *walk
	name    string    // goes on from "the release"
	from    time.Time // when it had that share
	judge   Judge     // nil: health decides alone
	sampler Sampler   // nil: the engine counts nothing by release, or nobody wants to know
	last    []Sample  // of the release before, of its last minutes; nil: it is judged by the same minutes
	next    time.Time

	old, young         []Sample // as last counted
	oldPast, youngPast []Sample // of the parts before, where the span is long
	failed             error    // why they were not counted, the last time
}

// span begins one. last is what the release before did in its last minutes, nil in a canary.
func (w *walk) span(name string, from time.Time, last []Sample) *span {
	s := &span{w: w, name: name, last: last}
	if w.c.Judge != nil {
		s.sampler = w.sampler()
	}
	s.begin(from)
	return s
}

// begin begins a part of it. Engines remember the last quarter of an hour, so a long span has parts, each with a judge of its own.
func (s *span) begin(from time.Time) {
	now := time.Now()
	s.from = earliest(latest(from, now.Add(-longestPart)), now)
	s.youngPast = append(s.youngPast, s.young...)
	if s.last == nil {
		s.oldPast = append(s.oldPast, s.old...)
	}
	s.old, s.young = s.last, nil
	if s.w.c.Judge == nil || s.w.Verb == RolledBack { // who goes back does so for a reason, and what would be gone back to is that reason
		return
	}
	parts := partsOf(s.w.stage.Watch)
	for _, c := range s.w.stage.Canary {
		parts += partsOf(c.Bake)
	}
	s.judge = s.w.c.Judge(s.w.stage.Limits, parts, s.last == nil)
}

func partsOf(window time.Duration) int { return int(window/longestPart) + 1 }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earliest is a, or now where a clock that was set back since has a in the future.
func earliest(a, now time.Time) time.Time {
	if now.Before(a) {
		return now
	}
	return a
}

// observe watches the release for a time: its health is asked all through, and what clients were answered is judged again and again. At
// the end, Lotse asks by itself where clients asked too little.
func (w *walk) observe(ctx context.Context, s *span, window time.Duration) error {
	begun := time.Now()
	if lag := w.engine.Facts().Lag; s.sampler != nil && window >= lag {
		window += lag // what was asked at its end is to be counted, too; where little of it would be, Lotse asks by itself
	}
	asked, err := w.askThrough(ctx, window, s.look)
	overtaken := errors.Is(context.Cause(ctx), errOvertaken)
	health := Evidence{Probe: "watch", Figure: fmt.Sprintf("%d answers in %s", asked, since(begun))}
	if overtaken {
		health.Figure += ", ended early by a newer rollout"
		err = nil
	}
	w.prove(health)
	if window > 0 && err == nil && !overtaken {
		s.next = time.Time{}
		err = s.look(ctx)
	}
	s.prove()
	if s.judge == nil || window <= 0 || err != nil || overtaken {
		return err
	}
	if err := s.condemn(s.judge.Last(s.old, s.young)); err != nil { // before Lotse's own requests could cover what few clients met
		return err
	}
	return s.askTooFew(ctx)
}

// look judges what was counted until now. That it cannot be counted right now says nothing of the release.
func (s *span) look(ctx context.Context) error {
	if s.sampler == nil || time.Now().Before(s.next) {
		return nil
	}
	now := time.Now()
	s.next, s.from = now.Add(lookEvery), earliest(s.from, now)
	all, err := s.w.samples(ctx, s.sampler, s.from, now)
	if s.failed = err; err != nil {
		if ctx.Err() == nil {
			s.w.c.Log.Warn("what clients were answered cannot be counted right now", "rollout", s.w.ID, "error", err)
		}
		return nil
	}
	s.young, s.old = of(all, s.w.instances()), s.last
	if s.last == nil {
		s.old = of(all, s.w.Before)
	}
	if s.judge != nil {
		err = s.condemn(s.judge.Look(s.old, s.young))
	}
	if time.Since(s.from) >= longestPart {
		s.begin(time.Now())
	}
	return err
}

func (s *span) condemn(worse []Worse) error {
	if len(worse) == 0 {
		return nil
	}
	return &RegressionError{Worse: worse, Span: s.name}
}

// lastMinutes is what the release before did before it lost the traffic; not nil.
func (w *walk) lastMinutes(ctx context.Context) []Sample {
	if w.last != nil {
		return w.last
	}
	sampler := w.sampler()
	if sampler == nil || w.c.Judge == nil || w.Before == "" {
		return []Sample{}
	}
	until := earliest(w.shifted(), time.Now())
	all, err := w.samples(ctx, sampler, until.Add(-lastMinutes), until)
	if err != nil && ctx.Err() == nil {
		w.c.Log.Warn("what the release before did cannot be counted", "rollout", w.ID, "error", err)
	}
	return append([]Sample{}, of(all, w.Before)...)
}

// shifted is when the release got all of the traffic.
func (w *walk) shifted() time.Time {
	if last := len(w.Canary) - 1; last >= 0 {
		return w.Canary[last].Began.Add(w.Canary[last].Took)
	}
	for _, s := range slices.Backward(w.Steps) {
		if s.Name == "shift" {
			return s.Began
		}
	}
	return time.Now()
}

// sampler is nil where nothing is counted by release.
func (w *walk) sampler() Sampler {
	if w.engine.Facts().Sampling == 0 {
		return nil
	}
	sampler, _ := w.c.opened(w.Stage).(Sampler)
	return sampler
}

func (w *walk) samples(ctx context.Context, from Sampler, since, until time.Time) (all []Sample, err error) {
	err = within(ctx, quickVerb, "samples", func(ctx context.Context) error { all, err = from.Samples(ctx, since, until); return err })
	return all, err
}

func of(all []Sample, rollout string) (some []Sample) {
	for _, s := range all {
		if s.Rollout == rollout {
			some = append(some, s)
		}
	}
	return some
}

// total sums what one service did.
func total(all []Sample, service string) (t Sample) {
	for _, s := range all {
		if s.Service == service {
			t.Requests, t.Errors, t.Latency = t.Requests+s.Requests, t.Errors+s.Errors, t.Latency.Add(s.Latency)
		}
	}
	return t
}

// prove says what clients were answered, for each service that answers requests.
func (s *span) prove() {
	if s.sampler == nil {
		return
	}
	if s.failed != nil {
		s.w.prove(Evidence{Probe: "traffic", Figure: "could not be counted"})
		return
	}
	beside := "its last minutes"
	if s.last == nil {
		beside = "the same minutes"
	}
	for _, service := range s.w.app.answering() {
		young, old := total(slices.Concat(s.youngPast, s.young), service.Name), total(slices.Concat(s.oldPast, s.old), service.Name)
		figure := fmt.Sprintf("%s: %s", service.Name, told(young))
		switch {
		case young.Requests == 0:
		case s.judge == nil && old.Requests == 0:
		case old.Requests == 0:
			figure += "; by fixed limits alone, since nothing of a release before can be set beside it"
		default:
			figure += fmt.Sprintf("; the release before, in %s: %s", beside, told(old))
		}
		if s.judge == nil {
			figure += "; nothing is judged by that: it was gone back to"
		}
		s.w.prove(Evidence{Probe: "traffic", Figure: figure})
	}
}

// told is how a service did: 4210 requests, 0.9 % errors, p95 210ms.
func told(s Sample) string {
	if s.Requests == 0 {
		return "no requests"
	}
	return fmt.Sprintf("%d requests, %.3g %% errors, p95 up to %s", s.Requests, 100*float64(s.Errors)/float64(s.Requests), latency.Rounded(s.Latency.Quantile(0.95)))
}

// answering are the services that answer requests.
func (a App) answering() (some []Service) {
	for _, s := range a.Services {
		if !s.Worker() {
			some = append(some, s)
		}
	}
	return some
}

// askTooFew makes requests of its own to the services that clients asked less than the floor, and judges them by fixed limits: no
// traffic never means yes.
func (s *span) askTooFew(ctx context.Context) error {
	var made []Sample
	for _, service := range s.w.app.answering() {
		seen := total(slices.Concat(s.youngPast, s.young), service.Name).Requests
		if seen >= uint64(s.w.stage.Limits.Requests) {
			continue
		}
		mine, err := s.w.ask(ctx, service, s.w.stage.Limits.Requests-int(seen))
		if err != nil {
			return err
		}
		made = append(made, mine...)
		s.w.prove(Evidence{Probe: "synthetic", Figure: fmt.Sprintf("%s: fewer than %d requests of clients, so Lotse made its own to %s: %s; by fixed limits",
			service.Name, s.w.stage.Limits.Requests, places(mine), told(total(mine, service.Name)))})
	}
	return s.condemn(s.judge.Alone(made))
}

func places(all []Sample) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Endpoint)
	}
	return strings.Join(names, " and ")
}

func newSample(service, path string) Sample {
	return Sample{Service: service, Method: "GET", Endpoint: path, Latency: make(latency.Histogram, latency.Buckets)}
}
