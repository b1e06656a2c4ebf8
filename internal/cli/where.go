package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// where says which stages a command is about.
type where struct {
	app    string
	stages []string
	all    bool
}

func (w *where) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.app, "app", "", "another app than that of lotse.yaml in this folder")
	c.Flags().StringArrayVar(&w.stages, "stage", nil, "the stage; may be there several times (where lotse.yaml has only one: that)")
	c.Flags().BoolVar(&w.all, "all", false, "every stage of lotse.yaml")
}

// stages are those that are meant. every makes no name mean all of them.
func (s *session) stages(at where, every bool) ([]deploy.StageRef, Outline, error) {
	o, err := s.outline(at)
	if err != nil {
		return nil, o, err
	}
	named := at.stages
	switch {
	case at.all && len(named) > 0:
		return nil, o, &failure{Code: "bad-input", Message: "--all is every stage; --stage names some"}
	case at.all && len(o.Stages) == 0:
		return nil, o, &failure{Code: "bad-input", Message: "which stages there are stands in lotse.yaml", Hint: "run it in the folder of the app, or name each with --stage"}
	case at.all, len(named) == 0 && (every || len(o.Stages) == 1):
		named = o.Stages
	}
	if len(named) == 0 {
		return nil, o, whichStage(o)
	}
	var stages []deploy.StageRef
	for _, name := range named {
		stage, err := o.stage(name)
		if err != nil {
			return nil, o, err
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	}
	return stages, o, nil
}

// outline is what lotse.yaml of this folder says, unless another app is named.
func (s *session) outline(at where) (Outline, error) {
	var o Outline
	err := deploy.ErrNotFound
	if s.Outline != nil {
		o, err = s.Outline(absolute("."))
	}
	bare := func(name string) bool { return !strings.Contains(name, "/") }
	unneeded := at.app != "" || len(at.stages) > 0 && !slices.ContainsFunc(at.stages, bare)
	switch {
	case at.app != "" && at.app != o.App:
		return Outline{App: at.app}, nil
	case err != nil && unneeded:
		return Outline{App: at.app}, nil // what is meant is said without the file
	case errors.Is(err, deploy.ErrNotFound):
		return o, &failure{Code: "bad-input", Message: "which app is meant: there is no lotse.yaml in this folder", Hint: "run it in the folder of the app, or name both: --app APP --stage STAGE"}
	}
	return o, err
}

func whichStage(o Outline) error {
	if len(o.Stages) == 0 {
		return &failure{Code: "bad-input", Message: "which stage of " + o.App + " is meant", Hint: "name it with --stage"}
	}
	return &failure{Code: "bad-input", Message: "which stage is meant: " + strings.Join(o.Stages, ", "), Hint: "name it, for example with `--stage " + o.Stages[0] + "`"}
}

// stage finds one that was typed as STAGE or APP/STAGE.
func (o Outline) stage(typed string) (deploy.StageRef, error) {
	app, name := stageFlag(typed)
	if app == "" {
		app = o.App
	}
	if app == o.App && len(o.Stages) > 0 && !slices.Contains(o.Stages, name) {
		hint := "stages are: " + strings.Join(o.Stages, ", ")
		if near := deploy.Nearest(name, o.Stages); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		return deploy.StageRef{}, &failure{Code: "not-found", Message: fmt.Sprintf("%s has no stage %q", o.App, name), Hint: hint}
	}
	ref := deploy.StageRef{App: app, Stage: name}
	return ref, ref.Problem()
}

// settled tells the controller of stages whose secrets rest elsewhere than on its machine, and returns its client.
func (s *session) settled(ctx context.Context, o Outline, stages []deploy.StageRef) (*api.Client, error) {
	c := s.client()
	for _, stage := range stages {
		if home, away := o.Homes[stage.Stage]; away && stage.App == o.App {
			if err := c.Settle(ctx, stage, home); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// asks reports whether somebody can be asked.
func (s *session) asks() bool {
	f, ok := s.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s *session) passwordCommand() *cobra.Command {
	var at where
	anew := false
	c := &cobra.Command{Use: "password", Short: "Show the password of a private stage", Args: cobra.NoArgs,
		Long: "Prints the password that opens a private stage, and nothing else. With --new, makes another one: from the next rollout on, the old one\nopens nothing.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			stages, o, err := s.stages(at, false)
			switch {
			case err != nil:
				return err
			case len(stages) > 1:
				return whichStage(o)
			}
			return s.password(ctx, stages[0], o, anew)
		})}
	c.Flags().StringVar(&at.app, "app", "", "another app than that of lotse.yaml in this folder")
	c.Flags().StringArrayVar(&at.stages, "stage", nil, "the stage (where lotse.yaml has only one: that)")
	c.Flags().BoolVar(&anew, "new", false, "make another one")
	return c
}

func (s *session) password(ctx context.Context, stage deploy.StageRef, o Outline, anew bool) error {
	if stage.App == o.App && len(o.Stages) > 0 && !slices.Contains(o.Private, stage.Stage) {
		return &failure{Code: "bad-input", Message: fmt.Sprintf("%s is open: nobody is asked for a password", stage), Hint: "access: private in lotse.yaml makes it private"}
	}
	var text secret.Text
	c, err := s.settled(ctx, o, []deploy.StageRef{stage})
	if err != nil {
		return err
	}
	if anew {
		text, err = c.NewPassword(ctx, stage, s.who())
	} else {
		text, err = c.Password(ctx, stage)
	}
	if err != nil {
		return err
	}
	if s.json {
		return s.answer(map[string]any{"app": stage.App, "stage": stage.Stage, "password": text.Reveal(), "new": anew})
	}
	s.say("%s", text.Reveal())
	if anew { // beside the password, which may go into a file
		fmt.Fprintf(s.Err, "from the next rollout on it opens %s, and the one before opens nothing%s\n", stage, bringsIn(stage, o))
	}
	return nil
}
