package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// Start implements deploy.Engine.
func (e *Engine) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	err := order.Validate()
	if err == nil {
		err = e.start(ctx, fence, order)
	}
	return e.failed("start "+order.Rollout, err)
}

func (e *Engine) start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	ctx, end := e.abortable(ctx, order.Rollout)
	defer end()
	if err := e.databaseOf(ctx, order.Stage); err != nil {
		return because(ctx, err)
	}
	unlock, err := e.lock(ctx, lockOf(order.Rollout))
	if err != nil {
		return err
	}
	defer unlock()
	n, err := e.readNote(order.Rollout)
	switch {
	case err != nil:
		return err
	case n == nil:
		n = &note{Format: format, Rollout: order.Rollout, Release: order.Release.ID, Source: order.Release.Source(), Phase: starting, Since: e.Clock().UTC(),
			Services: order.Release.Manifest.Services, Drain: order.Stage.Drain, Private: order.Stage.Private, OldFiles: order.Stage.OldFiles}
		if n.Host, n.Redirects, err = hostsOf(order.Stage, e.Port); err != nil {
			return err
		}
	case n.Phase == up:
		return e.takeUp(ctx, n, order)
	case n.Phase == stopping:
		return fmt.Errorf("%w: it is being stopped", deploy.ErrAborted)
	} // a start that a dead process had begun goes on with the same instances and ports
	if err := e.bringUp(ctx, fence, n, order); err != nil {
		// Whatever became of ctx: nothing may be left.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortGrace+20*time.Second)
		defer cancel()
		if n.Phase == up {
			n.Phase = stopping
			// Its routes have no traffic and lead nowhere: the next table is without them anyway.
			_ = errors.Join(e.writeNote(n), e.publish(undo, fence, without(n.Rollout)))
		}
		return errors.Join(because(ctx, err), e.remove(undo, n, abortGrace))
	}
	return nil
}

// because is err, or why ctx has ended where err only follows from that.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, deploy.ErrCannotStart) {
		return context.Cause(ctx)
	}
	return err
}

// abortable lets Stop end a Start that is under way.
func (e *Engine) abortable(ctx context.Context, rollout string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.starting[rollout] = append(e.starting[rollout], cancel)
	return ctx, func() { cancel(nil) }
}

func (e *Engine) abort(rollout string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, cancel := range e.starting[rollout] {
		cancel(fmt.Errorf("%w: it was stopped while it started", deploy.ErrAborted))
	}
	delete(e.starting, rollout)
}

// bringUp does what a Start does: files, processes, their first answers, and a place in the proxy's table without traffic.
func (e *Engine) bringUp(ctx context.Context, fence deploy.Fence, n *note, order deploy.Order) error {
	if err := e.writeNote(n); err != nil {
		return err
	}
	if err := e.fill(ctx, order.Release); err != nil {
		return err
	}
	if err := e.ports(n); err != nil {
		return err
	}
	if err := e.launchAll(ctx, n, order); err != nil {
		return err
	}
	if n.Private {
		if err := e.keepPassword(ctx, order.Password); err != nil {
			return err
		}
	}
	n.Phase = up
	if err := e.writeNote(n); err != nil {
		return err
	}
	if err := e.publish(ctx, fence, keepShares); err != nil {
		return err
	}
	e.remember(order)
	e.Log.Info("release is up", "app", e.App, "stage", e.Stage, "rollout", n.Rollout, "release", n.Release.Short())
	return nil
}

func (e *Engine) remember(order deploy.Order) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders[order.Rollout] = order
}

func (e *Engine) forget(rollout string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.orders, rollout)
}

// launchAll starts all instances at once and waits until each has answered. The first that cannot ends the waiting for the others.
func (e *Engine) launchAll(ctx context.Context, n *note, order deploy.Order) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, i := range e.instances(n) {
		group.Go(func() error {
			for try := 1; ; try++ {
				err := e.launch(ctx, i, n.Host, order)
				var taken portTakenError
				if !errors.As(err, &taken) {
					return err
				}
				if try == 3 {
					return taken.StartError
				}
				if i.port, err = e.moveOn(ctx, n, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// launch starts one instance and waits for its first answer.
func (e *Engine) launch(ctx context.Context, i instance, host string, order deploy.Order) error {
	if err := e.makeHome(e.home(i)); err != nil {
		return err
	}
	begun := time.Now()
	if err := e.keep(ctx, i, order); err != nil {
		return cannotStart(i, err)
	}
	w := waiting{engine: e, instance: i, host: host, begun: begun, limit: startTime(i.service),
		mask: process.NewMask(order.Hidden())}
	return w.wait(ctx)
}

func startTime(s deploy.Service) time.Duration {
	if s.Start > 0 {
		return s.Start
	}
	return 60 * time.Second
}

// moveOn gives an instance another port, because somebody sits on the one that it had.
func (e *Engine) moveOn(ctx context.Context, n *note, i instance) (int, error) {
	if err := e.Keepers.Stop(ctx, e.dir(i), 0); err != nil {
		return 0, err
	}
	// The taken port stays claimed until the end of this start, or the next look would find it again.
	port, err := e.claimPort(i.name)
	if err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n.setPort(i.service.Name, i.number, port)
	return port, errors.Join(e.writeNote(n), e.freePort(i.port))
}

// takeUp makes sure that every instance of a rollout that is up has a living keeper, and looks after it from now on.
func (e *Engine) takeUp(ctx context.Context, n *note, order deploy.Order) error {
	if order.Release.ID != n.Release {
		return fmt.Errorf("%w: %s runs the release %s", deploy.ErrBadInput, n.Rollout, n.Release.Short())
	}
	if err := e.fill(ctx, order.Release); err != nil {
		return err
	}
	group, reviving := errgroup.WithContext(ctx)
	for _, i := range e.instances(n) {
		group.Go(func() error { return e.revive(reviving, i, order) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	e.remember(order)
	return e.renewPassword(ctx, n, order)
}

// revive starts what of an instance does not run: the process, its keeper, both, or nothing.
func (e *Engine) revive(ctx context.Context, i instance, order deploy.Order) error {
	if err := e.makeHome(e.home(i)); err != nil {
		return err
	}
	return e.keep(ctx, i, order)
}

// keep gives an instance a keeper. A cancel is heard before and after, not in between: a keeper that has been spawned and has
// not yet taken its lock is one that Stop does not see.
func (e *Engine) keep(ctx context.Context, i instance, order deploy.Order) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), spawnMost)
	defer cancel()
	if err := e.Keepers.Start(whole, e.dir(i), e.spec(i, order)); err != nil {
		return err
	}
	e.tell()
	return ctx.Err()
}

// spawnMost is far beyond what it takes to start a keeper: tens of milliseconds.
const spawnMost = 20 * time.Second

// remove ends the processes of a rollout and takes away everything of it. What is gone already is fine.
func (e *Engine) remove(ctx context.Context, n *note, grace time.Duration) error {
	e.forget(n.Rollout)
	if err := e.endProcesses(ctx, e.instances(n), func(instance) time.Duration { return grace }); err != nil {
		return err
	}
	for _, i := range e.instances(n) {
		if err := errors.Join(os.RemoveAll(e.dir(i)), os.RemoveAll(e.home(i))); err != nil {
			return err
		}
		if i.port != 0 {
			if err := e.freePort(i.port); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(e.at("tasks", n.Rollout)); err != nil {
		return err
	}
	// The note goes last but for the release, which looks at the notes: a crash in between is found again.
	if err := os.Remove(e.notePath(n.Rollout)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	e.tell()
	return errors.Join(syncDir(e.at("rollouts")), e.dropRelease(ctx, n.Release), e.dropOld(ctx, false))
}

func (e *Engine) endProcesses(ctx context.Context, all []instance, grace func(instance) time.Duration) error {
	var group errgroup.Group
	for _, i := range all {
		group.Go(func() error { return e.Keepers.Stop(ctx, e.dir(i), grace(i)) })
	}
	return group.Wait()
}
