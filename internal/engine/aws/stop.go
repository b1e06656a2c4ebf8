package aws

import (
	"context"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Stop implements deploy.Engine.
func (e *Engine) Stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	return e.failed(ctx, "stop "+rollout, e.stop(ctx, fence, rollout, drain))
}

func (e *Engine) stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	e.abort(rollout)
	unlock, err := e.rollouts.lock(ctx, rollout)
	defer unlock()
	if err != nil {
		return err
	}
	v, err := e.find(ctx, rollout)
	if err != nil {
		return err
	}
	if v != nil && v.ready() {
		if err := e.withdraw(ctx, fence, rollout); err != nil {
			return err
		}
		if err := e.awaitSwitch(ctx, rollout); err != nil {
			return err
		}
		if err := e.drain(ctx, *v, drain); err != nil {
			return err
		}
	}
	return e.remove(ctx, fence, rollout, false) // also without an environment: whoever died before it was created has left a version
}

// withdraw gives the traffic of a rollout to whoever had it before.
func (e *Engine) withdraw(ctx context.Context, fence deploy.Fence, rollout string) error {
	e.site.Lock()
	defer e.site.Unlock()
	all, err := e.environments(ctx)
	if err != nil {
		return err
	}
	now, err := e.lb.shares(ctx, all)
	if err != nil || now[rollout] == 0 {
		return err
	}
	return e.give(ctx, fence, all, now, rollout, 0)
}

// drain lets what is in flight finish. A front that does not answer has nothing that could finish.
func (e *Engine) drain(ctx context.Context, v environment, drain time.Duration) error {
	ids, err := e.machinesOf(ctx, v)
	if err != nil {
		return err
	}
	_, err = e.order(ctx, ids, lotseThere+" front drain --for "+drain.String(), drain+e.Timing.Command)
	return err
}

// awaitSwitch waits until nobody can send new requests to a rollout that has lost its traffic: not all nodes of a balancer, and not all
// resolvers, know at once.
func (e *Engine) awaitSwitch(ctx context.Context, rollout string) error {
	s, _, err := e.readState(ctx)
	if err != nil || s.Last != rollout {
		return err
	}
	left := e.Facts().Switch - e.Now().Sub(s.At)
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
