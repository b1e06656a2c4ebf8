package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) promoteCommand() *cobra.Command {
	return s.moveCommand(&cobra.Command{Use: "promote STAGE", Short: "Carry what the stage before serves to STAGE",
		Long: "Rolls the release that the stage before STAGE serves out to STAGE: the same bytes, with the variables, secrets and database of\nSTAGE. Nothing is built again."},
		(*api.Client).Promote)
}

func (s *session) rollbackCommand() *cobra.Command {
	return s.moveCommand(&cobra.Command{Use: "rollback STAGE", Short: "Carry STAGE back to the release that it served before",
		Long: "Rolls the release that STAGE served before out to it again. Going back twice goes back further. Its variables and secrets go back to the\nversions that the release ran with, unless one was revoked. Migrations of the database are not undone."},
		(*api.Client).Rollback)
}

func (s *session) redeployCommand() *cobra.Command {
	return s.moveCommand(&cobra.Command{Use: "redeploy STAGE", Short: "Start what STAGE serves anew, with its variables of now",
		Long: "Rolls the release that STAGE serves out to it again: the same bytes, with the variables and secrets that STAGE has now."},
		(*api.Client).Redeploy)
}

func (s *session) moveCommand(c *cobra.Command, ask func(*api.Client, context.Context, deploy.Move) (string, error)) *cobra.Command {
	var q deploy.Move
	detach := false
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = s.completeStages
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		app, stage := stageFlag(args[0])
		q.Stage = stage
		if q.App == "" {
			q.App = s.appHere(app)
		}
		q.By = s.who()
		client := s.client()
		if c.Name() == "rollback" && !s.json {
			s.sayBack(ctx, client, q)
		}
		id, err := ask(client, ctx, q)
		if err != nil {
			return err
		}
		return s.begun(ctx, client, id, detach)
	})
	c.Flags().StringVar(&q.App, "app", "", "the app (lotse.yaml of this folder says which, else there is only one)")
	if c.Name() != "redeploy" {
		c.Flags().BoolVar(&q.Again, "again", false, "also when the stage serves exactly this already, or the release is marked as bad")
	}
	c.Flags().BoolVar(&detach, "detach", false, "begin, print the rollout's id, and return")
	if c.Name() == "promote" {
		overrideFlags(c, &q.Override)
	}
	if c.Name() == "rollback" {
		backFlags(c, &q)
	}
	s.verboseFlag(c)
	return c
}

// backFlags are those of going back.
func backFlags(c *cobra.Command, q *deploy.Move) {
	c.Flags().StringVar(&q.To, "to", "", "the rollout, or the first digits of the release, to go back to")
	c.Flags().BoolVar(&q.CurrentValues, "with-current-values", false, "with the variables and secrets of now, not with those that the release ran with")
}

// sayBack says what going back will do to variables and the database, before it is done. Where that cannot be found out, the request says
// why.
func (s *session) sayBack(ctx context.Context, c *api.Client, q deploy.Move) {
	p, err := c.Plan(ctx, deploy.PlanRequest{Verb: deploy.RolledBack, Move: q})
	if err != nil {
		return
	}
	s.showBack(p.Variables)
	if p.Database.Says == "" {
		return
	}
	s.say("%s", strings.TrimRight("database: "+cleanLine(p.Database.Says)+": "+cleanLine(strings.Join(p.Database.Stay, ", ")), ": "))
}

// begun shows a rollout until it has ended, or only its id.
func (s *session) begun(ctx context.Context, c *api.Client, id string, detach bool) error {
	switch {
	case !detach:
		return s.follow(ctx, c, id)
	case s.json:
		return s.answer(map[string]string{"id": id})
	}
	s.say("%s", id)
	return nil
}

// appHere is the app that is named, or that of lotse.yaml in this folder, or nothing: then the controller may know only one.
func (s *session) appHere(named string) string {
	if named != "" || s.Outline == nil {
		return named
	}
	outline, err := s.Outline(absolute("."))
	if err != nil {
		return ""
	}
	return outline.App
}

func (s *session) who() deploy.Person {
	if s.Who == nil {
		return deploy.Person{}
	}
	return s.Who(absolute("."))
}
