package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// TestRightsAndPlatforms takes what an owner alone does not make: roles that policies and rights name, an owner that is no superuser, large
// objects, another encoding; and, by the looks of it, a project of Supabase: a FAKE, with its role, schemas and extension by name alone.
func TestRightsAndPlatforms(t *testing.T) {
	name, url := database(t)
	c := theCluster(t)
	admin := secret.New(c.Admin(name))
	for _, role := range []string{"supabase_admin", "authenticated", "Odd role", "service"} {
		execute(t, admin.Reveal(), `do $$begin create role "`+role+`" nologin; exception when duplicate_object then null; end$$`)
	}
	execute(t, url.Reveal(), market)
	execute(t, admin.Reveal(), `create schema auth;
create table auth.users (id int primary key, mail text);
insert into auth.users values (1, 'one@example.com');
alter table auth.users owner to supabase_admin;
create schema realtime;
create table realtime.messages (a int);
insert into realtime.messages values (1);
create policy theirs on people for select to authenticated, "Odd role" using (true);
grant select on orders to service;
alter default privileges for role service grant select on tables to authenticated;
select lo_from_bytea(4711, 'a large object')`)
	s, _ := store(t)
	taken := take(t, s, deploy.Data{URL: admin})
	of, _ := find(stage, taken.ID)
	l, err := s.open(bounded(t), stage, taken.ID, of)
	if err != nil || !slices.Contains(l.details.Roles, "Odd role") || !slices.Contains(l.details.Roles, name) {
		t.Fatalf("%+v %v", l.details.Roles, err)
	}
	if !slices.ContainsFunc(l.details.Tables, func(d tableDetails) bool { return d.Name == "auth.users" && d.Rows == 1 }) ||
		slices.ContainsFunc(l.details.Tables, func(d tableDetails) bool { return strings.HasPrefix(d.Name, "realtime") }) {
		t.Errorf("%+v", l.details.Tables)
	}
	if !slices.ContainsFunc(l.details.Tables, func(d tableDetails) bool { return d.Name == "large objects" && d.Rows == 1 }) {
		t.Errorf("%+v", l.details.Tables)
	}

	proof, err := s.Prove(bounded(t), stage, taken.ID, func(ctx context.Context, url secret.Text) error {
		if n := ask[int](t, url.Reveal(), "select count(*) from auth.users"); n != 1 {
			t.Error(n)
		}
		if owner := ask[string](t, url.Reveal(), "select tableowner::text from pg_tables where tablename = 'people'"); owner != name {
			t.Error(owner)
		}
		return nil
	})
	if err != nil {
		t.Fatal(proof, err)
	}
	// An owner that is no superuser gets everything but rights that it may not give.
	_, to := database(t)
	if err := s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: to}); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](t, to.Reveal(), "select count(*) from pg_policies"); n != 2 {
		t.Errorf("%d policies came back", n)
	}

	// Where a role that a policy is for is not there, nothing is filled.
	execute(t, admin.Reveal(), `create role passing nologin;
create policy passing on orders to passing using (true)`)
	taken = take(t, s, deploy.Data{URL: admin})
	execute(t, admin.Reveal(), "drop policy passing on orders;\ndrop role passing")
	_, to = database(t)
	err = s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: to})
	if !errors.Is(err, deploy.ErrMissing) || !strings.Contains(err.Error(), "no role passing") || deploy.HintOf(err) == "" || ask[int](t, to.Reveal(), "select count(*) from pg_tables where schemaname = 'public'") != 0 {
		t.Error(err)
	}
}

// TestRowsThatARoleMayNotSee are no reason to take a snapshot without them.
func TestRowsThatARoleMayNotSee(t *testing.T) {
	_, url := database(t)
	execute(t, url.Reveal(), "create table own (a int);\nalter table own enable row level security;\nalter table own force row level security;\ncreate policy p on own using (a = 1)")
	s, _ := store(t)
	_, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{URL: url}})
	if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "row level security") || deploy.HintOf(err) == "" {
		t.Fatal(err)
	}
	of, _ := dir(stage)
	if files, err := s.place.list(bounded(t), of); err != nil || len(files) != 0 {
		t.Error(files, err)
	}
}

// TestWhatIsNotUsable is refused with the reason, before anything is done.
func TestWhatIsNotUsable(t *testing.T) {
	s, _ := store(t)
	order := func(data deploy.Data) deploy.SnapshotOrder { return deploy.SnapshotOrder{Stage: stage, Data: data} }
	for _, c := range []struct {
		name string
		run  func() error
		is   error
		says string
	}{
		{"nothing to take", func() error { _, err := s.Take(bounded(t), order(deploy.Data{})); return err }, deploy.ErrBadInput, "neither a database nor volumes"},
		{"no URL", func() error {
			_, err := s.Take(bounded(t), order(deploy.Data{URL: secret.New("mysql://x")}))
			return err
		}, deploy.ErrBadInput, "not an address of PostgreSQL"},
		{"no TLS beyond this machine", func() error {
			_, err := s.Take(bounded(t), order(deploy.Data{URL: secret.New("postgres://a:b@db.example.com/x?sslmode=disable")}))
			return err
		}, deploy.ErrBadInput, "without TLS"},
		{"nobody there", func() error {
			_, err := s.Take(bounded(t), order(deploy.Data{URL: secret.New("postgres://a:geheim@127.0.0.1:1/x")}))
			return err
		}, deploy.ErrUnavailable, "nothing listens"},
		{"a stage that leads elsewhere", func() error {
			_, err := s.List(bounded(t), deploy.StageRef{App: "..", Stage: "x"})
			return err
		}, deploy.ErrBadInput, "names no stage"},
		{"an id that leads elsewhere", func() error { _, err := s.Prove(bounded(t), stage, "../x", nil); return err }, deploy.ErrBadInput, "not the id"},
		{"no such snapshot", func() error { return s.Restore(bounded(t), stage, "2020", deploy.Data{}) }, deploy.ErrNotFound, "no snapshot 2020"},
		{"no such volume", func() error {
			_, err := s.Take(bounded(t), order(deploy.Data{Volumes: map[string]string{"a": "/nowhere/at/all"}}))
			return err
		}, nil, "volume a"},
		{"no recipients", func() error {
			none, err := Open(Config{Root: t.TempDir(), Scratch: t.TempDir()})
			if err == nil {
				_, err = none.Take(bounded(t), order(deploy.Data{Volumes: map[string]string{"a": t.TempDir()}}))
			}
			return err
		}, deploy.ErrMissing, "no public key"},
		{"a recipient that is none", func() error {
			_, err := Open(Config{Root: t.TempDir(), Recipients: []string{"age1nothing"}})
			return err
		}, deploy.ErrBadInput, "not a public key"},
	} {
		err := c.run()
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestADiskThatFills while a snapshot is written leaves what was there, and nothing half.
func TestADiskThatFills(t *testing.T) {
	root := disk(t, "24m")
	s, _ := store(t, func(c *Config) { c.Root = root })
	first := take(t, s, deploy.Data{Volumes: map[string]string{"a": t.TempDir()}})
	volume := large(t)
	if _, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{Volumes: map[string]string{"a": volume, "b": volume}}}); !errors.Is(err, deploy.ErrNoSpace) || deploy.HintOf(err) == "" {
		t.Fatal(err)
	}
	listed, err := s.List(bounded(t), stage)
	if err != nil || len(listed) != 1 || listed[0].ID != first.ID {
		t.Error(listed, err)
	}
	of, _ := dir(stage)
	files, err := s.place.list(bounded(t), of)
	if err != nil || len(foldersIn(files, of)) != 1 {
		t.Error(files, err)
	}
}
