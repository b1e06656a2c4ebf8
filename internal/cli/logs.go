package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) logsCommand() *cobra.Command {
	given := ""
	var q deploy.LogQuery
	c := &cobra.Command{Use: "logs", Short: "Show what the instances of a stage say", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if q.Lines < 0 {
				return &failure{Code: "bad-input", Message: "--lines is a number from 0 up"}
			}
			return s.logs(ctx, given, q)
		})}
	c.Flags().StringVar(&given, "stage", "", "of this stage, as STAGE or APP/STAGE; may be left out where there is one")
	c.Flags().StringVar(&q.Service, "service", "", "only of this service")
	c.Flags().StringVar(&q.Rollout, "rollout", "", "only of this rollout")
	c.Flags().IntVarP(&q.Lines, "lines", "n", 100, "the last so many of each instance; 0 is all that is kept")
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what they say from now on, until Ctrl-C")
	return c
}

func (s *session) logs(ctx context.Context, given string, q deploy.LogQuery) error {
	c := s.client()
	stage, err := s.stageOfLogs(ctx, given, q.Rollout)
	if err != nil {
		return err
	}
	var broken error
	err = c.Logs(ctx, stage, q, func(l deploy.LogLine) bool {
		if s.json {
			broken = s.line(l)
		} else {
			_, broken = fmt.Fprintf(s.Out, "%s %s[%d] %s\n", l.At.Local().Format("15:04:05"), cleanLine(l.Service), l.Instance, strings.TrimRight(clean(l.Text), "\n "))
		}
		return broken == nil
	})
	if q.Follow && ctx.Err() != nil {
		return nil //nolint:nilerr // Ctrl-C is how one ends it
	}
	return errors.Join(err, broken)
}

// stageOfLogs knows the stage of a rollout that is named.
func (s *session) stageOfLogs(ctx context.Context, given, rollout string) (deploy.StageRef, error) {
	if rollout != "" && given == "" {
		r, err := s.client().Rollout(ctx, rollout)
		return r.Stage, err
	}
	return oneStage(ctx, s.client(), given)
}
