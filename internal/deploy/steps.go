package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// step is one row of the table in the package's comment.
type step struct {
	name string
	do   func(context.Context, *walk) error
	done func(context.Context, *walk) (bool, error) // nil: never known to be done
	undo func(context.Context, *walk) error         // nil: nothing to undo
}

// table is the story. A test compares it with the drawing in doc.go.
func table() []step {
	return []step{
		{name: "build", do: build, done: built},
		{name: "fill", do: fill, done: nothingPublic},
		{name: "lease", do: takeLease, undo: giveLeaseBack},
		{name: "entry", do: askEntry},
		{name: "database", do: openDatabase, done: noDatabase},
		{name: "snapshot", do: snapshotFirst, done: unneeded},
		{name: "migrate", do: migrate, done: noMigrations},
		{name: "clear", do: clearStage, done: besideOld, undo: bringBack},
		{name: "start", do: start, undo: stop},
		{name: "health", do: askHealth, done: hasTraffic},
		{name: "shift", do: shift, done: hasTraffic, undo: shiftBack},
		{name: "watch", do: watch},
		{name: "settle", do: settle},
	}
}

// StepNames are the rows of the table from the top: the road of every rollout.
func StepNames() []string {
	var names []string
	for _, s := range table() {
		names = append(names, s.name)
	}
	return names
}

// Figures of the gates of health; the reasons are in DESIGN's defaults.
const (
	leaseTTL      = 15 * time.Second
	leaseRenewal  = leaseTTL / 3
	healthEvery   = time.Second
	healthInARow  = 3
	healthFirstIn = 100 * time.Millisecond // between the first answers, so that a quick app is not made to wait
)

func build(ctx context.Context, w *walk) error {
	if w.Verb != Deployed { // the same bytes go from stage to stage, or none
		return Hint(fmt.Errorf("release %s: %w, or not whole any more", w.Release.Short(), ErrNotFound), "deploy its commit again")
	}
	release, err := w.c.Builder.Build(ctx, w.ID, w.app, w.commit, w.reportStep, w.output)
	if err != nil && !errors.Is(err, ErrBuild) {
		err = fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if err != nil {
		return err
	}
	w.source = release
	return w.write(ctx, Event{Kind: KindRelease, Release: release.ID, Data: data(releaseData{Steps: withoutLogs(release.Record.Steps)})})
}

// withoutLogs leaves out where logs lie: a path may hold somebody's name, and says nothing on another machine.
func withoutLogs(steps []StepEvidence) []StepEvidence {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Log = ""
	}
	return steps
}

func built(ctx context.Context, w *walk) (bool, error) {
	if w.Release == "" {
		return false, nil
	}
	release, err := w.c.Builder.Release(ctx, w.Release)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return false, nil // the pipeline makes it again, from what it still has
	}
	w.source = release
	return err == nil, err
}

func takeLease(ctx context.Context, w *walk) error {
	if err := w.overtake(ctx); err != nil {
		return err
	}
	if err := w.c.interrupt(ctx, w.Stage); err != nil {
		return err
	}
	lease, err := w.c.Ledger.Acquire(ctx, w.Stage, w.c.owner(w.ID), leaseTTL, w.c.gone)
	if err != nil {
		return err
	}
	w.lease = lease
	w.renewing(ctx)
	return nil
}

func giveLeaseBack(ctx context.Context, w *walk) error {
	w.stopRenewing()
	return w.c.Ledger.Release(ctx, w.lease)
}

// askEntry asks what can be known before anything of the stage is touched.
func askEntry(ctx context.Context, w *walk) error {
	begun := time.Now()
	if err := w.c.Builder.Verify(ctx, w.release.ID); err != nil {
		return Hint(fmt.Errorf("release %s: %w", w.release.ID.Short(), err),
			"deploy the commit again; the pipeline makes the release anew from what is whole")
	}
	if err := w.refuseBad(ctx); err != nil {
		return err
	}
	w.prove(Evidence{Probe: "release", Figure: fmt.Sprintf("%d files verified in %s", len(w.release.Manifest.Files), since(begun))})
	w.evidence = append(w.evidence, w.Rules...) // asked at the request
	if err := w.askGatesOfEntry(ctx); err != nil {
		return err
	}
	running, err := w.engine.List(ctx)
	if err != nil {
		return err
	}
	if settings, unchanged := w.unchanged(running); unchanged {
		w.prove(Evidence{Probe: "settings", Figure: fmt.Sprintf("%d, as before", settings)})
		return errUnchanged
	}
	return w.judgeMigrations(ctx)
}

func start(ctx context.Context, w *walk) error {
	if taken, err := w.takeOver(ctx); taken || err != nil {
		return err
	}
	err := w.engine.Start(ctx, w.lease.Fence, w.order())
	if err == nil && w.migratesInStart() {
		w.prove(Evidence{Probe: "migrations", Figure: "run on the first instance, before the release started there"})
		return w.contracted(ctx)
	}
	return err
}

func stop(ctx context.Context, w *walk) error {
	if w.Runs != "" {
		return nil // they were there before, and are warm
	}
	return w.engine.Stop(ctx, w.lease.Fence, w.ID, w.Drain)
}

// askHealth wants 3 answers in a row, and from then on nothing but answers through the stable window.
func askHealth(ctx context.Context, w *walk) error {
	if w.Runs != "" {
		return w.askOnce(ctx)
	}
	begun := time.Now()
	if err := w.askInARow(ctx, healthInARow); err != nil {
		return err
	}
	glance, end := w.glance(ctx)
	defer end()
	asked, err := w.askThrough(ctx, w.stage.Stable)
	w.prove(Evidence{Probe: "health", Figure: fmt.Sprintf("%d answers in %s", healthInARow+asked, since(begun))})
	if err != nil {
		return err
	}
	return w.askGatesOfHealth(ctx, glance)
}

// askInARow asks until there were so many answers in a row, as long as a service may take to start.
func (w *walk) askInARow(ctx context.Context, wanted int) error {
	deadline := time.Now().Add(w.app.longestStart())
	for inARow := 0; ; {
		err := w.engine.Check(ctx, w.instances())
		switch {
		case err == nil:
			inARow++
		case time.Now().After(deadline) || !errors.Is(err, ErrUnhealthy):
			return err
		default:
			inARow = 0
		}
		if inARow >= wanted {
			return nil
		}
		if err := sleep(ctx, healthFirstIn); err != nil {
			return err
		}
	}
}

// hasTraffic is true when a controller before this one had shifted already.
func hasTraffic(ctx context.Context, w *walk) (bool, error) {
	running, err := w.engine.List(ctx)
	i := slices.IndexFunc(running, func(r Running) bool { return r.Rollout == w.instances() })
	return i >= 0 && running[i].Share == 100, err
}

// watch asks on while the new release serves, and judges it by the last minutes of the one before. A newer rollout may end it early: a
// hotfix never waits.
func watch(ctx context.Context, w *walk) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopWaiting := w.onOvertaken(func() { cancel(errOvertaken) })
	defer stopWaiting()
	w.letGo(ctx)
	return w.observe(ctx, w.span("after the shift", w.shifted(), w.lastMinutes(ctx)), w.stage.Watch)
}

// settle writes that the rollout is good. That is its last event; what is older than the release before is retired then, beside
// whatever else goes on, since its drain may take its time.
func settle(ctx context.Context, w *walk) error {
	err := w.write(ctx, Event{Kind: KindSettled, Release: w.Release, Data: data(settledData{Before: w.Before})})
	w.c.pushes.look() // a tag may wait for it
	return err
}
