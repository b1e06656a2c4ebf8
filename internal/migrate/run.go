package migrate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// run applies files over one connection.
type run struct {
	Config
	conn *pgx.Conn
	book book
	done int // files that this run applied
}

// apply runs one file: as a whole where it can, else statement by statement.
func (r run) apply(ctx context.Context, f file) error {
	if err := r.settle(ctx); err != nil {
		return f.failed(ctx, len(f.statements), err, r.stands())
	}
	if before, begun := r.book.rows[f.version]; begun {
		return r.piecewise(ctx, f, before)
	}
	if !f.alone {
		statement, err := r.whole(ctx, f)
		if err == nil {
			return nil
		}
		if !f.needsItsOwn(statement, err) {
			return f.failed(ctx, statement, err, r.stands())
		}
		r.Log.Info("a statement cannot run inside a transaction: the file runs statement by statement", "file", f.path)
	}
	return r.piecewise(ctx, f, row{})
}

// needsItsOwn reports whether PostgreSQL refused the statement only because it stood in a transaction with others.
func (f file) needsItsOwn(statement int, err error) bool {
	switch codeOf(err) {
	case unsafeEnum:
		return true
	case inTransaction: // SET TRANSACTION says it too, when it comes too late
		return statement < len(f.statements) && !strings.EqualFold(strings.Fields(f.piece(statement))[0], "set")
	}
	return false
}

// stands says what is there after a file that failed as a whole.
func (r run) stands() string {
	switch r.done {
	case 0:
		return "nothing of this file stays"
	case 1:
		return "nothing of this file stays; the file before it was applied and stays"
	}
	return fmt.Sprintf("nothing of this file stays; the %d files before it were applied and stay", r.done)
}

// settle undoes what a file before has set for the session. The server notices within seconds when we are killed; the setting is
// not known to every version and platform.
func (r run) settle(ctx context.Context) error {
	if _, err := r.conn.Exec(ctx, "reset all"); err != nil {
		return err
	}
	if err := r.own(ctx, r.conn); err != nil {
		return err
	}
	_, err := r.conn.Exec(ctx, "select set_config(name, '2s', false) from pg_catalog.pg_settings where name = 'client_connection_check_interval'")
	if codeOf(err) != "" {
		return nil
	}
	return err
}

// own makes the session that of the address again, whatever role a file has taken.
func (r run) own(ctx context.Context, to execer) error {
	for _, sql := range []string{"reset session authorization", "reset role"} {
		if _, err := to.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// limits are those inside a transaction.
func (r run) limits(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d; set local statement_timeout = %d", r.LockWait.Milliseconds(), r.Most.Milliseconds()))
	return err
}

// patiently does something in a transaction, again when somebody else was in the way.
func (r run) patiently(ctx context.Context, do func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := r.transact(ctx, do)
		if err == nil || !passing(err) || try == r.Tries {
			return err
		}
		r.Log.Info("somebody else has locked what the migration needs: it is tried again", "try", try, "code", codeOf(err))
		if err := pause(ctx, time.Duration(try)*r.LockWait/4); err != nil {
			return err
		}
	}
}

var errLeft = errors.New("the file has ended the transaction that it ran in")

func (r run) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if err := r.limits(ctx, tx); err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err
		}
		if r.conn.PgConn().TxStatus() != 'T' {
			return errLeft
		}
		return r.own(ctx, tx)
	})
}

// whole runs a file in one transaction with its record. After an error it says in which statement.
func (r run) whole(ctx context.Context, f file) (statement int, err error) {
	begun := time.Now()
	err = r.patiently(ctx, func(tx pgx.Tx) error {
		var err error
		if statement, err = r.send(ctx, string(f.text)); err != nil {
			return err
		}
		statement = len(f.statements) // what fails from here on, fails at the end
		if err := r.own(ctx, tx); err != nil {
			return err
		}
		return r.book.whole(ctx, tx, f, time.Since(begun))
	})
	return statement, err
}

// send sends SQL as it is, and returns how many of its statements were done.
func (r run) send(ctx context.Context, sql string) (done int, err error) {
	results := r.conn.PgConn().Exec(ctx, sql)
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err == nil {
			done++
		}
	}
	return done, results.Close()
}

// piecewise runs what of a file has not run yet, each statement with its record.
func (r run) piecewise(ctx context.Context, f file, before row) error {
	if err := r.book.begun(ctx, r.conn, f); err != nil {
		return f.failed(ctx, len(f.statements), err, r.stands())
	}
	for i := before.statements; i < len(f.statements); i++ {
		if err := r.step(ctx, f, i, before.trying == i+1); err != nil {
			return f.failed(ctx, i, shifted(err, f.statements[i].from), standing(i, len(f.statements)))
		}
	}
	if err := r.book.finished(ctx, r.conn, f); err != nil {
		return f.failed(ctx, len(f.statements), err, "all of its statements stay")
	}
	return nil
}

func standing(done, all int) string {
	switch done {
	case 0:
		return fmt.Sprintf("statement 1 of %d failed, nothing of this file stays", all)
	case 1:
		return fmt.Sprintf("statement 2 of %d failed, statement 1 stays, and the next run goes on from there", all)
	}
	return fmt.Sprintf("statement %d of %d failed, statements 1 to %d stay, and the next run goes on from there", done+1, all, done)
}

// step runs one statement: in a transaction with its record, so that it runs exactly once, or bare where it must. doubtful says that
// a run before began it and died.
func (r run) step(ctx context.Context, f file, i int, doubtful bool) error {
	if !doubtful {
		err := r.patiently(ctx, func(tx pgx.Tx) error {
			if _, err := r.send(ctx, f.piece(i)); err != nil {
				return err
			}
			if err := r.own(ctx, tx); err != nil {
				return err
			}
			return r.book.done(ctx, tx, f, i+1)
		})
		if codeOf(err) != inTransaction {
			return err
		}
	}
	if err := r.book.trying(ctx, r.conn, f, i+1); err != nil {
		return err
	}
	if err := r.bare(ctx, f.piece(i), doubtful); err != nil {
		if codeOf(err) != "" && ctx.Err() == nil { // it is known to have failed
			err = errors.Join(err, r.book.trying(ctx, r.conn, f, 0))
		}
		return err
	}
	if err := r.own(ctx, r.conn); err != nil {
		return err
	}
	return r.book.done(ctx, r.conn, f, i+1)
}

// concurrently is an index that is built beside the writes of others, with its name.
var concurrently = regexp.MustCompile(`(?is)^create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?("[^"]+"|[^\s("]+)\s+on\b`)

// bare runs a statement that PostgreSQL lets into no transaction. It may wait for long: for everybody who works with the table.
func (r run) bare(ctx context.Context, sql string, doubtful bool) error {
	if _, err := r.conn.Exec(ctx, "set lock_timeout = 0; set statement_timeout = 0"); err != nil {
		return err
	}
	index := ""
	if match := concurrently.FindStringSubmatch(sql); match != nil {
		index = strings.ToLower(match[1])
		if strings.HasPrefix(match[1], `"`) {
			index = strings.Trim(match[1], `"`)
		}
	}
	if index != "" && doubtful {
		if err := r.dropInvalid(ctx, index); err != nil {
			return err
		}
	}
	_, err := r.send(ctx, sql)
	if doubtful && exists(err) {
		return nil // the run that died had done it
	}
	if err != nil && !exists(err) && index != "" && codeOf(err) != "" {
		err = errors.Join(err, r.dropInvalid(ctx, index)) // or it would be in the way of the next run
	}
	return err
}

// dropInvalid removes what is left of an index whose building was broken off: it is maintained, and never used.
func (r run) dropInvalid(ctx context.Context, name string) error {
	var found []string
	err := r.conn.QueryRow(ctx, `select coalesce(array_agg(format('%I.%I', n.nspname, c.relname)), '{}') from pg_catalog.pg_index i
		join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relname = $1 and not i.indisvalid and pg_has_role(c.relowner, 'usage')`, name).Scan(&found)
	if err != nil || len(found) != 1 {
		return err
	}
	_, err = r.conn.Exec(ctx, "drop index concurrently if exists "+found[0])
	return err
}
