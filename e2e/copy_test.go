package e2e_test

import "testing"

// The people of staging become nobody on dev, whose release is newer: the copy has its migrations too, and the real values are nowhere in it.
func TestCopyWithMigrations(t *testing.T) {
	provesOnly(t, "a masked copy to a stage of a release that migrates, on real processes")
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n", "db/1_people.sql": "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE);\n"})
	m.must(repo, "deploy")
	m.must(repo, "promote", "staging")
	m.sql("staging", "INSERT INTO people SELECT n, 'person' || n || '@mail.example.com' FROM generate_series(1, 500) n")
	m.commit(repo, map[string]string{"db/2_seen.sql": "ALTER TABLE people ADD seen int;\n", "release.txt": "1\n"})
	m.must(repo, "deploy")
	t.Log(m.must(repo, "db", "copy", "staging", "dev"))
	if got := m.sql("dev", "SELECT count(*), count(DISTINCT email), count(seen), count(*) FILTER (WHERE email ~ '^person[0-9]+@mail') FROM people"); got != "500|500|0|0" {
		t.Errorf("dev has %s", got)
	}
	if got := m.sql("staging", "SELECT count(*) FROM people WHERE email ~ '^person[0-9]+@mail'"); got != "500" {
		t.Errorf("staging has %s of its people", got)
	}
	if answered := m.about("dev"); answered.Release == "" {
		t.Errorf("dev answers %+v", answered)
	}
}
