// Package pgtest gives tests a real PostgreSQL: the one at TEST_DATABASE_URL, or else a
// scratch cluster that it starts from the binaries it finds and throws away afterwards.
// Where there is neither, tests skip, and say what was not proven.
package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"whatsgonow/db"
)

var (
	admin   string // address of the server, empty if there is none
	missing = errors.New("pgtest.Main was not called")
	count   atomic.Int64
)

// Main runs the tests of a package with a server, if one can be had.
func Main(m *testing.M) int {
	if admin = os.Getenv("TEST_DATABASE_URL"); admin != "" {
		return m.Run()
	}
	var stop func()
	admin, stop, missing = start()
	defer stop()
	return m.Run()
}

// Database makes an empty schema for one test, which is quicker than a database and
// asks for less, and returns an address that leads into it.
func Database(t *testing.T) string {
	t.Helper()
	if admin == "" {
		t.Skipf("NOT PROVEN, no PostgreSQL (%v): anything about what is stored, locked, and told", missing)
	}
	name := fmt.Sprintf("wgn_test_%d_%d", os.Getpid(), count.Add(1))
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal("TEST_DATABASE_URL is not a URL")
	}
	run(t, "create schema "+name)
	t.Cleanup(func() { run(t, "drop schema "+name+" cascade") })
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// Migrated is a Database with the app's tables, made as Lotse makes them: the files of db/migrations in the order of
// their names.
func Migrated(t *testing.T) string {
	t.Helper()
	address := Database(t)
	names, err := fs.Glob(db.Migrations(), "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal("no migrations: ", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(db.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		runAt(t, address, string(text))
	}
	return address
}

func run(t *testing.T, sql string) {
	t.Helper()
	runAt(t, admin, sql)
}

func runAt(t *testing.T, address, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal("the PostgreSQL for tests cannot be reached: ", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}

// start makes a cluster in a directory of its own, reachable over a socket in it only.
func start() (address string, stop func(), err error) {
	stop = func() {}
	bin, err := binaries()
	if err != nil {
		return "", stop, err
	}
	dir, err := os.MkdirTemp("", "wgn")
	if err != nil {
		return "", stop, err
	}
	clean := func() { _ = os.RemoveAll(dir) }
	who, err := owner(dir)
	if err != nil {
		return "", clean, err
	}
	data := filepath.Join(dir, "data")
	initdb := command(dir, who, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", clean, fmt.Errorf("initdb: %w: %s", err, lastLine(string(out)))
	}
	server := command(dir, who, filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
	stopServer, err := startServer(server)
	stop = func() { stopServer(); clean() }
	if err != nil {
		return "", stop, err
	}
	return "postgres://postgres@/postgres?host=" + url.QueryEscape(dir), stop, nil
}

// startServer returns when the server says that it is ready.
func startServer(server *exec.Cmd) (stop func(), err error) {
	stop = func() {}
	log, err := server.StderrPipe()
	if err != nil {
		return stop, err
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel ends the child with the thread that started it.
		runtime.LockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			<-ended
		}
	}()
	if err := <-started; err != nil {
		return stop, err
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once: nothing in it is worth keeping
		_ = server.Wait()
		close(ended)
	}
	lines := bufio.NewScanner(log)
	last := "it said nothing"
	for lines.Scan() {
		if last = lines.Text(); strings.Contains(last, "ready to accept connections") {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return stop, nil
		}
	}
	return stop, fmt.Errorf("postgres did not start: %s", last)
}

// binaries finds the directory of the newest PostgreSQL.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, paths...)
	}
	if len(found) == 0 {
		return "", errors.New("TEST_DATABASE_URL is not set and there are no PostgreSQL binaries")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

// owner returns the user to run as, nil for the current one, and gives them the directory.
// PostgreSQL refuses to be run by root.
func owner(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("root must not run PostgreSQL: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func command(dir string, who *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = diesWithUs()
	cmd.SysProcAttr.Credential = who
	return cmd
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
