package depot_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
