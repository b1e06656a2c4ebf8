package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// tagLook is what a watcher knows of the tags that start one stage.
type tagLook struct {
	ref     StageRef
	pattern string

	stale atomic.Bool // the ledger may know more than done says
	done  []Tag       // for which nothing is left to do but to wait
	left  bool        // something is to be begun, and the stage is not free
	until time.Time   // when what waits has waited long enough; zero: nothing waits

	shown TagWatching // below the watcher's mu
}

func (w *watcher) newTagLooks() map[string]*tagLook {
	looks := map[string]*tagLook{}
	for stage, pattern := range w.watch.Tags {
		t := &tagLook{ref: StageRef{w.ref.App, stage}, pattern: pattern, shown: TagWatching{Repository: w.origin.URL, Pattern: pattern}}
		t.stale.Store(true)
		looks[stage] = t
	}
	return looks
}

// lookForTags looks at the tags once and does what is to be done. Its error is why that was not possible; it is tried again.
func (w *watcher) lookForTags(ctx context.Context) error {
	if len(w.tags) == 0 {
		return nil
	}
	token, err := w.token(ctx, func() (pushState, error) { return w.c.pushState(ctx, w.ref) })
	if err != nil {
		return err
	}
	for _, stage := range slices.Sorted(maps.Keys(w.tags)) {
		if err := w.lookForTagsOf(ctx, w.tags[stage], token); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) lookForTagsOf(ctx context.Context, t *tagLook, token secret.Text) error {
	tags, err := w.c.Sources.Tags(ctx, w.origin, t.pattern, token)
	if err != nil {
		return err
	}
	late := !t.until.IsZero() && !w.c.now().Before(t.until)
	if stale := t.stale.Swap(false); slices.Equal(tags, t.done) && !stale && !late && (!t.left || w.c.blocked(t.ref)) {
		return nil
	}
	if err := w.decideTags(ctx, t, tags, token); err != nil {
		t.stale.Store(true)
		return err
	}
	t.done = tags
	return w.showTags(ctx, t)
}

// decideTags writes down what becomes of every tag that is new, moved or gone, and begins the rollout of one of them at most.
func (w *watcher) decideTags(ctx context.Context, t *tagLook, tags []Tag, token secret.Text) error {
	state, err := w.c.tagState(ctx, t.ref)
	if err != nil {
		return err
	}
	if state.repository != w.watch.Repository || state.pattern != t.pattern {
		return w.beginTags(ctx, t, tags)
	}
	t.left = false
	if state.open != nil { // decided by a controller that did not come to its rollout
		return w.startTagged(ctx, t, *state.open, token)
	}
	if err := w.lostTags(ctx, t, &state, tags); err != nil {
		return err
	}
	due := state.due(tags)
	if t.left = len(due) > 0 && w.c.blocked(t.ref); t.left {
		return nil
	}
	return w.chooseTag(ctx, t, &state, due, token)
}

// beginTags writes down which tags are there when the watching begins. They begin nothing.
func (w *watcher) beginTags(ctx context.Context, t *tagLook, tags []Tag) error {
	d := TagDecision{Decision: PushBaseline, Tags: map[string]string{}}
	for _, tag := range tags {
		d.Tags[tag.Name] = tag.Commit
	}
	return w.writeTag(ctx, t, d)
}

// lostTags says which tags name another commit now, and which of those that wait are no longer there. Neither begins anything, and a tag
// that comes back has been decided on.
func (w *watcher) lostTags(ctx context.Context, t *tagLook, state *tagState, tags []Tag) error {
	for _, tag := range tags {
		before, seen := state.seen[tag.Name]
		if !seen || before == tag.Commit {
			continue
		}
		if err := w.writeTag(ctx, t, TagDecision{Decision: TagMoved, Tag: tag.Name, Commit: tag.Commit, Before: before,
			Why:  fmt.Sprintf("it was moved from commit %.8s to %.8s, and a tag begins one rollout at most", before, tag.Commit),
			Hint: "push a tag with another name"}); err != nil {
			return err
		}
		delete(state.waits, tag.Name)
		state.seen[tag.Name] = tag.Commit
	}
	for _, name := range slices.Sorted(maps.Keys(state.waits)) {
		if slices.ContainsFunc(tags, func(tag Tag) bool { return tag.Name == name }) {
			continue
		}
		if err := w.writeTag(ctx, t, TagDecision{Decision: TagGone, Tag: name, Commit: state.seen[name], Why: "it was deleted while it waited"}); err != nil {
			return err
		}
		delete(state.waits, name)
	}
	return nil
}

// chooseTag takes the highest version of those that may go. What came with it and is lower is overtaken; what has to wait waits.
func (w *watcher) chooseTag(ctx context.Context, t *tagLook, state *tagState, due []Tag, token secret.Text) error {
	var chosen *TagDecision
	for _, tag := range due {
		d := TagDecision{Decision: PushDeploy, Tag: tag.Name, Commit: tag.Commit}
		var err error
		if chosen == nil || t.ref != w.ref { // the first stage takes every commit, so that nothing is to be asked of a lower one
			if err = w.weighTag(ctx, t, &d, token); err != nil {
				return err
			}
		}
		since, waited := state.waits[tag.Name]
		switch {
		case d.Decision == PushDeploy && chosen == nil:
			chosen = &d
			continue
		case d.Decision == PushDeploy:
			d.Decision, d.Why = PushOvertaken, "the tag "+chosen.Tag+" goes"
		case d.Decision == TagWaits && waited && w.c.now().Sub(since) < tagWaits:
			continue
		case d.Decision == TagWaits && waited:
			d.Decision, d.Why, d.Hint = PushRefused, fmt.Sprintf("%s in %s", d.Why, tagWaits), "push a tag with another name, or `lotse promote "+t.ref.Stage+"`"
		}
		if err = w.writeTag(ctx, t, d); err != nil {
			return err
		}
	}
	if chosen == nil {
		return nil
	}
	chosen.Rollout = rolloutID()
	if err := w.writeTag(ctx, t, *chosen); err != nil {
		return err
	}
	return w.startTagged(ctx, t, *chosen, token)
}

// weighTag says in d what is to become of a tag: it goes, it waits, the stage has what it names, or that cannot be found out.
func (w *watcher) weighTag(ctx context.Context, t *tagLook, d *TagDecision, token secret.Text) error {
	rollouts, err := w.c.rollouts(ctx, EventQuery{App: t.ref.App})
	if err != nil {
		return err
	}
	if t.ref != w.ref {
		if _, err = w.c.releaseOf(ctx, rollouts, t.ref.Stage, d.Commit); err != nil {
			d.Decision, d.Why = TagWaits, w.plain(err)
			return nil // it is said, and the tag waits
		}
	}
	has, ok := newestOn(rollouts, t.ref)
	if !ok {
		return nil
	}
	commit, err := w.c.Sources.FetchTag(ctx, w.origin, d.Tag, token)
	if err != nil {
		return err
	}
	span, err := w.c.span(ctx, commit, has.Commit)
	switch {
	case err != nil:
		return err
	case has.Commit == d.Commit:
		d.Decision, d.Why = PushSkipped, fmt.Sprintf("rollout %s has its commit already", has.ID)
	case span.Unknown:
		d.Decision, d.Why = PushRefused, "whether it is newer than what the stage has cannot be found out: "+span.Why
	case len(span.New) == 0:
		d.Decision, d.Why = PushSkipped, fmt.Sprintf("rollout %s has its commit already, and newer ones", has.ID)
	}
	return nil
}

// newestOn is what a stage serves, or is to serve in a moment.
func newestOn(rollouts []Rollout, ref StageRef) (Rollout, bool) {
	for _, r := range slices.Backward(rollouts) {
		if r.Stage == ref && (r.Outcome == Settled || r.Outcome == Going) {
			return r, true
		}
	}
	return Rollout{}, false
}

// releaseOf is the newest rollout by which the stage before has come to a commit, and from which it has not gone back. Its error says, for
// people, what is waited for.
func (c *Controller) releaseOf(ctx context.Context, rollouts []Rollout, stage, commit string) (from Rollout, err error) {
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return from, err
	}
	i := slices.IndexFunc(app.Stages, func(s Stage) bool { return s.Name == stage })
	if i < 1 {
		return from, fmt.Errorf("the lotse.yaml of what is deployed has no stage before %s", stage)
	}
	before := app.Stages[i-1].Name
	for _, r := range slices.Backward(roadOf(rollouts, before)) {
		if r.Commit == commit {
			return r, nil
		}
	}
	return from, fmt.Errorf("%s has not served commit %.8s", before, commit)
}

// startTagged begins the rollout of a decision. Its id stands in the decision, so that it begins once, whoever dies in between.
func (w *watcher) startTagged(ctx context.Context, t *tagLook, d TagDecision, token secret.Text) error {
	err := w.c.requestTagged(ctx, w, t, d, token)
	switch {
	case errors.Is(err, ErrBusy): // somebody was quicker
		t.left = true
		return nil
	case ctx.Err() != nil || errors.Is(err, ErrUnavailable):
		return err
	case err != nil:
		d.Decision, d.Why, d.Hint, d.Rollout = PushRefused, w.plain(err), HintOf(err), ""
		return w.writeTag(ctx, t, d)
	}
	return nil
}

// requestTagged asks for the rollout that a tag begins, in the name of the commit's author: a deploy to the first stage, else a promotion
// of the release that the stage before was given of that commit.
func (c *Controller) requestTagged(ctx context.Context, of *watcher, t *tagLook, d TagDecision, token secret.Text) (err error) {
	w := c.newWalk(d.Rollout)
	if t.ref == of.ref {
		err = c.deployingTagged(ctx, w, of, d, token)
	} else {
		err = c.promotingTagged(ctx, w, t.ref, d)
	}
	if err != nil {
		return err
	}
	if w.Stage != t.ref || !w.stage.On.tagged(d.Tag) {
		return Hint(fmt.Errorf("%w: the lotse.yaml of commit %.8s does not have this tag start a rollout of %s", ErrRefused, d.Commit, t.ref.Stage),
			"on: tag "+t.pattern+" must stand there in the commit that the tag names")
	}
	w.Trigger, w.Tag = ByTag, d.Tag
	_, err = c.request(ctx, w, Person{})
	return err
}

func (c *Controller) deployingTagged(ctx context.Context, w *walk, of *watcher, d TagDecision, token secret.Text) error {
	commit, err := c.Sources.FetchTag(ctx, of.origin, d.Tag, token)
	switch {
	case err != nil:
		return err
	case commit.ID != d.Commit:
		return fmt.Errorf("%w: it was moved from commit %.8s to %.8s", ErrRefused, d.Commit, commit.ID)
	}
	if err := c.Sources.Check(ctx, commit); err != nil {
		return err
	}
	w.Verb, w.Origin, w.Place, w.commit = Deployed, of.watch.Repository, of.place, commit
	w.commit.Tree = of.dir
	file, err := c.Builder.File(ctx, w.commit, "lotse.yaml")
	if err != nil {
		return err
	}
	if err := c.equip(ctx, w, file, ""); err != nil {
		return err
	}
	w.Watches = w.app.watches(of.watch.Repository)
	return nil
}

func (c *Controller) promotingTagged(ctx context.Context, w *walk, ref StageRef, d TagDecision) error {
	rollouts, err := c.rollouts(ctx, EventQuery{App: ref.App})
	if err != nil {
		return err
	}
	from, err := c.releaseOf(ctx, rollouts, ref.Stage, d.Commit)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return c.moving(ctx, w, Promoted, from, Move{Stage: ref.Stage})
}

// writeTag puts a decision into the ledger.
func (w *watcher) writeTag(ctx context.Context, t *tagLook, d TagDecision) error {
	d.Repository, d.Pattern = w.watch.Repository, t.pattern
	if _, err := w.c.Ledger.Append(ctx, Event{Kind: KindTag, App: t.ref.App, Stage: t.ref.Stage, Data: data(d)}); err != nil {
		return fmt.Errorf("writing into the ledger: %w", err)
	}
	w.c.Log.Info("tag", "stage", t.ref.String(), "tag", d.Tag, "commit", d.Commit, "decision", string(d.Decision), "why", d.Why)
	return nil
}

// showTags takes what the ledger knows now for the status.
func (w *watcher) showTags(ctx context.Context, t *tagLook) error {
	state, err := w.c.tagState(ctx, t.ref)
	if err != nil {
		return err
	}
	t.until = state.until()
	w.mu.Lock()
	defer w.mu.Unlock()
	t.shown.Waits, t.shown.Refused = slices.Sorted(maps.Keys(state.waits)), state.refused
	return nil
}
