package local_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// The URL stays while somebody sits on its port, and who that is is said.
func TestDatabasePortTaken(t *testing.T) {
	m, db := newDatabaseMachine(t)
	e := m.open(t, m.stages[0])
	setting, err := e.DatabaseURL(within(t, patience), db)
	dsn := setting.Value
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn.Reveal())
	if err != nil {
		t.Fatal("the URL is no URL")
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	err = e.OpenDatabase(within(t, patience), 1, db)
	holder := fmt.Sprintf("process %d (", os.Getpid())
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "port "+u.Port()) || !strings.Contains(err.Error(), holder) || deploy.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, deploy.HintOf(err))
	}
	l.Close()
	if again := openDatabase(t, m.open(t, m.stages[0]), db); again.Reveal() != dsn.Reveal() {
		t.Error("the URL has changed")
	}
}

// Two stages of one app: the user, the password and the kernel's word of one open nothing of the other.
func TestDatabasesOfTwoStages(t *testing.T) {
	m, db := newDatabaseMachine(t)
	engines := []*local.Engine{m.open(t, m.stages[0]), m.open(t, m.stages[1])}
	var dsn [2]secret.Text
	var opening sync.WaitGroup
	for i, e := range engines {
		opening.Go(func() { dsn[i] = openDatabase(t, e, db) })
	}
	opening.Wait()
	one, err1 := url.Parse(dsn[0].Reveal())
	two, err2 := url.Parse(dsn[1].Reveal())
	if err1 != nil || err2 != nil || one.Host == two.Host {
		t.Fatalf("two stages at one address, or no URLs")
	}
	execute(t, dsn[0], "create table mine as select 1 as n")
	execute(t, dsn[1], "create table mine as select 2 as n")
	if a, b := query(t, dsn[0], "select n::text from mine"), query(t, dsn[1], "select n::text from mine"); a != "1" || b != "2" {
		t.Errorf("%s and %s", a, b)
	}
	mixed := *two
	mixed.User = one.User // the password of one at the address of the other, whose authority is known
	_, err := pgx.Connect(within(t, patience), mixed.String())
	if told, ok := errors.AsType[*pgconn.PgError](err); !ok || told.Code != "28P01" {
		t.Errorf("the password of one stage at the other: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT PROVEN without root: that the user of a stage reads and enters nothing of another's database")
	}
	svc := web("good", 1)
	m.up(t, engines[0], 0, "mine", svc)
	theirs, own := m.cluster(m.stages[1]), m.cluster(m.stages[0])
	b, err := postgres.Find()
	if err != nil {
		t.Fatal(err)
	}
	psql := filepath.Join(b.Dir, "psql") + " -Atc 'select 1' "
	quoted := func(s string) string { return "'" + s + "'" }
	for script, ok := range map[string]bool{
		psql + quoted(one.String()):   true,
		psql + quoted(mixed.String()): false,
		psql + quoted(strings.Replace(one.String(), "sslmode=verify-full", "sslmode=disable", 1)):                      false,
		psql + quoted(fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", theirs.Dir+"/run", two.Port())):     false,
		psql + quoted(fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", own.Dir+"/run", one.Port())):        false,
		psql + quoted(fmt.Sprintf("host=%s port=%s user=shop dbname=shop password=x", theirs.Dir+"/run", two.Port())):  false,
		psql + quoted(fmt.Sprintf("host=127.0.0.1 port=%s user=postgres dbname=postgres sslmode=require", two.Port())): false,
		"cat " + theirs.Dir + "/key":             false,
		"cat " + own.Dir + "/key":                false,
		"cat " + theirs.Dir + "/authority.key":   false,
		"cat " + own.Dir + "/authority.key":      false,
		"ls " + theirs.Dir + "/data":             false,
		"ls " + own.Dir + "/data":                false,
		"cat " + theirs.Dir + "/data/server.crt": false,
		"ls " + m.databaseKeeper(m.stages[1]):    false,
		"rm -f " + theirs.Dir + "/run/.s.PGSQL.* && ! test -S " + theirs.Dir + "/run/.s.PGSQL." + two.Port(): false,
		"touch " + own.Dir + "/x":               false,
		"test -r " + own.Dir + "/authority.pem": true,
	} {
		if err := engines[0].Task(within(t, patience), "mine", "probe", script+" >/dev/null 2>&1", nil); (err == nil) != ok {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// A disk that fills up: the app is told, the server survives or comes back, no row is lost, and it goes on when there is room.
func TestDatabaseOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT PROVEN without root: what becomes of a database on a full disk")
	}
	m, db := newDatabaseMachine(t)
	stage := m.stages[0]
	e := m.open(t, stage)
	small := func(size string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(m.cluster(stage).Dir, 0o755), unix.Mount("tmpfs", m.cluster(stage).Dir, "tmpfs", 0, "mode=0755,size="+size)); err != nil {
			t.Skipf("NOT PROVEN: what becomes of a database on a full disk: mount: %v", err)
		}
	}
	small("20m")
	err := e.OpenDatabase(within(t, patience), 1, db)
	if !errors.Is(err, deploy.ErrNoSpace) {
		t.Errorf("too small for a cluster: %v", err)
	}
	if err := unix.Unmount(m.cluster(stage).Dir, 0); err != nil {
		t.Fatal(err)
	}
	small("200m")
	t.Cleanup(func() {
		_ = local.StopDatabase(context.Background(), keepers(m.log), m.stageDir(stage))
		if err := unix.Unmount(m.cluster(stage).Dir, 0); err != nil {
			t.Error(err)
		}
	})
	dsn := openDatabase(t, e, db)
	execute(t, dsn, "create table rows (n int)", "insert into rows values (1)")
	filler := filepath.Join(m.cluster(stage).Dir, "filler")
	fill(t, filler)
	ctx := within(t, patience)
	conn, err := pgx.Connect(ctx, dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	committed := 1
	for err == nil { // until there is no room for another row
		if _, err = conn.Exec(ctx, "insert into rows select 0 from generate_series(1, 20000)"); err == nil {
			committed += 20000
		}
	}
	t.Logf("the app is told: %v", err)
	if ctx.Err() != nil {
		t.Fatal("the disk does not fill up")
	}
	m.killAll(t, stage)
	opened := m.open(t, stage).OpenDatabase(within(t, patience), 1, db)
	t.Logf("opened on the full disk: %v", opened)
	if opened != nil && !errors.Is(opened, deploy.ErrNoSpace) {
		t.Errorf("opened on the full disk: %v", opened)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	openDatabase(t, m.open(t, stage), db)
	if n := query(t, dsn, "select count(*)::text from rows"); n != strconv.Itoa(committed) {
		t.Errorf("%s rows of %d", n, committed)
	}
	execute(t, dsn, "insert into rows values (2)")
}

// fill leaves no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}
