package deploy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// act is one thing that happens to a site: what, where, and a number for whatever it leaves open.
type act struct {
	what  string
	stage string
	n     int
}

// whats are weighted: a release that nobody approves or carries on shows little.
var whats = []string{"deploy", "deploy", "deploy", "approve", "approve", "approve", "promote", "promote", "promote", "promote",
	"rollback", "freeze", "thaw", "kill", "jump", "wait", "wait"}

func acts(t *rapid.T, most int) []act {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		return act{rapid.SampledFrom(whats).Draw(t, "what"), rapid.SampledFrom([]string{"staging", "prod"}).Draw(t, "stage"), rapid.IntRange(0, 59).Draw(t, "n")}
	}), 6, most).Draw(t, "acts")
}

// model is who may serve what, written down a second time, in the simplest words. staging wants one approval that is not of the author
// and not older than a day; prod is closed from 02:00 to 03:00 UTC.
type model struct {
	serves  map[string][]string // the road of each stage, as commits; what it serves at its end
	frozen  map[string]bool
	given   map[string]time.Time // approvals of commits for staging, by the wall clock
	commits []string             // in the order of the history
	hotfix  map[string]bool
}

func (m *model) on(stage string) string {
	if road := m.serves[stage]; len(road) > 0 {
		return road[len(road)-1]
	}
	return ""
}

// takes reports whether a frozen stage takes a commit: every one since what it serves is a hotfix, and it is on top of that.
func (m *model) takes(stage, commit string) bool {
	now := m.on(stage)
	if !m.frozen[stage] || now == "" {
		return true
	}
	from, to := slices.Index(m.commits, now), slices.Index(m.commits, commit)
	if to < from {
		return false
	}
	return !slices.ContainsFunc(m.commits[from+1:to+1], func(c string) bool { return !m.hotfix[c] })
}

// may reports whether a promotion is let in at a moment.
func (m *model) may(stage string, now time.Time) bool {
	before := map[string]string{"staging": "dev", "prod": "staging"}[stage]
	commit := m.on(before)
	if commit == "" || !m.takes(stage, commit) {
		return false
	}
	if stage == "prod" {
		return now.UTC().Hour() != 2
	}
	at, approved := m.given[commit]
	return approved && now.Sub(at) <= 24*time.Hour
}

// came notes that a commit serves. The same again is no stop on the road.
func (m *model) came(stage, commit string) {
	if m.on(stage) == commit {
		return
	}
	m.serves[stage] = append(m.serves[stage], commit)
}

// Whatever happens in whatever order, every stage serves exactly what the model lets it serve, the ledger verifies, and no lease and no
// second copy is left. LOTSE_PROVE makes longer sequences.
func TestAnySequence(t *testing.T) {
	most, checks := 16, "4"
	if os.Getenv("LOTSE_PROVE") != "" {
		most, checks = 60, "300"
	}
	checksOf(t, checks)
	sequences, moves := 0, 0
	defer func() { t.Logf("%d sequences, %d moves", sequences, moves) }()
	rapid.Check(t, func(r *rapid.T) {
		all := acts(r, most)
		sequences, moves = sequences+1, moves+len(all)
		var wrong error
		inSite(t, func(t *testing.T, s *site) { wrong = s.play(all) })
		if wrong != nil {
			r.Fatalf("%v\nafter %v", wrong, all)
		}
	})
}

// checksOf has rapid make so many checks, unless somebody has said how many.
func checksOf(t *testing.T, checks string) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	if before != f.DefValue {
		return
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
	if err := f.Value.Set(checks); err != nil {
		t.Fatal(err)
	}
}

func (s *site) play(all []act) error {
	s.rule("staging", func(st *deploy.Stage) {
		st.Approvals = deploy.Consent{People: 1, NotAuthor: true, Within: 24 * time.Hour}
	})
	s.rule("prod", func(st *deploy.Stage) { st.Closed = []string{"02:00 - 03:00"} })
	m := &model{serves: map[string][]string{}, frozen: map[string]bool{}, given: map[string]time.Time{}, hotfix: map[string]bool{}}
	all = append([]act{{"deploy", "", 1}, {"approve", "", 1}, {"promote", "staging", 1}, {"promote", "prod", 1}}, all...)
	for i, at := range all {
		if err := s.step(m, i, at); err != nil {
			return fmt.Errorf("move %d, %s %s: %w", i, at.what, at.stage, err)
		}
		if err := s.agrees(m); err != nil {
			return fmt.Errorf("after move %d, %s %s: %w", i, at.what, at.stage, err)
		}
	}
	return s.ledger.Verify(context.Background())
}

func (s *site) step(m *model, i int, at act) error {
	ctx := context.Background()
	switch at.what {
	case "deploy":
		return s.stepDeploy(m, i, at)
	case "promote":
		may := m.may(at.stage, s.wallClock())
		id, err := s.Promote(ctx, deploy.Move{App: "shop", Stage: at.stage, By: bo})
		return s.stepRollout(m, at, id, err, may, m.on(map[string]string{"staging": "dev", "prod": "staging"}[at.stage]))
	case "rollback":
		road := m.serves[at.stage]
		may := len(road) > 1
		id, err := s.Rollback(ctx, deploy.Move{App: "shop", Stage: at.stage, By: bo})
		if err == nil && may {
			m.serves[at.stage] = road[:len(road)-1] // going back takes away what it went back over
		}
		return s.stepRollout(m, at, id, err, may, m.on(at.stage))
	case "freeze":
		err := s.Freeze(ctx, deploy.Frost{App: "shop", Stage: at.stage, Reason: "why", By: cleo})
		m.frozen[at.stage] = m.frozen[at.stage] || err == nil
	case "thaw":
		if err := s.Thaw(ctx, deploy.Frost{App: "shop", Stage: at.stage, By: cleo}); (err == nil) != m.frozen[at.stage] {
			return err
		}
		m.frozen[at.stage] = false
	case "approve":
		by := bo
		if at.n%6 == 5 {
			by = ada // who has written everything
		}
		_, err := s.Approve(ctx, deploy.ApprovalRequest{App: "shop", Stage: "staging", Kind: deploy.Approves, By: by})
		if may := m.on("dev") != "" && by == bo; may != (err == nil) {
			return fmt.Errorf("may is %v: %w", may, err)
		}
		if err == nil {
			m.given[m.on("dev")] = s.wallClock()
		}
	case "kill":
		s.end()
		s.boot()
	case "jump":
		s.jump.Add(int64([]time.Duration{time.Hour, -time.Hour}[at.n%2]))
	case "wait":
		pass(time.Duration(at.n) * time.Hour)
	}
	return nil
}

// stepDeploy brings a new commit to dev; every third is a hotfix, and every ninth breaks.
func (s *site) stepDeploy(m *model, i int, at act) error {
	c := deploy.Commit{ID: fmt.Sprintf("c%d", i), Name: "Ada", Mail: "ada@example.org", Message: "a feature"}
	if at.n%3 == 2 {
		c.Message = "[hotfix] mend"
	}
	m.commits, m.hotfix[c.ID] = append(m.commits, c.ID), at.n%3 == 2
	s.builder.history = append(s.builder.history, c)
	broken := at.n%9 == 7
	if broken { // before it is asked for: it may start at once
		s.world.Behave(digestOf(c.ID), cannotStart)
	}
	id, err := s.Deploy(context.Background(), deploy.Request{Dir: "/app", Rev: c.ID})
	if broken {
		if err == nil {
			s.ended(id)
		}
		return err
	}
	return s.stepRollout(m, act{"deploy", "dev", at.n}, id, err, true, c.ID)
}

// stepRollout sees a rollout to its end that was to be let in, or not; one of five is killed on its way, and taken up.
func (s *site) stepRollout(m *model, at act, id string, err error, may bool, commit string) error {
	switch {
	case err != nil && (may || !errors.Is(err, deploy.ErrRefused)):
		return err
	case err == nil && !may:
		return fmt.Errorf("%s of %s was let in", at.what, commit)
	case err != nil:
		return nil //nolint:nilerr // it was refused, as it was to be
	}
	if at.n%5 == 3 {
		pass(time.Duration(at.n) * time.Second)
		s.end()
		synctest.Wait()
		s.boot()
	}
	if r := s.ended(id); r.Outcome != deploy.Settled && r.Outcome != deploy.Unchanged {
		return fmt.Errorf("it ended as %s: %+v", r.Outcome, r.Turned)
	}
	m.came(at.stage, commit)
	return nil
}

// agrees compares every stage with the model.
func (s *site) agrees(m *model) error {
	synctest.Wait()
	rollouts, err := s.History(context.Background(), "shop", "", 0)
	if err != nil {
		return err
	}
	for _, stage := range []string{"dev", "staging", "prod"} {
		serving := ""
		for id, share := range s.runningOn(stage) {
			i := slices.IndexFunc(rollouts, func(r deploy.Rollout) bool { return r.ID == id })
			switch {
			case i < 0:
				return fmt.Errorf("%s runs %s, which nobody asked for", stage, id)
			case share == 100 && serving != "":
				return fmt.Errorf("%s serves two at once", stage)
			case share == 100:
				serving = rollouts[i].Commit
			}
		}
		if serving != m.on(stage) {
			return fmt.Errorf("%s serves %q, and may serve %q", stage, serving, m.on(stage))
		}
		s.leaseOfIsFree(stage)
	}
	return nil
}
