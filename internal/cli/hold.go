package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) holdCommand() *cobra.Command {
	var app, reason string
	var bounds deploy.Bounds
	var end bool
	c := &cobra.Command{Use: "hold STAGE", Short: "Keep requests waiting for a short time", Args: cobra.ExactArgs(1),
		Long: "Keeps new requests to STAGE waiting while something short is done, and lets them go on when the time is over, or with --end. Requests\n" +
			"that are being answered, websockets and event streams are left alone. Beyond the bounds the answer is 503 with Retry-After.",
		ValidArgsFunction: s.completeStages,
		RunE: s.run(func(ctx context.Context, args []string) error {
			q := s.closingOf(args[0], app, reason)
			if !end {
				q.Bounds = &bounds
			}
			now, err := s.client().Hold(ctx, q)
			return s.sayClosed(q, now, err, end, "its requests go on")
		})}
	c.Flags().StringVar(&app, "app", "", "the app (lotse.yaml of this folder says which)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the history")
	c.Flags().DurationVar(&bounds.For, "for", 0, "how long at most, up to 5m (30s)")
	c.Flags().IntVar(&bounds.Requests, "requests", 0, "how many requests wait at most (1000)")
	c.Flags().Int64Var(&bounds.Bytes, "bytes", 0, "how many bytes of their bodies at most (64 MiB)")
	c.Flags().BoolVar(&end, "end", false, "let the requests go on now")
	for _, flag := range []string{"for", "requests", "bytes"} {
		c.MarkFlagsMutuallyExclusive("end", flag)
	}
	return c
}

func (s *session) maintenanceCommand() *cobra.Command {
	var app, reason, file string
	var page deploy.Page
	var off bool
	c := &cobra.Command{Use: "maintenance STAGE", Short: "Show a page instead of the app", Args: cobra.ExactArgs(1),
		Long: "Answers new requests to STAGE by a page, with 503 and Retry-After, until `lotse maintenance STAGE --off`. Gates and jobs of a rollout\n" +
			"reach the app all the same, so that a release can be deployed meanwhile.",
		ValidArgsFunction: s.completeStages,
		RunE: s.run(func(ctx context.Context, args []string) error {
			q := s.closingOf(args[0], app, reason)
			if file != "" {
				html, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("%w: the page: %w", deploy.ErrBadInput, err)
				}
				if len(html) == 0 {
					return fmt.Errorf("%w: the page %s is empty", deploy.ErrBadInput, clean(file))
				}
				page.HTML = string(html)
			}
			if !off {
				q.Page = &page
			}
			now, err := s.client().Maintain(ctx, q)
			return s.sayClosed(q, now, err, off, "it answers again")
		})}
	c.Flags().StringVar(&app, "app", "", "the app (lotse.yaml of this folder says which)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the history")
	c.Flags().StringVar(&page.Message, "message", "", "what Lotse's own page says")
	c.Flags().StringVar(&file, "page", "", "a file with a whole page instead, HTML of at most 256 KiB that needs no other file and no script")
	c.Flags().BoolVar(&off, "off", false, "end it")
	c.MarkFlagsMutuallyExclusive("off", "message", "page")
	return c
}

func (s *session) closingOf(arg, app, reason string) deploy.Closing {
	named, stage := stageFlag(arg)
	if app == "" {
		app = s.appHere(named)
	}
	return deploy.Closing{App: app, Stage: stage, Reason: reason, By: s.who()}
}

func (s *session) sayClosed(q deploy.Closing, now deploy.Closed, err error, ended bool, open string) error {
	switch stage := clean(q.Stage); {
	case err != nil:
		return err
	case s.json:
		return s.answer(now)
	case ended:
		s.say("%s: %s", stage, open)
	case q.Page != nil:
		s.say("%s shows a page with 503; `lotse maintenance %s --off` ends it", stage, stage)
	default:
		s.say("requests to %s wait until %s; `lotse hold %s --end` ends it before", stage, now.Until.Local().Format(time.TimeOnly), stage)
	}
	return nil
}
