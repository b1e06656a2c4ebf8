package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// repo is the demo's own git repository of the app.
type repo struct{ dir string }

// prepareApp copies the example into a repository of its own, once, with a bare one as its origin, and writes its .env, which is
// never committed.
func (p Parts) prepareApp(ctx context.Context) (*repo, error) {
	r := &repo{dir: filepath.Join(p.Dir, "app")}
	if _, err := os.Stat(filepath.Join(r.dir, ".git", "refs", "remotes", "origin")); errors.Is(err, fs.ErrNotExist) {
		if err := r.create(ctx, p.Example, filepath.Join(p.Dir, "origin.git")); err != nil {
			return nil, errors.Join(err, os.RemoveAll(r.dir))
		}
	}
	return r, os.WriteFile(filepath.Join(r.dir, ".env"), []byte("# variables of dev that are not for the commit\nLOG_LEVEL=debug\n"), 0o600)
}

func (r *repo) create(ctx context.Context, example, origin string) error {
	if _, err := os.Stat(filepath.Join(example, "lotse.yaml")); err != nil {
		return deploy.Hint(fmt.Errorf("%w: the example app is not in %s", deploy.ErrNotFound, example),
			"run the demo from a clone of the repository")
	}
	if err := errors.Join(os.RemoveAll(r.dir), os.RemoveAll(origin), copyTree(r.dir, example)); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", origin}, {"init", "-q", "-b", "main"}, {"add", "-A"},
		{"commit", "-q", "-m", "whatsgonow: begin"}, {"remote", "add", "origin", origin}, {"push", "-q", "-u", "origin", "main"}} {
		if _, err := r.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// leftOut is what a work tree holds beside what is committed.
var leftOut = []string{".git", "node_modules", "dist", "bin", "data", ".env"}

// copyTree copies what is committed of a work tree, or would be.
func copyTree(to, from string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, path)
		switch {
		case slices.Contains(leftOut, d.Name()) && d.IsDir():
			return fs.SkipDir
		case slices.Contains(leftOut, d.Name()):
			return nil
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		}
		b, err := root.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
}

// identity is who commits in the demo: nobody.
var identity = []string{"-c", "user.name=Lotse demo", "-c", "user.email=demo@example.org", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"}

func (r *repo) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", slices.Concat([]string{"-C", r.dir}, identity, args)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *repo) head(ctx context.Context) (string, error) { return r.git(ctx, "rev-parse", "HEAD") }

// greeting is a file of the example whose change a person can see.
const greeting = "web/index.html"

// secondCommit changes what the page's title says, once: no second commit is made where there is one.
func (r *repo) secondCommit(ctx context.Context) error {
	count, err := r.git(ctx, "rev-list", "--count", "HEAD")
	if err != nil || count != "1" {
		return err
	}
	file := filepath.Join(r.dir, greeting)
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed := bytes.Replace(page, []byte("</title>"), []byte(" – zweite Fahrt</title>"), 1)
	if bytes.Equal(changed, page) {
		return fmt.Errorf("%s has no title to change", greeting)
	}
	if err := os.WriteFile(file, changed, 0o644); err != nil {
		return err
	}
	_, err = r.git(ctx, "commit", "-q", "-a", "-m", "web: say that this is the second trip")
	return err
}

// paths are asked under load: the page and the API.
func (r *repo) paths() []string { return []string{"/", "/api/health"} }
