package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// requestsASecond is the load of prod in TestWholePath.
const requestsASecond = 200

// The whole path once: a release with a migration from a commit to prod, which serves 200 requests a second. It is slower there, and goes
// back by rule; the old code goes on with the new schema. Then the snapshot from before it is brought back. No request fails, also none in
// the hold in which the restore switches; the rows are those of the snapshot. A release that is as good as the old one goes the same way and stays.
func TestWholePath(t *testing.T) {
	provesOnly(t, "a release with a migration through three stages under 200 requests a second, its regression, and a restore")
	t.Parallel()
	m := newMachine(t)
	file := strings.Replace(m.roadFile(ownDatabase), "SECRET_OF: prod }, "+quick, "SECRET_OF: prod }, watch: 15s, stable: 2s, warm: 20s, drain: 15s", 1)
	repo := m.repository(map[string]string{"lotse.yaml": file, "release.txt": "0\n", "db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.toProd(repo)
	m.sql("prod", "INSERT INTO places SELECT 'place ' || n FROM generate_series(1, 1000) n")
	plan := m.plan(hostOf("prod"))
	plan.Paths, plan.Gets, plan.Fresh, plan.Rate = []string{"/about", "/get?word=hello"}, 60, 4, requestsASecond
	h := m.loaded(plan)
	m.more(h, 20*requestsASecond) // by which the next release is judged
	before := m.about("prod").Release

	m.commit(repo, map[string]string{"db/2_zip.sql": "ALTER TABLE places ADD zip text;\nCREATE INDEX CONCURRENTLY places_name ON places (name);\n", "release.txt": "1\n",
		"lotse.yaml": strings.Replace(file, "bin/app good", "bin/app slower=300ms", 1)})
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.sql("prod", "INSERT INTO places VALUES ('the last before')")
	r := m.lotse(repo, "promote", "prod")
	last := m.newest()
	if r.code != 1 || last.Outcome != deploy.Reverted || last.Turned == nil || last.Turned.Code != "regression" {
		t.Fatalf("exit code %d, %s, %+v\n%s", r.code, last.Outcome, last.Turned, r.err)
	}
	t.Logf("the regression: %s", last.Turned.Why)
	if now := m.about("prod").Release; now != before {
		t.Errorf("prod serves %s, want the release before, %s", now, before)
	}
	m.sql("prod", "INSERT INTO places (name, zip) VALUES ('too late', '20095')")
	m.more(h, 2*requestsASecond)

	snapshot := m.beforeMigration(repo, "prod")
	begun := time.Now()
	said := m.must(repo, "db", "restore", snapshot, "--stage", "prod")
	t.Logf("restored in %s:\n%s", time.Since(begun).Round(time.Millisecond), said)
	if got := m.sql("prod", "SELECT count(*) || ' ' || count(*) FILTER (WHERE name = 'the last before') FROM places"); got != "1001 1" {
		t.Errorf("prod has the rows %s, want those of the snapshot, 1001 1", got)
	}
	if got := m.sql("prod", "SELECT count(*) FROM information_schema.columns WHERE column_name = 'zip'"); got != "0" {
		t.Error("the schema is not that of the snapshot")
	}
	m.more(h, 2*requestsASecond)

	m.commit(repo, map[string]string{"lotse.yaml": file, "release.txt": "2\n"})
	m.toProd(repo)
	if got := m.sql("prod", "SELECT count(*) || ' ' || count(zip) FROM places"); got != "1001 0" {
		t.Errorf("after the good release prod has %s, want 1001 0", got)
	}
	m.more(h, 2*requestsASecond)
	report := h.Stop()
	t.Logf("%d requests a second were wanted, %.0f measured; %s", requestsASecond, float64(report.Requests)/report.Took.Seconds(), report.Summary())
	if report.Failed > 0 {
		t.Error("a request has failed")
	}
	if rate := float64(report.Requests) / report.Took.Seconds(); rate < 0.9*requestsASecond {
		t.Errorf("%.0f requests a second are not %d", rate, requestsASecond)
	}
}

// toProd carries the commit through all stages.
func (m *machine) toProd(repo string) {
	m.t.Helper()
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.must(repo, "promote", "prod")
}

// beforeMigration is the newest snapshot that was taken before one.
func (m *machine) beforeMigration(repo, stage string) (id string) {
	m.t.Helper()
	var all []struct{ ID, Why string }
	if err := json.Unmarshal([]byte(m.must(repo, "db", "snapshots", "--stage", stage, "--json")), &all); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range all {
		if s.Why == "migration" {
			id = s.ID
		}
	}
	if id == "" {
		m.t.Fatalf("no snapshot of %s was taken before a migration: %+v", stage, all)
	}
	return id
}
