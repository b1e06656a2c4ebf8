package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// row is what the table knows of one file.
type row struct {
	version    int64
	name       string // empty: another tool had applied it, and the folder had no such file
	sum        string // of what ran; empty: not known
	statements int    // done
	trying     int    // the statement (from 1) that runs, or ran when somebody died, outside a transaction; 0: none
	applied    bool   // whole
}

// book is the table in which it stands what has run.
type book struct {
	table string // quoted where it must be
	rows  map[int64]row
	made  bool // by this run
}

// greatest is the number of the newest file that was applied, -1 where none was.
func (b book) greatest() int64 {
	greatest := int64(-1)
	for _, r := range b.rows {
		if r.applied {
			greatest = max(greatest, r.version)
		}
	}
	return greatest
}

// open finds the table, or makes it in the transaction.
func open(ctx context.Context, tx pgx.Tx) (book, error) {
	b, err := find(ctx, tx)
	if err == nil && b.table == "" {
		return create(ctx, tx)
	}
	return b, err
}

// find returns the zero book where there is none. It is found without a right on it, so that a role which lacks one is told so and does
// not make a second.
func find(ctx context.Context, tx pgx.Tx) (b book, err error) {
	var schema, table string
	err = tx.QueryRow(ctx, `select n.nspname, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and (n.nspname = 'lotse' and c.relname = 'migrations' or n.nspname = current_schema() and c.relname = 'lotse_migrations')
		order by n.nspname = 'lotse' desc limit 1`).Scan(&schema, &table)
	if errors.Is(err, pgx.ErrNoRows) {
		return b, nil
	}
	if err == nil {
		b.table = pgx.Identifier{schema, table}.Sanitize()
		b.rows, err = b.read(ctx, tx)
	}
	return b, err
}

// columns of the table. "applied_at" is null while a file is done in part.
const columns = ` (
	version    bigint primary key,
	name       text not null,
	checksum   text not null,
	statements integer not null default 0,
	trying     integer not null default 0,
	begun_at   timestamptz not null default now(),
	applied_at timestamptz,
	duration   interval,
	taken_over text)`

func create(ctx context.Context, tx pgx.Tx) (book, error) {
	var there, own bool
	var schema string
	err := tx.QueryRow(ctx, `select
		exists (select from pg_catalog.pg_namespace where nspname = 'lotse'),
		case when exists (select from pg_catalog.pg_namespace where nspname = 'lotse') then has_schema_privilege('lotse', 'create')
			else has_database_privilege(current_database(), 'create') end,
		coalesce(current_schema()::text, '')`).Scan(&there, &own, &schema)
	if err != nil {
		return book{}, err
	}
	b := book{table: "lotse.migrations", made: true}
	var statements []string
	switch {
	case own && !there:
		statements = []string{"create schema lotse"}
	case own:
	case schema == "":
		return b, deploy.Hint(fmt.Errorf("%w: the role of the database's address may make a table nowhere", deploy.ErrMigration), "grant create on database … to it, or on one schema")
	default:
		b.table = pgx.Identifier{schema, "lotse_migrations"}.Sanitize()
	}
	statements = append(statements, "create table "+b.table+columns)
	if !own { // what is in public may be published, and this is nobody's business
		statements = append(statements, "alter table "+b.table+" enable row level security")
	}
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return b, err
		}
	}
	b.rows = map[int64]row{}
	return b, nil
}

func (b book) read(ctx context.Context, tx pgx.Tx) (map[int64]row, error) {
	answer, err := tx.Query(ctx, "select version, name, checksum, statements, trying, applied_at is not null from "+b.table)
	if err != nil {
		return nil, err
	}
	rows := map[int64]row{}
	for answer.Next() {
		var r row
		if err := answer.Scan(&r.version, &r.name, &r.sum, &r.statements, &r.trying, &r.applied); err != nil {
			return nil, err
		}
		rows[r.version] = r
	}
	return rows, answer.Err()
}

// execer is a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (commandTag, error)
}

// whole records that a file ran.
func (b book) whole(ctx context.Context, to execer, f file, took time.Duration) error {
	_, err := to.Exec(ctx, "insert into "+b.table+` (version, name, checksum, statements, applied_at, duration)
		values ($1, $2, $3, $4, now(), $5::bigint * interval '1 millisecond')`, f.version, f.name, f.sum, len(f.statements), took.Milliseconds())
	return err
}

// begun records that a file is done statement by statement from now on.
func (b book) begun(ctx context.Context, to execer, f file) error {
	_, err := to.Exec(ctx, "insert into "+b.table+" (version, name, checksum) values ($1, $2, $3) on conflict do nothing", f.version, f.name, f.sumOf(0))
	return err
}

// done records so many statements.
func (b book) done(ctx context.Context, to execer, f file, statements int) error {
	_, err := to.Exec(ctx, "update "+b.table+" set name = $2, statements = $3, checksum = $4, trying = 0 where version = $1", f.version, f.name, statements, f.sumOf(statements))
	return err
}

// trying records which statement runs outside a transaction.
func (b book) trying(ctx context.Context, to execer, f file, statement int) error {
	_, err := to.Exec(ctx, "update "+b.table+" set trying = $2 where version = $1", f.version, statement)
	return err
}

// finished records that the last statement was done.
func (b book) finished(ctx context.Context, to execer, f file) error {
	_, err := to.Exec(ctx, "update "+b.table+` set statements = $2, checksum = $3, trying = 0, applied_at = clock_timestamp(),
		duration = clock_timestamp() - begun_at where version = $1`, f.version, len(f.statements), f.sum)
	return err
}

// theCommand is the number of the row of a command that migrates; files have none below 0.
const theCommand = -1

// commandBegun records that a command runs from now on.
func (b book) commandBegun(ctx context.Context, to execer, line string) error {
	_, err := to.Exec(ctx, "insert into "+b.table+` (version, name, checksum, trying) values ($1, $2, '', 1)
		on conflict (version) do update set name = excluded.name, trying = 1, begun_at = clock_timestamp(), applied_at = null, duration = null`, theCommand, line)
	return err
}

// commandEnded records that it came through.
func (b book) commandEnded(ctx context.Context, to execer) error {
	_, err := to.Exec(ctx, "update "+b.table+` set trying = 0, applied_at = clock_timestamp(), duration = clock_timestamp() - begun_at where version = $1`, theCommand)
	return err
}

// takeOver records what another tool had applied.
func (b *book) takeOver(ctx context.Context, tx pgx.Tx, h history, folder []file) error {
	byVersion := map[int64]file{}
	for _, f := range folder {
		byVersion[f.version] = f
	}
	for version := range h.versions {
		f := byVersion[version]
		_, err := tx.Exec(ctx, "insert into "+b.table+` (version, name, checksum, statements, applied_at, taken_over)
			values ($1, $2, $3, $4, now(), $5)`, version, f.name, f.sum, len(f.statements), h.tool)
		if err != nil {
			return err
		}
		b.rows[version] = row{version: version, name: f.name, sum: f.sum, statements: len(f.statements), applied: true}
	}
	return nil
}

// compare says which files are to run, in their order, or which of them does not fit what has run.
func (b book) compare(folder []file) (todo []file, before int, err error) {
	for _, f := range folder {
		r, known := b.rows[f.version]
		switch {
		case !known:
			todo = append(todo, f)
		case r.applied && (r.sum == f.sum || r.sum == ""):
			before++
		case !r.applied && r.statements <= len(f.statements) && r.sum == f.sumOf(r.statements):
			todo = append(todo, f)
		case !r.applied:
			return nil, 0, deploy.Hint(fmt.Errorf("%w: %s: its first %s ran already, and the file has changed there", deploy.ErrMigration, f.path, counted(r.statements)),
				"put those back as they were; what comes after them may change")
		case r.name != f.name && r.name != "":
			return nil, 0, deploy.Hint(fmt.Errorf("%w: %s: another file of the same number, %s, ran already", deploy.ErrMigration, f.path, r.name), "give it a greater number")
		default:
			return nil, 0, deploy.Hint(fmt.Errorf("%w: %s has changed since it ran", deploy.ErrMigration, f.path), "put it back as it was, and write a new file that changes what it made")
		}
	}
	return todo, before, nil
}

func counted(statements int) string {
	if statements == 1 {
		return "statement"
	}
	return fmt.Sprintf("%d statements", statements)
}
