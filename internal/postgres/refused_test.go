package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What cannot be run is refused with the reason and what to do, and nothing in its folder is changed.
func TestDataThatIsRefused(t *testing.T) {
	b, err := Find()
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	file := func(name, text string) func(t *testing.T, c *Cluster) {
		return func(t *testing.T, c *Cluster) {
			if err := os.WriteFile(filepath.Join(c.data(), name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, c *Cluster) {
		return func(t *testing.T, c *Cluster) {
			if err := os.RemoveAll(filepath.Join(c.data(), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, of := range map[string]struct {
		spoil func(t *testing.T, c *Cluster)
		want  error
		says  string
	}{
		"newer":             {file("PG_VERSION", "99\n"), ErrVersion, "version 99"},
		"older":             {file("PG_VERSION", "8\n"), ErrNotInstalled, "version 8"},
		"no number":         {file("PG_VERSION", "x\n"), ErrVersion, `"x`},
		"another is wanted": {func(_ *testing.T, c *Cluster) { c.Major = b.Major - 1 }, ErrVersion, strconv.Itoa(b.Major-1) + " is asked for"},
		"no cluster":        {remove("PG_VERSION"), ErrFolder, "no PG_VERSION"},
		"damaged":           {remove("global/pg_control"), ErrFolder, "no global/pg_control"},
	} {
		t.Run(name, func(t *testing.T) {
			c := madeCluster(t)
			c.Port = freePort(t)
			of.spoil(t, &c)
			before := listed(t, c.Dir)
			for verb, call := range map[string]func() error{
				"Init":    func() error { return c.Init(bounded(t)) },
				"Reserve": func() error { return c.Reserve(bounded(t)) },
				"Command": func() error { _, err := c.Command(); return err },
			} {
				if err := call(); !errors.Is(err, of.want) && !(verb == "Command" && errors.Is(err, ErrNotMade)) || !strings.Contains(err.Error(), of.says) && verb != "Command" {
					t.Errorf("%s = %v, want %v that says %q", verb, err, of.want, of.says)
				} else if HintOf(err) == "" && verb != "Command" && name != "no number" {
					t.Errorf("%s: no hint: %v", verb, err)
				}
			}
			if after := listed(t, c.Dir); after != before {
				t.Errorf("something was touched:\n%s\n%s", before, after)
			}
		})
	}
}

// listed is every file of a folder with its time.
func listed(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Name() != "lock" {
			fmt.Fprintln(&all, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
