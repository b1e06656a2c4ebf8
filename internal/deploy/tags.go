package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Tag is a tag of a repository.
type Tag struct {
	Name   string
	Commit string // that it names, also where a tag object stands between
}

// ByTag is the trigger of a rollout that a tag began.
const ByTag Trigger = "tag"

// tagWaits is how long a tag waits for the stage before to have its commit: as long as an approval counts. What comes later would be a
// surprise.
const tagWaits = 24 * time.Hour

// KindTag is the event in which something was decided on a tag, on the stage that tags start. It has no Rollout of its own; its data is a
// TagDecision.
const KindTag = "tag"

// Further decisions, on tags alone.
const (
	TagWaits Decision = "waits" // the stage before has not had its commit yet
	TagMoved Decision = "moved" // it names another commit than when it was decided on first: it begins nothing
	TagGone  Decision = "gone"  // it was deleted while it waited
)

// TagDecision is what the ledger knows of one tag.
type TagDecision struct {
	Repository string            `json:"repository"` // opaque id
	Pattern    string            `json:"pattern"`
	Tag        string            `json:"tag,omitempty"`
	Commit     string            `json:"commit,omitempty"`
	Before     string            `json:"before,omitempty"` // commit that it named, where it was moved
	Decision   Decision          `json:"decision"`
	Why        string            `json:"why,omitempty"`
	Hint       string            `json:"hint,omitempty"`
	Rollout    string            `json:"rollout,omitempty"` // that it begins
	Tags       map[string]string `json:"tags,omitempty"`    // of a baseline: the commit of every tag that was there
}

// TagWatching is how a stage looks for tags.
type TagWatching struct {
	Repository string    `json:"repository"` // URL or path
	Pattern    string    `json:"pattern"`
	Looked     time.Time `json:"looked,omitzero"`
	Waits      []string  `json:"waits,omitempty"`   // tags whose commit the stage before has not had
	Trouble    string    `json:"trouble,omitempty"` // why they cannot be read, in a sentence
	Refused    string    `json:"refused,omitempty"` // why the newest tag begins nothing, where it does not
}

// TagProblem says why no tag can match the pattern, or why it would mean something else in another tool; "" when it is one.
func (p Push) TagProblem() string {
	if (Push{Branch: strings.ReplaceAll(p.Tag, "*", "x")}).Problem() != "" || strings.Contains(p.Tag, "**") {
		return "must be tag and a pattern of tags, in which * stands for any letters but /"
	}
	return ""
}

// tagged reports whether a tag starts a rollout.
func (p Push) tagged(tag string) bool {
	ok, err := path.Match(p.Tag, tag)
	return ok && err == nil
}

// watches says what is to be looked for in a repository, by a lotse.yaml; nil: nothing.
func (a App) watches(repository string) *Watch {
	first := a.Stages[0].On
	w := &Watch{Repository: repository, Branch: first.Branch, Token: a.Source.Token, Schedule: first.Schedule}
	for _, s := range a.Stages {
		if s.On.Tag != "" && s.On.TagProblem() == "" {
			if w.Tags == nil {
				w.Tags = map[string]string{}
			}
			w.Tags[s.Name] = s.On.Tag
		}
	}
	if w.Branch == "" && w.Tags == nil {
		return nil
	}
	return w
}

// tagState is what the ledger knows of the tags that start one stage: a fold over what was decided and what was asked for.
type tagState struct {
	repository, pattern string               // of the last baseline; empty: there is none, or nothing was watched since
	seen                map[string]string    // the commit of every tag that was decided on
	waits               map[string]time.Time // tags whose commit the stage before has not had, since when
	open                *TagDecision         // to begin, and its rollout is not there yet
	refused             string
}

func (c *Controller) tagState(ctx context.Context, ref StageRef) (tagState, error) {
	s := tagState{seen: map[string]string{}, waits: map[string]time.Time{}}
	events, err := c.Ledger.Events(ctx, EventQuery{App: ref.App, Kinds: []string{KindRequested, KindPush, KindTag}})
	if err != nil {
		return s, err
	}
	for _, e := range events {
		if err := s.fold(ref, e); err != nil {
			return s, fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
		}
	}
	return s, nil
}

func (s *tagState) fold(ref StageRef, e Event) error {
	if e.Kind == KindTag {
		var d TagDecision
		err := json.Unmarshal(e.Data, &d)
		if err == nil && e.Stage == ref.Stage {
			s.decided(d, e.At)
		}
		return err
	}
	var d struct {
		Verb    Verb   `json:"verb"`
		Watches *Watch `json:"watches"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	if !d.Verb.Moves() && (d.Watches == nil || d.Watches.Repository != s.repository || d.Watches.Tags[ref.Stage] != s.pattern) {
		s.repository, s.pattern = "", "" // what is pushed until it is watched again begins nothing
	}
	if e.Stage == ref.Stage && e.Kind == KindRequested {
		if s.refused = ""; s.open != nil && s.open.Rollout == e.Rollout {
			s.open = nil
		}
	}
	return nil
}

func (s *tagState) decided(d TagDecision, at time.Time) {
	if d.Decision == PushBaseline {
		s.repository, s.pattern, s.open, s.refused = d.Repository, d.Pattern, nil, ""
		maps.Copy(s.seen, d.Tags)
		clear(s.waits)
		return
	}
	s.seen[d.Tag] = d.Commit
	delete(s.waits, d.Tag)
	if s.open != nil && s.open.Tag == d.Tag {
		s.open = nil
	}
	switch d.Decision {
	case TagWaits:
		s.waits[d.Tag] = at
	case PushDeploy:
		s.open, s.refused = &d, ""
	case PushOvertaken:
	default:
		s.refused = "the tag " + d.Tag + ": " + d.Why
	}
}

// due are the tags that are still to be decided on, the highest version first.
func (s *tagState) due(tags []Tag) (due []Tag) {
	for _, t := range slices.Backward(tags) {
		_, seen := s.seen[t.Name]
		_, waits := s.waits[t.Name]
		if !seen || waits && s.seen[t.Name] == t.Commit {
			due = append(due, t)
		}
	}
	return due
}

// until is when the first of those that wait has waited long enough; zero where none does.
func (s *tagState) until() (first time.Time) {
	for _, since := range s.waits {
		if end := since.Add(tagWaits); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// tagging is how a stage is looked for tags; nil where it is not.
func (c *Controller) tagging(ref StageRef) *TagWatching {
	c.pushes.mu.Lock()
	defer c.pushes.mu.Unlock()
	for at, w := range c.pushes.watchers {
		if t := w.tags[ref.Stage]; t != nil && at.App == ref.App {
			now := w.says(time.Now())
			w.mu.Lock()
			defer w.mu.Unlock()
			shown := t.shown
			shown.Looked, shown.Trouble = now.Looked, now.Trouble
			return &shown
		}
	}
	return nil
}
