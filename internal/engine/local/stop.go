package local

import (
	"context"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// leastGrace is what an instance gets between SIGTERM and SIGKILL though the time to drain is over.
const leastGrace = 2 * time.Second

// Stop implements deploy.Engine.
func (e *Engine) Stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	return e.failed("stop "+rollout, e.stop(ctx, fence, rollout, drain))
}

func (e *Engine) stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	e.abort(rollout)
	unlock, err := e.lock(ctx, lockOf(rollout))
	if err != nil {
		return err
	}
	defer unlock()
	n, err := e.readNote(rollout)
	if err != nil || n == nil {
		return err
	}
	if err := e.keepFiles(ctx, n); err != nil {
		return err
	}
	was := n.Phase
	n.Phase = stopping
	if err := e.writeNote(n); err != nil {
		return err
	}
	// Out of the table first: from here on the rollout gets no new request, and what it has is counted by the drain.
	if err := e.publish(ctx, fence, without(rollout)); err != nil {
		if was == up && ctx.Err() == nil {
			n.Phase = up // nothing was changed
			_ = e.writeNote(n)
		}
		return err
	}
	e.forget(rollout)
	if err := e.drain(ctx, n, drain); err != nil {
		return err
	}
	return e.remove(ctx, n, leastGrace)
}

// without gives the rollout's traffic to whoever had it before.
func without(rollout string) func(map[string]int, string) (map[string]int, error) {
	return func(now map[string]int, last string) (map[string]int, error) {
		if now[rollout] == 0 {
			return now, nil
		}
		next, err := deploy.Shares(now, last, rollout, 0)
		next = maps.Clone(next)
		delete(next, rollout)
		return next, err
	}
}

// drain lets requests finish and, at the same time, workers what they are at.
func (e *Engine) drain(ctx context.Context, n *note, drain time.Duration) error {
	var workers, others []instance
	for _, i := range e.instances(n) {
		if i.service.Worker() {
			workers = append(workers, i)
		} else {
			others = append(others, i)
		}
	}
	deadline := time.Now().Add(drain)
	var group errgroup.Group
	group.Go(func() error {
		return e.endProcesses(ctx, workers, func(instance) time.Duration { return max(drain, leastGrace) })
	})
	group.Go(func() error {
		if _, err := e.Proxy.Drain(ctx, e.key(), n.Rollout, drain); err != nil {
			return err
		}
		return e.endProcesses(ctx, others, func(instance) time.Duration { return max(time.Until(deadline), leastGrace) })
	})
	return group.Wait()
}

// End implements deploy.Ends: the address of the stage is free for others. Volumes and the database stay.
func (e *Engine) End(ctx context.Context, fence deploy.Fence) error {
	err := e.admit(ctx, fence)
	if err == nil {
		err = e.Proxy.Remove(ctx, e.key(), int64(fence))
	}
	if err == nil {
		err = e.dropOld(ctx, true)
	}
	return e.failed("end", err)
}
