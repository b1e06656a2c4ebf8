package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/secret"
)

// One running cluster for all that only talks to it.
func TestDatabases(t *testing.T) {
	c := madeCluster(t)
	c.Port = freePort(t)
	log := &output{}
	start(t, c, log)
	var told []error // every error that was seen
	t.Run("ten callers make the same one", func(t *testing.T) { testTenCallers(t, c) })
	t.Run("nobody enters another's", func(t *testing.T) { told = append(told, testNobodyEntersAnothers(t, c)...) })
	t.Run("the superuser is for its own", func(t *testing.T) { told = append(told, testSuperuser(t, c)...) })
	t.Run("a changed password is given back", func(t *testing.T) { testChangedPassword(t, c) })
	t.Run("dropped while in use", func(t *testing.T) { testDrop(t, c) })
	t.Run("over the socket alone", func(t *testing.T) { testSocketOnly(t, c) })
	t.Run("no value is logged", func(t *testing.T) { testNoValueIsLogged(t, c, log) })
	t.Run("no password is told", func(t *testing.T) { testNoPasswordIsTold(t, c, log, told) })
}

func create(t *testing.T, c Cluster, name string) secret.Text {
	t.Helper()
	dsn, err := c.CreateDatabase(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

func testTenCallers(t *testing.T, c Cluster) {
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			if _, err := c.CreateDatabase(bounded(t), "many"); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	execute(t, open(t, create(t, c, "many")), "create table t ()")
}

// code is the SQLSTATE of err.
func code(err error) string {
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return told.Code
	}
	return ""
}

func testNobodyEntersAnothers(t *testing.T, c Cluster) []error {
	one, two := create(t, c, "stage_one"), create(t, c, "stage_two")
	_, denied := pgx.Connect(bounded(t), strings.Replace(one.Reveal(), "/stage_one?", "/stage_two?", 1))
	if code(denied) != "42501" { // insufficient privilege
		t.Errorf("stage_one enters stage_two: %v", denied)
	}
	wrong, err := url.Parse(two.Reveal())
	if err != nil {
		t.Fatal("the DSN is no URL")
	}
	wrong.User = url.UserPassword("stage_two", "guessed")
	_, refused := pgx.Connect(bounded(t), wrong.String())
	if code(refused) != "28P01" { // invalid password
		t.Errorf("a wrong password: %v", refused)
	}
	if mighty := ask[bool](t, open(t, one), "select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls from pg_roles where rolname = current_user"); mighty {
		t.Error("the role of a database may do more than its own")
	}
	return []error{denied, refused}
}

func testSuperuser(t *testing.T, c Cluster) []error {
	_, overNetwork := pgx.Connect(bounded(t), strings.Replace(c.Admin("postgres"), c.socketDir(), "127.0.0.1", 1))
	if code(overNetwork) != "28000" {
		t.Errorf("the superuser over the network: %v", overNetwork)
	}
	t.Run("a stranger on the socket", func(t *testing.T) {
		needRoot(t, "that the superuser refuses another user of the machine")
		stranger, err := lookUp(ordinary)
		if err != nil {
			t.Skipf("NOT RUN: %v", err)
		}
		b, err := Find()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(bounded(t), filepath.Join(b.Dir, "psql"), "-c", "select 1", c.Admin("postgres"))
		cmd.Dir, cmd.Env = "/", []string{"LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger.UID, Gid: stranger.GID}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Peer authentication failed") {
			t.Errorf("psql as %s: %v\n%s", ordinary, err, out)
		}
	})
	return []error{overNetwork}
}

func testChangedPassword(t *testing.T, c Cluster) {
	create(t, c, "changed")
	execute(t, admin(t, c, "postgres"), "alter role changed password 'something else'")
	open(t, create(t, c, "changed"))
}

func testDrop(t *testing.T, c Cluster) {
	conn := open(t, create(t, c, "thrown_away"))
	execute(t, conn, "create table t ()")
	if err := errors.Join(c.DropDatabase(bounded(t), "thrown_away"), c.DropDatabase(bounded(t), "thrown_away")); err != nil {
		t.Fatal(err)
	}
	left := ask[int](t, admin(t, c, "postgres"), "select (select count(*) from pg_database where datname = 'thrown_away') + (select count(*) from pg_roles where rolname = 'thrown_away')")
	if left != 0 {
		t.Error("the database or its role is left")
	}
}

func testSocketOnly(t *testing.T, c Cluster) {
	c.Port = 0 // as the apps of a cluster without a port get it; this one's socket bears its port
	dsn, err := c.DSN("x")
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil || config.Host != c.socketDir() || config.Port != socketPort || config.User != "x" || config.Database != "x" {
		t.Errorf("the DSN leads to %s:%d, %v", config.Host, config.Port, err)
	}
}

// Every way by which PostgreSQL might log a value, each with a value that can be found again.
func testNoValueIsLogged(t *testing.T, c Cluster, log *output) {
	const value = "erika-mustermann-4711"
	dsn := create(t, c, "private")
	conn := open(t, dsn)
	execute(t, conn, "create table people (email text primary key, age int check (age > 0)); create table n (i int)")
	execute(t, conn, "insert into people values ('"+value+"', 1)")
	for _, sql := range []string{
		"insert into people values ('" + value + "', 2)",      // DETAIL: Key (email)=(…) already exists
		"insert into people values ('" + value + "x', -1)",    // DETAIL: Failing row contains (…)
		"select '" + value + "'::int",                         // ERROR: invalid input syntax for type integer: "…"
		"select '" + value + "' from nowhere",                 // STATEMENT: …
		"do $$ begin raise exception '" + value + "'; end $$", // ERROR: …
		"do $$ begin raise warning '" + value + "'; end $$",
		"set log_statement_stats = '" + value + "'",
	} {
		if _, err := conn.Exec(bounded(t), sql); err == nil && !strings.Contains(sql, "warning") {
			t.Errorf("%s: no error, so that nothing is proven", sql)
		}
	}
	if _, err := conn.Exec(bounded(t), "insert into people values ($1, $2)", value, 3); err == nil {
		t.Error("no error, so that nothing is proven")
	}
	crashWhile(t, c, dsn, log, "select pg_sleep(1000), '"+value+"'") // DETAIL: Failed process was running: …
	if text := log.String(); strings.Contains(text, value) {
		t.Errorf("a value was logged:\n%s", text)
	} else if !strings.Contains(text, "terminated by signal") {
		t.Errorf("the log does not even say that a process crashed:\n%s", text)
	}
}

// crashWhile lets a backend crash in a statement, by which the server ends, and starts it again.
func crashWhile(t *testing.T, c Cluster, dsn secret.Text, log *output, sql string) {
	t.Helper()
	conn := open(t, dsn)
	pid := ask[int](t, conn, "select pg_backend_pid()")
	go conn.Exec(context.Background(), sql)
	watcher := admin(t, c, "postgres")
	eventually(t, "the statement runs", func() bool {
		return ask[int](t, watcher, "select count(*) from pg_stat_activity where query like '%pg_sleep(1000)%' and wait_event = 'PgSleep'") == 1
	})
	if err := syscall.Kill(pid, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server ends", func() bool { return errors.Is(c.Ready(bounded(t)), ErrNotRunning) && len(processesIn(c.data())) == 0 })
	start(t, c, log)
}

func testNoPasswordIsTold(t *testing.T, c Cluster, log *output, told []error) {
	for _, name := range []string{"stage_one", "stage_two", "private"} {
		dsn, err := c.DSN(name)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(dsn.Reveal())
		if err != nil {
			t.Fatal("the DSN is no URL")
		}
		password, _ := u.User.Password()
		if raw, err := base64.RawURLEncoding.DecodeString(password); err != nil || len(raw) != 32 {
			t.Fatal("the password is not 256 bits, so that nothing is proven")
		}
		if strings.Contains(log.String(), password) || strings.Contains(errors.Join(told...).Error(), password) {
			t.Errorf("the password of %s was told", name)
		}
		verifier, err := c.verifier(name)
		if err != nil || strings.Contains(verifier.Reveal(), password) {
			t.Error("the verifier holds the password")
		}
		for _, file := range []string{"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "postmaster.opts"} {
			if text, err := os.ReadFile(filepath.Join(c.data(), file)); err != nil || strings.Contains(string(text), password) {
				t.Errorf("%s holds the password, or %v", file, err)
			}
		}
	}
}

func TestNamesThatNeedQuotes(t *testing.T) {
	for _, name := range []string{"", "postgres", "pg_x", "template1", "a-b", "A", "1a", "a b", `a"b`, "ü", strings.Repeat("a", 64), "a;drop"} {
		if _, err := (Cluster{Dir: "/nowhere"}).CreateDatabase(bounded(t), name); !errors.Is(err, ErrName) {
			t.Errorf("CreateDatabase(%q) = %v, want ErrName", name, err)
		}
		if err := (Cluster{Dir: "/nowhere"}).DropDatabase(bounded(t), name); !errors.Is(err, ErrName) {
			t.Errorf("DropDatabase(%q) = %v, want ErrName", name, err)
		}
	}
}

// The example of RFC 7677 §3, with what PostgreSQL stores of it.
func TestVerifier(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got, err := scram("pencil", salt); err != nil || got != want {
		t.Errorf("scram = %s, %v; want %s", got, err, want)
	}
}
