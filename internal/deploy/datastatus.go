package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DataStatus is how well the data of a stage is kept.
type DataStatus struct {
	Stage     StageRef       `json:"stage"`
	At        string         `json:"at,omitempty"` // when the daily snapshot is taken; empty: none is taken by itself
	Snapshots int            `json:"snapshots"`
	Last      *Snapshot      `json:"last,omitempty"`
	Proven    *Snapshot      `json:"proven,omitempty"` // the newest that a drill has brought back
	Loss      *time.Duration `json:"loss,omitempty"`   // what a loss now would cost by the newest proven snapshot: the time since it (RPO); none: everything
	Back      *time.Duration `json:"back,omitempty"`   // how long coming back takes (RTO), as its drill has measured it
	Going     *DataJob       `json:"going,omitempty"`  // what is on its way
	Kept      []KeptData     `json:"kept,omitempty"`   // what restores have kept
	Wrong     string         `json:"wrong,omitempty"`  // why the data is not safe; empty: it is
	Hint      string         `json:"hint,omitempty"`
}

// DataStatus returns how well the data of each stage that serves something is kept, or of the one that is named.
func (c *Controller) DataStatus(ctx context.Context, app, stage string) ([]DataStatus, error) {
	all := []DataStatus{}
	settled, err := c.settledNow(ctx)
	if err != nil {
		return nil, err
	}
	if stage != "" {
		serves, err := c.served(ctx, app, stage)
		if err != nil {
			return nil, err
		}
		settled = []Rollout{serves}
	}
	for _, r := range settled {
		if app != "" && r.Stage.App != app {
			continue
		}
		s, err := c.dataStatus(ctx, r)
		if err != nil {
			s.Wrong, s.Hint = err.Error(), HintOf(err)
		}
		all = append(all, s)
	}
	return all, nil
}

func (c *Controller) dataStatus(ctx context.Context, r Rollout) (s DataStatus, err error) {
	s.Stage = r.Stage
	h, err := c.holdingsOf(ctx, r)
	if err != nil {
		return s, err
	}
	s.At = h.stage.Database.Snapshots.At
	events, err := c.dataEvents(ctx, r.Stage)
	if err != nil {
		return s, err
	}
	jobs, err := foldData(events)
	if err != nil {
		return s, err
	}
	if i := slices.IndexFunc(jobs, func(j DataJob) bool { return !j.Over }); i >= 0 {
		s.Going = &jobs[i]
	}
	list, err := h.keeper.List(ctx, r.Stage)
	if err != nil {
		return s, err
	}
	s.judge(list, c.now())
	past, err := pastOf(events, c.now())
	if err != nil {
		return s, err
	}
	if past.failing && s.Wrong == "" {
		s.Wrong = "the last snapshot failed"
	}
	s.Kept, err = h.kept(ctx)
	if errors.Is(err, ErrRefused) { // it has no data, and so none to lose
		s.Wrong, s.Hint, err = "", HintOf(err), nil
	}
	return s, err
}

// stale is how old the newest snapshot of a stage may be that takes one a day: a day, and the time that one may take.
const stale = 26 * time.Hour

// judge says what the snapshots are worth. No news is not good.
func (s *DataStatus) judge(list []Snapshot, now time.Time) {
	s.Snapshots = len(list)
	for i := range slices.Backward(list) {
		if s.Last == nil && list[i].Damaged == "" {
			s.Last = &list[i]
		}
		if s.Proven == nil && list[i].Damaged == "" && list[i].Proof != nil && list[i].Proof.Wrong == "" {
			s.Proven = &list[i]
		}
	}
	if s.Proven != nil {
		loss, back := max(0, now.Sub(s.Proven.At)), s.Proven.Proof.Took
		s.Loss, s.Back = &loss, &back
	}
	var newest Snapshot
	if len(list) > 0 {
		newest = list[len(list)-1]
	}
	switch {
	case newest.Damaged != "":
		s.Wrong = fmt.Sprintf("snapshot %s cannot be used: %s", newest.ID, newest.Damaged)
	case newest.Proof != nil && newest.Proof.Wrong != "":
		s.Wrong = fmt.Sprintf("snapshot %s could not be proven: %s", newest.ID, newest.Proof.Wrong)
	case s.Last == nil:
		s.Wrong = "there is no snapshot"
	case s.Proven == nil:
		s.Wrong = "no snapshot is proven"
	case s.At != "" && now.Sub(s.Last.At) > stale:
		s.Wrong = fmt.Sprintf("the last snapshot is of %s", s.Last.At.UTC().Format(saidLike))
	case s.At == "":
		s.Hint = "no snapshot is taken by itself: snapshots is off in lotse.yaml"
	}
	if s.Wrong != "" && s.Hint == "" {
		s.Hint = "`lotse db snapshot --stage " + s.Stage.Stage + "`, and `lotse db drill` to prove it"
	}
}
