package deploy_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *site) promote(stage string) deploy.Rollout {
	s.t.Helper()
	id, err := s.Promote(s.t.Context(), deploy.Move{App: "shop", Stage: stage, By: deploy.Person{Name: "Bo", Mail: "bo@example.org"}})
	if err != nil {
		s.t.Fatalf("promote %s: %v", stage, err)
	}
	return s.ended(id)
}

func (s *site) rollback(stage, to string) deploy.Rollout {
	s.t.Helper()
	id, err := s.Rollback(s.t.Context(), deploy.Move{Stage: stage, To: to})
	if err != nil {
		s.t.Fatalf("rollback %s: %v", stage, err)
	}
	return s.ended(id)
}

// The bytes that reached dev are what staging and prod serve: the pipeline runs once, each stage has its own database.
func TestPromotion(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		staging, prod := s.promote("staging"), s.promote("prod")
		for _, r := range []deploy.Rollout{staging, prod} {
			if r.Outcome != deploy.Settled || r.Release != one.Release || r.Commit != "one" || r.Verb != deploy.Promoted {
				t.Fatalf("the promotion is %+v", r)
			}
			if slices.Contains(steps(r), "build") {
				t.Errorf("a promotion took the steps %v", steps(r))
			}
		}
		if s.builder.builds != 1 {
			t.Errorf("the pipeline ran %d times", s.builder.builds)
		}
		if one.Verb != deploy.Deployed || staging.From != one.ID || prod.From != staging.ID {
			t.Errorf("where they came from is %s, %s, %s", one.From, staging.From, prod.From)
		}
		if staging.Actor == one.Actor || staging.Actor != prod.Actor {
			t.Errorf("who did it is %s, then %s and %s", one.Actor, staging.Actor, prod.Actor)
		}
		if got, want := s.runningOn("prod"), map[string]int{prod.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("prod runs %v, want %v", got, want)
		}
		if got, want := s.data.open, map[string]int{"dev": 1, "staging": 1, "prod": 1}; !maps.Equal(got, want) {
			t.Errorf("databases were opened: %v", got)
		}
		for _, stage := range []string{"dev", "staging", "prod"} {
			if got := s.data.applied["memory://shop/"+stage+"/"]; !slices.Equal(got, []string{"1.sql", "2.sql"}) {
				t.Errorf("%s was migrated by %v", stage, got)
			}
			s.leaseOfIsFree(stage)
		}
	})
}

// A stage gets the release with its own public values, and what goes on from it is the release without any.
func TestEveryStageHasItsOwnPublicValues(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		s.promote("staging")
		s.promote("prod")
		status, err := s.Status(t.Context())
		if err != nil || len(status) != 3 {
			t.Fatalf("status is %+v, %v", status, err)
		}
		want := map[string]deploy.Digest{"dev": one.Release, "staging": fittedTo(one.Release, "staging"), "prod": fittedTo(one.Release, "prod")}
		for _, st := range status {
			if st.Serves.Release != one.Release {
				t.Errorf("%s shows the release %s, want what goes from stage to stage", st.Stage, st.Serves.Release)
			}
			if got := st.Running[0].Release; got != want[st.Stage.Stage] {
				t.Errorf("%s runs %s, want it with its own values", st.Stage, got)
			}
		}
		if again := s.promote("prod"); again.Outcome != deploy.Unchanged {
			t.Errorf("promoting the same again is %s", again.Outcome)
		}
	})
}

func TestRollback(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one, two, three := s.deploy("one"), s.deploy("two"), s.deploy("three")
		back := s.rollback("dev", "")
		if back.Outcome != deploy.Settled || back.Release != two.Release || back.Verb != deploy.RolledBack || back.From != two.ID || s.builder.builds != 3 {
			t.Fatalf("the rollback is %+v after %d builds", back, s.builder.builds)
		}
		if further := s.rollback("dev", ""); further.Release != one.Release {
			t.Errorf("the second rollback went to %s, want further back and never to what was left", further.Release)
		}
		_, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "has served nothing before") {
			t.Errorf("before the first there is %v", err)
		}
		s.deploy("four")
		if got := s.rollback("dev", one.ID); got.Release != one.Release {
			t.Errorf("back to a rollout is %s", got.Release)
		}
		if got := s.rollback("dev", three.ID); got.Release != three.Release {
			t.Errorf("to what a rollback had left is %s", got.Release)
		}
	})
}

// What a stage serves is started anew with what was set meanwhile; a newer release of the stage before does not come along.
func TestRedeploy(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		staging := s.promote("staging")
		s.deploy("two")
		s.secrets["KEY"] = "second-value"
		id, err := s.Redeploy(t.Context(), deploy.Move{Stage: "staging"})
		if err != nil {
			t.Fatal(err)
		}
		r := s.ended(id)
		if r.Outcome != deploy.Settled || r.Release != one.Release || r.From != staging.ID || r.Verb != deploy.Redeployed || r.Version == staging.Version {
			t.Errorf("it is %+v", r)
		}
		if _, err := s.Rollback(t.Context(), deploy.Move{Stage: "staging"}); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("a rollback then is %v: there is no release before", err)
		}
		if _, err := s.Redeploy(t.Context(), deploy.Move{Stage: "prod"}); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("redeploying nothing is %v", err)
		}
	})
}

func TestRollbackByDigest(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		s.deploy("two")
		three := s.deploy("three")
		if got := s.rollback("dev", one.Release.Short()); got.Release != one.Release {
			t.Errorf("back by digits of the release is %s", got.Release)
		}
		_, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev", To: one.Release.Short()})
		if !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("back to what serves is %v", err)
		}
		_, err = s.Rollback(t.Context(), deploy.Move{Stage: "dev", To: "0123456789ab"})
		if !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("back to what never was is %v", err)
		}
		if got := s.rollback("dev", three.Release.Short()); got.Release != three.Release {
			t.Errorf("forward again is %s", got.Release)
		}
	})
}

// What is not on the road is refused before anything starts, with what to type instead.
func TestRefusedMoves(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		refused := func(what string, err, want error, hint string) {
			t.Helper()
			if !errors.Is(err, want) || !strings.Contains(deploy.HintOf(err), hint) {
				t.Errorf("%s is %v, hint %q", what, err, deploy.HintOf(err))
			}
		}
		_, err := s.Promote(t.Context(), deploy.Move{Stage: "staging"})
		refused("promoting nothing", err, deploy.ErrRefused, "lotse deploy")
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Stage: "prod"})
		refused("a commit for prod", err, deploy.ErrRefused, "lotse promote prod")
		s.deploy("one")
		_, err = s.Promote(t.Context(), deploy.Move{Stage: "prod"})
		refused("a stage skipped", err, deploy.ErrRefused, "lotse promote staging")
		_, err = s.Promote(t.Context(), deploy.Move{Stage: "dev"})
		refused("promoting to the first", err, deploy.ErrRefused, "lotse deploy")
		_, err = s.Promote(t.Context(), deploy.Move{Stage: "qa"})
		refused("an unknown stage", err, deploy.ErrNotFound, "dev, staging, prod")
		_, err = s.Promote(t.Context(), deploy.Move{})
		refused("no stage", err, deploy.ErrBadInput, "dev, staging, prod")
		_, err = s.Promote(t.Context(), deploy.Move{App: "other", Stage: "staging"})
		refused("an unknown app", err, deploy.ErrRefused, "lotse deploy")
		_, err = s.Rollback(t.Context(), deploy.Move{Stage: "prod"})
		refused("nothing to go back from", err, deploy.ErrRefused, "lotse status")
		_, err = s.Rollback(t.Context(), deploy.Move{Stage: "qa"})
		refused("an unknown stage to go back on", err, deploy.ErrNotFound, "dev, staging, prod")
		if strings.Count(err.Error(), "no stage") != 1 {
			t.Errorf("it is said twice: %v", err)
		}
		if rollouts, _ := s.History(t.Context(), "", "", 0); len(rollouts) != 1 {
			t.Errorf("what was refused is in the history: %d rollouts", len(rollouts))
		}
	})
}

// Two apps cannot have one address.
func TestTwoAppsWithOneAddress(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		s.builder.app.Name = "copy"
		_, err := s.Deploy(t.Context(), deploy.Request{Dir: "/copy", Rev: "one"})
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "dev.shop.localhost is the address of shop/dev") {
			t.Errorf("the second app is %v", err)
		}
	})
}

// A migration that fails ends the rollout before anything of the release starts; the old one goes on.
func TestFailedMigration(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		s.data.err = deploy.Hint(deploy.ErrMigration, "mend it")
		two := s.deploy("two")
		if two.Outcome != deploy.Reverted || two.Turned.Step != "migrate" || two.Turned.Code != "migration" || slices.Contains(steps(two), "start") {
			t.Errorf("the rollout is %+v", two)
		}
		if got := s.running(); !maps.Equal(got, map[string]int{one.ID: 100}) {
			t.Errorf("dev runs %v", got)
		}
	})
}

// A stage whose data would be stored abroad is refused before anything of it is touched, and the evidence says what was found.
func TestAbroad(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.abroad = deploy.Hint(deploy.ErrRefused, "come home")
		one := s.deploy("one")
		if one.Outcome != deploy.Reverted || one.Turned.Step != "entry" || one.Turned.Code != "refused" || one.Turned.Hint != "come home" || slices.Contains(steps(one), "start") {
			t.Errorf("the rollout is %+v", one)
		}
		s.abroad = nil
		two := s.deploy("one")
		i := slices.IndexFunc(two.Steps, func(of deploy.Step) bool { return of.Name == "entry" })
		if two.Outcome != deploy.Settled || !slices.Contains(two.Steps[i].Evidence, deploy.Evidence{Probe: "region", Figure: "somewhere"}) {
			t.Errorf("the rollout is %+v", two)
		}
	})
}

// Where only instances reach the database, the engine migrates, and the evidence says so.
func TestMigrationsInStart(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.data.inside, s.data.err = true, errors.New("nobody asks the migrator")
		one := s.deploy("one")
		said := slices.ContainsFunc(one.Steps, func(of deploy.Step) bool {
			return of.Name == "start" && slices.ContainsFunc(of.Evidence, func(e deploy.Evidence) bool { return e.Probe == "migrations" })
		})
		if one.Outcome != deploy.Settled || slices.Contains(steps(one), "migrate") || !said {
			t.Errorf("the rollout is %+v", one)
		}
	})
}

// A promotion and a rollback survive the death of the controller at any moment, as a deploy does.
func TestMovesKilledAnywhere(t *testing.T) {
	for verb, ask := range map[deploy.Verb]func(*site) (string, error){
		deploy.Promoted:   func(s *site) (string, error) { return s.Promote(context.Background(), deploy.Move{Stage: "staging"}) },
		deploy.RolledBack: func(s *site) (string, error) { return s.Rollback(context.Background(), deploy.Move{Stage: "staging"}) },
	} {
		whole := move(t, verb, ask, newPoints(0, false))
		for _, at := range everyNthOf(t, whole.passed, 80) {
			for _, after := range []bool{false, true} {
				move(t, verb, ask, newPoints(at, after))
			}
		}
	}
}

// move asks for a move of staging between two releases, dies where p says, and looks at what has become of it.
func move(t *testing.T, verb deploy.Verb, ask func(*site) (string, error), p *points) *points {
	t.Helper()
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		first := s.promote("staging")
		two := s.deploy("two")
		want := two.Release
		if verb == deploy.RolledBack {
			s.promote("staging")
			want = first.Release
		}
		before := s.lastRollout()
		s.end()
		synctest.Wait()
		p.board(s)
		s.boot()
		select {
		case <-s.Ready():
			_, _ = ask(s) // a controller that died over it has no answer
		case <-p.died:
		}
		s.awaitEndOrDeath(p)
		s.end()
		synctest.Wait()
		s.points = nil
		s.boot()
		last := s.lastRollout()
		if last.ID == before.ID {
			return // it died before it had written down what was asked for
		}
		if last = s.ended(last.ID); last.Outcome != deploy.Settled || last.Release != want || last.Verb != verb {
			t.Errorf("%s, dead at %d (%v): it is %+v", verb, p.at, p.after, last)
		}
		if s.builder.builds != 2 {
			t.Errorf("the pipeline ran %d times", s.builder.builds)
		}
		synctest.Wait() // what is older is retired beside everything else
		if shares := s.runningOn("staging"); shares[instancesOf(last)] != 100 || len(shares) > 2 {
			t.Errorf("staging runs %v, want %s", shares, last.ID)
		}
		s.leaseOfIsFree("staging")
	})
	return p
}

// Lanes are in the order of promotion, with the stages that nothing has reached yet.
func TestLanes(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		begun := time.Now()
		s.deploy("one")
		s.promote("staging")
		status, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, st := range status {
			names = append(names, st.Stage.Stage)
		}
		if !slices.Equal(names, []string{"dev", "staging", "prod"}) {
			t.Errorf("the lanes are %v", names)
		}
		if prod := status[2]; prod.Serves != nil || prod.URL != "https://shop.localhost" || prod.Note != "" {
			t.Errorf("prod is %+v", prod)
		}
		if staging := status[1]; staging.Serves.Actor == status[0].Serves.Actor || !staging.Serves.Since.After(begun) {
			t.Errorf("staging is %+v", staging.Serves)
		}
	})
}
