package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// StageStatus is one lane: what a stage serves, what is warm, what is on its way.
type StageStatus struct {
	Stage    StageRef     `json:"stage"`
	URL      string       `json:"url"`
	Serves   *Lane        `json:"serves,omitempty"`
	Warm     []Lane       `json:"warm,omitempty"`
	OnItsWay *Rollout     `json:"on_its_way,omitempty"`
	Running  []Running    `json:"running,omitempty"`
	Watches  *Watching    `json:"watches,omitempty"` // nil: no push starts a deploy
	Tags     *TagWatching `json:"tags,omitempty"`    // nil: no tag starts a rollout
	Frozen   *Frozen      `json:"frozen,omitempty"`  // nil: nobody has frozen it
	Closed   *Closed      `json:"closed,omitempty"`  // nil: requests come to what it serves
	Data     string       `json:"data,omitempty"`    // why its data is not safe; empty: it is, or Lotse knows of none
	Note     string       `json:"note,omitempty"`    // why something could not be found out
}

// Lane is a release on a stage, since when, by whom.
type Lane struct {
	Rollout string    `json:"rollout"`
	Runs    string    `json:"runs,omitempty"` // rollout whose instances it has taken over
	Release Digest    `json:"release"`
	Commit  string    `json:"commit"`
	Actor   string    `json:"actor"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // of a warm one
	Bad     string    `json:"bad,omitempty"`  // why the release is marked as bad
}

// Status returns every stage of every app that was ever deployed: the apps in the order of names, their stages in that of promotion.
func (c *Controller) Status(ctx context.Context) ([]StageStatus, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{})
	if err != nil {
		return nil, err
	}
	byStage := map[StageRef][]Rollout{}
	for _, r := range rollouts {
		byStage[r.Stage] = append(byStage[r.Stage], r)
	}
	all := []StageStatus{}
	for _, stop := range roads(rollouts) {
		if of := byStage[stop.ref]; len(of) > 0 {
			all = append(all, c.stageStatus(ctx, stop.ref, of))
			continue
		}
		all = append(all, StageStatus{Stage: stop.ref, URL: stop.url})
	}
	frost, err := c.Ledger.Events(ctx, EventQuery{Kinds: []string{KindFrozen, KindThawed}})
	if err != nil {
		return nil, err
	}
	bad := badReleases(rollouts)
	for i := range all {
		if all[i].Frozen, err = c.frozen(frost, all[i].Stage); err != nil {
			return nil, err
		}
		if serves := all[i].Serves; serves != nil {
			serves.Bad = bad[serves.Release]
		}
		all[i].Watches = c.watching(all[i].Stage)
		all[i].Tags = c.tagging(all[i].Stage)
		all[i].Data = c.dataNote(all[i].Stage)
	}
	return all, nil
}

// frozen is how a person has frozen a stage now; nil where nobody has.
func (c *Controller) frozen(events []Event, ref StageRef) (*Frozen, error) {
	var own []Event
	for _, e := range events {
		if e.App == ref.App {
			own = append(own, e)
		}
	}
	now, err := frozenNow(own, ref.Stage)
	if err != nil || now == nil || !now.holds(c.now()) {
		return nil, err
	}
	return now, nil
}

type lane struct {
	ref StageRef
	url string
}

// roads are the stages of all apps as their newest rollouts know them, and then those that only older ones know.
func roads(rollouts []Rollout) (lanes []lane) {
	newest := map[string]Rollout{}
	for _, r := range rollouts {
		newest[r.Stage.App] = r
	}
	for _, app := range slices.Sorted(maps.Keys(newest)) {
		for _, s := range newest[app].Road {
			lanes = append(lanes, lane{StageRef{app, s.Stage}, s.URL})
		}
		for _, r := range rollouts {
			if r.Stage.App == app && r.Outcome != Over && !slices.ContainsFunc(lanes, func(l lane) bool { return l.ref == r.Stage }) {
				lanes = append(lanes, lane{r.Stage, r.URL})
			}
		}
	}
	return lanes
}

func (c *Controller) stageStatus(ctx context.Context, ref StageRef, of []Rollout) StageStatus {
	last := of[len(of)-1]
	s := StageStatus{Stage: ref, URL: last.URL}
	if !last.Outcome.Ended() {
		s.OnItsWay = &last
	}
	engine := c.opened(ref)
	if engine == nil {
		s.Note = "the engine of this stage could not be opened; see the controller's log"
		return s
	}
	running, err := engine.List(ctx)
	if err != nil {
		s.Note = err.Error()
		return s
	}
	s.Running = running
	if h, ok := engine.(Holder); ok {
		if now, err := h.Closed(ctx); err == nil && now != (Closed{}) {
			s.Closed = &now
		}
	}
	for _, r := range running {
		by, ok := onWhich(of, r.Rollout)
		if !ok {
			continue
		}
		on := Lane{Rollout: by.ID, Runs: by.Runs, Release: by.Release, Commit: by.Commit, Actor: by.Actor, Since: by.Ended}
		switch {
		case r.Share > 0 && (s.Serves == nil || by.Outcome == Settled): // a canary has a share before it serves
			s.Serves, s.URL = &on, by.URL
		case by.Outcome == Settled:
			on.Until = last.Ended.Add(last.Warm)
			s.Warm = append(s.Warm, on)
		}
	}
	slices.SortStableFunc(s.Warm, func(a, b Lane) int { return b.Since.Compare(a.Since) }) // what a rollback goes back to stands first
	return s
}

// History returns rollouts, the newest first, at most limit of them (0: all).
func (c *Controller) History(ctx context.Context, app, stage string, limit int) ([]Rollout, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{App: app, Stage: stage})
	if err != nil {
		return nil, err
	}
	slices.Reverse(rollouts)
	if limit > 0 && len(rollouts) > limit {
		rollouts = rollouts[:limit]
	}
	return rollouts, nil
}

// Rollout returns one rollout. ErrNotFound when there is none of this id.
func (c *Controller) Rollout(ctx context.Context, id string) (Rollout, error) {
	return c.rollout(ctx, id)
}

// Release returns a release by its digest. Its author is who asked for the first rollout of it: a pipeline knows nobody.
func (c *Controller) Release(ctx context.Context, id Digest) (Release, error) {
	release, err := c.Builder.Release(ctx, id)
	if err != nil || release.Record.Author != "" {
		return release, err
	}
	rollouts, err := c.rollouts(ctx, EventQuery{App: release.Manifest.App})
	if err != nil {
		return release, err
	}
	if i := slices.IndexFunc(rollouts, func(r Rollout) bool { return r.Release == id }); i >= 0 {
		release.Record.Author = rollouts[i].Actor
	}
	return release, nil
}

// Update is one piece of news of a rollout: what is known of it now, or a line of output.
type Update struct {
	Rollout *Rollout `json:"rollout,omitempty"`
	Output  *Output  `json:"output,omitempty"`
}

// Follow calls yield with what is known of a rollout, then with every change and every line of live output, until the rollout has
// ended (nil), yield returns an error, or ctx ends.
func (c *Controller) Follow(ctx context.Context, id string, yield func(Update) error) error {
	recent, more, stop := c.listen(id)
	defer stop()
	for i := range recent {
		if err := yield(Update{Output: &recent[i]}); err != nil {
			return err
		}
	}
	for seen, known := int64(0), 0; ; {
		newest, err := c.relay(ctx, seen, more, yield)
		if err != nil {
			return err
		}
		seen = newest
		events, err := c.Ledger.Events(ctx, EventQuery{Rollout: id})
		if err != nil {
			return err
		}
		if len(events) == known && known > 0 {
			continue // the news was of somebody else
		}
		known = len(events)
		r, err := one(id, events)
		if err != nil {
			return err
		}
		if err := yield(Update{Rollout: &r}); err != nil || r.Outcome.Ended() {
			return err
		}
	}
}

// relay gives lines of output on until the ledger has an event after seen, and returns the newest.
func (c *Controller) relay(ctx context.Context, seen int64, lines <-chan Output, yield func(Update) error) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type news struct {
		newest int64
		err    error
	}
	heard := make(chan news, 1)
	go func() {
		newest, err := c.Ledger.Wait(ctx, seen)
		heard <- news{newest, err}
	}()
	for {
		select {
		case o := <-lines:
			if err := yield(Update{Output: &o}); err != nil {
				return 0, err
			}
		case n := <-heard:
			return n.newest, n.err
		}
	}
}

func (c *Controller) listen(id string) (recent []Output, more <-chan Output, stop func()) {
	c.mu.Lock()
	w := c.byID[id]
	c.mu.Unlock()
	if w == nil {
		return nil, nil, func() {}
	}
	return w.live.listen()
}

// Logs gives the output of a stage's instances to yield. ErrUnsupported where the engine keeps none.
func (c *Controller) Logs(ctx context.Context, ref StageRef, q LogQuery, yield func(LogLine) bool) error {
	engine := c.opened(ref)
	if engine == nil {
		return Hint(fmt.Errorf("%w: nothing was deployed to %s", ErrNotFound, ref), "`lotse status` lists the stages")
	}
	if q.Rollout != "" {
		if r, err := c.rollout(ctx, q.Rollout); err == nil {
			q.Rollout = r.instances()
		}
	}
	logs, ok := engine.(Logs)
	if !ok {
		return fmt.Errorf("logs: %w", ErrUnsupported)
	}
	return logs.Logs(ctx, q, yield)
}
