package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/leakstest"
	"github.com/lotse-eu/lotse/internal/process"
)

// What is told of a rollout that fails with a secret in every error, line and figure: nothing of it is in an event, in what is followed, or
// in what is answered. Without the hiding, the same search finds it in each.
func TestRolloutsTellNoSecret(t *testing.T) {
	all := leakstest.Make()
	var told bytes.Buffer
	for _, s := range all {
		leakstest.Tell(&told, []string{s.Value})
	}
	for _, hides := range []bool{true, false} {
		t.Run(fmt.Sprintf("hides=%t", hides), func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.secrets = map[string]string{"KEY": "first-value"}
				for _, one := range all {
					s.secrets[one.Name] = one.Value
				}
				if hides {
					s.Controller.Hider = &process.Hider{}
				}
				s.builder.tells = told.String()
				id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
				if err != nil {
					t.Fatal(err)
				}
				live, events, answers := leakstest.NewFinder(all), leakstest.NewFinder(all), leakstest.NewFinder(all)
				_ = s.Follow(t.Context(), id, func(u deploy.Update) error {
					text, _ := json.Marshal(u)
					live.Answer("followed", unquoted(text))
					return nil
				})
				written, err := s.ledger.Events(t.Context(), deploy.EventQuery{})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range written {
					events.Answer("event "+e.Kind, unquoted(e.Data))
				}
				r, err := s.Rollout(t.Context(), id)
				if err != nil || r.Turned == nil {
					t.Fatalf("%+v, %v", r, err)
				}
				answers.Answer("the rollout", r.Turned.Why+r.Turned.Hint)
				for where, f := range map[string]*leakstest.Finder{"followed": live, "events": events, "answers": answers} {
					if hides && len(f.Found) > 0 {
						t.Errorf("%s: %v", where, f.Found)
					}
					if !hides && len(f.Found) == 0 {
						t.Errorf("%s: without hiding, nothing is found: the search would not notice", where)
					}
				}
			})
		})
	}
}

// unquoted is JSON with one level of escapes taken off.
func unquoted(text []byte) string {
	return string(text) + strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(string(text))
}

// What runs for an order may print nothing of the stage: neither what it is given nor what Lotse keeps for itself.
func TestWhatAnOrderHides(t *testing.T) {
	all := leakstest.Values(leakstest.Make())
	o := deploy.Order{Settings: []deploy.Setting{{Name: "A", Value: all[0]}}, Password: all[1], Kept: all[2:4]}
	hidden := o.Hidden()
	for i, want := range all[:4] {
		if hidden[i] != want {
			t.Errorf("value %d is not hidden", i)
		}
	}
}

// A secret is hidden with what it was before, as is what nobody may see; what everybody can read is not.
func TestWhatIsKnownOfAStage(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		known := &process.Hider{}
		s.Controller.Hider = known
		s.secrets = map[string]string{"SECRET_ONE": "value-of-one", "SECRET_ONE_PREVIOUS": "value-before", "MODE": "production"}
		s.deploy("one")
		if got := known.String("value-of-one value-before production"); got != "••• ••• production" {
			t.Errorf("it hides %q", got)
		}
	})
}
