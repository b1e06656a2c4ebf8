package local_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

// newDatabaseMachine is one on which there is a PostgreSQL to run.
func newDatabaseMachine(t *testing.T) (*machine, deploy.Database) {
	t.Helper()
	b, err := postgres.Find()
	if err != nil {
		t.Skipf("NOT RUN: nothing is proven about databases of stages: %v", err)
	}
	return newMachine(t), deploy.Database{Postgres: b.Major}
}

func openDatabase(t *testing.T, e *local.Engine, db deploy.Database) secret.Text {
	t.Helper()
	setting, err := e.DatabaseURL(within(t, patience), db)
	dsn := setting.Value
	if err == nil {
		err = e.OpenDatabase(within(t, patience), 1, db)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

func query(t *testing.T, dsn secret.Text, sql string) string {
	t.Helper()
	ctx := within(t, patience)
	conn, err := pgx.Connect(ctx, dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer string
	if err := conn.QueryRow(ctx, sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func (m *machine) cluster(s deploy.Stage) postgres.Cluster {
	return postgres.Cluster{Dir: filepath.Join(m.stageDir(s), "postgres")}
}

func (m *machine) databaseKeeper(s deploy.Stage) string {
	return filepath.Join(m.stageDir(s), "database")
}

// serversOf are the PostgreSQL processes that stand in the cluster: the server, and its children.
func (m *machine) serversOf(t *testing.T, s deploy.Stage) (servers, all []int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if dir, err := os.Readlink(link); err != nil || dir != filepath.Join(m.cluster(s).Dir, "data") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		all = append(all, pid)
		if args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(args), "\x00-D\x00") {
			servers = append(servers, pid)
		}
	}
	return servers, all
}

// killAll ends the database, its keeper, and everything else of it as kill -9 does.
func (m *machine) killAll(t *testing.T, s deploy.Stage) {
	t.Helper()
	status, err := process.Inspect(m.databaseKeeper(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(status.KeeperPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of everything", patience, func() bool {
		_, all := m.serversOf(t, s)
		for _, pid := range all {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		status, err := process.Inspect(m.databaseKeeper(s))
		return err == nil && !status.Keeper && len(all) == 0
	})
}

// A stage's database from the first question to the end of the machine.
func TestDatabase(t *testing.T) {
	m, db := newDatabaseMachine(t)
	stage := m.stages[0]
	stage.Database = db
	e := m.open(t, stage)
	setting, err := e.DatabaseURL(within(t, patience), db)
	told := setting.Value
	if err != nil {
		t.Fatal(err)
	}
	if _, all := m.serversOf(t, stage); len(all) > 0 {
		t.Error("the question has started something")
	}
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() {
			if err := m.open(t, stage).OpenDatabase(within(t, patience), 1, db); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	dsn := openDatabase(t, e, db)
	if dsn.Reveal() != told.Reveal() {
		t.Error("its URL has changed")
	}
	if again := openDatabase(t, m.open(t, stage), db); again.Reveal() != dsn.Reveal() {
		t.Error("another engine tells another URL")
	}
	query(t, dsn, "with t as (select 1) select 'x' from t")
	execute(t, dsn, "create table rows (n int)", "insert into rows values (1)")
	if err := e.OpenDatabase(within(t, patience), 0, db); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("with an old fence: %v", err)
	}

	// After each kind of end, a fresh engine that adopts a rollout has the database up before the instances.
	order := m.order(0, "up", m.release(t, "up", web("good", 1)))
	order.Stage = stage
	if err := e.Start(within(t, patience), 1, order); err != nil {
		t.Fatal(err)
	}
	rows := 1
	for name, end := range map[string]func(){
		"everything killed": func() { m.killAll(t, stage) },
		"the server alone killed, with its keeper": func() {
			status, err := process.Inspect(m.databaseKeeper(stage))
			if err = errors.Join(err, unix.Kill(status.KeeperPID, unix.SIGKILL), unix.Kill(status.PID, unix.SIGKILL)); err != nil {
				t.Fatal(err)
			}
		},
		"the machine restarted": func() {
			m.killAll(t, stage)
			m.pretendBoot(t, stage)
		},
		"stopped": func() {
			if err := local.StopDatabase(within(t, patience), keepers(m.log), m.stageDir(stage)); err != nil {
				t.Fatal(err)
			}
			if _, all := m.serversOf(t, stage); len(all) > 0 {
				t.Errorf("processes are left: %v", all)
			}
			if state := controlState(t, m.cluster(stage).Dir); state != "shut down" {
				t.Errorf("the cluster was left %q", state)
			}
		},
	} {
		rows++
		execute(t, dsn, fmt.Sprintf("insert into rows values (%d)", rows))
		end()
		fresh := m.open(t, stage)
		if err := fresh.Adopt(within(t, patience), "up", order); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := query(t, dsn, "select count(*)::text from rows"); n != strconv.Itoa(rows) {
			t.Errorf("%s: %s rows of %d", name, n, rows)
		}
		if servers, _ := m.serversOf(t, stage); len(servers) != 1 {
			t.Errorf("%s: %d servers", name, len(servers))
		}
		if url, err := fresh.DatabaseURL(within(t, patience), db); err != nil || url.Value.Reveal() != dsn.Reveal() {
			t.Errorf("%s: another URL, or %v", name, err)
		}
	}

	t.Run("Run replaces a keeper", func(t *testing.T) { m.testRun(t, stage, order, dsn) })
	t.Run("other versions", func(t *testing.T) {
		for _, c := range []struct {
			major int
			want  error
		}{{db.Postgres - 1, deploy.ErrBadInput}, {99, deploy.ErrBadInput}} {
			_, err := e.DatabaseURL(within(t, patience), deploy.Database{Postgres: c.major})
			opened := m.open(t, stage).OpenDatabase(within(t, patience), 1, deploy.Database{Postgres: c.major})
			if !errors.Is(err, c.want) || !errors.Is(opened, c.want) || deploy.HintOf(opened) == "" {
				t.Errorf("version %d: %v; %v (%s)", c.major, err, opened, deploy.HintOf(opened))
			}
		}
		_, err := m.open(t, m.stages[1]).DatabaseURL(within(t, patience), deploy.Database{Postgres: 99})
		if !errors.Is(err, deploy.ErrUnsupported) || !strings.Contains(err.Error(), "this machine has "+strconv.Itoa(db.Postgres)) || deploy.HintOf(err) == "" {
			t.Errorf("a version that is not installed: %v (%s)", err, deploy.HintOf(err))
		}
		execute(t, dsn, "select 1")
	})
	if u, err := url.Parse(dsn.Reveal()); err != nil {
		t.Fatal("the URL is no URL")
	} else if password, _ := u.User.Password(); strings.Contains(m.written(t), password) {
		t.Error("the password stands in a file or a log")
	}
	t.Run("deleted", func(t *testing.T) { m.testDrop(t, e, stage, db, dsn) })
}

// testDrop: stopping a rollout deletes nothing; who asks for it by name is left with nothing.
func (m *machine) testDrop(t *testing.T, e *local.Engine, stage deploy.Stage, db deploy.Database, dsn secret.Text) {
	if err := e.Stop(within(t, patience), 1, "up", 0); err != nil {
		t.Fatal(err)
	}
	execute(t, dsn, "select * from rows")
	if err := errors.Join(e.DropDatabase(within(t, patience)), e.DropDatabase(within(t, patience))); err != nil {
		t.Fatal(err)
	}
	_, all := m.serversOf(t, stage)
	_, cluster := os.Lstat(m.cluster(stage).Dir)
	_, keeper := os.Lstat(m.databaseKeeper(stage))
	claims, err := filepath.Glob(filepath.Join(m.dir, "local", "ports", "*"))
	if len(all) != 0 || !os.IsNotExist(cluster) || !os.IsNotExist(keeper) || len(claims) != 0 || err != nil {
		t.Errorf("left: processes %v, %v, %v, claims %v, %v", all, cluster, keeper, claims, err)
	}
	fresh := openDatabase(t, m.open(t, stage), db)
	if n := query(t, fresh, "select count(*)::text from pg_tables where schemaname = 'public'"); n != "0" || fresh.Reveal() == dsn.Reveal() {
		t.Errorf("the new one has %s tables, or the password of the old one", n)
	}
}

func execute(t *testing.T, dsn secret.Text, statements ...string) {
	t.Helper()
	ctx := within(t, patience)
	conn, err := pgx.Connect(ctx, dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// pretendBoot leaves what a machine that lost its power leaves: a pid file whose number somebody else has by now.
func (m *machine) pretendBoot(t *testing.T, s deploy.Stage) {
	t.Helper()
	data := filepath.Join(m.cluster(s).Dir, "data")
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	bystander := exec.Command("/bin/sleep", "600")
	if os.Geteuid() == 0 {
		bystander.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bystander.Process.Kill(); _ = bystander.Wait() })
	path := filepath.Join(data, "postmaster.pid")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no pid file is left, so that nothing is proven: %v", err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n")
	text := fmt.Sprintf("%d\n%s", bystander.Process.Pid, rest)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	locks, err := filepath.Glob(filepath.Join(m.cluster(s).Dir, "run", ".s.PGSQL.*"))
	if err != nil || len(locks) == 0 {
		t.Errorf("no socket is left: %v", err)
	}
}

// controlState is what the cluster says of its own end.
func controlState(t *testing.T, dir string) string {
	t.Helper()
	b, err := postgres.Find()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(b.Dir, "pg_controldata"), filepath.Join(dir, "data"))
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(out), "Database cluster state:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}

// testRun: whoever dies, the database is there again, and the server is not started anew where it lives.
func (m *machine) testRun(t *testing.T, stage deploy.Stage, order deploy.Order, dsn secret.Text) {
	e := m.open(t, stage)
	if err := e.Adopt(within(t, patience), "up", order); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	before, err := process.Inspect(m.databaseKeeper(stage))
	if err != nil {
		t.Fatal(err)
	}
	again := func(what string) process.Status {
		var now process.Status
		until(t, what, patience, func() bool {
			now, _ = process.Inspect(m.databaseKeeper(stage))
			if !now.Keeper || now.KeeperPID == before.KeeperPID {
				return false
			}
			conn, err := pgx.Connect(ctx, dsn.Reveal())
			if err == nil {
				err = conn.Close(ctx)
			}
			return err == nil
		})
		return now
	}
	if err := unix.Kill(before.KeeperPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if now := again("another keeper"); now.PID != before.PID {
		t.Error("the server was started anew with its keeper")
	}
	before, err = process.Inspect(m.databaseKeeper(stage))
	if err != nil {
		t.Fatal(err)
	}
	_, all := m.serversOf(t, stage)
	for _, pid := range append([]int{before.KeeperPID}, all...) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
	again("everything")
	execute(t, dsn, "select 1")
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("run: %v", err)
	}
}

// StopDatabase does not wait for clients, also those that come back at once, and leaves nothing to recover.
func TestStopDatabaseUnderLoad(t *testing.T) {
	m, db := newDatabaseMachine(t)
	dsn := openDatabase(t, m.open(t, m.stages[0]), db)
	execute(t, dsn, "create table t (n int)")
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if conn, err := pgx.Connect(ctx, dsn.Reveal()); err == nil {
					for err == nil {
						_, err = conn.Exec(ctx, "insert into t values (1)")
					}
					_ = conn.Close(context.Background())
				}
			}
		})
	}
	until(t, "load", patience, func() bool { return query(t, dsn, "select (count(*) > 100)::text from t") == "true" })
	begun := time.Now()
	if err := local.StopDatabase(within(t, patience), keepers(m.log), m.stageDir(m.stages[0])); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped within %s", time.Since(begun).Round(time.Millisecond))
	cancel()
	clients.Wait()
	if state := controlState(t, m.cluster(m.stages[0]).Dir); state != "shut down" {
		t.Errorf("the cluster was left %q", state)
	}
	if err := local.StopDatabase(within(t, patience), keepers(m.log), m.stageDir(m.stages[0])); err != nil {
		t.Errorf("twice: %v", err)
	}
	if err := local.StopDatabase(within(t, patience), keepers(m.log), m.stageDir(m.stages[1])); err != nil {
		t.Errorf("a stage without one: %v", err)
	}
}
