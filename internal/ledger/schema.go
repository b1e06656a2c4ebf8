package ledger

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/lotse-eu/lotse/internal/deploy"
)

//go:embed schema/1.sql
var schema1 string

// steps returns what brings a database from version i to i+1. Steps are only ever added.
func steps() []string { return []string{schema1} }

// magic marks the file as a ledger, for us and for file(1): SQLite's application_id.
const magic = 0x4c6f7473 // "Lots"

// buildSchema takes the steps that a database of this version has not seen, each whole or not at all.
func buildSchema(ctx context.Context, db *sql.DB, version int) error {
	for i, step := range steps()[version:] {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, step+fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", magic, version+i+1))
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// versionOf reads which version of a ledger lies there. It is the first thing that is read of a file, so it meets files that are
// no database.
func versionOf(ctx context.Context, db *sql.DB) (version int, err error) {
	var id int
	err = errors.Join(
		db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id),
		db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version))
	switch {
	case err != nil:
		return 0, err
	case id != magic:
		return 0, deploy.Hint(fmt.Errorf("%w: a database, but not a ledger", deploy.ErrBadInput), "give the ledger another path")
	case version > len(steps()):
		return 0, deploy.Hint(fmt.Errorf("%w: written by a newer lotse (version %d of the ledger, this one knows %d)",
			deploy.ErrBadInput, version, len(steps())), "use that lotse again; a ledger does not go back")
	}
	return version, nil
}

// upgrade brings what was found to the newest version, if it is what lotse left.
func (l *Ledger) upgrade(ctx context.Context) error {
	version, err := versionOf(ctx, l.reader)
	if err != nil {
		return err
	}
	if version < len(steps()) {
		if err := buildSchema(ctx, l.writer, version); err != nil {
			return err
		}
	}
	return checkSchema(ctx, l.reader)
}

// checkSchema compares the tables, indices and triggers with those that a new ledger has.
func checkSchema(ctx context.Context, db querier) error {
	fresh, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer fresh.Close()
	fresh.SetMaxOpenConns(1)
	if err := buildSchema(ctx, fresh, 0); err != nil {
		return err
	}
	want, err := schemaOf(ctx, fresh)
	if err != nil {
		return err
	}
	got, err := schemaOf(ctx, db)
	if err != nil {
		return err
	}
	for _, object := range slices.Concat(want, got) {
		switch {
		case !slices.Contains(got, object):
			return &Damage{Cause: fmt.Sprintf("the %s is missing or not as lotse made it", object.name)}
		case !slices.Contains(want, object):
			return &Damage{Cause: fmt.Sprintf("there is a %s that lotse did not make", object.name)}
		}
	}
	return nil
}

type schemaObject struct{ name, sql string }

func schemaOf(ctx context.Context, db querier) (objects []schemaObject, err error) {
	rows, err := db.QueryContext(ctx, "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var o schemaObject
		if err := rows.Scan(&o.name, &o.sql); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, rows.Err()
}

// Damage says what is wrong with a ledger. It is deploy.ErrDamaged.
type Damage struct { //nolint:errname // ledger.Damage is the word; DamageError would say error twice where it is returned
	Seq   int64  // the first event that is not as it was written, or 0 where the damage is not in an event
	Cause string // "its hash does not match", "the table events is missing or not as lotse made it"
}

func (d *Damage) Error() string {
	if d.Seq == 0 {
		return d.Cause + ": " + deploy.ErrDamaged.Error()
	}
	return fmt.Sprintf("event %d: %s: %s", d.Seq, d.Cause, deploy.ErrDamaged)
}

// Is makes every Damage a deploy.ErrDamaged.
func (d *Damage) Is(target error) bool { return target == deploy.ErrDamaged }

func damagedFile(path string, cause error) error {
	return withRescue(path, &Damage{Cause: cause.Error()})
}

// withRescue says how to go on with a damaged ledger.
func withRescue(path string, err error) error {
	return deploy.Hint(fmt.Errorf("ledger %s: %w", path, err),
		"nothing was changed; first copy it and the files beside it ("+path+"*) to a safe place. Reading stays possible: "+
			"`lotse ledger verify` names the first bad event, all before it are good. To go on, put back a copy from a backup with "+
			"the files beside it, or move all of them away and begin a new ledger: what runs keeps running")
}

// translate gives an error of SQLite the meaning that the rest of Lotse knows.
func translate(path string, err error) error {
	var coded *sqlite.Error
	var damage *Damage
	switch {
	case err == nil:
		return nil
	case errors.As(err, &damage):
		if deploy.HintOf(err) != "" {
			return err
		}
		return withRescue(path, err)
	case !errors.As(err, &coded):
		if errors.Is(err, deploy.ErrBadInput) {
			return fmt.Errorf("ledger %s: %w", path, err)
		}
		return err
	}
	switch coded.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return damagedFile(path, err)
	case sqlite3.SQLITE_FULL:
		return deploy.Hint(fmt.Errorf("ledger %s: %w: %w", path, deploy.ErrNoSpace, err), "make room on that disk")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return deploy.Hint(fmt.Errorf("ledger %s: another program holds the file: %w: %w", path, deploy.ErrUnavailable, err),
			"end the program that has the database open, or try again")
	}
	return fmt.Errorf("ledger %s: %w", path, err)
}

func cannotOpen(err error) bool {
	var coded *sqlite.Error
	if !errors.As(err, &coded) {
		return false
	}
	code := coded.Code() & 0xff
	return code == sqlite3.SQLITE_CANTOPEN || code == sqlite3.SQLITE_READONLY
}
