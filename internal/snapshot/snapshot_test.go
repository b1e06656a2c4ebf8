package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// TestWhatWasTakenComesBack goes the whole way: take, list, prove with a check, restore into an empty database as its owner and into
// empty folders.
func TestWhatWasTakenComesBack(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	volume := t.TempDir()
	fill(t, volume)
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url, Volumes: map[string]string{"uploads": volume}})
	if taken.Rows != 500+500+4+3 || taken.Tables != 5 || taken.Files != 3 || taken.Size == 0 || taken.Server == "" || taken.Schema == "" || taken.Took <= 0 {
		t.Errorf("%+v", taken)
	}

	asked := false
	proof, err := s.Prove(bounded(t), stage, taken.ID, func(_ context.Context, url secret.Text) error {
		asked = true
		if n := ask[int](t, url.Reveal(), "select count(*) from people"); n != 500 {
			t.Errorf("the check sees %d people", n)
		}
		return nil
	})
	if err != nil || !asked || proof.Wrong != "" || proof.Check != "passed" || proof.Took <= 0 {
		t.Fatalf("%+v %v", proof, err)
	}
	empties(t, s.c.Scratch)
	listed, err := s.List(bounded(t), stage)
	if err != nil || len(listed) != 1 || listed[0].Damaged != "" || listed[0].Proof == nil || listed[0].Proof.Wrong != "" || listed[0].Rows != taken.Rows {
		t.Fatalf("%+v %v", listed, err)
	}

	_, fresh := database(t)
	back := filepath.Join(t.TempDir(), "new")
	if err := s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: fresh, Volumes: map[string]string{"uploads": back}}); err != nil {
		t.Fatal(err)
	}
	sums := "select md5(string_agg(x::text, '|' order by x::text)) from people x"
	if ask[string](t, url.Reveal(), sums) != ask[string](t, fresh.Reveal(), sums) {
		t.Error("other people came back")
	}
	if n := ask[int](t, fresh.Reveal(), "insert into people (email) values ('new@example.com') returning id"); n != 501 {
		t.Errorf("the sequence goes on with %d", n)
	}
	if text, err := os.ReadFile(filepath.Join(back, "a", "b.txt")); err != nil || string(text) != "hello" {
		t.Error(string(text), err)
	}
	if to, err := os.Readlink(filepath.Join(back, "link")); err != nil || to != "/etc/passwd" {
		t.Error(to, err)
	}
	empties(t, s.c.Scratch)

	// A second time it is not empty, and nothing is touched.
	err = s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: fresh})
	if !errors.Is(err, deploy.ErrRefused) || ask[int](t, fresh.Reveal(), "select count(*) from people") != 501 {
		t.Error(err)
	}
}

// fill makes files, a folder that is empty, and a link that leads out.
func fill(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "a", "empty"), 0o750), os.WriteFile(filepath.Join(dir, "a", "b.txt"), []byte("hello"), 0o640),
		os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o600), os.WriteFile(filepath.Join(dir, "large"), make([]byte, 3<<20), 0o600), os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
}

func empties(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
		t.Errorf("%s is not empty: %v %v", dir, entries, err)
	}
}

// TestACancelLeavesNothing in whatever phase it comes.
func TestACancelLeavesNothing(t *testing.T) {
	_, url := database(t)
	execute(t, url.Reveal(), market)
	s, _ := store(t)
	for _, at := range []string{"moment", "part", "manifest"} {
		ctx, cancel := context.WithCancel(bounded(t))
		s.at = func(point string) error {
			if point == at {
				cancel()
			}
			return nil
		}
		_, err := s.Take(ctx, deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{URL: url}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", at, err)
		}
		of, _ := dir(stage)
		if files, err := s.place.list(bounded(t), of); err != nil || len(files) != 0 {
			t.Errorf("%s: %v %v", at, files, err)
		}
		empties(t, s.c.Scratch)
	}
}

// TestTwoAtOnce wait for each other, also as two processes would, and their ids sort by time.
func TestTwoAtOnce(t *testing.T) {
	one, _ := store(t)
	two, err := Open(one.c)
	if err != nil {
		t.Fatal(err)
	}
	inside := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for _, s := range []*Store{one, two, one, two} {
		s.at = func(point string) error {
			switch point {
			case "moment":
				select {
				case inside <- struct{}{}:
				default:
					return errors.New("two are inside")
				}
			case "taken":
				<-inside
			}
			return nil
		}
	}
	for _, s := range []*Store{one, two, one, two} {
		wg.Go(func() {
			_, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{Volumes: map[string]string{"a": t.TempDir()}}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	listed, err := one.List(bounded(t), stage)
	if err != nil || len(listed) != 4 || !slices.IsSortedFunc(listed, func(a, b deploy.Snapshot) int { return a.At.Compare(b.At) }) {
		t.Errorf("%+v %v", listed, err)
	}
}

// TestFilesThatChangeAreTold and a snapshot is whole all the same.
func TestFilesThatChangeAreTold(t *testing.T) {
	volume := t.TempDir()
	file := filepath.Join(volume, "a")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	shrink := &shrinking{file: file}
	tr := &tree{ctx: bounded(t), root: root, sum: sha256.New()}
	if err := tr.pack(shrink); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tr.changed, []string{"a"}) || tr.bytes != 4<<20 {
		t.Errorf("%v changed, %d bytes", tr.changed, tr.bytes)
	}
}

// shrinking cuts a file when its first bytes come.
type shrinking struct{ file string }

func (s *shrinking) Write(p []byte) (int, error) { return len(p), os.Truncate(s.file, 1<<20) }
