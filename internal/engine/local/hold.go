package local

import (
	"context"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Hold implements deploy.Holder: the proxy keeps the requests, and its state the hold.
func (e *Engine) Hold(ctx context.Context, fence deploy.Fence, b deploy.Bounds) error {
	return e.closing(ctx, "hold", fence, func() error {
		return e.Proxy.Hold(ctx, e.key(), int64(fence), &proxy.Hold{For: b.For, Requests: b.Requests, Bytes: b.Bytes})
	})
}

// EndHold implements deploy.Holder.
func (e *Engine) EndHold(ctx context.Context, fence deploy.Fence) error {
	return e.closing(ctx, "end the hold", fence, func() error { return e.Proxy.Hold(ctx, e.key(), int64(fence), nil) })
}

// Maintain implements deploy.Holder.
func (e *Engine) Maintain(ctx context.Context, fence deploy.Fence, page *deploy.Page) error {
	return e.closing(ctx, "maintenance", fence, func() error {
		if page == nil {
			return e.Proxy.Maintain(ctx, e.key(), int64(fence), nil)
		}
		return e.Proxy.Maintain(ctx, e.key(), int64(fence), &proxy.Maintenance{Message: page.Message, Page: page.HTML})
	})
}

func (e *Engine) closing(ctx context.Context, what string, fence deploy.Fence, do func() error) error {
	err := e.admit(ctx, fence)
	if err == nil {
		err = do()
	}
	return e.failed(what, err)
}

// Closed implements deploy.Holder.
func (e *Engine) Closed(ctx context.Context) (deploy.Closed, error) {
	c, err := e.Proxy.Closure(ctx, e.key())
	if err != nil {
		return deploy.Closed{}, e.failed("look at the hold", err)
	}
	now := deploy.Closed{Waiting: int(c.Held), Maintenance: c.Maintenance != nil}
	if c.Hold != nil {
		now.Until = c.Hold.Until
	}
	return now, nil
}
