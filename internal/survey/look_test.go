package survey

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

var update = flag.Bool("update", false, "write what is found into testdata")

// shape is a repository as testdata has it: facts on top, its files, and behind them what is to be said of it.
type shape struct {
	files fstest.MapFS
	facts Facts
	want  map[string]string // LOTSE.YAML and SAYS
}

func read(t *testing.T, name string) shape {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sh := shape{files: fstest.MapFS{}, want: map[string]string{},
		facts: Facts{Folder: "folder", Git: Git{Repository: true, Commit: true, Tracked: map[string]bool{}, Ignored: map[string]bool{}}}}
	for line := range strings.Lines(string(archive.Comment)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "folder":
			sh.facts.Folder = value
		case "postgres":
			sh.facts.Postgres, _ = strconv.Atoi(value)
		case "tracked":
			sh.facts.Git.Tracked[value] = true
		case "ignored":
			sh.facts.Git.Ignored[value] = true
		case "git":
			sh.facts.Git.Repository, sh.facts.Git.Commit = value != "none", false
		}
	}
	for _, f := range archive.Files {
		if f.Name == "LOTSE.YAML" || f.Name == "SAYS" {
			sh.want[f.Name] = string(f.Data)
			continue
		}
		sh.files[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o600}
	}
	return sh
}

// said is everything that is said beside the file.
func said(r Report, err error) string {
	if err != nil {
		return fmt.Sprintf("error: %v\nhint: %s\n", err, deploy.HintOf(err))
	}
	var b strings.Builder
	for _, part := range []struct {
		name  string
		notes []Note
	}{{"found", r.Found}, {"decide", r.Decide}, {"next", r.Next}} {
		for _, n := range part.notes {
			fmt.Fprintf(&b, "%s: %s: %s\n", part.name, n.What, n.Says)
		}
	}
	return b.String()
}

func shapes(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) < 25 {
		t.Fatalf("%d shapes, %v", len(names), err)
	}
	return names
}

// Every shape of a repository gets the file and the words that stand in testdata, and Lotse takes that file.
func TestShapes(t *testing.T) {
	for _, name := range shapes(t) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			sh := read(t, name)
			report, err := Look(sh.files, sh.facts)
			if *update {
				rewrite(t, name, report.File, said(report, err))
			}
			if d := cmp.Diff(strings.Split(sh.want["LOTSE.YAML"], "\n"), strings.Split(report.File, "\n")); d != "" && !*update {
				t.Errorf("lotse.yaml (-want +got)\n%s", d)
			}
			if d := cmp.Diff(strings.Split(sh.want["SAYS"], "\n"), strings.Split(said(report, err), "\n")); d != "" && !*update {
				t.Errorf("what is said (-want +got)\n%s", d)
			}
			if err != nil {
				if !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
					t.Errorf("%v has no hint", err)
				}
				return
			}
			fits(t, report)
		})
	}
}

// fits fails unless the file is one that Lotse takes, and short.
func fits(t *testing.T, r Report) {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(r.File))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.File)
	}
	if n := strings.Count(r.File, "\n"); n > 42 {
		t.Errorf("it has %d lines", n)
	}
	var urls []string
	for _, s := range app.Stages {
		urls = append(urls, s.URL)
		if open := s.Name == "prod"; s.Private == open {
			t.Errorf("stage %s is private: %v", s.Name, s.Private)
		}
	}
	if want := []string{"https://dev." + r.App + ".localhost", "https://staging." + r.App + ".localhost", "https://" + r.App + ".localhost"}; !slices.Equal(urls, want) {
		t.Errorf("the stages are at %v, want %v", urls, want)
	}
	for _, step := range app.Pipeline {
		for _, name := range step.Public {
			if _, given := app.Stages[0].Env[name]; !given {
				t.Errorf("%s is public and has no value, so that a deploy would be refused", name)
			}
		}
	}
	if len(app.Secrets) > 0 {
		t.Errorf("the secrets %v keep the first deploy from working", app.Secrets)
	}
}

// What is a comment in a file, a person can take the # away from: the file is one that Lotse takes then, too.
func TestCommentsAreLines(t *testing.T) {
	lines := 0
	for _, name := range shapes(t) {
		sh := read(t, name)
		report, err := Look(sh.files, sh.facts)
		if err != nil {
			continue
		}
		var b strings.Builder
		for line := range strings.Lines(report.File) {
			if m := regexp.MustCompile(`^( *)# ((?:database|secrets|lint|test|api-lint|api-test): .*)`).FindStringSubmatch(line); m != nil {
				line = m[1] + m[2] + "\n"
				lines++
			}
			b.WriteString(line)
		}
		if _, err := config.Read("lotse.yaml", []byte(b.String())); err != nil {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
	if lines < 5 {
		t.Errorf("only %d comments were tried", lines)
	}
}

func rewrite(t *testing.T, name, file, says string) {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "LOTSE.YAML" || f.Name == "SAYS" })
	if file != "" {
		archive.Files = append(archive.Files, txtar.File{Name: "LOTSE.YAML", Data: []byte(file)})
	}
	archive.Files = append(archive.Files, txtar.File{Name: "SAYS", Data: []byte(says)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whatever stands in a package.json, the file is one that Lotse takes, and the words of strangers are not run by its steps.
func TestHostilePackages(t *testing.T) {
	for name, text := range map[string]string{
		"names":   `{"name":"@x/..; rm -rf ~\u0000 \u001b[2J","main":"../../etc/passwd","scripts":{"start":"node ../../x.js","build":"x","lint; rm -rf ~":"y"},"dependencies":{"express":"1"}}`,
		"vite":    `{"name":"true","scripts":{"build":"vite build","test":"echo \"Error: no test specified\" && exit 1"},"devDependencies":{"vite":"9999999999999999999999"}}`,
		"types":   `{"name":5}`,
		"null":    `null`,
		"manager": `{"name":"1e3","packageManager":"pnpm@1.0.0; curl x | sh","scripts":{"start":"node a.js"},"dependencies":{"express":"*"}}`,
		"circle":  `{"scripts":{"build":"npm run lint","lint":"npm run build","start":"node x.js"},"dependencies":{"koa":"1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{"package.json": {Data: []byte(text)}, "index.html": {Data: []byte("<!doctype html>")}, "a.js": {}, "x.js": {},
				"pnpm-lock.yaml": {Data: []byte("lockfileVersion: '9.0'\n")}, "vite.config.ts": {Data: []byte(`export default { base: "/x\"; rm -rf /", build: { outDir: "../../out; x" }, root: "/etc" }`)}}
			report, err := Look(files, Facts{Folder: ".. \n#: {}"})
			if err != nil {
				t.Fatal(err)
			}
			app, err := config.Read("lotse.yaml", []byte(report.File))
			if err != nil {
				t.Fatalf("%v\n%s", err, report.File)
			}
			for _, step := range app.Pipeline {
				if strings.Contains(step.Run, "rm -rf") || strings.Contains(step.Run, "curl") || strings.Contains(step.Run, "..") {
					t.Errorf("step %s runs %q", step.Name, step.Run)
				}
			}
		})
	}
}

// Links are not followed, folders that tools fill are not read, and what is too large is left alone.
func TestBounds(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "package.json"), `{"name":"elsewhere","dependencies":{"express":"1"},"scripts":{"start":"node x.js"}}`)
	write(filepath.Join(dir, "index.html"), "<!doctype html>")
	write(filepath.Join(dir, "node_modules/express/package.json"), `{"name":"express","dependencies":{"express":"1"},"scripts":{"start":"node x.js"}}`)
	for link, target := range map[string]string{"package.json": filepath.Join(outside, "package.json"), "api": outside, "loop": "."} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	report, err := Look(root.FS(), Facts{Folder: "here"})
	if err != nil {
		t.Fatal(err)
	}
	if report.App != "here" || strings.Contains(report.File, "npm") || strings.Contains(report.File, "express") {
		t.Errorf("it looked behind a link, or into node_modules:\n%s", report.File)
	}
	ignoring := func() bool {
		report, err := Look(root.FS(), Facts{Folder: "here"})
		return err == nil && slices.ContainsFunc(report.Next, func(n Note) bool { return n.What == "echo node_modules >> .gitignore" })
	}
	if !ignoring() {
		t.Error("nothing says that git would take node_modules")
	}
	if write(filepath.Join(dir, ".gitignore"), "dist\n/node_modules/\n"); ignoring() {
		t.Error("what git ignores is to be ignored again")
	}
	files := fstest.MapFS{"index.html": {}, "package.json": {Data: []byte(`{"name":"` + strings.Repeat("x", mostText) + `"}`)}}
	if report, err = Look(files, Facts{Folder: "here"}); err != nil || report.App != "here" {
		t.Errorf("a file of %d bytes was read: %q, %v", mostText, report.App, err)
	}
	for i := range mostFiles {
		files[fmt.Sprintf("src/%d.txt", i)] = &fstest.MapFile{}
	}
	if report, err = Look(files, Facts{Folder: "here"}); err != nil || !slices.ContainsFunc(report.Decide, func(n Note) bool { return n.What == "size" }) {
		t.Errorf("a folder with more than %d files is not told: %v, %v", mostFiles, report.Decide, err)
	}
}

// No value of a .env file is in anything that is written or said.
func TestValuesStayWhereTheyAre(t *testing.T) {
	files := fstest.MapFS{
		"package.json": {Data: []byte(`{"dependencies":{"express":"4"},"scripts":{"start":"node a.js"}}`)}, "a.js": {Data: []byte("process.env.STRIPE_SECRET; process.env.PORT")},
		".env": {Data: []byte("STRIPE_SECRET=hunter2\nPORT=3000\n"), Mode: 0o644}, ".env.example": {Data: []byte("OTHER=hunter2")},
	}
	for _, tracked := range []bool{true, false} {
		report, err := Look(files, Facts{Folder: "here", Git: Git{Repository: true, Tracked: map[string]bool{".env": tracked}}})
		if text := fmt.Sprint(report, err); err != nil || strings.Contains(text, "hunter2") {
			t.Errorf("tracked %v: %s", tracked, text)
		}
	}
}

func TestScalars(t *testing.T) {
	for _, text := range []string{"npm ci", "a: b", "a:b", "true", "No", "1.5", "2048", "-x", "{x}", "a, b", `say "x" && y`, `it's "x"`, "x #y", "*", "&x", "a\nb", " x", "x ", "~", "https://a.b", "./x", "@x", "%x", "!x", "a \\b", "=", "y"} {
		got, err := config.Read("lotse.yaml", []byte(`app: a
pipeline: { x: { run: `+scalar(text)+`, makes: [x] } }
services: { s: { static: x } }
stages: { dev: { url: https://a.localhost } }
`))
		if err != nil || got.Pipeline[0].Run != text {
			t.Errorf("%q was written as %s and read as %v, %v", text, scalar(text), got.Pipeline, err)
		}
	}
}

// The document names every framework that init recognises, and the folders that it looks into.
func TestDocumentHasTheFrameworks(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "init.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frameworks() {
		if !strings.Contains(string(doc), f.name) {
			t.Errorf("docs/init.md does not name %s", f.name)
		}
	}
	for _, folder := range []string{"frontend", "client", "apps/web", "backend", "apps/api"} {
		if !strings.Contains(string(doc), "`"+folder+"`") {
			t.Errorf("docs/init.md does not name the folder %s", folder)
		}
	}
}
