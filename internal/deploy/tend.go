package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// tend does what no rollout waits for: it ends warm releases in time, and runs jobs, until ctx ends.
func (c *Controller) tend(ctx context.Context) {
	defer c.jobs.stop()
	for {
		next := c.retireWarm(ctx)
		c.contract(ctx)
		if err := c.schedule(ctx); err != nil && ctx.Err() == nil {
			c.Log.Error("jobs could not be scheduled", "error", err)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look makes tend look again.
func (c *Controller) look() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
	c.lookAtData()
}

// stopAllBut stops every rollout of the stage that is not named, and writes it down.
func (c *Controller) stopAllBut(ctx context.Context, ref StageRef, engine Engine, fence Fence, drain time.Duration, keep ...string) error {
	running, err := engine.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range running {
		if slices.Contains(keep, r.Rollout) {
			continue
		}
		if err := engine.Stop(ctx, fence, r.Rollout, drain); err != nil {
			return fmt.Errorf("stopping %s: %w", r.Rollout, err)
		}
		e := Event{Kind: KindStopped, App: ref.App, Stage: ref.Stage, Release: r.Release, Data: data(stoppedData{Rollout: r.Rollout})}
		if _, err := c.Ledger.Append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

type stoppedData struct {
	Rollout string `json:"rollout"`
}

// settledNow returns the last settled rollout of each stage.
func (c *Controller) settledNow(ctx context.Context) ([]Rollout, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{})
	return settledOf(rollouts), err
}

func settledOf(rollouts []Rollout) (now []Rollout) {
	for _, r := range rollouts {
		if r.Outcome != Settled {
			continue
		}
		now = slices.DeleteFunc(now, func(o Rollout) bool { return o.Stage == r.Stage })
		now = append(now, r)
	}
	return now
}

func (c *Controller) rollouts(ctx context.Context, q EventQuery) ([]Rollout, error) {
	events, err := c.Ledger.Events(ctx, q)
	if err != nil {
		return nil, err
	}
	return fold(events)
}

func (c *Controller) rollout(ctx context.Context, id string) (Rollout, error) {
	events, err := c.Ledger.Events(ctx, EventQuery{Rollout: id})
	if err != nil {
		return Rollout{}, err
	}
	return one(id, events)
}

func one(id string, events []Event) (Rollout, error) {
	rollouts, err := fold(events)
	if err == nil && len(rollouts) == 0 {
		err = Hint(fmt.Errorf("%w: no rollout %q", ErrNotFound, id), "`lotse history` lists them")
	}
	if err != nil {
		return Rollout{}, err
	}
	return rollouts[0], nil
}

func (c *Controller) opened(ref StageRef) Engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engines[ref]
}

func (c *Controller) busy(ref StageRef) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active[ref] != nil || c.shutFor[ref]
}

// releasesKept is how many settled releases of a stage stay in the depot.
const releasesKept = 5

// prune makes room: the last releases of every stage, and those under way, are kept.
func (c *Controller) prune() {
	rollouts, err := c.rollouts(c.base, EventQuery{})
	if err != nil {
		return // the controller is being ended
	}
	c.pruneVisits(rollouts)
	kept := map[StageRef]map[Digest]bool{}
	var keep []Digest
	for _, r := range slices.Backward(rollouts) {
		of := kept[r.Stage]
		if of == nil {
			of = map[Digest]bool{}
			kept[r.Stage] = of
		}
		wanted := !r.Outcome.Ended() || r.Outcome == Settled && len(of) < releasesKept
		if r.Release != "" && wanted && !of[r.Release] {
			of[r.Release] = true
			keep = append(keep, r.Release)
		}
	}
	if err := c.Builder.Prune(c.base, keep); err != nil && c.base.Err() == nil {
		c.Log.Warn("old releases could not be pruned", "error", err)
	}
}
