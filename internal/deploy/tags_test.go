package deploy_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// tagged is the app in which a tag v* starts a rollout of a stage.
func tagged(stage string, change ...func(*deploy.App)) deploy.App {
	return onPush("", append(change, func(a *deploy.App) {
		for i := range a.Stages {
			if a.Stages[i].Name == stage {
				a.Stages[i].On = deploy.Push{Tag: "v*"}
			}
		}
	})...)
}

// history has the commits come after each other.
func history(commits ...string) func(*site, *forge) {
	return func(s *site, f *forge) {
		for _, id := range commits {
			s.builder.history = append(s.builder.history, deploy.Commit{ID: id, Message: id})
			f.commits[id] = pushed{}
		}
		f.tag("v0.9", "one")
	}
}

// tagEvents are "tag decision" of each, and the last decision.
func (s *site) tagEvents() (all []string, last deploy.TagDecision) {
	s.t.Helper()
	events, err := s.ledger.Events(context.Background(), deploy.EventQuery{Kinds: []string{deploy.KindTag}})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		last = deploy.TagDecision{}
		if err := json.Unmarshal(e.Data, &last); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(last.Tag+" "+string(last.Decision)))
	}
	return all, last
}

func (s *site) wantTags(want ...string) deploy.TagDecision {
	s.t.Helper()
	got, last := s.tagEvents()
	if !slices.Equal(got, want) {
		s.t.Errorf("decided was %v, want %v; the last: %+v", got, want, last)
	}
	return last
}

func (s *site) tagging(stage string) deploy.TagWatching {
	s.t.Helper()
	all, err := s.Status(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, st := range all {
		if st.Stage.Stage == stage && st.Tags != nil {
			return *st.Tags
		}
	}
	s.t.Fatalf("status has no tags of %s: %+v", stage, all)
	return deploy.TagWatching{}
}

// What was there begins nothing; a new tag is deployed to the first stage, once, whoever restarts, and the rollout names it.
func TestTagDeploys(t *testing.T) {
	inWatched(t, tagged("dev"), history("one", "two", "three"), func(t *testing.T, s *site, forge *forge) {
		s.wantTags("baseline")
		forge.tag("nightly", "two") // is none of v*
		pass(time.Minute)
		forge.tag("v1.0", "two")
		pass(2 * time.Minute)
		d := s.wantTags("baseline", "v1.0 deploy")
		r := s.lastRollout()
		if r.ID != d.Rollout || r.Commit != "two" || r.Trigger != deploy.ByTag || r.Tag != "v1.0" || r.Verb != deploy.Deployed || r.Outcome != deploy.Settled {
			t.Fatalf("the last rollout is %+v", r)
		}
		if len(r.Rules) == 0 || r.Rules[0] != (deploy.Evidence{Probe: "tag", Figure: "v1.0 names commit two"}) {
			t.Errorf("its evidence is %+v", r.Rules)
		}
		s.end()
		s.boot()
		pass(2 * time.Minute)
		s.wantTags("baseline", "v1.0 deploy")
		if got := s.carried()["two"]; got != 1 {
			t.Errorf("%d rollouts of the tag", got)
		}
		if w := s.tagging("dev"); w.Pattern != "v*" || w.Looked.IsZero() || w.Refused != "" {
			t.Errorf("status says %+v", w)
		}
		s.noNames()
	})
}

// A tag that is moved begins nothing and is said; one that is deleted and pushed again neither.
func TestTagMoves(t *testing.T) {
	inWatched(t, tagged("dev"), history("one", "two", "three"), func(t *testing.T, s *site, forge *forge) {
		forge.tag("v1.0", "two")
		pass(2 * time.Minute)
		forge.tag("v1.0", "three")
		pass(time.Minute)
		d := s.wantTags("baseline", "v1.0 deploy", "v1.0 moved")
		if d.Before != "two" || d.Commit != "three" || !strings.Contains(s.tagging("dev").Refused, "v1.0: it was moved from commit two to three") {
			t.Errorf("it is %+v, and status says %+v", d, s.tagging("dev"))
		}
		forge.tag("v1.0", "")
		pass(time.Minute)
		forge.tag("v1.0", "three")
		pass(time.Minute)
		forge.tag("v0.9", "three") // of the baseline
		pass(time.Minute)
		s.wantTags("baseline", "v1.0 deploy", "v1.0 moved", "v0.9 moved")
		if got := s.carried(); got["two"] != 1 || got["three"] != 0 {
			t.Errorf("rollouts by commit: %v", got)
		}
	})
}

// git push --tags brings many: the highest goes; what the stage has already is skipped, whatever it is called.
func TestTagsAtOnce(t *testing.T) {
	inWatched(t, tagged("dev"), history("zero", "one", "two", "three", "four"), func(t *testing.T, s *site, forge *forge) {
		for name, commit := range map[string]string{"v1.1": "two", "v1.2": "three", "v0.1": "zero"} {
			forge.tag(name, commit)
		}
		pass(2 * time.Minute)
		s.wantTags("baseline", "v1.1 overtaken", "v0.1 overtaken", "v1.2 deploy")
		forge.tag("v9.0", "zero")
		pass(time.Minute)
		if d := s.wantTags("baseline", "v1.1 overtaken", "v0.1 overtaken", "v1.2 deploy", "v9.0 skipped"); !strings.Contains(d.Why, "has its commit already, and newer ones") {
			t.Errorf("it is %+v", d)
		}
		forge.tag("v9.1", "lost")
		pass(time.Minute)
		if d := s.wantTags("baseline", "v1.1 overtaken", "v0.1 overtaken", "v1.2 deploy", "v9.0 skipped", "v9.1 refused"); !strings.Contains(d.Why, "cannot be found out: it is lost") {
			t.Errorf("it is %+v", d)
		}
		if got := s.carried(); got["three"] != 1 || got["two"]+got["zero"]+got["lost"] != 0 {
			t.Errorf("rollouts by commit: %v", got)
		}
	})
}

// At a later stage a tag promotes the release of its commit, the same digest, once the stage before has served it, also when that has gone on.
func TestTagPromotes(t *testing.T) {
	inWatched(t, tagged("staging"), history("one", "two", "three"), func(t *testing.T, s *site, forge *forge) {
		forge.tag("v1.0", "two")
		pass(time.Minute)
		s.wantTags("baseline", "v1.0 waits")
		if w := s.tagging("staging"); !slices.Equal(w.Waits, []string{"v1.0"}) {
			t.Errorf("status says %+v", w)
		}
		s.end()
		s.boot()
		pass(time.Minute)
		two := s.deploy("two")
		s.deploy("three")
		pass(3 * time.Minute)
		d := s.wantTags("baseline", "v1.0 waits", "v1.0 deploy")
		all, err := s.History(t.Context(), "shop", "staging", 0)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		if r := all[0]; r.ID != d.Rollout || r.Verb != deploy.Promoted || r.Commit != "two" || r.From != two.ID || r.Tag != "v1.0" || r.Outcome != deploy.Settled {
			t.Errorf("it is %+v", r)
		}
		if s.builder.builds != 3 {
			t.Errorf("%d builds of three commits", s.builder.builds)
		}
	})
}

// What the stage before went back from is not promoted, a tag that is deleted while it waits begins nothing, and none waits for ever.
func TestTagsThatWait(t *testing.T) {
	inWatched(t, tagged("staging"), history("one", "two", "three"), func(t *testing.T, s *site, forge *forge) {
		s.deploy("two")
		s.rollback("dev", "")
		forge.tag("v1.0", "two")
		forge.tag("v1.1", "three")
		pass(time.Minute)
		s.wantTags("baseline", "v1.1 waits", "v1.0 waits")
		forge.tag("v1.1", "")
		pass(time.Minute)
		s.wantTags("baseline", "v1.1 waits", "v1.0 waits", "v1.1 gone")
		s.deploy("three")
		pass(24 * time.Hour)
		if d := s.wantTags("baseline", "v1.1 waits", "v1.0 waits", "v1.1 gone", "v1.0 refused"); !strings.Contains(d.Why, "dev has not served commit two in 24h0m0s") || !strings.Contains(d.Hint, "lotse promote staging") {
			t.Errorf("it is %+v", d)
		}
		if all, err := s.History(t.Context(), "shop", "staging", 0); err != nil || len(all) != 0 {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// The rules of the stage are asked as by hand, and what they refuse is said.
func TestTagAndRules(t *testing.T) {
	of := tagged("staging", func(a *deploy.App) { a.Stages[1].Approvals = deploy.Consent{People: 1, Within: time.Hour} })
	inWatched(t, of, history("one", "two"), func(t *testing.T, s *site, forge *forge) {
		forge.tag("v1.0", "one")
		pass(time.Minute)
		if d := s.wantTags("baseline", "v1.0 deploy", "v1.0 refused"); !strings.Contains(d.Why, "needs 1 approval") || d.Hint == "" || d.Rollout != "" {
			t.Errorf("it is %+v", d)
		}
		if w := s.tagging("staging"); !strings.Contains(w.Refused, "the tag v1.0: ") {
			t.Errorf("status says %+v", w)
		}
		s.deploy("two")
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		forge.tag("v1.1", "two")
		pass(2 * time.Minute)
		s.wantTags("baseline", "v1.0 deploy", "v1.0 refused", "v1.1 deploy")
		if r, err := s.History(t.Context(), "shop", "staging", 1); err != nil || len(r) != 1 || r[0].Tag != "v1.1" || r[0].Outcome != deploy.Settled {
			t.Errorf("it is %+v, %v", r, err)
		}
	})
}

// The lotse.yaml of the commit that a tag names decides, and what is pushed while nobody watches begins nothing later.
func TestTagByItsOwnFile(t *testing.T) {
	inWatched(t, tagged("dev"), func(s *site, f *forge) {
		history("one", "two", "three", "four")(s, f)
		s.builder.apps["two"] = app
	}, func(t *testing.T, s *site, forge *forge) {
		forge.tag("v1.0", "two")
		pass(time.Minute)
		if d := s.wantTags("baseline", "v1.0 deploy", "v1.0 refused"); !strings.Contains(d.Why, "does not have this tag start a rollout of dev") {
			t.Errorf("it is %+v", d)
		}
		s.deploy("two") // by hand: nothing is watched
		forge.tag("v1.1", "three")
		pass(time.Minute)
		s.deploy("one")
		pass(time.Minute)
		s.wantTags("baseline", "v1.0 deploy", "v1.0 refused", "baseline")
		forge.tag("v1.2", "four")
		pass(2 * time.Minute)
		s.wantTags("baseline", "v1.0 deploy", "v1.0 refused", "baseline", "v1.2 deploy")
	})
}

// A controller that dies between deciding on a tag and asking for its rollout: the next one begins that rollout, once.
func TestTagOutlivesItsController(t *testing.T) {
	inWatched(t, tagged("dev"), history("one", "two"), func(t *testing.T, s *site, forge *forge) {
		_, d := s.tagEvents()
		s.end()
		forge.tag("v1.0", "two")
		raw, err := json.Marshal(deploy.TagDecision{Repository: d.Repository, Pattern: "v*", Tag: "v1.0", Commit: "two", Decision: deploy.PushDeploy, Rollout: "k3v7q2xa"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ledger.Append(t.Context(), deploy.Event{Kind: deploy.KindTag, App: "shop", Stage: "dev", Data: raw}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s.boot()
			pass(2 * time.Minute)
			s.end()
		}
		s.boot()
		s.wantTags("baseline", "v1.0 deploy")
		if r := s.lastRollout(); r.ID != "k3v7q2xa" || r.Outcome != deploy.Settled || s.carried()["two"] != 1 {
			t.Errorf("it is %+v", r)
		}
	})
}
