package deploy

import (
	"context"
	"fmt"

	"github.com/robfig/cron/v3"
)

// KindNotPromoted is the event of a promotion whose time had come and that was not let in. Its data says why.
const KindNotPromoted = "schedule.refused"

type notPromotedData struct {
	Code string `json:"code"`
	Why  string `json:"why"`
	Hint string `json:"hint,omitempty"`
}

// addPromotions has the stages promoted at their times that a schedule starts, by the lotse.yaml of what settled last.
func (c *Controller) addPromotions(ctx context.Context, to *cron.Cron, settled []Rollout) error {
	newest := map[string]Rollout{}
	for _, r := range settled {
		if last, ok := newest[r.Stage.App]; !ok || r.Ended.After(last.Ended) {
			newest[r.Stage.App] = r
		}
	}
	for name, r := range newest {
		app, err := c.appOf(ctx, r)
		if err != nil {
			return fmt.Errorf("the schedules of %s: %w", name, err)
		}
		for i, s := range app.Stages {
			if i == 0 || s.On.Schedule == "" {
				continue
			}
			if _, err := to.AddFunc(s.On.Schedule, func() { c.promoteOnTime(ctx, StageRef{name, s.Name}) }); err != nil {
				return fmt.Errorf("the schedule of %s/%s: %w", name, s.Name, err)
			}
		}
	}
	return nil
}

// promoteOnTime promotes what the stage before serves, in the name of the commit's author, unless the stage has it already.
func (c *Controller) promoteOnTime(ctx context.Context, ref StageRef) {
	err := c.punctual(ctx, ref)
	if err == nil || ctx.Err() != nil {
		return
	}
	c.Log.Warn("a promotion whose time had come was not let in", "stage", ref.String(), "error", err, "hint", HintOf(err))
	e := Event{Kind: KindNotPromoted, App: ref.App, Stage: ref.Stage, Data: data(notPromotedData{CodeOf(err), err.Error(), HintOf(err)})}
	if _, err := c.Ledger.Append(ctx, e); err != nil {
		c.Log.Error("and that could not be recorded", "stage", ref.String(), "error", err)
	}
}

func (c *Controller) punctual(ctx context.Context, ref StageRef) error {
	rollouts, err := c.rollouts(ctx, EventQuery{App: ref.App})
	if err != nil {
		return err
	}
	w, err := c.promoting(ctx, Move{App: ref.App, Stage: ref.Stage})
	if err != nil {
		return err
	}
	if now, ok := lastSettled(rollouts, ref.Stage); ok && now.Release == w.Release {
		return nil
	}
	w.Trigger = BySchedule
	_, err = c.request(ctx, w, Person{})
	return err
}
