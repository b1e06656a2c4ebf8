package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

var (
	ada  = deploy.Person{Name: "Ada", Mail: "ada@example.org"} // writes every commit of the harness
	bo   = deploy.Person{Name: "Bo", Mail: "bo@example.org"}
	cleo = deploy.Person{Name: "Cleo", Mail: "cleo@example.org"}
)

// ruled changes the stage of a site's lotse.yaml.
func (s *site) rule(stage string, change func(*deploy.Stage)) {
	app := s.builder.app
	app.Stages = slices.Clone(app.Stages)
	i := slices.IndexFunc(app.Stages, func(st deploy.Stage) bool { return st.Name == stage })
	change(&app.Stages[i])
	s.builder.app = app
}

func (s *site) approve(stage string, kind deploy.ApprovalKind, by deploy.Person, release string) error {
	_, err := s.Approve(s.t.Context(), deploy.ApprovalRequest{Stage: stage, Kind: kind, By: by, Release: release})
	return err
}

// tryPromote is the error of asking; nil when the rollout has begun, which is then seen to its end.
func (s *site) tryPromote(stage string, past deploy.Override) (deploy.Rollout, error) {
	s.t.Helper()
	id, err := s.Promote(s.t.Context(), deploy.Move{Stage: stage, By: bo, Override: past})
	if err != nil {
		return deploy.Rollout{}, err
	}
	return s.ended(id), nil
}

// refused checks that an error is what it is to be, and that nobody's address is in it.
func refused(t *testing.T, what string, err, want error, says, hint string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || !strings.Contains(deploy.HintOf(err), hint) {
		t.Errorf("%s: %v\nhint: %q\nwant %q, %q", what, err, deploy.HintOf(err), says, hint)
	}
	if err != nil && strings.Contains(err.Error()+deploy.HintOf(err), "@") {
		t.Errorf("%s: an address is in %v, %s", what, err, deploy.HintOf(err))
	}
}

// ruling is what a rollout keeps of a rule.
func ruling(r deploy.Rollout, rule string) string {
	for _, e := range r.Rules {
		if e.Probe == rule {
			return e.Figure
		}
	}
	return ""
}

func TestApprovals(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) {
			st.Approvals = deploy.Consent{People: 2, By: []string{"bo", "CLEO@example.org", "ada"}, NotAuthor: true, Within: 24 * time.Hour}
		})
		one := s.deploy("one")
		_, err := s.tryPromote("staging", deploy.Override{})
		refused(t, "without any", err, deploy.ErrRefused, "needs 2 approvals of staging and has 0; wanted of bo, C… at example.org, ada; not of who wrote", "`lotse approve staging --release "+one.Release.Short()+"`")
		_, err = s.tryPromote("staging", deploy.Override{Now: true, Reason: "at once"})
		refused(t, "an override", err, deploy.ErrRefused, "needs 2 approvals", "lotse approve")
		refused(t, "by the author", s.approve("staging", deploy.Approves, ada, ""), deploy.ErrRefused, "you deployed this release", "somebody who did not")
		refused(t, "by somebody else", s.approve("staging", deploy.Approves, deploy.Person{Name: "Dan", Mail: "dan@example.org"}, ""), deploy.ErrRefused, "has others", "it names bo")
		refused(t, "by nobody", s.approve("staging", deploy.Approves, deploy.Person{}, ""), deploy.ErrBadInput, "not known", "git config")
		for range 2 { // twice is one
			if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
		}
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "with one", err, deploy.ErrRefused, "and has 1", "lotse approve")
		if err := s.approve("staging", deploy.Approves, cleo, one.Release.Short()); err != nil {
			t.Fatal(err)
		}
		r, err := s.tryPromote("staging", deploy.Override{})
		if err != nil || r.Outcome != deploy.Settled || !strings.HasPrefix(ruling(r, "approval"), "2 of 2, the last ") {
			t.Errorf("with two it is %v, %+v", err, r)
		}
		i := slices.IndexFunc(r.Steps, func(st deploy.Step) bool { return st.Name == "entry" })
		if !slices.ContainsFunc(r.Steps[i].Evidence, func(e deploy.Evidence) bool { return e.Probe == "approval" }) {
			t.Errorf("the evidence of the entry is %+v", r.Steps[i].Evidence)
		}
		s.deploy("two")
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "the next release", err, deploy.ErrRefused, "and has 0", "")
		events, err := s.ledger.Events(t.Context(), deploy.EventQuery{Kinds: []string{deploy.KindApproval}})
		if err != nil || len(events) != 3 || strings.Contains(string(events[0].Data), "Bo") || !strings.HasPrefix(events[0].Actor, "p-") {
			t.Errorf("the ledger has %v, %v", events, err)
		}
	})
}

// Whoever wrote any commit that is new to the stage is an author of what comes.
func TestAnAuthorOfAnyNewCommit(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) { st.Approvals = deploy.Consent{People: 1, NotAuthor: true} })
		s.builder.history = []deploy.Commit{{ID: "one", Name: "Ada", Mail: "ada@example.org"}, {ID: "mid", Name: "Bo", Mail: "BO@example.org"}, {ID: "two", Name: "Ada", Mail: "ada@example.org"}}
		s.deploy("one")
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Fatal(err)
		}
		s.deploy("two")
		refused(t, "who wrote one of two", s.approve("staging", deploy.Approves, bo, ""), deploy.ErrRefused, "you wrote commit mid", "")
		if err := s.approve("staging", deploy.Approves, cleo, ""); err != nil {
			t.Error(err)
		}
	})
}

// An approval counts for a time by the wall clock, so that a clock that jumps ahead by an hour ends it an hour early, and one that jumps
// back lets it count an hour longer.
func TestApprovalsEnd(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) { st.Approvals = deploy.Consent{People: 1, Within: 24 * time.Hour} })
		s.deploy("one")
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		pass(23*time.Hour + 30*time.Minute)
		s.jump.Store(int64(time.Hour))
		_, err := s.tryPromote("staging", deploy.Override{})
		refused(t, "after a jump", err, deploy.ErrRefused, "needs 1 approval of staging and has 0; 1 more than 24h old", "lotse approve staging")
		s.jump.Store(0)
		pass(time.Hour)
		_, err = s.tryPromote("staging", deploy.Override{})
		refused(t, "an expired one", err, deploy.ErrRefused, "1 more than 24h old", "")
		s.jump.Store(-int64(time.Hour))
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Errorf("after a jump back: %v", err)
		}
	})
}

func TestApprovalsOfWhatIsNot(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		refused(t, "an unknown release", s.approve("staging", deploy.Approves, bo, "0123456789ab"), deploy.ErrNotFound, `no release "0123456789ab"`, "lotse history")
		refused(t, "too few digits", s.approve("staging", deploy.Approves, bo, "01"), deploy.ErrNotFound, "no release", "6 digits")
		refused(t, "an unknown stage", s.approve("qa", deploy.Approves, bo, ""), deploy.ErrNotFound, "no stage", "dev, staging, prod")
		refused(t, "the first stage", s.approve("dev", deploy.Approves, bo, ""), deploy.ErrRefused, "the first stage", "")
		refused(t, "the last stage", s.approve("prod", deploy.SignsOff, bo, ""), deploy.ErrRefused, "the last stage", "lotse approve prod")
		refused(t, "nothing there", s.approve("prod", deploy.Approves, bo, ""), deploy.ErrRefused, "staging serves nothing", "")
		refused(t, "nobody is asked", s.approve("staging", deploy.Approves, bo, ""), deploy.ErrRefused, "staging asks for no approval", "lotse.yaml")
		refused(t, "an unknown kind", s.approve("staging", "nod", bo, ""), deploy.ErrBadInput, "nod", "")
		_, err := s.Approve(t.Context(), deploy.ApprovalRequest{Stage: "staging", Kind: deploy.Approves, By: bo, Reason: strings.Repeat("x", 600)})
		refused(t, "a long reason", err, deploy.ErrBadInput, "500 bytes", "")
	})
}

// What leaves a stage needs the yes of a tester to what that stage has served, and the record has how its tests went.
func TestSignOff(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) { st.SignOff = deploy.Consent{People: 1, By: []string{"Cleo"}} })
		s.builder.record = []deploy.StepEvidence{{Name: "test", State: deploy.StepDone, Duration: time.Second, Log: "/somewhere"}}
		one := s.deploy("one")
		s.promote("staging")
		two := s.deploy("two")
		_, err := s.tryPromote("prod", deploy.Override{})
		refused(t, "without", err, deploy.ErrRefused, "needs 1 sign-off of staging and has 0; wanted of Cleo", "`lotse signoff staging --release "+one.Release.Short())
		refused(t, "by another", s.approve("staging", deploy.SignsOff, bo, ""), deploy.ErrRefused, "has others give the sign-off", "Cleo")
		refused(t, "of what was not there", s.approve("staging", deploy.SignsOff, cleo, two.Release.Short()), deploy.ErrRefused, "staging has not served", "")
		given, err := s.Approve(t.Context(), deploy.ApprovalRequest{Stage: "staging", Kind: deploy.SignsOff, By: cleo, Reason: "call +49 30 1234567, mail x@example.org"})
		if err != nil || given.Release != one.Release || strings.Contains(given.Reason, "@") || len(given.Pipeline) != 1 || given.Pipeline[0].Name != "test" || given.Pipeline[0].Log != "" {
			t.Fatalf("the sign-off is %+v, %v", given, err)
		}
		r, err := s.tryPromote("prod", deploy.Override{})
		if err != nil || !strings.HasPrefix(ruling(r, "sign-off"), "1 of 1") {
			t.Errorf("with it: %v, %+v", err, r.Rules)
		}
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Errorf("a sign-off is not for coming: %v", err)
		}
	})
}

// Two people who promote at once: one of them is told that the stage is being changed.
func TestTwoAtOnce(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := s.Promote(t.Context(), deploy.Move{Stage: "staging", By: bo})
				errs <- err
			}()
		}
		first, second := <-errs, <-errs
		if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), deploy.ErrBusy) {
			t.Errorf("they are told %v and %v", first, second)
		}
	})
}

// A commit does not take a rule away by itself: the file of what the stage serves asks once more.
func TestARuleIsNotTakenAwayByWhatItIsFor(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		strict := s.builder.app
		s.rule("staging", func(st *deploy.Stage) { st.Approvals = deploy.Consent{People: 1} })
		s.builder.apps = map[string]deploy.App{"loose": strict}
		s.deploy("one")
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Fatal(err)
		}
		s.deploy("loose")
		_, err := s.tryPromote("staging", deploy.Override{})
		refused(t, "the rule gone", err, deploy.ErrRefused, "needs 1 approval of staging", "lotse approve")
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.tryPromote("staging", deploy.Override{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestClosed(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		// The bubble begins on Saturday, 1 January 2000, at midnight in UTC.
		s.rule("dev", func(st *deploy.Stage) {
			st.Closed = []string{"Sat 00:00 - Mon 07:00 Europe/Berlin", "Mon 05:00 - Mon 08:00"}
		})
		_, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		refused(t, "a closed stage", err, deploy.ErrRefused, "shop/dev is closed until Mon 2000-01-03 08:00 UTC (Sat 00:00 - Mon 07:00 Europe/Berlin)", "`lotse deploy --now --reason WHY`")
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Override: deploy.Override{Now: true}})
		refused(t, "no reason", err, deploy.ErrBadInput, "--now needs a reason", "--reason")
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Override: deploy.Override{Reason: "why"}})
		refused(t, "a reason for nothing", err, deploy.ErrBadInput, "nothing is to be passed", "--now")
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Override: deploy.Override{Now: true, Reason: "the shop is down"}})
		if err != nil {
			t.Fatal(err)
		}
		one := s.ended(id)
		if one.Override != "the shop is down" || !strings.HasSuffix(ruling(one, "windows"), "passed by --now: the shop is down") {
			t.Errorf("the record says %q, %+v", one.Override, one.Rules)
		}
		// What a stage serves may be started anew, and it may go back, at every moment.
		again, err := s.Redeploy(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatalf("a redeploy: %v", err)
		}
		s.ended(again)
		s.jump.Store(int64(56 * time.Hour)) // Monday 08:00
		if two := s.deploy("two"); two.Outcome != deploy.Settled || ruling(two, "windows") != "open" {
			t.Errorf("when it is open: %+v", two)
		}
		s.jump.Store(int64(0))
		if back := s.rollback("dev", ""); back.Outcome != deploy.Settled {
			t.Errorf("a rollback is %s", back.Outcome)
		}
		// A window that an hour decides: the clock on the wall counts, also one that jumps.
		s.jump.Store(int64(55 * time.Hour))
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "three"})
		refused(t, "an hour early", err, deploy.ErrRefused, "is closed until Mon", "")
	})
}
