package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func leak(file, rule string) deploy.Leak {
	return deploy.Leak{File: file, Line: 3, Column: 7, Rule: rule}
}

// A commit that carries a key is refused before anything is built of it; what lotse.yaml allows by rule, file and reason is let in, and
// what it allows for nothing is told.
func TestACommitWithAKeyIsRefused(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.leaks = map[string][]deploy.Leak{
			"one": {leak("src/pay.ts", "stripe-access-token"), leak("docs/maps.md", "gcp-api-key")},
			"two": {leak("docs/maps.md", "gcp-api-key")},
		}
		allowing := app
		allowing.Leaks = []deploy.AllowedLeak{{Rule: "gcp-api-key", File: "docs/**", Reason: "for our host alone"},
			{Rule: "jwt", File: "docs/maps.md", Reason: "an example"}}
		s.builder.apps = map[string]deploy.App{"one": allowing, "two": allowing}
		_, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		var refused *deploy.LeakError
		if !errors.As(err, &refused) || !errors.Is(err, deploy.ErrBadInput) || len(refused.Leaks) != 1 || s.builder.builds != 0 {
			t.Fatalf("%v, after %d builds", err, s.builder.builds)
		}
		if want := "src/pay.ts:3:7: stripe-access-token"; !strings.Contains(err.Error(), want) || !strings.Contains(deploy.HintOf(err), "rule: stripe-access-token, file: src/pay.ts") {
			t.Errorf("it says %v\n%s", err, deploy.HintOf(err))
		}
		if plan, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.Deployed, Deploy: deploy.Request{Dir: "/app", Rev: "one"}}); err != nil || len(plan.Refused) != 1 {
			t.Errorf("the plan says %+v, %v", plan.Refused, err)
		}
		r := s.deploy("two")
		i := slices.IndexFunc(r.Rules, func(e deploy.Evidence) bool { return e.Probe == "keys in the commit" })
		if r.Outcome != deploy.Settled || i < 0 {
			t.Fatalf("what is allowed: %s, %+v", r.Outcome, r.Rules)
		}
		if got, want := r.Rules[i].Figure, "none in 3 files; 1 that lotse.yaml allows; leaks.allow names jwt in docs/maps.md, which is not there: take it out"; got != want {
			t.Errorf("the evidence is %q, want %q", got, want)
		}
		s.deploy("three")
		last := s.builder.asked[len(s.builder.asked)-1]
		if last.before != "two" {
			t.Errorf("what came and went is looked for since %q, want two", last.before)
		}
	})
}

func TestLeaksInTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		allowed deploy.AllowedLeak
		says    string
	}{
		"no rule":          {deploy.AllowedLeak{File: "a", Reason: "r"}, "leaks.allow[0].rule must be there"},
		"no file":          {deploy.AllowedLeak{Rule: "jwt", Reason: "r"}, "leaks.allow[0].file must be there"},
		"no reason":        {deploy.AllowedLeak{Rule: "jwt", File: "a", Reason: " "}, "leaks.allow[0].reason must be there"},
		"no pattern":       {deploy.AllowedLeak{Rule: "jwt", File: "a[", Reason: "r"}, "leaks.allow[0].file must be a pattern"},
		"a value anywhere": {deploy.AllowedLeak{Rule: deploy.KnownValue, File: "**", Reason: "r"}, "leaks.allow[0].file must be one file"},
	} {
		t.Run(name, func(t *testing.T) {
			with := app
			with.Leaks = []deploy.AllowedLeak{c.allowed}
			problems := slices.DeleteFunc(with.Problems(), func(p deploy.Problem) bool { return p.Path[0] != "leaks" })
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Message, c.says) {
				t.Errorf("%+v", problems)
			}
		})
	}
}
