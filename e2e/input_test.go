package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Whatever is wrong with what Lotse is given or finds: the exit code is the one of docs/cli.md, the message says why and what
// to do, what served goes on serving, nothing stays half done, and the next good deploy works.
//
// A wall clock that jumps is not among the cases: a process cannot be given one of its own (time namespaces shift the
// monotonic clocks alone, and a static binary takes no library). The rooms show it: internal/ledger's lease tests move the
// clock back and forth, and a walk measures with the monotonic clock.

const pageHost = "dev.page.localhost"

// siteFile is the lotse.yaml of one static page, made by one step.
func siteFile(run, stage string) string {
	return fmt.Sprintf("app: page\npipeline:\n  site: { run: %q, makes: [dist] }\nservices:\n  site: { static: dist }\nstages:\n"+
		"  dev: { url: \"https://%s\", access: open, %s }\n", run, pageHost, stage)
}

const (
	copyPage  = "mkdir -p dist && cp index.html dist/"
	noWaiting = "watch: 0s, stable: 50ms, warm: 1s, drain: 1s"
)

func site(page string) map[string]string {
	return map[string]string{"lotse.yaml": siteFile(copyPage, noWaiting), "index.html": page}
}

// page is what the stage serves, over a connection of its own with a verified certificate.
func (m *machine) page() string {
	m.t.Helper()
	client := m.client()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	answer, err := client.Get(m.url(pageHost))
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	text := bodyOf(m.t, answer)
	if answer.StatusCode != http.StatusOK {
		m.t.Fatalf("%s: %s", answer.Status, text)
	}
	return text
}

func bodyOf(t *testing.T, answer *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serves fails unless the stage serves this page.
func (m *machine) serves(want string) {
	m.t.Helper()
	if got := m.page(); got != want {
		m.t.Errorf("the stage serves %q, want %q", got, want)
	}
}

// refused runs a command that has to end with this code and to say all of this on standard error.
func (m *machine) refused(code int, says []string, dir string, args ...string) {
	m.t.Helper()
	r := m.lotse(dir, args...)
	if r.code != code {
		m.t.Errorf("lotse %s: exit code %d, want %d", strings.Join(args, " "), r.code, code)
	}
	for _, words := range append(says, "lotse: ") {
		if !strings.Contains(r.err, words) {
			m.t.Errorf("lotse %s does not say %q", strings.Join(args, " "), words)
		}
	}
	if !strings.Contains(r.err, "→ ") && !strings.Contains(r.err, "hint: ") && !strings.Contains(r.err, "likely cause: ") {
		m.t.Errorf("lotse %s has no hint", strings.Join(args, " "))
	}
	if m.t.Failed() {
		m.t.Logf("it said:\n%s%s", r.out, r.err)
	}
}

// in is the machine for a subtest.
func (m *machine) in(t *testing.T) *machine {
	sub := *m
	sub.t = t
	return &sub
}

// atRest fails unless every rollout has ended.
func (m *machine) atRest() {
	m.t.Helper()
	all, err := m.api.History(m.t.Context(), "", "", 100)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range all {
		if !r.Outcome.Ended() {
			m.t.Errorf("rollout %s is still on its way", r.ID)
		}
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	first := m.repository(site("good\n"))
	m.must(first, "deploy")
	inFile := func(text string) map[string]string {
		return map[string]string{"lotse.yaml": text, "index.html": "bad\n"}
	}
	ofStep := func(run string) map[string]string { return inFile(siteFile(run, noWaiting)) }
	bare := func(dir string) { _ = os.RemoveAll(filepath.Join(dir, ".git")) }
	for _, c := range []struct {
		name   string
		files  map[string]string
		spoil  func(dir string) // after the commit
		args   []string         // of deploy
		code   int
		says   []string
		checks bool // `lotse check` says the same
	}{
		{name: "a cycle of steps", files: inFile(cycle), code: 2, checks: true,
			says: []string{"lotse.yaml:3:21: pipeline.a.needs go in a circle: a → c → b → a", "hint: take one of these needs away"}},
		{name: "an output out of the checkout", files: inFile(strings.Replace(siteFile(copyPage, noWaiting), "[dist]", "[../dist]", 1)), code: 2, checks: true,
			says: []string{"lotse.yaml:3:64: pipeline.site.makes[0] must stay in the checkout", "hint: "}},
		{name: "an output that is not made", files: ofStep("true"), code: 1,
			says: []string{"failed in step site", "it should have made dist and did not", "page/dev still serves release"}},
		{name: "a link out of the release", files: ofStep(copyPage + " && ln -s /etc/passwd dist/people"), code: 1,
			says: []string{"failed in step site", "dist/people points to /etc/passwd: the link points out of its folder", "nothing was released"}},
		{name: "a missing tool", files: ofStep(copyPage + " && no-such-bundler dist"), code: 1,
			says: []string{"failed in step site", "exit code 127", "the program no-such-bundler is not installed, or "}},
		{name: "what is not committed", files: site("bad\n"), spoil: func(dir string) { _ = os.WriteFile(filepath.Join(dir, "forgotten.ts"), nil, 0o600) }, code: 2,
			says: []string{"not everything here is committed: forgotten.ts", "→ commit, or name the commit"}},
		{name: "a change that is not committed", files: site("bad\n"), spoil: func(dir string) { _ = os.WriteFile(filepath.Join(dir, "index.html"), nil, 0o600) }, code: 2,
			says: []string{"not everything here is committed: index.html"}},
		{name: "no commit", files: site("bad\n"), spoil: func(dir string) { bare(dir); m.git(dir, "init", "-q") }, code: 2,
			says: []string{"the repository has no commit yet", "→ commit the app with its lotse.yaml"}},
		{name: "no repository", files: site("bad\n"), spoil: bare, code: 2, says: []string{"the folder is not in a git repository", "→ run `git init`"}},
		{name: "no lotse.yaml", files: map[string]string{"index.html": "bad\n"}, code: 5, says: []string{"has no file lotse.yaml", "add it and commit"}},
		{name: "an unknown stage", files: site("bad\n"), args: []string{"--stage", "prod"}, code: 5, says: []string{`page has no stage "prod"`, "→ stages are: dev"}},
		{name: "an unknown commit", files: site("bad\n"), args: []string{"--rev", "v9"}, code: 2, says: []string{`the repository has no commit "v9"`, "→ run `git fetch`"}},
		{name: "a secret that is missing", files: inFile("secrets: [STRIPE_KEY, MAP_KEY]\n" + siteFile(copyPage, noWaiting)), code: 1,
			says: []string{"page/dev lacks", "STRIPE_KEY (secrets names it)", "→ `lotse secrets set --stage dev STRIPE_KEY MAP_KEY`"}},
		{name: "a tracked .env", files: map[string]string{"lotse.yaml": siteFile(copyPage, "env_file: .env, "+noWaiting), "index.html": "bad\n", ".env": "KEY=hunter2hunter2\n"},
			code: 2, spoil: func(dir string) { _ = os.Chmod(filepath.Join(dir, ".env"), 0o600) }, says: []string{".env", "git rm --cached"}},
		{name: "a .env in the commit that is named", files: map[string]string{"lotse.yaml": siteFile(copyPage, "env_file: .env, "+noWaiting), "index.html": "bad\n", ".env": "KEY=hunter2hunter2\n"},
			code: 2, args: []string{"--rev", "HEAD~1"}, spoil: func(dir string) {
				_ = os.Chmod(filepath.Join(dir, ".env"), 0o600)
				m.git(dir, "rm", "-q", "--cached", ".env")
				m.git(dir, "commit", "-q", "-m", "too late")
			}, says: []string{"holds .env, the env_file of dev", "git rm --cached"}},
		{name: "a submodule", files: map[string]string{"lotse.yaml": siteFile(copyPage, noWaiting), "index.html": "bad\n",
			".gitmodules": "[submodule \"lib\"]\n\tpath = lib\n\turl = https://git.example.org/lib.git\n"}, code: 2,
			spoil: func(dir string) {
				m.git(dir, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",lib")
				m.git(dir, "commit", "-q", "-m", "a submodule")
				_ = os.Mkdir(filepath.Join(dir, "lib"), 0o755)
			}, says: []string{"submodule", "lib"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := m.in(t)
			dir := m.repository(c.files)
			if c.spoil != nil {
				c.spoil(dir)
			}
			if c.checks {
				m.refused(c.code, c.says, dir, "check")
			}
			m.refused(c.code, c.says, dir, append([]string{"deploy"}, c.args...)...)
			m.serves("good\n")
			m.atRest()
		})
	}
	t.Run("a secret on the command line", func(t *testing.T) {
		m := m.in(t)
		m.refused(2, []string{"the value of a secret stood on the command line; nothing was set", "history"}, first, "secrets", "set", "KEY=hunter2hunter2")
		if said := m.must(first, "secrets", "list"); strings.Contains(said, "KEY") || strings.Contains(m.said(), "hunter2") {
			t.Errorf("it was taken all the same: %s", said)
		}
	})
	m.commit(first, site("better\n"))
	m.must(first, "deploy")
	m.serves("better\n")
	m.must(first, "ledger", "verify")
}

const cycle = `app: page
pipeline:
  a: { run: "true", needs: [c], makes: [dist] }
  b: { run: "true", needs: [a] }
  c: { run: "true", needs: [b] }
services: { site: { static: dist } }
stages: { dev: { url: "https://dev.page.localhost" } }
`

// Ten mistakes are said at once, each at its place, whoever reads the file; and none of it reaches the stage.
func TestTenMistakes(t *testing.T) {
	m := newMachine(t)
	dir := m.repository(map[string]string{"lotse.yaml": tenMistakes})
	places := []string{"1:6: app ", "7:13: pipeline.site.needs[0] ", "8:19: pipeline.site.makes[1] ", "9:14: pipeline.site.timeout ",
		"12:5: services.api.comand ", "13:11: services.api.path ", "14:13: services.api.memory ", "15:37: services.site.health ",
		"17:48: jobs.expire.schedule ", "19:15: stages.dev.url "}
	for _, command := range []string{"check", "deploy"} {
		r := m.lotse(dir, command)
		said := regexp.MustCompile(`(?m)^lotse\.yaml:(\d+:\d+: \S+ )`).FindAllStringSubmatch(r.err, -1)
		var got []string
		for _, s := range said {
			got = append(got, s[1])
		}
		if r.code != 2 || !slices.Equal(got, places) || strings.Count(r.err, "    hint: ") != len(places) {
			t.Errorf("lotse %s: exit code %d\n got %q\nwant %q\n%s", command, r.code, got, places, r.err)
		}
		if strings.Contains(r.err, "hunter2") {
			t.Errorf("lotse %s shows a variable's value", command)
		}
	}
	if all, err := m.api.Status(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("there are stages: %v, %v", all, err)
	}
}

const tenMistakes = `app: Page
pipeline:
  install: { run: npm ci, in: web, makes: [node_modules] }
  site:
    run: npm run build
    in: web
    needs: [instal]
    makes: [dist, node_modules/.vite]
    timeout: 10
services:
  api:
    comand: bin/api
    path: api
    memory: 256M
  site: { static: web/dist, health: / }
jobs:
  expire: { command: bin/api expire, schedule: every day }
stages:
  dev: { url: http://dev.page.localhost, env: { PASSWORD: hunter2 } }
`

// Of two deploys at the same moment one is told that the stage is being changed, and by what; the other one goes through.
func TestTwoDeploysAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	first := m.repository(site("good\n"))
	m.must(first, "deploy")
	gate := filepath.Join(m.work, "gate")
	dir := m.repository(map[string]string{"index.html": "better\n",
		"lotse.yaml": siteFile("until [ -e "+gate+" ]; do sleep 0.1; done; "+copyPage, noWaiting)})
	both := make(chan result, 2)
	for range 2 {
		go func() { both <- m.lotse(dir, "deploy", "--detach") }()
	}
	won, lost := <-both, <-both
	if won.code != 0 {
		won, lost = lost, won
	}
	id := strings.TrimSpace(won.out)
	if won.code != 0 || lost.code != 4 {
		t.Fatalf("exit codes %d and %d, want 0 and 4\n%s%s", won.code, lost.code, won.err, lost.err)
	}
	for _, words := range []string{"the stage is being changed: rollout " + id + " is on its way to dev", "→ see it with `lotse follow " + id + "`"} {
		if !strings.Contains(lost.err, words) {
			t.Errorf("it does not say %q:\n%s", words, lost.err)
		}
	}
	m.serves("good\n")
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.must(dir, "follow", id)
	m.serves("better\n")
	m.atRest()
}

// Without a controller every command says alike what to do, and what serves goes on.
func TestNoController(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.repository(site("good\n"))
	m.must(dir, "deploy")
	m.stopController()
	for _, args := range [][]string{{"deploy"}, {"status"}, {"history"}, {"logs"}, {"abort", "x"}} {
		m.refused(3, []string{"no controller answers at " + m.state, "→ start it with `lotse serve`"}, dir, args...)
	}
	m.serves("good\n")
	m.commit(dir, site("better\n"))
	m.serve()
	m.must(dir, "deploy")
	m.serves("better\n")
}

// A controller that is to have a port that is taken does not start and changes nothing; one that is to have others moves there.
func TestTakenPort(t *testing.T) {
	m := newMachine(t)
	dir := m.repository(site("good\n"))
	m.must(dir, "deploy")
	m.stopController()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	m.refused(2, []string{"port " + port + ": bind: address already in use", "--https and --http"}, dir, "serve", "--https", port)
	m.refused(2, []string{"port " + port + ": bind: address already in use"}, dir, "serve", "--http", port)
	m.serves("good\n") // where it was
	before := m.https
	m.https, m.http = freePort(t), freePort(t)
	m.serve()
	m.serves("good\n")
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(before))); err == nil {
		c.Close()
		t.Error("somebody still listens on the port before")
	}
	m.commit(dir, site("better\n"))
	if said := m.must(dir, "deploy"); !strings.Contains(said, m.url(pageHost)) {
		t.Errorf("the deploy names another address than %s:\n%s", m.url(pageHost), said)
	}
	m.serves("better\n")
	// Whoever took the port meanwhile: the same, and nothing of ours is in the way.
	elsewhere := filepath.Join(m.work, "e")
	m.refused(2, []string{"port " + strconv.Itoa(m.https)}, dir, "serve", "--state", elsewhere, "--https", strconv.Itoa(m.https))
	if _, err := os.Stat(filepath.Join(elsewhere, "proxy", "keeper")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a proxy was started all the same: %v", err)
	}
}
