package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// Logs implements deploy.Logs. With Follow, what tasks print is left out.
func (e *Engine) Logs(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	if q.Follow {
		return e.failed("logs", e.follow(ctx, q, yield))
	}
	lines, err := e.kept(q)
	if err != nil {
		return e.failed("logs", err)
	}
	for _, l := range lines {
		if !yield(l) {
			break
		}
	}
	return nil
}

// kept is all that was said, in the order of time.
func (e *Engine) kept(q deploy.LogQuery) ([]deploy.LogLine, error) {
	notes, err := e.wanted(q)
	if err != nil {
		return nil, err
	}
	var lines []deploy.LogLine
	if len(notes) == 0 && q.Rollout != "" && filepath.IsLocal(q.Rollout) { // it never started; a task may have run ahead of it
		if lines, err = e.taskLines(filepath.Base(q.Rollout), q.Service, q.Lines); err != nil {
			return nil, err
		}
	}
	for _, n := range notes {
		printed, err := e.taskLines(n.Rollout, q.Service, q.Lines)
		if err != nil {
			return nil, err
		}
		lines = append(lines, printed...)
		for _, i := range e.sources(n, q) {
			printed, err := process.Lines(e.dir(i), lastOrAll(q.Lines))
			if err != nil && !errors.Is(err, process.ErrUnknown) && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, l := range printed {
				lines = append(lines, lineOf(i, l))
			}
		}
	}
	lines = slices.DeleteFunc(lines, func(l deploy.LogLine) bool { return l.At.Before(q.Since) })
	slices.SortStableFunc(lines, func(a, b deploy.LogLine) int { return a.At.Compare(b.At) })
	return lines, nil
}

// wanted are the rollouts that a query is about.
func (e *Engine) wanted(q deploy.LogQuery) ([]*note, error) {
	notes, err := e.notes()
	return slices.DeleteFunc(notes, func(n *note) bool { return q.Rollout != "" && q.Rollout != n.Rollout }), err
}

// sources are the instances of a rollout that a query is about.
func (e *Engine) sources(n *note, q deploy.LogQuery) []instance {
	return slices.DeleteFunc(e.instances(n), func(i instance) bool { return q.Service != "" && q.Service != i.service.Name })
}

// lastOrAll is a LogQuery's number of lines in the words of process.
func lastOrAll(lines int) int {
	if lines == 0 {
		return -1
	}
	return lines
}

func lineOf(i instance, l process.Line) deploy.LogLine {
	return deploy.LogLine{At: l.At, Rollout: i.rollout, Service: i.service.Name, Instance: i.number, Text: l.Text}
}

// tell wakes those who follow: an instance was started, or a rollout is gone.
func (e *Engine) tell() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// change is closed at the next tell.
func (e *Engine) change() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}
