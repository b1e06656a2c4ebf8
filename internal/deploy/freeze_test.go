package deploy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// history gives the commits of the harness their messages, the oldest first: "id: message".
func (s *site) wrote(lines ...string) {
	s.builder.history = nil
	for _, l := range lines {
		id, message, _ := strings.Cut(l, ": ")
		subject, _, _ := strings.Cut(message, "\n")
		s.builder.history = append(s.builder.history, deploy.Commit{ID: id, Name: "Ada", Mail: "ada@example.org", Subject: subject, Message: message})
	}
}

func (s *site) freeze(stage, reason string, until time.Time) error {
	return s.Freeze(s.t.Context(), deploy.Frost{Stage: stage, Reason: reason, Until: until, By: cleo})
}

func (s *site) thaw(stage string) error {
	return s.Thaw(s.t.Context(), deploy.Frost{Stage: stage, By: cleo})
}

// A frozen stage takes a release only where every commit since what it serves is a hotfix, and always a way back.
func TestFreeze(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.wrote("one: one", "two: a feature", "three: mend [hotfix]\n\nmore", "four: mend on [hotfix]", "five: five", "six: six", "seven: seven", "eight: eight")
		s.deploy("one")
		if err := s.freeze("staging", "release 1.2", time.Time{}); err != nil {
			t.Fatal(err)
		}
		if all, err := s.Status(t.Context()); err != nil || all[0].Frozen != nil || all[1].Frozen == nil || all[1].Frozen.Reason != "release 1.2" {
			t.Errorf("the status is %+v, %v", all, err)
		}
		r, err := s.tryPromote("staging", deploy.Override{})
		if err != nil || ruling(r, "freeze") != "the stage is frozen and serves nothing yet: the first release is let in" {
			t.Fatalf("the first release: %v, %+v", err, r.Rules)
		}
		if r, err := s.tryPromote("staging", deploy.Override{}); err != nil || r.Outcome != deploy.Unchanged {
			t.Errorf("the same again: %v, %s", err, r.Outcome)
		}
		s.deploy("two")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "a feature", err, deploy.ErrRefused, `shop/staging is frozen until it is thawed: release 1.2; without [hotfix] are two "a feature"`, "a hotfix has [hotfix] in the message of every commit, on top of commit one")
		s.deploy("three")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "a hotfix on a feature", err, deploy.ErrRefused, `without [hotfix] are two "a feature"`, "lotse promote staging --now --reason WHY")
		if r, err := s.tryPromote("staging", deploy.Override{Now: true, Reason: "agreed in the round"}); err != nil || r.Override == "" || !strings.Contains(ruling(r, "freeze"), "passed by --now: agreed in the round") {
			t.Fatalf("an override: %v, %+v", err, r.Rules)
		}
		s.deploy("four")
		if r, err := s.tryPromote("staging", deploy.Override{}); err != nil || !strings.HasSuffix(ruling(r, "freeze"), "1 of 1 new commits are hotfixes ([hotfix])") {
			t.Errorf("a hotfix: %v, %+v", err, r.Rules)
		}
		s.deploy("eight")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "many", err, deploy.ErrRefused, `eight "eight", seven "seven", six "six" and 1 more`, "")
		if back := s.rollback("staging", ""); back.Outcome != deploy.Settled || back.Commit != "three" {
			t.Errorf("the way back is %s to %s", back.Outcome, back.Commit)
		}
		if err := s.thaw("staging"); err != nil {
			t.Fatal(err)
		}
		if r, err := s.tryPromote("staging", deploy.Override{}); err != nil || ruling(r, "freeze") != "" {
			t.Errorf("after the thaw: %v, %+v", err, r.Rules)
		}
	})
}

// What was not made on top of what is frozen would take something away; what cannot be found out is not let in.
func TestFreezeWantsWhatIsOnTop(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.wrote("one: one", "two: two [hotfix]")
		s.rule("staging", func(st *deploy.Stage) { st.Freeze = deploy.Freeze{Always: true}; st.Hotfix = "Hotfix: yes" })
		s.deploy("two")
		s.promote("staging")
		s.deploy("one")
		_, err := s.tryPromote("staging", deploy.Override{})
		refused(t, "an older one", err, deploy.ErrRefused, `frozen always, by its lotse.yaml; the release lacks two "two [hotfix]" that it serves`, "Hotfix: yes")
		s.deploy("lost")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "an unknown one", err, deploy.ErrRefused, "which commits are new cannot be found out: it is lost", "")
	})
}

// A freeze that comes in the middle of a rollout lets it end: half a release is worse than a whole one. The next is refused.
func TestFreezeInTheMiddleOfARollout(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("zero")
		s.promote("staging")
		s.deploy("one")
		id, err := s.Promote(t.Context(), deploy.Move{Stage: "staging", By: bo})
		if err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		if err := s.freeze("staging", "now", time.Time{}); err != nil {
			t.Fatal(err)
		}
		s.end() // and a controller that takes it up lets it end too
		synctest.Wait()
		s.boot()
		if r := s.ended(id); r.Outcome != deploy.Settled {
			t.Errorf("it ended as %s: %+v", r.Outcome, r.Turned)
		}
		s.deploy("two")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "the next one", err, deploy.ErrRefused, "shop/staging is frozen", "")
	})
}

func TestFreezeByDate(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) {
			st.Freeze = deploy.Freeze{From: "2000-01-02", To: "2000-01-03", Reason: "Christmas"}
		})
		s.deploy("one")
		s.promote("staging")
		s.deploy("two")
		s.jump.Store(int64(25 * time.Hour))
		_, err := s.tryPromote("staging", deploy.Override{})
		refused(t, "within", err, deploy.ErrRefused, "frozen until Tue 2000-01-04 00:00 UTC, by its lotse.yaml: Christmas", "")
		refused(t, "thawing the file", s.thaw("staging"), deploy.ErrRefused, "is not frozen by anybody", "lotse.yaml")
		s.jump.Store(int64(73 * time.Hour))
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Errorf("after it: %v", err)
		}
		// By hand, until a day.
		s.jump.Store(0)
		if err := s.freeze("staging", "for a day", time.Now().Add(24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		s.deploy("three")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "by hand", err, deploy.ErrRefused, "frozen until Sun 2000-01-02", "")
		s.jump.Store(int64(73 * time.Hour))
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Errorf("after the day: %v", err)
		}
		refused(t, "thawing what has ended", s.thaw("staging"), deploy.ErrRefused, "is not frozen", "")
	})
}

func TestFreezeBadInput(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		refused(t, "nothing deployed", s.freeze("staging", "why", time.Time{}), deploy.ErrRefused, "nothing was deployed", "")
		s.deploy("one")
		refused(t, "no reason", s.freeze("staging", " ", time.Time{}), deploy.ErrBadInput, "a freeze needs a reason", "--reason")
		refused(t, "an end that has passed", s.freeze("staging", "why", time.Now().Add(-time.Hour)), deploy.ErrBadInput, "would have ended", "--until")
		refused(t, "an unknown stage", s.freeze("qa", "why", time.Time{}), deploy.ErrNotFound, "no stage", "dev, staging, prod")
		refused(t, "nobody", s.Freeze(t.Context(), deploy.Frost{Stage: "dev", Reason: "why"}), deploy.ErrBadInput, "not known", "git config")
		refused(t, "thawing what is not frozen", s.thaw("dev"), deploy.ErrRefused, "is not frozen", "")
	})
}
