package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// overrideFlags are the one way past a freeze or a window.
func overrideFlags(c *cobra.Command, to *deploy.Override) {
	c.Flags().BoolVar(&to.Now, "now", false, "also while the stage is frozen or closed; wants --reason")
	c.Flags().BoolVar(&to.WithoutSnapshot, "without-snapshot", false, "migrate without a snapshot before; wants --reason")
	c.Flags().StringArrayVar(&to.AllowMigration, "allow-migration", nil, "let one migration in that would be refused, named as the plan or the refusal does (RULE:KEY); more than once for more; wants --reason")
	c.Flags().StringVar(&to.Reason, "reason", "", "why, in a sentence; it is kept in the history")
}

func (s *session) approveCommand() *cobra.Command {
	return s.consentCommand(deploy.Approves, &cobra.Command{Use: "approve STAGE", Short: "Say yes to a release that is to come to STAGE",
		Long: "Writes down your yes to the release that the stage before STAGE serves, or to the one that --release names. Who you are is what git\nsays here (user.name and user.email). `lotse promote STAGE` begins when there are as many as lotse.yaml wants."})
}

func (s *session) signoffCommand() *cobra.Command {
	return s.consentCommand(deploy.SignsOff, &cobra.Command{Use: "signoff STAGE", Short: "Say that a release was tested on STAGE and may go on",
		Long: "Writes down your yes to what STAGE serves, or to the release that --release names, with how the steps of its pipeline went. What\nSTAGE serves goes on to the next stage when there are as many as lotse.yaml wants."})
}

func (s *session) consentCommand(kind deploy.ApprovalKind, c *cobra.Command) *cobra.Command {
	q := deploy.ApprovalRequest{Kind: kind}
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = s.completeStages
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		q.App, q.Stage = s.stageOfApp(args[0], q.App)
		q.By = s.who()
		given, err := s.client().Approve(ctx, q)
		if err != nil {
			return err
		}
		if s.json {
			return s.answer(given)
		}
		s.say("%s of release %s is written down for %s", kind, release(given.Release), cleanLine(given.Stage.String()))
		return nil
	})
	c.Flags().StringVar(&q.App, "app", "", "the app (lotse.yaml of this folder says which, else there is only one)")
	c.Flags().StringVar(&q.Release, "release", "", "first digits of another release")
	c.Flags().StringVar(&q.Reason, "reason", "", "what was looked at, in a sentence; it is kept in the history")
	return c
}

// stageOfApp is a stage as it was typed, and the app of it: the one that is named, or that of lotse.yaml here.
func (s *session) stageOfApp(typed, flag string) (app, stage string) {
	app, stage = stageFlag(typed)
	if flag != "" {
		app = flag
	}
	return s.appHere(app), stage
}

func (s *session) freezeCommand() *cobra.Command {
	until := ""
	c := s.frostCommand(&cobra.Command{Use: "freeze STAGE", Short: "Have STAGE take nothing but hotfixes",
		Long: "From now on STAGE takes only releases whose commits since what it serves are all marked as hotfixes ([hotfix] in the message, or\nwhat lotse.yaml says). A rollout that is on its way ends as it would; going back is always possible."},
		"%s is frozen", func(c *api.Client, ctx context.Context, q deploy.Frost) (err error) {
			if until != "" {
				if q.Until, err = deploy.ParseMoment(until, time.Local, true); err != nil {
					return err
				}
			}
			return c.Freeze(ctx, q)
		})
	c.Flags().StringVar(&until, "until", "", "last day, or a day and a time: 2027-01-06, \"2027-01-06 12:00\"; without it until `lotse thaw`")
	return c
}

func (s *session) thawCommand() *cobra.Command {
	return s.frostCommand(&cobra.Command{Use: "thaw STAGE", Short: "End the freeze of STAGE",
		Long: "Ends what `lotse freeze STAGE` began. A freeze that stands in lotse.yaml is ended there."}, "%s takes every release again", (*api.Client).Thaw)
}

func (s *session) frostCommand(c *cobra.Command, done string, ask func(*api.Client, context.Context, deploy.Frost) error) *cobra.Command {
	var q deploy.Frost
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = s.completeStages
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		q.App, q.Stage = s.stageOfApp(args[0], q.App)
		q.By = s.who()
		if err := ask(s.client(), ctx, q); err != nil {
			return err
		}
		if s.json {
			return s.answer(map[string]string{"app": q.App, "stage": q.Stage})
		}
		s.say("%s", fmt.Sprintf(done, cleanLine(q.Stage)))
		return nil
	})
	c.Flags().StringVar(&q.App, "app", "", "the app (lotse.yaml of this folder says which, else there is only one)")
	c.Flags().StringVar(&q.Reason, "reason", "", "why, in a sentence; it is kept in the history")
	return c
}
