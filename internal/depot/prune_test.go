package depot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/depot"
)

func TestPrune(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	d := open(t, dir)
	start := time.Now().Add(-time.Hour)
	content := func(i int) string { return strings.Repeat(fmt.Sprint(i), 50_000) }
	for i := range 6 { // note 5 is the oldest, 0 the newest; all share one file; odd ones lie in packs
		src := t.TempDir()
		write(t, src, map[string]string{"own": content(i), "shared": "shared"})
		tree, digest, err := d.PutTree(ctx, src, []string{"."})
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(i)
		if err := d.SetNote("step", key, nil, depot.Keeps{Trees: []string{digest}}); err != nil {
			t.Fatal(err)
		}
		_ = tree
		age(t, d, dir, "step", key, start.Add(-time.Duration(i)*time.Minute))
	}
	orphan := put(t, d, strings.Repeat("o", 10_000))
	if _, err := d.Note("step", "4"); err != nil { // a use makes it the newest
		t.Fatal(err)
	}
	keep := func(_, key string) bool { return key == "5" }
	if _, err := d.Prune(ctx, keep, 3*52_000); err != nil {
		t.Fatal(err)
	}
	if d.Has(orphan) {
		t.Error("what no note names was kept")
	}
	if keys, _ := d.Keys("step"); !sameSet(keys, "5", "4", "0") {
		t.Errorf("kept notes %v, want 5 (kept), 4 (just used), 0 (the newest)", keys)
	}
	for i := range 6 {
		want := i == 5 || i == 4 || i == 0
		if got := d.Verify(ctx, depot.DigestOf([]byte(content(i)))) == nil; got != want {
			t.Errorf("the file of note %d is there: %v, want %v", i, got, want)
		}
	}
	if err := open(t, dir).Verify(ctx, depot.DigestOf([]byte("shared"))); err != nil {
		t.Errorf("the shared file: %v", err)
	}
	if _, err := d.Prune(ctx, keep, 0); err != nil {
		t.Fatal(err)
	}
	if keys, _ := d.Keys("step"); !sameSet(keys, "5") {
		t.Errorf("kept notes %v with a budget of nothing, want the kept one", keys)
	}
	if size := diskUse(t, dir); size > 60_000 {
		t.Errorf("%d bytes are left for one kept note of 50,000", size)
	}
	if err := d.Verify(ctx, depot.DigestOf([]byte(content(5)))); err != nil {
		t.Error(err)
	}
}

func age(t *testing.T, d *depot.Depot, dir, kind, key string, at time.Time) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "notes", kind, "*"))
	for _, name := range names {
		data, _ := os.ReadFile(name)
		if strings.Contains(string(data), `"key":"`+key+`"`) {
			if err := os.Chtimes(name, at, at); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no note", key)
}

func sameSet(got []string, want ...string) bool {
	seen := map[string]bool{}
	for _, k := range got {
		seen[k] = true
	}
	for _, k := range want {
		if !seen[k] {
			return false
		}
	}
	return len(seen) == len(want)
}

func diskUse(t *testing.T, dir string) (n int64) {
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if info, err := e.Info(); err == nil && !e.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// A pack of which more than half is dead is written anew without the dead, and what lives in it stays readable.
func TestPruneRewritesPacks(t *testing.T) {
	dir, src, ctx := t.TempDir(), t.TempDir(), t.Context()
	d := open(t, dir)
	write(t, src, map[string]string{"live": "live bytes", "dead": strings.Repeat("dead", 100_000)})
	if _, _, err := d.PutTree(ctx, src, []string{"."}); err != nil {
		t.Fatal(err)
	}
	live := depot.DigestOf([]byte("live bytes"))
	if err := d.SetNote("n", "k", nil, depot.Keeps{Blobs: []string{live}}); err != nil {
		t.Fatal(err)
	}
	freed, err := d.Prune(ctx, func(string, string) bool { return true }, 1<<40)
	if err != nil || freed < 400_000 {
		t.Errorf("Prune freed %d, %v", freed, err)
	}
	if size := diskUse(t, dir); size > 10_000 {
		t.Errorf("%d bytes are left", size)
	}
	for _, d := range []*depot.Depot{d, open(t, dir)} {
		if err := d.Verify(ctx, live); err != nil {
			t.Error(err)
		}
	}
}

func TestHoldCoversWhatNoNoteNamesYet(t *testing.T) {
	src, ctx := t.TempDir(), t.Context()
	d := open(t, t.TempDir())
	before := put(t, d, "before")
	release := d.Hold()
	put(t, d, "before") // found again: covered
	write(t, src, map[string]string{"f": "in a pack"})
	tree, _, err := d.PutTree(ctx, src, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetNote("n", "k", nil, depot.Keeps{}); err != nil {
		t.Fatal(err)
	}
	none := func(string, string) bool { return false }
	if _, err := d.Prune(ctx, none, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Verify(ctx, before), d.VerifyTree(ctx, tree)); err != nil {
		t.Errorf("pruned in spite of a hold: %v", err)
	}
	if _, err := d.Note("n", "k"); err != nil {
		t.Errorf("a note was pruned in spite of a hold: %v", err)
	}
	release()
	if _, err := d.Prune(ctx, none, 0); err != nil {
		t.Fatal(err)
	}
	if d.Has(before) || d.Has(tree[0].Digest) {
		t.Error("what nobody names or holds was kept")
	}
}

// Nothing that a kept note may need is removed when its tree cannot be read.
func TestPruneStopsAtADamagedTreeThatIsKept(t *testing.T) {
	dir, src, ctx := t.TempDir(), t.TempDir(), t.Context()
	d := open(t, dir)
	write(t, src, map[string]string{"f": "content"})
	tree, digest, err := d.PutTree(ctx, src, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetNote("n", "k", nil, depot.Keeps{Trees: []string{digest}}); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "blobs"), `[{"path":"f"`)
	if _, err := d.Prune(ctx, func(string, string) bool { return true }, 0); !errors.Is(err, depot.ErrDamaged) {
		t.Errorf("Prune = %v, want ErrDamaged", err)
	}
	if err := d.Verify(ctx, tree[0].Digest); err != nil {
		t.Error(err)
	}
}

// Ten writers, readers and a pruner at once: what a writer holds is never missing or wrong.
func TestPruneBesideWriters(t *testing.T) {
	d, ctx := open(t, t.TempDir()), t.Context()
	var writers, pruner sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		src := t.TempDir()
		writers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 15 {
				err := func() error {
					defer d.Hold()()
					for i := range 20 {
						os.WriteFile(filepath.Join(src, fmt.Sprint(i)), []byte(fmt.Sprint(r.IntN(60))), 0o644)
					}
					tree, digest, err := d.PutTree(ctx, src, []string{"."})
					if err != nil {
						return err
					}
					if err := d.SetNote("n", fmt.Sprint(w), nil, depot.Keeps{Trees: []string{digest}}); err != nil {
						return err
					}
					return d.VerifyTree(ctx, tree)
				}()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pruner.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := d.Prune(ctx, func(string, string) bool { return false }, 0); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	writers.Wait()
	close(stop)
	pruner.Wait()
}
