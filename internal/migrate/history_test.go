package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What another tool has applied is not applied again. The tables are as those tools make them.
func TestHistories(t *testing.T) {
	files := folder("20260101000001_a.sql", "create table a ();", "20260101000002_b.sql", "create table b ();", "20260101000003_c.sql", "create table c ();")
	for tool, has := range map[string]string{
		"goose": `create table goose_db_version (id serial primary key, version_id bigint not null, is_applied boolean not null, tstamp timestamp default now());
			insert into goose_db_version (version_id, is_applied) values (0, true), (20260101000001, true), (20260101000002, true), (20260101000003, true), (20260101000003, false)`,
		"golang-migrate": "create table schema_migrations (version bigint not null primary key, dirty boolean not null); insert into schema_migrations values (20260101000002, false)",
		"dbmate":         "create table schema_migrations (version character varying(128) primary key); insert into schema_migrations values ('20260101000001'), ('20260101000002')",
		"supabase": `create schema supabase_migrations; create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text);
			insert into supabase_migrations.schema_migrations values ('20260101000001', '{}', 'a'), ('20260101000002', '{}', 'b');
			create table schema_migrations (version bigint, inserted_at timestamp); insert into schema_migrations values (7)`,
		"prisma": `create table _prisma_migrations (id varchar primary key, checksum varchar, finished_at timestamptz, migration_name varchar, logs text, rolled_back_at timestamptz, applied_steps_count int);
			insert into _prisma_migrations (id, finished_at, migration_name, rolled_back_at) values
			('1', now(), '20260101000001_a', null), ('2', null, '20260101000002_b', now()), ('3', now(), '20260101000002_b', null)`,
		"atlas": `create schema atlas_schema_revisions; create table atlas_schema_revisions.atlas_schema_revisions (version varchar primary key, description varchar, type bigint default 2,
			applied bigint default 0, total bigint default 0, executed_at timestamptz, error text, hash varchar);
			insert into atlas_schema_revisions.atlas_schema_revisions (version, applied, total) values ('.atlas_cloud_identifier', 0, 0), ('20260101000001', 1, 1), ('20260101000002', 1, 1)`,
	} {
		t.Run(tool, func(t *testing.T) {
			dsn := database(t)
			conn := dial(t, dsn.Reveal())
			for sql := range strings.SplitSeq("create table a ();create table b ();"+has, ";") {
				execute(t, conn, sql)
			}
			got := migrate(t, dsn, files)
			if got.TakenOver != tool || got.Before != 2 || !slices.Equal(got.Applied, []string{"20260101000003_c.sql"}) || len(got.Late) != 0 {
				t.Errorf("%+v", got)
			}
			if got = migrate(t, dsn, files); got.TakenOver != "" || got.Before != 3 || len(got.Applied) != 0 {
				t.Errorf("the second run: %+v", got)
			}
		})
	}
}

// What the other tool left half done is for that tool; what has nothing to do with the folder is nobody's history.
func TestHistoriesThatAreNotTakenOver(t *testing.T) {
	dsn := database(t)
	conn := dial(t, dsn.Reveal())
	execute(t, conn, "create table schema_migrations (version bigint not null primary key, dirty boolean not null)", "insert into schema_migrations values (2, true)")
	files := folder("1_a.sql", "create table a ();", "2_b.sql", "create table b ();")
	if _, err := fails(t, dsn, files, "golang-migrate has left the database half migrated: number 2 is dirty"); deploy.HintOf(err) == "" {
		t.Error("no hint")
	}
	if there := ask[*string](t, conn, "select to_regclass('lotse.migrations')::text"); there != nil {
		t.Error("a refused run has left its table, by which the next would take nothing over")
	}
	execute(t, conn, "update schema_migrations set dirty = false")
	if got := migrate(t, dsn, files); got.TakenOver != "golang-migrate" || got.Before != 2 {
		t.Errorf("after it was mended: %+v", got)
	}

	other := database(t)
	execute(t, dial(t, other.Reveal()), "create table schema_migrations (version varchar primary key)", "insert into schema_migrations values ('77')")
	if got := migrate(t, other, files); got.TakenOver != "" || len(got.Applied) != 2 {
		t.Errorf("%+v", got)
	}

	// Tables that nobody has a record of: the error says what to do about it.
	unknown := database(t)
	execute(t, dial(t, unknown.Reveal()), "create table a ()")
	_, err := fails(t, unknown, files, "m/1_a.sql:1:1: relation \"a\" already exists (42P07)")
	if !strings.Contains(deploy.HintOf(err), "docs/database.md") || errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("%v (%s)", err, deploy.HintOf(err))
	}
}
