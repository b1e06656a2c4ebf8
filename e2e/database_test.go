package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/load"
)

const ownDatabase = "database: { postgres: 15, migrations: db }\n"

// databaseURL is what the instances of a stage were given.
func (m *machine) databaseURL(stage string) string {
	m.t.Helper()
	return variable(fmt.Sprintf("/proc/%d", m.about(stage).PID), "DATABASE_URL")
}

// sql runs one statement as the stage's app would.
func (m *machine) sql(stage, statement string) string {
	m.t.Helper()
	out, err := exec.CommandContext(m.t.Context(), "psql", m.databaseURL(stage), "-Atc", statement).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", statement, err, out)
	}
	return strings.TrimSpace(string(out))
}

// postmasters counts the servers of PostgreSQL that run below the state folder: their first processes, not those for connections.
func (m *machine) postmasters() (n int) {
	for _, p := range m.processes() {
		if strings.Contains(p.is, "/postgres ") {
			n++
		}
	}
	return n
}

// What the app wrote is there after everything was killed at once, and exactly one server runs.
func TestDatabaseOutlivesEverything(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n",
		"db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places VALUES ('Hamburg')")
	m.killController()
	for left := m.processes(); len(left) > 0; left = m.processes() {
		for _, p := range left {
			m.end(p)
		}
	}
	m.serve()
	m.await("dev answers again", time.Minute, func() bool {
		answer, err := m.client().Get(m.url(hostOf("dev")) + "/about")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	if got := m.sql("dev", "SELECT name FROM places"); got != "Hamburg" {
		t.Errorf("after everything was killed the table holds %q", got)
	}
	if n := m.postmasters(); n != 1 {
		t.Errorf("%d servers of PostgreSQL run, want one:\n%s", n, m.census())
	}
	m.must(repo, "down")
	if n := m.postmasters(); n != 0 {
		t.Errorf("%d servers of PostgreSQL run after lotse down", n)
	}
	m.serve()
	if got := m.sql("dev", "SELECT name FROM places"); got != "Hamburg" {
		t.Errorf("after lotse down and up the table holds %q", got)
	}
	m.dropped(repo)
}

// dropped deletes the data by name. No start makes an empty database in its place; a rollout does, with all migrations.
func (m *machine) dropped(repo string) {
	m.t.Helper()
	m.must(repo, "down")
	m.must(repo, "database", "drop", "--stage", "dev", "--yes-delete-the-data-of", "road/dev")
	m.serve()
	if n := m.postmasters(); n != 0 {
		m.t.Errorf("%d servers of PostgreSQL run without data that anybody migrated", n)
	}
	m.must(repo, "redeploy", "dev")
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "0" {
		m.t.Errorf("the new table holds %q rows", got)
	}
}

// The next migration runs while the old release serves, and one that fails half way leaves nothing of itself, says where it failed,
// and the old release never stops.
func TestMigrations(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n",
		"db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	plan := m.plan(hostOf("dev"))
	plan.Gets, plan.Fresh, plan.Pause = 2, 1, 10*time.Millisecond
	h := load.Start(t.Context(), plan)
	defer h.Stop()
	m.more(h, 20)
	before := m.about("dev").Release

	m.commit(repo, map[string]string{"db/2_zip.sql": "ALTER TABLE places ADD zip text;\nCREATE TABLE half (n int);\nINSERT INTO places VALUES (1, 2, 3);\n"})
	r := m.lotse(repo, "deploy")
	for _, want := range []string{"went back at entry", "2_zip.sql:3", "INSERT has more expressions than target columns"} {
		if r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("exit code %d, without %q:\n%s", r.code, want, r.err)
		}
	}
	if got := m.sql("dev", "SELECT to_regclass('half') IS NULL AND NOT EXISTS (SELECT FROM information_schema.columns WHERE column_name = 'zip')"); got != "t" {
		t.Error("something of the failed migration is left")
	}
	if now := m.about("dev").Release; now != before {
		t.Errorf("dev serves %s, want the old release", now)
	}

	m.commit(repo, map[string]string{"db/2_zip.sql": "ALTER TABLE places ADD zip text;\nCREATE TABLE half (n int);\n"})
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places (name, zip) VALUES ('Hamburg', '20095')")
	if said := m.must(repo, "promote", "staging"); !strings.Contains(said, "2 new") {
		t.Errorf("staging has a database of its own, where both migrations are new:\n%s", said)
	}
	if got := m.sql("staging", "SELECT count(*) FROM places"); got != "0" {
		t.Errorf("staging's table holds %s rows of dev", got)
	}
	m.must(repo, "rollback", "dev")
	if got := m.sql("dev", "SELECT zip FROM places"); got != "20095" {
		t.Errorf("after a rollback the column holds %q: a rollback undoes no migration", got)
	}
	if report := h.Stop(); report.Failed != 0 {
		t.Errorf("a request has failed: %s", report.Summary())
	}
}

// Data that is not what the file says is refused with the reason, and left alone.
func TestWrongData(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	files := map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n", "db/1.sql": "SELECT 1;\n"}
	repo := m.repository(files)
	data := m.state + "/local/road/dev/postgres/data"
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(data+"/PG_VERSION", []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if who, err := user.Lookup("postgres"); err == nil && os.Getuid() == 0 { // as a cluster's folder is, where Lotse runs as root
		uid, _ := strconv.Atoi(who.Uid)
		if err := errors.Join(os.Chown(data, uid, -1), os.Chown(data+"/PG_VERSION", uid, -1), os.Chmod(data, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	r := m.lotse(repo, "deploy")
	if r.code == 0 || !strings.Contains(r.err, "99") || !strings.Contains(r.err, "→") {
		t.Errorf("a data folder of PostgreSQL 99: exit code %d, %s", r.code, r.err)
	}
	if raw, err := os.ReadFile(data + "/PG_VERSION"); err != nil || string(raw) != "99\n" {
		t.Errorf("the folder was changed: %q, %v", raw, err)
	}
}
