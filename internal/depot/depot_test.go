package depot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/depot"
)

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
		dir, victim := t.TempDir(), t.TempDir()
		target := victim
		if inside {
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
