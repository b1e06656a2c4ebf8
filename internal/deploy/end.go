package deploy

import (
	"context"
	"slices"
	"time"
)

// KindStageEnded is the event of a stage that was ended: what had settled there is Over.
const KindStageEnded = "stage.ended"

// Ends is what an engine has that keeps something of a stage beside its releases: its address.
type Ends interface {
	// End gives that back, once nothing runs any more. Twice is fine. Data stays: volumes, databases.
	End(ctx context.Context, fence Fence) error
}

// endLook is how often End looks whether the stage is gone.
const endLook = 200 * time.Millisecond

// End takes a stage off: everything that runs there is drained and stopped, and its address is free for others. Its data, its variables and
// its history stay, and the next deploy or promotion begins it anew. It returns when nothing is left; when ctx ends before, the controller
// goes on with it. ErrBusy while a rollout is on its way there, ErrRefused where nothing is served.
func (c *Controller) End(ctx context.Context, ref StageRef, by Person) error {
	rollouts, err := c.rolloutsOf(ctx, Move{App: ref.App, Stage: ref.Stage})
	if err != nil {
		return err
	}
	ref.App = rollouts[0].Stage.App
	if _, ok := lastSettled(rollouts, ref.Stage); !ok {
		return c.servesNothing(ctx, rollouts, ref.Stage)
	}
	if goingOn(rollouts)[ref] {
		return isRolling(ref)
	}
	actor := ""
	if by != (Person{}) { // git knows nobody here
		if actor, err = c.Ledger.Person(ctx, by.Name, by.Mail); err != nil {
			return err
		}
	}
	if _, err := c.Ledger.Append(ctx, Event{Kind: KindStageEnded, App: ref.App, Stage: ref.Stage, Actor: actor}); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.freed, ref)
	c.mu.Unlock()
	for c.look(); !c.isFreed(ref); {
		if err := sleep(ctx, endLook); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) isFreed(ref StageRef) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.freed[ref]
}

// free is the end of an ended stage, when nothing runs there any more.
func (c *Controller) free(ctx context.Context, ref StageRef, engine Engine, fence Fence) error {
	if e, ok := engine.(Ends); ok {
		if err := e.End(ctx, fence); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed[ref] = true
	return nil
}

// overOf returns the last rollout of every stage that was ended and has not been begun anew.
func overOf(rollouts []Rollout) (over []Rollout) {
	for _, r := range rollouts {
		if r.Outcome != Settled && r.Outcome != Over {
			continue
		}
		over = slices.DeleteFunc(over, func(o Rollout) bool { return o.Stage == r.Stage })
		if r.Outcome == Over {
			over = append(over, r)
		}
	}
	return over
}

// endStage makes over what has settled on the stage of e.
func endStage(byID map[string]*Rollout, e Event) {
	for _, r := range byID {
		if r.Outcome == Settled && r.Stage == (StageRef{e.App, e.Stage}) {
			r.Outcome = Over
		}
	}
}
