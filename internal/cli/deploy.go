package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) deployCommand() *cobra.Command {
	var q deploy.Request
	detach := false
	c := &cobra.Command{Use: "deploy [DIR]", Short: "Carry the commit in DIR to its first stage", Args: cobra.MaximumNArgs(1),
		Long: `Runs the pipeline on the commit that DIR (this folder) has checked out, and rolls what it makes out to a stage. Shows how it goes
until it has ended. Ctrl-C detaches: the rollout goes on.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.Dir = absolute(append(args, ".")[0])
			q.By = s.who()
			return s.deployTo(ctx, s.client(), q, detach)
		})}
	c.Flags().StringVar(&q.Rev, "rev", "", "another commit, in git's words")
	c.Flags().StringVar(&q.Stage, "stage", "", "the stage, which is the first of the file")
	c.Flags().BoolVar(&q.Again, "again", false, "also when the stage serves exactly this already, or the release is marked as bad")
	c.Flags().BoolVar(&detach, "detach", false, "begin, print the rollout's id, and return")
	overrideFlags(c, &q.Override)
	s.verboseFlag(c)
	return c
}

func (s *session) verboseFlag(c *cobra.Command) {
	c.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "every line of output of every step, where it is not drawn live")
}

// deployTo begins a deploy and shows it until it has ended, unless detach.
func (s *session) deployTo(ctx context.Context, c *api.Client, q deploy.Request, detach bool) error {
	id, err := c.Deploy(ctx, q)
	if errors.Is(err, context.Canceled) {
		return &failure{Code: codeDetached, Message: "interrupted while the deploy was being asked for", Hint: "`lotse status` shows whether it has begun"}
	}
	if err != nil {
		return err
	}
	return s.begun(ctx, c, id, detach)
}

func (s *session) followCommand() *cobra.Command {
	c := &cobra.Command{Use: "follow ID", Short: "Show how a rollout goes, until it has ended", Args: cobra.ExactArgs(1),
		ValidArgsFunction: s.completeRollouts,
		RunE:              s.run(func(ctx context.Context, args []string) error { return s.follow(ctx, s.client(), args[0]) })}
	s.verboseFlag(c)
	return c
}

func (s *session) abortCommand() *cobra.Command {
	return &cobra.Command{Use: "abort ID", Short: "End a rollout and undo what it did", Args: cobra.ExactArgs(1),
		ValidArgsFunction: s.completeRollouts,
		RunE: s.run(func(ctx context.Context, args []string) error {
			id := args[0]
			if err := s.client().Abort(ctx, id); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"id": id})
			}
			s.say("rollout %s goes back; `lotse follow %s` shows how", id, id)
			return nil
		})}
}

// view shows what goes on. show and close are called by one goroutine; lines for people go to Out.
type view interface {
	show(api.Update) error
	close()
}

// follow shows a rollout until it has ended, and makes of its end what the command returns.
func (s *session) follow(ctx context.Context, c *api.Client, id string) error {
	watching, detach := context.WithCancel(ctx)
	defer detach()
	v := s.view(detach)
	var last deploy.Rollout
	err := c.Follow(watching, id, func(u api.Update) error {
		if u.Rollout != nil {
			last = *u.Rollout
		}
		return v.show(u)
	})
	v.close()
	switch {
	case err == nil:
		return s.conclude(ctx, c, last)
	case watching.Err() != nil:
		return detached(id)
	}
	return err
}

func detached(id string) error {
	return &failure{Code: codeDetached, Rollout: id, Message: fmt.Sprintf("detached; rollout %s goes on", id),
		Hint: fmt.Sprintf("`lotse follow %s` comes back to it, `lotse abort %s` ends it", id, id)}
}

func (s *session) view(detach func()) view {
	switch {
	case s.json:
		return jsonView{s}
	case s.lively():
		return newLiveView(s, detach)
	}
	return newPlainView(s)
}

// jsonView is one line of JSON for each update.
type jsonView struct{ s *session }

func (v jsonView) show(u api.Update) error { return v.s.line(u) }
func (jsonView) close()                    {}
