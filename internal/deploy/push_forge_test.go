package deploy_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// forge is a place where people push to, in memory.
type forge struct {
	mu      sync.Mutex
	heads   map[string]string
	commits map[string]pushed
	remote  bool
	err     error // of looking
	looks   []time.Time
	tokens  []string
	submod  string // commit with a submodule
	tags    []deploy.Tag
}

// pushed is a commit there.
type pushed struct {
	before, message string
	files           []string
	forced          bool
}

const address = "https://git.example.org/ada/shop.git"

func newForge() *forge {
	return &forge{heads: map[string]string{"main": "one"}, commits: map[string]pushed{"one": {}}}
}

func (f *forge) push(id string, p pushed) { f.pushTo("main", id, p) }

func (f *forge) pushTo(branch, id string, p pushed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.before = f.heads[branch]
	f.heads[branch], f.commits[id] = id, p
}

func (f *forge) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *forge) Find(_ context.Context, dir, remote string) (deploy.Origin, error) {
	if remote != "" || f.remote {
		return deploy.Origin{URL: address, Dir: "."}, nil
	}
	return deploy.Origin{URL: dir + "/.git", Dir: ".", Local: true}, nil
}

func (f *forge) Repository(_ context.Context, dir string) (string, error) { return dir + "/.git", nil }

func (f *forge) Head(_ context.Context, _ deploy.Origin, branch string, token secret.Text) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks = append(f.looks, time.Now())
	f.tokens = append(f.tokens, token.Reveal())
	return f.heads[branch], f.err
}

func (f *forge) Fetch(ctx context.Context, o deploy.Origin, branch string, token secret.Text) (deploy.Commit, error) {
	head, err := f.Head(ctx, o, branch, token)
	if err != nil {
		return deploy.Commit{}, err
	}
	return f.Commit(ctx, o, head)
}

func (f *forge) Tags(_ context.Context, _ deploy.Origin, pattern string, _ secret.Text) (all []deploy.Tag, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tags {
		if ok, _ := path.Match(pattern, t.Name); ok {
			all = append(all, t)
		}
	}
	return all, f.err
}

func (f *forge) FetchTag(ctx context.Context, o deploy.Origin, tag string, token secret.Text) (deploy.Commit, error) {
	all, err := f.Tags(ctx, o, tag, token)
	if err != nil || len(all) == 0 {
		return deploy.Commit{}, errors.Join(err, deploy.ErrNotFound)
	}
	return f.Commit(ctx, o, all[0].Commit)
}

// tag has a tag name a commit from now on; "" deletes it.
func (f *forge) tag(name, commit string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tags = slices.DeleteFunc(slices.Clone(f.tags), func(t deploy.Tag) bool { return t.Name == name })
	if commit != "" {
		f.tags = append(f.tags, deploy.Tag{Name: name, Commit: commit})
		if _, there := f.commits[commit]; !there {
			f.commits[commit] = pushed{}
		}
	}
	slices.SortFunc(f.tags, func(a, b deploy.Tag) int { return cmp.Compare(a.Name, b.Name) })
}

func (f *forge) Commit(_ context.Context, o deploy.Origin, id string) (deploy.Commit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.commits[id]; !ok {
		return deploy.Commit{}, deploy.ErrNotFound
	}
	return deploy.Commit{Repo: "/copy", Dir: o.Dir, ID: id, Name: "Grace", Mail: "grace@example.org"}, nil
}

func (f *forge) Check(_ context.Context, c deploy.Commit) error {
	if c.ID == f.submod {
		return deploy.Hint(fmt.Errorf("%w: vendor/lib is a git submodule", deploy.ErrBadInput), "take its files in")
	}
	return nil
}

// Changes adds up what the commits between the two have changed.
func (f *forge) Changes(_ context.Context, _ deploy.Origin, before, after string) (deploy.Changes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := deploy.Changes{Message: f.commits[after].message, Forced: f.commits[after].forced}
	for at := after; at != before && at != ""; at = f.commits[at].before {
		of.Files = append(of.Files, f.commits[at].files...)
	}
	return of, nil
}

// onPush is the app whose dev is deployed by a push to a branch.
func onPush(branch string, change ...func(*deploy.App)) deploy.App {
	a := app
	a.Stages = slices.Clone(app.Stages)
	a.Stages[0].On = deploy.Push{Branch: branch}
	for _, f := range change {
		f(&a)
	}
	return a
}

// inWatched is inSite with dev deployed once by hand, from a lotse.yaml by which pushes to main go on from there.
func inWatched(t *testing.T, of deploy.App, set func(*site, *forge), f func(t *testing.T, s *site, forge *forge)) {
	t.Helper()
	inSite(t, func(t *testing.T, s *site) {
		s.end()
		at := newForge()
		s.sources, s.builder.app = at, of
		s.builder.apps, s.builder.wrong = map[string]deploy.App{}, map[string]error{}
		if set != nil {
			set(s, at)
		}
		s.boot()
		s.deploy("one")
		pass(3 * time.Second)
		f(t, s, at)
	})
}

// pushes are the decisions in the ledger.
func (s *site) pushes() (all []deploy.PushDecision) {
	s.t.Helper()
	events, err := s.ledger.Events(context.Background(), deploy.EventQuery{Kinds: []string{deploy.KindPush}})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		var d deploy.PushDecision
		if err := json.Unmarshal(e.Data, &d); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// decided is "commit decision" of each.
func (s *site) decided() (all []string) {
	for _, d := range s.pushes() {
		all = append(all, d.Commit+" "+string(d.Decision))
	}
	return all
}

func (s *site) wantDecided(want ...string) {
	s.t.Helper()
	if got := s.decided(); !slices.Equal(got, want) {
		s.t.Errorf("decided was %v, want %v", got, want)
	}
}

// rolloutsOf counts the rollouts that brought each commit to dev.
func (s *site) carried() map[string]int {
	s.t.Helper()
	all, err := s.History(context.Background(), "shop", "dev", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	of := map[string]int{}
	for _, r := range all {
		if r.Verb == deploy.Deployed {
			of[r.Commit]++
		}
	}
	return of
}

func (s *site) watches() *deploy.Watching {
	s.t.Helper()
	all, err := s.Status(context.Background())
	if err != nil || len(all) == 0 {
		s.t.Fatalf("status: %v, %v", all, err)
	}
	return all[0].Watches
}
