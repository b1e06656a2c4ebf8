package deploy

import (
	"context"
	"errors"
	"time"
)

const (
	longWait = time.Hour // when nothing is warm
	lookBack = 10 * time.Second
)

// retirement is what is warm no more on one stage, on its way out.
type retirement struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// retireWarm begins to stop what is warm no more, and returns when to look again.
func (c *Controller) retireWarm(ctx context.Context) time.Duration {
	next := longWait
	rollouts, err := c.rollouts(ctx, EventQuery{})
	if err != nil {
		c.Log.Error("warm releases could not be looked at", "error", err)
		return lookBack
	}
	going := goingOn(rollouts)
	for _, r := range append(settledOf(rollouts), overOf(rollouts)...) {
		if going[r.Stage] {
			continue // whoever walks the rollout looks after the stage
		}
		left, err := c.warmFor(ctx, r)
		if err != nil && ctx.Err() == nil {
			c.Log.Warn("a warm release could not be looked at, trying again", "stage", r.Stage.String(), "error", err)
			left = lookBack
		}
		if left <= 0 {
			c.retire(ctx, r)
			left = longWait // its end makes us look again
		}
		next = min(next, left)
	}
	return next
}

// warmFor is how long nothing has to be stopped on the stage of r: the release before is warm for a time, and what is older
// is not.
func (c *Controller) warmFor(ctx context.Context, r Rollout) (time.Duration, error) {
	engine := c.opened(r.Stage)
	if engine == nil || c.busy(r.Stage) {
		return longWait, nil
	}
	if r.Outcome == Over && !c.isFreed(r.Stage) {
		return 0, nil
	}
	running, err := engine.List(ctx)
	if err != nil {
		return 0, err
	}
	left := longWait
	for _, other := range running {
		switch other.Rollout {
		case r.instances():
		case r.Before:
			left = min(left, r.warmLeft())
		default:
			return 0, nil
		}
	}
	return left, nil
}

// warmLeft is how long the release before this one stays up. Wall clock times are compared, so that a clock that jumps ends a warm
// time early or late, and does no more.
func (r Rollout) warmLeft() time.Duration {
	if left := time.Until(r.Ended.Add(r.Warm)); left > 0 && left <= r.Warm {
		return left
	}
	return 0
}

// retire stops everything on the stage of r but r itself and what is warm, beside whatever else goes on: the drain may take its time.
func (c *Controller) retire(ctx context.Context, r Rollout) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active[r.Stage] != nil || c.retiring[r.Stage] != nil || c.shutFor[r.Stage] {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	way := &retirement{cancel, make(chan struct{})}
	joined := c.crew.Go(func() {
		defer cancel()
		err := c.stopWarm(ctx, r)
		c.mu.Lock()
		delete(c.retiring, r.Stage)
		c.mu.Unlock()
		close(way.ended)
		if err == nil || ctx.Err() != nil {
			c.look()
			return
		}
		c.Log.Warn("a warm release could not be stopped, trying again", "stage", r.Stage.String(), "error", err)
		if sleep(ctx, lookBack) == nil {
			c.look()
		}
	})
	if !joined {
		cancel()
		return
	}
	c.retiring[r.Stage] = way
}

func (c *Controller) stopWarm(ctx context.Context, r Rollout) error {
	lease, err := c.Ledger.Acquire(ctx, r.Stage, c.owner("warm"), leaseTTL, c.gone)
	if errors.Is(err, ErrBusy) {
		return nil // a rollout has come, and will look after them
	}
	if err != nil {
		return err
	}
	engine := c.opened(r.Stage)
	err = c.stopAllBut(ctx, r.Stage, engine, lease.Fence, r.Drain, r.wanted()...)
	if err == nil && r.Outcome == Over {
		err = c.free(ctx, r.Stage, engine, lease.Fence)
	}
	return errors.Join(err, c.Ledger.Release(context.WithoutCancel(ctx), lease))
}

// wanted are the rollouts that go on running when r was the last to settle on its stage.
func (r Rollout) wanted() []string {
	switch {
	case r.Outcome == Over:
		return nil
	case r.warmLeft() > 0:
		return []string{r.instances(), r.Before}
	}
	return []string{r.instances()}
}

// interrupt ends a retirement, so that a rollout need not wait for its drain. What is in flight goes on; the rollout's own
// settling takes the retirement up again, or the next look does where it goes back.
func (c *Controller) interrupt(ctx context.Context, stage StageRef) error {
	c.mu.Lock()
	way := c.retiring[stage]
	c.mu.Unlock()
	if way == nil {
		return nil
	}
	way.cancel()
	select {
	case <-way.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
