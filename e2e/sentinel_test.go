package e2e_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/leakstest"
)

// sentinelFile is an app of which everything tells what it knows: the build, the instances, a job, a smoke test.
func (m *machine) sentinelFile(command, smoke string) string {
	return fmt.Sprintf(`app: leaky
pipeline:
  app: { run: "env; cat %[1]s/sentinels | base64 -w0; cat %[1]s/sentinels | tr '\\0' '\\n' >&2; mkdir -p bin && cp %[2]s bin/app", makes: [bin/app] }
services:
  web: { command: "%[3]s", path: /, health: /health, start: 3s, files: [release.txt] }
jobs:
  tell: { command: bin/app leakyend, schedule: "@every 1s" }
secrets: [SECRET_PLAIN]
source: { remote: https://127.0.0.1:1/shop.git, token: GIT_TOKEN }
notify:
  team: { webhook: TEAM_HOOK }
database: { postgres: 15, migrations: db }
gates:
  smoke:
    tell: { run: "%[4]s" }
stages:
  dev: { url: "https://dev.leaky.localhost", access: open, on: push main, env_file: .env, env: { SENTINELS: %[1]s/sentinels }, %[5]s }
  staging: { url: "https://staging.leaky.localhost", env: { SENTINELS: %[1]s/sentinels }, %[5]s }
`, m.work, m.bin.app, command, smoke, "watch: 1s, stable: 100ms, warm: 1s, drain: 1s")
}

// hook is a webhook that refuses, and says back what it was asked: the address, which is a secret, in the body, in a header and in the reason.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	came []string
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is what is searched
		h.mu.Lock()
		h.came = append(h.came, fmt.Sprint(r.Header)+string(body))
		h.mu.Unlock()
		w.Header().Set("Location", h.URL+r.URL.String())
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "no hook at %s%s", h.URL, r.URL)
	}))
	t.Cleanup(h.Close)
	return h
}

// Marked secrets of every shape are set wherever Lotse takes one, and everything that can tell them tells them. Then all that Lotse has
// written, said, answered and sent is searched.
//
// What an app answers its clients (/debug here) is its own: Lotse passes it on, and neither logs nor keeps it. The data of PostgreSQL is the
// app's, too, and the store of the vault is what secrets are for.
func TestNoSecretGetsOut(t *testing.T) {
	provesOnly(t, "all files, answers and messages of a whole life, searched for secrets")
	t.Parallel()
	began := time.Now()
	all := leakstest.Make()
	m := machineIn(t, folder(t))
	hook := newHook(t)
	roots := filepath.Join(m.work, "roots.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	m.write(roots, certificate)
	m.env = append(m.env, "SSL_CERT_FILE="+roots)
	m.serve()

	own := leakstest.Make() // what no instance is given
	token, address, fromFile := own[0].Value, hook.URL+"/hook/"+own[1].Value, leakstest.Make()[0].Value
	sentinels := append(slices.Clone(all), leakstest.Sentinel{Name: "GIT_TOKEN", Value: token}, leakstest.Sentinel{Name: "TEAM_HOOK", Value: address})
	m.tellable(sentinels)
	s := &sought{machine: m, t: t}
	repo := m.repository(map[string]string{"lotse.yaml": m.sentinelFile("bin/app leaky", "true"), "release.txt": "0\n",
		".gitignore": ".env\n", "db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.write(filepath.Join(repo, ".env"), []byte("SECRET_OF_ENV_FILE="+fromFile+"\n"))
	if err := os.Chmod(filepath.Join(repo, ".env"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"dev", "staging"} {
		for _, one := range all {
			s.with(one.Value, repo, "secrets", "set", one.Name, "--stage", stage)
		}
		s.with(token, repo, "secrets", "set", "GIT_TOKEN", "--stage", stage)
		s.with(address, repo, "secrets", "set", "TEAM_HOOK", "--stage", stage)
	}
	password := strings.TrimSpace(m.must(repo, "password", "--stage", "staging"))
	sentinels = append(sentinels, leakstest.Sentinel{Name: "the password of staging", Value: password}, leakstest.Sentinel{Name: "OF_ENV_FILE", Value: fromFile})
	done := s.sample()

	s.run(0, repo, "deploy") // the instances tell
	database := m.leakyDatabase()
	sentinels = append(sentinels, database...)
	s.debug("dev.leaky.localhost", all[0].Value)
	s.run(0, repo, "promote", "staging")
	m.await("a job has told", 30*time.Second, func() bool { return strings.Contains(s.run(-1, repo, "logs", "--stage", "dev"), "split") })
	for name, c := range map[string]struct{ command, smoke string }{
		"crash":  {"bin/app leakycrash", "true"},
		"health": {"bin/app leakyhealth", "true"},
		"smoke":  {"bin/app leaky", "bin/app leakyend"},
	} {
		m.commit(repo, map[string]string{"lotse.yaml": m.sentinelFile(c.command, c.smoke), "release.txt": name})
		s.run(1, repo, "deploy")
	}
	m.commit(repo, map[string]string{"lotse.yaml": m.sentinelFile("bin/app leaky", "true"), "release.txt": "value " + all[0].Value})
	if said := s.run(2, repo, "deploy"); !strings.Contains(said, "known-value") {
		t.Errorf("a commit with the value of a secret was not refused for it:\n%s", said)
	}
	m.git(repo, "reset", "-q", "--hard", "HEAD~1")
	m.commit(repo, map[string]string{"lotse.yaml": m.sentinelFile("bin/app leaky", "true"),
		"db/2_tells.sql": "DO $$ BEGIN EXECUTE 'SELECT * FROM \"' || reverse('" + reversed(all[0].Value) + "') || '\"'; END $$;\n"})
	if said := s.run(1, repo, "deploy"); !strings.Contains(said, "2_tells.sql") {
		t.Errorf("the migration did not fail as it should:\n%s", said)
	}
	s.everyAnswer(repo)
	m.stopController()
	done()
	s.search(sentinels, hook)
	t.Logf("searched %d files and %d answers, %.1f MB, for %d secrets in all forms, in %s", s.finder.Files, s.finder.Answers, float64(s.finder.Bytes)/1e6,
		len(sentinels), time.Since(began).Round(time.Second))
	if s.finder.Files < 30 || s.finder.Answers < 30 || len(hook.came) == 0 || s.sampled < 10 || len(database) == 0 {
		t.Errorf("it is little that was searched: %d messages, %d command lines, %d database passwords", len(hook.came), s.sampled, len(database))
	}
	for _, found := range s.finder.Found {
		t.Error(found)
	}
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func (m *machine) write(file string, text []byte) {
	m.t.Helper()
	if err := os.WriteFile(file, text, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// tellable is what the app knows beside what it is given.
func (m *machine) tellable(all []leakstest.Sentinel) {
	m.t.Helper()
	var values []string
	for _, s := range all {
		values = append(values, s.Value)
	}
	m.write(filepath.Join(m.work, "sentinels"), []byte(strings.Join(values, "\x00")))
}

// leakyDatabase is the password of the database, as the app was given it; none where the address has none.
func (m *machine) leakyDatabase() []leakstest.Sentinel {
	for _, p := range m.processes() {
		if address, err := url.Parse(variable(fmt.Sprintf("/proc/%d", p.pid), "DATABASE_URL")); err == nil && address.User != nil {
			if password, ok := address.User.Password(); ok && len(password) >= 8 {
				return []leakstest.Sentinel{{Name: "the password of the database", Value: password}}
			}
		}
	}
	return nil
}

// sought collects all that a machine says.
type sought struct {
	*machine
	t       *testing.T
	mu      sync.Mutex
	answers []struct{ where, text string }
	lines   map[string]bool // of commands
	sampled int
	finder  *leakstest.Finder
}

func (s *sought) heard(where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, struct{ where, text string }{where, text})
}

// run runs a command that ends with this code; -1 is any.
func (s *sought) run(code int, repo string, args ...string) string {
	s.t.Helper()
	r := s.lotse(repo, args...)
	s.heard("lotse "+strings.Join(args, " "), r.out+r.err)
	if code >= 0 && r.code != code {
		s.t.Errorf("lotse %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	return r.out + r.err
}

// with gives a command its standard input.
func (s *sought) with(input, repo string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.bin.lotse, args...)
	cmd.Dir, cmd.Stdin = repo, strings.NewReader(input+"\n")
	cmd.Env = append(append(os.Environ(), s.env...), "LOTSE_STATE="+s.state)
	said, err := cmd.CombinedOutput()
	s.heard("lotse "+strings.Join(args, " "), string(said))
	if err != nil {
		s.t.Fatalf("lotse %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// debug asks the app itself, which answers with a secret: that it does is what makes the search of the proxy's log mean something.
func (s *sought) debug(host, value string) {
	s.t.Helper()
	answer, err := s.client().Get(s.url(host) + "/debug?token=" + url.QueryEscape(value))
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if text := bodyOf(s.t, answer); !strings.Contains(text, value) {
		s.t.Errorf("the app answers %s, without what it knows", answer.Status)
	}
}

// everyAnswer asks for all that can be asked.
func (s *sought) everyAnswer(repo string) {
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history"}, {"history", "--json"}, {"logs", "--stage", "dev"}, {"logs", "--stage", "staging", "--json"},
		{"secrets", "list", "--stage", "dev"}, {"secrets", "list", "--stage", "dev", "--json"}, {"doctor"}, {"doctor", "--json"},
		{"plan", "deploy"}, {"plan", "promote", "staging", "--json"}, {"check"}, {"notify", "test"}} {
		s.run(-1, repo, args...)
	}
	for _, stage := range []string{"dev", "staging"} {
		s.run(-1, repo, "env", "list", "--stage", stage)
	}
	for _, r := range s.rollouts() {
		s.run(0, repo, "rollout", "show", r)
		s.run(0, repo, "rollout", "show", r, "--json")
		s.run(-1, repo, "rollout", "export", r)
	}
}

func (s *sought) rollouts() (ids []string) {
	all, err := s.api.History(s.t.Context(), "", "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// sample looks at the command lines of everything that runs below this machine, until done.
func (s *sought) sample() (done func()) {
	s.lines = map[string]bool{}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range files {
				if line, err := os.ReadFile(file); err == nil && len(line) > 0 {
					s.lines[strings.ReplaceAll(string(line), "\x00", " ")] = true
				}
			}
			s.sampled++
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-ended }
}

// search looks through everything.
func (s *sought) search(all []leakstest.Sentinel, hook *hook) {
	s.t.Helper()
	s.finder = leakstest.NewFinder(all)
	for _, a := range s.answers {
		s.finder.Answer(a.where, a.text)
	}
	hook.mu.Lock()
	for _, message := range hook.came {
		s.finder.Answer("a message", message)
	}
	hook.mu.Unlock()
	for line := range s.lines {
		s.finder.Answer("a command line", line)
	}
	if said, err := os.ReadFile(filepath.Join(s.work, "serve.log")); err == nil {
		s.finder.Answer("the controller's output", string(said))
	}
	err := s.finder.Folder(s.state, func(path string) bool {
		return strings.HasPrefix(path, "vault/") || s.ofPostgres(path)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// ofPostgres reports whether a path is the data of a cluster.
func (s *sought) ofPostgres(path string) bool {
	_, err := os.Stat(filepath.Join(s.state, path, "PG_VERSION"))
	return err == nil
}
