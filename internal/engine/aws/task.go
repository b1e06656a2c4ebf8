package aws

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// taskMost is the longest that a command may run on an instance (Systems Manager, AWS-RunShellScript: executionTimeout).
const taskMost = 48 * time.Hour

// Task implements deploy.Tasks. It runs on the first instance of the rollout that is there for commands, in the release's folder. The
// volumes of all jobs are mounted there already.
func (e *Engine) Task(ctx context.Context, rollout, name, command string, _ []deploy.VolumeMount) error {
	return e.failed(ctx, "task "+name, e.task(ctx, rollout, name, command))
}

var _ deploy.Instead = (*Engine)(nil)

// TaskInstead implements deploy.Instead for the one thing that is asked of it: that the stage's database is another instance with the same
// roles. Its password stays on the machine, which has it already, and goes into no command that AWS keeps.
func (e *Engine) TaskInstead(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount, settings []deploy.Setting) error {
	command, err := e.instead(ctx, command, settings)
	if err != nil {
		return e.failed(ctx, "task "+name, err)
	}
	return e.Task(ctx, rollout, name, command, mounts)
}

func (e *Engine) instead(ctx context.Context, command string, settings []deploy.Setting) (string, error) {
	for _, s := range settings {
		own, err := e.databaseURL(ctx, e.Stage.Database)
		if err != nil {
			return "", err
		}
		address, err := parsedAddress(s.Value)
		if err != nil {
			return "", err
		}
		if at, err := elsewhere(own.Value, address.Host); err != nil || s.Name != deploy.DatabaseURL || at.Reveal() != s.Value.Reveal() {
			return "", fmt.Errorf("%w: a command on the machines of %s gets the values of its release, and at most another host of the database", deploy.ErrUnsupported, e.key())
		}
		command = ".lotse/bin/lotse front at --at " + quoted(address.Host) + " -- " + quoted(command)
	}
	return command, nil
}

func (e *Engine) task(ctx context.Context, rollout, name, command string) error {
	if name == "" || strings.ContainsAny(name, "/'\n") {
		return fmt.Errorf("%w: the task's name %q", deploy.ErrBadInput, name)
	}
	v, err := e.must(ctx, rollout)
	if err != nil {
		return err
	}
	ids, err := e.machinesOf(ctx, v)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("%w: %s has no machine at the moment", deploy.ErrUnavailable, rollout)
	}
	limit := taskMost
	if until, ok := ctx.Deadline(); ok {
		limit = time.Until(until)
	}
	script := lotseThere + " front task --name " + quoted(name) + " -- " + quoted(command)
	heard, err := e.order(ctx, ids[:1], script, limit)
	if err != nil {
		return err
	}
	said := heard[ids[0]]
	if said.err != nil {
		return said.err
	}
	if said.code == 0 {
		return nil
	}
	return &deploy.ExitError{Command: command, Code: said.code, Tail: lastLines(said.out+said.errs, 20)}
}

// quoted is a word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func lastLines(text string, most int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines[max(len(lines)-most, 0):]
}
