package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
)

// nobody is a user that owns nothing.
var nobody = &process.User{UID: 61234, GID: 61234}

// repository is a real one, in a folder of the test.
type repository struct {
	t   testing.TB
	dir string
}

func newRepository(t testing.TB) *repository {
	t.Helper()
	r := &repository{t, shared(t)}
	r.git("init", "-q", "-b", "main")
	return r
}

// shared is a folder of the test that every user may enter.
func shared(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// write makes files: "name" → content, "name*" → executable, "name@" → link.
func (r *repository) write(files map[string]string) {
	r.t.Helper()
	for name, content := range files {
		p := filepath.Join(r.dir, strings.TrimRight(name, "*@"))
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "@"):
			err = os.Symlink(content, p)
		case strings.HasSuffix(name, "*"):
			err = os.WriteFile(p, []byte(content), 0o755)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *repository) commit(files map[string]string) {
	r.t.Helper()
	r.write(files)
	r.git("add", "-A", "--force")
	r.git("commit", "-q", "--allow-empty", "-m", "subject")
}

// bench is a pipeline with what the test sees of it.
type bench struct {
	*pipeline.Pipeline
	t     testing.TB
	dir   string
	depot *depot.Depot
	repo  *repository

	mu     sync.Mutex
	states map[string][]deploy.StepState
	last   map[string]deploy.StepEvidence
	lines  map[string][]string
	onLine func(step, line string)
	runs   int
}

func newBench(t testing.TB, change ...func(*pipeline.Config)) *bench {
	t.Helper()
	b := &bench{t: t, dir: shared(t), repo: newRepository(t)}
	b.open(change...)
	return b
}

func (b *bench) open(change ...func(*pipeline.Config)) {
	b.t.Helper()
	d, err := depot.Open(filepath.Join(b.dir, "depot"))
	if err != nil {
		b.t.Fatal(err)
	}
	c := pipeline.Config{Depot: d, Dir: filepath.Join(b.dir, "pipeline"), Reserve: 1, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil))}
	if os.Geteuid() == 0 {
		c.User = nobody
	}
	for _, f := range change {
		f(&c)
	}
	if b.Pipeline, err = pipeline.New(c); err != nil {
		b.t.Fatal(err)
	}
	b.depot = c.Depot
	p := b.Pipeline
	b.t.Cleanup(func() { p.Close(); d.Close() })
}

// build resolves HEAD and builds it.
func (b *bench) build(app deploy.App) (deploy.Release, error) {
	b.t.Helper()
	return b.buildCtx(b.t.Context(), app)
}

func (b *bench) buildCtx(ctx context.Context, app deploy.App) (deploy.Release, error) {
	b.t.Helper()
	c, err := b.Resolve(b.t.Context(), b.repo.dir, "HEAD")
	if err != nil {
		b.t.Fatal(err)
	}
	return b.buildCommit(ctx, app, c)
}

func (b *bench) buildCommit(ctx context.Context, app deploy.App, c deploy.Commit) (deploy.Release, error) {
	b.runs++
	b.states, b.last, b.lines = map[string][]deploy.StepState{}, map[string]deploy.StepEvidence{}, map[string][]string{}
	report := func(e deploy.StepEvidence) {
		if !b.mu.TryLock() {
			b.t.Error("two reports at once")
			b.mu.Lock()
		}
		defer b.mu.Unlock()
		b.states[e.Name] = append(b.states[e.Name], e.State)
		b.last[e.Name] = e
	}
	output := func(step, line string) {
		b.lines[step] = append(b.lines[step], line)
		if b.onLine != nil {
			b.onLine(step, line)
		}
	}
	return b.Build(ctx, fmt.Sprintf("run-%d", b.runs), app, c, report, output)
}

func (b *bench) must(app deploy.App) deploy.Release {
	b.t.Helper()
	rel, err := b.build(app)
	if err != nil {
		b.t.Fatalf("Build: %v\n%v", err, b.last)
	}
	return rel
}

// final returns the states in which the steps ended: "install done build cached".
func (b *bench) final(app deploy.App) string {
	var all []string
	for _, s := range app.Pipeline {
		all = append(all, s.Name+" "+string(b.last[s.Name].State))
	}
	return strings.Join(all, " ")
}

// content fills a release and reads it: path → content, path* for executables, path@ → target.
func (b *bench) content(rel deploy.Release) map[string]string {
	b.t.Helper()
	var tree depot.Tree
	for _, f := range rel.Manifest.Files {
		tree = append(tree, depot.Entry{Path: f.Path, Digest: string(f.Digest), Size: f.Size, Executable: f.Executable, Link: f.Link})
	}
	dir := b.t.TempDir()
	if err := b.depot.FillInto(b.t.Context(), tree, dir, -1, -1); err != nil {
		b.t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range tree {
		p := filepath.Join(dir, e.Path)
		if e.Link != "" {
			got[e.Path+"@"] = e.Link
			continue
		}
		data, err := os.ReadFile(p)
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Executable {
			e.Path += "*"
		}
		got[e.Path] = string(data)
	}
	return got
}

func names(m map[string]string) string {
	var all []string
	for name := range m {
		all = append(all, name)
	}
	data, _ := json.Marshal(all)
	return string(data)
}

var discard = slog.New(slog.DiscardHandler)

// rerun runs one test in a process of its own.
func rerun(t *testing.T, test string, env ...string) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}
