package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Engine runs one stage of one app in a World. It implements deploy.Engine, deploy.Tasks, deploy.Logs, deploy.Sampler, deploy.Holder and
// deploy.Beside.
type Engine struct {
	world      *World
	app, stage string
	life       int
}

var (
	_ deploy.Engine  = (*Engine)(nil)
	_ deploy.Tasks   = (*Engine)(nil)
	_ deploy.Logs    = (*Engine)(nil)
	_ deploy.Sampler = (*Engine)(nil)
	_ deploy.Holder  = (*Engine)(nil)
	_ deploy.Beside  = (*Engine)(nil)
)

// Open returns the engine of a stage, as a fresh process would: it knows what the World holds and nothing else.
func Open(w *World, app, stage string) *Engine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &Engine{world: w, app: app, stage: stage, life: w.crashes}
}

// Facts implements deploy.Engine.
func (e *Engine) Facts() deploy.Facts {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	return deploy.Facts{Engine: "memory", Carries: "memory", Shares: !e.world.noShares, Sampling: proxy.SampleSlot}
}

// here returns the stage. The World must be locked.
func (e *Engine) here() *stage { return e.world.stage(e.app, e.stage) }

// admit remembers the fence, or refuses an older one. The World must be locked.
func (s *stage) admit(f deploy.Fence) error {
	if f < s.fence {
		return fmt.Errorf("%w: its fence is %d, this one is %d", deploy.ErrFenced, s.fence, f)
	}
	s.fence = f
	return nil
}

// Start implements deploy.Engine.
func (e *Engine) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	return e.meet(ctx, Start, func(ctx context.Context) error {
		if err := order.Validate(); err != nil {
			return err
		}
		for {
			r, mine, err := e.claim(fence, order)
			switch {
			case err != nil || r == nil:
				return err
			case mine:
				return e.bringUp(ctx, r, order)
			}
			select { // somebody else is starting it
			case <-r.freed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// claim makes the rollout of an order this call's own. A nil rollout is up already; one that is not mine is being started.
func (e *Engine) claim(fence deploy.Fence, order deploy.Order) (r *rollout, mine bool, err error) {
	w := e.world
	w.mu.Lock()
	defer w.mu.Unlock()
	s := e.here()
	if err := s.admit(fence); err != nil {
		return nil, false, err
	}
	if u, err := url.Parse(order.Stage.URL); err == nil {
		s.host = u.Hostname()
	}
	r = s.rollouts[order.Rollout]
	switch {
	case r == nil:
		r = newRollout(order.Rollout, w.now())
		r.release = order.Release
		s.rollouts[order.Rollout] = r
	case r.ready:
		return nil, false, nil
	case r.claimed:
		return r, false, nil
	default: // a controller that crashed had begun
		r.freed = make(chan struct{})
	}
	r.claimed = true
	return r, true, nil
}

// bringUp starts the instances and waits until all have answered, or removes everything.
func (e *Engine) bringUp(ctx context.Context, r *rollout, order deploy.Order) error {
	w := e.world
	w.mu.Lock()
	r.instances = nil
	w.fill(e.here(), r, order)
	b := w.behaviour[order.Release.ID]
	svc := culprit(order.Release.Manifest.Services, b.Service)
	for _, line := range b.Prints {
		w.log(r, svc.Name, 0, expand(line, order.Settings))
	}
	w.mu.Unlock()

	b.Cause = expand(b.Cause, order.Settings)
	err := b.await(ctx, r, svc)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.life != w.crashes:
		return fmt.Errorf("%w: this controller has crashed", deploy.ErrUnavailable)
	case e.here().rollouts[r.id] != r:
		err = fmt.Errorf("%w: it was stopped while it started", deploy.ErrAborted)
	case err != nil:
		if failed, ok := errors.AsType[*deploy.StartError](err); ok {
			for _, l := range r.lines {
				failed.Tail = append(failed.Tail, l.Text)
			}
		}
		e.world.remove(e.here(), r.id)
	default:
		r.ready = true
	}
	r.claimed = false
	close(r.freed)
	return err
}

// await is the time in which a release comes up, or does not.
func (b Behaviour) await(ctx context.Context, r *rollout, svc deploy.Service) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.alive, func() { cancel(deploy.ErrAborted) })()
	if b.Hang {
		if err := pause(ctx, svc.Start); err != nil {
			return err
		}
		return &deploy.StartError{Service: svc.Name, Cause: fmt.Sprintf("did not answer within %s", svc.Start)}
	}
	if err := pause(ctx, b.Takes); err != nil {
		return err
	}
	if b.Cause != "" {
		return &deploy.StartError{Service: svc.Name, Cause: r.masked(b.Cause)}
	}
	return nil
}

func culprit(all []deploy.Service, name string) deploy.Service {
	for _, s := range all {
		if s.Name == name || name == "" && s.Command != "" {
			return s
		}
	}
	return deploy.Service{}
}

// Check implements deploy.Engine.
func (e *Engine) Check(ctx context.Context, rollout string) error {
	return e.meet(ctx, Check, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		return e.here().well(rollout)
	})
}

// well is nil when all instances of a rollout answer.
func (s *stage) well(id string) error {
	r := s.rollouts[id]
	if r == nil {
		return fmt.Errorf("%w: %s", deploy.ErrUnknown, id)
	}
	if !r.ready {
		return &deploy.CheckError{Cause: "is still starting"}
	}
	if i := r.sick(); i != nil {
		return &deploy.CheckError{Service: i.service, Instance: i.number, Cause: r.masked(i.broken)}
	}
	return nil
}

// Reach implements deploy.Engine.
func (e *Engine) Reach(ctx context.Context, rollout string) (http.RoundTripper, error) {
	var t http.RoundTripper
	err := e.meet(ctx, Reach, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		r := e.here().rollouts[rollout]
		if r == nil {
			return fmt.Errorf("%w: %s", deploy.ErrUnknown, rollout)
		}
		t = e.reacher(e.here(), r)
		return nil
	})
	return t, err
}

// Shift implements deploy.Engine.
func (e *Engine) Shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	return e.meet(ctx, Shift, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		s := e.here()
		if err := s.admit(fence); err != nil {
			return err
		}
		// A release that is sick must still be able to lose its traffic.
		if err := s.well(rollout); err != nil && (share > 0 || errors.Is(err, deploy.ErrUnknown)) {
			return err
		}
		if e.world.noShares && share > 0 && share < 100 {
			return fmt.Errorf("%w: a share of %d %%", deploy.ErrUnsupported, share)
		}
		next, err := deploy.Shares(s.shares, s.last, rollout, share)
		if err != nil {
			return err
		}
		s.give(next)
		return nil
	})
}

// give makes next the shares, and remembers who had traffic and has none now.
func (s *stage) give(next map[string]int) {
	for id, share := range s.shares {
		if share > 0 && next[id] == 0 {
			s.last = id
		}
	}
	if next[s.last] > 0 {
		s.last = ""
	}
	s.shares = maps.Clone(next)
}

// Stop implements deploy.Engine.
func (e *Engine) Stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	return e.meet(ctx, Stop, func(ctx context.Context) error {
		idle, err := e.retire(fence, rollout)
		if idle == nil {
			return err
		}
		timer := time.NewTimer(drain)
		defer timer.Stop()
		select {
		case <-idle:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		if err := e.deadLocked(); err != nil {
			return err
		}
		e.world.remove(e.here(), rollout)
		return nil
	})
}

// retire takes traffic from a rollout and returns what is closed when nothing is in flight; nil when it is not there.
func (e *Engine) retire(fence deploy.Fence, id string) (<-chan struct{}, error) {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	s := e.here()
	if err := s.admit(fence); err != nil {
		return nil, err
	}
	r := s.rollouts[id]
	if r == nil {
		return nil, nil
	}
	if s.shares[id] > 0 {
		next, err := deploy.Shares(s.shares, s.last, id, 0)
		if err != nil {
			return nil, err
		}
		s.give(next)
	}
	r.stopping()
	if !r.ready {
		e.world.remove(s, id)
		return nil, nil
	}
	select {
	case <-r.idle: // an earlier Stop has drained it
		return r.idle, nil
	default:
	}
	r.leaving = r.inFlight > 0
	if !r.leaving {
		close(r.idle)
	}
	return r.idle, nil
}

func (e *Engine) deadLocked() error {
	if e.life != e.world.crashes {
		return fmt.Errorf("%w: this controller has crashed", deploy.ErrUnavailable)
	}
	return nil
}

// List implements deploy.Engine.
func (e *Engine) List(ctx context.Context) ([]deploy.Running, error) {
	var all []deploy.Running
	err := e.meet(ctx, List, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		s := e.here()
		for _, id := range sortedIDs(s.rollouts) {
			all = append(all, s.rollouts[id].running(s.shares[id]))
		}
		return nil
	})
	return all, err
}

func (r *rollout) running(share int) deploy.Running {
	out := deploy.Running{Rollout: r.id, Release: r.release.ID, Share: share, Since: r.since}
	for _, svc := range r.release.Manifest.Services {
		of := deploy.RunningService{Name: svc.Name}
		for _, i := range r.instances {
			if i.service == svc.Name && svc.Command != "" {
				n := deploy.RunningInstance{Number: i.number, Healthy: i.broken == "" && r.ready, Note: r.masked(i.broken)}
				if !r.ready {
					n.Note = "is starting"
				}
				of.Instances = append(of.Instances, n)
			}
		}
		out.Services = append(out.Services, of)
	}
	return out
}
