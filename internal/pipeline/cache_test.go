package pipeline_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/pipeline"
)

// tools puts programs of the test before all others in PATH. Their folder is what every user may enter.
func tools(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := shared(t)
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestWhatMakesAStepRunAgain(t *testing.T) {
	bin := tools(t, map[string]string{"go": "echo go version 1", "frob": "true"})
	app := func() deploy.App {
		return deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
			{Name: "gen", Run: "frob; mkdir -p gen; cp src/in gen/g", In: "app", Reads: []string{"src"}, Makes: []string{"gen"}},
			{Name: "use", Run: "mkdir -p out; cp gen/g out/f; cat ../go.mod", In: "app", Reads: []string{"main"}, Makes: []string{"out"}, Needs: []string{"gen"}},
			{Name: "all", Run: "true"},
		}, Services: []deploy.Service{{Name: "w", Static: "app/out"}}}
	}
	files := map[string]string{"app/src/in": "1", "app/main": "m", "README": "r", "go.mod": "module x\n"}
	for _, test := range []struct {
		name   string
		change func(b *bench, app *deploy.App)
		want   string
	}{
		{"nothing", func(b *bench, app *deploy.App) {}, "gen cached use cached all cached"},
		{"a new commit of the same files", func(b *bench, app *deploy.App) { b.repo.commit(nil) }, "gen cached use cached all cached"},
		{"times of files", func(b *bench, app *deploy.App) {
			os.Chtimes(filepath.Join(b.repo.dir, "app/src/in"), time.Unix(0, 0), time.Unix(0, 0))
			b.repo.commit(nil)
		}, "gen cached use cached all cached"},
		{"the clock", func(b *bench, app *deploy.App) {
			b.open(func(c *pipeline.Config) { c.Clock = func() time.Time { return time.Unix(1, 0) } })
		}, "gen cached use cached all cached"},
		{"a file that only one reads", func(b *bench, app *deploy.App) { b.repo.commit(map[string]string{"README": "new"}) }, "gen cached use cached all done"},
		{"an input", func(b *bench, app *deploy.App) { b.repo.commit(map[string]string{"app/main": "new"}) }, "gen cached use done all done"},
		{"an input of what is needed", func(b *bench, app *deploy.App) { b.repo.commit(map[string]string{"app/src/in": "new"}) }, "gen done use done all done"},
		{"a name", func(b *bench, app *deploy.App) { b.repo.commit(map[string]string{"app/src/extra": ""}) }, "gen done use done all done"},
		{"a mode", func(b *bench, app *deploy.App) {
			os.Chmod(filepath.Join(b.repo.dir, "app/main"), 0o755)
			b.repo.commit(nil)
		}, "gen cached use done all done"},
		{"a file that chooses versions", func(b *bench, app *deploy.App) { b.repo.commit(map[string]string{".nvmrc": "20"}) }, "gen done use done all done"},
		{"a command", func(b *bench, app *deploy.App) { app.Pipeline[1].Run += " " }, "gen cached use done all cached"},
		{"makes", func(b *bench, app *deploy.App) { app.Pipeline[0].Makes = []string{"gen/g"} }, "gen done use done all cached"},
		{"the version of a tool", func(b *bench, app *deploy.App) {
			os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\necho go version 2"), 0o755)
		}, "gen cached use done all done"},
		{"a tool of the same version, installed again", func(b *bench, app *deploy.App) {
			os.Chtimes(filepath.Join(bin, "go"), time.Unix(5, 0), time.Unix(5, 0))
		}, "gen cached use cached all cached"},
		{"a program whose version is not known", func(b *bench, app *deploy.App) {
			os.Chtimes(filepath.Join(bin, "frob"), time.Unix(5, 0), time.Unix(5, 0))
		}, "gen done use done all cached"},
		{"GOFLAGS", func(b *bench, app *deploy.App) { t.Setenv("GOFLAGS", "-tags=x") }, "gen done use done all done"},
		{"the address of a registry", func(b *bench, app *deploy.App) { t.Setenv("npm_config_registry", "https://other.example") }, "gen cached use cached all cached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\necho go version 1"), 0o755)
			t.Setenv("GOFLAGS", "")
			b := newBench(t)
			b.repo.commit(files)
			a := app()
			a.Pipeline[1].Run = "go version; " + a.Pipeline[1].Run
			a.Pipeline[2].Run = "sh -c true" // a script, with a go.mod beside it
			b.must(a)
			test.change(b, &a)
			b.must(a)
			if got := b.final(a); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// What the depot has lost or holds damaged is made again; nobody is told of it but the log.
func TestLostOutputsAreMadeAgain(t *testing.T) {
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{
		{Name: "first", Run: "mkdir m; echo made by first > m/f", Reads: []string{"one"}, Makes: []string{"m"}},
		{Name: "second", Run: "mkdir out; cp m/f out/f; cat two >> out/f", Reads: []string{"two"}, Makes: []string{"out"}, Needs: []string{"first"}},
	}, Services: []deploy.Service{{Name: "w", Static: "out"}, {Name: "c", Command: "cat out/f"}}}
	for name, damage := range map[string]func(b *bench){
		"damaged": func(b *bench) { spoil(t, b.dir, "made by first\n") },
		"packs gone": func(b *bench) {
			os.RemoveAll(filepath.Join(b.dir, "depot/packs"))
			os.Mkdir(filepath.Join(b.dir, "depot/packs"), 0o700)
		},
		"pruned": func(b *bench) {
			if _, err := b.depot.Prune(t.Context(), func(kind, _ string) bool { return false }, 0); err != nil {
				t.Fatal(err)
			}
		},
		"trees gone": func(b *bench) {
			found, _ := filepath.Glob(filepath.Join(b.dir, "depot/blobs/*/*"))
			for _, name := range found {
				os.Remove(name)
			}
		},
	} {
		for _, change := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				b.repo.commit(map[string]string{"one": "1", "two": "2\n"})
				first := b.must(app)
				if change { // so that first's output is needed in the checkout
					b.repo.commit(map[string]string{"two": "3\n"})
				}
				damage(b)
				b.open() // a pipeline that knows nothing by heart
				rel := b.must(app)
				want := "made by first\n2\n"
				if change {
					want = "made by first\n3\n"
				}
				if got := b.content(rel); got["out/f"] != want || got["m/f"] != "made by first\n" {
					t.Errorf("released %q", got)
				}
				if !change && rel.ID != first.ID {
					t.Errorf("the release is %s, was %s", rel.ID, first.ID)
				}
				if err := b.Verify(t.Context(), rel.ID); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// spoil changes a byte of what is stored somewhere below dir.
func spoil(t *testing.T, dir, content string) {
	t.Helper()
	spoiled := false
	for _, pattern := range []string{"depot/packs/*", "depot/blobs/*/*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range found {
			data, _ := os.ReadFile(name)
			if i := bytes.Index(data, []byte(content)); i >= 0 {
				data[i] ^= 1
				os.WriteFile(name, data, 0o600)
				spoiled = true
			}
		}
	}
	if !spoiled {
		t.Fatalf("nothing holds %q", content)
	}
}

func TestDamagedReleasesAreFound(t *testing.T) {
	b := newBench(t)
	b.repo.commit(siteFiles)
	rel := b.must(site())
	spoil(t, b.dir, "echo api")
	if err := b.Verify(t.Context(), rel.ID); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), "bin/api") {
		t.Errorf("Verify = %v", err)
	}
	again := b.must(site())
	if err := b.Verify(t.Context(), rel.ID); err != nil || again.ID != rel.ID {
		t.Errorf("after another build: %s, %v; want %s", again.ID, err, rel.ID)
	}
	spoil(t, b.dir, `{"format":1,"app":"demo"`)
	if _, err := b.Release(t.Context(), rel.ID); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("Release with a damaged manifest: %v", err)
	}
	none := deploy.Digest(depot.DigestOf([]byte("none")))
	if _, err := b.Release(t.Context(), none); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("Release of nothing: %v", err)
	}
	if err := b.Verify(t.Context(), none); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("Verify of nothing: %v", err)
	}
}

// The same commit and the same outputs are the same release, byte for byte, wherever and by whomever it is built.
func TestReleasesAreDeterministic(t *testing.T) {
	build := func() (deploy.Release, map[string]string) {
		b := newBench(t)
		b.repo.commit(siteFiles)
		rel := b.must(site())
		return rel, b.content(rel)
	}
	first, content := build()
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LANG", "de_DE.UTF-8")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	defer unix.Umask(unix.Umask(0o077))
	again, same := build()
	if first.ID != again.ID || !cmp.Equal(first.Manifest, again.Manifest) {
		t.Errorf("two releases: %s", cmp.Diff(first.Manifest, again.Manifest))
	}
	if diff := cmp.Diff(content, same); diff != "" {
		t.Error(diff)
	}
}

func TestPrune(t *testing.T) {
	b := newBench(t, func(c *pipeline.Config) { c.Budget = 600_000 })
	app := one("mkdir out; cp big out/f", func(s *deploy.StepSpec) { s.Reads = []string{"big"} })
	var all []deploy.Release
	for i := range 5 {
		b.repo.commit(map[string]string{"big": strings.Repeat(string(rune('a'+i)), 200_000)})
		all = append(all, b.must(app))
		// What is used later has a later time, also on a coarse clock.
		b.age(all[:i+1])
	}
	if err := b.Prune(t.Context(), []deploy.Digest{all[0].ID}); err != nil {
		t.Fatal(err)
	}
	var left []int
	for i, rel := range all {
		err := b.Verify(t.Context(), rel.ID)
		if err == nil {
			left = append(left, i)
		} else if !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("release %d: %v", i, err)
		}
		_, err = os.Stat(rel.Record.Steps[0].Log)
		if err != nil {
			t.Errorf("the log of release %d: %v", i, err) // fewer than 20 runs
		}
	}
	if len(left) < 2 || left[0] != 0 || left[len(left)-1] != 4 {
		t.Errorf("left are %v, want 0, which a stage needs, and the newest", left)
	}
	if used, _ := b.depot.Used(); used > 700_000 {
		t.Errorf("%d bytes are used", used)
	}
}

// age makes the notes of the releases older, the first the oldest.
func (b *bench) age(rels []deploy.Release) {
	b.t.Helper()
	for i, rel := range rels {
		found, _ := filepath.Glob(filepath.Join(b.dir, "depot/notes/*/*"))
		for _, name := range found {
			data, _ := os.ReadFile(name)
			if strings.Contains(string(data), string(rel.ID)) || strings.Contains(string(data), string(rel.Manifest.Steps[0].Key)) {
				at := time.Now().Add(time.Duration(i-100) * time.Minute)
				os.Chtimes(name, at, at)
			}
		}
	}
}

func TestLogsArePrunedWithTheirRuns(t *testing.T) {
	b := newBench(t, func(c *pipeline.Config) { c.Budget = 1 })
	b.repo.commit(map[string]string{"f": "x"})
	kept := b.must(one("mkdir out; echo x > out/f"))
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(b.dir, "pipeline/runs/run-1"), old, old)
	for range 25 {
		b.build(one("exit 1"))
	}
	if err := b.Prune(t.Context(), []deploy.Digest{kept.ID}); err != nil {
		t.Fatal(err)
	}
	list, _ := os.ReadDir(filepath.Join(b.dir, "pipeline/runs"))
	if len(list) != 21 {
		t.Errorf("%d runs are left, want 20 and that of the release", len(list))
	}
	if _, err := os.Stat(kept.Record.Steps[0].Log); err != nil {
		t.Errorf("the log of the kept release: %v", err)
	}
}
