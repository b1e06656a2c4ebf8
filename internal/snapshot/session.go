package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// session holds a moment of a database for as long as a snapshot of it is taken.
type session struct {
	at       *postgres.Address
	conn     *pgx.Conn
	snapshot string // by which pg_dump sees that moment
	facts
}

// facts are what is true of a database beyond what pg_dump writes.
type facts struct {
	server     string // "15.18"
	major      int
	superuser  bool
	database   databaseDetails
	extensions []extension
	roles      []string
	supabase   bool
}

// begin holds the moment. What others write afterwards is not seen; they are not held up.
func begin(ctx context.Context, at *postgres.Address) (*session, error) {
	conn, err := connect(ctx, at)
	if err != nil {
		return nil, err
	}
	s := &session{at: at, conn: conn}
	_, err = conn.Exec(ctx, "begin isolation level repeatable read read only; set local idle_in_transaction_session_timeout = 0; set local statement_timeout = 0")
	if err == nil {
		err = conn.QueryRow(ctx, "select pg_export_snapshot()").Scan(&s.snapshot)
	}
	if err == nil {
		s.facts, err = look(ctx, conn)
	}
	if err != nil {
		s.end()
		return nil, broken(ctx, "hold a moment of the database", err)
	}
	return s, nil
}

// end lets it go, also after a cancel.
func (s *session) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = s.conn.Close(ctx) // nothing was written
}

func look(ctx context.Context, conn *pgx.Conn) (f facts, err error) {
	var version string
	err = conn.QueryRow(ctx, `select current_setting('server_version'), current_setting('server_version_num')::int / 10000, current_setting('is_superuser') = 'on',
		datname, pg_encoding_to_char(encoding), datcollate, datctype, exists (select from pg_roles where rolname = 'supabase_admin')
		from pg_database where datname = current_database()`).Scan(&version, &f.major, &f.superuser,
		&f.database.Name, &f.database.Encoding, &f.database.Collate, &f.database.CType, &f.supabase)
	if err != nil {
		return f, err
	}
	f.server, _, _ = strings.Cut(version, " ")
	rows, err := conn.Query(ctx, "select extname, extversion, nspname from pg_extension join pg_namespace n on n.oid = extnamespace where extname <> 'plpgsql' order by 1")
	if err != nil {
		return f, err
	}
	if f.extensions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[extension]); err != nil {
		return f, err
	}
	// PostgreSQL itself keeps which roles own, may, or are named by a policy; what belongs to the server's first role is not in it.
	rows, err = conn.Query(ctx, `select distinct rolname::text from pg_shdepend join pg_roles r on r.oid = refobjid
		where refclassid = 'pg_authid'::regclass and dbid = (select oid from pg_database where datname = current_database()) order by 1`)
	if err != nil {
		return f, err
	}
	f.roles, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return f, err
}

// platform are the schemas of Supabase that hold nothing of an app: the platform makes them for each project, and pg_dump's role may not
// read some of them. auth and storage are not among them, since people's accounts and the names of their files are data.
var platform = []string{"pgbouncer", "realtime", "_realtime", "supabase_functions", "supabase_migrations_lock", "_analytics", "_supavisor", "graphql", "graphql_public", "vault", "pgsodium", "pgsodium_masks", "net", "cron"}

// platformExtensions are those of it, which exist nowhere else.
var platformExtensions = []string{"pg_graphql", "supabase_vault", "pgsodium", "pg_net", "pg_cron", "pgjwt"}

// leave are the schemas that a snapshot of this database does without.
func (f facts) leave() []string {
	if f.supabase {
		return platform
	}
	return nil
}

func ofPlatform(e entry) bool {
	name := strings.TrimPrefix(e.name, "EXTENSION ")
	switch e.kind {
	case "EXTENSION":
		return slices.Contains(platformExtensions, name)
	case "COMMENT":
		return name != e.name && slices.Contains(platformExtensions, name)
	case "EVENT TRIGGER":
		return e.owner == "supabase_admin"
	}
	return false
}

// empty refuses a database in which anything was made.
func empty(ctx context.Context, conn *pgx.Conn) error {
	const ours = `nspname not like 'pg\_%' and nspname <> 'information_schema'`
	var found int
	err := conn.QueryRow(ctx, `select
		(select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where `+ours+` and not exists (select from pg_depend where objid = c.oid and deptype = 'e'))
		+ (select count(*) from pg_proc p join pg_namespace n on n.oid = pronamespace where `+ours+` and not exists (select from pg_depend where objid = p.oid and deptype = 'e'))
		+ (select count(*) from pg_type t join pg_namespace n on n.oid = typnamespace where `+ours+` and not exists (select from pg_depend where objid = t.oid and deptype = 'e'))
		+ (select count(*) from pg_namespace n where `+ours+` and nspname <> 'public' and not exists (select from pg_depend where objid = n.oid and deptype = 'e'))
		+ (select count(*) from pg_largeobject_metadata)`).Scan(&found)
	if err != nil {
		return broken(ctx, "look whether the database is empty", err)
	}
	if found > 0 {
		return deploy.Hint(fmt.Errorf("%w: the database is not empty: %d tables, functions, types or schemas are in it", deploy.ErrRefused, found), "make a new database beside it; Lotse never restores into one that is in use")
	}
	return nil
}
