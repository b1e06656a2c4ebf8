package pipeline_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

var noToken = secret.Text{}

// fetcher is who git runs as where the test is root.
var fetcher = &process.User{UID: 61233, GID: 61233}

func openSources(t testing.TB, dir string) *pipeline.Sources {
	t.Helper()
	c := pipeline.SourcesConfig{Dir: filepath.Join(dir, "sources")}
	if os.Geteuid() == 0 {
		c.User = fetcher
	}
	s, err := pipeline.OpenSources(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bare makes a repository without a work tree beside r, with r's branch main, and makes it r's origin.
func (r *repository) bare() string {
	r.t.Helper()
	at := filepath.Join(shared(r.t), "origin.git")
	r.git("clone", "-q", "--bare", r.dir, at)
	in(r.t, at, "config", "receive.denyDeleteCurrent", "ignore")
	r.git("remote", "add", "origin", at)
	return at
}

func (r *repository) head() string { return r.git("rev-parse", "HEAD") }

// Where pushes are looked for: what lotse.yaml names, else the origin, else the repository itself; never with a password.
func TestFind(t *testing.T) {
	s := openSources(t, shared(t))
	r := newRepository(t)
	r.commit(map[string]string{"web/lotse.yaml": "app: shop"})
	find := func(remote string) deploy.Origin {
		t.Helper()
		o, err := s.Find(t.Context(), filepath.Join(r.dir, "web"), remote)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	itself := filepath.Join(r.dir, ".git")
	if got := find(""); got != (deploy.Origin{URL: itself, Dir: "web", Local: true}) {
		t.Errorf("without an origin it is %+v", got)
	}
	for remote, want := range map[string]deploy.Origin{
		"https://git.example.org/shop.git":            {URL: "https://git.example.org/shop.git", Dir: "web"},
		"https://ada:password@git.example.org/s.git":  {URL: "https://git.example.org/s.git", Dir: "web"},
		"git@git.example.org:shop.git":                {URL: "git@git.example.org:shop.git", Dir: "web"},
		"file://" + r.dir:                             {URL: itself, Dir: "web", Local: true},
		"/nothing/there.git":                          {URL: "/nothing/there.git", Dir: "web", Local: true},
		"../" + filepath.Base(r.dir) + "/web/../.git": {URL: itself, Dir: "web", Local: true},
	} {
		if got := find(remote); got != want {
			t.Errorf("%s is %+v, want %+v", remote, got, want)
		}
	}
	r.git("remote", "add", "origin", "https://ada:password@git.example.org/of-the-clone.git")
	if got := find(""); got.URL != "https://git.example.org/of-the-clone.git" || got.Local {
		t.Errorf("the origin is %+v", got)
	}
}

// A push to a bare repository: its head, its copy, what changed, rewritten history, a branch that goes away.
func TestLocalPushes(t *testing.T) {
	s := openSources(t, shared(t))
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop", "web/a": "1"})
	origin := r.bare()
	o := found(t, s, r)
	first := r.head()
	if head, err := s.Head(t.Context(), o, "main", noToken); err != nil || head != first || o.URL != origin {
		t.Fatalf("the head of %+v is %q, %v", o, head, err)
	}
	c := fetch(t, s, o)
	if c.ID != first || c.Name != "A" || c.Mail != "a@example.org" || c.Dir != "." {
		t.Errorf("the commit is %+v", c)
	}
	r.commit(map[string]string{"web/a": "2", "docs/b": "new"})
	r.git("push", "-q", "origin", "main")
	second := fetch(t, s, o).ID
	if second != r.head() {
		t.Fatalf("after the push it is %s", second)
	}
	got, err := s.Changes(t.Context(), o, first, second)
	if err != nil || strings.Join(got.Files, " ") != "docs/b web/a" || got.Forced || got.Unknown || got.Message != "subject\n" && got.Message != "subject\n\n" {
		t.Errorf("the changes are %+v, %v", got, err)
	}

	r.git("reset", "-q", "--hard", first)
	r.commit(map[string]string{"web/a": "3"})
	r.git("push", "-q", "--force", "origin", "main")
	in(t, origin, "reflog", "expire", "--expire=now", "--all")
	in(t, origin, "gc", "-q", "--prune=now") // the origin forgets what was there
	third := fetch(t, s, o).ID
	if got, err = s.Changes(t.Context(), o, second, third); err != nil || !got.Forced || strings.Join(got.Files, " ") != "docs/b web/a" {
		t.Errorf("after a forced push the changes are %+v, %v", got, err)
	}
	if c, err := s.Commit(t.Context(), o, second); err != nil || c.ID != second {
		t.Errorf("what was there before is %+v, %v", c, err)
	}
	if got, err = s.Changes(t.Context(), o, strings.Repeat("ab", 20), third); err != nil || !got.Unknown {
		t.Errorf("from a commit that nobody knows the changes are %+v, %v", got, err)
	}

	r.git("push", "-q", "origin", ":main")
	if head, err := s.Head(t.Context(), o, "main", noToken); err != nil || head != "" {
		t.Errorf("a branch that is gone has the head %q, %v", head, err)
	}
	if _, err := s.Fetch(t.Context(), o, "main", noToken); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("fetching it is %v", err)
	}
	away := origin + ".away"
	if err := os.Rename(origin, away); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context(), o, "main", noToken); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("a repository that is gone is %v", err)
	}
	if err := os.Rename(away, origin); err != nil {
		t.Fatal(err)
	}
	r.git("push", "-q", "origin", "main")
	if head, err := s.Head(t.Context(), o, "main", noToken); err != nil || head != third {
		t.Errorf("when it is back its head is %q, %v", head, err)
	}
}

func found(t testing.TB, s *pipeline.Sources, r *repository) deploy.Origin {
	t.Helper()
	o, err := s.Find(t.Context(), r.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func fetch(t testing.TB, s *pipeline.Sources, o deploy.Origin) deploy.Commit {
	t.Helper()
	c, err := s.Fetch(t.Context(), o, "main", noToken)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// in runs git in a repository of the test that is none of ours.
func in(t testing.TB, dir string, args ...string) {
	t.Helper()
	if out, err := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", dir}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// Every way in which git keeps a branch is seen at once: loose, packed, a work tree's own.
func TestHeadsAreSeenAtOnce(t *testing.T) {
	s := openSources(t, shared(t))
	r := newRepository(t)
	o := found(t, s, r)
	head := func(want string) {
		t.Helper()
		if got, err := s.Head(t.Context(), o, "main", noToken); err != nil || got != want {
			t.Errorf("the head is %q, %v; want %q", got, err, want)
		}
	}
	head("") // no commit yet
	for range 20 {
		r.commit(nil)
		head(r.head())
		head(r.head())
	}
	r.git("pack-refs", "--all")
	head(r.head())
	r.commit(nil)
	head(r.head())
	r.git("pack-refs", "--all")
	r.git("checkout", "-q", "-b", "other")
	r.git("update-ref", "refs/heads/main", "HEAD~3")
	head(r.git("rev-parse", "main"))
	r.git("branch", "-q", "-D", "main")
	head("")
}

// What is fetched is built like what lies in a work tree, also when the origin is gone by then.
func TestBuildOfAPush(t *testing.T) {
	b := newBench(t)
	s := openSources(t, b.dir)
	b.repo.commit(map[string]string{"lotse.yaml": "app: shop", "bin/run*": "#!/bin/sh\n"})
	origin := b.repo.bare()
	o := found(t, s, b.repo)
	c := fetch(t, s, o)
	if err := os.RemoveAll(origin); err != nil {
		t.Fatal(err)
	}
	if file, err := b.File(t.Context(), c, "lotse.yaml"); err != nil || string(file) != "app: shop" {
		t.Errorf("lotse.yaml is %q, %v", file, err)
	}
	app := deploy.App{Name: "shop", Services: []deploy.Service{{Name: "run", Command: "sh bin/run", Instances: 1}}}
	rel, err := b.buildCommit(t.Context(), app, c)
	if err != nil || b.content(rel)["bin/run*"] != "#!/bin/sh\n" {
		t.Errorf("the release is %+v, %v", rel.Manifest.Files, err)
	}
}

// Nothing that somebody put into the repository runs: hooks, a command to pack with, a file system monitor.
func TestNothingOfTheRepositoryRuns(t *testing.T) {
	s := openSources(t, shared(t))
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop"})
	origin := r.bare()
	mark := filepath.Join(shared(t), "ran")
	if err := os.Chmod(filepath.Dir(mark), 0o777); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ntouch " + mark + "\n"
	for _, hook := range []string{"reference-transaction", "post-update", "update", "pre-receive", "post-checkout", "pre-auto-gc"} {
		if err := os.WriteFile(filepath.Join(origin, "hooks", hook), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	evil := filepath.Join(filepath.Dir(mark), "evil")
	if err := os.WriteFile(evil, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.alternateRefsCommand"} {
		in(t, origin, "config", key, evil)
	}
	o := found(t, s, r)
	fetch(t, s, o)
	if _, err := os.Stat(mark); err == nil {
		t.Error("something that the repository named was run")
	}
}

// Objects that are not what they should be do not come in.
func TestObjectsAreChecked(t *testing.T) {
	s := openSources(t, shared(t))
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop"})
	o := found(t, s, r)
	tree := r.git("rev-parse", "HEAD^{tree}")
	bad := filepath.Join(r.dir, "bad")
	if err := os.WriteFile(bad, []byte("tree "+tree+"\nauthor nobody\ncommitter nobody\n\nbroken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.git("update-ref", "refs/heads/main", r.git("hash-object", "-t", "commit", "--literally", "-w", bad))
	_, err := s.Fetch(t.Context(), o, "main", noToken)
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a broken commit came in: %v", err)
	}
}

// A submodule is only a name: it is refused before anything begins, by hand and by push.
func TestSubmodules(t *testing.T) {
	b := newBench(t)
	s := openSources(t, b.dir)
	b.repo.commit(map[string]string{"lotse.yaml": "app: shop", "sub/lotse.yaml": "app: other"})
	b.repo.git("update-index", "--add", "--cacheinfo", "160000,"+b.repo.head()+",vendor/lib")
	b.repo.git("commit", "-q", "-m", "a submodule")
	_, err := b.Resolve(t.Context(), b.repo.dir, "HEAD")
	if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "vendor/lib is a git submodule") || deploy.HintOf(err) == "" {
		t.Errorf("by hand it is %v", err)
	}
	if _, err := b.Resolve(t.Context(), filepath.Join(b.repo.dir, "sub"), "HEAD"); err != nil {
		t.Errorf("beside the submodule it is %v", err)
	}
	c := fetch(t, s, found(t, s, b.repo))
	if err := s.Check(t.Context(), c); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "vendor/lib") {
		t.Errorf("by push it is %v", err)
	}
}

// Looking at a local branch where nothing happens.
func BenchmarkLook(b *testing.B) {
	s := openSources(b, shared(b))
	r := newRepository(b)
	r.commit(nil)
	o := found(b, s, r)
	for b.Loop() {
		if _, err := s.Head(b.Context(), o, "main", noToken); err != nil {
			b.Fatal(err)
		}
	}
}
