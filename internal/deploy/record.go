package deploy

import (
	"context"
	"fmt"
	"strings"
)

// RolloutRecord is all that is kept of a rollout: the fold, the events that it was made of, and who had said yes. It holds no name and no address.
type RolloutRecord struct {
	Rollout   Rollout    `json:"rollout"`
	Approvals []Approval `json:"approvals,omitempty"` // of its release, for its stage and by the stage before, up to the request
	Events    []Link     `json:"events"`
}

// Link is an event with the hash of the one before it in the ledger, so that its own hash can be computed again without the rest: the
// ledger's package says how.
type Link struct {
	Event

	Before string `json:"before"`
}

// Record returns what is kept of a rollout. ErrNotFound where there is none of this id.
func (c *Controller) Record(ctx context.Context, id string) (RolloutRecord, error) {
	r, err := c.rollout(ctx, id)
	if err != nil {
		return RolloutRecord{}, err
	}
	events, err := c.Ledger.Events(ctx, EventQuery{})
	if err != nil {
		return RolloutRecord{}, err
	}
	record, before := RolloutRecord{Rollout: r}, strings.Repeat("0", 64) // which stands before the first event of a ledger
	var earlier []Event
	for _, e := range events {
		if e.Rollout == id {
			record.Events = append(record.Events, Link{e, before})
		}
		if len(record.Events) == 0 {
			earlier = append(earlier, e)
		}
		before = e.Hash
	}
	record.Approvals, err = r.approvals(earlier)
	return record, err
}

// approvals are those that were there when the rollout was asked for.
func (r Rollout) approvals(events []Event) ([]Approval, error) {
	if r.Verb != Promoted {
		return nil, nil
	}
	all, err := approvalsOf(events, r.Stage, r.Release, Approves)
	if err != nil {
		return nil, err
	}
	for i, stop := range r.Road {
		if stop.Stage != r.Stage.Stage || i == 0 {
			continue
		}
		signed, err := approvalsOf(events, StageRef{r.Stage.App, r.Road[i-1].Stage}, r.Release, SignsOff)
		if err != nil {
			return nil, err
		}
		all = append(all, signed...)
	}
	return all, nil
}

// Resume takes up a rollout that has not ended and that nobody walks: one that lost the stage's lease to somebody, as when the machine
// slept in the middle of it, or that could not write into the ledger. A controller that is started takes all of them up by itself, so after
// a crash there is nothing to resume. ErrBusy for one that is on its way, ErrRefused for one that has ended.
func (c *Controller) Resume(ctx context.Context, id string) error {
	r, err := c.rollout(ctx, id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	walked := c.byID[id] != nil
	c.mu.Unlock()
	switch {
	case r.Outcome.Ended():
		return Hint(fmt.Errorf("%w: rollout %s has ended: %s", ErrRefused, id, r.Outcome), fmt.Sprintf("`lotse rollout show %s` says how", id))
	case walked:
		return Hint(fmt.Errorf("%w: rollout %s is on its way already", ErrBusy, id), fmt.Sprintf("`lotse rollout follow %s` shows it", id))
	}
	w := c.newWalk(id)
	w.Rollout = r
	if err := c.reequip(ctx, w); err != nil {
		return err
	}
	if err := c.enter(w, false); err != nil {
		return err
	}
	c.Log.Info("rollout taken up by hand", "rollout", id, "stage", r.Stage.String())
	c.begin(w)
	return nil
}
