package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A restore walks this table, never in place, and so does a masked copy, which is filled from another stage's database and leaves volumes alone:
//
//	step      do                                                      after a miss
//	-------   -----------------------------------------------------   ------------------------
//	prepare   make an empty database and folders beside the stage's   throw them away
//	fill      restore the snapshot into them, compare its manifest    "
//	check     run the app's own check on them                         "
//	hold      keep new requests waiting                               let them go on
//	switch    give the stage what stands beside, by renaming          rename back
//	verify    what the stage serves answers with it                   "
//	open      let the requests go on                                  "
//
// Each step is an event before it begins, and idempotent. A controller that starts goes on: from the top where nothing was switched, else
// from the hold. What the stage had stays under the restore's id until somebody says `lotse db forget`.
type restoreStep struct {
	name string
	do   func(*restoration, context.Context) error
}

func restoreTable() []restoreStep {
	return []restoreStep{
		{"prepare", (*restoration).prepare},
		{"fill", (*restoration).fill},
		{"check", (*restoration).check},
		{"hold", (*restoration).holdStage},
		{"switch", (*restoration).swap},
		{"verify", (*restoration).verify},
		{"open", (*restoration).open},
	}
}

const (
	restoreHold   = 2 * time.Minute  // how long requests wait at most; a switch takes seconds
	restoreVerify = 30 * time.Second // how long instances may take to find the new database
	unknownRatio  = 8                // of the bytes of a database to those of its snapshot, where the snapshot does not say
)

// restoration is one restore on its way.
type restoration struct {
	*dataJob
	from   Snapshot
	beside Beside
	set    DataSet
	holds  Lease // of the stage: nothing else changes it meanwhile
	to     Data
	begun  []string // steps, also of a controller before
	copies *masking // of a copy; nil: a restore
}

// Restore begins to bring the data of a stage back to a snapshot, and returns the id of its job. What it would refuse is refused at once:
// ErrNotFound for a snapshot that is not there, ErrBusy while a rollout or another job is on its way, ErrDamaged, ErrNoSpace,
// ErrUnsupported where the engine can put nothing beside.
func (c *Controller) Restore(ctx context.Context, q DataRequest) (string, error) {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return "", err
	}
	if q.To != "" && q.To != q.Stage {
		return "", Hint(fmt.Errorf("%w: %s is not to have the people of %s: data goes to another stage with people masked alone", ErrRefused, q.To, q.Stage),
			"`lotse db copy "+q.Stage+" "+q.To+"` copies what "+q.Stage+" has now, people masked")
	}
	serves, err := c.served(ctx, q.App, q.Stage)
	if err != nil {
		return "", err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return "", err
	}
	if q.ID == "" {
		return "", Hint(fmt.Errorf("%w: no snapshot was named", ErrBadInput), "`lotse db snapshots --stage "+q.Stage+"` lists them")
	}
	from, err := h.find(ctx, q.ID)
	if err != nil {
		return "", err
	}
	if from.Damaged != "" {
		return "", Hint(fmt.Errorf("%w: snapshot %s: %s", ErrDamaged, from.ID, from.Damaged), "`lotse db snapshots --stage "+q.Stage+"` lists the others")
	}
	if _, err := c.besides(h); err != nil {
		return "", err
	}
	if err := c.roomFor(from); err != nil {
		return "", err
	}
	r, err := c.restoring(ctx, h, Restoring, from, rolloutID(), q.By)
	if err != nil {
		return "", err
	}
	return r.id, r.begin(ctx, dataEvent{Snapshot: from.ID, Reason: reason}, r.run)
}

// roomFor asks the disk before anything is made.
func (c *Controller) roomFor(from Snapshot) error {
	if c.Space == nil {
		return nil
	}
	free, _, err := c.Space()
	if err != nil {
		return err
	}
	needed := from.Content
	if needed == 0 {
		needed = from.Size * unknownRatio
	}
	if free < needed+needed/4 { // beside what is there, and what restoring writes on its way
		return Hint(fmt.Errorf("%w: restoring %s beside the data that is there takes about %d MB, %d MB are free", ErrNoSpace, from.ID, (needed+needed/4)>>20, free>>20),
			"make room; `lotse db forget` deletes what earlier restores have kept")
	}
	return nil
}

// besides is what puts a second set of data beside that of the stage.
func (c *Controller) besides(h *holdings) (Beside, error) {
	beside, ok := c.opened(h.Stage).(Beside)
	if !ok {
		return nil, Hint(fmt.Errorf("%w: the engine %s can put no second database beside that of %s", ErrUnsupported, h.engine.Facts().Engine, h.Stage), "docs/restore.md says how to come back there")
	}
	return beside, nil
}

// restoring takes both leases of the stage.
func (c *Controller) restoring(ctx context.Context, h *holdings, verb DataVerb, from Snapshot, id string, by Person) (*restoration, error) {
	beside, err := c.besides(h)
	if err != nil {
		return nil, err
	}
	of, err := h.data(ctx)
	if err != nil {
		return nil, err
	}
	j, err := c.newJob(ctx, h, verb, id, by)
	if err != nil {
		return nil, err
	}
	r := &restoration{dataJob: j, from: from, beside: beside, set: DataSet{ID: id, Database: h.stage.Database, URL: of.URL, Volumes: h.app.Volumes}}
	if err := c.shut(h.Stage); err != nil {
		j.giveBack()
		return nil, err
	}
	if r.holds, err = c.leaseOfStage(ctx, h.Stage, id); err != nil {
		c.unshut(h.Stage)
		j.giveBack()
		return nil, err
	}
	return r, nil
}

// leaseOfStage waits for what is on its way out.
func (c *Controller) leaseOfStage(ctx context.Context, ref StageRef, id string) (Lease, error) {
	if err := c.interrupt(ctx, ref); err != nil {
		return Lease{}, err
	}
	return c.Ledger.Acquire(ctx, ref, c.owner(id), leaseTTL, c.gone)
}

// shut keeps rollouts from a stage whose data is being replaced. ErrBusy while one is on its way.
func (c *Controller) shut(ref StageRef) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active[ref] != nil {
		return isRolling(ref)
	}
	c.shutFor[ref] = true
	return nil
}

func (c *Controller) unshut(ref StageRef) {
	c.mu.Lock()
	delete(c.shutFor, ref)
	c.mu.Unlock()
	c.look()
}

// takeUpRestore goes on with a restore that a controller before this one has begun.
func (c *Controller) takeUpRestore(ctx context.Context, job DataJob) {
	r, err := c.restoringAgain(ctx, job)
	if err != nil {
		c.Log.Error("a restore cannot be taken up; it is tried again when the controller starts", "restore", job.ID, "stage", job.Stage.String(), "error", err)
		return
	}
	c.Log.Info("restore taken up", "restore", job.ID, "stage", job.Stage.String())
	for _, s := range job.Steps {
		r.begun = append(r.begun, s.Name)
	}
	if job.Turned != nil {
		r.goOn(func(ctx context.Context) error {
			return r.whole(ctx, func(ctx context.Context) error { return r.goBack(ctx, errors.New(job.Turned.Why)) })
		})
		return
	}
	r.goOn(r.run)
}

func (c *Controller) restoringAgain(ctx context.Context, job DataJob) (*restoration, error) {
	serves, err := c.served(ctx, job.Stage.App, job.Stage.Stage)
	if err != nil {
		return nil, err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return nil, err
	}
	r, err := c.restoring(ctx, h, job.Verb, Snapshot{ID: job.Snapshot}, job.ID, Person{})
	if err != nil {
		return nil, err
	}
	r.actor = job.Actor
	if job.Verb == Copying {
		err = r.copying(ctx, job.From)
	}
	return r, err
}

// whole keeps the lease of the stage while do goes on.
func (r *restoration) whole(ctx context.Context, do func(context.Context) error) error {
	stage := &dataJob{c: r.c, lease: r.holds}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer stage.renew(ctx, cancel)()
	err := do(ctx)
	if r.c.base.Err() == nil {
		_ = r.c.Ledger.Release(context.WithoutCancel(ctx), r.holds) // it ends by itself
		r.c.unshut(r.Stage)
	}
	return err
}

// run walks the table.
func (r *restoration) run(ctx context.Context) error { return r.whole(ctx, r.walkTable) }

func (r *restoration) walkTable(ctx context.Context) error {
	switched := slices.Contains(r.begun, "switch")
	for _, s := range restoreTable() {
		if switched && slices.Contains([]string{"prepare", "fill", "check"}, s.name) {
			continue
		}
		if err := r.note(ctx, KindDataStep, dataEvent{Step: s.name}); err != nil {
			return err
		}
		r.begun = append(r.begun, s.name)
		err := missed(ctx, s.do(r, ctx))
		if err == nil {
			continue
		}
		if r.c.base.Err() != nil || errors.Is(err, ErrFenced) {
			return err // whoever has the stage now takes it up
		}
		turned := failedData(err)
		turned.Step = s.name
		if told := r.note(ctx, KindDataTurned, turned); told != nil {
			return errors.Join(err, told)
		}
		return r.goBack(ctx, err)
	}
	if r.copies != nil {
		return r.note(ctx, KindRestored, r.copies.done(r))
	}
	return r.note(ctx, KindRestored, dataEvent{Kept: r.id, Snapshot: r.from.ID,
		Says: fmt.Sprintf("%s has what it had in snapshot %s; what it had until now is kept as %s", r.Stage, r.from.ID, r.id)})
}

// goBack undoes what was begun, and tries again until that is done.
func (r *restoration) goBack(ctx context.Context, why error) error {
	for pause := time.Second; ; pause = min(2*pause, mostPause) {
		err := r.undo(ctx)
		if err == nil {
			break
		}
		if errors.Is(err, ErrFenced) || ctx.Err() != nil {
			return errors.Join(why, err)
		}
		r.c.Log.Warn("going back from a restore failed, trying again", "restore", r.id, "stage", r.Stage.String(), "pause", pause, "error", err)
		if err := sleep(ctx, pause); err != nil {
			return errors.Join(why, err)
		}
	}
	failed := failedData(why)
	failed.Snapshot = r.from.ID
	return errors.Join(why, r.note(ctx, KindRestoreFailed, failed))
}

func (r *restoration) undo(ctx context.Context) error {
	if slices.Contains(r.begun, "switch") {
		if err := r.beside.SwapBack(ctx, r.holds.Fence, r.set); err != nil {
			return err
		}
	}
	if slices.Contains(r.begun, "hold") {
		if err := r.open(ctx); err != nil {
			return err
		}
	}
	return r.beside.Discard(ctx, r.holds.Fence, r.set)
}

func (r *restoration) prepare(ctx context.Context) (err error) {
	return within(ctx, slowVerb, "making a database beside", func(ctx context.Context) error {
		r.to, err = r.beside.Prepare(ctx, r.holds.Fence, r.set)
		return err
	})
}

func (r *restoration) fill(ctx context.Context) error {
	if r.copies != nil {
		return within(ctx, longestSnapshot, "the masked copy", r.maskedFill)
	}
	return within(ctx, longestSnapshot, "restoring", func(ctx context.Context) error {
		return r.keeper.Restore(ctx, r.Stage, r.from.ID, r.to)
	})
}

func (r *restoration) check(ctx context.Context) error {
	check := r.checkOf()
	if check == nil || r.to.URL.Empty() {
		return nil
	}
	if err := within(ctx, slowVerb, "the check", func(ctx context.Context) error { return check(ctx, r.to.URL) }); err != nil {
		return fmt.Errorf("%w: the app's check refuses what was brought there: %w", ErrDamaged, err)
	}
	return nil
}

// holdStage keeps requests waiting where the engine can. Where it cannot, the switch itself is what they notice.
func (r *restoration) holdStage(ctx context.Context) error {
	holder, ok := r.c.opened(r.Stage).(Holder)
	if !ok {
		return nil
	}
	b, err := Bounds{For: restoreHold}.filled()
	if err != nil {
		return err
	}
	return within(ctx, quickVerb, "hold", func(ctx context.Context) error { return holder.Hold(ctx, r.holds.Fence, b) })
}

func (r *restoration) swap(ctx context.Context) error {
	return within(ctx, restoreHold/2, "the switch", func(ctx context.Context) error { return r.beside.Swap(ctx, r.holds.Fence, r.set) })
}

// verify waits until what the stage serves answers, with connections to what it has now.
func (r *restoration) verify(ctx context.Context) error {
	deadline := time.Now().Add(restoreVerify)
	for inARow := 0; ; {
		err := r.engine.Check(ctx, r.instances())
		if err == nil {
			inARow++
		} else {
			inARow = 0
		}
		switch {
		case inARow >= healthInARow:
			return nil
		case err != nil && time.Now().After(deadline):
			return fmt.Errorf("with the restored data: %w", err)
		}
		if err := sleep(ctx, healthFirstIn); err != nil {
			return err
		}
	}
}

func (r *restoration) open(ctx context.Context) error {
	holder, ok := r.c.opened(r.Stage).(Holder)
	if !ok {
		return nil
	}
	return within(ctx, quickVerb, "the end of the hold", func(ctx context.Context) error { return holder.EndHold(ctx, r.holds.Fence) })
}

// Forget deletes what a restore has kept. ErrNotFound, with what there is, for an id of which nothing is kept.
func (c *Controller) Forget(ctx context.Context, q DataRequest) error {
	serves, err := c.served(ctx, q.App, q.Stage)
	if err != nil {
		return err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return err
	}
	kept, err := h.kept(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(kept, func(k KeptData) bool { return k.ID == q.ID }); i < 0 {
		var ids []string
		for _, k := range kept {
			ids = append(ids, k.ID)
		}
		return Hint(fmt.Errorf("%w: %s keeps nothing under %q", ErrNotFound, h.Stage, q.ID), suggestion(q.ID, ids, "no restore has kept anything"))
	}
	r, err := c.restoring(ctx, h, Restoring, Snapshot{}, q.ID, q.By)
	if err != nil {
		return err
	}
	defer r.giveBack()
	return r.whole(ctx, func(ctx context.Context) error {
		if err := r.note(ctx, KindDataForgotten, dataEvent{Kept: q.ID}); err != nil {
			return err
		}
		return r.beside.Forget(ctx, r.holds.Fence, r.set)
	})
}

// kept is what earlier restores of the stage have kept.
func (h *holdings) kept(ctx context.Context) ([]KeptData, error) {
	beside, ok := h.c.opened(h.Stage).(Beside)
	if !ok {
		return nil, nil
	}
	of, err := h.data(ctx)
	if err != nil {
		return nil, err
	}
	return beside.Kept(ctx, DataSet{Database: h.stage.Database, URL: of.URL, Volumes: h.app.Volumes})
}
