package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Verify reads everything again from the file and returns nil when every event is as it was written, none is missing and none
// was added, and the file itself is whole. The error is deploy.ErrDamaged (a *Damage in it names the first bad event; all before it
// are good). It may run beside a process that writes, and takes some seconds for 100,000 events.
func (l *Ledger) Verify(ctx context.Context) error {
	if l.isClosed() {
		return l.closedError()
	}
	// The note first: what is appended meanwhile must not look like more than the note.
	witness, err := readNote(l.path)
	if err != nil {
		return err
	}
	// Own connections: those that are open remember pages and would not see what changed on the disk.
	db, err := readable(ctx, l.path)
	if err != nil {
		return err
	}
	return errors.Join(translate(l.path, verify(ctx, db, witness)), db.Close())
}

func verify(ctx context.Context, db *sql.DB, witness note) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one state of the file for all questions
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := checkSchema(ctx, tx); err != nil {
		return err
	}
	last, err := walk(ctx, tx)
	if err != nil {
		return err
	}
	head, err := headOf(ctx, tx)
	if err != nil {
		return err
	}
	if head != last {
		return cutOff(last.seq, head.seq)
	}
	if err := checkTail(ctx, tx, head, witness); err != nil {
		return err
	}
	return checkPages(ctx, tx)
}

// walk follows the chain and returns its end.
func walk(ctx context.Context, db querier) (note, error) {
	last := note{0, genesis}
	rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM events ORDER BY seq")
	if err != nil {
		return last, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(r.pointers()...); err != nil {
			return last, unreadable(last.seq+1, err)
		}
		if r.seq != last.seq+1 {
			return last, &Damage{Seq: last.seq + 1, Cause: fmt.Sprintf("it is missing; the next is %d", r.seq)}
		}
		hash, err := r.hashAfter(last.hash)
		if err != nil {
			return last, err
		}
		if hash != r.hash {
			return last, &Damage{Seq: r.seq, Cause: "its hash does not match; it, or its place, was changed"}
		}
		if _, err := r.event(); err != nil {
			return last, err
		}
		last = note{r.seq, r.hash}
	}
	return last, unreadable(last.seq+1, rows.Err())
}

// unreadable names the event at which reading ended where it is the file's fault.
func unreadable(seq int64, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Damage{Seq: seq, Cause: fmt.Sprintf("it cannot be read (%v)", err)}
}

// checkTail compares the end of the table with what the two notes say about it. The note outside the database may be older.
func checkTail(ctx context.Context, db querier, head, witness note) error {
	var last sql.NullInt64
	if err := db.QueryRowContext(ctx, "SELECT max(seq) FROM events").Scan(&last); err != nil {
		return err
	}
	if last.Int64 != head.seq {
		return cutOff(last.Int64, head.seq)
	}
	if witness.seq > head.seq {
		d := cutOff(head.seq, witness.seq)
		d.Cause += "; this may be an older copy, or one without its -wal file"
		return d
	}
	for _, n := range []note{head, witness} {
		if err := checkNote(ctx, db, n); err != nil {
			return err
		}
	}
	return nil
}

func checkNote(ctx context.Context, db querier, n note) error {
	if n.seq == 0 {
		return nil
	}
	var hash string
	if err := db.QueryRowContext(ctx, "SELECT hash FROM events WHERE seq = ?", n.seq).Scan(&hash); err != nil {
		return unreadable(n.seq, err)
	}
	if hash != n.hash {
		return &Damage{Seq: n.seq, Cause: "it is not the event that was noted as the last"}
	}
	return nil
}

func cutOff(found, noted int64) *Damage {
	return &Damage{Seq: min(found, noted) + 1, Cause: fmt.Sprintf("the last event is %d, but %d was noted as the last", found, noted)}
}

// checkPages has SQLite look at every page, index and type.
func checkPages(ctx context.Context, db querier) error {
	var report string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&report); err != nil {
		return err
	}
	if report != "ok" {
		return &Damage{Cause: "the database file: " + report}
	}
	return nil
}
