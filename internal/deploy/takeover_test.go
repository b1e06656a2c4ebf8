package deploy_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// started reports whether instances were started under the id of a rollout.
func (s *site) started(r deploy.Rollout) bool {
	_, yes := s.given.Load(r.ID)
	return yes
}

func (s *site) wantShares(want map[string]int) {
	s.t.Helper()
	synctest.Wait() // what is older is retired beside everything else
	if got := s.running(); !maps.Equal(got, want) {
		s.t.Errorf("dev runs %v, want %v", got, want)
	}
}

// Going back while the release before is warm starts nothing: its instances get the traffic, after one answer. There and back again, and
// whatever comes after it, they are what the stage serves or has warm, and what is neither is retired.
func TestWarmRollback(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one, two := s.deploy("one"), s.deploy("two")
		back := s.rollback("dev", "")
		if back.Outcome != deploy.Settled || back.Runs != one.ID || back.Before != two.ID || s.started(back) {
			t.Fatalf("the rollback runs %q, started: %v, %s: %+v", back.Runs, s.started(back), back.Outcome, back.Turned)
		}
		i := slices.IndexFunc(back.Steps, func(of deploy.Step) bool { return of.Name == "shift" })
		if took := back.Steps[i].Began.Sub(back.Began); took != 0 {
			t.Errorf("it waits for %s before the shift", took)
		}
		s.wantShares(map[string]int{one.ID: 100, two.ID: 0})
		status, err := s.Status(t.Context())
		if on := status[0]; err != nil || on.Serves == nil || on.Serves.Rollout != back.ID || on.Serves.Runs != one.ID || len(on.Warm) != 1 || on.Warm[0].Rollout != two.ID {
			t.Errorf("dev is %+v, %v", on, err)
		}
		if again := s.deploy("one"); again.Outcome != deploy.Unchanged {
			t.Errorf("the same again is %s", again.Outcome)
		}

		forth := s.rollback("dev", two.ID)
		if forth.Runs != two.ID || forth.Before != one.ID {
			t.Errorf("there again runs %q, before it %q", forth.Runs, forth.Before)
		}
		third := s.rollback("dev", "")
		if third.Runs != one.ID {
			t.Errorf("the third rollback runs %q", third.Runs)
		}
		s.end()
		s.boot()
		s.wantShares(map[string]int{one.ID: 100, two.ID: 0})

		three := s.deploy("three")
		s.wantShares(map[string]int{one.ID: 0, three.ID: 100})
		if last := s.rollback("dev", ""); last.Runs != one.ID || last.Release != one.Release {
			t.Errorf("it runs %q of %s", last.Runs, last.Release)
		}
		pass(6 * time.Minute)
		s.wantShares(map[string]int{one.ID: 100})
		four := s.deploy("four")
		pass(6 * time.Minute)
		s.wantShares(map[string]int{four.ID: 100})
		cold := s.rollback("dev", "")
		if cold.Runs != "" || !s.started(cold) {
			t.Errorf("what is not warm any more is taken over: %+v", cold)
		}
		s.wantShares(map[string]int{cold.ID: 100, four.ID: 0})
	})
}

// An abort gives the traffic back to what had it, and leaves warm what was warm, for as long as it would have been.
func TestAbortedWarmRollback(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one, two := s.deploy("one"), s.deploy("two")
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		pass(30 * time.Second)
		s.wantShares(map[string]int{one.ID: 100, two.ID: 0})
		if err := s.Abort(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if r := s.ended(id); r.Outcome != deploy.Reverted {
			t.Errorf("it ended %s", r.Outcome)
		}
		s.wantShares(map[string]int{one.ID: 0, two.ID: 100})
		if status, err := s.Status(t.Context()); err != nil || status[0].Serves.Rollout != two.ID || len(status[0].Warm) != 1 || status[0].Warm[0].Rollout != one.ID {
			t.Errorf("dev is %+v, %v", status[0], err)
		}
		if back := s.rollback("dev", ""); back.Runs != one.ID {
			t.Errorf("after it, a rollback runs %q", back.Runs)
		}
		s.leaseIsFree()
	})
}

// Instances that are not what a start would make, or that do not answer, are left alone: the rollback starts its own.
func TestNotTakenOver(t *testing.T) {
	db := func(st *deploy.Stage) { st.Database = deploy.Database{URL: "DB"} }
	for name, c := range map[string]struct {
		stage   func(*deploy.Stage)
		between map[string]string // values from the second release on
		later   map[string]string // values after it
		before  func(s *site, one deploy.Rollout)
		move    deploy.Move
		warm    bool
	}{
		"older values, which it has":     {between: map[string]string{"KEY": "two", "DB": "here"}, later: map[string]string{"KEY": "three", "DB": "here"}, warm: true},
		"a value that never goes back":   {stage: db, later: map[string]string{"KEY": "one", "DB": "there"}},
		"the values of now, and changed": {later: map[string]string{"KEY": "two", "DB": "here"}, move: deploy.Move{CurrentValues: true}},
		"the values of now, and none":    {move: deploy.Move{CurrentValues: true}, warm: true},
		"another password": {before: func(s *site, _ deploy.Rollout) {
			if _, err := s.ledger.Append(context.Background(), deploy.Event{Kind: deploy.KindPasswordNew, App: "shop", Stage: "dev"}); err != nil {
				s.t.Error(err)
			}
		}},
		"one that does not answer": {before: func(s *site, one deploy.Rollout) {
			if err := s.world.Break("shop", "dev", one.ID, "api", 0, "out of memory"); err != nil {
				s.t.Error(err)
			}
		}},
		"one of which nothing may be beside": {before: func(s *site, _ deploy.Rollout) { s.going(deploy.Recreate) }},
		"its warm time is over":              {before: func(*site, deploy.Rollout) { pass(5 * time.Minute) }},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.builder.app.Stages = slices.Clone(s.builder.app.Stages)
				if c.stage != nil {
					c.stage(&s.builder.app.Stages[0])
				}
				s.set(map[string]string{"KEY": "one", "DB": "here"})
				one := s.deploy("one")
				if c.between != nil {
					s.set(c.between)
				}
				two := s.deploy("two")
				if c.later != nil {
					s.set(c.later)
				}
				if c.before != nil {
					c.before(s, one)
				}
				c.move.Stage = "dev"
				id, err := s.Rollback(t.Context(), c.move)
				if err != nil {
					t.Fatal(err)
				}
				back := s.ended(id)
				if back.Outcome != deploy.Settled || c.warm != (back.Runs == one.ID) || c.warm == s.started(back) {
					t.Errorf("it ended %s, runs %q, started: %v", back.Outcome, back.Runs, s.started(back))
				}
				synctest.Wait()
				if got := s.running(); got[instancesOf(back)] != 100 || len(got) > 2 || got[two.ID] != 0 {
					t.Errorf("dev runs %v", got)
				}
			})
		})
	}
}

// Who goes back is in a hurry: a canary's steps are for what is new.
func TestRollbackIsNoCanary(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, deploy.CanaryStep{Share: 5, Bake: 20 * time.Second})
		one := s.deploy("one")
		if two := s.deploy("two"); len(two.Canary) != 1 {
			t.Errorf("the deploy had the shares %v", two.Canary)
		}
		if back := s.rollback("dev", ""); len(back.Canary) != 0 || back.Runs != one.ID || back.Outcome != deploy.Settled {
			t.Errorf("the rollback is %+v", back)
		}
	})
}
