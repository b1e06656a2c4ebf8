package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// scratchOf is the cluster that a drill works with now.
func scratchOf(t testing.TB, s *Store) postgres.Cluster {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.c.Scratch, "*", "c"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v scratch clusters, %v", found, err)
	}
	sockets, err := filepath.Glob(filepath.Join(found[0], "run", ".s.PGSQL.*[0-9]"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("%v sockets, %v", sockets, err)
	}
	port, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(sockets[0]), "."))
	if err != nil {
		t.Fatal(err)
	}
	return postgres.Cluster{Dir: found[0], Port: port}
}

// fault is one thing that goes wrong between taking a snapshot and needing it.
type fault struct {
	name  string
	plant func(t *testing.T, s *Store, dir string) // dir is the snapshot's folder
	says  []string                                 // each is in the error
	is    error                                    // ErrDamaged: it is also in the proof
}

// change does something to the bytes of a file.
func change(name string, f func([]byte) []byte) func(*testing.T, *Store, string) {
	return func(t *testing.T, _ *Store, dir string) {
		file := filepath.Join(dir, name)
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, f(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func flip(at func(n int) int) func([]byte) []byte {
	return func(b []byte) []byte { b[at(len(b))] ^= 4; return b }
}

// anew encrypts the same dump once more for the same key, as somebody could who may write there.
func anew(t *testing.T, s *Store, dir string) {
	change(databaseName, func(text []byte) []byte {
		keys, _ := s.keys()
		o, err := unseal(bytes.NewReader(text), part{Name: databaseName}, keys)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		var other bytes.Buffer
		w, err := seal(&other, s.recipients)
		if err == nil {
			_, err = io.Copy(w, o)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return other.Bytes()
	})(t, s, dir)
}

// meanwhile does something to the scratch database between its restore and its comparison.
func meanwhile(sql string) func(*testing.T, *Store, string) {
	return func(t *testing.T, s *Store, _ string) {
		s.at = func(point string) error {
			if point == "restored" {
				return do(scratchOf(t, s).Admin(drillName), sql)
			}
			return nil
		}
	}
}

// otherKey makes the keys of a store those of somebody else.
func otherKey(t *testing.T, s *Store, _ string) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s.c.Keys = func() (secret.Text, error) { return secret.New(key.String()), nil }
}

// resealed writes a manifest that says something else, as a store would that took such a snapshot.
func resealed(f func(*open, *details)) func(*testing.T, *Store, string) {
	return func(t *testing.T, s *Store, dir string) {
		change(manifestName, func(text []byte) []byte {
			m, err := parseManifest(text, filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			keys, _ := s.keys()
			d, err := m.details(keys)
			if err != nil {
				t.Fatal(err)
			}
			f(&m.open, &d)
			text, err = sealManifest(m.open, d, s.recipients)
			if err != nil {
				t.Fatal(err)
			}
			return text
		})(t, s, dir)
	}
}

// killScratch kills the scratch server while pg_restore is at work.
func killScratch(t *testing.T, s *Store, _ string) {
	s.at = func(point string) error {
		if point == "restore" {
			pid, err := scratchOf(t, s).PID()
			return errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
		}
		return nil
	}
}

// tiny makes the folder for scratch clusters a disk of 24 MB: room for a dump, and none for a cluster.
func tiny(t *testing.T, s *Store, _ string) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN without root, which mounts small disks: what a drill says of a full one")
	}
	s.c.Scratch = disk(t, "24m")
}

func disk(t *testing.T, size string) string {
	t.Helper()
	dir := shortFolder(t)
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size+",mode=0755"); err != nil {
		t.Skipf("NOT RUN: no small disk can be mounted here (%v): what is said of a full one", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

var faults = []fault{
	{"a truncated dump", change(databaseName, func(b []byte) []byte { return b[:len(b)/2] }), []string{databaseName, "is cut"}, deploy.ErrDamaged},
	{"a dump without its last byte", change(databaseName, func(b []byte) []byte { return b[:len(b)-1] }), []string{databaseName, "is cut"}, deploy.ErrDamaged},
	{"no dump", func(t *testing.T, _ *Store, dir string) {
		if err := os.Remove(filepath.Join(dir, databaseName)); err != nil {
			t.Fatal(err)
		}
	}, []string{databaseName, "is missing"}, deploy.ErrDamaged},
	{"a flipped bit in the middle", change(databaseName, flip(func(n int) int { return n / 2 })), []string{databaseName, "was changed"}, deploy.ErrDamaged},
	{"a flipped bit in the head", change(databaseName, flip(func(int) int { return 60 })), []string{databaseName}, deploy.ErrDamaged},
	{"a flipped bit at the end of a volume", change("volumes/uploads.tar.zst.age", flip(func(n int) int { return n - 3 })), []string{"volume uploads", "was changed"}, deploy.ErrDamaged},
	{"a truncated volume", change("volumes/uploads.tar.zst.age", func(b []byte) []byte { return b[:len(b)-100] }), []string{"volume uploads", "is cut"}, deploy.ErrDamaged},
	{"a figure of the manifest", change(manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"rows": 1007`), []byte(`"rows": 1008`), 1) }), []string{manifestName, "was changed"}, deploy.ErrDamaged},
	{"a manifest that is no JSON", change(manifestName, func(b []byte) []byte { return b[:len(b)/3] }), []string{manifestName, "cannot be read"}, deploy.ErrDamaged},
	{"a table that the dump does not have", resealed(func(_ *open, d *details) {
		d.Tables = append(d.Tables, tableDetails{"public.more", 7, "0"})
	}), []string{databaseName + " is not what the manifest says: table public.more is missing; 7 rows"}, deploy.ErrDamaged},
	{"a dump that was encrypted anew", anew, []string{databaseName, "is not the one that the manifest speaks of"}, deploy.ErrDamaged},
	{"a missing table", meanwhile("drop table twins"), []string{"table public.twins is missing; 4 rows of it were taken"}, deploy.ErrDamaged},
	{"a dropped row", meanwhile("delete from twins where a = 2"), []string{"table public.twins has 3 rows, 4 were taken"}, deploy.ErrDamaged},
	{"a wrong key", otherKey, []string{"cannot be opened: it was encrypted for other keys"}, deploy.ErrDamaged},
	{"a snapshot of a newer major version", resealed(func(o *open, _ *details) { o.Major, o.Tool = 99, "99.1" }), []string{"PostgreSQL 99", "this machine has"}, deploy.ErrUnsupported},
	{"a newer format", change(manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1) }), []string{"has format 2"}, deploy.ErrUnsupported},
	{"a full disk", tiny, []string{"full"}, deploy.ErrNoSpace},
	{"the target dying half way", killScratch, []string{"the scratch cluster ended"}, deploy.ErrUnavailable},
}

// TestADrillCatches plants every fault in a copy of one snapshot, and sees that it is named, that nothing is lost, and that nothing runs on.
func TestADrillCatches(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	volume := t.TempDir()
	fill(t, volume)
	original, key := store(t)
	taken := take(t, original, deploy.Data{Database: name, URL: url, Volumes: map[string]string{"uploads": volume}})
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s, _ := store(t, func(c *Config) {
				c.Recipients = []string{key.Recipient().String()}
				c.Keys = func() (secret.Text, error) { return secret.New(key.String()), nil }
			})
			if err := os.CopyFS(s.c.Root, os.DirFS(original.c.Root)); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(s.c.Root, stage.App, stage.Stage, taken.ID)
			f.plant(t, s, dir)
			before := sizes(t, dir)
			proof, err := s.Prove(bounded(t), stage, taken.ID, nil)
			if !errors.Is(err, f.is) {
				t.Fatalf("%v (%+v)", err, proof)
			}
			for _, word := range f.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			t.Log(err)
			_, told := os.Stat(filepath.Join(dir, proofName))
			if damaged := errors.Is(f.is, deploy.ErrDamaged); damaged != (told == nil) || damaged == (proof.Wrong == "") {
				t.Errorf("the proof says %q, and is kept: %v", proof.Wrong, told)
			}
			empties(t, s.c.Scratch)
			for file, size := range sizes(t, dir) {
				if was, there := before[file]; file != proofName && (!there || was != size) {
					t.Errorf("%s has %d bytes, it had %d", file, size, was)
				}
			}
		})
	}
}

func sizes(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	all, err := folder{dir}.list(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestARestoreCatches what is not as it was by the same comparison as a drill, in a database of a server that runs already.
func TestARestoreCatches(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url})
	for _, f := range []struct{ name, sql, says string }{
		{"one of two equal rows made other", "update twins set b = 'other' where ctid = (select min(ctid) from twins where a = 1)", "table public.twins has 4 rows as it had, and not the same ones"},
		{"a policy that is gone", "drop policy own on people", "policy public.people own is missing"},
		{"a function that does something else", "create or replace function touch() returns trigger language plpgsql as 'begin return new; end'", "function public.touch() is not defined as it was"},
		{"a sequence that stands elsewhere", "select setval('people_id_seq', 7)", "sequence public.people_id_seq does not stand where it stood"},
	} {
		t.Run(f.name, func(t *testing.T) {
			_, to := database(t)
			s.at = func(point string) error {
				if point == "restored" {
					return do(to.Reveal(), f.sql)
				}
				return nil
			}
			err := s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: to})
			if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), f.says) {
				t.Fatal(err)
			}
		})
	}
}

// TestAnyUserChecks what came back with PostgreSQL's own client, as somebody who owns nothing here; without the password nobody does.
func TestAnyUserChecks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN without root, which runs programs as another user: that an app's check reaches the scratch cluster")
	}
	name, url := database(t)
	execute(t, url.Reveal(), "create table one (a int);\ninsert into one values (41)")
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url})
	asked := func(ctx context.Context, dsn string) (string, error) {
		c := exec.CommandContext(ctx, "psql", dsn, "--no-password", "-XAtc", "select a + 1 from one")
		c.Env, c.Dir = []string{"PATH=" + os.Getenv("PATH")}, "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
		out, err := c.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	_, err := s.Prove(bounded(t), stage, taken.ID, func(ctx context.Context, url secret.Text) error {
		if said, err := asked(ctx, url.Reveal()); err != nil || said != "42" {
			t.Errorf("%s, %v", said, err)
		}
		u, err := neturl.Parse(url.Reveal())
		if err != nil || u.Hostname() != "127.0.0.1" || u.Query().Get("sslmode") != "verify-full" {
			t.Errorf("the address is not one of a stage's own database: %v", err)
		}
		u.User = neturl.User(u.User.Username())
		if said, err := asked(ctx, u.String()); err == nil {
			t.Errorf("without a password: %s", said)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestADrillAsksTheApp keeps what the app's own check has against what came back, and does not take a cancel for it.
func TestADrillAsksTheApp(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), "create table one (a int)")
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url})
	proof, err := s.Prove(bounded(t), stage, taken.ID, func(context.Context, secret.Text) error { return errors.New("no people in it\nmore") })
	if !errors.Is(err, deploy.ErrDamaged) || proof.Check != "no people in it" || !strings.Contains(proof.Wrong, "no people in it") {
		t.Fatalf("%+v %v", proof, err)
	}
	listed, err := s.List(bounded(t), stage)
	if err != nil || listed[0].Proof == nil || listed[0].Proof.Wrong == "" {
		t.Fatalf("%+v %v", listed, err)
	}
	if os.Getenv("LOTSE_PROVE") == "" {
		return // a second drill, for the cancel
	}
	ctx, cancel := context.WithCancel(bounded(t))
	_, err = s.Prove(ctx, stage, taken.ID, func(context.Context, secret.Text) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) || errors.Is(err, deploy.ErrDamaged) {
		t.Fatal(err)
	}
	empties(t, s.c.Scratch)
}

// TestTheManifestSaysNothingOfRows looks for what people wrote, and for names of tables, in what anybody can read.
func TestTheManifestSaysNothingOfRows(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url})
	text, err := os.ReadFile(filepath.Join(taken.Where, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "sealed")
	inTheOpen, _ := json.Marshal(m) // it came from JSON
	for _, word := range []string{"people", "orders", "example.com", "sum\""} {
		if bytes.Contains(inTheOpen, []byte(word)) {
			t.Errorf("%s is in the open", word)
		}
	}
	if info, err := os.Stat(taken.Where); err != nil || info.Mode().Perm() != 0o700 || time.Since(taken.At) > time.Hour {
		t.Error(info.Mode(), err)
	}
}
