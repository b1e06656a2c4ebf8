package deploy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestTells(t *testing.T) {
	for _, c := range []struct {
		notice  deploy.Notice
		stage   string
		outcome deploy.Outcome
		want    bool
	}{
		{deploy.Notice{}, "dev", deploy.Settled, true},
		{deploy.Notice{}, "dev", deploy.Reverted, true},
		{deploy.Notice{}, "dev", deploy.Unchanged, false},
		{deploy.Notice{}, "dev", deploy.GoingBack, false},
		{deploy.Notice{On: []string{"failure"}}, "dev", deploy.Settled, false},
		{deploy.Notice{On: []string{"failure"}}, "dev", deploy.Reverted, true},
		{deploy.Notice{On: []string{"success"}}, "dev", deploy.Reverted, false},
		{deploy.Notice{Stages: []string{"prod"}}, "dev", deploy.Settled, false},
		{deploy.Notice{Stages: []string{"prod"}}, "prod", deploy.Settled, true},
	} {
		if got := c.notice.Tells(c.stage, c.outcome); got != c.want {
			t.Errorf("%+v tells of %s on %s: %v", c.notice, c.outcome, c.stage, got)
		}
	}
}

// Who is told can be found out of what is known of any rollout, with all that has to be masked; what was told changes nothing of the rollout.
func TestDescribed(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.app.Notify = []deploy.Notice{{Name: "team", Kind: "slack", URL: "KEY"}}
		good, bad := s.deploy("one"), s.deploy("broken")
		for _, r := range []deploy.Rollout{good, bad} {
			app, settings, err := s.Described(t.Context(), r)
			if err != nil || len(app.Notify) != 1 {
				t.Fatalf("%s: %+v, %v", r.Outcome, app.Notify, err)
			}
			for _, name := range []string{"KEY", deploy.DatabaseURL} {
				if !slices.ContainsFunc(settings.Values, func(v deploy.Setting) bool { return v.Name == name }) {
					t.Errorf("%s: %s is not among the settings", r.Outcome, name)
				}
			}
		}
		config := s.Config
		config.Builder = empty{s.builder}
		if app, _, err := deploy.New(config).Described(t.Context(), bad); err != nil || len(app.Notify) != 1 {
			t.Errorf("a rollout whose commit is gone: %+v, %v", app.Notify, err)
		}
		_, err := s.ledger.Append(t.Context(), deploy.Event{Kind: deploy.KindTold, App: "shop", Stage: "dev", Rollout: good.ID, Data: []byte(`{"notice":"team"}`)})
		if err != nil {
			t.Fatal(err)
		}
		after, err := s.Rollout(t.Context(), good.ID)
		if err != nil || after.Outcome != deploy.Settled || !after.Ended.Equal(good.Ended) || len(after.Steps) != len(good.Steps) {
			t.Errorf("after telling, the rollout is %+v, %v", after, err)
		}
	})
}

// empty is a builder whose repository has no commit any more.
type empty struct{ *builder }

func (empty) Resolve(context.Context, string, string) (deploy.Commit, error) {
	return deploy.Commit{}, deploy.ErrNotFound
}

func TestDraft(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		dir := inMemory(t)
		if _, _, err := s.Draft(t.Context(), dir, ""); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("no file: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "lotse.yaml"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		app, settings, err := s.Draft(context.Background(), dir, "prod")
		if err != nil || app.Name != "shop" || settings.Values[0].Value.Reveal() != "prod" {
			t.Errorf("%+v, %v", app, err)
		}
		if _, _, err := s.Draft(t.Context(), dir, "nowhere"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("no stage: %v", err)
		}
		if _, _, err := s.Draft(t.Context(), "app", ""); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("no whole path: %v", err)
		}
	})
}
