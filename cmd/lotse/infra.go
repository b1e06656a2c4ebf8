package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/infra"
)

// infrastructure is `lotse infra`. The templates are for instances like this machine, which builds what they run.
func infrastructure() *cli.Infra {
	forms := map[string]func(deploy.App, infra.Options) ([]infra.File, error){
		"cloudformation": infra.Cloudformation, "terraform": infra.Terraform, "github-actions": infra.GitHubActions,
		"codepipeline": infra.CodePipeline, "dockerfile": infra.Dockerfile,
	}
	cloud := infra.Cloud{Config: awsConfig, Machine: runtime.GOARCH}
	return &cli.Infra{
		Forms: slices.Sorted(maps.Keys(forms)),
		Render: func(dir, form string) ([]cli.InfraFile, error) {
			app, err := appIn(dir)
			if err != nil {
				return nil, err
			}
			files, err := forms[form](app, infra.Options{Machine: runtime.GOARCH, Version: version()})
			return rendered(files), err
		},
		Plan: func(ctx context.Context, dir string) (cli.InfraPlan, error) {
			app, err := appIn(dir)
			if err != nil {
				return cli.InfraPlan{}, err
			}
			report, err := cloud.Plan(ctx, app)
			return planned(app, report), err
		},
		Apply: func(ctx context.Context, dir string, replace []string, say func(string)) (cli.InfraPlan, error) {
			app, err := appIn(dir)
			if err != nil {
				return cli.InfraPlan{}, err
			}
			report, err := cloud.Apply(ctx, app, replace, say)
			return planned(app, report), err
		},
		Destroy: func(ctx context.Context, dir, name string, say func(string)) error {
			app, err := appIn(dir)
			if err != nil {
				return err
			}
			if app.Name != name {
				return deploy.Hint(fmt.Errorf("%w: the app of lotse.yaml is %s, and not %s", deploy.ErrBadInput, app.Name, name), "go to the folder of the app that you mean")
			}
			return cloud.Destroy(ctx, app, say)
		},
	}
}

// appIn reads lotse.yaml of a folder.
func appIn(dir string) (deploy.App, error) {
	data, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if os.IsNotExist(err) {
		return deploy.App{}, fmt.Errorf("%w: there is no lotse.yaml in this folder", deploy.ErrNotFound)
	}
	if err != nil {
		return deploy.App{}, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	return config.Read("lotse.yaml", data)
}

func rendered(files []infra.File) (all []cli.InfraFile) {
	for _, f := range files {
		all = append(all, cli.InfraFile{Name: f.Name, Content: f.Content})
	}
	return all
}

// planned is a report as the command line shows it, with what is where and what it costs. Lists are never null in its JSON.
func planned(app deploy.App, report infra.Report) cli.InfraPlan {
	plan := cli.InfraPlan{Stacks: []cli.InfraStack{}, Residency: []cli.InfraLine{}, Costs: []cli.InfraLine{}}
	for _, st := range report.Stacks {
		shown := cli.InfraStack{Name: st.Name, Region: st.Region, Account: st.Account, State: st.State, Changes: []cli.InfraChange{}, Drift: []cli.InfraLine{}}
		for _, c := range st.Changes {
			shown.Changes = append(shown.Changes, cli.InfraChange{Action: c.Action, Resource: c.Resource, Kind: c.Kind, Why: c.Why, Loses: c.Loses})
		}
		for _, d := range st.Drift {
			shown.Drift = append(shown.Drift, cli.InfraLine{What: d.Resource, Says: d.Says})
		}
		plan.Stacks = append(plan.Stacks, shown)
	}
	for _, l := range infra.Residency(app) {
		plan.Residency = append(plan.Residency, cli.InfraLine{What: l.What, Says: l.Says})
	}
	costs := infra.Costs(app, infra.Options{Machine: runtime.GOARCH})
	for _, c := range costs {
		what := c.What
		if c.Stage != "" {
			what += " of " + c.Stage
		}
		plan.Costs = append(plan.Costs, cli.InfraLine{What: what, Says: c.Class() + " (" + c.Basis + ")"})
	}
	if low, high, known := infra.Monthly(costs); high > 0 {
		plan.Monthly = fmt.Sprintf("%d to %d USD", low, high)
		if !known {
			plan.Monthly += ", and what has no price here"
		}
	}
	return plan
}
