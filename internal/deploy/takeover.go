package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// KindRuns is an event of the step start: the rollout goes back to instances that are warm and starts none. They keep the id of the rollout
// that started them, by which every verb of an engine names them. Without an id, they were gone after a crash.
const KindRuns = "runs"

type runsData struct {
	Runs string `json:"runs,omitempty"`
}

// instances is the id by which engines know what the rollout runs.
func (r Rollout) instances() string { return cmp.Or(r.Runs, r.ID) }

// onWhich is the rollout that runs on these instances: the newest of those that took them over, or the one that started them.
func onWhich(rollouts []Rollout, instances string) (Rollout, bool) {
	for _, r := range slices.Backward(rollouts) {
		if r.instances() == instances && r.Outcome != Reverted && r.Outcome != Unchanged {
			return r, true
		}
	}
	return Rollout{}, false
}

// takeOver has a rollback run on the instances that are warm, where they are what it would start. Once it does it keeps to them, also after
// a crash: they may have the traffic.
func (w *walk) takeOver(ctx context.Context) (bool, error) {
	if w.Verb != RolledBack || w.stage.Strategy == Recreate { // which leaves nothing warm
		return false, nil
	}
	running, err := w.engine.List(ctx)
	if err != nil {
		return false, err
	}
	if w.Runs != "" {
		return w.takeUpAgain(ctx, running)
	}
	if slices.ContainsFunc(running, func(r Running) bool { return r.Rollout == w.ID }) { // a controller before this one began to start it
		return false, nil
	}
	warm, ok, err := w.warmOne(ctx, running)
	if !ok || err != nil {
		return false, err
	}
	if err := w.engine.Check(ctx, warm); err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		w.c.Log.Warn("the warm release does not answer, so it is started anew", "rollout", w.ID, "error", err)
		return false, nil
	}
	w.prove(Evidence{Probe: "instances", Figure: "those of rollout " + warm + ", which were warm"})
	return true, w.write(ctx, Event{Kind: KindRuns, Data: data(runsData{warm})})
}

// takeUpAgain looks after what an earlier controller had taken over.
func (w *walk) takeUpAgain(ctx context.Context, running []Running) (bool, error) {
	listed := slices.ContainsFunc(running, func(r Running) bool { return r.Rollout == w.Runs })
	if adopter, ok := w.c.opened(w.Stage).(Adopter); ok && listed {
		err := within(ctx, w.app.longestStart()+slowVerb, "adopt", func(ctx context.Context) error { return adopter.Adopt(ctx, w.Runs, w.order()) })
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if listed = !errors.Is(err, ErrUnknown); listed && err != nil {
			w.c.Log.Warn("what was taken over could not be adopted", "rollout", w.ID, "error", err) // their health says whether that matters
		}
	}
	if !listed {
		return false, w.write(ctx, Event{Kind: KindRuns, Data: data(runsData{})})
	}
	w.prove(Evidence{Probe: "instances", Figure: "those of rollout " + w.Runs})
	return true, nil
}

// warmOne names the instances of the release before what the stage serves, while they are warm and are all that a start would make: the
// same files, the same values, the same password. What they were given is what their own rollout was.
func (w *walk) warmOne(ctx context.Context, running []Running) (string, bool, error) {
	events, err := w.c.Ledger.Events(ctx, EventQuery{App: w.Stage.App, Stage: w.Stage.Stage})
	if err != nil {
		return "", false, err
	}
	rollouts, err := fold(events)
	if err != nil {
		return "", false, err
	}
	last, _ := lastSettled(rollouts, w.Stage.Stage)
	i := slices.IndexFunc(rollouts, func(r Rollout) bool { return r.ID == last.Before })
	if i < 0 || last.warmLeft() == 0 { // what is warm no more may be on its way out
		return "", false, nil
	}
	from := rollouts[i]
	is := slices.ContainsFunc(running, func(r Running) bool { return r.Rollout == from.ID && r.Release == w.release.ID })
	same := from.Values != nil && maps.Equal(from.Values, w.settings.Digests) && !newPassword(events, from.Began)
	migrated := !w.migratesInStart() || len(from.Waiting) == 0 // what waits there runs in a start
	return from.ID, is && same && migrated, nil
}

// newPassword reports whether the stage has got another password since. Not every platform gives it to what runs.
func newPassword(events []Event, since time.Time) bool {
	return slices.ContainsFunc(events, func(e Event) bool { return e.Kind == KindPasswordNew && !e.At.Before(since) })
}

// askOnce asks what was taken over, which has proven itself before: one answer is enough. After a crash it may still be coming up.
func (w *walk) askOnce(ctx context.Context) error {
	begun := time.Now()
	if err := w.askInARow(ctx, 1); err != nil {
		return err
	}
	w.prove(Evidence{Probe: "health", Figure: fmt.Sprintf("an answer in %s; it was warm, so its gates are not asked again", since(begun))})
	return nil
}
