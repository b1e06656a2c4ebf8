package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
)

// runsWith is what the release that serves dev was started with.
func (s *site) runsWith() map[string]string {
	s.t.Helper()
	values := map[string]string{}
	for id, share := range s.running() {
		given, _ := s.given.Load(id)
		settings, _ := given.([]deploy.Setting)
		for _, v := range settings {
			if share == 100 {
				values[v.Name] = v.Value.Reveal()
			}
		}
	}
	delete(values, "TOKEN")
	delete(values, deploy.DatabaseURL)
	return values
}

func (s *site) wantRunning(want map[string]string) {
	s.t.Helper()
	if got := s.runsWith(); !maps.Equal(got, want) {
		s.t.Errorf("dev runs with %v, want %v", got, want)
	}
}

// set changes the variables of all stages, as somebody does beside the controller.
func (s *site) set(values map[string]string) {
	s.keys.Lock()
	defer s.keys.Unlock()
	s.secrets = values
	s.versions()
}

// A rollback takes the variables of the release along: older values, names that were taken away since, and none that were set since. The
// plan names them. A redeploy takes those of now, and so does whoever asks for that.
func TestRollbackTakesVariablesAlong(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.set(map[string]string{"KEY": "one", "OLD": "goes"})
		first := s.deploy("one")
		s.set(map[string]string{"KEY": "two", "NEW": "comes"})
		s.deploy("two")
		s.wantRunning(map[string]string{"KEY": "two", "NEW": "comes"})

		p, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.RolledBack, Move: deploy.Move{Stage: "dev"}})
		if err != nil || !slices.Equal(p.Variables.Back, []string{"KEY", "OLD"}) || !slices.Equal(p.Variables.Without, []string{"NEW"}) || p.Variables.Now != "" || len(p.Refused) > 0 {
			t.Errorf("the plan is %+v, refused %v, %v", p.Variables, p.Refused, err)
		}
		back := s.rollback("dev", "")
		s.wantRunning(map[string]string{"KEY": "one", "OLD": "goes"})
		if back.Outcome != deploy.Settled || !maps.Equal(back.Versions, first.Versions) || back.Version != first.Version {
			t.Errorf("it is recorded as %v, want %v", back.Versions, first.Versions)
		}
		id, err := s.Redeploy(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		s.ended(id)
		s.wantRunning(map[string]string{"KEY": "two", "NEW": "comes"})

		s.deploy("three")
		q := deploy.Move{Stage: "dev", CurrentValues: true}
		if p, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.RolledBack, Move: q}); err != nil || p.Variables.Now == "" || p.Variables.Back != nil {
			t.Errorf("the plan is %+v, %v", p.Variables, err)
		}
		if id, err = s.Rollback(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		s.ended(id)
		s.wantRunning(map[string]string{"KEY": "two", "NEW": "comes"})
	})
}

// A version that was revoked stops a rollback before anything begins, with the way past it.
func TestRollbackToARevokedValue(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.set(map[string]string{"KEY": "one"})
		s.deploy("one")
		s.set(map[string]string{"KEY": "two"})
		two := s.deploy("two")
		s.vault.revoked["KEY@1"] = true
		_, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "the version of KEY that it ran with is revoked") || !strings.Contains(deploy.HintOf(err), "--with-current-values") {
			t.Errorf("%v, hint %q", err, deploy.HintOf(err))
		}
		p, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.RolledBack, Move: deploy.Move{Stage: "dev"}})
		if err != nil || len(p.Refused) != 1 || p.Refused[0].Code != "refused" {
			t.Errorf("the plan is refused for %+v, %v", p.Refused, err)
		}
		if got := s.running(); got[two.ID] != 100 {
			t.Errorf("dev runs %v", got)
		}
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev", CurrentValues: true})
		if err != nil || s.ended(id).Outcome != deploy.Settled {
			t.Errorf("the way past it: %v", err)
		}
		s.wantRunning(map[string]string{"KEY": "two"})
	})
}

// Where data is and what Lotse itself uses never goes back.
func TestWhatNeverGoesBack(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.app.Stages = slices.Clone(s.builder.app.Stages)
		s.builder.app.Stages[0].Database = deploy.Database{URL: "DB"}
		s.builder.app.Notify = []deploy.Notice{{Name: "team", Kind: "slack", URL: "HOOK"}}
		s.builder.app.Secrets = []string{"HOOK"} // so that instances get it as well
		s.set(map[string]string{"KEY": "one", "DB": "postgres://old", "HOOK": "https://old.example.org"})
		s.deploy("one")
		s.set(map[string]string{"KEY": "two", "DB": "postgres://new", "HOOK": "https://new.example.org"})
		s.deploy("two")
		s.rollback("dev", "")
		s.wantRunning(map[string]string{"KEY": "one", "DB": "postgres://new", "HOOK": "https://new.example.org"})
	})
}

// What goes back on a secret whose values overlap gets the value of now as the one before.
func TestRollbackWhileValuesOverlap(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.app.Stages = slices.Clone(s.builder.app.Stages)
		s.builder.app.Stages[0].Overlap = map[string]time.Duration{"KEY": time.Hour}
		s.set(map[string]string{"KEY": "one"})
		s.deploy("one")
		s.set(map[string]string{"KEY": "two"})
		s.deploy("two")
		if back := s.rollback("dev", ""); !maps.Equal(back.Versions, deploy.ValueVersions{"KEY": "1", "KEY_PREVIOUS": "2"}) {
			t.Errorf("%v", back.Versions)
		}
		s.wantRunning(map[string]string{"KEY": "one", "KEY_PREVIOUS": "two"})
	})
}

// A rollout that goes on after a crash has the values that it was asked with, though others were set meanwhile; where they were revoked, those
// of now.
func TestValuesAfterACrash(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		inSite(t, func(t *testing.T, s *site) {
			s.set(map[string]string{"KEY": "one"})
			s.deploy("one")
			s.set(map[string]string{"KEY": "two"})
			s.deploy("two")
			s.end()
			synctest.Wait()
			p := newPoints(12, false)
			p.board(s)
			s.boot()
			<-s.Ready()
			_, _ = s.Rollback(context.Background(), deploy.Move{Stage: "dev"})
			s.awaitEndOrDeath(p)
			s.end()
			synctest.Wait()
			s.set(map[string]string{"KEY": "three"})
			s.vault.revoked["KEY@1"] = revoked
			s.points = nil
			s.boot()
			last := s.lastRollout()
			if last = s.ended(last.ID); last.Verb != deploy.RolledBack || last.Outcome != deploy.Settled {
				t.Fatalf("%+v", last)
			}
			s.wantRunning(map[string]string{"KEY": map[bool]string{false: "one", true: "three"}[revoked]})
		})
	}
}

// The same with the vault itself: changed, taken away, set since, rotated while values overlap, revoked.
func TestRollbackWithTheVault(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		dir, dev := t.TempDir(), deploy.StageRef{App: "shop", Stage: "dev"}
		var err error
		if s.real, err = vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "versions"), time.Now); err != nil {
			t.Fatal(err)
		}
		s.real = s.real.Keeping(func(ctx context.Context, stage deploy.StageRef) ([]deploy.ValueVersions, error) {
			return s.VersionsNeeded(ctx, stage)
		})
		s.builder.app.Stages = slices.Clone(s.builder.app.Stages)
		s.builder.app.Stages[0].Overlap = map[string]time.Duration{"KEY": time.Hour}
		set := func(kind deploy.VariableKind, name, value string) {
			t.Helper()
			if err := s.real.Set(t.Context(), dev, kind, []deploy.Setting{{Name: name, Value: secret.New(value)}}, "p", nil); err != nil {
				t.Fatal(err)
			}
		}
		set(deploy.PlainVariable, "TOKEN", "public")
		set(deploy.SecretVariable, "KEY", "one")
		set(deploy.SecretVariable, "OLD", "goes")
		s.deploy("one")
		for n := range 12 { // more than are kept of a name, were the release not to need the first
			set(deploy.SecretVariable, "KEY", fmt.Sprint("between ", n))
		}
		set(deploy.SecretVariable, "KEY", "two")
		set(deploy.PlainVariable, "NEW", "comes")
		if err := s.real.Remove(t.Context(), dev, deploy.SecretVariable, []string{"OLD"}, nil); err != nil {
			t.Fatal(err)
		}
		s.deploy("two")
		s.wantRunning(map[string]string{"KEY": "two", "KEY_PREVIOUS": "between 11", "NEW": "comes"})
		s.rollback("dev", "")
		s.wantRunning(map[string]string{"KEY": "one", "KEY_PREVIOUS": "two", "OLD": "goes"})

		s.deploy("three")
		s.wantRunning(map[string]string{"KEY": "two", "KEY_PREVIOUS": "between 11", "NEW": "comes"})
		if _, err := s.real.Revoke(t.Context(), dev, "KEY", []int{1}, func([]int) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"}); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "KEY that it ran with is revoked") {
			t.Errorf("%v", err)
		}
	})
}

// Releases to which somebody may go back name the versions that they need.
func TestVersionsNeeded(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		for _, value := range []string{"one", "two", "three", "four", "five", "six", "seven"} {
			s.set(map[string]string{"KEY": value})
			s.deploy(value)
		}
		all, err := s.VersionsNeeded(t.Context(), deploy.StageRef{App: "shop", Stage: "dev"})
		if err != nil || len(all) != 5 || all[0]["KEY"] != "7" || all[4]["KEY"] != "3" {
			t.Errorf("%v, %v", all, err)
		}
	})
}
