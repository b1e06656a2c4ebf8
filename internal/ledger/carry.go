package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Draft returns the event that Append would write now, with Seq, At and Hash, and writes nothing. Whoever keeps history somewhere else as
// well puts it there first, and then gives it to Import; nobody else may append meanwhile.
func (l *Ledger) Draft(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	r, err := rowOf(e)
	if err != nil {
		return deploy.Event{}, err
	}
	before, err := headOf(ctx, l.reader)
	if err == nil {
		err = r.follow(before, l.now())
	}
	if err != nil {
		return deploy.Event{}, translate(l.path, err)
	}
	return r.event()
}

// follow makes r the event after another.
func (r *row) follow(before note, at time.Time) (err error) {
	r.seq, r.at = before.seq+1, at.UTC().Format(time.RFC3339Nano)
	r.hash, err = r.hashAfter(before.hash)
	return err
}

// Import appends events as they are, all or none: the first must follow from the last that is here, and each from the one before. One that does
// not is deploy.ErrDamaged (a *Damage names it).
func (l *Ledger) Import(ctx context.Context, events []deploy.Event) error {
	if len(events) == 0 {
		return nil
	}
	var last note
	err := l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var err error
		if last, err = headOf(ctx, tx); err != nil {
			return err
		}
		for _, e := range events {
			r, err := verbatim(last, e)
			if err != nil {
				return err
			}
			if err := r.insert(ctx, tx); err != nil {
				return err
			}
			last = note{r.seq, r.hash}
		}
		_, err = tx.ExecContext(ctx, "UPDATE head SET seq = ?, hash = ?", last.seq, last.hash)
		return err
	})
	if err != nil {
		return err
	}
	l.announce(last)
	return nil
}

// verbatim makes the row of an event that was chained elsewhere.
func verbatim(before note, e deploy.Event) (row, error) {
	r, err := rowOf(e)
	if err == nil {
		err = r.follow(before, e.At)
	}
	if err == nil && (r.seq != e.Seq || r.hash != e.Hash) {
		cause := "its hash does not match; it, or its place, was changed"
		if r.seq != e.Seq {
			cause = fmt.Sprintf("event %d was to follow", r.seq)
		}
		err = deploy.Hint(&Damage{Seq: e.Seq, Cause: cause}, "nothing of it was taken over; what is here is as it was")
	}
	return r, err
}

func (r *row) insert(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO events ("+columns+") VALUES (?,?,?,?,?,?,?,?,?,?)", r.values()...)
	return err
}
