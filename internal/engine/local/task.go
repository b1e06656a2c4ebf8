package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// tailLines is how much of a failed command's output is told.
const tailLines = 20

// Task implements deploy.Tasks. The rollout must have been started or adopted by this Engine, which then has its settings.
func (e *Engine) Task(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount) error {
	return e.failed("task "+name, e.task(ctx, rollout, name, command, mounts))
}

func (e *Engine) task(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount, instead ...deploy.Setting) error {
	n, err := e.known(rollout)
	if err != nil {
		return err
	}
	if name == "" || name != filepath.Base(name) || !filepath.IsLocal(name) {
		return fmt.Errorf("%w: the task's name %q", deploy.ErrBadInput, name)
	}
	order, known := e.remembered()[rollout]
	if !known {
		return fmt.Errorf("%w: the settings of %s are not known yet", deploy.ErrUnavailable, rollout)
	}
	hidden := order.Hidden()
	order.Settings = replaced(order.Settings, instead)
	hidden = append(hidden, deploy.Order{Settings: instead}.Hidden()...)
	if err := e.mount(e.releaseDir(n.Release), mounts); err != nil {
		return err
	}
	home, err := os.MkdirTemp(e.at("homes"), rollout+"."+name+".task-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := e.makeHome(home); err != nil {
		return err
	}
	out, err := e.openTaskLog(rollout, name)
	if err != nil {
		return err
	}
	defer out.Close()
	spec := process.Spec{Name: strings.Join([]string{e.App, e.Stage, rollout, name}, "-"), Command: []string{"/bin/sh", "-c", command},
		Dir: e.releaseDir(n.Release), Env: e.environment(order, name, "0", home, 0), Mask: hidden, User: e.user}
	return e.runTask(ctx, spec, out, command, nil)
}

func (e *Engine) runTask(ctx context.Context, spec process.Spec, out io.Writer, command string, yield func(line string)) error {
	var last []string
	var lost error
	exit, err := process.Run(ctx, spec, func(line string) {
		if last = append(last, line); len(last) > tailLines {
			last = last[1:]
		}
		if yield != nil {
			yield(line)
		}
		if _, err := fmt.Fprintln(out, e.Clock().UTC().Format(time.RFC3339Nano), line); err != nil {
			lost = err
		}
	})
	switch {
	case err != nil:
		return err
	case !exit.OK():
		shown := process.NewMask(spec.Mask).String(command)
		return &deploy.ExitError{Command: shown, Code: exit.Code, Tail: last}
	}
	return lost
}

// A task's log is kept up to this size, and as much again of what was before it.
const taskLogMost = 16 << 20

func (e *Engine) taskLog(rollout, name string) string {
	return e.at("tasks", rollout, name+".log")
}

func (e *Engine) openTaskLog(rollout, name string) (*os.File, error) {
	path := e.taskLog(rollout, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > taskLogMost {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// taskLines reads what the tasks of a rollout have printed; the last so many lines of each, 0 is all.
func (e *Engine) taskLines(rollout, task string, last int) ([]deploy.LogLine, error) {
	files, err := os.ReadDir(e.at("tasks", rollout))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []deploy.LogLine
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".log")
		if !ok || task != "" && task != name {
			continue
		}
		lines, err := readTaskLog(e.taskLog(rollout, name), rollout, name)
		if err != nil {
			return nil, err
		}
		if last > 0 && len(lines) > last {
			lines = lines[len(lines)-last:]
		}
		all = append(all, lines...)
	}
	return all, nil
}

func readTaskLog(path, rollout, name string) ([]deploy.LogLine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []deploy.LogLine
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		at, text, _ := strings.Cut(in.Text(), " ")
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			continue // the rest of a line that a crash has cut
		}
		lines = append(lines, deploy.LogLine{At: when, Rollout: rollout, Service: name, Text: text})
	}
	return lines, in.Err()
}
