package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Another database and another folder take the place of a stage's while somebody works with them, and back, each as often as one likes; the
// address stays, and what is kept goes when it is told.
func TestBeside(t *testing.T) {
	m, db := newDatabaseMachine(t)
	stage := m.stages[0]
	e := m.open(t, stage)
	dsn := openDatabase(t, e, db)
	execute(t, dsn, "create table rows (n int)", "insert into rows values (1)")
	volume := filepath.Join(m.stageDir(stage), "volumes", "uploads")
	writeFile(t, volume, "old")
	set := deploy.DataSet{ID: "abcd2345", Database: db, URL: dsn, Volumes: []string{"uploads", "empty"}}
	ctx := within(t, patience)

	if err := e.Swap(ctx, 1, set); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("where nothing was prepared: %v", err)
	}
	to, err := e.Prepare(ctx, 1, set)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, to.URL, "create table half (n int)")
	if to, err = e.Prepare(ctx, 1, set); err != nil { // a crash came between
		t.Fatal(err)
	}
	execute(t, to.URL, "create table rows (n int)", "insert into rows values (2)")
	writeFile(t, to.Volumes["uploads"], "new")
	if owner := query(t, to.URL, "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"); owner != "shop" {
		t.Errorf("it belongs to %s", owner)
	}
	serves := func(want, file string) {
		t.Helper()
		if got := query(t, dsn, "select string_agg(n::text, ',') from rows"); got != want {
			t.Errorf("the stage has %s, want %s", got, want)
		}
		if text, err := os.ReadFile(filepath.Join(volume, "f")); err != nil || string(text) != file {
			t.Errorf("the volume has %q, %v, want %q", text, err, file)
		}
	}
	serves("1", "old")
	stop := hammer(t, dsn)
	for range 2 {
		if err := e.Swap(ctx, 1, set); err != nil {
			t.Fatal(err)
		}
	}
	serves("2", "new")
	if err := e.Discard(ctx, 1, set); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := e.SwapBack(ctx, 1, set); err != nil {
			t.Fatal(err)
		}
	}
	serves("1", "old")
	if err := e.Swap(ctx, 1, set); err != nil {
		t.Fatal(err)
	}
	if answered := stop(); answered == 0 {
		t.Error("nobody worked with it meanwhile")
	}
	serves("2", "new")
	kept, err := e.Kept(ctx, set)
	if err != nil || len(kept) != 1 || kept[0].ID != set.ID || kept[0].Database != "shop_before_abcd2345" || kept[0].Bytes == 0 {
		t.Errorf("kept: %+v %v", kept, err)
	}
	if err := e.Forget(ctx, 0, set); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("with an old fence: %v", err)
	}
	for range 2 {
		if err := e.Forget(ctx, 1, set); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := e.Kept(ctx, set); err != nil || len(kept) != 0 {
		t.Errorf("kept: %+v %v", kept, err)
	}
	serves("2", "new")
}

func writeFile(t *testing.T, dir, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// hammer works with a database from some connections until stop, which says how often it was answered. Connections that are ended come
// again, as those of an app do.
func hammer(t *testing.T, dsn secret.Text) (stop func() int64) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var answered atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				if _, err := pool.Exec(ctx, "select n from rows"); err == nil {
					answered.Add(1)
				}
			}
		})
	}
	until(t, "the first answers", patience, func() bool { return answered.Load() > 10 })
	return func() int64 { cancel(); workers.Wait(); pool.Close(); return answered.Load() }
}

// A Swap that was killed in the middle leaves nobody outside for good: done again, or undone, everybody comes in.
func TestBesideHalfDone(t *testing.T) {
	m, db := newDatabaseMachine(t)
	stage := m.stages[0]
	e := m.open(t, stage)
	dsn := openDatabase(t, e, db)
	set := deploy.DataSet{ID: "abcd2345", Database: db, URL: dsn, Volumes: []string{"uploads"}}
	ctx := within(t, patience)
	volume := filepath.Join(m.stageDir(stage), "volumes", "uploads")
	writeFile(t, volume, "old")
	to, err := e.Prepare(ctx, 1, set)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to.Volumes["uploads"], "new")
	admin := m.superuser(t, stage, dsn)
	halves := map[string]func(){
		"nobody is let in": func() { execute(t, admin, "alter database shop allow_connections false") },
		"a volume is on its way": func() {
			kept := filepath.Join(filepath.Dir(volume), ".before-"+set.ID)
			if err := errors.Join(os.MkdirAll(kept, 0o711), os.Rename(volume, filepath.Join(kept, "uploads"))); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, half := range halves {
		half()
		if err := e.SwapBack(ctx, 1, set); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		query(t, dsn, "select 'in'")
		if text, err := os.ReadFile(filepath.Join(volume, "f")); err != nil || string(text) != "old" {
			t.Errorf("%s: %q %v", name, text, err)
		}
		half()
		if err := e.Swap(ctx, 1, set); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		query(t, dsn, "select 'in'")
		if text, err := os.ReadFile(filepath.Join(volume, "f")); err != nil || string(text) != "new" {
			t.Errorf("%s: %q %v", name, text, err)
		}
		if err := e.SwapBack(ctx, 1, set); err != nil {
			t.Fatal(err)
		}
	}
}

// superuser is the address by which the cluster of a stage is reached over its socket.
func (m *machine) superuser(t *testing.T, s deploy.Stage, dsn secret.Text) secret.Text {
	t.Helper()
	c := m.cluster(s)
	_, rest, _ := strings.Cut(dsn.Reveal(), "@127.0.0.1:")
	port, _, _ := strings.Cut(rest, "/")
	return secret.New(strings.Replace(c.Admin("postgres"), "port=5432", "port="+port, 1))
}

// A database of somebody else's cluster: what its role may not do, and what cannot be renamed, is refused with what to do.
func TestBesideOthersDatabase(t *testing.T) {
	m, db := newDatabaseMachine(t)
	stage := m.stages[0]
	e := m.open(t, stage)
	dsn := openDatabase(t, e, db)
	ctx := within(t, patience)
	set := deploy.DataSet{ID: "abcd2345", Database: deploy.Database{URL: "DB"}, URL: dsn}
	if _, err := e.Prepare(ctx, 1, set); !errors.Is(err, deploy.ErrUnsupported) || !strings.Contains(deploy.HintOf(err), "createdb") {
		t.Errorf("without the right: %v (%s)", err, deploy.HintOf(err))
	}
	named, err := postgres.AddressOf(dsn, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	set.URL = named
	if _, err := e.Prepare(ctx, 1, set); !errors.Is(err, deploy.ErrUnsupported) || !strings.Contains(deploy.HintOf(err), "lotse db recover") {
		t.Errorf("a database that every cluster needs: %v (%s)", err, deploy.HintOf(err))
	}
	set.URL = dsn
	execute(t, m.superuser(t, stage, dsn), "alter role shop createdb", "grant connect on database postgres to shop")
	to, err := e.Prepare(ctx, 1, set)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, to.URL, "create table new (n int)")
	stop := hammerless(t, dsn)
	defer stop()
	begun := time.Now()
	if err := e.Swap(ctx, 1, set); err != nil {
		t.Fatal(err)
	}
	t.Logf("switched in %s", time.Since(begun))
	query(t, dsn, "select count(*)::text from new")
	if err := e.Forget(ctx, 1, set); err != nil {
		t.Fatal(err)
	}
}

// hammerless holds one idle connection.
func hammerless(t *testing.T, dsn secret.Text) (stop func()) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn.Reveal())
	if err == nil {
		err = pool.Ping(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return pool.Close
}
