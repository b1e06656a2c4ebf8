package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// TaskAhead implements deploy.TasksAhead. Without a name nothing is kept of the output.
func (e *Engine) TaskAhead(ctx context.Context, order deploy.Order, name, command string, instead []deploy.Setting, yield func(line string)) error {
	err := order.Validate()
	if err == nil {
		err = e.taskAhead(ctx, order, name, command, instead, yield)
	}
	return e.failed("task "+name, err)
}

func (e *Engine) taskAhead(ctx context.Context, order deploy.Order, name, command string, instead []deploy.Setting, yield func(line string)) (err error) {
	// While the command runs, nobody removes the folder: no note names it yet.
	unlock, err := e.lock(ctx, lockOfRelease(order.Release.ID))
	if err != nil {
		return err
	}
	defer unlock()
	if err := e.fillHeld(ctx, order.Release); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.dropHeld(order.Release.ID)) }()
	hidden := append(order.Hidden(), deploy.Order{Settings: instead}.Hidden()...)
	order.Settings = replaced(order.Settings, instead)
	home, err := os.MkdirTemp(e.at("homes"), order.Rollout+".task-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := e.makeHome(home); err != nil {
		return err
	}
	out := io.Discard
	if name != "" {
		if err := e.dropTaskLogs(); err != nil {
			return err
		}
		log, err := e.openTaskLog(order.Rollout, name)
		if err != nil {
			return err
		}
		defer log.Close()
		out = log
	}
	spec := process.Spec{Name: e.App + "-" + e.Stage + "-" + order.Rollout + "-ahead", Command: []string{"/bin/sh", "-c", command},
		Dir: e.releaseDir(order.Release.ID), Env: e.environment(order, "task", "0", home, 0), Mask: hidden, User: e.user}
	return e.runTask(ctx, spec, out, command, yield)
}

// taskLogsKept is how long the output of a task outlives a rollout that never started, as all logs.
const taskLogsKept = 30 * 24 * time.Hour

// dropTaskLogs removes what tasks of rollouts have said that are not there, when it is old.
func (e *Engine) dropTaskLogs() error {
	entries, err := os.ReadDir(e.at("tasks"))
	if err != nil {
		return err
	}
	for _, d := range entries {
		info, err := d.Info()
		if err != nil || e.Clock().Sub(info.ModTime()) < taskLogsKept {
			continue
		}
		if _, err := os.Lstat(e.notePath(d.Name())); errors.Is(err, fs.ErrNotExist) {
			if err := os.RemoveAll(filepath.Join(e.at("tasks"), d.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
