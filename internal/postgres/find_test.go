package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSystem has an installation in each of dirs, whose version is the name of its parent.
func fakeSystem(t *testing.T, dirs ...string) system {
	t.Helper()
	root := t.TempDir()
	for _, dir := range dirs {
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return system{
		globs:     []string{filepath.Join(root, "lib/*/bin")},
		path:      filepath.Join(root, "path"),
		osRelease: filepath.Join(root, "os-release"),
		version: func(dir string) (string, error) {
			version := filepath.Base(filepath.Dir(dir))
			if version == "broken" {
				return "", errors.New("exec format error")
			}
			return version, nil
		},
	}
}

func TestFindTakesTheNewest(t *testing.T) {
	for _, test := range []struct {
		name  string
		dirs  []string
		major int
		want  string
	}{
		{"numbers, not text", []string{"lib/9.6.24/bin", "lib/15.9/bin", "lib/15.10/bin"}, 0, "15.10"},
		{"the major version that is asked for", []string{"lib/15.10/bin", "lib/17.2/bin"}, 15, "15.10"},
		{"a broken one is passed over", []string{"lib/15.10/bin", "lib/broken/bin"}, 0, "15.10"},
		{"a longer version is newer", []string{"lib/18/bin", "lib/18.1/bin"}, 0, "18.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := fakeSystem(t, test.dirs...).find(test.major)
			if err != nil || got.Version != test.want {
				t.Errorf("find = %+v, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestFindFollowsPath(t *testing.T) {
	s := fakeSystem(t, "opt/16.3/bin")
	if err := os.Mkdir(s.path, 0o755); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(filepath.Dir(s.path), "opt/16.3/bin")
	if err := os.Symlink(filepath.Join(target, "postgres"), filepath.Join(s.path, "postgres")); err != nil {
		t.Fatal(err)
	}
	got, err := s.find(0)
	if err != nil || got.Version != "16.3" || got.Major != 16 {
		t.Errorf("find = %+v, %v; want 16.3", got, err)
	}
}

func TestNothingInstalledSaysTheCommand(t *testing.T) {
	for osRelease, want := range map[string]string{
		"ID=debian\n":                          "apt-get install -y postgresql-15",
		"ID=linuxmint\nID_LIKE=\"ubuntu a\"\n": "apt-get install -y postgresql-15",
		"NAME=x\nID=fedora\n":                  "dnf install -y postgresql15-server",
		"ID=alpine\n":                          "apk add postgresql15",
		"":                                     "install PostgreSQL's server, on macOS: brew install postgresql@15",
	} {
		s := fakeSystem(t, "lib/17.2/bin")
		if osRelease != "" {
			if err := os.WriteFile(s.osRelease, []byte(osRelease), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.find(15)
		if !errors.Is(err, ErrNotInstalled) || HintOf(err) != want {
			t.Errorf("with %q: %v, hint %q; want %q", osRelease, err, HintOf(err), want)
		}
	}
	_, err := fakeSystem(t).find(0)
	if !errors.Is(err, ErrNotInstalled) || !strings.HasSuffix(HintOf(err), "brew install postgresql") {
		t.Errorf("nothing at all: %v, hint %q", err, HintOf(err))
	}
}
