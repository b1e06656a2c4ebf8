package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What a stage does: made, started, used, found again by another process, stopped, started, thrown away.
func TestLifeOfACluster(t *testing.T) {
	c := newCluster(t)
	c.Port = freePort(t)
	ctx := bounded(t)

	if err := c.Ready(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Ready before it is made = %v, want ErrNotRunning", err)
	}
	if _, err := c.Command(); !errors.Is(err, ErrNotMade) {
		t.Errorf("Command before it is made = %v, want ErrNotMade", err)
	}
	if err := c.Init(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Ready before it runs = %v, want ErrNotRunning", err)
	}
	s := start(t, c, nil)
	dsn, err := c.CreateDatabase(ctx, "whatsgonow_dev")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, open(t, dsn), "create table t as select 42 as n")

	t.Run("its settings are safe", func(t *testing.T) { checkSettings(t, c) })
	t.Run("it does not run as root", func(t *testing.T) {
		pid, err := c.PID()
		if err != nil || uidOf(t, pid) == 0 {
			t.Errorf("pid %d, %v, uid %d", pid, err, uidOf(t, pid))
		}
	})
	t.Run("it is adopted as it runs", func(t *testing.T) {
		same := Cluster{Dir: c.Dir, Port: c.Port}
		if _, err := same.Start(ctx, nil); !errors.Is(err, ErrRunning) {
			t.Errorf("Start beside it = %v, want ErrRunning", err)
		}
		if err := errors.Join(same.Init(ctx), same.Ready(ctx), same.Await(ctx)); err != nil {
			t.Errorf("Init, Ready beside it: %v", err)
		}
		if _, err := same.Command(); err != nil {
			t.Errorf("Command beside it: %v", err)
		}
		again, err := same.CreateDatabase(ctx, "whatsgonow_dev")
		if err != nil || again.Reveal() != dsn.Reveal() {
			t.Errorf("the second DSN differs from the first, or %v", err)
		}
	})
	t.Run("another process stops it", func(t *testing.T) {
		if err := (Cluster{Dir: c.Dir}).Stop(ctx); err != nil {
			t.Fatal(err)
		}
		<-s.Ended()
		if err := errors.Join(c.Stop(ctx), s.Stop(ctx)); err != nil {
			t.Errorf("stopping twice: %v", err)
		}
	})
	t.Run("it keeps its data", func(t *testing.T) {
		start(t, c, nil)
		if n := ask[int](t, open(t, dsn), "select n from t"); n != 42 {
			t.Errorf("n = %d", n)
		}
	})
	t.Run("it is thrown away while it runs", func(t *testing.T) {
		if err := errors.Join(c.Remove(ctx), c.Remove(ctx)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(c.Dir); !os.IsNotExist(err) {
			t.Errorf("the folder is there: %v", err)
		}
		if left := processesIn(c.data()); len(left) != 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
}

func checkSettings(t *testing.T, c Cluster) {
	conn := admin(t, c, "postgres")
	for name, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on",
		"listen_addresses": "127.0.0.1", "password_encryption": "scram-sha-256", "server_encoding": "UTF8",
		"shared_buffers": "128MB", "log_statement": "none", "logging_collector": "off",
	} {
		if got := ask[string](t, conn, "show "+name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	if open := ask[int](t, conn, "select count(*) from pg_hba_file_rules where auth_method in ('trust', 'password', 'md5') or error is not null"); open != 0 {
		t.Errorf("%d lines of pg_hba.conf let somebody in without SCRAM, or are wrong", open)
	}
}

func TestInitIsIdempotent(t *testing.T) {
	c := madeCluster(t)
	snapshot := func() string {
		if err := c.Init(bounded(t)); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, name := range []string{"key", "data/PG_VERSION", "data/global/pg_control", "data/postgresql.conf", "data/pg_hba.conf", "data/pg_ident.conf"} {
			info, err := os.Stat(filepath.Join(c.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&all, name, info.Mode(), info.ModTime(), info.Sys().(*syscall.Stat_t).Ino)
		}
		return all.String()
	}
	first := snapshot()
	if second := snapshot(); second != first {
		t.Errorf("the second Init changed something:\n%s\n%s", first, second)
	}
	if !strings.Contains(first, "key -rw-------") {
		t.Errorf("the key can be read by others: %s", first)
	}
}

// A kill -9 in the middle of initdb leaves data.new; ten callers come at once.
func TestInitAfterACrashByTenCallers(t *testing.T) {
	c := newCluster(t)
	if err := errors.Join(os.Mkdir(c.Dir, 0o755), os.MkdirAll(filepath.Join(c.Dir, "data.new", "base"), 0o700)); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			if err := c.Init(bounded(t)); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	start(t, c, nil)
}

func TestCancelledInit(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithCancel(bounded(t))
	go func() { // when initdb is at work
		defer cancel()
		_ = poll(ctx, func() (bool, error) {
			_, err := os.Stat(filepath.Join(c.Dir, "data.new", "PG_VERSION"))
			return err == nil, nil
		})
	}()
	if err := c.Init(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Init = %v, want the cancel", err)
	}
	if _, err := os.Lstat(c.data()); err == nil {
		t.Error("a half-made cluster is taken for one")
	}
	eventually(t, "initdb is gone", func() bool { return len(processesIn(c.data()+".new")) == 0 })
	start(t, c, nil)
}

func TestTakenPort(t *testing.T) {
	c := madeCluster(t)
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c.Port = other.Addr().(*net.TCPAddr).Port
	if err := c.Init(bounded(t)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Command()
	holder := fmt.Sprintf("process %d (", os.Getpid())
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), strconv.Itoa(c.Port)) || !strings.Contains(err.Error(), holder) || HintOf(err) == "" {
		t.Errorf("Command = %v (%s), want ErrPortTaken with the port, %s, and a hint", err, HintOf(err), holder)
	}
	if _, err = c.Start(bounded(t), nil); !errors.Is(err, ErrPortTaken) {
		t.Errorf("Start = %v, want ErrPortTaken", err)
	}
}

// The server gets kill -9 while a statement runs that never looks up: what is left of it must not keep the next one out.
func TestKilledServer(t *testing.T) {
	c := madeCluster(t)
	first := start(t, c, nil)
	conn := admin(t, c, "postgres")
	execute(t, conn, "create table t as select 42 as n")
	execute(t, admin(t, c, "postgres"), "checkpoint")
	execute(t, conn, "insert into t values (43)")
	busy := admin(t, c, "postgres")
	go busy.Exec(context.Background(), "select count(*) from generate_series(1, 1000000000000)")
	eventually(t, "the statement runs", func() bool {
		return ask[int](t, conn, "select count(*) from pg_stat_activity where state = 'active' and query like '%generate_series%' and pid <> pg_backend_pid()") == 1
	})
	if err := first.process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.Ended()
	if _, err := os.Stat(c.pidFile()); err != nil {
		t.Fatalf("no stale pid file, so that this proves nothing: %v", err)
	}
	start(t, c, nil)
	if n := ask[int](t, admin(t, c, "postgres"), "select sum(n)::int from t"); n != 85 {
		t.Errorf("what was committed is lost: the sum is %d, want 85", n)
	}
}

// After a reboot the pid in the file may be another process of the same user, by which PostgreSQL refuses to start.
func TestStalePidFileThatNamesAnotherProcess(t *testing.T) {
	c := madeCluster(t)
	if err := start(t, c, nil).Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	owner, err := c.owner()
	if err != nil {
		t.Fatal(err)
	}
	bystander := c.as(context.Background(), owner, "/bin/cat")
	bystander.Dir = c.data() // as an administrator's shell may stand there
	stdin, err := bystander.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Appendf(nil, "%d\n%s\n", bystander.Process.Pid, c.data())
	if err := writeFile(c.data(), "postmaster.pid", pid, 0o600, owner); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PID(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("PID = %v, want ErrNotRunning", err)
	}
	start(t, c, nil)
	if err := errors.Join(stdin.Close(), bystander.Wait()); err != nil {
		t.Errorf("the bystander was harmed: %v", err)
	}
}

// What a keeper does with Command: runs it, and ends it while a client is connected.
func TestCommandInTheForeground(t *testing.T) {
	c := madeCluster(t)
	ctx := bounded(t)
	if err := c.Init(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := c.Command()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	if p.User != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.User.UID, Gid: p.User.GID}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Await(ctx); err != nil {
		t.Fatal(err)
	}
	if pid, err := c.PID(); err != nil || pid != cmd.Process.Pid {
		t.Errorf("PID = %d, %v; want %d: it went into the background", pid, err, cmd.Process.Pid)
	}
	admin(t, c, "postgres")
	began := time.Now()
	if err := cmd.Process.Signal(p.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	t.Logf("ended %s after its signal, with a client connected", time.Since(began).Round(time.Millisecond))
}

func TestFolderThatThePostgresUserMayNotEnter(t *testing.T) {
	needRoot(t, "an ordinary user may enter its own folders")
	c := newCluster(t)
	closed := filepath.Join(filepath.Dir(c.Dir), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(closed, "deep", "c")
	err := c.Init(bounded(t))
	if !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), closed) || HintOf(err) != "chmod o+x "+closed {
		t.Fatalf("Init = %v (%s), want ErrFolder that names %s", err, HintOf(err), closed)
	}
	if err := os.Chmod(closed, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := c.Init(bounded(t)); err != nil {
		t.Errorf("after the hint was followed: %v", err)
	}
}

// The owner of data/ could put links there; root must not write through them.
func TestConfigurationDoesNotFollowLinks(t *testing.T) {
	c := madeCluster(t)
	if err := c.Init(bounded(t)); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(folder(t), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.data(), "postgresql.conf")
	if err := errors.Join(os.Remove(path), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if err := c.Init(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || !bytes.Equal(text, []byte("mine")) {
		t.Errorf("the file behind the link is %q, %v", text, err)
	}
}

func TestPathsThatCannotWork(t *testing.T) {
	for name, dir := range map[string]string{
		"too long for a socket": "/tmp/" + strings.Repeat("x", 90),
		"relative":              "pg",
		"not clean":             "/tmp/../pg",
		"a quote":               "/tmp/it's",
		"the root":              "/",
	} {
		if err := (Cluster{Dir: dir}).Init(bounded(t)); !errors.Is(err, ErrFolder) {
			t.Errorf("%s: %v, want ErrFolder", name, err)
		}
	}
	// The longest that fits is not refused, one byte more is.
	room := sunPath - len("/run/.s.PGSQL.65535")
	for size, want := range map[int]error{room: nil, room + 1: ErrFolder} {
		if err := (Cluster{Dir: "/" + strings.Repeat("x", size-1)}).checkPath(); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}

func TestRemoveSparesWhatIsNoCluster(t *testing.T) {
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Cluster{Dir: dir}).Remove(bounded(t)); !errors.Is(err, ErrNotMade) {
		t.Errorf("Remove = %v, want ErrNotMade", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Error(err)
	}
}

func TestClusterOfAnotherUser(t *testing.T) {
	c := newCluster(t)
	if dir := os.Getenv(foreignCluster); dir != "" {
		c = Cluster{Dir: dir}
		if err := c.Init(bounded(t)); !errors.Is(err, ErrOwner) {
			t.Errorf("Init = %v, want ErrOwner", err)
		}
		return
	}
	needRoot(t, "that the cluster of another user is refused")
	if err := os.MkdirAll(c.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []int{0, 1} {
		if err := os.Chown(c.data(), uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := c.Init(bounded(t)); !errors.Is(err, ErrOwner) {
			t.Errorf("Init of what uid %d owns = %v, want ErrOwner", uid, err)
		}
	}
}
