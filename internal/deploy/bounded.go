package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// bounded gives every verb of an engine an end: a platform that never answers must not hold a rollout for ever. A verb that did
// not return in time is ErrUnavailable, and is undone like any other miss.
type bounded struct {
	Engine
	start time.Duration // the longest that a service of the release may take to become healthy
}

// How long a verb may take beyond the waiting that is its task. Beanstalk, the slowest platform, launches an environment in
// under 10 minutes.
const (
	quickVerb = 30 * time.Second
	slowVerb  = 10 * time.Minute
)

func within(ctx context.Context, d time.Duration, verb string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := do(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s did not return within %s: %w", ErrUnavailable, verb, d, err)
	}
	return err
}

func (b *bounded) Start(ctx context.Context, fence Fence, order Order) error {
	return within(ctx, b.start+slowVerb, "start", func(ctx context.Context) error { return b.Engine.Start(ctx, fence, order) })
}

func (b *bounded) Check(ctx context.Context, rollout string) error {
	return within(ctx, quickVerb, "check", func(ctx context.Context) error { return b.Engine.Check(ctx, rollout) })
}

func (b *bounded) Reach(ctx context.Context, rollout string) (to http.RoundTripper, err error) {
	err = within(ctx, quickVerb, "reach", func(ctx context.Context) error { to, err = b.Engine.Reach(ctx, rollout); return err })
	return to, err
}

func (b *bounded) Shift(ctx context.Context, fence Fence, rollout string, share int) error {
	return within(ctx, b.Facts().Switch+slowVerb, "shift", func(ctx context.Context) error { return b.Engine.Shift(ctx, fence, rollout, share) })
}

func (b *bounded) Stop(ctx context.Context, fence Fence, rollout string, drain time.Duration) error {
	return within(ctx, drain+slowVerb, "stop", func(ctx context.Context) error { return b.Engine.Stop(ctx, fence, rollout, drain) })
}

func (b *bounded) List(ctx context.Context) (all []Running, err error) {
	err = within(ctx, quickVerb, "list", func(ctx context.Context) error { all, err = b.Engine.List(ctx); return err })
	return all, err
}
