package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
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

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/secret"
)

// deadline is for what never takes long; it is met only when something is broken.
const deadline = 60 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// folder makes a short folder that other users may enter: t.TempDir is neither.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newCluster is not made yet; whatever becomes of it is thrown away at the end.
func newCluster(t *testing.T) Cluster {
	t.Helper()
	if _, err := Find(); err != nil {
		t.Skipf("NOT RUN: nothing is proven about a real PostgreSQL: %v (%s)", err, HintOf(err))
	}
	c := Cluster{Dir: filepath.Join(folder(t), "c"), Memory: 1 << 30}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := c.Remove(ctx); err != nil && !errors.Is(err, ErrNotMade) {
			t.Error(err)
		}
	})
	return c
}

// template is a cluster that was made once, for tests that are not about making one: initdb waits for the disk for seconds.
var template = sync.OnceValues(func() (Cluster, error) {
	c := Cluster{Dir: filepath.Join(templates, "c")}
	return c, c.Init(context.Background())
})

var templates string // set by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pg")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	templates = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // at worst a leftover in the folder for such things
	os.Exit(code)
}

// madeCluster is made and never ran.
func madeCluster(t *testing.T) Cluster {
	t.Helper()
	c := newCluster(t)
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(bounded(t), "cp", "-a", from.Dir, c.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return c
}

// output is what a server said, safe for use while it says more.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func start(t *testing.T, c Cluster, log io.Writer) *Server {
	t.Helper()
	s, err := c.Start(bounded(t), log)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return s
}

func open(t *testing.T, dsn secret.Text) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func admin(t *testing.T, c Cluster, database string) *pgx.Conn {
	t.Helper()
	return open(t, secret.New(c.Admin(database)))
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(bounded(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string) (answer T) {
	t.Helper()
	if err := conn.QueryRow(bounded(t), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	if err := poll(bounded(t), func() (bool, error) { return done(), nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// ordinary is the user that the tests are run as once more when they are run as root.
const ordinary = "nobody"

const foreignCluster = "LOTSE_TEST_FOREIGN_CLUSTER"

// TestAsAnOrdinaryUser runs this whole package again without root, where PostgreSQL runs as the caller.
func TestAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests run as an ordinary user already; NOT RUN: what is done as root")
	}
	u, err := lookUp(ordinary)
	if err != nil {
		t.Skipf("NOT RUN: nothing is proven for ordinary users: %v", err)
	}
	dir := folder(t)
	program := filepath.Join(dir, "test")
	copyFile(t, os.Args[0], program)
	temp := filepath.Join(dir, "t")
	if err := errors.Join(os.Mkdir(temp, 0o700), os.Chown(temp, int(u.UID), int(u.GID))); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "f") // a cluster of somebody else, which root alone can make
	if err := errors.Join(os.MkdirAll(filepath.Join(foreign, "data"), 0o755), os.Chown(filepath.Join(foreign, "data"), 1, 1)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.timeout=5m")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, "HOME=" + temp, foreignCluster + "=" + foreign}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %s: %v\n%s", ordinary, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- ") || strings.Contains(line, "NOT RUN") {
			t.Log("as " + ordinary + ": " + strings.TrimSpace(line))
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T, unproven string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN without root: " + unproven)
	}
}

func uidOf(t *testing.T, pid int) uint32 {
	t.Helper()
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
