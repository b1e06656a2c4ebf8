package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// What a team does over time: first files, more files, none, a late branch, and a release that is older than the database.
func TestOverTime(t *testing.T) {
	dsn := database(t)
	conn := dial(t, dsn.Reveal())
	files := folder("0001_people.sql", "create table people (id int primary key);", "0002_rows.sql", "insert into people values (1), (2);")
	for _, c := range []struct {
		add, text string
		want      deploy.Migrated
	}{
		{"", "", deploy.Migrated{Applied: []string{"0001_people.sql", "0002_rows.sql"}}},
		{"", "", deploy.Migrated{Before: 2}},
		{"0004_b.up.sql", "alter table people add column name text;", deploy.Migrated{Applied: []string{"0004_b.up.sql"}, Before: 2}},
		{"0003_late.sql", "alter table people add column late text;", deploy.Migrated{Applied: []string{"0003_late.sql"}, Before: 3, Late: []string{"0003_late.sql"}}},
		{"0005_empty.sql", "-- nothing to do\n", deploy.Migrated{Applied: []string{"0005_empty.sql"}, Before: 4}},
	} {
		if c.add != "" {
			files["m/"+c.add] = &fstest.MapFile{Data: []byte(c.text)}
		}
		if got := migrate(t, dsn, files); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("after %s: %+v, want %+v", c.add, got, c.want)
		}
	}
	if got := migrate(t, dsn, folder("0001_people.sql", "create table people (id int primary key);")); got.Before != 1 || len(got.Applied) != 0 {
		t.Errorf("an older release: %+v", got)
	}
	if n := ask[int](t, conn, "select count(*) from people"); n != 2 {
		t.Errorf("%d rows, want 2: something ran twice, or not at all", n)
	}
	if n := ask[int](t, conn, "select count(*) from lotse.migrations where applied_at is not null and duration is not null and statements <= 1 and length(checksum) = 64"); n != 5 {
		t.Errorf("%d whole records, want 5", n)
	}
}

// One in the middle fails: nothing of it stays, those before it do, and the error says where.
func TestFailure(t *testing.T) {
	dsn := database(t)
	conn := dial(t, dsn.Reveal())
	files := folder("1_a.sql", "create table a (n int, email text unique);\ninsert into a values (1, 'x@y');",
		"2_b.sql", "create table b ();\n\nalter table a\n  add column c int,\n  add column ä tüxt;\n", "3_c.sql", "create table c ();")
	done, err := fails(t, dsn, files, "m/2_b.sql:5:16: type \"tüxt\" does not exist (42704)", "nothing of this file stays", "the file before it was applied and stays")
	if !slices.Equal(done.Applied, []string{"1_a.sql"}) {
		t.Errorf("%+v", done)
	}
	if there := ask[string](t, conn, "select string_agg(relname, ' ' order by relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"); there != "a" {
		t.Errorf("there are the tables %s", there)
	}
	for text, says := range map[string]string{
		"select 1;\n\n insert into a values (1, 'x@y');":                                                   "m/2_b.sql:3:2: duplicate key value violates unique constraint",
		"select 1;\nselect 'erika@example.org'::int;":                                                      "m/2_b.sql:2:8: a value does not fit (22P02",
		"select email::int from a;":                                                                        "m/2_b.sql:1:1: a value does not fit (22P02",
		"do $$ begin raise exception 'erika@example.org'; end $$;":                                         "has raised an error itself (P0001",
		"alter table a add constraint odd check (n > 1);":                                                  "check constraint \"odd\" of relation \"a\" is violated by some row (23514)",
		"select 1;\nselect 1 2;":                                                                           "m/2_b.sql:2:10: syntax error",
		"create table p (a int primary key deferrable initially deferred); insert into p values (1), (1);": "m/2_b.sql, at its end: duplicate key",
		"alter table a add column n int;":                                                                  "already exists (42701)",
		"select pg_read_file('/etc/passwd');":                                                              "permission denied",
	} {
		files["m/2_b.sql"] = &fstest.MapFile{Data: []byte(text)}
		_, err := fails(t, dsn, files, says)
		if strings.Contains(err.Error(), "erika") || strings.Contains(err.Error(), "x@y") {
			t.Errorf("a value is told: %v", err)
		}
	}
	if deploy.HintOf(err) != "" {
		t.Errorf("a hint that nobody needs: %s", deploy.HintOf(err))
	}
	files["m/2_b.sql"] = &fstest.MapFile{Data: []byte("create table b ();")}
	if got := migrate(t, dsn, files); !slices.Equal(got.Applied, []string{"2_b.sql", "3_c.sql"}) || got.Before != 1 {
		t.Errorf("after it was mended: %+v", got)
	}
}

// What was applied does not change, and no two files have one number.
func TestChangedFile(t *testing.T) {
	dsn := database(t)
	files := folder("1_a.sql", "create table a ();")
	migrate(t, dsn, files)
	changed := maps.Clone(files)
	changed["m/1_a.sql"] = &fstest.MapFile{Data: []byte("create table a (n int);")}
	changed["m/2_b.sql"] = &fstest.MapFile{Data: []byte("create table b ();")}
	if _, err := fails(t, dsn, changed, "m/1_a.sql has changed since it ran"); deploy.HintOf(err) == "" {
		t.Error("no hint")
	}
	fails(t, dsn, folder("1_other.sql", "create table o ();"), "m/1_other.sql", "another file of the same number, 1_a.sql")
	if n := ask[int](t, dial(t, dsn.Reveal()), "select count(*) from pg_class where relname in ('b', 'o')"); n != 0 {
		t.Error("something ran before the refusal")
	}
	migrate(t, dsn, folder("1_renamed.sql", "create table a ();"))
}

// What PostgreSQL lets into no transaction is found out, and a failure says what stands and is gone on from.
func TestOutsideATransaction(t *testing.T) {
	dsn := database(t)
	conn := dial(t, dsn.Reveal())
	files := folder("1_a.sql", "create table a (n int); insert into a values (1), (1);\ncreate type mood as enum ('ok');",
		"2_b.sql", "insert into a values (2);\ncreate index concurrently a_n on a (n);\nvacuum a;",
		"3_enum.sql", "alter type mood add value 'happy'; create table m as select 'happy'::mood as m;",
		"4_goose.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently \"A two\" on a (n) where n = 2;\n-- +goose Down\ndrop table a;")
	migrate(t, dsn, files)
	if n := ask[int](t, conn, "select count(*) from a"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if n := ask[int](t, conn, "select count(*) from lotse.migrations where applied_at is not null and trying = 0"); n != 4 {
		t.Errorf("%d of 4 files are recorded", n)
	}
	files["m/5_c.sql"] = &fstest.MapFile{Data: []byte("insert into a values (3);\ninsert into a values (4);\n\ncreate unique index concurrently once on a (n);\ninsert into a values (5);")}
	fails(t, dsn, files, "m/5_c.sql:4:1: could not create unique index \"once\" (23505)", "statement 3 of 4 failed, statements 1 to 2 stay, and the next run goes on from there")
	if n := ask[int](t, conn, "select count(*) from pg_class where relname = 'once'"); n != 0 {
		t.Error("an index that is not valid is left")
	}
	fails(t, dsn, files, "statement 3 of 4 failed")
	files["m/5_c.sql"] = &fstest.MapFile{Data: []byte("insert into a values (30);\ninsert into a values (4);\n\ncreate index concurrently once on a (n);\ninsert into a values (5);")}
	fails(t, dsn, files, "m/5_c.sql: its first 2 statements ran already, and the file has changed there")
	files["m/5_c.sql"] = &fstest.MapFile{Data: []byte("insert into a values (3);\ninsert into a values (4);\n\ncreate index concurrently once on a (n);\ninsert into a values (5);\nselect 1 x y;")}
	fails(t, dsn, files, "m/5_c.sql:6:12: syntax error")
	files["m/5_c.sql"] = &fstest.MapFile{Data: []byte("insert into a values (3);\ninsert into a values (4);\n\ncreate index concurrently once on a (n);\ninsert into a values (5);\n")}
	if got := migrate(t, dsn, files); !slices.Equal(got.Applied, []string{"5_c.sql"}) {
		t.Errorf("%+v", got)
	}
	if n := ask[string](t, conn, "select string_agg(n::text, ',' order by n) from a"); n != "1,1,2,3,4,5" {
		t.Errorf("rows %s: a statement ran twice, or not at all", n)
	}
}

// What stands in the way of a statement that runs bare: it exists for a reason of its own, and that is an error each time.
func TestIndexThatSomebodyElseMade(t *testing.T) {
	dsn := database(t)
	files := folder("1_a.sql", "create table a (n int); create index i on a (n);", "2_b.sql", "create index concurrently i on a (n);")
	for range 3 {
		fails(t, dsn, files, "m/2_b.sql:1:1: relation \"i\" already exists (42P07)")
	}
}

// A run that died while an index was built has left one that is not valid, or one that is: both end in one that is.
func TestDeathOfAConcurrentBuild(t *testing.T) {
	for name, index := range map[string]string{"before its end": "update pg_index set indisvalid = false where indexrelid = 'i'::regclass", "after its end": "select 1"} {
		t.Run(name, func(t *testing.T) {
			dsn := database(t)
			files := folder("1_a.sql", "create table a (n int);", "2_b.sql", "-- lotse:no-transaction\ncreate index concurrently if not exists i on a (n);\nvacuum;")
			migrate(t, dsn, folder("1_a.sql", "create table a (n int);"))
			f, err := read(files, "m")
			if err != nil {
				t.Fatal(err)
			}
			conn := dial(t, dsn.Reveal())
			b := book{table: "lotse.migrations"}
			if err := errors.Join(b.begun(t.Context(), conn, f[1]), b.trying(t.Context(), conn, f[1], 1)); err != nil {
				t.Fatal(err)
			}
			execute(t, conn, "create index i on a (n)")
			execute(t, admin(t, dsn), index)
			migrate(t, dsn, files)
			if !ask[bool](t, conn, "select indisvalid from pg_index where indexrelid = 'i'::regclass") {
				t.Error("the index is not valid")
			}
		})
	}
}

// gate is a file that stops in the middle as long as the table closed is there.
const gate = `create table half (n int);
insert into half values (1);
do $$ begin
  while to_regclass('public.closed') is not null loop perform pg_sleep(0.02); end loop;
end $$;
insert into half values (2);`

func stuck(t *testing.T, conn *pgx.Conn) (pid int) {
	t.Helper()
	eventually(t, "the file stops in the middle", func() bool {
		err := conn.QueryRow(within(t), "select pid from pg_stat_activity where application_name = 'lotse migrate' and datname = current_database() and wait_event = 'PgSleep'").Scan(&pid)
		return err == nil
	})
	return pid
}

// The server's process is killed in the middle of a file: nothing stays, and the next run does the whole.
func TestKilledBackend(t *testing.T) {
	dsn := database(t)
	conn := admin(t, dsn)
	files := folder("1_a.sql", "create table a ();", "2_half.sql", gate)
	execute(t, conn, "create table closed ()")
	ended := make(chan error, 1)
	go func() {
		_, err := quick().Migrate(context.Background(), dsn, files, "m")
		ended <- err
	}()
	ask[bool](t, conn, "select pg_terminate_backend($1)", stuck(t, conn))
	err := <-ended
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "m/2_half.sql") || deploy.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, deploy.HintOf(err))
	}
	finishes(t, dsn, conn, files)
}

func finishes(t *testing.T, dsn secret.Text, conn *pgx.Conn, files fstest.MapFS) {
	t.Helper()
	if there := ask[*string](t, conn, "select to_regclass('public.half')::text"); there != nil {
		t.Error("a part of the file stays")
	}
	execute(t, conn, "drop table closed")
	if got := migrate(t, dsn, files); !slices.Equal(got.Applied, []string{"2_half.sql"}) || got.Before != 1 {
		t.Errorf("the next run: %+v", got)
	}
	if rows := ask[string](t, conn, "select string_agg(n::text, ',' order by n) from half"); rows != "1,2" {
		t.Errorf("rows %s", rows)
	}
}

// Lotse itself gets kill -9 in the middle of a file: the server notices, and the next run goes on.
func TestKilledMigrator(t *testing.T) {
	dsn := database(t)
	conn := admin(t, dsn)
	files := folder("1_a.sql", "create table a ();", "2_half.sql", gate)
	execute(t, conn, "create table closed ()")
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+dir, "DATABASE_URL="+dsn.Reveal())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := stuck(t, conn)
	if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "the server notices", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where pid = $1", pid) == 0
	})
	t.Logf("the server noticed within %s", time.Since(begun).Round(time.Millisecond))
	finishes(t, dsn, conn, files)
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// A cancel ends the statement in the server too.
func TestCancel(t *testing.T) {
	dsn := database(t)
	conn := admin(t, dsn)
	files := folder("1_a.sql", "create table a ();", "2_half.sql", gate)
	execute(t, conn, "create table closed ()")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := quick().Migrate(ctx, dsn, files, "m")
		ended <- err
	}()
	pid := stuck(t, conn)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "m/2_half.sql") {
		t.Errorf("%v", err)
	}
	eventually(t, "the statement ends", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where pid = $1", pid) == 0
	})
	finishes(t, dsn, conn, files)
}

// Ten at once, with an index that is built concurrently among the files, which waits for whoever holds a snapshot.
func TestTenAtOnce(t *testing.T) {
	dsn := database(t)
	files := folder("1_a.sql", "create table a (n int); insert into a values (1);", "2_b.sql", "create index concurrently i on a (n);", "3_c.sql", "insert into a values (2);")
	var callers sync.WaitGroup
	var mu sync.Mutex
	applied := 0
	for range 10 {
		callers.Go(func() {
			done, err := quick().Migrate(within(t), dsn, files, "m")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied += len(done.Applied)
		})
	}
	callers.Wait()
	if n := ask[int](t, dial(t, dsn.Reveal()), "select count(*) from a"); n != 2 || applied != 3 {
		t.Errorf("%d rows, %d files applied", n, applied)
	}
}

// A table that somebody has locked is not waited for as long as others would wait behind; who holds it for a moment is waited for.
func TestLockedTable(t *testing.T) {
	dsn := database(t)
	migrate(t, dsn, folder("1_a.sql", "create table a (n int);"))
	holder := dial(t, dsn.Reveal())
	execute(t, holder, "begin", "select * from a")
	files := folder("1_a.sql", "create table a (n int);", "2_b.sql", "create table b ();\nalter table a add column m int;")
	_, err := fails(t, dsn, files, "m/2_b.sql:2:1: canceling statement due to lock timeout (55P03)", "nothing of this file stays")
	if deploy.HintOf(err) == "" {
		t.Error("no hint")
	}
	free := make(chan error, 1)
	go func() {
		err := pause(t.Context(), 150*time.Millisecond)
		_, err2 := holder.Exec(t.Context(), "commit")
		free <- errors.Join(err, err2)
	}()
	migrate(t, dsn, files)
	if err := <-free; err != nil {
		t.Error(err)
	}
}

// A statement that takes too long with its locks is ended, unless the file says how long it may take; and nothing that a file sets
// is there in the next.
func TestTimeAndSettings(t *testing.T) {
	dsn := database(t)
	m := quick()
	m.Most = 300 * time.Millisecond
	_, err := m.Migrate(within(t), dsn, folder("1_a.sql", "select pg_sleep(5);"), "m")
	if !errors.Is(err, deploy.ErrMigration) || !strings.Contains(err.Error(), "57014") || deploy.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, deploy.HintOf(err))
	}
	execute(t, admin(t, dsn), "create role other"+dbNumber(dsn)+" nologin", "grant other"+dbNumber(dsn)+" to "+dbName(dsn))
	files := folder("1_a.sql", "set local statement_timeout = '1min'; select pg_sleep(0.5); select set_config('search_path', '', false);",
		"2_b.sql", "set role other"+dbNumber(dsn)+"; select 1;", "3_c.sql", "set search_path = pg_catalog; create table public.t ();\nvacuum;", "4_d.sql", "create table u ();")
	if _, err := m.Migrate(within(t), dsn, files, "m"); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](t, dial(t, dsn.Reveal()), "select count(*) from pg_tables where schemaname = 'public' and tablename in ('t', 'u')"); n != 2 {
		t.Errorf("%d of 2 tables are where they belong", n)
	}
}

func dbName(dsn secret.Text) string {
	config, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil {
		panic("the URL is no URL")
	}
	return config.Database
}

func dbNumber(dsn secret.Text) string { return strings.TrimPrefix(dbName(dsn), "db") }

// A role that may not make a schema keeps its record in the schema that it has, closed to whom that is published.
func TestLeastPrivilege(t *testing.T) {
	dsn := database(t)
	su := admin(t, dsn)
	execute(t, su, "alter database "+dbName(dsn)+" owner to postgres", "grant connect on database "+dbName(dsn)+" to "+dbName(dsn),
		"alter schema public owner to "+dbName(dsn))
	files := folder("1_a.sql", "create table a ();")
	migrate(t, dsn, files)
	if got := migrate(t, dsn, files); got.Before != 1 {
		t.Errorf("%+v", got)
	}
	if !ask[bool](t, su, "select relrowsecurity from pg_class where oid = 'public.lotse_migrations'::regclass") {
		t.Error("the record is open to whom the schema is published")
	}
	// With more rights later, it stays where it is.
	execute(t, su, "grant create on database "+dbName(dsn)+" to "+dbName(dsn))
	if got := migrate(t, dsn, files); got.Before != 1 {
		t.Errorf("%+v", got)
	}
	// Without any right: an error that says so.
	bare := database(t)
	execute(t, admin(t, bare), "alter database "+dbName(bare)+" owner to postgres", "grant connect on database "+dbName(bare)+" to "+dbName(bare), "revoke create on schema public from public")
	fails(t, bare, files, "permission denied")
}

// Nothing of the address is told, and none is dialled in plain text beyond this machine.
func TestAddress(t *testing.T) {
	files := folder("1_a.sql", "select 1;")
	dsn := database(t)
	for name, c := range map[string]struct {
		url  string
		want error
		says string
	}{
		"wrong password": {strings.Replace(dsn.Reveal(), "@", "x@", 1), deploy.ErrBadInput, "28P01"},
		"no database":    {strings.Replace(dsn.Reveal(), "/"+dbName(dsn)+"?", "/nowhere?", 1), deploy.ErrBadInput, "3D000"},
		"no URL":         {"postgres://hunter2:hunter2@[", deploy.ErrBadInput, "not an address of PostgreSQL"},
		"nobody":         {"postgres://hunter2:hunter2@127.0.0.1:1/hunter2?sslmode=disable", deploy.ErrUnavailable, "nothing listens there"},
		"no host":        {"postgres://hunter2:hunter2@hunter2.invalid/hunter2?sslmode=require", deploy.ErrUnavailable, "cannot be reached"},
		"plain text":     {"postgres://hunter2:hunter2@hunter2.invalid/hunter2?sslmode=disable", deploy.ErrBadInput, "without TLS"},
		"no authority":   {strings.Replace(dsn.Reveal(), "authority.pem", "hunter2", 1), deploy.ErrBadInput, ""},
	} {
		_, err := quick().Migrate(within(t), secret.New(c.url), files, "m")
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && name != "no authority" && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), dbName(dsn))) {
			t.Errorf("%s: a part of the address is told: %v", name, err)
		}
	}
}
