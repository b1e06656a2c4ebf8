package depot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/depot"
)

func mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }

// tinyDisk is a file system of so many bytes.
func tinyDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("NOT RUN: a full disk needs the right to mount (%v); that ErrNoSpace leaves nothing half done is not proven", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	dir := tinyDisk(t, 4<<20)
	d := open(t, filepath.Join(dir, "depot"))
	src := t.TempDir()
	for i := range 60 {
		write(t, src, map[string]string{fmt.Sprintf("%d/f", i): strings.Repeat(fmt.Sprintf("%08d", i), 10_000)})
	}
	held := put(t, d, "was there before")
	files := countFiles(t, dir)

	if _, _, err := d.PutTree(ctx, src, []string{"."}); !errors.Is(err, depot.ErrNoSpace) {
		t.Fatalf("PutTree = %v, want ErrNoSpace", err)
	}
	if _, _, err := d.Put(ctx, strings.NewReader(strings.Repeat("x", 5<<20))); !errors.Is(err, depot.ErrNoSpace) {
		t.Fatalf("Put = %v, want ErrNoSpace", err)
	}
	if n := countFiles(t, dir); n != files {
		t.Errorf("%d files are there, there were %d", n, files)
	}
	if err := d.Verify(ctx, held); err != nil {
		t.Error(err)
	}

	// A filler: fill a tree onto the full disk.
	roomy := open(t, t.TempDir())
	tree, _, err := roomy.PutTree(ctx, src, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	if err := roomy.Fill(ctx, tree, filepath.Join(dir, "out"), -1, -1); !errors.Is(err, depot.ErrNoSpace) {
		t.Fatalf("Fill = %v, want ErrNoSpace", err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("Fill left %v", list)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	if err := d.SetNote("n", "k", []byte(strings.Repeat("n", 10_000)), depot.Keeps{}); !errors.Is(err, depot.ErrNoSpace) {
		t.Errorf("SetNote = %v, want ErrNoSpace", err)
	}

	os.Remove(filepath.Join(dir, "ballast"))
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=33554432"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.PutTree(ctx, src, []string{"."}); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := d.SetNote("n", "k", nil, depot.Keeps{}); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestFillGivesToAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: giving files to another user needs root; that Fill does so is not proven")
	}
	d, src := open(t, t.TempDir()), t.TempDir()
	write(t, src, map[string]string{"a/f": "x", "a/l@": "f", "e/": ""})
	tree, _, err := d.PutTree(t.Context(), src, []string{"a", "e"})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := d.Fill(t.Context(), tree, out, 61000, 61001); err != nil {
		t.Fatal(err)
	}
	seen := 0
	filepath.WalkDir(out, func(p string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil || st.Uid != 61000 || st.Gid != 61001 {
			t.Errorf("%s belongs to %d:%d, %v", p, st.Uid, st.Gid, err)
		}
		seen++
		return nil
	})
	if seen != 5 {
		t.Errorf("saw %d", seen)
	}
}

func TestUmaskIsOfNoAccount(t *testing.T) {
	d, src := open(t, t.TempDir()), t.TempDir()
	write(t, src, map[string]string{"a/f": "x", "a/x*": "y"})
	tree, _, err := d.PutTree(t.Context(), src, []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0o077))
	out := filepath.Join(t.TempDir(), "out")
	if err := d.Fill(t.Context(), tree, out, -1, -1); err != nil {
		t.Fatal(err)
	}
	read(t, out) // looks at the modes
}

func TestSpace(t *testing.T) {
	free, total, err := depot.Space(tinyDisk(t, 4<<20))
	if err != nil || total != 4<<20 || free <= 0 || free > total {
		t.Errorf("Space = %d, %d, %v", free, total, err)
	}
}
