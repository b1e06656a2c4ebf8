package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/load"
)

// A stage under load: a snapshot, its drill, rows that come later, a release that migrates and takes another snapshot before, and the way
// back to the first: no request fails, the rows are those of the snapshot, what was there is kept until it is told. Then the machine is
// gone, and another one has the rows again from the folder and the key alone.
func TestRestoreUnderLoad(t *testing.T) {
	provesOnly(t, "a restore on real processes under load, and a machine that is gone")
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n", "db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places SELECT 'place ' || n FROM generate_series(1, 1000) n")
	m.must(repo, "db", "snapshot", "--stage", "dev", "--reason", "before the flood")
	var all []struct {
		ID   string
		Rows int
	}
	listed := func() {
		t.Helper()
		all = nil
		if err := json.Unmarshal([]byte(m.must(repo, "db", "snapshots", "--stage", "dev", "--json")), &all); err != nil {
			t.Fatal(err)
		}
	}
	if listed(); len(all) != 1 || all[0].Rows < 1000 {
		t.Fatalf("there is %+v", all)
	}
	first := all[0].ID
	m.await("the drill", time.Minute, func() bool {
		return strings.Contains(m.must(repo, "db", "status", "--stage", "dev"), "measured")
	})
	if said := m.must(repo, "db", "drill", first, "--stage", "dev"); !strings.Contains(said, "is proven") {
		t.Errorf("the drill said %s", said)
	}

	plan := m.plan(hostOf("dev"))
	plan.Gets, plan.Fresh, plan.Pause = 4, 1, 10*time.Millisecond
	h := load.Start(t.Context(), plan)
	m.more(h, 20)
	m.sql("dev", "INSERT INTO places VALUES ('too late')")
	m.commit(repo, map[string]string{"db/2_zip.sql": "ALTER TABLE places ADD zip text;\n"})
	if said := m.must(repo, "deploy"); !strings.Contains(said, "snapshot") {
		t.Errorf("the deploy took no snapshot:\n%s", said)
	}
	if listed(); len(all) != 2 || all[1].Rows != all[0].Rows+1 {
		t.Errorf("there is %+v", all)
	}
	m.sql("dev", "INSERT INTO places VALUES ('later still', '20095')")
	begun := time.Now()
	said := m.must(repo, "db", "restore", all[1].ID, "--stage", "dev")
	t.Logf("restored in %s:\n%s", time.Since(begun), said)
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "1001" {
		t.Errorf("dev has %s rows, want those of the snapshot", got)
	}
	m.must(repo, "rollback", "dev")
	m.must(repo, "db", "restore", first, "--stage", "dev")
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "1000" {
		t.Errorf("dev has %s rows, want those of the first snapshot", got)
	}
	m.more(h, 20)
	report := h.Stop()
	if report.Failed > 0 {
		t.Errorf("%d requests failed: %s", report.Failed, report.Summary())
	}
	if r := m.lotse(repo, "db", "restore", first, "--stage", "dev", "--to", "staging"); r.code != 2 && r.code != 1 || !strings.Contains(r.err, "masked") {
		t.Errorf("to another stage: %d %s", r.code, r.err)
	}
	t.Log(report.Summary())
	m.recovered(repo, first)
}

// The app's own check runs as the user of the stage, on a drill's cluster and on what a restore has filled, and its word counts.
func TestCheckOfWhatCameBack(t *testing.T) {
	provesOnly(t, "an app's own check, run as the user of its stage on what a drill and a restore have brought back")
	t.Parallel()
	m := newMachine(t)
	const check = `test "$(id -u)" -ne 0 && test "$(psql "$DATABASE_URL" -XAtc "select count(*) from places")" = 1000`
	quoted := "'" + strings.ReplaceAll(check, "'", "''") + "'"
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile("database: { postgres: 15, migrations: db, snapshots: { check: " + quoted + " } }\n"), "release.txt": "0\n",
		"db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places SELECT 'place ' || n FROM generate_series(1, 1000) n")
	var all []struct {
		ID    string
		Proof *struct{ Wrong, Check string }
	}
	drilled := func(n int) { // which begins by itself
		m.await("the drill", time.Minute, func() bool {
			err := json.Unmarshal([]byte(m.must(repo, "db", "snapshots", "--stage", "dev", "--json")), &all)
			return err == nil && len(all) == n && all[n-1].Proof != nil
		})
	}
	m.must(repo, "db", "snapshot", "--stage", "dev")
	if drilled(1); all[0].Proof.Wrong != "" || all[0].Proof.Check != "passed" {
		t.Errorf("the drill said %+v", all[0].Proof)
	}
	m.sql("dev", "INSERT INTO places VALUES ('one more')")
	m.must(repo, "db", "snapshot", "--stage", "dev")
	if drilled(2); !strings.Contains(all[1].Proof.Wrong, "the app's own check says") {
		t.Errorf("the drill of what the check refuses said %+v", all[1].Proof)
	}
	if r := m.lotse(repo, "db", "restore", all[1].ID, "--stage", "dev"); r.code == 0 || m.sql("dev", "SELECT count(*) FROM places") != "1001" {
		t.Errorf("a restore of it: %d\n%s%s", r.code, r.out, r.err)
	}
	m.must(repo, "db", "restore", all[0].ID, "--stage", "dev")
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "1000" {
		t.Errorf("dev has %s rows, want those of the first snapshot", got)
	}
}

// recovered has the rows of a snapshot on another machine.
func (m *machine) recovered(repo, snapshot string) {
	m.t.Helper()
	apart := folder(m.t)
	for from, to := range map[string]string{"snapshots": "snapshots", "snapshots.key": "key"} {
		if err := copyTree(filepath.Join(m.state, from), filepath.Join(apart, to)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.down()
	other := machineIn(m.t, folder(m.t))
	said := other.must(repo, "db", "recover", "--from", filepath.Join(apart, "snapshots"), "--key", filepath.Join(apart, "key"), "--stage", "road/dev", "--snapshot", snapshot)
	m.t.Log(said)
	other.serve()
	other.must(repo, "deploy")
	if got := other.sql("dev", "SELECT count(*) FROM places"); got != "1000" {
		m.t.Errorf("the other machine has %s rows", got)
	}
}

// Snapshots in a bucket, by an S3 that others wrote: taken, drilled, restored, and a machine that is gone comes back from the bucket and
// the key. A bucket outside the EU gets nothing.
func TestSnapshotsInABucket(t *testing.T) {
	provesOnly(t, "snapshots of a real stage in a bucket, and a machine that comes back from it")
	t.Parallel()
	account := mototest.Start(t, "eu-central-1", "snapshots of a real stage were not put into an S3 that others wrote")
	client := s3.NewFromConfig(account, func(o *s3.Options) { o.UsePathStyle = true })
	for name, at := range map[string]string{"kept": "eu-central-1", "american": "us-west-2"} {
		there := s3.New(client.Options(), func(o *s3.Options) { o.Region = at })
		if _, err := there.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(at)}}); err != nil {
			t.Fatal(err)
		}
	}
	m := machineIn(t, folder(t))
	none := filepath.Join(m.work, "none")
	m.env = []string{"AWS_ENDPOINT_URL=" + *account.BaseEndpoint, "AWS_ACCESS_KEY_ID=AKIDFAKE", "AWS_SECRET_ACCESS_KEY=fake", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + none, "AWS_SHARED_CREDENTIALS_FILE=" + none}
	m.serve()
	file := func(to string) string {
		return m.roadFile("database: { postgres: 15, migrations: db, snapshots: { to: s3://" + to + "/of/road } }\n")
	}
	repo := m.repository(map[string]string{"lotse.yaml": file("kept"), "release.txt": "0\n", "db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	m.sql("dev", "INSERT INTO places SELECT 'place ' || n FROM generate_series(1, 1000) n")
	m.must(repo, "db", "snapshot", "--stage", "dev")
	var all []struct {
		ID, Where string
		Proof     *struct{ Wrong string }
	}
	m.await("the drill", time.Minute, func() bool {
		err := json.Unmarshal([]byte(m.must(repo, "db", "snapshots", "--stage", "dev", "--json")), &all)
		return err == nil && len(all) == 1 && all[0].Proof != nil
	})
	if all[0].Proof.Wrong != "" || !strings.HasPrefix(all[0].Where, "s3://kept/of/road/road/dev/") {
		t.Errorf("there is %+v", all[0])
	}
	m.sql("dev", "INSERT INTO places VALUES ('too late')")
	m.must(repo, "db", "restore", all[0].ID, "--stage", "dev")
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "1000" {
		t.Errorf("dev has %s rows, want those of the snapshot", got)
	}
	m.commit(repo, map[string]string{"lotse.yaml": file("american"), "release.txt": "1\n"})
	m.must(repo, "deploy")
	if r := m.lotse(repo, "db", "snapshot", "--stage", "dev"); r.code == 0 || !strings.Contains(r.err, "us-west-2, outside the EU") {
		t.Errorf("into a bucket outside the EU: %d\n%s%s", r.code, r.out, r.err)
	}
	if there, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: new("american")}); err != nil || len(there.Contents) > 0 {
		t.Errorf("%d objects are outside the EU: %v", len(there.Contents), err)
	}

	key := filepath.Join(folder(t), "key")
	if err := copyTree(filepath.Join(m.state, "snapshots.key"), key); err != nil {
		t.Fatal(err)
	}
	m.down()
	other := machineIn(t, folder(t))
	other.env = m.env
	other.must(repo, "db", "recover", "--from", "s3://kept/of/road", "--key", key, "--stage", "road/dev")
	other.serve()
	other.must(repo, "deploy")
	if got := other.sql("dev", "SELECT count(*) FROM places"); got != "1000" {
		t.Errorf("the other machine has %s rows", got)
	}
}

func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}
