package migrate

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// target is what is known of the database that migrations are meant for. It is only read.
type target struct {
	major  int
	server string
	user   string
	roles  []string
	exts   map[string]string // name to schema
	sizes  map[string]size   // of tables, by name as catalog has it
	closed [][2]string       // schema and name of tables that the role may not read, and that pg_dump so cannot lock
	todo   []file
	before int

	history []string // tables in which tools note what has run, as catalog names them
}

// size is what a table has, as far as PostgreSQL knows without reading it.
type size struct {
	rows  int64
	bytes int64
}

// peek asks the database what has run there and how large its tables are, in a transaction that may write nothing.
func peek(ctx context.Context, dsn secret.Text, folder []file, history string) (r *target, err error) {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has nothing to lose
	r = &target{exts: map[string]string{}, sizes: map[string]size{}}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = 2000; set local statement_timeout = 30000"); err != nil {
			return err
		}
		if err := r.pending(ctx, tx, folder); err != nil {
			return err
		}
		if err := r.noted(ctx, tx, history); err != nil {
			return err
		}
		return r.describe(ctx, tx)
	})
	if err != nil {
		return nil, foreign(ctx, err)
	}
	return r, nil
}

// pending finds out what would run, as Migrate does, and makes no table for it.
func (r *target) pending(ctx context.Context, tx pgx.Tx, folder []file) error {
	b, err := find(ctx, tx)
	if err != nil {
		return err
	}
	if b.table == "" {
		b.rows = map[int64]row{}
		h, err := histories(ctx, tx, folder)
		if err != nil {
			return err
		}
		for version := range h.versions {
			b.rows[version] = row{version: version, applied: true}
		}
	}
	r.todo, r.before, err = b.compare(folder)
	return err
}

func (r *target) describe(ctx context.Context, tx pgx.Tx) error {
	var number int
	err := tx.QueryRow(ctx, "select current_setting('server_version_num')::int, current_setting('server_version'), current_user").Scan(&number, &r.server, &r.user)
	if err != nil {
		return err
	}
	r.major = number / 10000
	if r.roles, err = names(ctx, tx, "select rolname from pg_catalog.pg_roles where rolname !~ '^pg_' order by 1"); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "select e.extname, n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname <> 'plpgsql'")
	if err != nil {
		return err
	}
	var name, schema string
	if _, err = pgx.ForEachRow(rows, []any{&name, &schema}, func() error { r.exts[name] = schema; return nil }); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `select n.nspname, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'lotse') and n.nspname !~ '^pg_(toast|temp)'
		and not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) order by 1, 2`)
	if err != nil {
		return err
	}
	var table string
	if _, err = pgx.ForEachRow(rows, []any{&schema, &table}, func() error { r.closed = append(r.closed, [2]string{schema, table}); return nil }); err != nil {
		return err
	}
	return r.measure(ctx, tx)
}

// measure asks for sizes under a savepoint: a table that somebody has locked must not end the rest.
func (r *target) measure(ctx context.Context, tx pgx.Tx) error {
	nested, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	// A table that was never analyzed has reltuples -1 (before version 14: 0, and no pages).
	rows, err := nested.Query(ctx, `select case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname, c.reltuples::float8, c.relpages::int8, pg_relation_size(c.oid)
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema')`)
	if err == nil {
		var name string
		var tuples float64
		var pages, bytes int64
		_, err = pgx.ForEachRow(rows, []any{&name, &tuples, &pages, &bytes}, func() error {
			r.sizes[name] = size{estimated(tuples, pages, bytes), bytes}
			return nil
		})
	}
	if codeOf(err) != "" {
		r.sizes = map[string]size{} // every table is taken for large
		return nested.Rollback(ctx)
	}
	return errors.Join(err, nested.Commit(ctx))
}

const (
	pageBytes = 8192
	rowBytes  = 28 // a row's header and its pointer, without any column: no page holds more rows (pageinspect, "heap_page_items")
)

// estimated is the number of rows as the planner reckons it, or the most that fit where nobody has counted.
func estimated(tuples float64, pages, bytes int64) int64 {
	if tuples >= 0 && pages > 0 {
		return int64(tuples / float64(pages) * float64(bytes/pageBytes))
	}
	return bytes / rowBytes
}

// names are what a question of one column answers.
func names(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// dump clones the schema of the database into the scratch. It returns what could not be put in. The error says why there is no clone.
func (s *scratch) dump(ctx context.Context, r *target, dsn secret.Text, installed postgres.Binaries, database string) (lacks []string, err error) {
	file := filepath.Join(s.dir, "schema")
	address, err := postgres.ParseAddress(dsn, "lotse judge")
	if err != nil {
		return nil, translate(err)
	}
	argv := []string{filepath.Join(installed.Dir, "pg_dump"), postgres.ServiceArgument, "--schema-only", "--no-owner", "--no-tablespaces", "--no-security-labels", "--no-subscriptions", "--no-publications",
		"--exclude-schema=lotse", "--lock-wait-timeout=5000", "--no-password", "-Fc", "-f", file}
	for _, table := range r.closed {
		argv = append(argv, "--exclude-table="+pgx.Identifier(table[:]).Sanitize())
	}
	if err := tool(ctx, address, argv...); err != nil {
		return nil, err
	}
	if lacks, err = s.extensions(ctx, r, database); err != nil {
		return nil, err
	}
	for _, table := range r.closed[:min(len(r.closed), mostLacks)] {
		lacks = append(lacks, "the table "+table[0]+"."+table[1]+", which the role may not read")
	}
	clone, err := postgres.ParseAddress(secret.New(s.cluster.Admin(database)), "lotse judge")
	if err != nil {
		return nil, err
	}
	err = tool(ctx, clone, filepath.Join(installed.Dir, "pg_restore"), postgres.ServiceArgument, "--no-owner", "--role="+s.role, file)
	if said, ok := errors.AsType[*exec.ExitError](err); ok {
		return append(lacks, restored(string(said.Stderr))...), nil
	}
	return lacks, err
}

// extensions makes what extensions there are; those that are not installed here the clone lacks.
func (s *scratch) extensions(ctx context.Context, r *target, database string) (lacks []string, err error) {
	conn, err := s.superuser(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has nothing to lose
	for name, schema := range r.exts {
		into := pgx.Identifier{schema}.Sanitize()
		_, err := conn.Exec(ctx, "create schema if not exists "+into+" authorization "+pgx.Identifier{s.role}.Sanitize())
		if err == nil {
			_, err = conn.Exec(ctx, "create extension if not exists "+pgx.Identifier{name}.Sanitize()+" schema "+into+" cascade")
		}
		if err != nil {
			lacks = append(lacks, "the extension "+name)
		}
	}
	slices.Sort(lacks)
	return lacks, nil
}

var (
	restoreFailed = regexp.MustCompile(`(?m)^pg_restore: from TOC entry \d+; \d+ \d+ (.*)$`)
	harmless      = regexp.MustCompile(`^(SCHEMA|COMMENT|EXTENSION|DEFAULT ACL|ACL)\b`) // made before, or of no use to code
)

// restored names what pg_restore could not put into the clone. Its output has names of objects, and no row: there is none.
func restored(output string) (lacks []string) {
	for _, match := range restoreFailed.FindAllStringSubmatch(output, -1) {
		if !harmless.MatchString(match[1]) && len(lacks) < mostLacks {
			lacks = append(lacks, strings.Join(strings.Fields(match[1]), " "))
		}
	}
	return lacks
}

const mostLacks = 10

// tool runs one of PostgreSQL's. Its output goes into the error, which is nobody's but ours.
func tool(ctx context.Context, address *postgres.Address, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	told, err := address.Tell(cmd)
	if err != nil {
		return err
	}
	defer told()
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		failed.Stderr = said.Bytes()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
