package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) notifyCommand() *cobra.Command {
	c := &cobra.Command{Use: "notify", Short: "Who is told how rollouts end", Args: cobra.NoArgs}
	c.AddCommand(s.notifyTestCommand())
	return c
}

func (s *session) notifyTestCommand() *cobra.Command {
	var q deploy.NoticeTest
	c := &cobra.Command{Use: "test [NAME]", Short: "Send a test message to everybody that lotse.yaml tells, or to one", Args: cobra.MaximumNArgs(1),
		Long: "Sends a test message for each notice of the lotse.yaml in this folder, committed or not, or for the one that is named, and says what\nbecame of it. The address is that of --stage; without it, of the first stage that the notice is about.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.Dir = absolute(".")
			_, q.Stage = stageFlag(q.Stage)
			if len(args) > 0 {
				q.Notice = args[0]
			}
			return s.notifyTest(ctx, q)
		})}
	c.Flags().StringVar(&q.Stage, "stage", "", "the stage whose secrets hold the address")
	return c
}

func (s *session) notifyTest(ctx context.Context, q deploy.NoticeTest) error {
	results, err := s.client().TestNotices(ctx, q)
	if err != nil {
		return err
	}
	if s.json {
		if err := s.answer(map[string]any{"notices": results}); err != nil {
			return err
		}
	}
	missed := 0
	for _, r := range results {
		if !r.Told {
			missed++
		}
		if !s.json {
			s.showNotice(r)
		}
	}
	if missed > 0 {
		return &failure{Code: codeFindings, Message: fmt.Sprintf("%d of %s not told", missed, count(len(results), "notice was", "notices were"))}
	}
	return nil
}

func (s *session) showNotice(r deploy.NoticeResult) {
	name := fmt.Sprintf("%s (%s, %s)", cleanLine(r.Notice), cleanLine(r.Kind), cleanLine(r.Stage))
	if r.Told {
		s.say("%s: told", name)
		return
	}
	s.say("%s: %s", name, cleanLine(r.Why))
	if r.Hint != "" {
		s.say("%s", indented("  → ", clean(r.Hint)))
	}
}
