package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) openCommand() *cobra.Command {
	show := false
	c := &cobra.Command{Use: "open [STAGE]", Short: "Open the address of a stage in the browser", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: s.completeStages,
		Long:              "Opens the address of STAGE (else of the first that serves something) in the browser, and prints it. Over ssh and without a display it is\nonly printed.",
		RunE:              s.run(func(ctx context.Context, args []string) error { return s.open(ctx, append(args, "")[0], show) })}
	c.Flags().BoolVar(&show, "print", false, "print the address, and open nothing")
	return c
}

func (s *session) open(ctx context.Context, given string, show bool) error {
	all, err := s.client().Status(ctx)
	if err != nil {
		return err
	}
	st, err := s.serving(all, given)
	if err != nil {
		return err
	}
	opened := false
	if !show && !s.remote() && s.Browse != nil {
		err = s.Browse(ctx, st.URL)
		if err != nil && !errors.Is(err, deploy.ErrUnsupported) {
			return err
		}
		opened = err == nil
	}
	private := s.private(st.Stage)
	if s.json {
		return s.answer(map[string]any{"app": st.Stage.App, "stage": st.Stage.Stage, "url": st.URL, "private": private, "opened": opened})
	}
	s.say("%s", cleanLine(st.URL))
	if private { // beside the address, which may go into a variable of a script
		fmt.Fprintf(s.Err, "  → `lotse password --stage %s` shows the password that it asks for\n", st.Stage)
	}
	return nil
}

// remote reports whether a browser would open where nobody sits.
func (s *session) remote() bool {
	return s.Env("SSH_CONNECTION") != "" || s.Env("SSH_TTY") != ""
}

// private reports whether the stage asks for a password, as far as lotse.yaml in this folder knows it.
func (s *session) private(ref deploy.StageRef) bool {
	if s.Outline == nil {
		return false
	}
	o, err := s.Outline(absolute("."))
	return err == nil && o.App == ref.App && slices.Contains(o.Private, ref.Stage)
}

// serving finds the stage that is meant: by name, else the first that serves something; where this folder has an app, of that.
func (s *session) serving(all []deploy.StageStatus, given string) (deploy.StageStatus, error) {
	app, stage := stageFlag(given)
	here := s.appHere("")
	var fit []deploy.StageStatus
	var names []string
	for _, st := range all {
		names = append(names, st.Stage.String())
		named := stage != "" && stage == st.Stage.Stage && (app == "" || app == st.Stage.App)
		if named || stage == "" && st.Serves != nil && (here == "" || here == st.Stage.App) {
			fit = append(fit, st)
		}
	}
	slices.SortStableFunc(fit, func(a, b deploy.StageStatus) int { // those of this folder first
		return cmp.Compare(elsewhere(a, here), elsewhere(b, here))
	})
	switch {
	case len(fit) == 0 && stage == "":
		return deploy.StageStatus{}, &failure{Code: "not-found", Message: "no stage serves anything yet", Hint: "`lotse deploy` in a folder with lotse.yaml begins"}
	case len(fit) == 0:
		return deploy.StageStatus{}, &failure{Code: "not-found", Message: fmt.Sprintf("nothing was deployed to a stage %q", given), Hint: hintOfStages(names, given)}
	case stage != "" && len(fit) > 1 && elsewhere(fit[0], here) == elsewhere(fit[1], here):
		return fit[0], &failure{Code: "bad-input", Message: "which stage is meant: " + fit[0].Stage.String() + ", " + fit[1].Stage.String(), Hint: "name it with its app: `lotse open " + fit[0].Stage.String() + "`"}
	case fit[0].Serves == nil:
		return fit[0], &failure{Code: "not-found", Message: fmt.Sprintf("%s serves nothing yet", fit[0].Stage), Hint: "`lotse status` shows what every stage serves"}
	}
	return fit[0], nil
}

func elsewhere(st deploy.StageStatus, here string) int {
	if here != "" && st.Stage.App == here {
		return 0
	}
	return 1
}

// hintOfStages lists stages for somebody who named another.
func hintOfStages(names []string, given string) string {
	if len(names) == 0 {
		return "`lotse deploy` in a folder with lotse.yaml begins"
	}
	hint := "stages are: " + strings.Join(names, ", ")
	short := make([]string, len(names))
	for i, name := range names {
		_, short[i], _ = strings.Cut(name, "/")
	}
	if near := deploy.Nearest(given, slices.Concat(short, names)); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return hint
}
