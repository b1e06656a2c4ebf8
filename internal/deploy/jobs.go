package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// scheduler runs the jobs of what every stage serves now.
type scheduler struct {
	cron *cron.Cron
	of   []string // the rollouts whose jobs are scheduled
}

func (s *scheduler) stop() {
	if s.cron != nil {
		<-s.cron.Stop().Done()
	}
}

// ParseSchedule reads five fields of cron, or @daily and its kind. Times are UTC unless the line begins with CRON_TZ=.
func ParseSchedule(line string) (cron.Schedule, error) {
	// The parser takes what follows the zone's name for granted, and panics without it.
	if zone, rest, _ := strings.Cut(line, " "); strings.Contains(zone, "TZ=") && strings.TrimSpace(rest) == "" {
		return nil, fmt.Errorf("%w: the schedule %q has a time zone and no fields after it", ErrBadInput, line)
	}
	return cron.ParseStandard(line)
}

// schedule replaces the jobs when a stage serves something else than before. A job that is still running is not started
// again; what a controller that was down has missed is not made up for.
func (c *Controller) schedule(ctx context.Context) error {
	settled, err := c.settledNow(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, len(settled))
	for i, r := range settled {
		ids[i] = r.ID
	}
	if slices.Equal(ids, c.jobs.of) {
		return nil
	}
	next := cron.New(cron.WithLocation(time.UTC), cron.WithChain(cron.SkipIfStillRunning(cron.DiscardLogger)))
	for _, r := range settled {
		if err := c.addJobs(ctx, next, r); err != nil {
			return err
		}
	}
	if err := c.addPromotions(ctx, next, settled); err != nil {
		return err
	}
	if c.jobs.cron != nil {
		c.jobs.cron.Stop() // what is running runs on
	}
	next.Start()
	c.jobs.cron, c.jobs.of = next, ids
	return nil
}

func (c *Controller) addJobs(ctx context.Context, to *cron.Cron, r Rollout) error {
	engine := c.opened(r.Stage)
	tasks, ok := engine.(Tasks)
	if !ok {
		return nil
	}
	release, err := c.Builder.Release(ctx, r.Release)
	if err != nil {
		return fmt.Errorf("jobs of %s: %w", r.Stage, err)
	}
	for _, j := range release.Manifest.Jobs {
		if _, err := to.AddFunc(j.Schedule, func() { c.runJob(ctx, tasks, r, j) }); err != nil {
			return fmt.Errorf("job %s of %s: %w", j.Name, r.Stage, err)
		}
	}
	return nil
}

type jobData struct {
	Job  string        `json:"job"`
	Took time.Duration `json:"took,omitempty"`
	Exit int           `json:"exit,omitempty"`
	Why  string        `json:"why,omitempty"`
}

// runJob runs a job once, between its two events.
func (c *Controller) runJob(ctx context.Context, tasks Tasks, r Rollout, j Job) {
	event := func(kind string, d jobData) {
		e := Event{Kind: kind, App: r.Stage.App, Stage: r.Stage.Stage, Release: r.Release, Data: data(d)}
		if _, err := c.Ledger.Append(context.WithoutCancel(ctx), e); err != nil {
			c.Log.Error("a job could not be recorded", "job", j.Name, "error", err)
		}
	}
	begun := time.Now()
	event(KindJobBegun, jobData{Job: j.Name})
	limited, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	err := tasks.Task(limited, r.instances(), j.Name, j.Command, j.Volumes)
	ended := jobData{Job: j.Name, Took: since(begun)}
	if err != nil {
		ended.Why = err.Error()
		if exit, ok := errors.AsType[*ExitError](err); ok {
			ended.Exit = exit.Code
		}
		c.Log.Warn("a job failed", "job", j.Name, "stage", r.Stage.String(), "error", err)
	}
	event(KindJobEnded, ended)
}
