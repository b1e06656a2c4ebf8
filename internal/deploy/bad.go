package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// KindBad is the event of a release that did worse than the one before: nothing takes it to a stage by mistake any more.
const KindBad = "bad"

type badData struct {
	Why string `json:"why"`
}

// markBad writes that the release is bad, once, when the rollout turned because of a regression.
func (w *walk) markBad(ctx context.Context) error {
	if w.Bad != "" || w.Turned == nil || !errors.Is(ErrorOf(w.Turned.Code), ErrRegression) {
		return nil
	}
	return w.write(ctx, Event{Kind: KindBad, Release: w.Release, Data: data(badData{Why: w.Turned.Why})})
}

// badReleases maps what was marked as bad to the reason.
func badReleases(rollouts []Rollout) map[Digest]string {
	bad := map[Digest]string{}
	for _, r := range rollouts {
		if r.Bad != "" {
			bad[r.Release] = fmt.Sprintf("rollout %s to %s: %s", r.ID, r.Stage.Stage, r.Bad)
		}
	}
	return bad
}

// refuseBad refuses a release that was marked as bad, unless somebody asked for it all the same.
func (w *walk) refuseBad(ctx context.Context) error {
	if w.Release == "" || w.Again {
		return nil
	}
	rollouts, err := w.c.rollouts(ctx, EventQuery{App: w.Stage.App})
	if err != nil {
		return err
	}
	why, bad := badReleases(rollouts)[w.Release]
	if !bad {
		return nil
	}
	hint := "deploy a commit that puts it right; --again takes this one all the same"
	if good := lastGood(rollouts, w.Stage); w.Verb == RolledBack && good != "" {
		hint = fmt.Sprintf("`lotse rollback %s --to %s` goes back to the last one that is not; --again takes this one all the same", w.Stage.Stage, good.Short())
	}
	return Hint(fmt.Errorf("%w: release %s is marked as bad: %s", ErrRefused, w.Release.Short(), why), hint)
}

// lastGood is the last release before the one of now that settled on a stage and was not marked as bad; empty where there is none.
func lastGood(rollouts []Rollout, stage StageRef) Digest {
	bad := badReleases(rollouts)
	now, _ := lastSettled(rollouts, stage.Stage)
	for _, r := range slices.Backward(rollouts) {
		if r.Stage == stage && r.Outcome == Settled && r.Release != now.Release && bad[r.Release] == "" {
			return r.Release
		}
	}
	return ""
}
