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

	"github.com/lotse-eu/lotse/internal/secret"
)

// Sources reads the repositories whose pushes start a deploy. It is safe for concurrent use; nothing that a repository holds (hooks,
// filters, configuration) is executed with the rights of the controller, and no call waits for a person. What is not there right now is
// ErrUnavailable.
type Sources interface {
	// Find says where pushes are looked for: in remote where it is given, else in the origin of the repository that holds dir (the
	// folder of lotse.yaml), else in that repository itself. Nothing is read over a network.
	Find(ctx context.Context, dir, remote string) (Origin, error)

	// Repository is the path of the repository that holds dir, as Find writes it into Origin.URL.
	Repository(ctx context.Context, dir string) (string, error)

	// Head returns the newest commit of a branch, "" where there is no such branch. It is cheap for a local repository. token opens
	// a remote one and may be empty.
	Head(ctx context.Context, o Origin, branch string, token secret.Text) (string, error)

	// Fetch copies the newest commit of a branch, and what it comes from, to this machine, and returns it. ErrNotFound where there
	// is no such branch.
	Fetch(ctx context.Context, o Origin, branch string, token secret.Text) (Commit, error)

	// Tags returns the tags that match a pattern, by version: v1.9 before v1.10, v2-rc1 before v2. A tag of what is no commit is left out.
	Tags(ctx context.Context, o Origin, pattern string, token secret.Text) ([]Tag, error)

	// FetchTag is Fetch for the commit that a tag names now.
	FetchTag(ctx context.Context, o Origin, tag string, token secret.Text) (Commit, error)

	// Commit finds a commit that was fetched before. Its Tree is empty. ErrNotFound when it is not there.
	Commit(ctx context.Context, o Origin, id string) (Commit, error)

	// Check says why a commit cannot be deployed whatever its lotse.yaml says, as ErrBadInput: a part of it is elsewhere.
	Check(ctx context.Context, c Commit) error

	// Changes compares two commits that were fetched. before may be empty or unknown.
	Changes(ctx context.Context, o Origin, before, after string) (Changes, error)
}

// Origin is a repository in which pushes are looked for.
type Origin struct {
	URL   string `json:"url"`             // path of the git directory where Local; never with a user or password
	Dir   string `json:"dir"`             // folder of lotse.yaml inside it, "." at its root
	Local bool   `json:"local,omitempty"` // on this machine
}

// Changes is how a commit differs from the one before.
type Changes struct {
	Message string   // of the commit, whole
	Files   []string // that differ, from the root of the repository
	Unknown bool     // the commit before is not there, so that everything may differ
	Forced  bool     // the commit does not come from the one before: history was rewritten
}

// Trigger is what asked for a rollout.
type Trigger string

// The triggers of rollouts that nobody asked for by hand.
const (
	ByPush     Trigger = "push"
	BySchedule Trigger = "schedule" // a promotion whose time had come
)

// Watch is where a stage looks for pushes.
type Watch struct {
	Repository string `json:"repository"`         // opaque id: a URL or a path may hold somebody's name
	Branch     string `json:"branch"`             // empty: tags alone are looked for
	Token      string `json:"token,omitempty"`    // name of the secret that opens it
	Schedule   string `json:"schedule,omitempty"` // when what was pushed is deployed; empty: at once

	Tags map[string]string `json:"tags,omitempty"` // by stage: the pattern of tags that start a rollout of it
}

// KindPush is the event in which a push was decided on. It has no Rollout of its own; its data is a PushDecision.
const KindPush = "push"

// Decision is what becomes of a push.
type Decision string

// The decisions.
const (
	PushBaseline  Decision = "baseline"  // the watching began at this commit, which is not deployed
	PushDeploy    Decision = "deploy"    // a rollout of it begins
	PushSkipped   Decision = "skipped"   // its message or its files say that it is not to be deployed
	PushOvertaken Decision = "overtaken" // a newer push came while it waited
	PushRefused   Decision = "refused"   // it cannot be deployed as it is
	PushEnded     Decision = "ended"     // its lotse.yaml no longer has this branch start a deploy
)

// PushDecision is what the ledger knows of one push.
type PushDecision struct {
	Repository string   `json:"repository"` // opaque id
	Branch     string   `json:"branch"`
	Commit     string   `json:"commit"`           // empty: the branch was not there when the watching began
	Before     string   `json:"before,omitempty"` // commit of the decision before
	Forced     bool     `json:"forced,omitempty"` // history was rewritten
	Decision   Decision `json:"decision"`
	Why        string   `json:"why,omitempty"`
	Hint       string   `json:"hint,omitempty"`
	Rollout    string   `json:"rollout,omitempty"` // that carries it
	Watches    *Watch   `json:"watches,omitempty"` // from then on; nil: nothing
}

// Watching is how a stage looks for pushes.
type Watching struct {
	Repository string    `json:"repository"` // URL or path
	Local      bool      `json:"local,omitempty"`
	Branch     string    `json:"branch"`
	Head       string    `json:"head,omitempty"`    // commit at the end of the branch
	Looked     time.Time `json:"looked,omitzero"`   // when that was read last
	Waits      string    `json:"waits,omitempty"`   // commit of a push that waits until the stage is free
	Trouble    string    `json:"trouble,omitempty"` // why it cannot be read, in a sentence
	Refused    string    `json:"refused,omitempty"` // why the newest push is not deployed, where it is not
}

// Problem says why there can be no branch of this name, by the rules of git-check-ref-format(1); "" when there can.
func (p Push) Problem() string {
	b := p.Branch
	for part := range strings.SplitSeq(b, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return "must be the name of a branch"
		}
	}
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }
	if strings.HasPrefix(b, "-") || strings.HasSuffix(b, ".") || strings.Contains(b, "..") || strings.Contains(b, "@{") || b == "@" || strings.ContainsFunc(b, bad) {
		return "must be the name of a branch"
	}
	return ""
}

// watchOf says where the stage of w will look for pushes from now on, by its lotse.yaml; nil: nowhere.
func (c *Controller) watchOf(ctx context.Context, w *walk) (*Watch, error) {
	if c.Sources == nil || w.app.watches("") == nil {
		return nil, nil
	}
	if wrong := w.stage.On.Problem(); wrong != "" && w.stage.On.Branch != "" {
		return nil, Hint(fmt.Errorf("%w: stages.%s.on %s", ErrBadInput, w.stage.Name, wrong), "for example push main")
	}
	origin, err := c.Sources.Find(ctx, w.commit.Tree, w.app.Source.Remote)
	if err != nil {
		return nil, err
	}
	id, err := c.Places.Place(ctx, string(data(origin)))
	return w.app.watches(id), err
}

// origin is the repository behind an opaque id.
func (c *Controller) origin(ctx context.Context, id string) (o Origin, err error) {
	known, err := c.Places.PathOf(ctx, id)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal([]byte(known), &o)
}

// find finds the commit of a rollout: in the work tree that it came from, or where its push was fetched to.
func (c *Controller) find(ctx context.Context, r Rollout, dir string) (Commit, error) {
	if r.Origin == "" {
		return c.Builder.Resolve(ctx, dir, r.Commit)
	}
	o, err := c.origin(ctx, r.Origin)
	if err != nil {
		return Commit{}, err
	}
	if c.Sources == nil {
		return Commit{}, fmt.Errorf("commit %.12s came by a push: %w", r.Commit, ErrUnsupported)
	}
	return c.Sources.Commit(ctx, o, r.Commit)
}

// pushState is what the ledger knows of the pushes of one stage: a fold over what was asked for and what was decided.
type pushState struct {
	watch   *Watch
	known   bool          // the watching has begun, and seen says where it is
	seen    string        // commit that was decided on last
	base    string        // commit that was deployed or skipped last: what the next one is compared with
	earlier string        // base before it
	open    *PushDecision // to deploy, and its rollout is not there yet
	place   string        // opaque id of the work tree of the last deploy
	last    string        // rollout of the last deploy
	commit  string        // of the last deploy
	refused string        // why the newest push is not deployed
}

func (s *pushState) fold(e Event) (err error) {
	switch e.Kind {
	case KindRequested:
		var d requestedData
		if err = json.Unmarshal(e.Data, &d); err == nil && (d.Verb == Deployed || d.Verb == "") {
			s.requested(e.Rollout, d)
		}
	case KindPush:
		var d PushDecision
		if err = json.Unmarshal(e.Data, &d); err == nil {
			s.decided(d)
		}
	}
	if err != nil {
		return fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
	}
	return nil
}

func (s *pushState) requested(rollout string, d requestedData) {
	s.last, s.commit, s.place = rollout, d.Commit, d.Place
	if s.open != nil && (s.open.Rollout == rollout || s.open.Commit == d.Commit) {
		s.open = nil
	}
	if d.Trigger == ByPush {
		return // its event has said it
	}
	if !d.Watches.follows(s.watch) {
		*s = pushState{last: s.last, commit: s.commit, place: s.place}
	}
	s.watch, s.refused = d.Watches, ""
}

func (s *pushState) decided(d PushDecision) {
	if d.Decision == PushOvertaken { // as if it had not been decided on
		if s.open != nil && s.open.Commit == d.Commit {
			s.seen, s.base, s.open = s.earlier, s.earlier, nil
		}
		return
	}
	here := &Watch{Repository: d.Repository, Branch: d.Branch}
	s.watch, s.known, s.seen, s.open, s.refused = d.Watches, d.Watches.follows(here), d.Commit, nil, ""
	switch d.Decision { //nolint:exhaustive // overtaken is seen to above, and an end leaves nothing to follow
	case PushDeploy:
		s.earlier, s.base = s.base, d.Commit
		if s.commit != d.Commit { // else somebody has deployed it by hand at the same time
			s.open = &d
		}
	case PushBaseline:
		s.base = d.Commit
	case PushSkipped:
		s.base, s.refused = d.Commit, d.Why
	case PushRefused:
		s.refused = d.Why
		if s.base == d.Commit {
			s.base = s.earlier
		}
	}
}

// follows reports whether w goes on where the other one was: the same branch of the same repository.
func (w *Watch) follows(other *Watch) bool {
	return w != nil && other != nil && w.Repository == other.Repository && w.Branch == other.Branch
}

// same reports whether two watches are one.
func (w *Watch) same(other *Watch) bool {
	return w.follows(other) && w.Token == other.Token && w.Schedule == other.Schedule && maps.Equal(w.Tags, other.Tags)
}

// pushStates returns what is known of the first stage of every app. A stage that was the first in an older lotse.yaml is left out.
func (c *Controller) pushStates(ctx context.Context, app string) (map[StageRef]pushState, error) {
	events, err := c.Ledger.Events(ctx, EventQuery{App: app, Kinds: []string{KindRequested, KindPush}})
	if err != nil {
		return nil, err
	}
	all, first := map[StageRef]pushState{}, map[string]StageRef{}
	for _, e := range events {
		ref := StageRef{e.App, e.Stage}
		s := all[ref]
		before := s.last
		if err := s.fold(e); err != nil {
			return nil, err
		}
		if s.last != before {
			first[ref.App] = ref
		}
		all[ref] = s
	}
	for ref := range all {
		if first[ref.App] != ref {
			delete(all, ref)
		}
	}
	return all, nil
}

func (c *Controller) pushState(ctx context.Context, ref StageRef) (pushState, error) {
	all, err := c.pushStates(ctx, ref.App)
	return all[ref], err
}

// skips are what a commit's message says where nothing is to happen; the second and third are GitHub's.
func skips() []string { return []string{"[skip deploy]", "[skip ci]", "[ci skip]"} }

// skipped says why a commit is not deployed though it could be; "" when it is.
func (s Source) skipped(changes Changes, dir string) string {
	message := strings.ToLower(changes.Message)
	for _, skip := range skips() {
		if strings.Contains(message, skip) {
			return "its message says " + skip
		}
	}
	switch {
	case changes.Unknown:
		return ""
	case len(changes.Files) > 0 && len(below(dir, changes.Files)) == 0:
		return "it changes nothing in the folder of lotse.yaml"
	case len(s.Paths)+len(s.Ignore) > 0 && !slices.ContainsFunc(below(dir, changes.Files), s.counts):
		return "it changes nothing that source.paths and source.ignore let count"
	}
	return ""
}

// below returns those of files that lie in dir, as they are called there.
func below(dir string, files []string) []string {
	if dir == "." || dir == "" {
		return files
	}
	var inside []string
	for _, f := range files {
		if name, ok := strings.CutPrefix(f, dir+"/"); ok {
			inside = append(inside, name)
		}
	}
	return inside
}

// counts reports whether a change of a file is one of the app. That of lotse.yaml always is.
func (s Source) counts(file string) bool {
	matches := func(glob string) bool { return matchPath(strings.Split(glob, "/"), strings.Split(file, "/")) }
	if file == "lotse.yaml" {
		return true
	}
	return (len(s.Paths) == 0 || slices.ContainsFunc(s.Paths, matches)) && !slices.ContainsFunc(s.Ignore, matches)
}

// matchPath is path.Match for each part of a path; ** stands for any parts, also none.
func matchPath(glob, name []string) bool {
	for len(glob) > 0 {
		if glob[0] == "**" {
			for i := range len(name) + 1 {
				if matchPath(glob[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(glob[0], name[0]); err != nil || !ok {
			return false
		}
		glob, name = glob[1:], name[1:]
	}
	return len(name) == 0
}
