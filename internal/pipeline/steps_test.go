package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
)

func one(run string, change ...func(*deploy.StepSpec)) deploy.App {
	s := deploy.StepSpec{Name: "s", Run: run, Makes: []string{"out"}}
	for _, f := range change {
		f(&s)
	}
	return deploy.App{Name: "a", Pipeline: []deploy.StepSpec{s}, Services: []deploy.Service{{Name: "w", Static: "out"}}}
}

func TestStepsRunInACleanEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("DATABASE_URL", "postgres://x")
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LANG", "tr_TR.UTF-8")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	t.Setenv("GOPROXY", "https://proxy.example")
	t.Setenv("GOFLAGS", "-tags=x")
	t.Setenv("EXTRA", "wanted")
	t.Setenv("HTTPS_PROXY", "http://user:pa55word@proxy.example:3128")
	b := newBench(t, func(c *pipeline.Config) { c.Inherit = []string{"EXTRA"} })
	b.repo.commit(map[string]string{"f": "x"})
	b.must(one("mkdir out; env | sort | tee out/env; id -u > out/uid; umask > out/umask; pwd > out/pwd; echo persists > $HOME/cached; touch $TMPDIR/x"))
	got := map[string]string{}
	for _, line := range b.lines["s"] {
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	home := filepath.Join(b.dir, "pipeline", "home")
	for name, want := range map[string]string{
		"HOME": home, "CI": "true", "TZ": "UTC", "LANG": "C.UTF-8", "SOURCE_DATE_EPOCH": "1700000000", "GOPROXY": "https://proxy.example",
		"GOFLAGS": "-tags=x -buildvcs=false", "EXTRA": "wanted", "PATH": os.Getenv("PATH"), "GIT_CEILING_DIRECTORIES": filepath.Join(b.dir, "pipeline"),
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "GIT_DIR", "LC_ALL", "USER"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s = %q was inherited", name, v)
		}
	}
	log, err := os.ReadFile(b.last["s"].Log)
	if err != nil || !strings.Contains(string(log), "SOURCE_DATE_EPOCH") {
		t.Errorf("the log holds %q, %v", log, err)
	}
	if strings.Contains(string(log)+strings.Join(b.lines["s"], "\n"), "pa55word") {
		t.Error("the proxy's password is in the output")
	}
	if data, err := os.ReadFile(filepath.Join(home, "cached")); err != nil || string(data) != "persists\n" {
		t.Errorf("HOME holds %q, %v", data, err)
	}
	b.Close()
	if list, _ := filepath.Glob(filepath.Join(b.dir, "pipeline/work/*")); !cmp.Equal(list, []string{filepath.Join(b.dir, "pipeline/work/0.lock")}) {
		t.Errorf("work holds %v", list)
	}
}

func TestStepsRunAsAUserOfTheirOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root; that steps run as Config.User is not proven")
	}
	b := newBench(t)
	b.repo.commit(map[string]string{"sub/f": "x", "l@": "sub/f"})
	b.must(one("id -u; id -g; id -G; stat -c %u . sub sub/f l $HOME $TMPDIR | sort -u; touch sub/new; echo x >> sub/f; mkdir out; touch out/x"))
	if want := []string{"61234", "61234", "61234", "61234"}; !cmp.Equal(b.lines["s"], want) {
		t.Errorf("ids and owners are %v, want %v", b.lines["s"], want)
	}
	closed := filepath.Join(t.TempDir(), "closed")
	os.Mkdir(closed, 0o700)
	_, err := pipeline.New(pipeline.Config{Depot: b.depot, Dir: filepath.Join(closed, "p"), User: nobody, Log: discard})
	if err == nil || !strings.Contains(err.Error(), "may not enter "+closed) || deploy.HintOf(err) == "" {
		t.Errorf("below a closed folder: %v", err)
	}
}

// Two steps that wait for each other can only both succeed when they run at once; a third that needs them sees both.
func TestStepsRunAtOnceWhereNothingForbidsIt(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	meet := func(own, other string) string {
		return fmt.Sprintf("mkdir -p %[1]s; echo %[1]s > %[1]s/f; i=0; until test -e %[2]s/f; do i=$((i+1)); test $i -lt 500; sleep 0.01; done", own, other)
	}
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
		{Name: "both", Run: "mkdir out; cat a/f b/f > out/f", Makes: []string{"out"}, Needs: []string{"a", "b"}},
		{Name: "a", Run: meet("a", "b"), Makes: []string{"a"}},
		{Name: "b", Run: meet("b", "a"), Makes: []string{"b"}},
	}, Services: []deploy.Service{{Name: "w", Static: "out"}}}
	if got := b.content(b.must(app)); got["out/f"] != "a\nb\n" {
		t.Errorf("out/f holds %q", got["out/f"])
	}
}

func TestAFailureStopsWhatNeedsItAndNothingElse(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
		{Name: "bad", Run: "for i in $(seq 100); do echo line $i; done; echo 'a.ts(1,7): error TS2322: no' >&2; exit 2", Makes: []string{"never"}},
		{Name: "child", Run: "true", Needs: []string{"bad"}},
		{Name: "grandchild", Run: "true", Needs: []string{"child"}},
		{Name: "other", Run: "mkdir out; echo x > out/f", Makes: []string{"out"}},
		{Name: "after", Run: "cat out/f", Needs: []string{"other"}},
	}, Services: []deploy.Service{{Name: "w", Static: "out"}}}
	rel, err := b.build(app)
	if !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "step bad: type errors (TypeScript) (exit code 2)") || rel.ID != "" {
		t.Errorf("Build = %v, %v", rel.ID, err)
	}
	if want := "bad failed child skipped grandchild skipped other done after done"; b.final(app) != want {
		t.Errorf("%s, want %s", b.final(app), want)
	}
	e := b.last["bad"]
	if e.Exit != 2 || len(e.Tail) != 30 || e.Tail[29] != "a.ts(1,7): error TS2322: no" || e.Tail[28] != "line 100" || !strings.HasPrefix(e.Cause, "type errors") {
		t.Errorf("evidence %+v", e)
	}
	log, _ := os.ReadFile(e.Log)
	if !strings.Contains(string(log), "line 1\n") || !strings.Contains(string(log), "TS2322") {
		t.Errorf("the log holds %.100q", log)
	}
	if keys, _ := b.depot.Keys("release"); len(keys) != 0 {
		t.Errorf("released %v", keys)
	}
	// What succeeded is not done again.
	b.build(app)
	if want := "bad failed child skipped grandchild skipped other cached after cached"; b.final(app) != want {
		t.Errorf("%s, want %s", b.final(app), want)
	}
}

func TestWhatAStepMustMake(t *testing.T) {
	for _, test := range []struct{ name, run, say string }{
		{"nothing", "true", "it should have made out and did not; the checkout holds f, sub"},
		{"elsewhere", "mkdir -p build/x", "the checkout holds build, f, sub"},
		{"link out", "mkdir out; ln -s ../../secret out/l", "out/l points to ../../secret"},
		{"absolute link", "mkdir out; ln -s /etc/passwd out/l", "out/l points to /etc/passwd"},
		{"itself a link out", "ln -s /etc out", "out points to /etc"},
		{"pipe", "mkdir out; mkfifo out/p", "out/p is a pipe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.repo.commit(map[string]string{"f": "x", "sub/g": "y"})
			_, err := b.build(one(test.run))
			if !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "step s") || !strings.Contains(err.Error(), test.say) {
				t.Errorf("Build = %v, want %q", err, test.say)
			}
			if b.last["s"].State != deploy.StepFailed || !strings.Contains(b.last["s"].Cause, test.say) {
				t.Errorf("evidence %+v", b.last["s"])
			}
		})
	}
}

func TestPipelinesThatAreRefused(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"real/f": "x", "alias@": "real", "etc@": "/etc"})
	step := func(name string, change func(*deploy.StepSpec)) deploy.StepSpec {
		s := deploy.StepSpec{Name: name, Run: "true"}
		if change != nil {
			change(&s)
		}
		return s
	}
	for _, test := range []struct {
		say   string
		steps []deploy.StepSpec
	}{
		{"steps need each other in a circle: a needs b needs c needs a", []deploy.StepSpec{
			step("a", func(s *deploy.StepSpec) { s.Needs = []string{"b"} }), step("b", func(s *deploy.StepSpec) { s.Needs = []string{"c"} }), step("c", func(s *deploy.StepSpec) { s.Needs = []string{"a"} })}},
		{"a needs a", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.Needs = []string{"a"} })}},
		{`needs "x", which is no step`, []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.Needs = []string{"x"} })}},
		{`two steps are called "a"`, []deploy.StepSpec{step("a", nil), step("a", nil)}},
		{"not a name for a step", []deploy.StepSpec{step("../a", nil)}},
		{"nothing to run", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.Run = " " })}},
		{"in ../x is not in the checkout", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "../x" })}},
		{"in /tmp is not in the checkout", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "/tmp" })}},
		{"reads ../../f is not in the checkout", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "real"; s.Reads = []string{"../../f"} })}},
		{"makes ../../f is not in the checkout", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "real"; s.Makes = []string{"../../f"} })}},
		{"the folder that the step runs in", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "real"; s.Makes = []string{"."} })}},
		{"alias is a symbolic link", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.In = "alias" })}},
		{"etc is a symbolic link", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.Makes = []string{"etc/x"} })}},
		{"reads nope, which the commit does not have", []deploy.StepSpec{step("a", func(s *deploy.StepSpec) { s.Reads = []string{"nope"} })}},
		{"which step b makes as well", []deploy.StepSpec{
			step("a", func(s *deploy.StepSpec) { s.Makes = []string{"d/e"} }), step("b", func(s *deploy.StepSpec) { s.Makes = []string{"d"} })}},
	} {
		_, err := b.build(deploy.App{Name: "a", Pipeline: test.steps, Services: []deploy.Service{{Name: "w", Static: "real"}}})
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), test.say) {
			t.Errorf("Build = %v, want %q", err, test.say)
		}
	}
	if _, err := b.Build(t.Context(), "../x", deploy.App{}, deploy.Commit{}, nil, nil); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("a run called ../x: %v", err)
	}
}

// alive reports whether any process has the marker among its arguments.
func alive(t *testing.T, marker string) bool {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(found, func(name string) bool {
		data, _ := os.ReadFile(name)
		return strings.Contains(string(data), marker)
	})
}

// stubborn starts children in other sessions that ignore SIGTERM, and then waits.
func stubborn(marker string) string {
	return fmt.Sprintf(`trap '' TERM; setsid sh -c 'trap "" TERM; sleep %[1]s' & (setsid sleep %[1]s &) ; echo ready; sleep %[1]s`, marker)
}

func TestATimeLimitEndsTheWholeTree(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	const marker = "98761.25"
	_, err := b.build(one(stubborn(marker), func(s *deploy.StepSpec) { s.Timeout = 300 * time.Millisecond }))
	if !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "ended by its time limit of 300ms") {
		t.Errorf("Build = %v", err)
	}
	// The command would sleep for a day; SIGTERM, which it ignores, comes first and takes 3 s.
	if b.last["s"].Duration > 15*time.Second {
		t.Errorf("it took %v", b.last["s"].Duration)
	}
	if b.last["s"].State != deploy.StepFailed || !slices.Contains(b.last["s"].Tail, "ready") {
		t.Errorf("evidence %+v", b.last["s"])
	}
	if alive(t, marker) {
		t.Error("a process of the step is still alive")
	}
}

func TestACancelEndsTheWholeTree(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	const marker = "98762.25"
	ctx, cancel := context.WithCancel(t.Context())
	b.onLine = func(_, line string) {
		if line == "ready" {
			cancel()
		}
	}
	app := one(stubborn(marker))
	app.Pipeline = append(app.Pipeline, deploy.StepSpec{Name: "later", Run: "true", Needs: []string{"s"}})
	_, err := b.buildCtx(ctx, app)
	if !errors.Is(err, context.Canceled) || errors.Is(err, deploy.ErrBuild) {
		t.Errorf("Build = %v", err)
	}
	if want := "s skipped later skipped"; b.final(app) != want {
		t.Errorf("%s, want %s", b.final(app), want)
	}
	if alive(t, marker) {
		t.Error("a process of the step is still alive")
	}
	b.onLine = nil
	b.must(one("mkdir out; echo x > out/f"))
}

// A step that changes what another made, while that is being stored, keeps it out of the cache; the release has what lies
// there in the end.
func TestChangedOutputsAreNotCached(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
		{Name: "big", Run: "mkdir out; head -c 60000000 /dev/zero > out/big; echo one > out/zz", Makes: []string{"out"}},
		{Name: "meddler", Run: "echo two > out/zz; echo extra > out/extra", Needs: []string{"big"}},
	}, Services: []deploy.Service{{Name: "w", Command: "cat out/zz"}}}
	if got := b.content(b.must(app)); got["out/zz"] != "two\n" && got["out/zz"] != "one\n" {
		t.Errorf("out/zz holds %q", got["out/zz"])
	} else {
		first := got["out/zz"]
		b.must(app)
		if state := b.last["big"].State; (first == "two\n") != (state == deploy.StepDone) {
			t.Errorf("released %q, and the step is %s the next time", first, state)
		}
	}
}

// crashing is the process that TestKilledInTheMiddle kills.
func TestCrashing(t *testing.T) {
	dir := os.Getenv("LOTSE_TEST_CRASH")
	if dir == "" {
		t.Skip("run by TestKilledInTheMiddle")
	}
	b := &bench{t: t, dir: dir, repo: &repository{t, filepath.Join(dir, "repo")}}
	b.open()
	b.onLine = func(_, line string) {
		if line == "ready" {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	b.must(crashApp)
}

const crashMarker = "98763.25"

var crashApp = deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
	{Name: "first", Run: "mkdir m; echo made > m/f", Makes: []string{"m"}},
	{Name: "second", Run: "mkdir out; test -e $HOME/again || { touch $HOME/again; echo half > out/f; " + stubborn(crashMarker) + "; }; cp m/f out/f", Makes: []string{"out"}, Needs: []string{"first"}},
}, Services: []deploy.Service{{Name: "w", Static: "out"}}}

func TestKilledInTheMiddle(t *testing.T) {
	b := newBench(t)
	b.repo.dir = filepath.Join(b.dir, "repo")
	if err := os.Mkdir(b.repo.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.repo.git("init", "-q", "-b", "main")
	b.repo.commit(map[string]string{"f": "x"})
	b.Close()
	out, err := rerun(t, "TestCrashing", "LOTSE_TEST_CRASH="+b.dir)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child: %v\n%s", err, out)
	}
	b.open()
	b.Close()
	if list, _ := filepath.Glob(filepath.Join(b.dir, "pipeline/work/*")); !cmp.Equal(list, []string{filepath.Join(b.dir, "pipeline/work/0.lock")}) {
		t.Errorf("work holds %v", list)
	}
	if alive(t, crashMarker) {
		t.Error("a process of the dead run is still alive")
	}
	if got := b.content(b.must(crashApp)); got["out/f"] != "made\n" {
		t.Errorf("out/f holds %q", got["out/f"])
	}
}

func TestLongOutputIsBounded(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"f": "x"})
	b.must(one(`mkdir out; touch out/x; head -c 100000 /dev/zero | tr '\0' x; echo; yes "$(head -c 4000 /dev/zero | tr '\0' y)" | head -n 6000; echo the end`))
	info, err := os.Stat(b.last["s"].Log)
	if err != nil || info.Size() > 21<<20 || info.Size() < 16<<20 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
	data, _ := os.ReadFile(b.last["s"].Log)
	if !strings.HasSuffix(string(data), "\nthe end\n") || !strings.Contains(string(data), "lines are left out here") {
		t.Errorf("the log ends %q", data[len(data)-100:])
	}
	for _, line := range b.lines["s"] {
		if len(line) > 9<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func TestFullDisk(t *testing.T) {
	disk := shared(t)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m,mode=755"); err != nil {
		t.Skipf("NOT RUN: a full disk needs the right to mount (%v); that a full disk leaves nothing half done is not proven", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, 2) })
	b := &bench{t: t, dir: disk, repo: newRepository(t)}
	b.open()
	b.repo.commit(map[string]string{"f": "x"})

	// The step fills it.
	_, err := b.build(one("mkdir out; head -c 100000000 /dev/urandom > out/big"))
	if !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("a step: %v", err)
	}
	b.Close()
	// The depot fills it: the output is there, its copy has no room.
	_, err = b.build(one("mkdir out; head -c 16000000 /dev/urandom > out/big"))
	if !errors.Is(err, deploy.ErrNoSpace) || deploy.HintOf(err) == "" {
		t.Errorf("the depot: %v", err)
	}
	b.Close()
	if keys, _ := b.depot.Keys("release"); len(keys) != 0 {
		t.Errorf("released %v", keys)
	}
	filepath.WalkDir(disk, func(p string, e fs.DirEntry, err error) error {
		if info, err := e.Info(); err == nil && !e.IsDir() && info.Size() > 1<<20 {
			t.Errorf("%s was left", p)
		}
		return nil
	})
	b.must(one("mkdir out; head -c 3000000 /dev/urandom > out/big"))

	// Asked before anything is built: cached outputs make room, then it is refused.
	b.open(func(c *pipeline.Config) { c.Reserve = 20 << 20 })
	b.must(one("mkdir out; echo new > out/big"))
	b.open(func(c *pipeline.Config) { c.Reserve = 1 << 30 })
	_, err = b.build(one("mkdir out; echo newer > out/big"))
	if !errors.Is(err, deploy.ErrNoSpace) || b.last["s"].State != deploy.StepWaiting {
		t.Errorf("with a reserve: %v, %v", err, b.last["s"])
	}
}
