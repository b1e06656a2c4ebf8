package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
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

// victim makes this program a migrator that is killed; see TestKilledMigrator.
const victim = "LOTSE_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" && os.Getenv("LOTSE_TEST_JUDGE") != "" {
		_, err := quick().Judge(context.Background(), deploy.MigrationQuestion{Files: os.DirFS(dir), Dir: "m"})
		fmt.Println(err)
		os.Exit(0)
	}
	if dir := os.Getenv(victim); dir != "" && os.Getenv("LOTSE_TEST_COMMAND") != "" {
		dsn := secret.New(os.Getenv("DATABASE_URL"))
		_, err := quick().Run(context.Background(), dsn, sent(dsn, dir))
		fmt.Println(err)
		os.Exit(0)
	}
	if dir := os.Getenv(victim); dir != "" {
		_, err := quick().Migrate(context.Background(), secret.New(os.Getenv("DATABASE_URL")), os.DirFS(dir), "m")
		fmt.Println(err)
		os.Exit(0)
	}
	end := start()
	code := m.Run()
	end()
	os.Exit(code)
}

func start() (end func()) {
	dir, err := os.MkdirTemp("", "mig")
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
	cluster = postgres.Cluster{Dir: dir + "/c", Port: port, Memory: 1 << 30}
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
	for _, sql := range []string{"alter system set fsync = off", "alter system set synchronous_commit = off", "select pg_reload_conf()"} {
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

const patience = 60 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// database is an empty one of its own for a test.
func database(t *testing.T) secret.Text {
	t.Helper()
	if missing != nil {
		t.Skipf("NOT RUN: nothing is proven about a real PostgreSQL: %v", missing)
	}
	dsn, err := cluster.CreateDatabase(within(t), fmt.Sprintf("db%d", count.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

func dial(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// admin is the superuser in the database of dsn.
func admin(t *testing.T, dsn secret.Text) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil {
		t.Fatal("the URL is no URL")
	}
	return dial(t, cluster.Admin(config.Database))
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

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for ctx := within(t); !done(); {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// quick waits for nobody for long.
func quick() *Migrator {
	return New(Config{LockWait: 100 * time.Millisecond, Tries: 3, Log: slog.New(slog.DiscardHandler)})
}

// folder makes m/NAME of names and texts by turns.
func folder(pairs ...string) fstest.MapFS {
	made := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		made["m/"+pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return made
}

func migrate(t *testing.T, dsn secret.Text, files fstest.MapFS) deploy.Migrated {
	t.Helper()
	done, err := quick().Migrate(within(t), dsn, files, "m")
	if err != nil {
		t.Fatalf("%v (%s)", err, deploy.HintOf(err))
	}
	return done
}

// fails is a run that must fail, with all of says in its error.
func fails(t *testing.T, dsn secret.Text, files fstest.MapFS, says ...string) (deploy.Migrated, error) {
	t.Helper()
	done, err := quick().Migrate(within(t), dsn, files, "m")
	if !errors.Is(err, deploy.ErrMigration) {
		t.Fatalf("%v, want ErrMigration", err)
	}
	for _, want := range says {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	return done, err
}
