package aws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// A snapshot and its drill with a real PostgreSQL, a real front on the machine and its real look at the database. RDS is a FAKE: what
// stands behind the scratch instance is the database itself, so that what is changed in it after the snapshot is what a snapshot lacks. The
// app's check runs on the machine, with the address of the scratch instance and a password that no command has had.
func TestDrillReadsARealDatabase(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN without LOTSE_PROVE: a drill on RDS that reads a real PostgreSQL; TestLooksAroundACopy has the questions that it asks")
	}
	t.Parallel()
	if _, err := postgres.Find(); err != nil {
		t.Skipf("NOT RUN: no drill on RDS has read a real database: %v", err)
	}
	cluster, address := realDatabase(t)
	plane := options()
	plane.Downloads = map[string][]byte{"https://truststore.pki.rds.amazonaws.com/eu-central-1/eu-central-1-bundle.pem": nil}
	b := newRDSBench(t, plane)
	b.db.Migrations = ""
	b.stages[0].Database = b.db
	b.w.Elsewhere(scratchHost, fmt.Sprintf("127.0.0.1:%d", cluster.Port))
	e := b.open(t, b.stages[0])
	o := deploy.Order{Rollout: "two", Release: b.release(t, "two", web("good", 1)), Stage: b.stages[0], Settings: []deploy.Setting{{Name: deploy.DatabaseURL, Value: address}}}
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatalf("%v\n%s", err, b.log)
	}
	b.shift(t, e, 1, "two", 100)
	patient := func(c *aws.Config) { c.Timing.Command, c.Timing.Counted = time.Minute, 2*time.Second }
	one, err := b.keeper(t, patient).Take(within(t, patience), b.order(deploy.SnapshotDaily, ""))
	if err != nil || one.Rows != 3 || one.Tables != 1 || !strings.HasPrefix(one.Schema, "sha256:") {
		t.Fatalf("%+v, %v\n%s", one, err, b.log)
	}
	check := func(command string) func(context.Context, secret.Text) error {
		return func(ctx context.Context, url secret.Text) error {
			return e.TaskInstead(ctx, "two", "check", command, nil, []deploy.Setting{{Name: deploy.DatabaseURL, Value: url}})
		}
	}
	asked := fmt.Sprintf(`case "$DATABASE_URL" in *@127.0.0.1:%d/*) ;; *) exit 9;; esac; echo "$DATABASE_URL"`, cluster.Port)
	proof, err := b.keeper(t, patient).Prove(within(t, patience), b.ref(), one.ID, check(asked))
	if err != nil || proof.Check != "passed" || proof.Compared != "schema; rows of 1 tables of 1, 1 of them exactly; every row was read" {
		t.Fatalf("%+v, %v\n%s", proof, err, b.log)
	}
	if _, err := b.keeper(t, patient).Prove(within(t, patience), b.ref(), one.ID, check("exit 3")); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("a check that refuses: %v", err)
	}
	execute(t, cluster, "delete from orders where id = 2")
	if proof, err := b.keeper(t, patient).Prove(within(t, patience), b.ref(), one.ID, nil); !errors.Is(err, deploy.ErrDamaged) || proof.Wrong != "table public.orders has 2 rows, and had 3" {
		t.Errorf("a row that is missing: %+v, %v", proof, err)
	}
	execute(t, cluster, "insert into orders values (2); alter table orders disable row level security")
	if proof, err := b.keeper(t, patient).Prove(within(t, patience), b.ref(), one.ID, nil); !errors.Is(err, deploy.ErrDamaged) || proof.Wrong != "the schema is not the one that was there" {
		t.Errorf("another schema: %+v, %v", proof, err)
	}
	b.noScratch(t, "after all")
	another := deploy.Setting{Name: deploy.DatabaseURL, Value: secret.New("postgres://who:else@" + scratchHost + "/app")}
	if err := e.TaskInstead(within(t, patience), "two", "check", "true", nil, []deploy.Setting{another}); !errors.Is(err, deploy.ErrUnsupported) || strings.Contains(err.Error(), "else") {
		t.Errorf("another password: %v", err)
	}
	password := strings.SplitN(strings.SplitN(address.Reveal(), "@", 2)[0], ":", 3)[2]
	for _, call := range []string{b.log.String(), b.w.Commands(), string(b.w.Object(bucket, "stages/dev/snapshots/"+one.ID+".json"))} {
		if strings.Contains(call, password) {
			t.Error("the password is in a log, a command or the bucket")
		}
	}
}

// realDatabase is one with a table of three rows, reached from here without TLS.
func realDatabase(t *testing.T) (postgres.Cluster, secret.Text) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ls")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cluster := postgres.Cluster{Dir: filepath.Join(dir, "c"), Port: freePort(t)}
	t.Cleanup(func() { _ = cluster.Remove(context.Background()); _ = os.RemoveAll(dir) })
	if _, err := cluster.Start(within(t, patience), nil); err != nil {
		t.Fatal(err)
	}
	address, err := cluster.CreateDatabase(within(t, patience), "app")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(within(t, patience), address.Reveal())
	if err == nil {
		_, err = conn.Exec(within(t, patience), "create table orders (id int primary key); alter table orders enable row level security; insert into orders values (1), (2), (3)")
		_ = conn.Close(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return cluster, address
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func execute(t *testing.T, cluster postgres.Cluster, sql string) {
	t.Helper()
	conn, err := pgx.Connect(within(t, patience), cluster.Admin("app"))
	if err == nil {
		_, err = conn.Exec(within(t, patience), sql)
		_ = conn.Close(context.Background()) // what it has written is counted now
	}
	if err != nil {
		t.Fatal(err)
	}
}
