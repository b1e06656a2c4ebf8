package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

const (
	dataLook    = 5 * time.Minute  // at the latest, since clocks jump
	snapAgain   = time.Hour        // after one that failed
	missedAfter = time.Hour        // after its time
	firstQuiet  = 10 * time.Minute // of a stage before its first one: whoever sets a stage up deploys again soon, and migrates
	firstLatest = time.Hour        // after its first release, however often it is deployed to
	clockSlack  = time.Minute      // what is said to have happened later than that from now, was said by a clock that was wrong
)

// tendData takes the first and the daily snapshots of stages and holds the drills, until ctx ends.
func (c *Controller) tendData(ctx context.Context) {
	known := map[string]*holdings{} // by the rollout that a stage serves
	for {
		timer := time.NewTimer(c.dataDuties(ctx, known))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.dataChanged:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// lookAtData makes tendData look again.
func (c *Controller) lookAtData() {
	select {
	case c.dataChanged <- struct{}{}:
	default:
	}
}

// dataDuties begins what is due, and returns when to look again.
func (c *Controller) dataDuties(ctx context.Context, known map[string]*holdings) time.Duration {
	rollouts, err := c.rollouts(ctx, EventQuery{})
	if err != nil {
		return dataLook
	}
	next := longWait
	for _, r := range settledOf(rollouts) {
		if c.busy(r.Stage) {
			continue // its end makes us look again
		}
		left, err := c.duty(ctx, r, firstSettled(rollouts, r.Stage), known)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
			c.Log.Warn("the snapshots of a stage could not be seen to, trying again", "stage", r.Stage.String(), "error", err, "hint", HintOf(err))
		}
		if err != nil {
			left = dataLook
		}
		next = min(next, left)
	}
	return next
}

func firstSettled(rollouts []Rollout, ref StageRef) time.Time {
	i := slices.IndexFunc(rollouts, func(r Rollout) bool { return r.Stage == ref && (r.Outcome == Settled || r.Outcome == Over) })
	return rollouts[i].Ended
}

// duty sees to one stage.
func (c *Controller) duty(ctx context.Context, r Rollout, since time.Time, known map[string]*holdings) (time.Duration, error) {
	h := known[r.ID]
	if h == nil {
		var err error
		h, err = c.holdingsOf(ctx, r)
		if errors.Is(err, ErrUnsupported) {
			return longWait, nil // the status says so
		}
		if err != nil {
			return 0, err
		}
		known[r.ID] = h
	}
	rule := h.stage.Database.Snapshots
	if rule.At == "" {
		return longWait, nil
	}
	last, err := ParseDaily(rule.At)
	if err != nil {
		return 0, err
	}
	events, err := c.dataEvents(ctx, r.Stage)
	if err != nil {
		return 0, err
	}
	now := c.now()
	past, err := pastOf(events, now)
	if err != nil {
		return 0, err
	}
	c.noteData(r.Stage, past.worry(now, since))
	due, why := last(now), SnapshotDaily
	if since.After(due) {
		due, why = firstDue(since, r.Ended), SnapshotFirst
	}
	left := min(dataLook, last(now.Add(24*time.Hour)).Sub(now)+time.Second)
	switch {
	case past.going:
		return left, nil // its end makes us look again
	case !past.taken.Before(due) || why == SnapshotFirst && !past.taken.IsZero():
		return left, c.drillDue(ctx, h, past, now)
	case now.Before(due):
		return min(left, due.Sub(now)), nil
	case past.failed.After(due) && now.Sub(past.failed) < snapAgain:
		return min(left, snapAgain-now.Sub(past.failed)), nil
	}
	if _, err := h.data(ctx); errors.Is(err, ErrRefused) {
		return longWait, nil // there is none; the status says so
	} else if err != nil {
		return snapAgain, c.failedEarly(ctx, r.Stage, why, err)
	}
	if now.Sub(due) > missedAfter && past.missed.Before(due) && past.failed.Before(due) {
		e := Event{Kind: KindSnapshotMissed, App: r.Stage.App, Stage: r.Stage.Stage, Data: data(dataEvent{Due: due.UTC(), Code: CodeOf(ErrUnavailable),
			Failed: fmt.Sprintf("the snapshot of %s was not taken: no controller was there to take it", due.UTC().Format(saidLike))})}
		if _, err := c.Ledger.Append(ctx, e); err != nil {
			return 0, err
		}
	}
	_, err = c.snapshot(ctx, h, why, "", Person{})
	return left, err
}

// failedEarly tells of a snapshot that cannot even begin.
func (c *Controller) failedEarly(ctx context.Context, ref StageRef, why SnapshotReason, err error) error {
	failed := failedData(err)
	failed.Why, failed.Again = why, c.failedBefore(ctx, ref)
	_, err = c.Ledger.Append(ctx, Event{Kind: KindSnapshotFailed, App: ref.App, Stage: ref.Stage, Data: data(failed)})
	return err
}

// firstDue is when a stage's first snapshot is taken, where its first release settled after the time of the day.
func firstDue(since, last time.Time) time.Time {
	due := last.Add(firstQuiet)
	if latest := since.Add(firstLatest); latest.Before(due) {
		return latest
	}
	return due
}

// drillDue begins the drill of the newest snapshot, where none was held and the rule wants one.
func (c *Controller) drillDue(ctx context.Context, h *holdings, past dataPast, now time.Time) error {
	every := map[string]time.Duration{DrillsWeekly: 7 * 24 * time.Hour, DrillsMonthly: 30 * 24 * time.Hour}[h.drills()]
	if past.undrilled == "" || now.Sub(past.drilled) < every {
		return nil
	}
	_, err := c.drill(ctx, h, past.undrilled, Person{})
	return err
}

// drills is how often a drill is held. On a platform each costs hours of a machine, and so is asked for where it is to be daily.
func (h *holdings) drills() string {
	if said := h.stage.Database.Snapshots.Drills; said != "" {
		return said
	}
	if _, takes := h.platforms(); takes {
		return DrillsWeekly
	}
	return DrillsEach
}

// dataPast is what the ledger says of the snapshots of a stage.
type dataPast struct {
	going     bool // a job has begun and is not over
	taken     time.Time
	failed    time.Time // the last that failed
	missed    time.Time
	drilled   time.Time
	undrilled string // the newest snapshot, where no drill was held of it
	failing   bool   // the last that was tried failed
	unproven  bool   // the last drill failed
}

func pastOf(events []Event, now time.Time) (p dataPast, err error) {
	open := map[string]bool{}
	for _, e := range events {
		d, err := dataOfEvent(e)
		if err != nil {
			return p, err
		}
		at := e.At
		if at.After(now.Add(clockSlack)) {
			at = time.Time{}
		}
		switch e.Kind {
		case KindDataBegun:
			open[d.Job] = true
		case KindDataEnded:
			delete(open, d.Job)
		case KindSnapshotTaken:
			p.taken, p.undrilled, p.failing = at, d.Taken.ID, false
		case KindSnapshotFailed:
			p.failed, p.failing = at, true
		case KindSnapshotMissed:
			p.missed = at
		case KindSnapshotProven, KindSnapshotUnproven:
			p.drilled, p.unproven = at, e.Kind == KindSnapshotUnproven
			if d.Snapshot == p.undrilled {
				p.undrilled = ""
			}
		}
	}
	p.going = len(open) > 0
	return p, nil
}

// worry is why the data of a stage that takes a snapshot a day is not safe; "" where it is. The first has as long as it may take.
func (p dataPast) worry(now, since time.Time) string {
	switch {
	case p.taken.IsZero() && now.Sub(since) > firstLatest+missedAfter:
		return "there is no snapshot of its data"
	case !p.taken.IsZero() && now.Sub(p.taken) > stale:
		return "the last snapshot of its data is of " + p.taken.UTC().Format(saidLike)
	case p.failing:
		return "the last snapshot of its data failed"
	case p.unproven:
		return "the last snapshot of its data could not be proven"
	}
	return ""
}

func (c *Controller) noteData(ref StageRef, worry string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsafe[ref] = worry
}

func (c *Controller) dataNote(ref StageRef) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsafe[ref]
}

// failedBefore reports whether the snapshot before this one failed, too: people are told once.
func (c *Controller) failedBefore(ctx context.Context, ref StageRef) bool {
	events, err := c.dataEvents(ctx, ref)
	if err != nil {
		return false
	}
	past, err := pastOf(events, c.now())
	return err == nil && past.failing
}

// takeUpData ends in the ledger what a controller before this one was doing with the data of stages, and goes on with restores.
func (c *Controller) takeUpData(ctx context.Context) error {
	events, err := c.dataEvents(ctx, StageRef{})
	if err != nil {
		return err
	}
	jobs, err := foldData(events)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if job.Over {
			continue
		}
		if job.Verb == Restoring || job.Verb == Copying {
			c.takeUpRestore(ctx, job)
			continue
		}
		ended := failedData(Hint(fmt.Errorf("%w: the controller ended meanwhile", ErrAborted), "ask again; a daily one is taken up by itself"))
		ended.Job = job.ID
		if _, err := c.Ledger.Append(ctx, Event{Kind: KindDataEnded, App: job.Stage.App, Stage: job.Stage.Stage, Data: data(ended)}); err != nil {
			return err
		}
	}
	return nil
}

// The step of a rollout.

// unneeded is true where the rollout changes nothing of a schema that somebody works with, where snapshots are off, and where somebody has
// said why there is to be none.
func unneeded(ctx context.Context, w *walk) (bool, error) {
	db := w.stage.Database
	if !db.Migrates() || db.Snapshots.At == "" {
		return true, nil
	}
	if db.Migrate != "" && w.brings != nil && len(w.brings.Files) == 0 {
		return true, nil // tried on a clone, the command has done nothing
	}
	if _, err := w.keeper(); errors.Is(err, ErrUnsupported) {
		return true, nil
	}
	rollouts, err := w.c.rollouts(ctx, EventQuery{App: w.Stage.App, Stage: w.Stage.Stage})
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(rollouts, func(r Rollout) bool { return r.Outcome == Settled || r.Outcome == Over })
	if i < 0 && db.Own() {
		return true, nil // the database is new
	}
	if serves, ok := lastSettled(rollouts, w.Stage.Stage); ok {
		return w.migratesAs(ctx, serves), nil
	}
	return false, nil
}

// migratesAs reports whether the release brings the same migrations as what the stage serves. What cannot be known is no.
func (w *walk) migratesAs(ctx context.Context, serves Rollout) bool {
	app, err := w.c.appOf(ctx, serves)
	if err != nil {
		return false
	}
	before, err := app.stage(w.Stage.Stage)
	if err != nil || w.stage.Database.Migrate != "" || before.Database.Migrations != w.stage.Database.Migrations {
		return false
	}
	old, err := w.c.Builder.Release(ctx, serves.Release)
	if err != nil {
		return false
	}
	of := func(r Release) (names []string, err error) {
		files, err := w.c.Builder.Files(ctx, r)
		if err != nil {
			return nil, err
		}
		err = fs.WalkDir(files, w.stage.Database.Migrations, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, name)
			}
			return err
		})
		return names, err
	}
	was, err1 := of(old)
	is, err2 := of(w.release)
	return err1 == nil && err2 == nil && slices.Equal(was, is)
}

// snapshotFirst copies what the stage has before the release migrates it. A copy that this rollout has taken before a crash will do.
func snapshotFirst(ctx context.Context, w *walk) error {
	if w.Unsaved != "" {
		w.prove(Evidence{Probe: "snapshot", Figure: "none, by --without-snapshot: " + w.Unsaved})
		return nil
	}
	keeper, err := w.keeper()
	if err != nil {
		return err
	}
	of, err := w.data(ctx)
	if err != nil {
		return err
	}
	h := &holdings{w, keeper}
	taken, err := h.takenFor(ctx)
	if err == nil && taken.ID == "" {
		order := SnapshotOrder{Stage: w.Stage, Why: SnapshotMigration, Rollout: w.ID, Data: of}
		if serves, ok := w.serves(ctx); ok {
			order.Release = serves.Release
		}
		taken, err = h.take(ctx, order)
	}
	if err != nil {
		return Hint(fmt.Errorf("no snapshot before the migration, so nothing was migrated: %w", err),
			strings.TrimPrefix(HintOf(err)+"\nor `--without-snapshot --reason WHY`, which is kept in the history", "\n"))
	}
	e := Event{Kind: KindSnapshotTaken, App: w.Stage.App, Stage: w.Stage.Stage, Actor: w.Actor, Data: data(dataEvent{Taken: &taken, Rollout: w.ID})}
	if _, err := w.c.Ledger.Append(ctx, e); err != nil {
		return err
	}
	w.prove(Evidence{Probe: "snapshot", Figure: fmt.Sprintf("%s, %s in %s", taken.ID, inBytes(taken.Size), taken.Took.Round(time.Millisecond))})
	return nil
}

func (h *holdings) takenFor(ctx context.Context) (Snapshot, error) {
	all, err := h.keeper.List(ctx, h.Stage)
	i := slices.IndexFunc(all, func(s Snapshot) bool { return s.Rollout == h.ID && s.Damaged == "" })
	if err != nil || i < 0 {
		return Snapshot{}, err
	}
	return all[i], nil
}

// serves is what the stage serves while the rollout is on its way.
func (w *walk) serves(ctx context.Context) (Rollout, bool) {
	rollouts, err := w.c.rollouts(ctx, EventQuery{App: w.Stage.App, Stage: w.Stage.Stage})
	if err != nil {
		return Rollout{}, false
	}
	return lastSettled(rollouts, w.Stage.Stage)
}
