package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (v variables) editCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "edit", Short: "Change the secrets of a stage in an editor, all or none", Args: cobra.NoArgs,
		Long: "Opens $VISUAL, $EDITOR or vi on all secrets of one stage, in the form of .env, in a file that lies in memory alone and is gone\nafterwards. What is changed there is set, and a line that is taken out is taken away: all of it or nothing.",
		RunE: v.run(func(ctx context.Context, _ []string) error { return v.edit(ctx, at) })}
	oneFlags(c, &at)
	return c
}

func (v variables) edit(ctx context.Context, at where) error {
	stage, o, err := v.one(at)
	if err != nil {
		return err
	}
	c, err := v.settled(ctx, o, []deploy.StageRef{stage})
	if err != nil {
		return err
	}
	before, err := c.ReadVariables(ctx, stage, v.kind, nil, v.who())
	if err != nil {
		return err
	}
	text, err := v.asEnv(stage, before)
	if err != nil {
		return err
	}
	after, changed, err := v.edited(ctx, text, func(text []byte) ([]deploy.Setting, error) { return v.wellEdited(text, stage, o) })
	if err != nil {
		return err
	}
	if !changed {
		v.nothingChanged(stage)
		return nil
	}
	var remove []string
	for _, s := range before {
		if !slices.ContainsFunc(after, func(a deploy.Setting) bool { return a.Name == s.Name }) {
			remove = append(remove, s.Name)
		}
	}
	return v.apply(ctx, c, o, []deploy.StageRef{stage}, after, remove)
}

func (v variables) nothingChanged(stage deploy.StageRef) {
	if v.json {
		_ = v.answer(map[string]any{"changes": []any{}})
		return
	}
	v.say("%s: nothing was changed", stage)
}

// wellEdited reads what the editor has left.
func (v variables) wellEdited(text []byte, stage deploy.StageRef, o Outline) ([]deploy.Setting, error) {
	after, err := v.ReadEnv("the file", text)
	if err != nil {
		return nil, err
	}
	if len(after) == 0 {
		return nil, &failure{Code: "bad-input", Message: "no secret is left in the file; nothing was changed", Hint: "`lotse secrets rm` takes secrets away"}
	}
	var names []string
	for _, s := range after {
		names = append(names, s.Name)
		if s.Value.Empty() {
			return nil, &failure{Code: "bad-input", Message: "the value of " + s.Name + " is empty; nothing was changed", Hint: "take the line out where the secret is to go"}
		}
	}
	return after, v.fits(names, []deploy.StageRef{stage}, o)
}

// asEnv writes secrets down as a .env file. What comes back of it must be the same.
func (v variables) asEnv(stage deploy.StageRef, values []deploy.Setting) ([]byte, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "# Secrets of %s, one a line: NAME='value'. A line that is taken out is taken away.\n# Nothing is changed where this stays as it is, or the editor ends with an error.\n", stage)
	for _, s := range values {
		text.WriteString(s.Name + "=" + inQuotes(s.Value.Reveal()) + "\n")
	}
	again, err := v.ReadEnv("the file", []byte(text.String()))
	for i, s := range values {
		if err != nil || len(again) != len(values) || again[i].Value.Reveal() != s.Value.Reveal() {
			one, wrong := v.ReadEnv("the file", []byte(s.Name+"="+inQuotes(s.Value.Reveal())+"\n"))
			if wrong != nil || len(one) != 1 || one[0].Value.Reveal() != s.Value.Reveal() {
				return nil, &failure{Code: "unsupported", Message: "the value of " + s.Name + " cannot be written as a line of .env, so it cannot be edited", Hint: "`lotse secrets set " + s.Name + "` sets it by itself"}
			}
		}
	}
	return []byte(text.String()), err
}

// inQuotes is a value as .env has it: in single quotes as it is, else in double ones.
func inQuotes(value string) string {
	if !strings.Contains(value, "'") {
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`).Replace(value) + `"`
}

// edited gives a text to the editor until read takes what it left, or the person gives up. The text lies in a folder for its owner alone in
// memory, which is gone afterwards, whatever happens but kill -9.
func (v variables) edited(ctx context.Context, text []byte, read func([]byte) ([]deploy.Setting, error)) (after []deploy.Setting, changed bool, err error) {
	dir, err := v.privately()
	if err != nil {
		return nil, false, err
	}
	stop := deaf() // or a second Ctrl-C would leave the folder behind
	defer stop()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "secrets.env")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, false, err
	}
	for {
		if err := v.editor(file); err != nil {
			return nil, false, err
		}
		left, err := os.ReadFile(file)
		if err != nil {
			return nil, false, &failure{Code: "bad-input", Message: "the file is gone; nothing was changed"}
		}
		if bytes.Equal(left, text) {
			return nil, false, nil
		}
		if after, err = read(left); err == nil || ctx.Err() != nil {
			return after, true, errors.Join(err, ctx.Err())
		}
		if !v.asks() {
			return nil, false, err
		}
		report(v.Err, err, false)
		again, _ := v.yes("edit it again?", "", "")
		if !again {
			return nil, false, err
		}
	}
}

// privately makes a folder for this person alone, in a place that no disk keeps.
func (v variables) privately() (string, error) {
	for _, place := range []string{v.Env("XDG_RUNTIME_DIR"), "/dev/shm"} {
		var at unix.Statfs_t
		if place == "" || unix.Statfs(place, &at) != nil || at.Type != unix.TMPFS_MAGIC && at.Type != unix.RAMFS_MAGIC {
			continue
		}
		if dir, err := os.MkdirTemp(place, "lotse-"); err == nil { // mode 0700, by its documentation
			return dir, nil
		}
	}
	return "", &failure{Code: "unsupported", Message: "there is no folder in memory in which secrets could be edited (XDG_RUNTIME_DIR, /dev/shm)",
		Hint: "`lotse secrets set NAME` and `lotse secrets import -` need none"}
}

// deaf keeps signals from ending this process while the editor has the terminal; the editor hears them itself.
func deaf() (stop func()) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return func() { signal.Stop(heard) }
}

// editor runs the person's editor, as git does: what the variable holds is a line of sh.
func (v variables) editor(file string) error {
	line := v.Env("VISUAL")
	if line == "" {
		line = v.Env("EDITOR")
	}
	if line == "" {
		line = "vi"
	}
	cmd := exec.Command("sh", "-c", line+` "$1"`, line, file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = v.In, v.Out, v.Err
	if err := cmd.Run(); err != nil {
		return &failure{Code: "bad-input", Message: "the editor ended with an error; nothing was changed", Hint: "EDITOR names another one: it was " + cleanLine(line)}
	}
	return nil
}
