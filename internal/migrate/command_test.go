package migrate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// sent is a command that sends files with psql and notes itself which it has sent, as the tools of teams do.
func sent(dsn secret.Text, dir string) deploy.MigrationCommand {
	return deploy.MigrationCommand{Line: "sh migrate", Run: func(ctx context.Context, instead []deploy.Setting) error {
		return shell(ctx, append([]deploy.Setting{{Name: deploy.DatabaseURL, Value: dsn}}, instead...), "sh", "-c", sends, "sh", dir)
	}}
}

const sends = `set -eu
psql -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -c 'create table if not exists pgmigrations (name text primary key)' 2>/dev/null
for f in "$1"/*.sql; do
	if [ "$(psql -qXAt "$DATABASE_URL" -c "select count(*) from pgmigrations where name = '${f##*/}'")" = 0 ]; then
		psql -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -f "$f" -c "insert into pgmigrations values ('${f##*/}')"
	fi
done
`

// shell runs a command as an engine does.
func shell(ctx context.Context, settings []deploy.Setting, argv ...string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	for _, s := range settings {
		c.Env = append(c.Env, s.Name+"="+s.Value.Reveal())
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &deploy.ExitError{Command: argv[0], Code: exit.ExitCode(), Tail: strings.Split(strings.TrimSpace(out.String()), "\n")}
	}
	return err
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func commandJudged(t *testing.T, dsn secret.Text, c deploy.MigrationCommand) deploy.Judgement {
	t.Helper()
	return judgement(t, deploy.MigrationQuestion{URL: dsn, Command: &c})
}

// A command is judged by what the server has seen of it, transaction by transaction, and changes nothing of the database.
func TestJudgeCommand(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN without LOTSE_PROVE: every class of what a command does; TestCommandIsLedAside judges one")
	}
	dsn, dir := database(t), t.TempDir()
	command := sent(dsn, dir)
	put(t, dir, "1.sql", `create table people (id int primary key, name text, note text, age int); create table orders (id int); create table kept (id int);
		insert into people select n, 'a' from generate_series(1, 20000) n;`)
	if _, err := quick().Run(within(t), dsn, command); err != nil {
		t.Fatal(err)
	}
	execute(t, admin(t, dsn), "analyze")
	if j := commandJudged(t, dsn, command); len(j.Files) != 0 {
		t.Errorf("nothing is new, and it says %+v", j.Files)
	}
	put(t, dir, "2.sql", `alter table people add phone text;
begin; alter table kept add more int; drop table kept; rollback;
begin; alter table people add level int; create index people_age on people (age); commit;
alter table people drop column note;
create index concurrently people_name on people (name);
begin; update people set name = 'secret@example.com 4711'; commit;
begin; alter table orders alter id type bigint; drop table orders; commit;
`)
	j := commandJudged(t, dsn, command)
	var got []string
	for _, f := range j.Files {
		for _, v := range f.Verdicts {
			got = append(got, v.Says+": "+v.Rule+" "+string(v.Class))
			if v.Line != 0 || !strings.HasPrefix(f.Name, "sh migrate, transaction ") {
				t.Errorf("%+v", f)
			}
		}
	}
	want := []string{"create index people_age on people: build-index dangerous", "alter table people drop column note: drop-column contract",
		"update people set name: update-all-rows dangerous", "drop table orders: drop-table contract", "alter table orders alter id type bigint: rewrite-table expand"}
	if !slices.Equal(got, want) {
		t.Errorf("it is %q, want %q", got, want)
	}
	if n := ask[int](t, dial(t, dsn.Reveal()), "select count(*) from pgmigrations"); n != 1 {
		t.Errorf("judging has run %d migrations in the database itself", n-1)
	}
}

// For the time of a judgement no setting leads to the database itself.
func TestCommandIsLedAside(t *testing.T) {
	address := secret.New("postgres://shop:battery@db.example.com:6543/shop")
	given := []deploy.Setting{}
	for name, value := range map[string]string{"DATABASE_URL": address.Reveal(), "DIRECT_URL": "postgresql://other:staple@db.example.com/shop", "DB_HOST": "db.example.com", "DB_PORT": "6543", "DB_PASS": "battery",
		"PGHOST": "db.example.com", "REDIS_URL": "redis://127.0.0.1", "NODE_ENV": "production"} {
		given = append(given, deploy.Setting{Name: name, Value: secret.New(value)})
	}
	c := &clone{question: deploy.MigrationQuestion{URL: address, Command: &deploy.MigrationCommand{Settings: given}}, scratch: &scratch{role: "shop", key: "k"}}
	for _, s := range given {
		now := s.Value.Reveal()
		for _, o := range c.instead(4711) {
			if o.Name == s.Name {
				now = o.Value.Reveal()
			}
		}
		kept := s.Name == "REDIS_URL" || s.Name == "NODE_ENV"
		leads := strings.Contains(now, "example.com") || strings.Contains(now, "6543") || strings.Contains(now, "battery") || strings.Contains(now, "staple")
		if leads || kept != (now == s.Value.Reveal()) {
			t.Errorf("%s is %q", s.Name, now)
		}
	}
}

// A command runs under the lock of all migrations and with their limits; what stands when it fails is named, without rows, and the next
// run goes on.
func TestRunCommand(t *testing.T) {
	dsn, dir := database(t), t.TempDir()
	command := sent(dsn, dir)
	conn := dial(t, dsn.Reveal())
	put(t, dir, "1.sql", `create table seen as select current_setting('lock_timeout') as lock, current_setting('statement_timeout') as most,
		(select count(*) from pg_locks where locktype = 'advisory') as locks;`)
	done, err := quick().Run(within(t), dsn, command)
	if err != nil || done.Resumed || !slices.Contains(done.Changed, "table seen is new") {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := ask[string](t, conn, "select lock || ' ' || most || ' ' || locks from seen"); got != "100ms 15min 1" {
		t.Errorf("the command ran with %s", got)
	}
	put(t, dir, "2.sql", `create table people (mail text); insert into people values ('eve@example.com'), ('eve@example.com');
		create unique index concurrently once on people (mail);`)
	done, err = quick().Run(within(t), dsn, command)
	if !errors.Is(err, deploy.ErrMigration) {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, want := range []string{"exit code 3", "table people is new", "not valid, and to be dropped: index once", "could not create unique index", "the next run goes on"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "eve@") {
		t.Errorf("a row is repeated: %v", err)
	}
	execute(t, conn, "delete from people", "drop index once")
	put(t, dir, "2.sql", "create unique index concurrently once on people (mail);")
	if done, err = quick().Run(within(t), dsn, command); err != nil || !done.Resumed || !slices.Contains(done.Changed, "index once is new") {
		t.Errorf("the run after it: %+v, %v", done, err)
	}
	if done, err = quick().Run(within(t), dsn, command); err != nil || done.Resumed || len(done.Changed) > 0 {
		t.Errorf("the run after that: %+v, %v", done, err)
	}
}

// Killed in the middle of a command, the next run says so and goes on; while one runs, another waits.
func TestKilledCommand(t *testing.T) {
	dsn, dir := database(t), t.TempDir()
	conn := dial(t, dsn.Reveal())
	put(t, dir, "1.sql", "create table first (n int);")
	put(t, dir, "2.sql", "begin; create table half (n int); select pg_sleep(600); commit;")
	killed := exec.CommandContext(t.Context(), os.Args[0])
	killed.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killed.Env = append(os.Environ(), victim+"="+dir, "LOTSE_TEST_COMMAND=1", "DATABASE_URL="+dsn.Reveal())
	command := sent(dsn, dir)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second of its files runs", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()") == 1
	})
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { _, err := quick().Run(ctx, dsn, command); waits <- err }()
	eventually(t, "the other waits", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where application_name = 'lotse migrate' and datname = current_database()") == 2
	})
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("who waits ends with %v", err)
	}
	if err := syscall.Kill(-killed.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed
	eventually(t, "the server has ended what it began", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()") == 0
	})
	put(t, dir, "2.sql", "create table half (n int);")
	done, err := quick().Run(within(t), dsn, command)
	if err != nil || !done.Resumed || !slices.Equal(done.Changed, []string{"column half.n is new", "table half is new"}) {
		t.Errorf("%+v, %v", done, err)
	}
}

// What the clients of PostgreSQL print of rows goes into no error.
func TestOutputWithoutRows(t *testing.T) {
	for line, kept := range map[string]bool{
		`ERROR:  could not create unique index "once"`: true, "    at async migrate (file.js:1:2)": true, "Applying 0001_people": true, "code: '22P02',": true,
		"DETAIL:  Key (mail)=(eve@example.com) is duplicated.": false, "  detail: 'Key (mail)=(eve@example.com)'": false, `invalid input syntax for type integer: "eve@example.com"`: false,
		`Failing row contains (1, eve@example.com).`: false, `invalid input value for enum mood: "eve@example.com"`: false, "params: [ 'eve@example.com' ]": false,
		`value "99999999999" is out of range for type integer`: false, "insert into people values ('eve@example.com')": false, `malformed array literal: "eve@example.com"`: false,
	} {
		if got := withoutRows([]string{line})[0] == line; got != kept {
			t.Errorf("%q is kept: %v", line, got)
		}
	}
}
