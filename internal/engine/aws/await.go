package aws

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// await looks again and again, with longer and longer pauses that differ from one waiter to the next, until look is done, fails, or the
// limit is over. That AWS cannot be asked for a while is no failure of what is awaited.
func (e *Engine) await(ctx context.Context, limit time.Duration, what string, look func(context.Context) (done bool, err error)) error {
	return e.awaitAt(ctx, e.Timing.Poll, limit, what, look)
}

// awaitAt is await with a first pause of its own.
func (e *Engine) awaitAt(ctx context.Context, pause, limit time.Duration, what string, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: %s did not come within %s", deploy.ErrUnavailable, what, limit))
	defer cancel()
	pauses := &backoff.ExponentialBackOff{InitialInterval: pause, RandomizationFactor: 0.3, Multiplier: 1.3, MaxInterval: 5 * pause}
	pauses.Reset()
	var since time.Time // AWS has not answered since
	for {
		done, err := look(ctx)
		switch {
		case err == nil && done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			since = time.Time{}
		case !deploy.Retryable(translate(err)):
			return err
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > e.Timing.Quiet:
			return err
		}
		timer := time.NewTimer(pauses.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
