package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// judgement asks about files that may need a PostgreSQL of this machine.
func judgement(t *testing.T, q deploy.MigrationQuestion) deploy.Judgement {
	t.Helper()
	j, err := quick().Judge(within(t), q)
	if err != nil {
		t.Fatalf("%v (%s)", err, deploy.HintOf(err))
	}
	return j
}

func said(f deploy.JudgedFile) (rules []string) {
	for _, v := range f.Verdicts {
		rules = append(rules, fmt.Sprintf("%d %s %s", v.Line, v.Rule, v.Class))
	}
	return rules
}

// A real database is cloned and nothing of it is changed; what is large in it counts, what is small does not.
func TestJudgeLeavesTheDatabaseAlone(t *testing.T) {
	dsn := database(t)
	boss := admin(t, dsn)
	execute(t, boss, "create extension pgcrypto")
	files := folder("1_a.sql", "create table big (n int); create table small (n int); insert into big select generate_series(1, 30000); insert into small values (1); analyze")
	migrate(t, dsn, files)
	execute(t, boss, "create table closed (n int)")
	files["m/2_b.sql"] = &fstest.MapFile{Data: []byte("create index on big (n);\ncreate index on small (n);\n\n-- lotse:allow drop-column nobody reads it\nalter table big drop column more;")}
	files["m/3_c.sql"] = &fstest.MapFile{Data: []byte("drop table by_hand;")}
	conn := dial(t, dsn.Reveal())
	execute(t, conn, "create table by_hand (n int)", "alter table big add column more text")
	const state = "select md5(string_agg(t::text, ',' order by t::text)) from (select c::text from pg_class c where relname !~ '^pg_toast' and relnamespace <> 'pg_catalog'::regnamespace union all select a::text from pg_attribute a where attrelid >= 16384 union all select m::text from lotse.migrations m) t"
	before := ask[string](t, conn, state)
	j := judgement(t, deploy.MigrationQuestion{URL: dsn, Files: files, Dir: "m"})
	if after := ask[string](t, conn, state); after != before {
		t.Error("judging has changed the database")
	}
	if len(j.Files) != 2 || j.Schema != "a dump of the database's schema" || !slices.Equal(j.Lacks, []string{"the table public.closed, which the role may not read"}) || j.Took <= 0 {
		t.Fatalf("%+v", j)
	}
	if got := said(j.Files[0]); !slices.Equal(got, []string{"1 build-index dangerous", "5 drop-column contract", "2 build-index expand"}) {
		t.Errorf("the first is %v", got)
	}
	if v := j.Files[0].Verdicts[0]; j.Files[0].Class() != deploy.Dangerous || !strings.Contains(v.Reason, "about 30000 rows") || v.Lock != "SHARE" || v.Safer == "" {
		t.Errorf("the first is %+v", v)
	}
	if v := j.Files[0].Verdicts[1]; v.Allowed != "nobody reads it" {
		t.Errorf("what is allowed is %+v", v)
	}
	if j.Files[1].Class() != deploy.Contract || j.Files[1].Why().Rule != "drop-table" || !slices.Equal(j.Files[1].Locks, []string{"ACCESS EXCLUSIVE on by_hand"}) {
		t.Errorf("the second is %+v", j.Files[1])
	}
	migrate(t, dsn, files)
	if j := judgement(t, deploy.MigrationQuestion{URL: dsn, Files: files, Dir: "m"}); len(j.Files) != 0 {
		t.Errorf("when all has run: %+v", j)
	}
}

// Where the database cannot be reached, the files that ran make the schema, and the judgement says so. What goes before what waits is found out.
func TestJudgeWithoutTheDatabase(t *testing.T) {
	database(t) // or it is not run
	files := folder("1_a.sql", "create table people (n int, old text);", "2_b.sql", "create role somebody; create extension nowhere;",
		"3_drop.sql", "alter table people drop column old;", "4_free.sql", "create table other (n int);", "5_writes.sql", "insert into people values (1);", "6_same.sql", "alter table people add column old int;")
	j := judgement(t, deploy.MigrationQuestion{URL: secret.New("postgres://nobody@127.0.0.1:1/x"), Files: files, Dir: "m", Ran: []string{"1_a.sql", "2_b.sql"}})
	if !strings.HasPrefix(j.Schema, "the files that ran before, since the database cannot be reached") || !slices.Equal(j.Lacks, []string{"what 2_b.sql makes"}) {
		t.Errorf("%+v", j)
	}
	var needs []string
	for _, f := range j.Files {
		needs = append(needs, fmt.Sprint(f.Name, " ", f.Class(), " ", f.Needs))
	}
	if want := []string{"3_drop.sql contract []", "4_free.sql expand []", "5_writes.sql expand [3_drop.sql]", "6_same.sql expand [3_drop.sql]"}; !slices.Equal(needs, want) {
		t.Errorf("%q\n want %q", needs, want)
	}
}

// What cannot run is found out before, and told from what cannot be tried here. A file may not do more here than in the database.
func TestJudgeOfWhatFails(t *testing.T) {
	dsn := database(t)
	for text, says := range map[string]string{
		"create table a (n int);\ncreate tabel b ();":                 "m/1_a.sql:2:8: syntax error",
		"create table a (n int);\nalter table a drop column missing;": "m/1_a.sql:2:1: column \"missing\" of relation \"a\" does not exist (42703); found on a clone",
		"-- lotse:allow everything because I say so\nselect 1;":       "names no rule that there is",
		"-- lotse:allow truncate\nselect 1;":                          "lotse:allow truncate says no reason",
	} {
		_, err := quick().Judge(within(t), deploy.MigrationQuestion{URL: dsn, Files: folder("1_a.sql", text), Dir: "m"})
		if !errors.Is(err, deploy.ErrMigration) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	j := judgement(t, deploy.MigrationQuestion{URL: dsn, Files: folder("1_a.sql", "copy (select 1) to program 'touch /dev/null';"), Dir: "m"})
	if got := said(j.Files[0]); !slices.Equal(got, []string{"1 not-judged dangerous"}) || !strings.Contains(j.Files[0].Verdicts[0].Reason, "42501") {
		t.Errorf("a program of the machine is %+v", j.Files[0])
	}
}

// A project of Supabase is judged with what every project has.
func TestJudgeSupabase(t *testing.T) {
	database(t)
	text := `create table public.profiles (id uuid primary key references auth.users on delete cascade, name text);
		alter table profiles enable row level security;
		create policy own on profiles for select to authenticated using (auth.uid() = id or auth.role() = 'service_role' or auth.jwt() ->> 'x' = 'y');
		create function public.joined() returns trigger language plpgsql security definer as $$ begin insert into public.profiles (id) values (new.id); return new; end $$;
		create trigger joined after insert on auth.users for each row execute function public.joined();
		grant select on profiles to anon, authenticated, service_role; alter function joined() owner to postgres; revoke all on function joined() from supabase_admin;
		create extension if not exists pgcrypto with schema extensions; alter publication supabase_realtime add table profiles;
		insert into storage.buckets (id, name) values ('a', 'a');
		create policy up on storage.objects for insert to authenticated with check (bucket_id = 'a' and (storage.foldername(name))[1] = auth.uid()::text);`
	j := judgement(t, deploy.MigrationQuestion{Files: fstest.MapFS{"supabase/migrations/20260101000000_a.sql": {Data: []byte(text)}}, Dir: "supabase/migrations"})
	if len(j.Files) != 1 || j.Files[0].Class() != deploy.Expand {
		t.Errorf("%+v", j)
	}
}

// Who is killed while it judges leaves a cluster; the next one removes it.
func TestKilledJudge(t *testing.T) {
	database(t)
	temp := t.TempDir() // the test's own: others judge at the same time
	if len(temp) > 60 {
		temp = "/tmp/jt" + fmt.Sprint(os.Getpid())
		if err := os.Mkdir(temp, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(temp) })
	}
	for dir := temp; len(dir) > 5; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // of the test's own; PostgreSQL's user must come in
	}
	t.Setenv("TMPDIR", temp)
	files := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(files, "m"), 0o755), os.WriteFile(filepath.Join(files, "m", "1_a.sql"), []byte("select pg_sleep(50);"), 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+files, "LOTSE_TEST_JUDGE=1")
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := func() []string {
		found, _ := filepath.Glob(filepath.Join(temp, scratchPrefix+"*"))
		return found
	}
	eventually(t, "the judge works", func() bool {
		sockets, _ := filepath.Glob(filepath.Join(temp, scratchPrefix+"*", "c", "run", ".s.PGSQL.5432"))
		return len(sockets) == 1
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if len(left()) != 1 {
		t.Fatalf("it has left %v", left())
	}
	sweep(within(t))
	if len(left()) != 0 {
		t.Errorf("after the next one there is %v", left())
	}
}

// A cancel ends judging soon, and nothing is left of it.
func TestJudgeIsCancelled(t *testing.T) {
	database(t)
	ctx, cancel := context.WithTimeout(within(t), 3*time.Second)
	defer cancel()
	_, err := quick().Judge(ctx, deploy.MigrationQuestion{Files: folder("1_a.sql", "select pg_sleep(50);"), Dir: "m"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v", err)
	}
}

func TestSpoken(t *testing.T) {
	for sql, want := range map[string]string{
		"TRUNCATE people":                                                   "truncate",
		"delete from people":                                                "delete-all-rows",
		"delete from people where id = 1":                                   "",
		"update people set a = 'where'":                                     "update-all-rows",
		"update people set a = 1 -- where\n":                                "update-all-rows",
		"update people set a = (select 1 from b where b.id = 2)":            "update-all-rows",
		"with old as (select 1 where true) delete from people":              "delete-all-rows",
		"insert into a values ('delete from b')":                            "",
		"insert into a values (1) on conflict (n) do update set n = 2":      "",
		"lock table people":                                                 "lock-table",
		"lock people in access share mode":                                  "",
		"do $x$ begin if true then update p set a = 1; end if; end $x$":     "update-all-rows",
		"do $$ begin update p set a = 1 where b; end $$":                    "",
		"create function f() returns void language sql as $$ truncate x $$": "",
	} {
		if got := strings.Join(spoken(sql), " "); got != want {
			t.Errorf("%s is %q, want %q", sql, got, want)
		}
	}
}

func TestWidens(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"integer", "bigint"}: true, {"bigint", "integer"}: false, {"character varying(5)", "text"}: true, {"character varying(5)", "character varying(9)"}: true,
		{"character varying(9)", "character varying(5)"}: false, {"text", "character varying(5)"}: false, {"numeric(5,2)", "numeric(7,2)"}: true, {"numeric(5,2)", "numeric(5,3)"}: false,
		{"numeric", "numeric(5,2)"}: false, {"timestamp with time zone", "timestamp without time zone"}: false, {"text", "uuid"}: false,
	} {
		if widens(pair[0], pair[1]) != want {
			t.Errorf("%v is %v", pair, !want)
		}
	}
}
