package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// SQLSTATEs (appendix "PostgreSQL Error Codes" of its manual) that decide what comes next.
const (
	inTransaction   = "25001" // the statement cannot run inside a transaction
	unsafeEnum      = "55P04" // a value of an enum is used in the transaction that added it
	lockTimeout     = "55P03"
	deadlock        = "40P01"
	serialization   = "40001"
	notPermitted    = "42501"
	statementCancel = "57014"
)

// codeOf is the SQLSTATE of err, or "".
func codeOf(err error) string {
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return told.Code
	}
	return ""
}

// exists reports whether err says that what the statement makes is there already.
func exists(err error) bool {
	switch codeOf(err) {
	case "42P07", "42710", "42701", "42P06", "42723", "42P04":
		return true
	}
	return false
}

// passing reports whether the same statement may succeed a moment later.
func passing(err error) bool {
	switch codeOf(err) {
	case lockTimeout, deadlock, serialization:
		return true
	}
	return false
}

// failed is the error of a statement of a file: where, what PostgreSQL says, and what stands now.
func (f file) failed(ctx context.Context, statement int, err error, stands string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w; %s", f.path, context.Cause(ctx), stands)
	}
	if errors.Is(err, errLeft) {
		return fmt.Errorf("%w: %s: %w, and may have left a part of it", deploy.ErrMigration, f.path, err)
	}
	told, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || strings.HasPrefix(told.Code, "57P") || strings.HasPrefix(told.Code, "08") {
		return deploy.Hint(fmt.Errorf("%w: the connection to the database broke while %s ran; what was not finished is rolled back", deploy.ErrUnavailable, f.path),
			"run it again: it goes on where it was")
	}
	at := f.path + ", at its end"
	if statement < len(f.statements) {
		from := f.statements[statement].from
		if told.Position > 0 {
			from = int(told.Position) - 1
		}
		at = f.place(from)
	}
	return deploy.Hint(fmt.Errorf("%w: %s: %s; %s", deploy.ErrMigration, at, sayable(told), stands), advice(told))
}

// sayable is what of a message repeats no value of a row.
func sayable(told *pgconn.PgError) string {
	class := told.Code[:min(2, len(told.Code))]
	switch class {
	case "22":
		return fmt.Sprintf("a value does not fit (%s; PostgreSQL's message repeats it and is left out)", told.Code)
	case "P0":
		return fmt.Sprintf("the migration has raised an error itself (%s; its message may hold values and is left out)", told.Code)
	}
	return fmt.Sprintf("%s (%s)", told.Message, told.Code)
}

func advice(told *pgconn.PgError) string {
	switch {
	case told.Code == lockTimeout:
		return "somebody holds a lock on the table, such as a long transaction or a dump: try again when it is over"
	case told.Code == statementCancel:
		return "it took too long to hold locks for; say SET LOCAL statement_timeout = '1h' in the file, or do it in smaller steps"
	case told.Code == notPermitted:
		return "the role of the database's address may not do this; extensions that are not trusted need a superuser"
	case exists(told):
		return "the database has it already: another tool or a person made it; see docs/database.md for what to do with tables that were there before"
	case strings.HasPrefix(told.Code, "23"):
		return "rows that are there do not fit; mend them in a migration before it"
	}
	return ""
}

// shifted moves the position of an error in one statement to where it is in the file.
func shifted(err error, by int) error {
	told, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || told.Position == 0 {
		return err
	}
	moved := *told
	moved.Position += int32(by)
	return &moved
}
