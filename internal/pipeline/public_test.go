package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// bundler stands for a real one: it makes a page and two scripts that have hashes of what they hold in their names, of which the first
// loads the second. MAIN and LAZY are what the scripts hold.
const bundler = `
hash() { sha256sum | cut -c1-8 | sed 's/^\(.\)../\1Zq/'; }
mkdir -p dist/assets
printf '%s' "${LAZY:-lazy}" > lazy.out; l=$(hash < lazy.out); cp lazy.out "dist/assets/lazy-$l.js"
printf '%s\nimport("./lazy-%s.js");' "${MAIN:-main}" "$l" > main.out; m=$(hash < main.out); cp main.out "dist/assets/main-$m.js"
printf '<!doctype html><title>%s</title><script type="module" src="/assets/main-%s.js"></script>' "${TITLE:-shop}" "$m" > dist/index.html
`

// bundled is an app whose step has the public variables.
func bundled(script string, public ...string) deploy.App {
	return deploy.App{Name: "shop", Pipeline: []deploy.StepSpec{
		{Name: "site", Run: script + bundler, Reads: []string{"src"}, Makes: []string{"dist"}, Public: public},
	}, Services: []deploy.Service{{Name: "web", Static: "dist", Fallback: "index.html", Path: "/"}}}
}

func (b *bench) fit(app deploy.App, rel deploy.Release, values ...string) (deploy.Release, error) {
	b.t.Helper()
	c, err := b.Resolve(b.t.Context(), b.repo.dir, "HEAD")
	if err != nil {
		b.t.Fatal(err)
	}
	return b.fitCommit(b.t.Context(), app, c, rel, values...)
}

func (b *bench) fitCommit(ctx context.Context, app deploy.App, c deploy.Commit, rel deploy.Release, values ...string) (deploy.Release, error) {
	var public []deploy.Setting
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		public = append(public, deploy.Setting{Name: name, Value: secret.New(value)})
	}
	b.runs++
	b.last = map[string]deploy.StepEvidence{}
	return b.Fit(ctx, fmt.Sprintf("run-%d", b.runs), app, c, rel, public, func(e deploy.StepEvidence) { b.last[e.Name] = e }, func(string, string) {})
}

func (b *bench) mustFit(app deploy.App, rel deploy.Release, values ...string) deploy.Release {
	b.t.Helper()
	got, err := b.fit(app, rel, values...)
	if err != nil {
		b.t.Fatalf("Fit: %v\n%v", err, b.last)
	}
	if err := b.Verify(b.t.Context(), got.ID); err != nil {
		b.t.Fatal(err)
	}
	return got
}

// program is what a browser would run: the page, and the scripts that it loads, with their names made the same.
func (b *bench) program(rel deploy.Release) map[string]string {
	b.t.Helper()
	hash := regexp.MustCompile(`-[A-Za-z0-9_-]{8}\.(js|css)`)
	all := map[string]string{}
	for name, content := range b.content(rel) {
		if strings.HasPrefix(name, "dist/") && !strings.HasSuffix(name, ".br") && !strings.HasSuffix(name, ".gz") {
			all[hash.ReplaceAllString(name, "-*.$1")] = hash.ReplaceAllString(content, "-*.$1")
		}
	}
	return all
}

func whys(rel deploy.Release) string {
	var all []string
	for _, p := range rel.Manifest.Public {
		all = append(all, p.Name+" "+p.Step+": "+p.Why)
	}
	return strings.Join(all, "\n")
}

// One build serves every stage, and what a stage gets is what a build with its values would have made, under other names.
func TestValuesAreFilledIn(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	script := `MAIN="const u='$VITE_URL';use(u,\"$VITE_URL\",\"$VITE_URL_V2/x\")"; LAZY="lazy(\"$VITE_URL_V2\")"`
	app := bundled(script, "VITE_URL", "VITE_URL_V2")
	base := b.must(app)
	if want := "VITE_URL site: \nVITE_URL_V2 site: "; whys(base) != want {
		t.Fatalf("public are\n%s", whys(base))
	}
	if e := b.last["site"]; e.Cause != "VITE_URL and VITE_URL_V2: one build serves every stage, and is filled in" {
		t.Errorf("evidence %q", e.Cause)
	}
	values := []string{"VITE_URL=https://api.shop.example", "VITE_URL_V2=https://api.shop.example/v2"}
	fitted := b.mustFit(app, base, values...)
	if fitted.Manifest.Fits == nil || fitted.Manifest.Fits.Of != base.ID || !cmp.Equal(fitted.Manifest.Steps, base.Manifest.Steps) || fitted.ID == base.ID {
		t.Errorf("fits %+v", fitted.Manifest.Fits)
	}
	if e := b.last["site"]; e.State != deploy.StepCached || e.Cause != "VITE_URL and VITE_URL_V2 filled in" {
		t.Errorf("evidence %+v", e)
	}
	built := bundled("VITE_URL=https://api.shop.example VITE_URL_V2=https://api.shop.example/v2; " + script)
	if diff := cmp.Diff(b.program(b.must(built)), b.program(fitted)); diff != "" {
		t.Error(diff)
	}
	for name, content := range b.content(fitted) {
		if strings.Contains(content, "public.invalid") {
			t.Errorf("%s holds a placeholder", name)
		}
	}
	again, err := b.fit(app, base, values...)
	if err != nil || again.ID != fitted.ID {
		t.Errorf("again: %s, %v", again.ID, err)
	}
	if same, err := b.fit(app, fitted, values...); err != nil || same.ID != fitted.ID {
		t.Errorf("fitted again to the same: %v", err)
	}
}

// A client that kept a file under its name never gets another content under it, whatever values come.
func TestNoNameStandsForTwoContents(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="a('$VITE_X')"; LAZY="b('$VITE_Y')"`, "VITE_X", "VITE_Y")
	base := b.must(app)
	contents := map[string]string{}
	lazies := map[string]bool{}
	for _, values := range [][]string{{"VITE_X=one", "VITE_Y=two"}, {"VITE_X=two", "VITE_Y=one"}, {"VITE_X=one", "VITE_Y=three"}, {"VITE_X=", "VITE_Y="}, {"VITE_X=five", "VITE_Y=two"}} {
		for name, content := range b.content(b.mustFit(app, base, values...)) {
			if !strings.HasPrefix(name, "dist/assets/") {
				continue
			}
			if was, ok := contents[name]; ok && was != content {
				t.Errorf("%s is %q and %q", name, was, content)
			}
			contents[name] = content
			if strings.HasPrefix(path.Base(name), "lazy-") && strings.HasSuffix(name, ".js") {
				lazies[name] = true
			}
		}
	}
	for name := range b.content(base) {
		if _, ok := contents[name]; ok {
			t.Errorf("%s is in the release that nobody fitted, too", name)
		}
	}
	if len(lazies) != 4 {
		t.Errorf("four values of VITE_Y made %d files: one that does not change must keep its name, and one that does must not", len(lazies))
	}
}

// What a build decides is found, with the variable that it depends on, and the step is run for every stage.
func TestWhatDecidesIsBuiltForEveryStage(t *testing.T) {
	for name, test := range map[string]struct{ script, why string }{
		"whether there is one": {`if [ -n "$VITE_X" ]; then MAIN="on('$VITE_X')"; else MAIN="off('$VITE_X')"; fi`,
			"VITE_X decides what is built (dist/assets/main-*.js differs when it is empty)"},
		"whether there is one, and nothing of it": {`MAIN=off; if [ -n "$VITE_X" ]; then MAIN=on; fi`,
			"VITE_X decides what is built (dist/assets/main-*.js differs when it is empty)"},
		"length":            {`MAIN="n(${#VITE_X})"`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"capitals":          {`MAIN="c('$(printf %s "$VITE_X" | tr a-z A-Z)')"`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"its first":         {`MAIN="f('$(printf %.1s "$VITE_X")')"`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"an address":        {`case $VITE_X in https:*) MAIN=tls;; *) MAIN=plain;; esac`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"a number":          {`case $VITE_X in *[!0-9]*) MAIN=NaN;; *) MAIN=1;; esac`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"another file":      {`mkdir -p dist; if [ -n "$VITE_X" ]; then echo > dist/extra; fi`, "VITE_X decides what is built (dist/extra differs when it is empty)"},
		"encoded":           {`MAIN="e('$(printf %s "$VITE_X" | sed s,/,%2F,g)')"`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"split":             {`MAIN="s('$(printf %s "$VITE_X" | cut -c1-12)'+'$(printf %s "$VITE_X" | cut -c13-)')"`, "VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"},
		"a build that ends": {`MAIN=ok; test -n "$VITE_X"`, "the build fails when VITE_X is empty (the pipeline failed: step site: it ended with exit code 1; it had placeholders for VITE_X and VITE_Y)"},
		"outside of a text": {`MAIN="/* $VITE_X */"`, "VITE_X stands in dist/assets/main-*.js, outside of a text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.repo.commit(map[string]string{"src/a": "x"})
			app := bundled(test.script+`; LAZY="y('$VITE_Y')"`, "VITE_X", "VITE_Y")
			base := b.must(app)
			if want := "VITE_X site: " + test.why + "\nVITE_Y site: "; whys(base) != want {
				t.Fatalf("public are\n%s\nwant\n%s", whys(base), want)
			}
			if e := b.last["site"]; e.Cause != test.why+": built for every stage" {
				t.Errorf("evidence %q", e.Cause)
			}
			fitted := b.mustFit(app, base, "VITE_X=https://X.example/a b", "VITE_Y=y")
			if e := b.last["site"]; e.State != deploy.StepDone || e.Cause != test.why+": built for this stage" {
				t.Errorf("evidence %+v", e)
			}
			built := b.must(bundled("VITE_X='https://X.example/a b' VITE_Y=y; " + test.script + `; LAZY="y('$VITE_Y')"`))
			if diff := cmp.Diff(b.content(built), b.content(fitted)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A tool that keeps in its cache what it made with another value cannot be trusted with any.
func TestCachesThatKeepValues(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`test -e ~/kept || echo "x('$VITE_X')" > ~/kept; MAIN=$(cat ~/kept)`, "VITE_X")
	base := b.must(app)
	if want := "VITE_X site: VITE_X decides what is built (dist/assets/main-*.js differs when it has another value)"; whys(base) != want {
		t.Errorf("public are\n%s\nwant\n%s", whys(base), want)
	}
	for range 2 {
		if _, err := b.fit(app, base, "VITE_X=v"); !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), "holds a placeholder of VITE_X") {
			t.Errorf("Fit = %v", err)
		}
	}
	os.Remove(filepath.Join(b.dir, "pipeline/home/kept"))
	b.mustFit(app, base, "VITE_X=v")
}

// A comparison is false with every placeholder. So the sources are asked before a value is filled in.
func TestComparedValuesAreBuilt(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a.ts": "if (import.meta.env.VITE_X === \"production\") track()\n" +
		"const how = {beta: 1, 'release candidate': 2}\nif (u.startsWith('git:')) clone()\n"})
	script := `MAIN="x('$VITE_X')"; if [ "$VITE_X" = production ]; then MAIN="$MAIN;track()"; fi`
	app := bundled(script, "VITE_X")
	base := b.must(app)
	if whys(base) != "VITE_X site: " {
		t.Fatal(whys(base))
	}
	for value, why := range map[string]string{
		"staging": "", "https://example.org": "", "productions": "", "": "",
		"production":        "the value of VITE_X stands in the sources, which may compare with it",
		"beta":              "the value of VITE_X stands in the sources, which may compare with it",
		"release candidate": "the value of VITE_X stands in the sources, which may compare with it",
		"true":              "VITE_X is a number, or true or false here, which programs compare with in many ways",
		"8080":              "VITE_X is a number, or true or false here, which programs compare with in many ways",
		"git:x":             `the sources ask whether a text starts with "git:", and VITE_X does here`,
	} {
		fitted := b.mustFit(app, base, "VITE_X="+value)
		want := "VITE_X filled in"
		if why != "" {
			want = why + ": built for this stage"
		}
		if e := b.last["site"]; e.Cause != want {
			t.Errorf("%s: evidence %q, want %q", value, e.Cause, want)
		}
		if diff := cmp.Diff(b.program(b.must(bundled("VITE_X='"+value+"'; "+script))), b.program(fitted)); diff != "" {
			t.Errorf("%s: %s", value, diff)
		}
	}
}

// Of two variables one may be empty where only none and all were compared.
func TestSomeEmptyValuesAreBuilt(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	script := `MAIN="x('${VITE_X:-$VITE_Y}')"`
	app := bundled(script, "VITE_X", "VITE_Y")
	base := b.must(app)
	for _, values := range [][]string{{"VITE_X=", "VITE_Y=y"}, {"VITE_X=x", "VITE_Y="}, {"VITE_X=", "VITE_Y="}, {"VITE_X=x", "VITE_Y=y"}} {
		fitted := b.mustFit(app, base, values...)
		if diff := cmp.Diff(b.program(b.must(bundled(strings.Join(values, " ")+"; "+script))), b.program(fitted)); diff != "" {
			t.Errorf("%v: %s", values, diff)
		}
	}
}

// What other steps make of a build with public values is compared, too.
func TestStepsBehindAreCompared(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"src/a": "x"})
	app := bundled(`MAIN="x('$VITE_X')"`, "VITE_X")
	copied := deploy.StepSpec{Name: "copy", Run: "mkdir out; cp -r dist/. out", Reads: []string{"src"}, Makes: []string{"out"}, Needs: []string{"site"}}
	summed := copied
	summed.Run += "; cat out/assets/* | wc -c > out/size"
	app.Services[0].Static = "out"
	app.Pipeline = append(app.Pipeline, copied)
	base := b.must(app)
	if whys(base) != "VITE_X site: " {
		t.Error(whys(base))
	}
	if got := b.content(b.mustFit(app, base, "VITE_X=v")); !slices.ContainsFunc(keys(got), func(p string) bool { return strings.Contains(got[p], "x('v')") }) {
		t.Errorf("released %v", got)
	}
	app.Pipeline[1] = summed
	base = b.must(app)
	if want := "VITE_X site: VITE_X decides what is built (out/size differs when it has another value)"; whys(base) != want {
		t.Error(whys(base))
	}
	b.mustFit(app, base, "VITE_X=v")
	if b.last["copy"].State != deploy.StepDone {
		t.Errorf("copy is %s", b.last["copy"].State)
	}
}

func keys(m map[string]string) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
