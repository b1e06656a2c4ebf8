package memory

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// barrier is what keeps requests from a stage's releases. World.mu guards it.
type barrier struct {
	bounds  deploy.Bounds
	until   time.Time // of a hold; zero: there is none
	page    *deploy.Page
	waiting int
	bytes   int64
	lifted  chan struct{} // closed, and made anew, at every change
}

// Hold implements deploy.Holder.
func (e *Engine) Hold(ctx context.Context, fence deploy.Fence, b deploy.Bounds) error {
	return e.closing(ctx, fence, func(to *barrier) { to.bounds, to.until = b, e.world.now().Add(b.For) })
}

// EndHold implements deploy.Holder.
func (e *Engine) EndHold(ctx context.Context, fence deploy.Fence) error {
	return e.closing(ctx, fence, func(to *barrier) { to.until = time.Time{} })
}

// Maintain implements deploy.Holder.
func (e *Engine) Maintain(ctx context.Context, fence deploy.Fence, page *deploy.Page) error {
	return e.closing(ctx, fence, func(to *barrier) { to.page = page })
}

func (e *Engine) closing(ctx context.Context, fence deploy.Fence, change func(*barrier)) error {
	return e.meet(ctx, Hold, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		s := e.here()
		if err := s.admit(fence); err != nil {
			return err
		}
		if s.host == "" {
			return fmt.Errorf("%w: %s has never served", deploy.ErrUnknown, s.name)
		}
		change(&s.barrier)
		close(s.barrier.lifted)
		s.barrier.lifted = make(chan struct{})
		return nil
	})
}

// Closed implements deploy.Holder.
func (e *Engine) Closed(ctx context.Context) (now deploy.Closed, err error) {
	err = e.meet(ctx, Hold, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		b := &e.here().barrier
		now = deploy.Closed{Waiting: b.waiting, Maintenance: b.page != nil}
		if e.world.now().Before(b.until) {
			now.Until = b.until
		}
		return nil
	})
	return now, err
}

// passes waits out a hold, or answers.
func (w *World) passes(rw http.ResponseWriter, req *http.Request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stageOf(req.Host)
	if s == nil {
		return true
	}
	b := &s.barrier
	for {
		left := b.until.Sub(w.now())
		if b.page != nil {
			rw.Header().Set("Retry-After", "120")
			http.Error(rw, b.page.Message+b.page.HTML, http.StatusServiceUnavailable)
			return false
		}
		if left <= 0 {
			return true
		}
		size := max(req.ContentLength, 0)
		if b.waiting >= b.bounds.Requests || b.bytes+size > b.bounds.Bytes {
			rw.Header().Set("Retry-After", strconv.Itoa(1+int(left.Seconds())))
			http.Error(rw, "too many requests wait", http.StatusServiceUnavailable)
			return false
		}
		b.waiting, b.bytes = b.waiting+1, b.bytes+size
		gone := w.await(req.Context(), b.lifted, left)
		b.waiting, b.bytes = b.waiting-1, b.bytes-size
		if gone {
			return false
		}
	}
}

// await lets go of the World meanwhile.
func (w *World) await(ctx context.Context, lifted <-chan struct{}, left time.Duration) (gone bool) {
	w.mu.Unlock()
	defer w.mu.Lock()
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-lifted:
	case <-timer.C:
	case <-ctx.Done():
		return true
	}
	return false
}
