package deploy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/secret"
)

func needy() App {
	return App{Name: "shop", Secrets: []string{"STRIPE_KEY", "GIT_TOKEN"}, Source: Source{Token: "GIT_TOKEN"},
		Pipeline: []StepSpec{{Name: "site", Public: []string{"VITE_MAP", "VITE_TITLE"}}, {Name: "admin", Public: []string{"VITE_MAP"}}},
		Notify:   []Notice{{Name: "team", URL: "SLACK"}, {Name: "duty", URL: "PAGER", Stages: []string{"prod"}}},
		Stages:   []Stage{{Name: "dev"}, {Name: "prod", Database: Database{URL: "DB"}}}}
}

// Each stage needs what lotse.yaml says of it, each name once.
func TestNeeds(t *testing.T) {
	app := needy()
	want := []Need{{"STRIPE_KEY", "secrets names it", true}, {"GIT_TOKEN", "secrets names it; source reads the repository with it", true},
		{"VITE_MAP", "step site bakes it in; step admin bakes it in", false}, {"VITE_TITLE", "step site bakes it in", false},
		{"SLACK", "where notify tells team", true}}
	if diff := cmp.Diff(want, app.Needs(app.Stages[0])); diff != "" {
		t.Error(diff)
	}
	want = []Need{{"STRIPE_KEY", "secrets names it", true}, {"GIT_TOKEN", "secrets names it", true},
		want[2], want[3], {"DB", "the address of the database", true}, want[4], {"PAGER", "where notify tells duty", true}}
	if diff := cmp.Diff(want, app.Needs(app.Stages[1])); diff != "" {
		t.Error(diff)
	}
	if got := (App{Stages: []Stage{{Name: "dev"}}}).Needs(Stage{Name: "dev"}); got != nil {
		t.Errorf("%v", got)
	}
}

func settingsOf(pairs ...string) (s Settings) {
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		s.Values = append(s.Values, Setting{Name: name, Value: secret.New(value)})
	}
	return s
}

// All that is missing is told at once, with why and with what to type; an empty value does for what is public, not for a secret.
func TestMissing(t *testing.T) {
	app := needy()
	err := app.Missing(app.Stages[0], settingsOf("STRIPE_KEY=", "GIT_TOKEN=x", "VITE_TITLE="))
	text := "3 settings are missing: shop/dev lacks\n  STRIPE_KEY (secrets names it)\n  VITE_MAP (step site bakes it in; step admin bakes it in)\n  SLACK (where notify tells team)"
	hint := "`lotse secrets set --stage dev STRIPE_KEY SLACK`\n`lotse env set --stage dev VITE_MAP`"
	if !errors.Is(err, ErrMissing) || err.Error() != text || HintOf(err) != hint || CodeOf(err) != "missing" {
		t.Errorf("%v\n%s", err, HintOf(err))
	}
	err = app.Missing(app.Stages[0], settingsOf("STRIPE_KEY=x", "GIT_TOKEN=x", "VITE_TITLE=", "VITE_MAP="))
	if want := "a setting is missing: shop/dev lacks SLACK (where notify tells team)"; err == nil || err.Error() != want || HintOf(err) != "`lotse secrets set --stage dev SLACK`" {
		t.Errorf("%v\n%s", err, HintOf(err))
	}
	if err := app.Missing(app.Stages[0], settingsOf("STRIPE_KEY=x", "GIT_TOKEN=x", "VITE_TITLE=", "VITE_MAP=", "SLACK=x")); err != nil {
		t.Error(err)
	}
}

// What was set as a secret is not baked into what everybody may download.
func TestSecretsAreNotBakedIn(t *testing.T) {
	app := needy()
	s := settingsOf("STRIPE_KEY=x", "GIT_TOKEN=x", "VITE_TITLE=t", "VITE_MAP=hunter", "SLACK=x")
	s.Secrets = []string{"STRIPE_KEY", "VITE_MAP"}
	err := app.Missing(app.Stages[0], s)
	if !errors.Is(err, ErrBadInput) || !strings.Contains(err.Error(), "VITE_MAP is a secret of dev, and step site would bake it") ||
		!strings.HasSuffix(HintOf(err), "`lotse secrets rm --stage dev VITE_MAP` and `lotse env set --stage dev VITE_MAP`") || strings.Contains(err.Error(), "hunter") {
		t.Errorf("%v\n%s", err, HintOf(err))
	}
}
