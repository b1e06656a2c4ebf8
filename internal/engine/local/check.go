package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// Check implements deploy.Engine.
func (e *Engine) Check(ctx context.Context, rollout string) error {
	n, err := e.known(rollout)
	if err == nil {
		err = e.check(ctx, n)
	}
	return e.failed("check "+rollout, err)
}

func (e *Engine) check(ctx context.Context, n *note) error {
	if n.Phase != up {
		return &deploy.CheckError{Cause: "is " + string(n.Phase)}
	}
	for _, h := range e.health(ctx, n) {
		if h.err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if h.err != nil {
			return &deploy.CheckError{Service: h.service.Name, Instance: h.number, Cause: h.err.Error(), Tail: e.tail(h.instance)}
		}
	}
	return nil
}

// health is what one instance says now.
type health struct {
	instance
	restarts int
	err      error // nil: it answers
}

// health asks all instances at once.
func (e *Engine) health(ctx context.Context, n *note) []health {
	all := e.instances(n)
	answers := make([]health, len(all))
	var asking sync.WaitGroup
	for at, i := range all {
		asking.Go(func() { answers[at] = e.healthOf(ctx, i, n.Host) })
	}
	asking.Wait()
	return answers
}

func (e *Engine) healthOf(ctx context.Context, i instance, host string) health {
	status, err := process.Inspect(e.dir(i))
	h := health{instance: i, restarts: status.Restarts}
	switch {
	case errors.Is(err, process.ErrUnknown):
		h.err = errors.New("does not run")
	case err != nil:
		h.err = err
	default:
		h.err = e.masked(i.rollout, e.ask(ctx, i, host, status))
	}
	return h
}

// masked hides what an app says of its settings in its answers, as far as we know them.
func (e *Engine) masked(rollout string, err error) error {
	var bad *answerError
	if !errors.As(err, &bad) {
		return err
	}
	e.mu.Lock()
	order, known := e.orders[rollout]
	e.mu.Unlock()
	line := ""
	if known {
		line = process.NewMask(order.Hidden()).String(bad.line)
	}
	return &answerError{path: bad.path, status: bad.status, line: line}
}

// Reach implements deploy.Engine. The way is through the proxy, so that files, headers and routes are the real ones.
func (e *Engine) Reach(ctx context.Context, rollout string) (http.RoundTripper, error) {
	n, err := e.known(rollout)
	switch {
	case err != nil:
	case ctx.Err() != nil:
		err = ctx.Err()
	case n.Phase != up:
		err = fmt.Errorf("%w: %s is %s", deploy.ErrUnknown, rollout, n.Phase)
	}
	if err != nil {
		return nil, e.failed("reach "+rollout, err)
	}
	return &reacher{e, e.Proxy.Reach(e.key(), rollout)}, nil
}

type reacher struct {
	engine *Engine
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *reacher) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	return resp, r.engine.failed("reach", err)
}

// List implements deploy.Engine.
func (e *Engine) List(ctx context.Context) ([]deploy.Running, error) {
	notes, err := e.notes()
	if err != nil {
		return nil, e.failed("list", err)
	}
	shares, err := e.shares(ctx)
	if err != nil {
		return nil, e.failed("list", err)
	}
	all := make([]deploy.Running, len(notes))
	var asking sync.WaitGroup
	for at, n := range notes {
		asking.Go(func() { all[at] = e.running(ctx, n, shares[n.Rollout]) })
	}
	asking.Wait()
	return all, nil
}

func (e *Engine) running(ctx context.Context, n *note, share int) deploy.Running {
	r := deploy.Running{Rollout: n.Rollout, Release: n.Release, Share: share, Since: n.Since}
	answers := e.health(ctx, n)
	for _, s := range n.Services {
		of := deploy.RunningService{Name: s.Name}
		for _, h := range answers {
			if h.service.Name != s.Name {
				continue
			}
			i := deploy.RunningInstance{Number: h.number, Restarts: h.restarts, Healthy: h.err == nil && n.Phase == up}
			switch {
			case n.Phase != up:
				i.Note = "is " + string(n.Phase)
			case h.err != nil:
				i.Note = h.err.Error()
			}
			of.Instances = append(of.Instances, i)
		}
		r.Services = append(r.Services, of)
	}
	return r
}
