package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// pushedPatience is how long a hook may take for a controller that does not answer.
const pushedPatience = 3 * time.Second

// pushedCommand is what hooks call. Whatever happens, it ends well: a push has come in, and is found without it too.
func (s *session) pushedCommand() *cobra.Command {
	return &cobra.Command{Use: "pushed [DIR]", Short: "Say that something was pushed to the repository in DIR", Args: cobra.MaximumNArgs(1),
		Long: `Has the controller look at the repository that holds DIR (this folder) now, instead of within seconds. Hooks call it: it is quick, and
ends with 0 also when no controller answers.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			ctx, cancel := context.WithTimeout(ctx, pushedPatience)
			defer cancel()
			stages, err := s.client().Pushed(ctx, absolute(append(args, ".")[0]))
			if s.json {
				answer := map[string]any{"stages": append([]deploy.StageRef{}, stages...)}
				if err != nil {
					answer["warning"] = err.Error()
				}
				return s.answer(answer)
			}
			switch {
			case err != nil:
				fmt.Fprintf(s.Err, "lotse: warning: nobody was told of the push: %s\n", cleanLine(err.Error()))
			case len(stages) == 0:
				s.say("no stage watches this repository")
			default:
				s.say("looked at now for %s", cleanLine(joined(stages)))
			}
			return nil
		})}
}

func joined(stages []deploy.StageRef) string {
	names := make([]string, len(stages))
	for i, ref := range stages {
		names[i] = ref.String()
	}
	return strings.Join(names, ", ")
}

func (s *session) hookCommand() *cobra.Command {
	if s.InstallHook == nil || s.RemoveHook == nil {
		return nil
	}
	c := &cobra.Command{Use: "hook", Short: "Have git say at once that something was pushed", Args: cobra.NoArgs}
	c.AddCommand(
		&cobra.Command{Use: "install [DIR]", Short: "Write hooks that run `lotse pushed`", Args: cobra.MaximumNArgs(1),
			Long: `Writes a post-receive hook into the bare repository in DIR (this folder), or a post-commit and a post-merge hook into that of a work
tree. A hook that is there already is not touched.`,
			RunE: s.run(func(ctx context.Context, args []string) error {
				written, err := s.InstallHook(ctx, absolute(append(args, ".")[0]), s.stateFolder())
				return s.hooks("wrote", "written", written, err)
			})},
		&cobra.Command{Use: "remove [DIR]", Short: "Take those hooks away", Args: cobra.MaximumNArgs(1),
			RunE: s.run(func(ctx context.Context, args []string) error {
				removed, err := s.RemoveHook(ctx, absolute(append(args, ".")[0]))
				return s.hooks("removed", "removed", removed, err)
			})})
	return c
}

func (s *session) hooks(did, name string, files []string, err error) error {
	switch {
	case err != nil:
		return err
	case s.json:
		return s.answer(map[string]any{name: append([]string{}, files...)})
	case len(files) == 0:
		s.say("there is no hook of Lotse here")
	}
	for _, file := range files {
		s.say("%s %s", did, cleanLine(file))
	}
	return nil
}

// watchNotes says below the table of stages where pushes are looked for.
func (s *session) watchNotes(st deploy.StageStatus) (notes []string) {
	add := func(format string, args ...any) {
		notes = append(notes, cleanLine(st.Stage.String()+": "+fmt.Sprintf(format, args...)))
	}
	if t := st.Tags; t != nil {
		add("a tag %s in %s starts a rollout; %s", t.Pattern, t.Repository, s.looked(t.Looked))
		for _, tag := range t.Waits {
			add("the tag %s waits until the stage before serves its commit", tag)
		}
		if t.Trouble != "" {
			add("%s", t.Trouble)
		}
		if t.Refused != "" {
			add("%s", t.Refused)
		}
	}
	w := st.Watches
	if w == nil {
		return notes
	}
	add("a push to %s of %s starts a deploy; %s", w.Branch, w.Repository, s.looked(w.Looked))
	if w.Waits != "" {
		add("the push of %s waits until the stage is free", commit(w.Waits))
	}
	if w.Trouble != "" {
		add("%s", w.Trouble)
	}
	if w.Refused != "" {
		add("the last push is not deployed: %s", w.Refused)
	}
	return notes
}

// looked says when something was looked at last.
func (s *session) looked(at time.Time) string {
	if at.IsZero() {
		return "not looked at yet"
	}
	return strings.Replace("looked at "+ago(at, s.now()), "at now", "at just now", 1)
}

// by is who asked for a rollout, and whether a push, a tag or a schedule did.
func by(r deploy.Rollout, name string) string {
	if r.Trigger != "" {
		return name + " (" + cleanLine(strings.TrimSpace(string(r.Trigger)+" "+r.Tag)) + ")"
	}
	return name
}
