package mask

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// cluster is a real PostgreSQL for all tests; missing says why there is none.
var (
	cluster postgres.Cluster
	missing error
	count   atomic.Int64
)

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		dieCopying()
	}
	end := start()
	code := m.Run()
	end()
	os.Exit(code)
}

func start() (end func()) {
	dir, err := os.MkdirTemp("", "msk")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	remove := func() { _ = os.RemoveAll(dir) } // at worst a leftover in the folder for such things
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cluster = postgres.Cluster{Dir: dir + "/c", Port: port, Memory: 2 << 30}
	if _, missing = cluster.Start(context.Background(), nil); missing != nil {
		return remove
	}
	hurry()
	return func() {
		if err := cluster.Remove(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		remove()
	}
}

// hurry lets the cluster not wait for the disk: nobody pulls the plug of this one.
func hurry() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, cluster.Admin("postgres"))
	for _, sql := range []string{"alter system set fsync = off", "alter system set synchronous_commit = off", "alter system set full_page_writes = off", "alter system set max_wal_size = '4GB'", "select pg_reload_conf()"} {
		if err == nil {
			_, err = conn.Exec(ctx, sql)
		}
	}
	if err == nil {
		err = conn.Close(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests will take longer:", err)
	}
}

const patience = 120 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	limit := patience
	if os.Getenv("LOTSE_PROVE") != "" {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// database is an empty one of its own for a test.
func database(t *testing.T) secret.Text {
	t.Helper()
	if missing != nil {
		t.Skipf("NOT RUN: nothing is shown about a real PostgreSQL: %v", missing)
	}
	name := fmt.Sprintf("db%d", count.Add(1))
	dsn, err := cluster.CreateDatabase(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.DropDatabase(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// of makes a database with statements in it.
func of(t *testing.T, statements ...string) secret.Text {
	t.Helper()
	dsn := database(t)
	execute(t, dial(t, dsn), statements...)
	return dsn
}

// app makes a database as the app has it, with users.
func app(t *testing.T, users int) secret.Text {
	t.Helper()
	dsn := database(t)
	var texts []string
	for _, name := range []string{"testdata/schema.sql", "testdata/rows.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.ReplaceAll(string(text), "$N", strconv.Itoa(users)))
	}
	conn := dial(t, dsn)
	for _, text := range texts {
		if _, err := conn.PgConn().Exec(within(t), text).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	return dsn
}

// named is what whoever runs the app has to say of it.
func named() []deploy.PersonalColumn {
	return []deploy.PersonalColumn{{Column: "users.tags", Kind: "keep"}}
}

func dial(t *testing.T, dsn secret.Text) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t), dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(within(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (answer T) {
	t.Helper()
	if err := conn.QueryRow(within(t), sql, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}
