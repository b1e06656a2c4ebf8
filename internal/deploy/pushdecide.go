package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// look looks at the branch once and does what is to be done. Its error is why that was not possible; it is tried again.
func (w *watcher) look(ctx context.Context) error {
	if w.watch.Branch == "" {
		return nil
	}
	state := func() (pushState, error) { return w.c.pushState(ctx, w.ref) }
	token, err := w.token(ctx, state)
	if err != nil {
		return err
	}
	head, err := w.c.Sources.Head(ctx, w.origin, w.watch.Branch, token)
	if err != nil {
		return err
	}
	w.show(func(s *Watching) {
		s.Head, s.Trouble = head, ""
		if head == "" {
			s.Trouble = "there is no branch " + w.watch.Branch
		}
	})
	if stale := w.stale.Swap(false); head == w.done && !stale && w.waits == "" {
		return nil
	}
	early := w.waits == "" && !w.due(w.c.now())
	if early && w.begun {
		return nil
	}
	now, err := state()
	if err != nil {
		return err
	}
	if w.begun = now.known; early && w.begun && now.open == nil {
		return nil
	}
	w.dueAt = time.Time{} // what has come is used up
	switch {
	case !w.watch.same(now.watch): // somebody has deployed meanwhile: another watcher comes
		return nil
	case !now.known:
		return w.begin(ctx, head)
	case head == "":
		return w.overtake(ctx, now, "")
	case head == now.seen && now.open == nil:
		w.done = head
		return w.overtake(ctx, now, head)
	case w.c.blocked(w.ref):
		return w.wait(ctx, now, head)
	}
	return w.decide(ctx, now, head)
}

// due reports whether what was pushed may go now: always where there is no schedule. A time at which no controller lived is not made up for.
func (w *watcher) due(now time.Time) bool {
	if w.schedule == nil {
		return true
	}
	if w.dueAt.IsZero() {
		w.dueAt = w.schedule.Next(now)
	}
	return !now.Before(w.dueAt)
}

// begin writes down where the watching begins. What is there already was not pushed: it is not deployed. A copy of it is made now, so
// that the first push brings only what is new.
func (w *watcher) begin(ctx context.Context, head string) error {
	d := w.decision(pushState{}, head, PushBaseline, "")
	if head == "" {
		d.Why = "the branch is not there yet"
	}
	if err := w.write(ctx, d); err != nil {
		return err
	}
	w.done = head
	if head == "" {
		return nil
	}
	if _, err := w.fetch(ctx); err != nil && ctx.Err() == nil {
		w.c.Log.Info("what is watched could not be copied yet", "stage", w.ref.String(), "error", w.plain(err))
	}
	return nil
}

// wait keeps in mind that there is something to deploy when the stage is free.
func (w *watcher) wait(ctx context.Context, now pushState, head string) error {
	if err := w.overtake(ctx, now, head); err != nil {
		return err
	}
	w.waits = head
	w.show(func(s *Watching) { s.Waits = head })
	return nil
}

// overtake writes down that what waited gives way to a newer commit.
func (w *watcher) overtake(ctx context.Context, now pushState, by string) error {
	if w.waits != "" && w.waits != by {
		why := "a newer push came while it waited"
		if by == "" {
			why = "the branch went away while it waited"
		}
		if err := w.write(ctx, w.decision(now, w.waits, PushOvertaken, why)); err != nil {
			return err
		}
	}
	if w.waits != by || by == now.seen {
		w.waits = ""
		w.show(func(s *Watching) { s.Waits = "" })
	}
	return nil
}

// decide takes the newest commit, writes down what becomes of it, and begins its rollout where there is to be one.
func (w *watcher) decide(ctx context.Context, now pushState, head string) error {
	if now.open != nil && now.open.Commit == head { // decided by a controller that did not come to its rollout
		commit, err := w.c.Sources.Commit(ctx, w.origin, head)
		if errors.Is(err, ErrNotFound) {
			commit, err = w.fetch(ctx)
		}
		if err != nil {
			return err
		}
		return w.deploy(ctx, now, *now.open, commit)
	}
	commit, err := w.fetch(ctx)
	if err != nil {
		return err
	}
	if commit.ID == now.seen && now.open == nil { // it went back while it was fetched
		return nil
	}
	if now.open != nil {
		w.waits = now.open.Commit
	}
	if err := w.overtake(ctx, now, commit.ID); err != nil {
		return err
	}
	d, err := w.judge(ctx, now, commit)
	if err != nil {
		return err
	}
	if d.Decision == PushDeploy {
		d.Rollout = rolloutID()
	}
	if err := w.write(ctx, d); err != nil {
		return err
	}
	if d.Decision == PushDeploy {
		return w.deploy(ctx, now, d, commit)
	}
	w.settle(commit.ID)
	return nil
}

func (w *watcher) fetch(ctx context.Context) (Commit, error) {
	token, err := w.token(ctx, func() (pushState, error) { return w.c.pushState(ctx, w.ref) })
	if err != nil {
		return Commit{}, err
	}
	return w.c.Sources.Fetch(ctx, w.origin, w.watch.Branch, token)
}

// judge says what becomes of a commit, by its own lotse.yaml. An error is no judgement: it is tried again.
func (w *watcher) judge(ctx context.Context, now pushState, commit Commit) (PushDecision, error) {
	changes, err := w.c.Sources.Changes(ctx, w.origin, now.base, commit.ID)
	if err != nil {
		return PushDecision{}, err
	}
	as := func(decision Decision, why, hint string) PushDecision {
		d := w.decision(now, commit.ID, decision, why)
		d.Forced, d.Hint = changes.Forced, hint
		return d
	}
	file, err := w.c.Builder.File(ctx, commit, "lotse.yaml")
	if errors.Is(err, ErrNotFound) {
		return as(PushRefused, "the commit has no lotse.yaml", "commit it, or deploy from the folder that holds it"), nil
	}
	if err != nil {
		return PushDecision{}, err
	}
	app, err := w.c.Read("lotse.yaml", file)
	if err != nil {
		return as(PushRefused, w.plain(err), HintOf(err)), nil
	}
	stage := app.Stages[0]
	if (StageRef{app.Name, stage.Name}) != w.ref {
		return as(PushRefused, fmt.Sprintf("its lotse.yaml has %s/%s in the place of %s", app.Name, stage.Name, w.ref), "`lotse deploy` it once by hand"), nil
	}
	next := app.watches(w.watch.Repository)
	if wrong := stage.On.Problem(); stage.On.Branch != "" && wrong != "" {
		next = nil
	}
	d := as(PushDeploy, "", "")
	wanting := w.c.Sources.Check(ctx, commit)
	if wanting != nil && !errors.Is(wanting, ErrBadInput) {
		return d, wanting
	}
	d.Watches = next
	switch skip := app.Source.skipped(changes, commit.Dir); {
	case !next.follows(w.watch):
		d.Decision, d.Why = PushEnded, fmt.Sprintf("its lotse.yaml does not have a push to %s start a deploy of %s", w.watch.Branch, w.ref.Stage)
	case now.commit == commit.ID:
		d.Decision, d.Why = PushSkipped, fmt.Sprintf("rollout %s has it already", now.last)
	case skip != "":
		d.Decision, d.Why = PushSkipped, skip
	case wanting != nil:
		d.Decision, d.Why, d.Hint = PushRefused, w.plain(wanting), HintOf(wanting)
	}
	return d, nil
}

// deploy begins the rollout of a decision. The rollout's id stands in the decision, so that it begins once, whoever dies in between.
func (w *watcher) deploy(ctx context.Context, now pushState, d PushDecision, commit Commit) error {
	err := w.c.deployPushed(ctx, w, d, commit)
	switch {
	case errors.Is(err, ErrBusy): // somebody was quicker
		w.waits = d.Commit
		w.show(func(s *Watching) { s.Waits = d.Commit })
		return nil
	case ctx.Err() != nil || errors.Is(err, ErrUnavailable):
		w.stale.Store(true)
		return err
	case err != nil:
		no := w.decision(now, d.Commit, PushRefused, w.plain(err))
		no.Hint, no.Watches = HintOf(err), d.Watches
		if err := w.write(ctx, no); err != nil {
			return err
		}
	}
	w.settle(d.Commit)
	return nil
}

// settle notes that nothing is left to do for a commit.
func (w *watcher) settle(commit string) {
	w.done, w.waits, w.stage = commit, "", nil
	w.show(func(s *Watching) { s.Waits = "" })
}

// deployPushed begins the rollout of a commit that was pushed, in the name of its author.
func (c *Controller) deployPushed(ctx context.Context, of *watcher, d PushDecision, commit Commit) error {
	w := c.newWalk(d.Rollout)
	w.Verb, w.Trigger, w.Origin, w.Place, w.Watches = Deployed, ByPush, d.Repository, of.place, d.Watches
	w.commit = commit
	w.commit.Tree = of.dir
	file, err := c.Builder.File(ctx, w.commit, "lotse.yaml")
	if err != nil {
		return err
	}
	if err := c.equip(ctx, w, file, of.ref.Stage); err != nil {
		return err
	}
	_, err = c.request(ctx, w, Person{commit.Name, commit.Mail})
	return err
}

func (w *watcher) decision(now pushState, commit string, decision Decision, why string) PushDecision {
	return PushDecision{Repository: w.watch.Repository, Branch: w.watch.Branch, Commit: commit, Before: now.seen, Decision: decision, Why: why, Watches: w.watch}
}

// write puts a decision into the ledger, unless somebody has deployed by hand meanwhile and another repository counts.
func (w *watcher) write(ctx context.Context, d PushDecision) error {
	now, err := w.c.pushState(ctx, w.ref)
	if err != nil {
		return err
	}
	if !w.watch.same(now.watch) && d.Decision != PushRefused {
		return fmt.Errorf("%w: what is watched has changed meanwhile", ErrBusy)
	}
	if _, err := w.c.Ledger.Append(ctx, Event{Kind: KindPush, App: w.ref.App, Stage: w.ref.Stage, Data: data(d)}); err != nil {
		return fmt.Errorf("writing into the ledger: %w", err)
	}
	w.c.Log.Info("push", "stage", w.ref.String(), "branch", d.Branch, "commit", d.Commit, "decision", string(d.Decision), "why", d.Why)
	w.c.pushes.look()
	return nil
}
