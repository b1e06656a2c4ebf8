package pipeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestResolve(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"apps/shop/lotse.yaml": "app: shop\n", "other.txt": "x"})
	head := b.repo.git("rev-parse", "HEAD")
	dir := filepath.Join(b.repo.dir, "apps/shop")
	c, err := b.Resolve(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != head || c.Dir != "apps/shop" || c.Tree != dir || c.Name != "A" || c.Mail != "a@example.org" || c.Subject != "subject" || c.At.Unix() != 1700000000 {
		t.Errorf("Resolve = %+v", c)
	}
	for _, rev := range []string{head, head[:8], "main", "HEAD", "@"} {
		if c, err := b.Resolve(t.Context(), dir, rev); err != nil || c.ID != head {
			t.Errorf("Resolve(%q) = %v, %v", rev, c.ID, err)
		}
	}
	if data, err := b.File(t.Context(), c, "lotse.yaml"); err != nil || string(data) != "app: shop\n" {
		t.Errorf("File = %q, %v", data, err)
	}
	for name, want := range map[string]error{"nope.yaml": deploy.ErrNotFound, "../../../etc/passwd": deploy.ErrBadInput, ".": deploy.ErrNotFound, "a\nb": deploy.ErrBadInput} {
		if _, err := b.File(t.Context(), c, name); !errors.Is(err, want) {
			t.Errorf("File(%q) = %v, want %v", name, err, want)
		}
	}
	// The file is the commit's, whatever lies in the work tree.
	b.repo.write(map[string]string{"apps/shop/lotse.yaml": "changed"})
	if data, err := b.File(t.Context(), c, "lotse.yaml"); err != nil || string(data) != "app: shop\n" {
		t.Errorf("File = %q, %v", data, err)
	}
}

func TestResolveRefusesWhatIsNotCommitted(t *testing.T) {
	for name, change := range map[string]func(r *repository){
		"a.txt":    func(r *repository) { r.write(map[string]string{"app/a.txt": "changed"}) },
		"new.ts":   func(r *repository) { r.write(map[string]string{"app/new.ts": "x"}) },
		"gone.txt": func(r *repository) { os.Remove(filepath.Join(r.dir, "app/gone.txt")) },
		"moved":    func(r *repository) { r.git("mv", "app/a.txt", "app/moved") },
		"staged":   func(r *repository) { r.write(map[string]string{"app/staged": "x"}); r.git("add", "app/staged") },
		"and 3 more": func(r *repository) {
			for i := range 8 {
				r.write(map[string]string{fmt.Sprintf("app/f%d", i): "x"})
			}
		},
		"": func(r *repository) { r.write(map[string]string{"elsewhere": "x", "app/x.log": "ignored"}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.repo.commit(map[string]string{"app/a.txt": "a long enough text to be found again", "app/gone.txt": "y", ".gitignore": "*.log\n"})
			change(b.repo)
			dir := filepath.Join(b.repo.dir, "app")
			_, err := b.Resolve(t.Context(), dir, "")
			if name == "" {
				if err != nil {
					t.Errorf("Resolve = %v", err)
				}
			} else if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), name) || !strings.Contains(deploy.HintOf(err), "commit") {
				t.Errorf("Resolve = %v (hint %q)", err, deploy.HintOf(err))
			}
			if _, err := b.Resolve(t.Context(), dir, "HEAD"); err != nil {
				t.Errorf("with a revision: %v", err)
			}
		})
	}
}

func TestResolveSaysWhatIsWrong(t *testing.T) {
	b := newBench(t)
	empty := newRepository(t)
	full := newRepository(t)
	full.commit(map[string]string{"f": "1"})
	full.commit(map[string]string{"f": "2"})
	shallow := filepath.Join(shared(t), "shallow")
	if out, err := exec.Command("git", "clone", "-q", "--depth=1", "file://"+full.dir, shallow).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, test := range []struct{ name, dir, rev, say, hint string }{
		{"no repository", t.TempDir(), "", "not in a git repository", "git init"},
		{"no folder", filepath.Join(t.TempDir(), "nope"), "", "there is no folder", "where its lotse.yaml is"},
		{"no commit", empty.dir, "", "no commit yet", "commit the app"},
		{"unknown", full.dir, "v9", `no commit "v9"`, "git fetch"},
		{"an option", full.dir, "--all", `no commit "--all"`, "git fetch"},
		{"a file's revision", full.dir, "HEAD:f", "no commit", "git fetch"},
		{"shallow", shallow, "HEAD~1", "not the whole history", "git fetch --unshallow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := b.Resolve(t.Context(), test.dir, test.rev)
			if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), test.say) || !strings.Contains(deploy.HintOf(err), test.hint) {
				t.Errorf("Resolve = %v (hint %q)", err, deploy.HintOf(err))
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := b.Resolve(t.Context(), full.dir, ""); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "git is not installed") {
		t.Errorf("without git: %v", err)
	}
}

func TestOtherShapesOfRepositories(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"app/f": "content"})
	head := b.repo.git("rev-parse", "HEAD")
	linked := filepath.Join(shared(t), "linked")
	b.repo.git("worktree", "add", "-q", "--detach", linked)
	bare := filepath.Join(shared(t), "bare.git")
	b.repo.git("clone", "-q", "--bare", b.repo.dir, bare)
	for _, dir := range []string{filepath.Join(linked, "app"), bare} {
		c, err := b.Resolve(t.Context(), dir, "")
		if err != nil || c.ID != head {
			t.Errorf("%s: %+v, %v", dir, c, err)
			continue
		}
		name := "f"
		if dir == bare {
			name = "app/f"
		}
		if data, err := b.File(t.Context(), c, name); err != nil || string(data) != "content" {
			t.Errorf("%s: %q, %v", dir, data, err)
		}
	}
}

// Variables of git that a hook or an editor leaves in the environment lead to another repository.
func TestGitVariablesOfTheCallerAreOfNoAccount(t *testing.T) {
	b, other := newBench(t), newRepository(t)
	b.repo.commit(map[string]string{"f": "ours"})
	other.commit(map[string]string{"f": "theirs"})
	head := b.repo.git("rev-parse", "HEAD")
	t.Setenv("GIT_DIR", filepath.Join(other.dir, ".git"))
	t.Setenv("GIT_WORK_TREE", other.dir)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(other.dir, "nope"))
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.bare")
	t.Setenv("GIT_CONFIG_VALUE_0", "true")
	c, err := b.Resolve(t.Context(), b.repo.dir, "")
	if err != nil || c.ID != head {
		t.Fatalf("Resolve = %+v, %v", c, err)
	}
	if data, err := b.File(t.Context(), c, "f"); err != nil || string(data) != "ours" {
		t.Errorf("File = %q, %v", data, err)
	}
}

// A repository's own configuration starts nothing, and nothing in it is changed.
func TestTheRepositoryIsOnlyRead(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "1", "web/index.html": "<p>"})
	marker := filepath.Join(shared(t), "ran")
	script := "#!/bin/sh\ntouch " + marker + "\n"
	hooks := filepath.Join(b.repo.dir, ".git", "hooks")
	os.MkdirAll(hooks, 0o755)
	for _, name := range []string{"post-checkout", "fsmonitor", "post-index-change", "reference-transaction"} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.repo.git("config", "core.fsmonitor", filepath.Join(hooks, "fsmonitor"))
	before := state(t, b.repo.dir)
	if _, err := b.Resolve(t.Context(), b.repo.dir, ""); err != nil {
		t.Fatal(err)
	}
	b.must(deploy.App{Name: "a", Pipeline: []deploy.StepSpec{{Name: "s", Run: "rm -rf *; mkdir d; touch d/x", Makes: []string{"d"}}}, Services: []deploy.Service{{Name: "w", Static: "d"}}})
	if after := state(t, b.repo.dir); !bytes.Equal(before, after) {
		t.Errorf("the repository was changed:\n%s\nto\n%s", before, after)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a hook ran")
	}
}

// state is names, sizes and times of all files.
func state(t *testing.T, dir string) []byte {
	var out bytes.Buffer
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, p, info.Size(), info.Mode(), info.ModTime())
		return nil
	})
	return out.Bytes()
}

func TestRootOnTheRepositoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root; that git runs as the owner of the repository is not proven")
	}
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "1", "w/x": "y", ".gitattributes": "f filter=evil\n"})
	who := filepath.Join(shared(t), "who")
	os.Chmod(filepath.Dir(who), 0o777)
	// A clean filter is run by `git status` when a file looks changed.
	b.repo.git("config", "filter.evil.clean", "sh -c 'id -u > "+who+"; cat'")
	filepath.WalkDir(b.repo.dir, func(p string, _ fs.DirEntry, err error) error { return os.Lchown(p, 61999, 61999) })
	os.WriteFile(filepath.Join(b.repo.dir, "f"), []byte("2"), 0o644)
	if _, err := b.Resolve(t.Context(), b.repo.dir, ""); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("Resolve = %v", err)
	}
	if data, err := os.ReadFile(who); err == nil && strings.TrimSpace(string(data)) != "61999" {
		t.Errorf("the filter of another ran as %s", data)
	} else if err != nil {
		t.Errorf("the test proves nothing: the filter did not run: %v", err)
	}
	if _, err := b.build(deploy.App{Name: "a", Services: []deploy.Service{{Name: "w", Static: "w"}}}); err != nil {
		t.Errorf("Build = %v", err)
	}
}

// A checkout holds the very bytes of the commit, whatever attributes and configuration say of line ends, filters and exports.
func TestCheckoutIsExact(t *testing.T) {
	b := newBench(t)
	files := map[string]string{
		"crlf.txt": "a\nb\n", "ident.txt": "$Id$\n", "kept.txt": "x", "subst.txt": "$Format:%H$\n", "run.sh*": "#!/bin/sh\n", "to@": "kept.txt",
		"deep/er/ümläut ♥.txt": "y", "empty": "", ".gitattributes": "*.txt text eol=crlf ident filter=upper\nkept.txt export-ignore\nsubst.txt export-subst\n",
	}
	b.repo.git("config", "core.autocrlf", "true")
	b.repo.commit(files)
	b.repo.git("config", "filter.upper.smudge", "tr a-z A-Z")
	rel := b.must(deploy.App{
		Name:     "a",
		Pipeline: []deploy.StepSpec{{Name: "copy", Run: "mkdir out; cp -a crlf.txt ident.txt kept.txt subst.txt run.sh to deep empty .gitattributes out; test ! -e .git", Makes: []string{"out"}}},
		Services: []deploy.Service{{Name: "w", Static: "out"}},
	})
	got := b.content(rel)
	for name, content := range files {
		if got["out/"+name] != content {
			t.Errorf("%s holds %q, want %q", name, got["out/"+name], content)
		}
	}
}

func TestSubmodulesAndLFSAreRefused(t *testing.T) {
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{{Name: "s", Run: "true"}}, Services: []deploy.Service{{Name: "w", Static: "w"}}}
	b := newBench(t)
	b.repo.commit(map[string]string{"w/x": "y", "logo.png": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"})
	if _, err := b.build(app); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "logo.png lies in Git LFS") {
		t.Errorf("LFS: %v", err)
	}
	b = newBench(t)
	b.repo.commit(map[string]string{"w/x": "y"})
	b.repo.git("update-index", "--add", "--cacheinfo", "160000,"+b.repo.git("rev-parse", "HEAD")+",vendor/lib")
	b.repo.git("commit", "-q", "-m", "a submodule")
	if _, err := b.Resolve(t.Context(), b.repo.dir, "HEAD"); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "vendor/lib is a git submodule") {
		t.Errorf("submodule: %v", err)
	}
}
