package mask

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	chunkBytes = 128 << 10 // of rows that are masked at once
	maskers    = 2         // goroutines that mask one table
)

// stall is how long nothing may come in or go out before a connection counts as cut.
const stall = 2 * time.Minute

// copyTable reads a table from one connection, masks its rows and writes them to another. At most some chunks are in memory.
func (c *Copier) copyTable(ctx context.Context, from, to *pgx.Conn, t *table, r *rower) (int64, error) {
	var list []string
	for _, col := range t.columns {
		list = append(list, col.quoted())
	}
	columns := strings.Join(list, ", ")
	ctx, alive, end := c.watched(ctx)
	defer end()
	group, ctx := errgroup.WithContext(ctx)
	raw, masked := make(chan []byte, maskers), make(chan []byte, maskers)
	var rows atomic.Int64
	group.Go(func() error {
		defer close(raw)
		w := &chunks{ctx: ctx, to: raw, alive: alive}
		if _, err := from.PgConn().CopyTo(ctx, w, "copy (select "+columns+" from "+t.from()+") to stdout"); err != nil {
			return told(ctx, "read "+t.label(), err)
		}
		return w.flush()
	})
	var working sync.WaitGroup
	for range maskers {
		working.Add(1)
		group.Go(func() error {
			defer working.Done()
			return maskAll(ctx, r, raw, masked, &rows)
		})
	}
	go func() { working.Wait(); close(masked) }()
	var written int64
	group.Go(func() error {
		tag, err := to.PgConn().CopyFrom(ctx, &reader{ctx: ctx, from: masked, alive: alive}, "copy "+t.quoted()+" ("+columns+") from stdin")
		written = tag.RowsAffected()
		return told(ctx, "write "+t.label(), err)
	})
	if err := group.Wait(); err != nil {
		return 0, cause(ctx, err)
	}
	if written != rows.Load() {
		return 0, fmt.Errorf("%w: %s: %d rows read and %d written", deploy.ErrDamaged, t.label(), rows.Load(), written)
	}
	return written, nil
}

func maskAll(ctx context.Context, r *rower, raw <-chan []byte, masked chan<- []byte, rows *atomic.Int64) error {
	for chunk := range raw {
		out, n, err := r.rows(make([]byte, 0, len(chunk)+len(chunk)/4), chunk)
		if err != nil {
			return err
		}
		rows.Add(n)
		select {
		case masked <- out:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// watched ends ctx where alive is not called for too long: a connection that was cut without a word would else wait for ever.
func (c *Copier) watched(ctx context.Context) (watched context.Context, alive func(), end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.stall, func() {
		cancel(fmt.Errorf("%w: a database has not answered for %v", deploy.ErrUnavailable, c.stall))
	})
	return ctx, func() { timer.Reset(c.stall) }, func() { timer.Stop(); cancel(nil) }
}

// cause prefers why all was ended to what ended because of it.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); err != nil && why != nil && deploy.CodeOf(err) == "internal" {
		return why
	}
	return err
}

// chunks takes what COPY says, row by row, and hands it on in chunks of whole rows.
type chunks struct {
	ctx   context.Context //nolint:containedctx // of one COPY, as an io.Writer cannot be given one
	to    chan<- []byte
	alive func()
	rows  []byte
}

func (w *chunks) Write(p []byte) (int, error) {
	if w.rows == nil {
		w.rows = make([]byte, 0, chunkBytes+4096)
	}
	w.rows = append(w.rows, p...)
	if len(w.rows) >= chunkBytes && p[len(p)-1] == '\n' {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *chunks) flush() error {
	w.alive()
	if len(w.rows) == 0 {
		return nil
	}
	select {
	case w.to <- w.rows:
		w.rows = nil
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// reader is the other end.
type reader struct {
	ctx   context.Context //nolint:containedctx // of one COPY, as an io.Reader cannot be given one
	from  <-chan []byte
	alive func()
	rest  []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		select {
		case chunk, more := <-r.from:
			if r.ctx.Err() != nil { // what masks has ended early
				return 0, context.Cause(r.ctx)
			}
			if !more {
				return 0, io.EOF
			}
			r.rest = chunk
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	r.alive()
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
