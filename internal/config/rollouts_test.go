package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// withStage is good with more at its stage.
func withStage(more string) []byte {
	return []byte(strings.Replace(good, `localhost"}`, `localhost", `+more+`}`, 1))
}

// What is said of rollouts is read, and the schema takes it.
func TestReadStrategies(t *testing.T) {
	steps := []deploy.CanaryStep{{Share: 5, Bake: 2 * time.Minute}, {Share: 25, Bake: 2 * time.Minute}}
	schema, _ := compiled(t)
	for more, want := range map[string]deploy.Stage{
		`strategy: recreate`:   {Strategy: deploy.Recreate, Limits: deploy.Limits{Errors: 5, Requests: 50}},
		`strategy: blue-green`: {Strategy: deploy.BlueGreen, Limits: deploy.Limits{Errors: 5, Requests: 50}},
		`strategy: canary`:     {Strategy: deploy.Canary, Canary: steps, Limits: deploy.Limits{Errors: 5, Requests: 50}},
		`strategy: canary, canary: [1% for 90s, 50% for 1h], limits: {errors: 0.5%, p95: 2s, requests: 200}`: {Strategy: deploy.Canary,
			Canary: []deploy.CanaryStep{{Share: 1, Bake: 90 * time.Second}, {Share: 50, Bake: time.Hour}}, Limits: deploy.Limits{Errors: 0.5, P95: 2 * time.Second, Requests: 200}},
		`limits: {p95: 900ms}`: {Strategy: deploy.BlueGreen, Limits: deploy.Limits{Errors: 5, P95: 900 * time.Millisecond, Requests: 50}},
	} {
		app, err := config.Read("lotse.yaml", withStage(more))
		if err != nil {
			t.Errorf("%s: %v", more, err)
			continue
		}
		got := app.Stages[0]
		if diff := cmp.Diff(want, deploy.Stage{Strategy: got.Strategy, Canary: got.Canary, Limits: got.Limits}); diff != "" {
			t.Errorf("%s: %s", more, diff)
		}
		if err := schema.Validate(asEditorsSeeIt(t, withStage(more))); err != nil {
			t.Errorf("%s: the schema: %v", more, err)
		}
	}
}

func TestMistakesInStrategies(t *testing.T) {
	for _, c := range []struct{ more, want, hint string }{
		{`strategy: green`, "9:49: stages.dev.strategy must be blue-green, canary or recreate", "blue-green"},
		{`canary: [5% for 2m]`, "9:39: stages.dev.canary must not stand where the strategy is not canary", "strategy: canary"},
		{`strategy: canary, canary: 5% for 2m`, "9:65: stages.dev.canary must be a list, not text", "[5% for 2m]"},
		{`strategy: canary, canary: [5 for 2m]`, "9:66: stages.dev.canary[0] must be a share and a time", "5% for 2m"},
		{`strategy: canary, canary: [{5%: 2m}]`, "9:66: stages.dev.canary[0] must be a share and a time, not a mapping", ""},
		{`strategy: canary, canary: [5% for 2m, 25% for 2d]`, "9:77: stages.dev.canary[1] must be a share and a time, and 2d is not a duration", "48h"},
		{`strategy: canary, canary: [5% for 2m, 5% for 2m]`, "9:77: stages.dev.canary[1] must have a greater share than the step before, which has 5%", ""},
		{`strategy: canary, canary: [100% for 2m]`, "9:66: stages.dev.canary[0] must have a share from 1% to 99%", "by itself"},
		{`strategy: canary, canary: [0% for 2m]`, "9:66: stages.dev.canary[0] must have a share from 1% to 99%", ""},
		{`strategy: canary, canary: [5% for 0s]`, "9:66: stages.dev.canary[0] must be between 1s and 24h", ""},
		{`limits: {errors: 5}`, "9:56: stages.dev.limits.errors must be a percentage with its sign", "5%"},
		{`limits: {errors: 0%}`, "9:56: stages.dev.limits.errors must be more than 0% and at most 100%", ""},
		{`limits: {errors: 101%}`, "9:56: stages.dev.limits.errors must be more than 0% and at most 100%", ""},
		{`limits: {p95: 2}`, "9:53: stages.dev.limits.p95 must be a duration with its unit", "2s"},
		{`limits: {p95: 1h}`, "9:53: stages.dev.limits.p95 must be between 1ms and 10m", ""},
		{`limits: {requests: 0}`, "9:58: stages.dev.limits.requests must be from 1 to 1000", ""},
		{`limits: {request: 9}`, "9:48: stages.dev.limits.request is not a field that Lotse knows", "requests"},
		{`limits: 5%`, "9:47: stages.dev.limits must be a mapping, not text", ""},
	} {
		_, err := config.Read("lotse.yaml", withStage(c.more))
		var all *config.Errors
		if !errors.As(err, &all) {
			t.Errorf("%s: no mistake was found; %v", c.more, err)
			continue
		}
		var got []string
		for _, m := range all.Mistakes {
			got = append(got, fmt.Sprintf("%d:%d: %s", m.Line, m.Column, m.Message))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s: %s", c.more, diff)
		}
		if !strings.Contains(all.Mistakes[0].Hint, c.hint) {
			t.Errorf("%s: hint %q, want %q in it", c.more, all.Mistakes[0].Hint, c.hint)
		}
	}
}
