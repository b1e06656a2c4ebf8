package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) logsCommand() *cobra.Command {
	given, since := "", ""
	var q deploy.LogQuery
	c := &cobra.Command{Use: "logs", Short: "Show what the instances of a stage say", Args: cobra.NoArgs,
		Long: "Shows what the instances of a stage have said, in the order of time. With --follow it goes on with what they say from now on, also\nthose of the next release; of one --rollout, until that is gone."}
	c.RunE = s.run(func(ctx context.Context, _ []string) error {
		if q.Lines < 0 {
			return &failure{Code: "bad-input", Message: "--lines is a number from 0 up"}
		}
		var err error
		if q.Since, err = sinceWhen(since, s.now()); err != nil {
			return err
		}
		if since != "" && !c.Flags().Changed("lines") {
			q.Lines = 0 // everything since then
		}
		return s.logs(ctx, given, q)
	})
	c.Flags().StringVar(&given, "stage", "", "of this stage, as STAGE or APP/STAGE; may be left out where there is one")
	c.Flags().StringVar(&q.Service, "service", "", "only of this service")
	c.Flags().StringVar(&q.Rollout, "rollout", "", "only of this rollout")
	c.Flags().StringVar(&since, "since", "", "only what was said since then: 10m, 2h, 3d, or a time such as 2026-11-05T12:00 (of this machine's zone)")
	c.Flags().IntVarP(&q.Lines, "lines", "n", 100, "the last so many of each instance; 0 is all that is kept, as it is with --since")
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what they say from now on, until Ctrl-C")
	return c
}

// sinceWhen reads --since: so long ago, or a time. Nothing is zero.
func sinceWhen(given string, now time.Time) (time.Time, error) {
	if given == "" {
		return time.Time{}, nil
	}
	bad := func(why string) error {
		return &failure{Code: "bad-input", Message: fmt.Sprintf("--since %s: %s", given, why), Hint: "it is so long ago, as in 10m, 2h or 3d, or a time, as in 2026-11-05T12:00"}
	}
	if ago, ok := longAgo(given); ok {
		if ago <= 0 {
			return time.Time{}, bad("that is not in the past")
		}
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		at, err := time.ParseInLocation(layout, given, time.Local)
		switch {
		case err != nil:
		case at.After(now):
			return at, bad("that is not in the past")
		default:
			return at, nil
		}
	}
	return time.Time{}, bad("neither a duration nor a time")
}

// longAgo reads a duration; days are whole.
func longAgo(given string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(given, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(given)
	return d, err == nil
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
	return s.stageHere(ctx, given)
}
