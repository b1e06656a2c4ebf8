package process

import (
	"context"
	"fmt"
	"time"
)

// over is what follows when the process has ended by itself.
func (k *keeper) over(ctx context.Context, exit Exit) {
	k.ended = nil
	k.state.Last = &exit
	if k.succeeded(exit) {
		return
	}
	k.sweep()
	k.journal.drain()
	if time.Since(k.up) >= backoffReset {
		k.quick = 0
	}
	k.state.Process = identity{}
	if !k.spec.Restart {
		k.finish()
		return
	}
	delay := backoff(k.quick)
	k.quick++
	k.journal.note(fmt.Sprintf("the process ended: %s; it is started again in %s", exit, delay))
	k.state.Phase = waiting
	if delay == 0 {
		k.restart(ctx)
		return
	}
	k.save()
	k.again = time.After(delay)
}

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 10 * time.Second
	backoffReset = 10 * time.Second // a process that was up so long has started well
)

// backoff is the pause before a restart, after so many that came too soon.
func backoff(quick int) time.Duration {
	if quick == 0 {
		return 0
	}
	return min(backoffFirst<<min(quick-1, 10), backoffMost)
}

func (k *keeper) restart(ctx context.Context) {
	k.again = nil
	k.state.Restarts++
	if err := k.start(ctx); err != nil {
		delay := backoff(max(1, k.quick))
		k.quick++
		k.state.Phase, k.state.Failure, k.state.Kind = waiting, err.Error(), kindOf(err)
		k.journal.note(fmt.Sprintf("%v; tried again in %s", err, delay))
		k.save()
		k.again = time.After(delay)
		return
	}
	k.rest()
}
