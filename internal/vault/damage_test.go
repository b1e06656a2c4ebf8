package vault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Whatever is wrong with the files is said, with what to do, and every byte of them stays as it is.
func TestDamage(t *testing.T) {
	other := t.TempDir()
	set(t, opened(t, other), dev, deploy.SecretVariable, "A", "of another vault")
	for name, c := range map[string]struct {
		damage func(vault string) error
		want   error
		hint   string
	}{
		"truncated":       {func(d string) error { return os.Truncate(d+"/shop/dev.age", 150) }, deploy.ErrDamaged, "last good copy"},
		"truncated body":  {func(d string) error { return truncate(d+"/shop/dev.age", 5) }, deploy.ErrDamaged, "last good copy"},
		"empty":           {func(d string) error { return os.Truncate(d+"/shop/dev.age", 0) }, deploy.ErrDamaged, "last good copy"},
		"a flipped bit":   {func(d string) error { return flip(d + "/shop/dev.age") }, deploy.ErrDamaged, "last good copy"},
		"another vault's": {func(d string) error { return cp(other+"/vault/shop/dev.age", d+"/shop/dev.age") }, deploy.ErrDamaged, "the key that belongs to it"},
		"another stage's": {func(d string) error { return cp(d+"/shop/prod.age", d+"/shop/dev.age") }, deploy.ErrDamaged, "last good copy"},
		"another key":     {func(d string) error { return cp(other+"/vault/age.key", d+"/age.key") }, deploy.ErrDamaged, "the key that belongs to it"},
		"no key":          {func(d string) error { return os.Rename(d+"/age.key", d+"/age.key.moved") }, deploy.ErrDamaged, "from a copy"},
		"a broken key":    {func(d string) error { return os.Truncate(d+"/age.key", 90) }, deploy.ErrDamaged, "from a copy"},
		"an empty key":    {func(d string) error { return os.Truncate(d+"/age.key", 0) }, deploy.ErrDamaged, "from a copy"},
		"an open key":     {func(d string) error { return os.Chmod(d+"/age.key", 0o640) }, deploy.ErrBadInput, "chmod 600"},
		"an open folder":  {func(d string) error { return os.Chmod(d, 0o755) }, deploy.ErrBadInput, "chmod 700"},
	} {
		dir := t.TempDir()
		v := opened(t, dir)
		set(t, v, dev, deploy.SecretVariable, "STRIPE_KEY", hunter)
		set(t, v, prod, deploy.SecretVariable, "STRIPE_KEY", hunter)
		if err := c.damage(filepath.Join(dir, "vault")); err != nil {
			t.Fatal(name, err)
		}
		before := snapshot(t, dir)
		_, of := v.Of(t.Context(), dir, "shop", deploy.Stage{Name: "dev", Private: true})
		_, list := v.List(t.Context(), dev)
		_, password := v.NewPassword(t.Context(), dev, nil)
		for verb, err := range map[string]error{"of": of, "list": list, "password": password,
			"set":    v.Set(t.Context(), dev, deploy.SecretVariable, one("B", hunter), "p-1", nil),
			"remove": v.Remove(t.Context(), dev, deploy.SecretVariable, []string{"STRIPE_KEY"}, nil)} {
			if !errors.Is(err, c.want) || !strings.Contains(deploy.HintOf(err), c.hint) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s, %s: %v, hint %q", name, verb, err, deploy.HintOf(err))
			}
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s: something was changed: %s", name, diff)
		}
	}
}

// A missing key is not made anew for another stage either: half of the vault would be sealed for one key, half for another.
func TestMissingKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "A", hunter)
	if err := os.Remove(filepath.Join(dir, "vault", "age.key")); err != nil {
		t.Fatal(err)
	}
	if err := v.Set(t.Context(), prod, deploy.SecretVariable, one("A", hunter), "p-1", nil); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("%v", err)
	}
	if got := given(t, v, prod); got != nil {
		t.Errorf("%v", got)
	}
}

func truncate(path string, by int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()-by)
}

func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)-20] ^= 1
	return os.WriteFile(path, data, 0o600)
}

func cp(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// snapshot is every file and what is in it.
func snapshot(t testing.TB, dir string) map[string]string {
	all := map[string]string{}
	walk(t, dir, func(path string, info fs.FileInfo) { all[path] = info.Mode().String() + contents(t, path) })
	return all
}

// Writers at once, in one process and in several, lose nothing.
func TestWritersAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for w := range 4 {
		v := opened(t, dir)
		all.Go(func() {
			for n := range 10 {
				if err := v.Set(t.Context(), dev, deploy.SecretVariable, one(fmt.Sprintf("W%d_%d", w, n), "x"), "p-1", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	passwords := make([]secret.Text, 4)
	for w := range passwords {
		v := opened(t, dir)
		all.Go(func() {
			var err error
			if passwords[w], err = v.Password(t.Context(), dev); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := given(t, opened(t, dir), dev); len(got) != 40 {
		t.Errorf("%d of 40 are there", len(got))
	}
	for _, p := range passwords {
		if p.Reveal() != passwords[0].Reveal() {
			t.Error("two who ask for the first time get two passwords")
		}
	}
}

// kill -9 at any moment, of two processes that write at once, loses nothing that was said to be kept.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	for round := range 8 {
		names := []string{"A", "B"}
		last := make([]int, len(names))
		var all sync.WaitGroup
		for i, name := range names {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "VAULT_WRITER="+dir, "VAULT_NAME="+name)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				buf, said := make([]byte, 4096), ""
				for strings.Count(said, "\n") < 5+3*round { // so that it ends at another moment each time
					n, err := out.Read(buf)
					if err != nil {
						t.Error(err)
						break
					}
					said += string(buf[:n])
				}
				cmd.Process.Kill()
				for n, err := out.Read(buf); err == nil; n, err = out.Read(buf) {
					said += string(buf[:n])
				}
				cmd.Wait()
				lines := strings.Split(said[:strings.LastIndex(said, "\n")+1], "\n")
				last[i], _ = strconv.Atoi(lines[max(0, len(lines)-2)])
			})
		}
		all.Wait()
		got := given(t, opened(t, dir), dev)
		if len(got) != 2 {
			t.Fatalf("round %d: %v", round, got)
		}
		for i, line := range got {
			_, value, _ := strings.Cut(line, "=")
			if n, _ := strconv.Atoi(value); n != last[i] && n != last[i]+1 { // the one after may be kept and not said
				t.Errorf("round %d: %s, and %d was said to be kept", round, line, last[i])
			}
		}
	}
}

// A crash between writing and renaming leaves a file aside: what was kept before counts, and the next one who writes is not disturbed.
func TestCrashBeforeRename(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	set(t, v, dev, deploy.SecretVariable, "A", "before")
	for _, left := range []string{"vault/shop/dev.age.new", "vault/shop/prod.age.new"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("half"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"A=before"}, given(t, v, dev)); diff != "" {
		t.Error(diff)
	}
	set(t, v, dev, deploy.SecretVariable, "A", "after")
	set(t, v, prod, deploy.SecretVariable, "A", "after")
	if diff := cmp.Diff([]string{"A=after"}, given(t, opened(t, dir), dev)); diff != "" {
		t.Error(diff)
	}
}
