package pipeline_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What a person builds with Vite, as far as it looks at public values.
var viteFiles = map[string]string{
	"filled/index.html": `<!doctype html><html><head><title>%VITE_NAME%</title><meta name="d" content="%VITE_NAME%"></head><body><script type="module" src="./main.js"></script></body></html>`,
	"filled/main.js": `import './style.css'
const url = import.meta.env.VITE_URL
const api = path => url + '/v1' + path
console.log(api('/a'), ` + "`${url}/b`, `${api('/c')}${import.meta.env.VITE_URL}`" + `)
console.log(JSON.stringify(import.meta.env.VITE_NOTE), import.meta.env.VITE_NOTE.trim() + '!')
console.log(new Map([[import.meta.env.VITE_NAME, { name: import.meta.env.VITE_NAME }]]))
for (const [some, other] of Object.entries({ a: 1, b: 2, c: 3 })) console.log(some, other)
import('./lazy.js').then(m => m.default())
`,
	"filled/lazy.js": `export default () => console.log('lazy', import.meta.env.VITE_URL, [1, 2].map(number => number * 2))
`,
	"filled/style.css":    "body { color: red }\n",
	"folded/index.html":   `<script type="module" src="./main.js"></script>`,
	"folded/main.js":      "if (import.meta.env.VITE_NAME) console.log('on'); else console.log('off')\n",
	"compared/index.html": `<script type="module" src="./main.js"></script>`,
	"compared/main.js":    "console.log(import.meta.env.VITE_NAME === 'production' ? 'tracked' : 'not tracked')\n",
	"react/index.html":    `<div id="root"></div><script type="module" src="./main.jsx"></script>`,
	"react/main.jsx": `import * as React from 'react'
import { renderToStaticMarkup } from 'react-dom/server'
const App = () => <a href={import.meta.env.VITE_URL} title={import.meta.env.VITE_NAME}>{import.meta.env.VITE_NOTE}</a>
console.log(renderToStaticMarkup(<App />))
`,
}

func vitePackage(vite string) string {
	return `{"name":"w","private":true,"type":"module","dependencies":{"vite":"` + vite + `","react":"19.3.1","react-dom":"19.3.1"}}`
}

// viteApp builds one folder. set is shell text in front, for builds with real values.
func viteApp(folder, set string, public ...string) deploy.App {
	run := set + "npx vite build " + folder + " -c vite.config.js --base=./ --outDir ../dist --sourcemap"
	return deploy.App{Name: "shop", Pipeline: []deploy.StepSpec{
		{Name: "install", Run: "npm install --no-audit --no-fund", Reads: []string{"package.json"}, Makes: []string{"node_modules"}},
		{Name: "site", Run: run, Reads: []string{folder, "vite.config.js"}, Makes: []string{"dist"}, Needs: []string{"install"}, Public: public},
	}, Services: []deploy.Service{{Name: "web", Static: "dist", Path: "/"}}}
}

// says runs the script of a release with node and returns what it says.
func (b *bench) says(rel deploy.Release) string {
	b.t.Helper()
	dir := b.t.TempDir()
	main, entry := "", regexp.MustCompile(`/(index|main)-[\w-]{8}\.js$`)
	for name, content := range b.content(rel) {
		p := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, []byte(content), 0o644)
		if entry.MatchString(name) {
			main = p
		}
	}
	os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`), 0o644)
	out, err := exec.Command("node", "--input-type=module", "-e", `await import(process.argv[1]); await new Promise(done => setTimeout(done, 200)); process.exit()`, main).CombinedOutput()
	if err != nil {
		b.t.Fatalf("node: %v\n%s", err, out)
	}
	return string(out)
}

// What real bundlers fold is found, and what they do not is filled in and runs as a build with the real values would.
func TestPublicValuesOfRealVite(t *testing.T) {
	for _, tool := range []string{"npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: %s is not installed; that public values of a real Vite are filled in is not proven", tool)
		}
	}
	versions, proving := []string{"8.3.8"}, os.Getenv("LOTSE_PROVE") != ""
	if proving {
		versions = append(versions, "7.3.8")
	} else {
		t.Log("NOT RUN without LOTSE_PROVE: Vite 7, React, values that are compared")
	}
	for _, vite := range versions {
		t.Run("vite "+vite, func(t *testing.T) {
			b := newBench(t)
			files := map[string]string{"package.json": vitePackage(vite), "vite.config.js": "export default { build: { modulePreload: { polyfill: false } } }\n"}
			maps.Copy(files, viteFiles)
			b.repo.commit(files)
			b.filledByVite("filled")
			if proving {
				b.comparedByVite()
			}
			if vite[0] != '8' { // one will do
				return
			}
			b.foldedByVite()
			if proving {
				b.filledByVite("react")
			}
		})
	}
}

func (b *bench) tryVite(app deploy.App) deploy.Release {
	b.t.Helper()
	rel, err := b.build(app)
	if err != nil && strings.Contains(b.last["install"].Cause, "could not be reached") {
		b.t.Skip("NOT RUN: the npm registry cannot be reached; that public values of a real Vite are filled in is not proven")
	}
	if err != nil {
		b.t.Fatalf("Build: %v\n%v", err, b.lines)
	}
	return rel
}

func quotedForShell(value string) string { return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'" }

func (b *bench) filledByVite(folder string) {
	t := b.t
	app := viteApp(folder, "", "VITE_URL", "VITE_NAME", "VITE_NOTE")
	base := b.tryVite(app)
	for _, p := range base.Manifest.Public {
		if p.Why != "" {
			t.Fatalf("%s: %s cannot be filled in: %s", folder, p.Name, p.Why)
		}
	}
	url, shop := "https://x.example/y?a=b", `"Best" & <shop>`
	note := "it's `1` ${2} $& \\n \n \u2028 </script><!-- \"x\" \\"
	fitted := b.mustFit(app, base, "VITE_NAME="+shop, "VITE_NOTE="+note, "VITE_URL="+url)
	if got := b.last["site"].Cause; !strings.HasSuffix(got, "filled in") {
		t.Errorf("%s was not filled in: %s", folder, got)
	}
	built := b.tryVite(viteApp(folder, "export VITE_URL="+quotedForShell(url)+" VITE_NAME="+quotedForShell(shop)+" VITE_NOTE="+quotedForShell(note)+"; "))
	if diff := cmp.Diff(b.says(built), b.says(fitted)); diff != "" {
		t.Errorf("%s: %s", folder, diff)
	}
	b.looksUp(fitted)
}

// looksUp asks the source map of the filled script where a call behind a value stands in its source.
func (b *bench) looksUp(rel deploy.Release) {
	b.t.Helper()
	content := b.content(rel)
	for name, text := range content {
		at := strings.Index(text, "Object.entries({")
		if !strings.HasSuffix(name, ".js") || at < 0 || content[name+".map"] == "" {
			continue
		}
		line := strings.Count(text[:at], "\n")
		column := len(utf16.Encode([]rune(text[strings.LastIndexByte(text[:at], '\n')+1 : at])))
		out, err := exec.Command("node", "-e", `const { SourceMap } = require('module'); const [text, line, column] = process.argv.slice(1)
			const at = new SourceMap(JSON.parse(require('fs').readFileSync(text, 'utf8'))).findEntry(+line, +column); console.log(at.originalSource.split('/').pop(), at.originalLine)`,
			writeTemp(b.t, content[name+".map"]), fmt.Sprint(line), fmt.Sprint(column)).CombinedOutput()
		if want := "main.js 6\n"; err != nil || string(out) != want {
			b.t.Errorf("the source map says %q, %v, want %q", out, err, want)
		}
		return
	}
	if slices.ContainsFunc(keys(content), func(p string) bool { return strings.Contains(content[p], "Object.entries({ a") }) {
		b.t.Error("no source map was asked")
	}
}

func writeTemp(t testing.TB, text string) string {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func (b *bench) foldedByVite() {
	app := viteApp("folded", "", "VITE_NAME")
	base := b.tryVite(app)
	if want := "VITE_NAME site: VITE_NAME decides what is built (dist/assets/index-*.js differs when it is empty)"; whys(base) != want {
		b.t.Errorf("public are\n%s\nwant\n%s", whys(base), want)
	}
	for name, want := range map[string]string{"x": "on\n", "": "off\n"} {
		if got := b.says(b.mustFit(app, base, "VITE_NAME="+name)); got != want {
			b.t.Errorf("with %q it says %q, want %q", name, got, want)
		}
	}
}

func (b *bench) comparedByVite() {
	app := viteApp("compared", "", "VITE_NAME")
	base := b.tryVite(app)
	for name, want := range map[string]string{"staging": "not tracked\n", "production": "tracked\n"} {
		if got := b.says(b.mustFit(app, base, "VITE_NAME="+name)); got != want {
			b.t.Errorf("with %q it says %q, want %q", name, got, want)
		}
		if filled := strings.HasSuffix(b.last["site"].Cause, "filled in"); filled != (name == "staging") {
			b.t.Errorf("with %q: %s", name, b.last["site"].Cause)
		}
	}
}
