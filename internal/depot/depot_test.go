package depot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/depot"
)

func open(t testing.TB, dir string) *depot.Depot {
	t.Helper()
	d, err := depot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(t testing.TB, d *depot.Depot, content string) string {
	t.Helper()
	digest, size, err := d.Put(t.Context(), strings.NewReader(content))
	if err != nil || size != int64(len(content)) {
		t.Fatalf("Put: size %d, %v", size, err)
	}
	return digest
}

// write makes files below dir: "name" → content, "name@" → link target, "name*" → executable.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		mode := fs.FileMode(0o644)
		path := filepath.Join(dir, strings.TrimRight(name, "@*/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch name[len(name)-1] {
		case '@':
			err = os.Symlink(content, path)
		case '/':
			err = os.MkdirAll(path, 0o755)
		case '*':
			mode = 0o755
			fallthrough
		default:
			err = os.WriteFile(path, []byte(content), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read is the reverse of write.
func read(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			if list, _ := os.ReadDir(p); len(list) == 0 && name != "." {
				got[name+"/"] = ""
			}
			if info.Mode().Perm() != 0o755 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
			return nil
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			got[name+"@"] = target
			return err
		case info.Mode().Perm() == 0o755:
			name += "*"
		case info.Mode().Perm() != 0o644:
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		data, err := os.ReadFile(p)
		got[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// flip changes one byte of the file that holds content, wherever in the depot that is.
func flip(t testing.TB, dir, content string) {
	t.Helper()
	flipped := 0
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(p, "/notes/") {
			return err
		}
		data, _ := os.ReadFile(p)
		if i := bytes.Index(data, []byte(content)); i >= 0 && len(content) > 0 {
			data[i] ^= 1
			flipped++
			return os.WriteFile(p, data, 0o600)
		}
		return nil
	})
	if flipped == 0 {
		t.Fatalf("no file of the depot holds %.20q", content)
	}
}

func TestPutAndOpen(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	digest := put(t, d, "hello")
	if digest != "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Errorf("digest %s is not the SHA-256 of the bytes", digest)
	}
	if data, err := open(t, dir).Read(t.Context(), digest); err != nil || string(data) != "hello" {
		t.Errorf("a second depot reads %q, %v", data, err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:zz", strings.ToUpper(digest), "../../etc/passwd", depot.DigestOf([]byte("other"))} {
		if _, err := d.Open(t.Context(), bad); !errors.Is(err, depot.ErrNotFound) {
			t.Errorf("Open(%q) = %v, want ErrNotFound", bad, err)
		}
		if d.Has(bad) {
			t.Errorf("Has(%q)", bad)
		}
	}
	if err := d.Verify(t.Context(), depot.DigestOf([]byte("other"))); !errors.Is(err, depot.ErrNotFound) {
		t.Errorf("Verify of a blob that is not there: %v", err)
	}
}

func TestConcurrentPutsOfTheSameBytes(t *testing.T) {
	d := open(t, t.TempDir())
	content := strings.Repeat("same bytes ", 100_000)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			digest, _, err := d.Put(context.Background(), strings.NewReader(content))
			if err == nil {
				err = d.Verify(context.Background(), digest)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// A broken reader, as when a cancel comes, leaves nothing: no blob, and no file aside after the next Open.
func TestBrokenPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	broken := io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))
	if _, _, err := d.Put(ctx, broken); !errors.Is(err, context.Canceled) {
		t.Errorf("Put = %v, want the cancel", err)
	}
	if n := countFiles(t, dir); n != 0 {
		t.Errorf("%d files were left", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func countFiles(t testing.TB, dir string) (n int) {
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return nil
	})
	return n
}

// What a killed process left aside is removed by the next Open, what a living one is writing is not.
func TestLeftoversOfTheDeadAreRemoved(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	write(t, dir, map[string]string{"aside/dead/half": "half a blob", "aside/dead/pack1": "half a pack"})
	living, err := os.ReadDir(filepath.Join(dir, "aside"))
	if err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	after, _ := os.ReadDir(filepath.Join(dir, "aside"))
	if len(after) != len(living) { // the dead one has gone, that of the second Open has come
		t.Errorf("aside holds %v, had %v", after, living)
	}
	if _, err := os.Stat(filepath.Join(dir, "aside", "dead")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead one's folder is still there: %v", err)
	}
}

func TestDamageIsFoundAndHealed(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<17)
	for _, test := range []struct{ name, content string }{{"small", "a small file"}, {"large", large}} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s packed=%v", test.name, packed), func(t *testing.T) {
				dir, src, ctx := t.TempDir(), t.TempDir(), t.Context()
				d := open(t, dir)
				write(t, src, map[string]string{"f": test.content})
				store := func() {
					t.Helper()
					if !packed {
						put(t, d, test.content)
					} else if _, _, err := d.PutTree(ctx, src, []string{"f"}); err != nil {
						t.Fatal(err)
					}
				}
				store()
				digest := depot.DigestOf([]byte(test.content))
				tree := depot.Tree{{Path: "f", Digest: digest, Size: int64(len(test.content))}}
				if err := errors.Join(d.Verify(ctx, digest), d.VerifyTree(ctx, tree)); err != nil {
					t.Fatal(err)
				}

				flip(t, dir, test.content)
				if err := d.Verify(ctx, digest); !errors.Is(err, depot.ErrDamaged) {
					t.Errorf("Verify = %v, want ErrDamaged", err)
				}
				if err := d.VerifyTree(ctx, tree); !errors.Is(err, depot.ErrDamaged) {
					t.Errorf("VerifyTree = %v, want ErrDamaged", err)
				}
				if _, err := d.Read(ctx, digest); !errors.Is(err, depot.ErrDamaged) {
					t.Errorf("Read = %v, want ErrDamaged", err)
				}
				if _, err := fs.ReadFile(d.FS(ctx, tree), "f"); !errors.Is(err, depot.ErrDamaged) {
					t.Errorf("FS = %v, want ErrDamaged", err)
				}
				out := filepath.Join(t.TempDir(), "out")
				if err := d.Fill(ctx, tree, out, -1, -1); !errors.Is(err, depot.ErrDamaged) {
					t.Errorf("Fill = %v, want ErrDamaged", err)
				}
				if list, _ := os.ReadDir(filepath.Dir(out)); len(list) != 0 {
					t.Errorf("Fill left %v", list)
				}

				store()
				for _, d := range []*depot.Depot{d, open(t, dir)} {
					if err := d.Verify(ctx, digest); err != nil {
						t.Errorf("after it was put again: %v", err)
					}
					if err := d.VerifyTree(ctx, tree); err != nil {
						t.Errorf("after it was put again: %v", err)
					}
				}
			})
		}
	}
}

func TestDamagedPackIndexIsDamageNotAbsence(t *testing.T) {
	dir, src, ctx := t.TempDir(), t.TempDir(), t.Context()
	write(t, src, map[string]string{"f": "content"})
	tree, _, err := open(t, dir).PutTree(ctx, src, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "packs"), "lotse pack 1\n")
	d := open(t, dir)
	if err := d.VerifyTree(ctx, tree); !errors.Is(err, depot.ErrDamaged) {
		t.Errorf("VerifyTree = %v, want ErrDamaged", err)
	}
	if _, _, err := d.PutTree(ctx, src, []string{"."}); err != nil {
		t.Fatal(err)
	}
	if err := d.VerifyTree(ctx, tree); err != nil {
		t.Errorf("after it was put again: %v", err)
	}
}

func TestTreeThereAndBack(t *testing.T) {
	src, ctx := t.TempDir(), t.Context()
	d := open(t, t.TempDir())
	files := map[string]string{
		"a/one": "1", "a/b/two*": "2", "a/b/same": "1", "a/up@": "b/two", "a/b/sideways@": "../one", "a/dangling@": "nowhere",
		"a/empty/": "", "big": strings.Repeat("x", 3<<20), "zero": "", "a/ümläut name\n": "odd",
	}
	write(t, src, files)
	tree, digest, err := d.PutTree(ctx, src, []string{"a", "big", "zero"})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := d.Tree(ctx, digest)
	if err != nil || !cmp.Equal(tree, loaded) {
		t.Errorf("the tree was loaded as %v, %v", loaded, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := d.Fill(ctx, tree, out, -1, -1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, read(t, out)); diff != "" {
		t.Errorf("filled: %s", diff)
	}
	if err := d.Fill(ctx, tree, out, -1, -1); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Fill into what is there = %v, want fs.ErrExist", err)
	}
	// The same tree from its copy, in another folder and in another depot, has the same digest.
	_, again, err := open(t, t.TempDir()).PutTree(ctx, out, []string{"zero", "big", "a"})
	if err != nil || again != digest {
		t.Errorf("the copy's digest is %s, %v; want %s", again, err, digest)
	}
	links := func(e depot.Entry) bool { return e.Link == "" }
	var want []string
	for _, e := range tree {
		if links(e) && !e.Folder {
			want = append(want, e.Path)
		}
	}
	if err := fstest.TestFS(d.FS(ctx, tree), want...); err != nil {
		t.Error(err)
	}
}

func TestTreesThatAreRefused(t *testing.T) {
	d := open(t, t.TempDir())
	for _, test := range []struct {
		name  string
		files map[string]string
		paths []string
		want  error
		say   string
	}{
		{"link out", map[string]string{"a/l@": "../../etc"}, []string{"a"}, depot.ErrEscapes, "a/l"},
		{"absolute link", map[string]string{"a/l@": "/etc/passwd"}, []string{"a"}, depot.ErrEscapes, "a/l"},
		{"out through a link", map[string]string{"a/b/here@": "..", "a/l@": "b/here/../../x"}, []string{"a"}, depot.ErrEscapes, "a/l"},
		{"path out", nil, []string{"../x"}, depot.ErrEscapes, "../x"},
		{"absolute path", nil, []string{"/etc"}, depot.ErrEscapes, "/etc"},
		{"below a link", map[string]string{"real/f": "x", "a@": "real"}, []string{"a/f"}, depot.ErrEscapes, "a"},
		{"not there", nil, []string{"nope"}, fs.ErrNotExist, "nope"},
		{"twice", map[string]string{"a/f": "x"}, []string{"a", "a/f"}, nil, "a/f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := t.TempDir()
			write(t, src, test.files)
			_, _, err := d.PutTree(t.Context(), src, test.paths)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("PutTree = %v, want %v with %q", err, test.want, test.say)
			}
		})
	}
	for _, tree := range []depot.Tree{
		{{Path: "../x", Digest: "d"}}, {{Path: "/x", Digest: "d"}}, {{Path: "a//b", Digest: "d"}}, {{Path: "", Digest: "d"}}, {{Path: "."}},
		{{Path: "a", Link: "b"}, {Path: "a/x", Digest: "d"}}, {{Path: "l", Link: "/etc"}},
	} {
		if err := d.FillInto(t.Context(), tree, t.TempDir(), -1, -1); err == nil {
			t.Errorf("%v was filled", tree)
		}
	}
}

// Steps run while their neighbours' outputs are filled in and could plant a link; nothing is written through it.
func TestFillWritesThroughNoLink(t *testing.T) {
	d := open(t, t.TempDir())
	digest := put(t, d, "x")
	for _, inside := range []bool{false, true} {
		dir, victim, target := t.TempDir(), t.TempDir(), ""
		if target = victim; inside {
			victim, target = filepath.Join(dir, "victim"), "victim"
			os.Mkdir(victim, 0o755)
		}
		if err := os.Symlink(target, filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
		err := d.FillInto(t.Context(), depot.Tree{{Path: "out/f", Digest: digest, Size: 1}}, dir, -1, -1)
		if list, _ := os.ReadDir(victim); err == nil || len(list) != 0 {
			t.Errorf("inside %v: FillInto = %v, and the link's target holds %v", inside, err, list)
		}
	}
}

func TestChangedFileIsNotStored(t *testing.T) {
	for _, size := range []int{10, 2 << 20} {
		for _, change := range []string{"same size", "longer", "gone", "pipe"} {
			t.Run(fmt.Sprint(size, change), func(t *testing.T) {
				d, src := open(t, t.TempDir()), t.TempDir()
				file := filepath.Join(src, "f")
				write(t, src, map[string]string{"f": strings.Repeat("a", size)})
				s, err := depot.Scan(src, []string{"f"})
				if err != nil {
					t.Fatal(err)
				}
				switch change {
				case "same size":
					write(t, src, map[string]string{"f": strings.Repeat("b", size)})
				case "longer":
					write(t, src, map[string]string{"f": strings.Repeat("b", size+1)})
				case "gone":
					os.Remove(file)
				case "pipe":
					os.Remove(file)
					if err := mkfifo(file); err != nil {
						t.Fatal(err)
					}
				}
				if _, _, err := d.PutScanned(t.Context(), s); !errors.Is(err, depot.ErrChanged) {
					t.Errorf("PutScanned = %v, want ErrChanged", err)
				}
			})
		}
	}
}

func TestSpecialFilesAreRefused(t *testing.T) {
	src := t.TempDir()
	if err := mkfifo(filepath.Join(src, "p")); err != nil {
		t.Fatal(err)
	}
	if _, err := depot.Scan(src, []string{"."}); !errors.Is(err, depot.ErrSpecial) || !strings.Contains(err.Error(), "p is a pipe") {
		t.Errorf("Scan = %v, want ErrSpecial for a pipe", err)
	}
}

func TestNotes(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if _, err := d.Note("step", "k"); !errors.Is(err, depot.ErrNotFound) {
		t.Errorf("Note before SetNote = %v", err)
	}
	for _, content := range []string{"one", "two"} {
		if err := d.SetNote("step", "k/../odd key\n", []byte(content), depot.Keeps{}); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := open(t, dir).Note("step", "k/../odd key\n"); err != nil || string(data) != "two" {
		t.Errorf("Note = %q, %v", data, err)
	}
	if keys, err := d.Keys("step"); err != nil || !cmp.Equal(keys, []string{"k/../odd key\n"}) {
		t.Errorf("Keys = %q, %v", keys, err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "notes", "step", "*"))
	if err := os.Truncate(names[0], 10); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Note("step", "k/../odd key\n"); !errors.Is(err, depot.ErrDamaged) {
		t.Errorf("a torn note = %v, want ErrDamaged", err)
	}
}

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
