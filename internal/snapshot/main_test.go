package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// deadline is for what never takes long; it is met only when something is broken.
const deadline = 2 * time.Minute

var stage = deploy.StageRef{App: "market", Stage: "prod"}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// source is the one cluster in which tests have databases of their own.
var source struct {
	sync.Once
	dir     string
	cluster postgres.Cluster
	err     error
	n       int
}

func TestMain(m *testing.M) {
	if point := os.Getenv(faultPoint); point != "" {
		dieAt(point) // a child of a test
		return
	}
	code := m.Run()
	if source.dir != "" {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		_ = source.cluster.Remove(ctx) // of the tests alone
		_ = os.RemoveAll(source.dir)   // at worst a leftover in the folder for such things
		cancel()
	}
	os.Exit(code)
}

func shortFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ls")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func theCluster(t testing.TB) postgres.Cluster {
	t.Helper()
	if _, err := postgres.Find(); err != nil {
		t.Skipf("NOT RUN: nothing is proven about snapshots of a real PostgreSQL: %v (%s)", err, postgres.HintOf(err))
	}
	source.Do(func() {
		if source.dir, source.err = os.MkdirTemp("", "ls"); source.err != nil {
			return
		}
		if source.err = os.Chmod(source.dir, 0o755); source.err != nil {
			return
		}
		source.cluster = postgres.Cluster{Dir: filepath.Join(source.dir, "c")}
		_, source.err = source.cluster.Start(context.Background(), nil)
		if source.err == nil {
			source.err = do(source.cluster.Admin("postgres"), "alter system set fsync = off;\nselect pg_reload_conf()")
		}
	})
	if source.err != nil {
		t.Fatal(source.err)
	}
	return source.cluster
}

func do(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for statement := range strings.SplitSeq(sql, ";\n") {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// database makes an empty one with a role of its own that is not a superuser.
func database(t testing.TB) (name string, url secret.Text) {
	t.Helper()
	c := theCluster(t)
	source.n++
	name = fmt.Sprintf("app%d", source.n)
	url, err := c.CreateDatabase(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return name, url
}

func execute(t testing.TB, dsn, sql string) {
	t.Helper()
	if err := do(dsn, sql); err != nil {
		t.Fatal(err)
	}
}

func ask[T any](t testing.TB, dsn, sql string) (answer T) {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(bounded(t), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// market is a schema with what apps have: keys, an identity, an index, a check, a trusted extension, a view, a function with a trigger, a
// policy, an enum, an array, bytes, times with a zone, rows that are equal, an empty table, a large row.
const market = `create extension pgcrypto;
create type state as enum ('open', 'done');
create table people (id bigint generated always as identity primary key, email text not null unique, seen timestamptz not null default now(), tags text[], raw bytea, score double precision);
create table orders (id uuid primary key default gen_random_uuid(), person bigint not null references people on delete cascade, state state not null default 'open', cents int check (cents >= 0), note text);
create index on orders (person, state);
create table twins (a int, b text);
create table nothing (a int);
create table "Odd name" (" x" text);
create view open_orders as select o.id, p.email from orders o join people p on p.id = o.person where o.state = 'open';
create function touch() returns trigger language plpgsql as $$begin new.seen = now(); return new; end$$;
create trigger touched before update on people for each row execute function touch();
alter table people enable row level security;
create policy own on people using (email = current_user);
comment on table people is 'who we know';
insert into people (email, tags, raw, score) select 'p' || i || '@example.com', array['a' || i, null, E'tab\there'], decode(md5(i::text), 'hex'), i / 7.0 from generate_series(1, 500) i;
insert into orders (person, cents, note) select id, id * 3, E'line\nbreak \\. and \\N' from people;
insert into twins values (1, 'same'), (1, 'same'), (null, ''), (2, E'\\.');
insert into "Odd name" values (''), (E'\\.'), (repeat('x', 700000))`

// store is one in a folder of its own, with a key of its own.
func store(t testing.TB, change ...func(*Config)) (*Store, *age.X25519Identity) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Root: filepath.Join(shortFolder(t), "snapshots"), Scratch: filepath.Join(shortFolder(t), "s"), Recipients: []string{key.Recipient().String()},
		Keys: func() (secret.Text, error) { return secret.New(key.String()), nil }, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&c)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

func take(t testing.TB, s *Store, data deploy.Data) deploy.Snapshot {
	t.Helper()
	taken, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Why: deploy.SnapshotByHand, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return taken
}
