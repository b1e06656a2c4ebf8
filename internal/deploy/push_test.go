package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A push reaches dev within seconds, in the name of its author; what was there when the watching began is not deployed again; what a
// push brought goes on to the next stage, back, and through a restart like anything else.
func TestPush(t *testing.T) {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		s.wantDecided("one baseline")
		if w := s.watches(); w == nil || w.Repository != "/app/.git" || !w.Local || w.Branch != "main" || w.Head != "one" || w.Trouble != "" || w.Looked.IsZero() {
			t.Errorf("status says %+v", w)
		}
		forge.push("two", pushed{message: "two"})
		pass(2*time.Second + time.Millisecond)
		synctest.Wait()
		r := s.lastRollout()
		if r.Commit != "two" || r.Trigger != deploy.ByPush || r.Verb != deploy.Deployed {
			t.Fatalf("two seconds after the push the last rollout is %+v", r)
		}
		if r = s.ended(r.ID); r.Outcome != deploy.Settled {
			t.Fatalf("it ended %s: %+v", r.Outcome, r.Turned)
		}
		if name := s.ledger.Names(t.Context(), []string{r.Actor})[r.Actor]; name != "Grace" {
			t.Errorf("it was done by %q, want the author", name)
		}
		if got := s.pushes()[1]; got.Rollout != r.ID || got.Before != "one" || got.Branch != "main" {
			t.Errorf("the decision is %+v", got)
		}
		s.end()
		s.boot()
		pass(time.Minute)
		if on := s.promote("staging"); on.Outcome != deploy.Settled || on.Commit != "two" || on.Origin != r.Origin || on.Trigger != "" || on.Watches != nil {
			t.Errorf("promoted it is %+v", on)
		}
		if back := s.rollback("dev", ""); back.Outcome != deploy.Settled || back.Commit != "one" {
			t.Errorf("back it is %+v", back)
		}
		pass(time.Minute)
		s.wantDecided("one baseline", "two deploy")
		forge.push("three", pushed{})
		pass(2 * time.Minute)
		s.wantDecided("one baseline", "two deploy", "three deploy")
		if got := s.carried(); !maps.Equal(got, map[string]int{"one": 1, "two": 1, "three": 1}) {
			t.Errorf("rollouts by commit: %v", got)
		}
		s.noNames()
	})
}

// noNames reads the whole ledger for what may hold somebody's name.
func (s *site) noNames() {
	s.t.Helper()
	events, err := s.ledger.Events(context.Background(), deploy.EventQuery{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		for _, name := range []string{"/app", "git.example.org", "Ada", "ada@", "Grace", "grace@", "sesame"} { // no short word: ids are letters by chance
			if strings.Contains(string(e.Data), name) {
				s.t.Errorf("event %d (%s) holds %q: %s", e.Seq, e.Kind, name, e.Data)
			}
		}
	}
}

// What becomes of a push, by its message, its files and its lotse.yaml.
func TestPushDecisions(t *testing.T) {
	paths := onPush("main", func(a *deploy.App) {
		a.Source.Paths, a.Source.Ignore = []string{"web/**", "*.go"}, []string{"**/*.md"}
	})
	for name, c := range map[string]struct {
		app    deploy.App
		push   pushed
		set    func(*site, *forge)
		want   deploy.Decision
		why    string
		ending bool // nothing is watched from then on
	}{
		"plain":                   {app: onPush("main"), push: pushed{files: []string{"a"}}, want: deploy.PushDeploy},
		"an empty commit":         {app: onPush("main"), want: deploy.PushDeploy},
		"skip deploy":             {app: onPush("main"), push: pushed{message: "docs [skip deploy]"}, want: deploy.PushSkipped, why: "[skip deploy]"},
		"skip ci in the body":     {app: onPush("main"), push: pushed{message: "docs\n\nlong\n[Skip CI]\n"}, want: deploy.PushSkipped, why: "[skip ci]"},
		"ci skip":                 {app: onPush("main"), push: pushed{message: "[CI SKIP] docs"}, want: deploy.PushSkipped, why: "[ci skip]"},
		"skip, as a word":         {app: onPush("main"), push: pushed{message: "skip deploy of docs"}, want: deploy.PushDeploy},
		"a path that counts":      {app: paths, push: pushed{files: []string{"docs/a.txt", "web/deep/b.ts"}}, want: deploy.PushDeploy},
		"no path that counts":     {app: paths, push: pushed{files: []string{"docs/a.txt", "cmd/main.go"}}, want: deploy.PushSkipped, why: "source.paths"},
		"an ignored path":         {app: paths, push: pushed{files: []string{"web/README.md"}}, want: deploy.PushSkipped, why: "source.ignore"},
		"at the root":             {app: paths, push: pushed{files: []string{"main.go"}}, want: deploy.PushDeploy},
		"lotse.yaml always":       {app: paths, push: pushed{files: []string{"lotse.yaml"}}, want: deploy.PushDeploy},
		"a rewritten history":     {app: onPush("main"), push: pushed{forced: true}, want: deploy.PushDeploy},
		"no on any more":          {app: onPush("main"), set: other(app), want: deploy.PushEnded, why: "does not have a push to main start", ending: true},
		"a submodule":             {app: onPush("main"), set: func(_ *site, f *forge) { f.submod = "two" }, want: deploy.PushRefused, why: "vendor/lib is a git submodule"},
		"another app":             {app: onPush("main"), set: other(onPush("main", func(a *deploy.App) { a.Name = "other" })), want: deploy.PushRefused, why: "other/dev in the place of shop/dev"},
		"a setting is missing":    {app: onPush("main"), set: other(onPush("main", func(a *deploy.App) { a.Secrets = []string{"STRIPE_KEY"} })), want: deploy.PushRefused, why: "STRIPE_KEY"},
		"mistakes in lotse.yaml":  {app: onPush("main"), set: mistaken, want: deploy.PushRefused, why: "first mistake\nsecond mistake"},
		"a branch that is none":   {app: onPush("main"), set: other(onPush("a..b")), want: deploy.PushEnded, ending: true},
		"by the other branch now": {app: onPush("main"), set: other(onPush("next")), want: deploy.PushEnded},
	} {
		t.Run(name, func(t *testing.T) {
			inWatched(t, c.app, c.set, func(t *testing.T, s *site, forge *forge) {
				forge.push("two", c.push)
				pass(2 * time.Minute)
				all := s.pushes()
				got := all[len(all)-1]
				if got.Decision == deploy.PushBaseline { // of the other branch
					got = all[len(all)-2]
				}
				if got.Commit != "two" || got.Decision != c.want || !strings.Contains(got.Why, c.why) || got.Forced != c.push.forced {
					t.Errorf("decided was %+v, want %s because of %q", got, c.want, c.why)
				}
				deployed := s.carried()["two"]
				if (c.want == deploy.PushDeploy) != (deployed == 1) {
					t.Errorf("there were %d rollouts of it", deployed)
				}
				w := s.watches()
				if (w == nil) != c.ending {
					t.Errorf("what is watched then is %+v", w)
				}
				if c.want == deploy.PushRefused && !strings.Contains(w.Refused, c.why) {
					t.Errorf("the status does not say so: %+v", w)
				}
				s.noNames()
			})
		})
	}
}

// other gives the commit two another lotse.yaml.
func other(a deploy.App) func(*site, *forge) {
	return func(s *site, _ *forge) { s.builder.apps["two"] = a }
}

func mistaken(s *site, _ *forge) {
	s.builder.wrong["two"] = errors.Join(fmt.Errorf("%w: first mistake", deploy.ErrBadInput), errors.New("second mistake"))
}

// What is compared is what was deployed or skipped last, not what was refused.
func TestPushesAreComparedWithWhatCounted(t *testing.T) {
	paths := onPush("main", func(a *deploy.App) { a.Source.Paths = []string{"web/**"} })
	inWatched(t, paths, func(s *site, _ *forge) {
		s.builder.wrong["two"] = deploy.ErrBadInput
	}, func(t *testing.T, s *site, forge *forge) {
		forge.push("two", pushed{files: []string{"web/a"}})
		pass(time.Minute)
		forge.push("three", pushed{files: []string{"docs/a"}}) // puts it right, and web/a is not deployed yet
		pass(2 * time.Minute)
		forge.push("four", pushed{files: []string{"docs/b"}})
		pass(time.Minute)
		s.wantDecided("one baseline", "two refused", "three deploy", "four skipped")
	})
}

// Another branch is watched from where it is.
func TestPushMovesToAnotherBranch(t *testing.T) {
	inWatched(t, onPush("main"), func(s *site, f *forge) {
		f.pushTo("next", "there", pushed{})
		for _, commit := range []string{"two", "five"} {
			s.builder.apps[commit] = onPush("next")
		}
	}, func(t *testing.T, s *site, forge *forge) {
		forge.push("two", pushed{})
		pass(time.Minute)
		forge.push("three", pushed{})
		pass(time.Minute)
		forge.pushTo("next", "five", pushed{})
		pass(time.Minute)
		s.wantDecided("one baseline", "two ended", "there baseline", "five deploy")
	})
}

// Three pushes while one builds are one more rollout: that of the newest.
func TestPushesOvertake(t *testing.T) {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		s.builder.mu.Lock()
		s.builder.hold = make(chan struct{})
		s.builder.mu.Unlock()
		for _, commit := range []string{"two", "three", "four", "five"} {
			forge.push(commit, pushed{})
			pass(10 * time.Second)
		}
		if w := s.watches(); w.Waits != "five" {
			t.Errorf("status says %+v", w)
		}
		close(s.builder.hold)
		pass(4 * time.Minute)
		s.wantDecided("one baseline", "two deploy", "three overtaken", "four overtaken", "five deploy")
		if got := s.carried(); !maps.Equal(got, map[string]int{"one": 1, "two": 1, "five": 1}) {
			t.Errorf("rollouts by commit: %v", got)
		}
		if w := s.watches(); w.Waits != "" {
			t.Errorf("in the end status says %+v", w)
		}
	})
}

// A rollout that is only being watched holds no push up.
func TestPushDuringAWatch(t *testing.T) {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		forge.push("two", pushed{})
		pass(20 * time.Second)
		two := s.lastRollout()
		if last := two.Steps[len(two.Steps)-1].Name; last != "watch" {
			t.Fatalf("it stands at %s", last)
		}
		forge.push("three", pushed{})
		pass(10 * time.Second)
		if last := s.lastRollout(); last.Commit != "three" {
			t.Errorf("the last rollout is of %s", last.Commit)
		}
		if two = s.ended(two.ID); two.Outcome != deploy.Settled {
			t.Errorf("the one before ended %s", two.Outcome)
		}
	})
}

// A deploy that fails is not tried again; the next push is.
func TestFailedPush(t *testing.T) {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		forge.push("broken", pushed{})
		pass(time.Hour)
		s.end()
		s.boot()
		pass(time.Hour)
		if got := s.carried()["broken"]; got != 1 {
			t.Errorf("it was tried %d times", got)
		}
		forge.push("three", pushed{})
		pass(2 * time.Minute)
		s.wantDecided("one baseline", "broken deploy", "three deploy")
	})
}

// What was pushed while nobody looked is deployed when somebody does, once, and the newest alone.
func TestPushWhileDown(t *testing.T) {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		pass(2 * time.Minute)
		s.end()
		forge.push("two", pushed{})
		forge.push("three", pushed{})
		pass(time.Hour)
		s.boot()
		pass(2 * time.Minute)
		s.wantDecided("one baseline", "three deploy")
	})
}

// The branch is not there yet, goes away, comes back.
func TestPushWithoutABranch(t *testing.T) {
	inWatched(t, onPush("main"), func(_ *site, f *forge) { delete(f.heads, "main") }, func(t *testing.T, s *site, forge *forge) {
		s.wantDecided(" baseline")
		if w := s.watches(); w.Trouble != "there is no branch main" {
			t.Errorf("status says %+v", w)
		}
		forge.push("two", pushed{})
		pass(2 * time.Minute)
		forge.mu.Lock()
		delete(forge.heads, "main")
		forge.mu.Unlock()
		pass(time.Minute)
		if w := s.watches(); w.Trouble != "there is no branch main" || w.Head != "" {
			t.Errorf("status says %+v", w)
		}
		forge.push("two", pushed{})
		pass(time.Minute)
		forge.push("three", pushed{})
		pass(2 * time.Minute)
		s.wantDecided(" baseline", "two deploy", "three deploy")
	})
}

// What somebody deploys by hand is not deployed again by the push of it, and says what is watched.
func TestPushAndByHand(t *testing.T) {
	inWatched(t, onPush("main"), func(s *site, _ *forge) { s.builder.apps["four"] = app }, func(t *testing.T, s *site, forge *forge) {
		s.deploy("two")
		forge.push("two", pushed{})
		pass(time.Minute)
		s.wantDecided("one baseline", "two skipped")
		forge.push("three", pushed{})
		pass(2 * time.Minute)
		s.deploy("four") // has no on
		forge.push("five", pushed{})
		pass(time.Minute)
		if w := s.watches(); w != nil {
			t.Errorf("what is watched is %+v", w)
		}
		s.deploy("three")
		pass(time.Minute)
		s.wantDecided("one baseline", "two skipped", "three deploy", "five baseline")
	})
}

var errGone = fmt.Errorf("%w: it cannot be read: %s is not there", deploy.ErrUnavailable, address)

// A remote repository is asked every half minute, less and less often while it does not answer, and never by all at the same time.
func TestPushRemote(t *testing.T) {
	of := onPush("main", func(a *deploy.App) { a.Source = deploy.Source{Remote: address, Token: "GIT_TOKEN"} })
	inWatched(t, of, func(s *site, _ *forge) { s.secrets["GIT_TOKEN"] = "sesame" }, func(t *testing.T, s *site, forge *forge) {
		pass(10 * time.Minute)
		forge.between(t, 27*time.Second, 33*time.Second)
		if slices.Contains(forge.given(), "") {
			t.Errorf("it was asked without its token")
		}
		s.give("GIT_TOKEN", "sesame-2")
		forge.fail(errGone)
		pass(2 * time.Minute)
		w := s.watches()
		if !strings.Contains(w.Trouble, " times, next in ") || strings.Contains(w.Trouble, address) || forge.given()[len(forge.given())-1] != "sesame-2" {
			t.Errorf("status says %+v", w)
		}
		pass(3 * time.Hour)
		forge.between(t, 9*time.Minute, 11*time.Minute)
		forge.fail(nil)
		forge.push("two", pushed{})
		if told, err := s.Pushed(t.Context(), "/app"); err != nil || len(told) != 1 {
			t.Errorf("those who were told: %v, %v", told, err)
		}
		synctest.Wait()
		if r := s.lastRollout(); r.Commit != "two" {
			t.Errorf("at once after being told the last rollout is of %s", r.Commit)
		}
		if told, err := s.Pushed(t.Context(), "/elsewhere"); err != nil || len(told) != 0 {
			t.Errorf("those who were told of another repository: %v, %v", told, err)
		}
		pass(10 * time.Minute)
		forge.between(t, 27*time.Second, 33*time.Second)
		if w := s.watches(); w.Trouble != "" {
			t.Errorf("status says %+v", w)
		}
		s.give("GIT_TOKEN", "")
		pass(time.Minute)
		if w := s.watches(); !strings.Contains(w.Trouble, "GIT_TOKEN") {
			t.Errorf("without its token status says %+v", w)
		}
		s.give("GIT_TOKEN", "sesame")
		s.end()
		s.boot()
		pass(time.Minute)
		if w := s.watches(); w.Trouble != "" || forge.given()[len(forge.given())-1] != "sesame" {
			t.Errorf("after a restart status says %+v", w)
		}
		s.noNames()
	})
}

// give sets a secret, as somebody does while the controller runs.
func (s *site) give(name, value string) {
	s.keys.Lock()
	defer s.keys.Unlock()
	s.secrets[name] = value
}

// given are the tokens that looks came with.
func (f *forge) given() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tokens)
}

// What waits for the stage does not make a repository that cannot be read be asked more often.
func TestPushWaitsForARemote(t *testing.T) {
	of := onPush("main", func(a *deploy.App) { a.Source.Remote = address })
	inWatched(t, of, nil, func(t *testing.T, s *site, forge *forge) {
		hold := make(chan struct{})
		s.builder.mu.Lock()
		s.builder.hold = hold
		s.builder.mu.Unlock()
		for _, commit := range []string{"two", "three"} {
			forge.push(commit, pushed{})
			pass(time.Minute)
		}
		forge.fail(errGone)
		close(hold)
		pass(time.Minute)
		before := len(forge.given())
		pass(5 * time.Minute)
		if looks := len(forge.given()) - before; looks > 4 {
			t.Errorf("it was asked %d times in 5 min", looks)
		}
		forge.fail(nil)
		pass(20 * time.Minute)
		s.wantDecided("one baseline", "two deploy", "three deploy")
	})
}

// between fails the test when the last two looks are not that far from each other.
func (f *forge) between(t *testing.T, least, most time.Duration) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.looks); n < 2 || f.looks[n-1].Sub(f.looks[n-2]) < least || f.looks[n-1].Sub(f.looks[n-2]) > most {
		t.Errorf("of %d looks the last two are %s from each other", n, f.looks[n-1].Sub(f.looks[n-2]))
	}
}

// The controller is killed before and after every moment of a push: exactly one rollout carries the commit, and it ends well.
func TestPushKilledAnywhere(t *testing.T) {
	undisturbed := pushVoyage(t, newPoints(0, false))
	if !slices.Contains(undisturbed.names, "append push") {
		t.Fatalf("the moments are %v", undisturbed.names)
	}
	chosen := everyNthOf(t, len(undisturbed.names), 36)
	for i, name := range undisturbed.names {
		beside := name == "append push" || i > 0 && undisturbed.names[i-1] == "append push"
		if !slices.Contains(chosen, i+1) && !beside {
			continue
		}
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s after %v", i+1, name, after), func(t *testing.T) { pushVoyage(t, newPoints(i+1, after)) })
		}
	}
}

func pushVoyage(t *testing.T, p *points) *points {
	inWatched(t, onPush("main"), nil, func(t *testing.T, s *site, forge *forge) {
		pass(2 * time.Minute)
		s.end()
		synctest.Wait()
		forge.push("two", pushed{})
		p.board(s)
		s.boot()
		select {
		case <-p.died:
		case <-time.After(3 * time.Minute):
		}
		s.end()
		synctest.Wait()
		s.points = nil
		s.boot()
		pass(3 * time.Minute)
		if got := s.carried(); !maps.Equal(got, map[string]int{"one": 1, "two": 1}) {
			t.Errorf("rollouts by commit: %v; decided was %v", got, s.decided())
		}
		if last := s.lastRollout(); last.Outcome != deploy.Settled || last.Commit != "two" {
			t.Errorf("the last rollout is %+v", last)
		}
		s.leaseIsFree()
		forge.push("three", pushed{})
		pass(3 * time.Minute)
		if last := s.lastRollout(); last.Outcome != deploy.Settled || last.Commit != "three" {
			t.Errorf("the push after it is %+v", last)
		}
	})
	return p
}

func TestBranchNames(t *testing.T) {
	for _, good := range []string{"main", "feature/x-1", "ü", "a.b"} {
		if wrong := (deploy.Push{Branch: good}).Problem(); wrong != "" {
			t.Errorf("%q %s", good, wrong)
		}
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "-a", "a..b", "a.", "a b", "a:b", "a*", "@", "a@{b", `a\b`, "a\x7f"} {
		if wrong := (deploy.Push{Branch: bad}).Problem(); wrong == "" {
			t.Errorf("%q may be a branch", bad)
		}
	}
}
