package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Strategy is how a stage goes from one release to the next.
type Strategy string

// The strategies.
const (
	BlueGreen Strategy = "blue-green" // beside the old one, then all traffic at once; also where nothing is said
	Canary    Strategy = "canary"     // beside the old one, then shares of the traffic, each for a time
	Recreate  Strategy = "recreate"   // the old one is stopped before the new one starts, for what cannot run twice
)

// CanaryStep is a share of the traffic, and how long the release is watched with it.
type CanaryStep struct {
	Share int // percent, 1 to 99
	Bake  time.Duration
}

// Baked is a step of a canary as it went. All services of a release have the same share.
type Baked struct {
	Share    int           `json:"share"`
	Began    time.Time     `json:"began"` // when it had that share
	Took     time.Duration `json:"took,omitempty"`
	Ended    bool          `json:"ended"`
	Evidence []Evidence    `json:"evidence,omitempty"`
}

// KindCanary is an event of the step shift: the release has a share, or was watched with it to the end.
const KindCanary = "canary"

type canaryData struct {
	Share    int           `json:"share"`
	Ended    bool          `json:"ended,omitempty"`
	Took     time.Duration `json:"took,omitempty"`
	Evidence []Evidence    `json:"evidence,omitempty"`
}

func (r *Rollout) foldCanary(e Event, d canaryData) {
	i := slices.IndexFunc(r.Canary, func(b Baked) bool { return b.Share == d.Share })
	if i < 0 {
		r.Canary = append(r.Canary, Baked{Share: d.Share, Began: e.At})
		return
	}
	if d.Ended {
		b := &r.Canary[i]
		b.Ended, b.Took, b.Evidence = true, d.Took, d.Evidence
	}
}

// ableTo refuses a strategy that the platform cannot do.
func (s Stage) ableTo(f Facts) error {
	if s.Strategy == Canary && !f.Shares {
		return Hint(fmt.Errorf("%w: %s wants a canary, and %s, which carries its requests, gives all of them or none to a release", ErrUnsupported, s.Name, f.Carries),
			"take strategy out, or write strategy: blue-green")
	}
	return nil
}

// shift gives the release the traffic: at once, or by the steps of a canary. A first release has nobody to share with, and who goes back
// leaves what is served now at once.
func shift(ctx context.Context, w *walk) error {
	if err := w.rememberOld(ctx); err != nil {
		return err
	}
	if w.stage.Strategy == Canary && w.Before != "" && w.Verb != RolledBack {
		for _, s := range w.stage.Canary {
			if err := w.bake(ctx, s); err != nil {
				return err
			}
		}
	}
	return w.engine.Shift(ctx, w.lease.Fence, w.instances(), 100)
}

// bake gives the release a share and watches it, beside the one before in the same minutes. One that a controller before this one had
// begun is gone on with, and one that it had ended is passed over.
func (w *walk) bake(ctx context.Context, s CanaryStep) error {
	i := slices.IndexFunc(w.Canary, func(b Baked) bool { return b.Share == s.Share })
	if i >= 0 && w.Canary[i].Ended {
		return nil
	}
	if err := w.engine.Shift(ctx, w.lease.Fence, w.instances(), s.Share); err != nil {
		return err
	}
	if i < 0 {
		if err := w.write(ctx, Event{Kind: KindCanary, Data: data(canaryData{Share: s.Share})}); err != nil {
			return err
		}
		i = len(w.Canary) - 1
	}
	before, began := w.evidence, w.Canary[i].Began
	w.evidence = nil
	left := min(s.Bake, max(healthEvery, time.Until(began.Add(s.Bake)))) // also when the clock was set back
	err := w.observe(ctx, w.span(fmt.Sprintf("with %d %% of the traffic", s.Share), began, nil), left)
	if err != nil {
		return err
	}
	baked := w.evidence
	w.evidence = before
	return w.write(ctx, Event{Kind: KindCanary, Data: data(canaryData{Share: s.Share, Ended: true, Took: time.Since(began), Evidence: baked})})
}

// besideOld reports whether old and new may run at once.
func besideOld(_ context.Context, w *walk) (bool, error) { return w.stage.Strategy != Recreate, nil }

// longestGap is how long requests wait for a release that had to be stopped before the next could start: the time after which clients and
// balancers give up.
const longestGap = time.Minute

// clearStage stops everything else on the stage, what serves last. Until the release has started, requests wait where the engine can have
// them wait, and are answered 503 with Retry-After beyond that.
func clearStage(ctx context.Context, w *walk) error {
	if err := w.rememberOld(ctx); err != nil {
		return err
	}
	running, err := w.engine.List(ctx)
	if err != nil {
		return err
	}
	w.last = w.lastMinutes(ctx)
	w.holdBack(ctx)
	slices.SortStableFunc(running, func(a, b Running) int { return a.Share - b.Share })
	for _, r := range running {
		if r.Rollout == w.instances() {
			continue
		}
		if err := w.engine.Stop(ctx, w.lease.Fence, r.Rollout, w.Drain); err != nil {
			return fmt.Errorf("stopping %s: %w", r.Rollout, err)
		}
		if err := w.write(ctx, Event{Kind: KindCleared, Release: r.Release, Data: data(stoppedData{Rollout: r.Rollout})}); err != nil {
			return err
		}
	}
	return nil
}

// KindCleared is the event of a release that was stopped so that the next could start.
const KindCleared = "cleared"

// bringBack starts the release that clearStage has stopped, with the settings that the stage has now, and gives it the traffic.
func bringBack(ctx context.Context, w *walk) error {
	if w.Before == "" {
		return nil
	}
	order, err := w.c.orderOf(ctx, w.Before)
	if err != nil {
		return err
	}
	if err := w.engine.Start(ctx, w.lease.Fence, order); err != nil {
		return err
	}
	if err := w.engine.Shift(ctx, w.lease.Fence, w.Before, 100); err != nil {
		return err
	}
	w.letGo(ctx)
	return nil
}

// holdBack has requests wait. Where they cannot, they are told to come back, which is no miss.
func (w *walk) holdBack(ctx context.Context) {
	w.held(ctx, "hold", func(ctx context.Context, h Holder) error {
		return h.Hold(ctx, w.lease.Fence, Bounds{For: longestGap, Requests: holdRequests, Bytes: holdBytes})
	})
}

// letGo ends what holdBack began. A hold also ends by itself.
func (w *walk) letGo(ctx context.Context) {
	w.held(ctx, "ending the hold", func(ctx context.Context, h Holder) error { return h.EndHold(ctx, w.lease.Fence) })
}

func (w *walk) held(ctx context.Context, what string, do func(context.Context, Holder) error) {
	holder, ok := w.c.opened(w.Stage).(Holder)
	if !ok || w.stage.Strategy != Recreate || w.Before == "" {
		return
	}
	err := within(ctx, quickVerb, what, func(ctx context.Context) error { return do(ctx, holder) })
	if err != nil && ctx.Err() == nil {
		w.c.Log.Warn("requests do not wait for the release, and are answered 503 until it has started", "rollout", w.ID, "error", err)
	}
}

// orderOf is what an engine was told, and is told again, about a rollout that has settled.
func (c *Controller) orderOf(ctx context.Context, id string) (Order, error) {
	r, err := c.rollout(ctx, id)
	if err != nil {
		return Order{}, err
	}
	w := c.newWalk(id)
	w.Rollout = r
	if err := c.reequip(ctx, w); err != nil {
		return Order{}, err
	}
	return w.again(ctx)
}

// again makes the order of a rollout that was equipped anew.
func (w *walk) again(ctx context.Context) (o Order, err error) {
	if w.source, err = w.c.Builder.Release(ctx, w.Release); err != nil {
		return o, err
	}
	if err := w.fit(ctx, func(StepEvidence) {}); err != nil { // what was written about it stays
		return o, err
	}
	return w.order(), nil
}

// shiftBack gives the traffic to the release before. Where that was stopped, or never was, nobody has traffic then.
func shiftBack(ctx context.Context, w *walk) error {
	if w.Before != "" && w.stage.Strategy != Recreate {
		return w.engine.Shift(ctx, w.lease.Fence, w.Before, 100)
	}
	err := w.engine.Shift(ctx, w.lease.Fence, w.instances(), 0)
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnhealthy) {
		return nil // it is gone already; stopping it takes its routes away
	}
	return err
}
