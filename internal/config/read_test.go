package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReadTheExample(t *testing.T) {
	got, err := config.Read("lotse.yaml", readFile(t, "testdata/good/whatsgonow.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	usual := deploy.Limits{Errors: 5, Requests: 50}
	rule := deploy.SnapshotRule{At: "03:00", Keep: deploy.Keep{Daily: 7, Weekly: 4, Monthly: 6}}
	own := deploy.Database{Postgres: 15, Migrations: "db/migrations", Snapshots: rule}
	stage := deploy.Stage{Engine: "local", Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second, OldFiles: 24 * time.Hour, Database: own, Strategy: deploy.BlueGreen, Limits: usual}
	staging, prod, show := stage, stage, stage
	staging.Name, staging.URL, staging.Private = "staging", "https://staging.whatsgonow.localhost", true
	staging.Database = deploy.Database{URL: "SUPABASE_URL", Migrations: "supabase/migrations", Snapshots: rule}
	prod.Name, prod.URL = "prod", "https://www.whatsgonow.localhost" // open, since it is called prod
	show.Name, show.URL = "show", "https://show.whatsgonow.localhost"
	want := deploy.App{
		Name: "whatsgonow",
		Pipeline: []deploy.StepSpec{
			{Name: "install", Run: "npm ci", In: "web", Reads: []string{"package.json", "package-lock.json"}, Makes: []string{"node_modules"}, Timeout: 15 * time.Minute},
			{Name: "lint", Run: "npm run lint", In: "web", Needs: []string{"install"}, Timeout: 15 * time.Minute},
			{Name: "site", Run: "npm run build", In: "web", Needs: []string{"install"}, Makes: []string{"dist"}, Public: []string{"VITE_MAPBOX_TOKEN"}, Timeout: 10 * time.Minute},
			{Name: "api", Run: "go vet ./... && go test ./... && go build -o bin/api ./cmd/api", In: ".", Makes: []string{"bin/api"}, Timeout: 15 * time.Minute},
		},
		Services: []deploy.Service{
			{Name: "site", Static: "web/dist", Fallback: "index.html", Immutable: []string{"assets/**"}, Path: "/"},
			{Name: "api", Command: "bin/api", Path: "/api", Health: "/api/health", Instances: 2, Memory: 256 << 20, CPUs: 0.5, Files: []string{"db/migrations"},
				Volumes: []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}, Start: time.Minute, Drain: 30 * time.Second},
			{Name: "worker", Command: "bin/worker", Instances: 1, Start: time.Minute, Drain: 30 * time.Second},
		},
		Jobs:    []deploy.Job{{Name: "expire", Command: "bin/api expire", Schedule: "*/15 * * * *", Timeout: 10 * time.Minute}},
		Volumes: []string{"uploads"},
		Secrets: []string{"STRIPE_KEY"},
		Source:  deploy.Source{Remote: "https://git.example.org/whatsgonow.git", Token: "GIT_TOKEN", Paths: []string{"web/**"}, Ignore: []string{"docs/**"}},
		Notify:  []deploy.Notice{{Name: "team", Kind: "slack", URL: "SLACK_WEBHOOK", On: []string{"failure"}, Stages: []string{"prod"}}},
		Stages: []deploy.Stage{{Name: "dev", Engine: "local", URL: "https://dev.whatsgonow.localhost", Redirects: []string{"https://whatsgonow.localhost"}, EnvFile: ".env",
			Env: map[string]string{"LOG_LEVEL": "debug"}, Watch: 10 * time.Second, Warm: time.Minute, Stable: 2 * time.Second, Drain: 5 * time.Second, OldFiles: 24 * time.Hour,
			Private: true, On: deploy.Push{Branch: "main"}, Database: own, Strategy: deploy.BlueGreen, Limits: usual}, staging, prod, show},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What people write is kept letter by letter, anchors and merge keys work, and the order of the file is kept.
func TestReadAnchorsAndWords(t *testing.T) {
	app, err := config.Read("lotse.yaml", readFile(t, "testdata/good/anchors.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{"TEXT": "1", "ON": "on", "YES": "Yes", "VERSION": "1.10", "CODE": "012", "HEX": "0x10", "DAY": "2026-01-01", "EMPTY": "", "FLAG": "true", "BIG": "1_000", "PLUS": "+5"}
	if diff := cmp.Diff(words, app.Stages[0].Env); diff != "" {
		t.Error("dev: ", diff)
	}
	words["VERSION"] = "1.20"
	if diff := cmp.Diff(words, app.Stages[1].Env); diff != "" {
		t.Error("staging, which says VERSION itself: ", diff)
	}
	var stages []string
	for _, s := range app.Stages {
		stages = append(stages, fmt.Sprint(s.Name, " ", s.Watch))
	}
	if diff := cmp.Diff([]string{"dev 30s", "staging 45s", "prod 0s"}, stages); diff != "" {
		t.Error("the order of promotion, and what was merged first: ", diff)
	}
	if diff := cmp.Diff([]string{"out", "bin"}, app.Pipeline[0].Makes); diff != "" {
		t.Error("paths: ", diff)
	}
}

func TestDefaults(t *testing.T) {
	app, err := config.Read("lotse.yaml", readFile(t, "testdata/good/smallest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := deploy.App{Name: "shop", Services: []deploy.Service{{Name: "web", Command: "bin/web", Path: "/", Instances: 1, Start: time.Minute, Drain: 30 * time.Second}},
		Stages: []deploy.Stage{{Name: "dev", Engine: "local", URL: "https://dev.shop.localhost", Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second, OldFiles: 24 * time.Hour, Private: true, Strategy: deploy.BlueGreen, Limits: deploy.Limits{Errors: 5, Requests: 50}}}}
	if diff := cmp.Diff(want, app); diff != "" {
		t.Error(diff)
	}
	app, err = config.Read("lotse.yaml", []byte("app: a\nservices: {s: {static: x}}\njobs: {j: {command: c, schedule: '@daily'}}\npipeline: {x: {run: r, makes: [x]}}\nstages: {d: {url: https://a.localhost}}"))
	if err != nil {
		t.Fatal(err)
	}
	if app.Services[0].Path != "/" || app.Services[0].Start != 0 || app.Jobs[0].Timeout != time.Hour || app.Pipeline[0].Timeout != 15*time.Minute || app.Pipeline[0].In != "." {
		t.Errorf("got %+v", app)
	}
}

// Ten mistakes in one file are ten errors, at the right places, as text and as JSON. The password in env is nowhere.
func TestTenMistakes(t *testing.T) {
	_, err := config.Read("lotse.yaml", readFile(t, "testdata/bad/ten.yaml"))
	var all *config.Errors
	if !errors.As(err, &all) || !errors.Is(err, deploy.ErrBadInput) {
		t.Fatalf("got %v", err)
	}
	if len(all.Mistakes) != 10 {
		t.Errorf("%d mistakes, want 10", len(all.Mistakes))
	}
	asJSON, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/bad/ten.golden", all.Error()+"\n")
	golden(t, "testdata/bad/ten.json", string(asJSON)+"\n")
	if strings.Contains(all.Error()+string(asJSON), "hunter2") {
		t.Error("a value of env is told")
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readFile(t, name)), got); diff != "" {
		t.Errorf("%s: %s", filepath.Base(name), diff)
	}
}

// good is a file in which one thing is changed at a time.
const good = `app: shop
pipeline:
  build: {run: make, makes: [out]}
services:
  web: {command: bin/web, path: /}
  files: {static: out, path: /files}
volumes: {data: }
stages:
  dev: {url: "https://dev.localhost"}
`

func TestMistakes(t *testing.T) {
	if _, err := config.Read("lotse.yaml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string // what is replaced in good; old "": the whole file
		want           string // "line:column: message", lines after one another
		hint           string // part of the first hint
	}{
		{"empty", "", "", "1:1: the file is empty", "app: shop"},
		{"comments only", "", "# nothing\n", "1:1: the file is empty", ""},
		{"only a mark", "", "---\n", "1:1: the file is empty", ""},
		{"a word", "", "hello", "1:1: the file must be a mapping, not text", ""},
		{"a list", "", "- a", "1:1: the file must be a mapping, not a list", ""},
		{"two documents", "", good + "---\napp: b\n", "10:1: the file must be one document", `"---"`},
		{"a tab", "  web:", "\tweb:", "5:1: the file is not YAML: a tab in the indentation", "spaces"},
		{"an open list", "[out]", "[out", "3:33: the file is not YAML: did not find expected ',' or ']'", ""},
		{"an open quote", `https://dev.localhost"`, `https://dev.localhost`, "9:14: the file is not YAML: found unexpected end of stream", ""},
		{"not UTF-8", "make,", "m\xffke,", "3:17: the file must be text in UTF-8, and here is the byte 0xff", "UTF-8"},
		{"UTF-16", "", "\xff\xfea\x00", "1:1: the file must be text in UTF-8, and here is the byte 0xff", ""},
		{"NUL", "make", "m\x00", "3:17: the file must be text in UTF-8, and here is the character U+0000", ""},
		{"a line separator", "make", "ä\u2028", "3:17: the file must be text in UTF-8, and here is the character U+2028", ""},
		{"huge", "", strings.Repeat("#", 300<<10), "1:1: the file has 307200 bytes; at most 262144 are read", ""},
		{"nested", "", strings.Repeat("[", 20000), "1:10001: the file is not YAML: exceeded max depth of 10000", ""},
		{"an unknown anchor", "make,", "*nope,", "3:16: the file is not YAML: unknown anchor 'nope' referenced", ""},
		{"an anchor in itself", "{data: }", "&v {<<: *v}", "7:10: volumes unfolds to too much: aliases in aliases, or in themselves", ""},
		{"merged text", "{data: }", "{<<: data}", "7:15: volumes must be merged from mappings (<<)", ""},

		{"an unknown field", "path: /}", "pfad: /}", "5:27: services.web.pfad is not a field that Lotse knows", "there are: static, fallback"},
		{"a slip", "command:", "comand:", "5:9: services.web.comand is not a field that Lotse knows", `did you mean "command"?`},
		{"a field at the top", "volumes:", "volume:", "7:1: volume is not a field that Lotse knows", `did you mean "volumes"?`},
		{"a field of nothing", "{data: }", "{data: {size: 1}}", "7:18: volumes.data.size is not a field that Lotse knows", "there is no field here"},
		{"twice", "volumes:", "app: again\nvolumes:", "7:1: app is there twice; the first is in line 1", "take one"},
		{"a service twice", "  files:", "  web:", "6:3: services.web is there twice; the first is in line 5", ""},
		{"a list as a name", "{data: }", "{[a]: b}", "7:11: volumes must have names of text only", ""},
		{"no name", "{data: }", "{~: {}}", "7:11: volumes must have names of text only", ""},
		{"a number as text", "app: shop", "app: 12", "1:6: app must be text", `"12"`},
		{"nothing as text", "bin/web", "~", "5:18: services.web.command must be text, not nothing", ""},
		{"a list as text", "bin/web", "[bin/web]", "5:18: services.web.command must be text, not a list", ""},
		{"text as a list", "[out]", "out", "3:29: pipeline.build.makes must be a list, not text", "[out]"},
		{"a number in a list", "[out]", "[out, 1]", "3:35: pipeline.build.makes[1] must be text", ""},
		{"text as a mapping", "{command: bin/web, path: /}", "bin/web", "5:8: services.web must be a mapping, not text", ""},
		{"an unknown tag", "bin/web", "!env WEB", "5:18: services.web.command must be text", ""},

		{"a count in words", "path: /}", "path: /, instances: two}", "5:47: services.web.instances must be a whole number", ""},
		{"a count in quotes", "path: /}", `path: /, instances: "2"}`, "5:47: services.web.instances must be a whole number", ""},
		{"an octal count", "path: /}", "path: /, instances: 010}", "5:47: services.web.instances must be a whole number", ""},
		{"half a count", "path: /}", "path: /, instances: 1.5}", "5:47: services.web.instances must be a whole number", ""},
		{"no instance", "path: /}", "path: /, instances: 0}", "5:47: services.web.instances must be between 1 and 100", ""},
		{"cores in words", "path: /}", "path: /, cpus: half}", "5:42: services.web.cpus must be a number", ""},
		{"endless cores", "path: /}", "path: /, cpus: .inf}", "5:42: services.web.cpus must be a number", ""},
		{"a duration without unit", "path: /}", "path: /, start: 60}", "5:43: services.web.start must be a duration with its unit", "60s"},
		{"a duration in days", "path: /}", "path: /, start: 1d}", "5:43: services.web.start must be a duration", "48h"},
		{"a negative duration", "path: /}", "path: /, start: -1s}", "5:43: services.web.start must be a duration that is not negative", ""},
		{"a duration of nothing", "path: /}", "path: /, start: 0s}", "5:43: services.web.start must be between 1s and 1h", ""},
		{"a list as a duration", "path: /}", "path: /, start: [1s]}", "5:43: services.web.start must be a duration, not a list", ""},
		{"a size without unit", "path: /}", "path: /, memory: 256}", "5:44: services.web.memory must be a size with its unit", "256MiB"},
		{"a size with half a unit", "path: /}", "path: /, memory: 256M}", "5:44: services.web.memory must be a size with its unit", "256MiB"},
		{"a size of nothing", "path: /}", "path: /, memory: 0B}", "5:44: services.web.memory must be more than nothing", ""},
		{"a small size", "path: /}", "path: /, memory: 1KiB}", "5:44: services.web.memory must be at least 4MiB", ""},
		{"a size of the sky", "path: /}", "path: /, memory: 99999999GiB}", "5:44: services.web.memory must be a size that a machine may have", ""},
		{"nothing in env", "localhost\"", "localhost\", env: {A: }", "9:48: stages.dev.env.A must be a value, not nothing", `""`},
		{"bytes in env", "localhost\"", "localhost\", env: {A: !!binary aGk=}", "9:48: stages.dev.env.A must be text", ""},
		{"a name in env", "localhost\"", "localhost\", env: {1A: x}", "9:45: stages.dev.env.1A must be a name of letters, digits and _ that does not begin with a digit", ""},
		{"the port", "localhost\"", "localhost\", env: {PORT: 80}", "9:45: stages.dev.env.PORT is set by Lotse itself", ""},

		{"problems have places: a value", "path: /}", "path: x}", `5:33: services.web.path must begin with "/"`, "/x"},
		{"problems have places: a name", "web:", "Web:", "5:3: services.Web must be named with at most 63 small letters, digits and hyphens, and neither begin nor end with a hyphen", ""},
		{"problems have places: an entry", "[out]", "[out, /tmp]", "3:35: pipeline.build.makes[1] must not be an absolute path", ""},
		{"problems have places: what is missing", `{url: "https://dev.localhost"}`, "{watch: 1s}", "9:3: stages.dev.url is missing", "https://"},
		{"problems have places: the whole is missing", "app: shop\n", "", "1:1: app is missing", ""},
		{"problems have places: a mount", "path: /}", "path: /, volumes: {dta: d}}", "5:46: services.web.volumes.dta is not a volume of the app", `did you mean "data"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := c.new
			if c.old != "" {
				if file = strings.Replace(good, c.old, c.new, 1); file == good {
					t.Fatal("nothing was replaced")
				}
			}
			_, err := config.Read("lotse.yaml", []byte(file))
			var all *config.Errors
			if !errors.As(err, &all) {
				t.Fatalf("no mistake was found; %v", err)
			}
			var got []string
			for _, m := range all.Mistakes {
				got = append(got, fmt.Sprintf("%d:%d: %s", m.Line, m.Column, m.Message))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(all.Mistakes[0].Hint, c.hint) {
				t.Errorf("hint %q, want %q in it", all.Mistakes[0].Hint, c.hint)
			}
		})
	}
}

// Files from other systems: a byte order mark and lines that end with CR LF move nothing.
func TestOtherSystemsFiles(t *testing.T) {
	for name, file := range map[string]string{"BOM": "\ufeff" + good, "CRLF": strings.ReplaceAll(good, "\n", "\r\n"), "CR": strings.ReplaceAll(good, "\n", "\r")} {
		if _, err := config.Read("lotse.yaml", []byte(file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := config.Read("lotse.yaml", []byte(strings.Replace(file, "bin/web", "7", 1)))
		if err == nil || !strings.HasPrefix(err.Error(), "lotse.yaml:5:18: services.web.command must be text\n    5 |   web: {command: 7, path: /}\n      |                  ^\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAliasBomb(t *testing.T) {
	file := "x-a: &a {k: v}\n"
	for i := 'b'; i < 'z'; i++ {
		file += fmt.Sprintf("x-%c: &%c {<<: [*%c, *%c, *%c, *%c, *%c, *%c]}\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	done := make(chan error, 1)
	go func() { _, err := config.Read("lotse.yaml", []byte(file+"app: a\nvolumes: *y\n")); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "unfolds to too much") || strings.Count(err.Error(), "lotse.yaml:") != 1 {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
}

// A line that holds a value of env, or a password, is not quoted, whatever is wrong with it.
func TestSourceKeepsValues(t *testing.T) {
	for name, file := range map[string]string{
		"beside a mistake": strings.Replace(good, `localhost"}`, `localhost", env: {A: hunter2}, nope: 1}`, 1),
		"not YAML":         strings.Replace(good, "  dev:", "  dev:\n    env:\n      A: \"hunter2", 1),
		"in a URL":         strings.Replace(good, "https://dev", "https://user:hunter2@dev", 1),
		"a bad character":  strings.Replace(good, "  dev:", "  dev:\n    env:\n      A: hunter2\x01", 1),
	} {
		_, err := config.Read("lotse.yaml", []byte(file))
		if err == nil {
			t.Fatal(name, "is no mistake")
		}
		asJSON, _ := json.Marshal(err)
		if strings.Contains(err.Error()+string(asJSON), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An anchor that is used twice tells its mistakes once.
func TestMistakeInAnAnchorIsToldOnce(t *testing.T) {
	_, err := config.Read("lotse.yaml", []byte("x-s: &s\n  watch: soon\n"+strings.Replace(good, "stages:\n", "stages:\n  a: {<<: *s, url: https://a.localhost}\n  b: {<<: *s, url: https://b.localhost}\n", 1)))
	var all *config.Errors
	if !errors.As(err, &all) || len(all.Mistakes) != 1 || all.Mistakes[0].Line != 2 {
		t.Errorf("got %v", err)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	_, err := config.Read("lotse.yaml", []byte(strings.Replace(good, "bin/web, path: /", strings.Repeat("x", 500)+", path: y", 1)))
	if err == nil {
		t.Fatal("no mistake")
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if len(line) > 160 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if !strings.Contains(err.Error(), "path: y}") {
		t.Errorf("the place is not shown: %v", err)
	}
}

// A secret is a name, or a mapping that says how long its values overlap, which is the same for every stage.
func TestReadOverlap(t *testing.T) {
	const file = `app: shop
services: {site: {static: dist}}
secrets: [A, {name: B, overlap: 24h}, {name: C}]
stages: {dev: {url: "https://dev.localhost"}, prod: {url: "https://shop.localhost"}}
`
	app, err := config.Read("lotse.yaml", []byte(file))
	if err != nil || strings.Join(app.Secrets, " ") != "A B C" {
		t.Fatalf("%v, %v", app.Secrets, err)
	}
	for _, s := range app.Stages {
		if diff := cmp.Diff(map[string]time.Duration{"B": 24 * time.Hour}, s.Overlap); diff != "" {
			t.Error(s.Name, diff)
		}
	}
	for change, want := range map[string]string{
		"overlap: 24h|overlap: 1d":  "lotse.yaml:3:33: secrets[1].overlap must be a duration",
		"overlap: 24h|overlap: 10s": "lotse.yaml:3:33: secrets[1].overlap must be between 1m and 2160h",
		"name: B, |":                "lotse.yaml:3:14: secrets[1]",
		"name: B|nme: B":            "secrets[1].nme is not a field that Lotse knows",
		"{name: C}|C_PREVIOUS":      "",
		"{name: C}|B_PREVIOUS":      "lotse.yaml:3:14: secrets[1] gets the second name B_PREVIOUS",
	} {
		old, now, _ := strings.Cut(change, "|")
		_, err := config.Read("lotse.yaml", []byte(strings.Replace(file, old, now, 1)))
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", change, err)
		}
	}
}
