package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lotse-eu/lotse/internal/load"
)

var road = []string{"dev", "staging", "prod"}

func hostOf(stage string) string { return stage + ".road.localhost" }

// roadFile is the lotse.yaml of an app with three stages. Each has a variable of its own; with a database, each has that too.
func (m *machine) roadFile(more string) string {
	file := fmt.Sprintf(`app: road
pipeline:
  app: { run: mkdir -p bin && cp %s bin/app, makes: [bin/app] }
services:
  web: { command: bin/app good, path: /, health: /health, instances: 2, files: [release.txt] }
%sstages:
`, m.bin.app, more)
	for _, stage := range road {
		file += fmt.Sprintf("  %s: { url: https://%s, access: open, env: { SECRET_OF: %s }, %s }\n", stage, hostOf(stage), stage, quick)
	}
	return file
}

// about asks an instance of a stage who it is.
func (m *machine) about(stage string) load.About {
	m.t.Helper()
	answer, err := m.client().Get(m.url(hostOf(stage)) + "/about")
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	var about load.About
	if err := json.NewDecoder(answer.Body).Decode(&about); err != nil || answer.StatusCode != http.StatusOK {
		m.t.Fatalf("%s answers %s: %v", stage, answer.Status, err)
	}
	return about
}

// A rollback while the release before is warm serves from the very process that was warm, through the next life of the controller as well,
// and is undone by another. Nobody is answered wrongly meanwhile, and no other process comes.
func TestWarmInstancesServeAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := strings.ReplaceAll(m.roadFile(""), quick, "watch: 500ms, stable: 500ms, warm: 10m")
	repo := m.repository(map[string]string{"lotse.yaml": strings.Replace(file, "instances: 2", "instances: 1", 1), "release.txt": "1\n"})
	m.must(repo, "deploy")
	first := m.about("dev")
	m.commit(repo, map[string]string{"release.txt": "2\n"})
	m.must(repo, "deploy")
	second, run := m.about("dev"), m.instances()
	plan := m.everyKind()
	plan.URL = m.url(hostOf("dev"))
	h := m.loaded(plan)
	if second.PID == first.PID || len(run) != 2 {
		t.Fatalf("%d and %d serve, %v run", first.PID, second.PID, run)
	}
	id := strings.TrimSpace(m.must(repo, "rollback", "dev", "--detach"))
	m.must(repo, "follow", id)
	if now := m.about("dev"); now != first {
		t.Errorf("after the rollback %+v serves, want %+v", now, first)
	}
	m.killController()
	m.serve()
	if now := m.about("dev"); now != first || !slices.Equal(m.instances(), run) {
		t.Errorf("after a new controller has come %+v serves, want %+v; %v run", now, first, m.instances())
	}
	m.must(repo, "rollback", "dev", "--to", second.Release)
	if now := m.about("dev"); now != second || !slices.Equal(m.instances(), run) {
		t.Errorf("there again %+v serves, want %+v; %v run", now, second, m.instances())
	}
	if report := h.Stop(); report.Failed != 0 {
		t.Errorf("a request has failed: %s", report.Summary())
	}
}

// Promotions and rollbacks over three stages, while prod is under load of every kind: no request fails, and every stage serves what it
// was given.
func TestStagesUnderLoad(t *testing.T) {
	t.Parallel()
	moves := 6
	if proving() {
		moves = 20
	}
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(""), "release.txt": "0\n"})
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.must(repo, "promote", "prod")
	first := m.about("prod").Release
	if m.about("dev").Release != first || m.about("staging").Release != first {
		t.Errorf("dev, staging and prod serve %s, %s, %s: want one release", m.about("dev").Release, m.about("staging").Release, first)
	}
	plan := m.everyKind()
	plan.URL = m.url(hostOf("prod"))
	h := m.loaded(plan)
	for n := 0; n < moves; {
		m.commit(repo, map[string]string{"release.txt": fmt.Sprintln(n + 1)})
		m.must(repo, "deploy")
		before := m.about("prod").Release
		for _, move := range [][]string{{"promote", "staging"}, {"promote", "prod"}, {"rollback", "prod"}} {
			m.must(repo, move...)
			m.more(h, 50)
			n++
		}
		if now := m.about("prod").Release; now != before || m.about("staging").Release == before {
			t.Errorf("after a rollback prod serves %s, want %s; staging %s", now, before, m.about("staging").Release)
		}
		m.must(repo, "promote", "prod")
		n++
	}
	report := h.Stop()
	t.Logf("promotions and rollbacks: %s; releases served: %d", report.Summary(), len(report.Served))
	if report.Failed != 0 {
		t.Error("a request on prod has failed")
	}
	if len(report.Served) < 3 {
		t.Errorf("only %v were served: nothing was shifted under load", report.Served)
	}
}

// What is not on the road is refused before anything is started, and says what to type instead.
func TestRoadIsKept(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(""), "release.txt": "0\n"})
	for _, c := range []struct {
		code       int
		says, hint string
		command    []string
	}{
		{1, "road was never deployed", "lotse deploy", []string{"promote", "staging"}},
		{1, "prod takes what the stage before it serves", "lotse promote prod", []string{"deploy", "--stage", "prod"}},
		{0, "", "", []string{"deploy"}},
		{1, "staging serves nothing that could go on to prod", "lotse promote staging", []string{"promote", "prod"}},
		{5, `no stage "qa"`, "stages are: dev, staging, prod", []string{"promote", "qa"}},
		{1, "has served nothing before", "", []string{"rollback", "dev"}},
		{1, "serves nothing", "lotse status", []string{"rollback", "prod"}},
		{2, "", "", []string{"promote"}},
	} {
		r := m.lotse(repo, c.command...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || !strings.Contains(r.err, c.hint) {
			t.Errorf("lotse %v: exit code %d, %q", c.command, r.code, r.err)
		}
	}
	other := m.repository(map[string]string{"lotse.yaml": strings.Replace(m.roadFile(""), "app: road", "app: copy", 1), "release.txt": "0\n"})
	if r := m.lotse(other, "deploy"); r.code != 2 || !strings.Contains(r.err, "is the address of road/dev already") {
		t.Errorf("a second app with the same address: exit code %d, %q", r.code, r.err)
	}
}

// Stages do not reach each other's files, variables and databases: tried as the user that a stage's services run as.
func TestStagesAreApart(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: without root all stages run as the caller, who may read everything of his own")
	}
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile("database: { postgres: 15, migrations: db }\n"), "release.txt": "0\n",
		"db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.must(repo, "promote", "prod")
	environ, url := map[string]string{}, map[string]string{}
	users := map[int]bool{}
	for _, stage := range road {
		about := m.about(stage)
		users[about.UID] = true
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", about.PID))
		if err != nil {
			t.Fatal(err)
		}
		environ[stage] = fmt.Sprintf("/proc/%d/environ", about.PID)
		for v := range strings.SplitSeq(string(raw), "\x00") {
			if is, ok := strings.CutPrefix(v, "DATABASE_URL="); ok {
				url[stage] = is
			}
			if name, value, _ := strings.Cut(v, "="); name == "SECRET_OF" && value != stage {
				t.Errorf("%s was given the variable of %s", stage, value)
			}
		}
	}
	if len(users) != 3 || users[0] || len(url) != 3 {
		t.Fatalf("the stages run as the users %v, with %d addresses of databases", users, len(url))
	}
	uid := uint32(m.about("dev").UID)
	if said, err := m.as(uid, "psql", url["dev"], "-Atc", "SELECT count(*) FROM places"); err != nil || said != "0" {
		t.Fatalf("dev does not reach its own database, so that what follows proves nothing: %v, %s", err, said)
	}
	readable := m.readableBy(uid)
	if !slices.ContainsFunc(readable, func(file string) bool { return strings.HasSuffix(file, "/bin/app") }) {
		t.Fatalf("dev cannot read its own release: %v", readable)
	}
	for _, file := range readable {
		if filepath.Base(file) == "authority.pem" {
			continue // a certificate: it is there to be read
		}
		if slices.ContainsFunc([]string{"/local/road/staging/", "/local/road/prod/", "/vault/", "ledger", ".key", "/depot/", "/pipeline/"}, func(part string) bool {
			return strings.Contains(strings.TrimPrefix(file, m.state), part)
		}) {
			t.Errorf("dev's user can read %s", file)
		}
	}
	for _, stage := range road[1:] {
		if said, err := m.as(uid, "cat", environ[stage]); err == nil {
			t.Errorf("dev's user can read the variables of %s: %d bytes", stage, len(said))
		}
		for name, address := range m.othersWays(url["dev"], url[stage]) {
			if said, err := m.as(uid, "psql", address, "-Atc", "SELECT 1"); err == nil {
				t.Errorf("dev's user enters the database of %s by %s: %s", stage, name, said)
			}
		}
		if said, err := m.as(uid, "sh", "-c", "echo x > "+filepath.Join(m.state, "local", "road", stage, "planted")); err == nil {
			t.Errorf("dev's user can write into the folder of %s: %s", stage, said)
		}
	}
}

// readableBy lists the files below the state folder that a user can read, whether or not he can find them.
func (m *machine) readableBy(uid uint32) (files []string) {
	m.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(m.state, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			fmt.Fprintln(&all, path)
		}
		return nil // what goes away meanwhile is not read by anybody
	})
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.commandAs(uid, "sh", "-c", `while IFS= read -r f; do if [ -r "$f" ]; then echo "$f"; fi; done`)
	cmd.Stdin = strings.NewReader(all.String())
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// othersWays are addresses by which somebody of one stage could try to enter the database of another.
func (m *machine) othersWays(mine, theirs string) map[string]string {
	port := func(url string) string {
		_, after, _ := strings.Cut(url, "@")
		_, after, _ = strings.Cut(after, ":")
		before, _, _ := strings.Cut(after, "/")
		return before
	}
	ways := map[string]string{"its own password": strings.Replace(mine, ":"+port(mine)+"/", ":"+port(theirs)+"/", 1)}
	sockets, _ := filepath.Glob(filepath.Join(m.state, "local", "road", "*", "postgres", "run", ".s.PGSQL.*"))
	for _, socket := range sockets {
		if number := strings.TrimSuffix(socket[strings.LastIndex(socket, ".")+1:], ".lock"); number == port(theirs) || !strings.Contains(socket, "/dev/") {
			ways["the socket, as superuser"] = fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", filepath.Dir(socket), number)
			ways["the socket, as the app"] = fmt.Sprintf("host=%s port=%s user=road dbname=road", filepath.Dir(socket), number)
		}
	}
	return ways
}

// as runs a command as a user that is only a number, and returns what it printed.
func (m *machine) as(uid uint32, name string, args ...string) (string, error) {
	out, err := m.commandAs(uid, name, args...).Output()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) commandAs(uid uint32, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), name, args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PGCONNECT_TIMEOUT=5"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// What a step bakes in differs from stage to stage; the release that people see is one on all of them.
func TestPublicValuesOfStages(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := `app: road
pipeline:
  site: { run: "mkdir -p dist/assets && echo \"const url = '$VITE_URL'\" > dist/assets/app-0123abcd.js && echo '<script src=/assets/app-0123abcd.js></script>' > dist/index.html", makes: [dist], public: [VITE_URL] }
services: { site: { static: dist } }
stages:
`
	for _, stage := range road {
		file += fmt.Sprintf("  %s: { url: https://%s, access: open, env: { VITE_URL: https://maps.%s.example.org }, %s }\n", stage, hostOf(stage), stage, quick)
	}
	repo := m.repository(map[string]string{"lotse.yaml": file})
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.must(repo, "promote", "prod")
	scripts, releases := map[string]bool{}, map[string]bool{}
	for _, stage := range road {
		page, release := m.get(hostOf(stage), "/")
		_, script, _ := strings.Cut(page, "src=")
		script, _, _ = strings.Cut(script, ">")
		scripts[script], releases[release] = true, true
		if text, _ := m.get(hostOf(stage), script); text != "const url = 'https://maps."+stage+".example.org'\n" {
			t.Errorf("%s serves %q as %s", stage, text, script)
		}
	}
	if len(scripts) != 3 {
		t.Errorf("three contents have the names %v: what a cache kept of one stage would be served on another", scripts)
	}
	if len(releases) != 1 {
		t.Errorf("the stages say that they serve the releases %v, want one", releases)
	}
}

// get asks a host for a path and returns the text, and the release that it comes from.
func (m *machine) get(host, path string) (text, release string) {
	m.t.Helper()
	answer, err := m.client().Get(m.url(host) + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		m.t.Fatalf("%s%s: %s", host, path, answer.Status)
	}
	return bodyOf(m.t, answer), answer.Header.Get("Lotse-Release")
}
