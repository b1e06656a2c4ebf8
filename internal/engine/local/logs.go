package local

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// Logs implements deploy.Logs. With Follow, instances that are started later are not followed, and tasks are not.
func (e *Engine) Logs(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	notes, err := e.notes()
	if err != nil {
		return e.failed("logs", err)
	}
	var sources []instance
	var lines []deploy.LogLine
	for _, n := range notes {
		if q.Rollout != "" && q.Rollout != n.Rollout {
			continue
		}
		for _, i := range e.instances(n) {
			if q.Service == "" || q.Service == i.service.Name {
				sources = append(sources, i)
			}
		}
		printed, err := e.taskLines(n.Rollout, q.Service, q.Lines)
		if err != nil {
			return e.failed("logs", err)
		}
		lines = append(lines, printed...)
	}
	if q.Follow {
		return e.failed("logs", e.follow(ctx, sources, q.Lines, yield))
	}
	for _, i := range sources {
		printed, err := process.Lines(e.dir(i), lastOrAll(q.Lines))
		if err != nil && !errors.Is(err, process.ErrUnknown) {
			return e.failed("logs", err)
		}
		for _, l := range printed {
			lines = append(lines, lineOf(i, l))
		}
	}
	slices.SortStableFunc(lines, func(a, b deploy.LogLine) int { return a.At.Compare(b.At) })
	for _, l := range lines {
		if !yield(l) {
			break
		}
	}
	return nil
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

// follow yields what all instances print, one line at a time, until ctx ends or yield has enough.
func (e *Engine) follow(ctx context.Context, all []instance, last int, yield func(deploy.LogLine) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var enough bool
	var following sync.WaitGroup
	failed := make([]error, len(all))
	for at, i := range all {
		following.Go(func() {
			err := process.Follow(ctx, e.dir(i), lastOrAll(last), func(l process.Line) bool {
				mu.Lock()
				defer mu.Unlock()
				if enough = enough || !yield(lineOf(i, l)); enough {
					cancel()
				}
				return !enough
			})
			if ctx.Err() == nil && !errors.Is(err, process.ErrUnknown) {
				failed[at] = err
			}
		})
	}
	following.Wait()
	return errors.Join(failed...)
}
