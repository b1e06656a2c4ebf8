package pipeline_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// workshop is a repository of 500 files whose steps do what those of a web app do: many small files from an archive, then
// work on both cores.
func workshop(b *bench) deploy.App {
	files := map[string]string{"web/index.html": "<p>", "web/package-lock.json": `{"lockfileVersion":3,"packages":{}}`}
	for i := range 500 {
		files[fmt.Sprintf("web/src/d%d/f%d.ts", i%20, i)] = fmt.Sprintf("export const x%d = %d\n", i, i)
	}
	b.repo.commit(files)
	// 2,400 files of 10 kB.
	tarball := filepath.Join(b.repo.dir, ".git", "modules.tar")
	pack := `set -e; d=$(mktemp -d); cd $d; mkdir node_modules; for p in $(seq 60); do mkdir -p node_modules/p$p/lib; head -c 400000 /dev/urandom | split -b 10000 -a 3 - node_modules/p$p/lib/f; done; tar -cf ` + tarball + ` node_modules; rm -rf $d`
	if out, err := exec.Command("sh", "-c", pack).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(tarball, 0o644); err != nil {
		b.t.Fatal(err)
	}
	burn := func(mb int) string { return fmt.Sprintf("head -c %dM /dev/zero | sha256sum > /dev/null", mb) }
	return deploy.App{
		Name: "shop",
		Pipeline: []deploy.StepSpec{
			{Name: "install", Run: "tar -xf " + tarball, In: "web", Reads: []string{"package-lock.json"}, Makes: []string{"node_modules"}},
			{Name: "lint", Run: burn(150), In: "web", Needs: []string{"install"}},
			{Name: "types", Run: burn(150), In: "web", Needs: []string{"install"}},
			{Name: "test", Run: burn(150), In: "web", Needs: []string{"install"}},
			{Name: "build", Run: burn(100) + "; mkdir dist; cp -r src index.html dist/", In: "web", Makes: []string{"dist"}, Needs: []string{"install"}},
			{Name: "api", Run: burn(200) + "; mkdir bin; echo x > bin/api", Makes: []string{"bin/api"}},
		},
		Services: []deploy.Service{{Name: "web", Static: "web/dist", Path: "/"}, {Name: "api", Command: "bin/api", Path: "/api"}},
	}
}

// A pipeline in which nothing has changed; Resolve is part of it, as somebody waits for both.
func BenchmarkUnchanged(b *testing.B) {
	bench := newBench(b)
	app := workshop(bench)
	bench.must(app)
	for b.Loop() {
		if _, err := bench.Resolve(b.Context(), bench.repo.dir, ""); err != nil {
			b.Fatal(err)
		}
		bench.must(app)
	}
}

// A new commit that changes what no step reads: nothing runs, a new release is made.
func BenchmarkUnchangedStepsOfANewCommit(b *testing.B) {
	bench := newBench(b)
	app := workshop(bench)
	bench.must(app)
	for b.Loop() {
		b.StopTimer()
		bench.repo.git("commit", "-q", "--allow-empty", "-m", "next")
		b.StartTimer()
		bench.must(app)
	}
}

// cpu is the time that this process and its children have had, in seconds.
func cpu() (seconds float64) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		if unix.Getrusage(who, &used) == nil {
			seconds += float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
		}
	}
	return seconds
}

// The pipeline beside the same commands by hand in the best order. It reports how much longer the pipeline takes, and how
// much more work it is, in percent; on a machine that is busy with something else only the latter means something.
func BenchmarkBesideByHand(b *testing.B) {
	bench := newBench(b)
	app := workshop(bench)
	var hand, pipe time.Duration
	var handCPU, pipeCPU float64
	for i := 0; b.Loop(); i++ {
		clone := filepath.Join(shared(b), "clone")
		begin, used := time.Now(), cpu()
		bench.repo.git("clone", "-q", bench.repo.dir, clone)
		script := `(` + app.Pipeline[5].Run + `) & cd web; ` + app.Pipeline[0].Run + `; (` + app.Pipeline[1].Run + `) & (` + app.Pipeline[2].Run +
			`) & (` + app.Pipeline[3].Run + `) & (` + app.Pipeline[4].Run + `) & wait`
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = clone
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		hand += time.Since(begin)
		handCPU += cpu() - used
		os.RemoveAll(clone)
		for j := range app.Pipeline { // other keys
			app.Pipeline[j].Run += " "
		}
		begin, used = time.Now(), cpu()
		bench.must(app)
		pipe += time.Since(begin)
		pipeCPU += cpu() - used
		bench.Close()
	}
	b.ReportMetric(hand.Seconds()/float64(b.N), "hand-s")
	b.ReportMetric(pipe.Seconds()/float64(b.N), "pipe-s")
	b.ReportMetric(100*(pipeCPU/handCPU-1), "%more-cpu")
	b.ReportMetric(100*(pipe.Seconds()/hand.Seconds()-1), "%longer")
}
