package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// infraForTests has a plan that would lose a database.
func infraForTests() *Infra {
	plan := InfraPlan{Stacks: []InfraStack{{Name: "lotse-shop", Region: "eu-central-1", Account: "123456789012", State: "differs",
		Changes: []InfraChange{{Action: "add", Resource: "ProdVolumes", Kind: "AWS::EFS::FileSystem"},
			{Action: "replace", Resource: "ProdDatabase", Kind: "AWS::RDS::DBInstance", Why: "Engine", Loses: true}},
		Drift: []InfraLine{{"Balancer", "idle_timeout is 60, and 120 is written down"}}}},
		Residency: []InfraLine{{"requests and data", "eu-central-1, Frankfurt"}}, Costs: []InfraLine{{"NAT gateway", "about 38"}}, Monthly: "95 to 130 USD"}
	return &Infra{Forms: []string{"cloudformation", "terraform"},
		Render: func(_, form string) ([]InfraFile, error) {
			if form == "terraform" {
				return []InfraFile{{"main.tf", "# main\n"}, {"modules/db.tf", "# db\n"}}, nil
			}
			return []InfraFile{{"lotse-shop.yaml", "Resources: {}\n"}}, nil
		},
		Plan: func(context.Context, string) (InfraPlan, error) { return plan, nil },
		Apply: func(_ context.Context, _ string, replace []string, say func(string)) (InfraPlan, error) {
			if !slices.Contains(replace, "ProdDatabase") {
				return InfraPlan{}, deploy.Hint(fmt.Errorf("%w: ProdDatabase would be replaced", deploy.ErrRefused), "--replace ProdDatabase")
			}
			say("ProdDatabase is made")
			plan.Stacks[0].State = "is as it is written down"
			return plan, os.WriteFile("applied", nil, 0o600)
		},
		Destroy: func(_ context.Context, _, app string, say func(string)) error {
			if app != "shop" {
				return fmt.Errorf("%w: the app of lotse.yaml is shop, and not %s", deploy.ErrBadInput, app)
			}
			say("stack lotse-shop is deleted")
			return os.WriteFile("destroyed", nil, 0o600)
		}}
}

// On a terminal the plan is shown, and only a yes is one.
func TestApplyAsks(t *testing.T) {
	for typed, want := range map[string]struct {
		code int
		says string
	}{
		"yes\r": {0, "ProdDatabase is made"},
		"y\r":   {1, "that was no yes; nothing was changed"},
		"\x03":  {130, "interrupted"},
	} {
		t.Chdir(t.TempDir()) // where it notes what it has done
		_, state, _ := inHarbour(t, `{}`)
		p := inTerminal(t, state, nil, "infra", "apply", "--replace", "ProdDatabase")
		p.until("about 95 to 130 USD a month")
		p.until("Only yes is taken for one:")
		p.types(typed)
		p.exits(want.code)
		p.until(want.says)
		p.leftAsFound()
	}
}
