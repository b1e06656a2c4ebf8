package memory

import (
	"context"
	"errors"
	"fmt"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Task implements deploy.Tasks.
func (e *Engine) Task(ctx context.Context, rollout, name, command string, _ []deploy.VolumeMount) error {
	return e.meet(ctx, Task, func(ctx context.Context) error {
		w := e.world
		w.mu.Lock()
		r := e.here().rollouts[rollout]
		if r == nil {
			w.mu.Unlock()
			return fmt.Errorf("%w: %s", deploy.ErrUnknown, rollout)
		}
		w.log(r, name, 0, command)
		w.mu.Unlock()
		if w.Command == nil {
			return nil
		}
		err := w.Command(ctx, rollout, name, command)
		if exit, ok := errors.AsType[*deploy.ExitError](err); ok {
			for i := range exit.Tail {
				exit.Tail[i] = r.masked(exit.Tail[i])
			}
		}
		return err
	})
}

// Logs implements deploy.Logs.
func (e *Engine) Logs(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	if err := e.dead(); err != nil {
		return err
	}
	given := map[string]int{}
	for first := true; ; first = false {
		lines, more, gone := e.lines(q, given, first)
		for _, l := range lines {
			if !yield(l) {
				return nil
			}
		}
		if !q.Follow || gone {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// lines returns what was not given yet, what is closed when there is more, and whether the one rollout that is meant is gone.
func (e *Engine) lines(q deploy.LogQuery, given map[string]int, first bool) (all []deploy.LogLine, more <-chan struct{}, gone bool) {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	for _, id := range sortedIDs(e.here().rollouts) {
		r := e.here().rollouts[id]
		if q.Rollout != "" && q.Rollout != id {
			continue
		}
		fresh := r.lines[given[id]:]
		given[id] = len(r.lines)
		var chosen []deploy.LogLine
		for _, l := range fresh {
			if (q.Service == "" || q.Service == l.Service) && !l.At.Before(q.Since) {
				chosen = append(chosen, l)
			}
		}
		if first && q.Lines > 0 && len(chosen) > q.Lines {
			chosen = chosen[len(chosen)-q.Lines:]
		}
		all = append(all, chosen...)
	}
	return all, e.world.logged, q.Rollout != "" && e.here().rollouts[q.Rollout] == nil
}
