package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) planCommand() *cobra.Command {
	c := &cobra.Command{Use: "plan", Short: "Show what a deploy, a promotion or a rollback would do, and whether it would be let in",
		Long: "Shows what would happen and changes nothing: the commits between, variables that changed (names, never values), migrations, gates,\nand what the rules of the stage say. Ends with 0 where it would be let in, else with the exit code that the command itself would have.",
		Args: cobra.NoArgs}
	c.AddCommand(s.planDeploy(), s.planMove(deploy.Promoted, "promote STAGE"), s.planMove(deploy.RolledBack, "rollback STAGE"))
	return c
}

func (s *session) planDeploy() *cobra.Command {
	q := deploy.PlanRequest{Verb: deploy.Deployed}
	c := &cobra.Command{Use: "deploy [DIR]", Short: "What `lotse deploy` would do", Args: cobra.MaximumNArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.Deploy.Dir = absolute(append(args, ".")[0])
			return s.plan(ctx, q)
		})}
	c.Flags().StringVar(&q.Deploy.Rev, "rev", "", "another commit, in git's words")
	overrideFlags(c, &q.Deploy.Override)
	return c
}

func (s *session) planMove(verb deploy.Verb, use string) *cobra.Command {
	q := deploy.PlanRequest{Verb: verb}
	c := &cobra.Command{Use: use, Short: "What `lotse " + string(verb) + "` would do", Args: cobra.ExactArgs(1), ValidArgsFunction: s.completeStages,
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.Move.App, q.Move.Stage = s.stageOfApp(args[0], q.Move.App)
			return s.plan(ctx, q)
		})}
	c.Flags().StringVar(&q.Move.App, "app", "", "the app (lotse.yaml of this folder says which, else there is only one)")
	if verb == deploy.RolledBack {
		backFlags(c, &q.Move)
	} else {
		overrideFlags(c, &q.Move.Override)
	}
	return c
}

// plan shows a plan, and is the error that the request would end with.
func (s *session) plan(ctx context.Context, q deploy.PlanRequest) error {
	p, err := s.client().Plan(ctx, q)
	if err != nil {
		return err
	}
	if s.json {
		if err := s.answer(p); err != nil {
			return err
		}
	} else {
		s.showRolloutPlan(p)
	}
	if len(p.Refused) == 0 {
		if !s.json {
			s.say("")
			s.say("it would be let in")
		}
		return nil
	}
	f := &failure{Code: p.Refused[0].Code}
	var said, hints []string
	for _, r := range p.Refused {
		said = append(said, r.Message)
		if r.Hint != "" {
			hints = append(hints, r.Hint)
		}
	}
	f.Message, f.Hint = "it would not be let in: "+strings.Join(said, "\n  and: "), strings.Join(hints, "\n")
	return f
}

// mostShown is how many commits a plan lists; --json has all.
const mostShown = 15

func (s *session) showRolloutPlan(p deploy.Plan) {
	what := "commit " + commit(p.Commit)
	if p.Release != "" {
		what = "release " + release(p.Release) + ", commit " + commit(p.Commit)
	}
	serves := "nothing"
	if p.Serves != nil {
		serves = "release " + release(p.Serves.Release) + ", commit " + commit(p.Serves.Commit)
	}
	s.pairs("stage", p.Stage.String(), "how", string(p.Verb), "brings", what, "serves now", serves, "address", p.URL, "traffic", p.Strategy,
		"gates", strings.Join(p.Gates, ", "), "database", p.Database.Says)
	s.showList("migrations that run", p.Database.Run)
	s.showList("migrations that wait", p.Database.Wait)
	s.showList("migrations that stay", p.Database.Stay)
	if p.Database.Judged != nil {
		s.showJudgement(*p.Database.Judged)
	}
	s.showCommits("new commits", p.New)
	s.showCommits("commits that go", p.Gone)
	if p.CommitsUnknown != "" {
		s.say("commits between: not known: %s", cleanLine(p.CommitsUnknown))
	}
	v := p.Variables
	for _, row := range []struct {
		what  string
		names []string
	}{{"variables added", v.Added}, {"variables changed", v.Changed}, {"variables removed", v.Removed}} {
		if len(row.names) > 0 {
			s.say("%s: %s", row.what, cleanLine(strings.Join(row.names, ", ")))
		}
	}
	s.showBack(v)
	if v.Unknown != "" {
		s.say("variables: not known: %s", cleanLine(v.Unknown))
	}
	for _, r := range p.Rules {
		state := "lets it in"
		if r.Refused {
			state = "refuses it"
		}
		s.say("rule %s %s: %s", r.Rule, state, cleanLine(r.Says))
	}
}

// showBack says what a rollback does with the variables.
func (s *session) showBack(v deploy.VariableChanges) {
	s.showList("variables that go back to older values", v.Back)
	s.showList("variables that were set since and are left out", v.Without)
	if v.Now != "" {
		s.say("variables stay as they are now: %s", cleanLine(v.Now))
	}
}

func (s *session) showList(what string, names []string) {
	if len(names) > 0 {
		s.say("%s: %s", what, cleanLine(strings.Join(names, ", ")))
	}
}

func (s *session) showCommits(what string, all []deploy.PlannedCommit) {
	if len(all) == 0 {
		return
	}
	s.say("%s: %d", what, len(all))
	for _, c := range all[:min(len(all), mostShown)] {
		s.say("  %s %s", commit(c.ID), cleanLine(c.Subject))
	}
	if more := len(all) - mostShown; more > 0 {
		s.say("  and %d more", more)
	}
}
