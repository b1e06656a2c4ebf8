package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Depth is how closely Look looks at the rows of tables.
type Depth string

// The depths, each with what the one before has.
const (
	LookShallow Depth = "none"  // schema, and what the server has counted of writes
	LookCount   Depth = "count" // rows of each table
	LookRead    Depth = "read"  // every value of every row is read, so that what is damaged on the disk is found
)

// Look looks at a database as its role sees it. Nothing is written, and nobody waits for it longer than a table's own reading takes.
// ErrDamaged for a table that cannot be read to its end.
func Look(ctx context.Context, address secret.Text, depth Depth) (look deploy.Look, err error) {
	if !slices.Contains([]Depth{LookShallow, LookCount, LookRead}, depth) {
		return look, fmt.Errorf("%w: there is no depth %q", deploy.ErrBadInput, string(depth))
	}
	at, err := addressOf(address)
	if err != nil {
		return look, err
	}
	conn, err := connect(ctx, at)
	if err != nil {
		return look, err
	}
	defer (&session{conn: conn}).end()
	if look, err = shape(ctx, conn); err != nil {
		return look, broken(ctx, "look at the database", err)
	}
	for i := range look.Tables {
		if depth == LookShallow {
			look.Tables[i].Rows = -1
		} else if err := count(ctx, conn, &look.Tables[i], depth); err != nil {
			return look, err
		}
	}
	return look, nil
}

// shape is all but the rows. What the server has counted is asked for before rows are: what is written in between then widens what can have
// been, and never narrows it.
func shape(ctx context.Context, conn *pgx.Conn) (l deploy.Look, err error) {
	// With an empty path every name is written with its schema, wherever it stands.
	if _, err := conn.Exec(ctx, "set search_path = ''; set default_transaction_read_only = on; set statement_timeout = 0; set lock_timeout = '30s'; set row_security = off"); err != nil {
		return l, err
	}
	err = conn.QueryRow(ctx, `select current_setting('server_version'), pg_postmaster_start_time()::text || ' ' || coalesce(stats_reset::text, '')
		from pg_stat_database where datname = current_database()`).Scan(&l.Server, &l.Since)
	if err != nil {
		return l, err
	}
	l.Server, _, _ = strings.Cut(l.Server, " ")
	sum := sha256.New()
	for _, part := range schemaParts {
		rows, err := conn.Query(ctx, part)
		if err != nil {
			return l, err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return l, err
		}
		slices.Sort(lines)
		for _, line := range lines {
			fmt.Fprintf(sum, "%d:%s\n", len(line), line)
		}
	}
	l.Schema = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	rows, err := conn.Query(ctx, tablesOf)
	if err != nil {
		return l, err
	}
	l.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t deploy.TableLook, err error) {
		err = row.Scan(&t.Name, &t.Inserted, &t.Deleted, &t.File)
		return t, err
	})
	slices.SortFunc(l.Tables, func(a, b deploy.TableLook) int { return cmp.Compare(a.Name, b.Name) })
	return l, err
}

// own leaves out what is of PostgreSQL itself, of a session, or of the platform alone.
const own = `n.nspname !~ '^pg_(catalog|toast|temp|toast_temp)' and n.nspname <> 'information_schema'`

// tablesOf are the tables with rows of their own. Those that are not logged are empty after any crash, and so in any copy of the disk.
const tablesOf = `select format('%I.%I', n.nspname, c.relname), pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_deleted(c.oid), c.relfilenode::int8
	from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relpersistence = 'p' and ` + own

// schemaParts say in one line for each thing what it is. None of them depends on numbers that a server gives.
var schemaParts = []string{
	`select format('%s %I.%I %s %s %s %s', c.relkind, n.nspname, c.relname, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, c.relacl)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and ` + own,
	`select format('%I.%I.%I %s %s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
		from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f') and ` + own,
	`select format('%s %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) from pg_constraint k join pg_namespace n on n.oid = k.connamespace where ` + own,
	`select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace where ` + own,
	`select format('%I.%I %s', n.nspname, c.relname, pg_get_viewdef(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and ` + own,
	`select format('%s %I %s %s %s %s %s', p.polrelid::regclass, p.polname, p.polpermissive, (select string_agg(r::regrole::text, ',' order by r::regrole::text collate "C") from unnest(p.polroles) r),
		p.polcmd, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) from pg_policy p`,
	`select format('%s %s', t.tgenabled, pg_get_triggerdef(t.oid)) from pg_trigger t where not t.tgisinternal`,
	`select format('%s %s %s', p.proowner::regrole, p.proacl, pg_get_functiondef(p.oid)) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.prokind in ('f', 'p') and ` + own,
	`select format('%I.%I %s %s', n.nspname, t.typname, e.enumsortorder, e.enumlabel) from pg_enum e join pg_type t on t.oid = e.enumtypid join pg_namespace n on n.oid = t.typnamespace`,
	`select format('%I %s %s', n.nspname, n.nspowner::regrole, n.nspacl) from pg_namespace n where ` + own,
	`select format('%I %s', extname, extversion) from pg_extension`,
}

// count fills in the rows of a table. One that this role may not read whole is not counted.
func count(ctx context.Context, conn *pgx.Conn, t *deploy.TableLook, depth Depth) error {
	ask := "select count(*) from only " + t.Name // as format('%I') wrote it
	if depth == LookRead {
		ask = "select count(octet_length(t::text)) from only " + t.Name + " t"
	}
	err := conn.QueryRow(ctx, ask).Scan(&t.Rows)
	told, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case answered && slices.Contains([]string{"42501", "42P01", "3F000", "55P03"}, told.Code): // may not, has just gone, is being changed
		t.Rows = -1
		return nil
	case answered && (strings.HasPrefix(told.Code, "XX") || strings.HasPrefix(told.Code, "58")):
		return fmt.Errorf("%w: table %s cannot be read to its end (%s)", deploy.ErrDamaged, t.Name, told.Code)
	}
	return broken(ctx, "count the rows of "+t.Name, err)
}
