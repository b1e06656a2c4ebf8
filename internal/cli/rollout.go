package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// rolloutCommand is what can be done with one rollout. show, follow and abort are also commands of their own, since they are typed often.
func (s *session) rolloutCommand() *cobra.Command {
	c := &cobra.Command{Use: "rollout", Short: "Show, follow, end, resume or export one rollout", Args: cobra.NoArgs}
	c.AddCommand(s.showCommand(), s.followCommand(), s.abortCommand(), s.resumeCommand(), s.exportCommand())
	return c
}

func (s *session) resumeCommand() *cobra.Command {
	c := &cobra.Command{Use: "resume ID", Short: "Take up a rollout that has not ended and that nobody walks", Args: cobra.ExactArgs(1),
		Long:              "A controller takes up by itself what was unfinished when it starts, and tries again what it could not undo. What is left for this command\nis a rollout that lost its stage to somebody, as when the machine slept in the middle of it.",
		ValidArgsFunction: s.completeRollouts,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client := s.client()
			if err := client.Resume(ctx, args[0]); err != nil {
				return err
			}
			return s.follow(ctx, client, args[0])
		})}
	s.verboseFlag(c)
	return c
}

func (s *session) exportCommand() *cobra.Command {
	return &cobra.Command{Use: "export ID", Short: "Print all that is kept of a rollout as JSON", Args: cobra.ExactArgs(1),
		Long:              "Prints the rollout as it was folded, who had approved it, and every event of it with its hash and the hash of the event before, by\nwhich each can be computed again (docs/rules.md says how). People are opaque ids; no name, no address and no value is in it.",
		ValidArgsFunction: s.completeRollouts,
		RunE: s.run(func(ctx context.Context, args []string) error {
			record, err := s.client().Record(ctx, args[0])
			if err != nil {
				return err
			}
			return s.answer(record)
		})}
}

func (s *session) doraCommand() *cobra.Command {
	given, since := "", "30d"
	c := &cobra.Command{Use: "dora", Short: "Show the four DORA figures of every stage", Args: cobra.NoArgs,
		Long: "Deployment frequency, lead time for changes, change failure rate and time to restore, read from the history. docs/rules.md says how each\nis counted.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			from, err := sinceWhen(since, s.now())
			if err != nil {
				return err
			}
			app, stage := stageFlag(given)
			figures, err := s.client().Dora(ctx, deploy.DoraQuery{App: app, Stage: stage, Since: from})
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]any{"figures": figures})
			}
			if len(figures) == 0 {
				s.say("no rollouts")
				return nil
			}
			s.showDora(figures)
			return nil
		})}
	c.Flags().StringVar(&given, "stage", "", "only of this stage, as STAGE or APP/STAGE")
	c.Flags().StringVar(&since, "since", since, "from when on: 30d, 12h, or a time such as 2026-11-05T12:00")
	return c
}

func (s *session) showDora(figures []deploy.Dora) {
	var rows [][]string
	for _, d := range figures {
		rows = append(rows, []string{cleanLine(d.Stage.String()), fmt.Sprintf("%d, %.1f a day", d.Deployments, d.PerDay), orNone(d.Lead, d.Measured),
			rate(d), orNone(d.Restore, d.Restored)})
	}
	s.columns([]string{"STAGE", "DEPLOYMENTS", "LEAD TIME", "CHANGE FAILURES", "TIME TO RESTORE"}, rows)
}

// orNone is a median with how many it is of.
func orNone(d time.Duration, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (of %d)", took(d), of)
}

func rate(d deploy.Dora) string {
	if d.Changes == 0 {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%.0f %% (%d of %d)", 100*d.FailRate, d.Failed, d.Changes))
}
