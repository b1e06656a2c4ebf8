package deploy

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// DoraQuery asks for the four figures of one stage, or of all.
type DoraQuery struct {
	App   string    `json:"app,omitempty"`
	Stage string    `json:"stage,omitempty"`
	Since time.Time `json:"since"`
}

// Dora are the four figures of a stage over a span of time, as DORA defines them (dora.dev, "DORA's software delivery metrics"), read
// from what the ledger knows. Medians are of what there is; the counts beside them say of how much.
type Dora struct {
	Stage StageRef  `json:"stage"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	Deployments int     `json:"deployments"` // releases that a deploy or a promotion brought, and that settled
	PerDay      float64 `json:"per_day"`

	Lead     time.Duration `json:"lead_time"`  // median from the commit to the end of the rollout that brought it
	Measured int           `json:"lead_times"` // rollouts whose commit's time is known

	Changes  int     `json:"changes"`             // deployments, and rollouts that went back after they had got traffic
	Failed   int     `json:"failed"`              // of them: went back, or were rolled back later
	FailRate float64 `json:"change_failure_rate"` // Failed of Changes, 0 to 1

	Restore  time.Duration `json:"time_to_restore"` // median from the traffic of a failed change to the end of what undid it
	Restored int           `json:"restored"`        // of Failed: those that are undone
}

// Dora computes the figures from the rollouts that ended since then, for the stages in the order of their names.
func (c *Controller) Dora(ctx context.Context, q DoraQuery) ([]Dora, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{App: q.App})
	if err != nil {
		return nil, err
	}
	byStage := map[StageRef][]Rollout{}
	for _, r := range rollouts {
		if q.Stage == "" || r.Stage.Stage == q.Stage {
			byStage[r.Stage] = append(byStage[r.Stage], r)
		}
	}
	if len(byStage) == 0 && q.Stage != "" {
		return nil, c.servesNothingYet(ctx, q)
	}
	figures := []Dora{}
	for stage, of := range byStage {
		figures = append(figures, doraOf(stage, of, q.Since, c.now()))
	}
	slices.SortFunc(figures, func(a, b Dora) int { return cmp.Compare(a.Stage.String(), b.Stage.String()) })
	return figures, nil
}

// servesNothingYet is an error for a stage that is not in lotse.yaml, and nil for one that nothing came to yet.
func (c *Controller) servesNothingYet(ctx context.Context, q DoraQuery) error {
	rollouts, err := c.rolloutsOf(ctx, Move{App: q.App})
	if err != nil {
		return err
	}
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return err
	}
	_, err = app.stage(q.Stage)
	return err
}

// change is a release that clients of a stage have met.
type change struct {
	traffic time.Time     // since when
	undone  time.Duration // where it failed: how long until it was taken away again
	failed  bool
}

func doraOf(stage StageRef, rollouts []Rollout, since, until time.Time) Dora {
	d := Dora{Stage: stage, Since: since, Until: until}
	var lead, restore []time.Duration
	for i, r := range rollouts {
		if r.Ended.Before(since) || r.Ended.After(until) || !r.brings() {
			continue
		}
		if r.Outcome == Settled || r.Outcome == Over {
			d.Deployments++
			if !r.CommitAt.IsZero() {
				lead = append(lead, max(0, r.Ended.Sub(r.CommitAt)))
			}
		}
		of, met := r.change(rollouts[i+1:])
		if !met {
			continue
		}
		d.Changes++
		if of.failed {
			d.Failed++
			restore = append(restore, of.undone)
		}
	}
	if days := until.Sub(since).Hours() / 24; days > 0 {
		d.PerDay = float64(d.Deployments) / days
	}
	if d.Changes > 0 {
		d.FailRate = float64(d.Failed) / float64(d.Changes)
	}
	d.Lead, d.Measured = median(lead), len(lead)
	d.Restore, d.Restored = median(restore), len(restore)
	return d
}

// brings reports whether the rollout was to bring something new: going back and starting anew are no changes.
func (r Rollout) brings() bool { return r.Verb == Deployed || r.Verb == Promoted || r.Verb == "" }

// change says what became of what a rollout has brought. One that went back before it had traffic was met by nobody, and is none. later are
// the stage's rollouts after it.
func (r Rollout) change(later []Rollout) (of change, met bool) {
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == "shift" })
	if i < 0 || r.Outcome == Unchanged || !r.Outcome.Ended() {
		return of, false
	}
	of.traffic = r.Steps[i].Began
	if r.Outcome == Reverted {
		of.failed, of.undone = true, max(0, r.Ended.Sub(of.traffic))
		return of, true
	}
	for _, next := range later {
		switch {
		case next.Outcome != Settled && next.Outcome != Over:
		case next.Verb == RolledBack && next.Release != r.Release:
			of.failed, of.undone = true, max(0, next.Ended.Sub(of.traffic))
			return of, true
		case next.brings() && next.Release != r.Release:
			return of, true // something newer came
		}
	}
	return of, true
}

// median is the one in the middle, or between the two that are; 0 of none.
func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
