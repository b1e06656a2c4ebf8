package mask

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// markSchema is there from before the first thing that comes into a target until after the check.
const markSchema = "lotse_copy"

// copying is the advisory lock of who fills a target: "lotsecop" in ASCII.
const copying = 0x6c6f747365636f70

// othersSQL counts what is in a database that is not PostgreSQL's own or an extension's.
const othersSQL = `select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and ` + ours

// claim makes the target this copy's own: marked, and empty. What a copy before it has left is taken away; what anybody else has made is refused.
func claim(ctx context.Context, conn *pgx.Conn) error {
	var free, marked bool
	var others int
	err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1), to_regnamespace('"+markSchema+"') is not null, ("+othersSQL+")", int64(copying)).Scan(&free, &marked, &others)
	switch {
	case err != nil:
		return told(ctx, "look at the target", err)
	case !free:
		return fmt.Errorf("%w: another copy into this database is under way", deploy.ErrBusy)
	case others > 0 && !marked:
		return deploy.Hint(fmt.Errorf("%w: the target is not empty: it has %d tables, views or sequences", deploy.ErrRefused, others), "copy into a new database")
	case marked:
		return clean(ctx, conn)
	}
	_, err = conn.Exec(ctx, "create schema "+markSchema)
	return told(ctx, "mark the target as half", err)
}

// clean takes away all that is in the database but the mark, in one transaction. Extensions may be the machine's, and stay where they can.
func clean(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `do $$ declare r record; begin
		for r in select nspname from pg_namespace n where nspname !~ '^pg_' and nspname not in ('information_schema', 'public', '`+markSchema+`')
				and not exists (select from pg_depend d where d.classid = 'pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')
				and not exists (select from pg_extension e where e.extnamespace = n.oid) loop
			execute format('drop schema %I cascade', r.nspname);
		end loop;
		for r in select c.oid::regclass as name, case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end as kind
				from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and `+ours+` order by c.relkind = 'S' loop
			if to_regclass(r.name::text) is not null then execute format('drop %s if exists %s cascade', r.kind, r.name); end if;
		end loop;
		for r in select p.oid::regprocedure as name, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end as kind from pg_proc p join pg_namespace n on n.oid = p.pronamespace
				where n.nspname = 'public' and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e') loop
			execute format('drop %s if exists %s cascade', r.kind, r.name);
		end loop;
		for r in select t.oid::regtype as name from pg_type t join pg_namespace n on n.oid = t.typnamespace where n.nspname = 'public' and t.typtype in ('e', 'd', 'c', 'r') and t.typelem = 0
				and not exists (select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e') loop
			execute format('drop type if exists %s cascade', r.name);
		end loop;
	end $$`)
	return told(ctx, "take away what a copy before has left", err)
}

func release(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "drop schema "+markSchema+" cascade")
	return told(ctx, "take the mark of the copy away", err)
}
