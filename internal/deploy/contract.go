package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Contracting asks by name for migrations that wait on a stage, before the release before has had its warm time.
type Contracting struct {
	App    string   `json:"app,omitempty"` // empty: the only one
	Stage  string   `json:"stage"`
	Files  []string `json:"files"` // all that wait there
	Reason string   `json:"reason"`
	By     Person   `json:"by,omitzero"`
}

// contractHold is how long requests wait at most while migrations run that were asked for by name.
const contractHold = 2 * time.Minute

// Contract runs what waits on a stage now. What is warm there ends first, and with it the way back; new requests wait meanwhile, where
// the engine can have them wait. It returns when they have run. ErrBadInput where other files wait than those that are named, ErrBusy while
// a rollout is on its way.
func (c *Controller) Contract(ctx context.Context, q Contracting) error {
	reason, err := reasonOf(q.Reason, "to run what waits")
	if err != nil {
		return err
	}
	rollouts, err := c.rolloutsOf(ctx, Move{App: q.App, Stage: q.Stage})
	if err != nil {
		return err
	}
	r, ok := lastSettled(rollouts, q.Stage)
	if !ok {
		return c.servesNothing(ctx, rollouts, q.Stage)
	}
	if len(r.Waiting) == 0 {
		return fmt.Errorf("%w: no migration waits on %s", ErrNotFound, r.Stage)
	}
	if !slices.Equal(slices.Sorted(slices.Values(q.Files)), slices.Sorted(slices.Values(r.Waiting))) {
		return Hint(fmt.Errorf("%w: on %s others wait than those that are named", ErrBadInput, r.Stage), "name them all: "+strings.Join(r.Waiting, " "))
	}
	if goingOn(rollouts)[r.Stage] {
		return isRolling(r.Stage)
	}
	w := c.newWalk(r.ID)
	w.Rollout, w.reason = r, reason
	if err := c.reequip(ctx, w); err != nil {
		return err
	}
	if w.migratesInStart() {
		return Hint(fmt.Errorf("%w: the database of %s is reached from its instances alone", ErrUnsupported, r.Stage), "the next release runs what waits, when what is warm is gone")
	}
	if w.Actor, err = c.Ledger.Person(ctx, q.By.Name, q.By.Mail); err != nil {
		return err
	}
	return c.contractHeld(ctx, w)
}

func (c *Controller) contractHeld(ctx context.Context, w *walk) error {
	done, err := c.aside(ctx, w.Stage)
	if err != nil {
		return err
	}
	defer done()
	lease, err := c.Ledger.Acquire(ctx, w.Stage, c.owner("migrations"), leaseTTL, c.gone)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.lease, w.cancel = lease, cancel
	w.renewing(ctx)
	defer func() { _ = c.Ledger.Release(context.WithoutCancel(ctx), lease) }() // it ends by itself
	defer w.stopRenewing()
	engine := c.opened(w.Stage)
	if holder, ok := engine.(Holder); ok {
		bounds, err := Bounds{For: contractHold}.filled()
		if err == nil {
			err = holder.Hold(ctx, lease.Fence, bounds)
		}
		if err != nil && !errors.Is(err, ErrUnsupported) {
			return err
		}
		defer func() {
			if err := holder.EndHold(context.WithoutCancel(ctx), lease.Fence); err != nil {
				c.Log.Warn("requests wait until the hold ends by itself", "stage", w.Stage.String(), "error", err)
			}
		}()
	}
	if err := c.stopAllBut(ctx, w.Stage, engine, lease.Fence, w.Drain, w.instances()); err != nil {
		return err
	}
	return w.contractNow(ctx)
}

// contractNow runs what waits, and writes down that it did, or why not: then it is not tried again by itself.
func (w *walk) contractNow(ctx context.Context) error {
	d := waitingData{Files: w.Waiting, Reason: w.reason}
	err := w.contractAll(ctx)
	if ctx.Err() != nil {
		return err // the next controller goes on
	}
	if err != nil {
		d.Why = err.Error()
	} else {
		w.c.Log.Info("what had waited has run", "stage", w.Stage.String(), "files", len(d.Files))
	}
	return errors.Join(err, w.write(ctx, Event{Kind: KindContracted, Release: w.Release, Data: data(d)}))
}

func (w *walk) contractAll(ctx context.Context) (err error) {
	if w.release, err = w.c.Builder.Release(ctx, w.Release); err != nil {
		return err
	}
	if err := w.snapshotBefore(ctx); err != nil {
		return fmt.Errorf("no snapshot before the migration, so nothing was migrated: %w", err)
	}
	_, err = w.runMigrations(ctx)
	return err
}

// snapshotBefore takes one of its own: that of the rollout is as old as its release.
func (w *walk) snapshotBefore(ctx context.Context) error {
	if w.stage.Database.Snapshots.At == "" {
		return nil
	}
	keeper, err := w.keeper()
	if errors.Is(err, ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	of, err := w.data(ctx)
	if err != nil {
		return err
	}
	taken, err := (&holdings{w, keeper}).take(ctx, SnapshotOrder{Stage: w.Stage, Why: SnapshotMigration, Release: w.Release, Data: of})
	if err != nil {
		return err
	}
	e := Event{Kind: KindSnapshotTaken, App: w.Stage.App, Stage: w.Stage.Stage, Actor: w.Actor, Data: data(dataEvent{Taken: &taken})}
	_, err = w.c.Ledger.Append(ctx, e)
	return err
}
