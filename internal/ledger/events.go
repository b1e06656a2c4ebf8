package ledger

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Append implements deploy.Ledger. What the caller set as Seq, At and Hash is not looked at. Data is returned as it was stored:
// the same JSON without white space. An event that cannot be stored as it is is deploy.ErrBadInput.
func (l *Ledger) Append(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	r, err := rowOf(e)
	if err != nil {
		return deploy.Event{}, err
	}
	err = l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		before, err := headOf(ctx, tx)
		if err != nil {
			return err
		}
		if err := r.follow(before, l.now()); err != nil {
			return err
		}
		if err := r.insert(ctx, tx); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE head SET seq = ?, hash = ?", r.seq, r.hash)
		return err
	})
	if err != nil {
		return deploy.Event{}, err
	}
	l.announce(note{r.seq, r.hash})
	return r.event()
}

func (r *row) values() []any {
	return []any{r.seq, r.at, r.kind, r.app, r.stage, r.rollout, r.release, r.actor, r.data, r.hash}
}

// announce wakes who waits for an event. Two writers may arrive here in the other order than they wrote.
func (l *Ledger) announce(n note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.seq <= l.last || l.closed {
		return
	}
	l.last = n.seq
	l.writeNote(n)
	close(l.changed)
	l.changed = make(chan struct{})
}

// Wait implements deploy.Ledger. It hears of events that this process appends; a ledger that is open for reading only does not hear
// of others and answers deploy.ErrUnsupported rather than wait for ever.
func (l *Ledger) Wait(ctx context.Context, seq int64) (newest int64, err error) {
	if l.turn == nil {
		return 0, l.write(ctx, nil)
	}
	for {
		l.mu.Lock()
		last, changed, closed := l.last, l.changed, l.closed
		l.mu.Unlock()
		switch {
		case last > seq:
			return last, nil
		case closed:
			return 0, l.closedError()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Events implements deploy.Ledger. Hashes are not checked again; Verify does.
func (l *Ledger) Events(ctx context.Context, q deploy.EventQuery) ([]deploy.Event, error) {
	text, args := selection(q)
	rows, err := l.reader.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, translate(l.path, err)
	}
	defer rows.Close()
	var events []deploy.Event
	for rows.Next() {
		var r row
		if err := rows.Scan(r.pointers()...); err != nil {
			return nil, translate(l.path, err)
		}
		e, err := r.event()
		if err != nil {
			return nil, translate(l.path, err)
		}
		events = append(events, e)
	}
	if q.Last > 0 {
		slices.Reverse(events)
	}
	return events, translate(l.path, rows.Err())
}

// selection writes the query as SQL. The newest are found from the end, so they come in reverse.
func selection(q deploy.EventQuery) (text string, args []any) {
	where := []string{"seq > ?"}
	args = []any{q.After}
	for _, c := range []struct{ column, value string }{{"app", q.App}, {"stage", q.Stage}, {"rollout", q.Rollout}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if len(q.Kinds) > 0 {
		where = append(where, "kind IN (?"+strings.Repeat(", ?", len(q.Kinds)-1)+")")
		for _, kind := range q.Kinds {
			args = append(args, kind)
		}
	}
	text = "SELECT " + columns + " FROM events WHERE " + strings.Join(where, " AND ") + " ORDER BY seq"
	if q.Last > 0 {
		text, args = text+" DESC LIMIT ?", append(args, q.Last)
	}
	return text, args
}

// Head returns the number and the hash of the last event: what an auditor notes elsewhere, to see later that history up to
// there is still the same. A new ledger has 0 and zeros.
func (l *Ledger) Head(ctx context.Context) (seq int64, hash string, err error) {
	n, err := headOf(ctx, l.reader)
	return n.seq, n.hash, translate(l.path, err)
}

func headOf(ctx context.Context, db querier) (n note, err error) {
	err = db.QueryRowContext(ctx, "SELECT seq, hash FROM head").Scan(&n.seq, &n.hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = &Damage{Cause: "the note of the last event is missing"}
	}
	return n, err
}

// querier is a database or a transaction in it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
