package local

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// otherEngines is how often a follower looks for instances that another process has started: of our own it is told.
const otherEngines = time.Second

// follow yields what the instances of the stage print, one line at a time, whichever come and go, until ctx ends, yield has enough,
// or the one rollout that is meant is gone.
func (e *Engine) follow(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{engine: e, query: q, yield: yield, cancel: cancel, heard: map[string]*hearing{}}
	defer f.hearings.Wait()
	defer cancel()
	tick := time.NewTicker(otherEngines)
	defer tick.Stop()
	for last := q.Lines; ; last = 0 { // what is started from now on is given whole
		change := e.change()
		rollouts, err := f.look(ctx, last)
		if err != nil {
			return err
		}
		if q.Rollout != "" && rollouts == 0 {
			f.hearings.Wait() // its folders are gone too: what they said is read to the end
			return f.failure()
		}
		select {
		case <-change:
		case <-tick.C:
		case <-ctx.Done():
			return f.failure()
		}
	}
}

// follower hears all instances of a stage at once.
type follower struct {
	engine   *Engine
	query    deploy.LogQuery
	yield    func(deploy.LogLine) bool // under mu
	cancel   context.CancelFunc
	hearings sync.WaitGroup

	mu     sync.Mutex
	enough bool
	failed error
	heard  map[string]*hearing // by the instance's name
}

// hearing is what a follower knows of one instance.
type hearing struct {
	going bool
	upTo  time.Time // of the last line that was given
	after time.Time // lines up to here were given to an earlier hearing
}

func (f *follower) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// look begins to hear the instances that are not heard yet, and returns how many rollouts there are.
func (f *follower) look(ctx context.Context, last int) (rollouts int, err error) {
	notes, err := f.engine.wanted(f.query)
	if err != nil {
		return 0, err
	}
	for _, n := range notes {
		for _, i := range f.engine.sources(n, f.query) {
			if h := f.begin(i); h != nil {
				f.hearings.Go(func() { f.hear(ctx, i, h, last) })
			}
		}
	}
	return len(notes), nil
}

// begin says whether an instance is to be heard: where it has a folder and nobody hears it. One that had ended is heard again when
// it was started again.
func (f *follower) begin(i instance) *hearing {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.heard[i.name]
	switch {
	case !exists(f.engine.dir(i)) || h != nil && h.going:
		return nil
	case h == nil:
		h = &hearing{}
		f.heard[i.name] = h
	default:
		if s, err := process.Inspect(f.engine.dir(i)); err != nil || s.Ended && !s.Keeper {
			return nil
		}
		h.after = h.upTo
	}
	h.going = true
	return h
}

func (f *follower) hear(ctx context.Context, i instance, h *hearing, last int) {
	err := process.Follow(ctx, f.engine.dir(i), lastOrAll(last), func(l process.Line) bool { return f.give(h, lineOf(i, l)) })
	f.mu.Lock()
	defer f.mu.Unlock()
	h.going = false
	if ctx.Err() == nil && err != nil && !errors.Is(err, process.ErrUnknown) && !errors.Is(err, fs.ErrNotExist) {
		f.failed = errors.Join(f.failed, err)
		f.cancel()
	}
}

// give hands a line on, once, and reports whether there may be more.
func (f *follower) give(h *hearing, l deploy.LogLine) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.enough:
		return false
	case l.At.Before(f.query.Since), !h.after.IsZero() && !l.At.After(h.after):
		return true
	}
	h.upTo = l.At
	if f.enough = !f.yield(l); f.enough {
		f.cancel()
	}
	return !f.enough
}
