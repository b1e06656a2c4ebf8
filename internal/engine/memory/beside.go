package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// sets are the data of a stage: what it works with, what stands beside it, and what was kept, each a text.
type sets struct {
	live   string
	beside map[string]string
	kept   map[string]string
	order  []string // of kept
}

// DataOf is the text that a stage works with.
func (w *World) DataOf(app, stage string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stage(app, stage).data.live
}

// Write puts a text where an address of DatabaseURL or Prepare leads to. It reports whether there is something.
func (w *World) Write(url secret.Text, text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	app, stage, id := parts(url)
	s := &w.stage(app, stage).data
	if id == "" {
		s.live = text
		return true
	}
	_, there := s.beside[id]
	if there {
		s.beside[id] = text
	}
	return there
}

// Read is what stands where an address leads to.
func (w *World) Read(url secret.Text) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	app, stage, id := parts(url)
	s := w.stage(app, stage).data
	if id == "" {
		return s.live
	}
	return s.beside[id]
}

func address(app, stage, id string) secret.Text {
	return secret.New("memory://" + app + "/" + stage + "/" + id)
}

func parts(url secret.Text) (app, stage, id string) {
	all := strings.SplitN(strings.TrimPrefix(url.Reveal(), "memory://"), "/", 3)
	all = append(all, "", "")
	return all[0], all[1], all[2]
}

// DataURL is the address of what the stage works with.
func (e *Engine) DataURL() secret.Text { return address(e.app, e.stage, "") }

// Volumes implements deploy.Beside: there are none.
func (e *Engine) Volumes(context.Context, []string) (map[string]string, error) { return nil, nil }

// change does something to the sets of the stage, all of it or nothing.
func (e *Engine) change(ctx context.Context, fence deploy.Fence, do func(*sets) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	if err := e.deadLocked(); err != nil {
		return err
	}
	s := e.here()
	if err := s.admit(fence); err != nil {
		return err
	}
	if s.data.beside == nil {
		s.data.beside, s.data.kept = map[string]string{}, map[string]string{}
	}
	return do(&s.data)
}

// Prepare implements deploy.Beside.
func (e *Engine) Prepare(ctx context.Context, fence deploy.Fence, set deploy.DataSet) (deploy.Data, error) {
	err := e.change(ctx, fence, func(s *sets) error {
		s.beside[set.ID] = ""
		return nil
	})
	return deploy.Data{Database: set.ID, URL: address(e.app, e.stage, set.ID)}, err
}

// Swap implements deploy.Beside.
func (e *Engine) Swap(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.change(ctx, fence, func(s *sets) error {
		next, prepared := s.beside[set.ID]
		_, swapped := s.kept[set.ID]
		switch {
		case swapped:
			return nil
		case !prepared:
			return fmt.Errorf("%w: nothing was prepared under %s", deploy.ErrNotFound, set.ID)
		}
		s.kept[set.ID], s.live = s.live, next
		s.order = append(s.order, set.ID)
		delete(s.beside, set.ID)
		return nil
	})
}

// SwapBack implements deploy.Beside.
func (e *Engine) SwapBack(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.change(ctx, fence, func(s *sets) error {
		if before, swapped := s.kept[set.ID]; swapped {
			s.beside[set.ID], s.live = s.live, before
			s.forget(set.ID)
		}
		return nil
	})
}

func (s *sets) forget(id string) {
	delete(s.kept, id)
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return k == id })
}

// Discard implements deploy.Beside.
func (e *Engine) Discard(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.change(ctx, fence, func(s *sets) error { delete(s.beside, set.ID); return nil })
}

// Forget implements deploy.Beside.
func (e *Engine) Forget(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.change(ctx, fence, func(s *sets) error { s.forget(set.ID); return nil })
}

// Kept implements deploy.Beside.
func (e *Engine) Kept(context.Context, deploy.DataSet) (kept []deploy.KeptData, err error) {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	for _, id := range e.here().data.order {
		kept = append(kept, deploy.KeptData{ID: id, Database: "before_" + id, Bytes: int64(len(e.here().data.kept[id]))})
	}
	return kept, nil
}

// Beside are the ids of what was prepared and is neither swapped nor discarded.
func (w *World) Beside(app, stage string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.stage(app, stage).data.beside {
		ids = append(ids, id)
	}
	return ids
}
