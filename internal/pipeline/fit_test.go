package pipeline_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

func TestEveryReleaseHoldsLotseFileAndMigrations(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"lotse.yaml": "app: a # as it is\n", "db/m/1.sql": "one", "db/m/2.sql": "two", "db/other": "x", "w/i.html": "w", "more/1.sql": "m"})
	app := deploy.App{Name: "a", Services: []deploy.Service{{Name: "w", Static: "w"}}, Stages: []deploy.Stage{
		{Name: "dev", Database: deploy.Database{Migrations: "db/m"}}, {Name: "prod", Database: deploy.Database{Migrations: "./more/"}}, {Name: "none"}}}
	rel := b.must(app)
	got := b.content(rel)
	delete(got, ".lotse/static/w.json")
	want := map[string]string{deploy.LotseFile: "app: a # as it is\n", "db/m/1.sql": "one", "db/m/2.sql": "two", "more/1.sql": "m", "w/i.html": "w"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	files, err := b.Files(t.Context(), rel)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(files, "db/m/2.sql"); string(data) != "two" || err != nil {
		t.Errorf("db/m/2.sql holds %q, %v", data, err)
	}
	app.Stages[0].Database.Migrations = "db/none"
	if _, err := b.build(app); !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "the commit has no db/none") {
		t.Errorf("without the folder: %v", err)
	}
}

func TestFitsThatAreRefused(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X')"`, "VITE_X")
	base := b.must(app)
	for _, test := range []struct {
		values []string
		is     error
	}{
		{nil, deploy.ErrMissing},
		{[]string{"VITE_X=a", "VITE_Y=b"}, deploy.ErrBadInput},
		{[]string{"VITE_X=a", "VITE_X=b"}, deploy.ErrBadInput},
		{[]string{"VITE_X=\xff"}, deploy.ErrBadInput},
		{[]string{"VITE_X=a\x00b"}, deploy.ErrBadInput},
	} {
		if _, err := b.fit(app, base, test.values...); !errors.Is(err, test.is) {
			t.Errorf("%v: %v", test.values, err)
		}
	}
	fitted := b.mustFit(app, base, "VITE_X=v")
	if _, err := b.fit(app, fitted, "VITE_X=w"); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("fitted to something else: %v", err)
	}
	private := b.must(bundled(`MAIN=a`))
	if same, err := b.fit(bundled(`MAIN=a`), private); err != nil || same.ID != private.ID {
		t.Errorf("without public values: %v", err)
	}
	if _, err := b.fit(bundled(`MAIN=a`), private, "VITE_X=v"); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("a value that nobody wants: %v", err)
	}
	gone := base
	gone.ID = deploy.Digest(depot.DigestOf([]byte("none")))
	if _, err := b.fit(app, gone, "VITE_X=v"); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("of a release that is gone: %v", err)
	}
}

// A step that did not change is neither run nor looked into again, and values are filled in without the repository.
func TestProofsAreKept(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x", "other": "1"})
	app := bundled(`echo ran; MAIN="a('$VITE_X')"`, "VITE_X")
	first := b.must(app)
	if got := strings.Join(b.lines["site"], "\n"); strings.Count(got, "ran") != 3 || !strings.Contains(got, "lotse: once more with VITE_X empty") {
		t.Errorf("the step says %q", got)
	}
	b.repo.commit(map[string]string{"other": "2"})
	b.open()
	again := b.must(app)
	if b.last["site"].State != deploy.StepCached || len(b.lines["site"]) > 0 || b.last["site"].Cause == "" {
		t.Errorf("evidence %+v, %q", b.last["site"], b.lines["site"])
	}
	if again.ID == first.ID {
		t.Error("two commits are one release")
	}
	if err := os.RemoveAll(b.repo.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fitCommit(t.Context(), app, deploy.Commit{Repo: b.repo.dir, ID: again.Manifest.Commit}, again, "VITE_X=v"); err != nil {
		t.Errorf("without the repository: %v", err)
	}
}

// A release that was fitted lives as long as the one that it was made of, and no longer.
func TestFittedReleasesArePruned(t *testing.T) {
	b := newBench(t, func(c *pipeline.Config) { c.Budget = 1 })
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X')"`, "VITE_X")
	base := b.must(app)
	one, two := b.mustFit(app, base, "VITE_X=one"), b.mustFit(app, base, "VITE_X=two")
	for _, keep := range []deploy.Digest{base.ID, one.ID} {
		if err := b.Prune(t.Context(), []deploy.Digest{keep}); err != nil {
			t.Fatal(err)
		}
		b.open(func(c *pipeline.Config) { c.Budget = 1 })
		for _, rel := range []deploy.Release{base, one, two} {
			if err := b.Verify(t.Context(), rel.ID); err != nil {
				t.Errorf("with %s kept: %v", keep.Short(), err)
			}
		}
	}
	b.must(app) // writes the note of the base again
	if loaded, err := b.Release(t.Context(), two.ID); err != nil || !cmp.Equal(loaded.Manifest, two.Manifest) || len(loaded.Record.Steps) != 1 {
		t.Errorf("loaded %+v, %v", loaded.Record, err)
	}
	if err := b.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, rel := range []deploy.Release{base, one, two} {
		if err := b.Verify(t.Context(), rel.ID); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("after all is pruned: %v", err)
		}
	}
}

// Stages are fitted beside each other, and none is lost.
func TestFitsAtOnce(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X')"`, "VITE_X")
	base := b.must(app)
	c, err := b.Resolve(t.Context(), b.repo.dir, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ids := make([]deploy.Digest, 10)
	for i := range ids {
		all.Go(func() {
			rel, err := b.Fit(t.Context(), "together", app, c, base, settings("VITE_X", string(rune('p'+i/2))+"-value"), nil, nil)
			if err != nil {
				t.Error(err)
			}
			ids[i] = rel.ID
		})
	}
	all.Wait()
	for i, id := range ids {
		if err := b.Verify(t.Context(), id); err != nil {
			t.Error(err)
		}
		if ids[i/2*2] != id {
			t.Error("the same values made two releases")
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 5 {
		t.Errorf("five values made %v", ids)
	}
}

// What lies beside a filled file belongs to it: compressed siblings, digests in the page, the index.
func TestWhatBelongsToFilledFiles(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X');$(seq 500 | sed 's/.*/f();/')"`, "VITE_X")
	app.Pipeline[0].Run += `
gzip -nk dist/assets/main-*.js
s=$(openssl dgst -sha384 -binary dist/assets/main-*.js | base64 -w0)
sed -i "s|<script |<script integrity=\"sha384-$s\" |" dist/index.html
echo '{"page":"sha256-'$(openssl dgst -sha256 -binary dist/index.html | base64 -w0)'"}' > dist/sums.json`
	base := b.must(app)
	if whys(base) != "VITE_X site: " {
		t.Fatal(whys(base))
	}
	got := b.content(b.mustFit(app, base, "VITE_X=https://api.example"))
	main := regexp.MustCompile(`/(assets/main-\w+\.js)`).FindStringSubmatch(got["dist/index.html"])
	if main == nil || !strings.Contains(got["dist/"+main[1]], "https://api.example") {
		t.Fatalf("the page is %q", got["dist/index.html"])
	}
	script := got["dist/"+main[1]]
	sum := sha512.Sum384([]byte(script))
	if !strings.Contains(got["dist/index.html"], `integrity="sha384-`+base64.StdEncoding.EncodeToString(sum[:])+`"`) {
		t.Errorf("the digest in %q is not that of the script", got["dist/index.html"])
	}
	if !strings.Contains(got["dist/sums.json"], sumOf(got["dist/index.html"])) {
		t.Errorf("the digest in %q is not that of the page", got["dist/sums.json"])
	}
	br, err := io.ReadAll(brotli.NewReader(strings.NewReader(got["dist/"+main[1]+".br"])))
	if err != nil || string(br) != script {
		t.Errorf("the .br holds something else: %v", err)
	}
	gz, err := gzip.NewReader(strings.NewReader(got["dist/"+main[1]+".gz"]))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(gz); err != nil || string(data) != script {
		t.Errorf("the .gz holds something else: %v", err)
	}
	var index proxy.StaticIndex
	if err := json.Unmarshal([]byte(got[".lotse/static/web.json"]), &index); err != nil {
		t.Fatal(err)
	}
	if f := index.Files[main[1]]; f.Digest != depot.DigestOf([]byte(script)) || !f.Br || !f.Gzip || !f.Immutable {
		t.Errorf("the script is indexed as %+v", f)
	}
	if len(index.Files) != 4 {
		t.Errorf("the index holds %v", index.Files)
	}
}

// Scripts that refer to each other in a circle get names that stand for the values in both.
func TestCirclesOfFilledFiles(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := deploy.App{Name: "a", Pipeline: []deploy.StepSpec{{Name: "site", Public: []string{"VITE_X"}, Makes: []string{"dist"}, Reads: []string{"src"}, Run: `
h=$(printf %s "$VITE_X" | sha256sum | cut -c1-6)
mkdir -p dist/assets
echo "import './b-A0$h.js';" > dist/assets/a-Zq$h.js
echo "import './a-Zq$h.js';f('$VITE_X')" > dist/assets/b-A0$h.js
echo "<script src=/assets/a-Zq$h.js></script>" > dist/index.html`}},
		Services: []deploy.Service{{Name: "w", Static: "dist"}}}
	base := b.must(app)
	if whys(base) != "VITE_X site: " {
		t.Fatal(whys(base))
	}
	names := regexp.MustCompile(`[ab]-\w{8}\.js`)
	seen := map[string]string{}
	for _, value := range []string{"one", "two"} {
		got := b.content(b.mustFit(app, base, "VITE_X="+value))
		for name, text := range got {
			for _, other := range names.FindAllString(text, -1) {
				if _, ok := got["dist/assets/"+other]; !ok && !strings.HasPrefix(name, ".lotse") {
					t.Errorf("%s refers to %s, which is not there", name, other)
				}
			}
			if was, ok := seen[name]; ok && was != text && strings.Contains(name, "assets") {
				t.Errorf("%s stands for two contents", name)
			}
			seen[name] = text
		}
	}
}

// A file that browsers keep for ever, but whose name says nothing of what it holds, cannot be filled.
func TestKeptForEverWithoutAHash(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN=a; mkdir -p dist; echo "f('$VITE_X')" > dist/config.js`, "VITE_X")
	if base := b.must(app); whys(base) != "VITE_X site: " {
		t.Error(whys(base))
	}
	app.Services[0].Immutable = []string{"*.js"}
	base := b.must(app)
	if want := "VITE_X site: VITE_X stands in dist/config.js, which browsers keep for ever, and whose name does not change with it"; whys(base) != want {
		t.Error(whys(base))
	}
	if got := b.content(b.mustFit(app, base, "VITE_X=v")); got["dist/config.js"] != "f('v')\n" {
		t.Errorf("it holds %q", got["dist/config.js"])
	}
}

// A cancelled Fit leaves nothing, and the next one is whole.
func TestACancelledFit(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X')"`, "VITE_X")
	base := b.must(app)
	c, err := b.Resolve(t.Context(), b.repo.dir, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.fitCommit(ctx, app, c, base, "VITE_X=v"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.mustFit(app, base, "VITE_X=v")
}

func settings(name, value string) []deploy.Setting {
	return []deploy.Setting{{Name: name, Value: secret.New(value)}}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
