package e2e_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Two CI jobs, as their files have it: one deploys to dev on a machine, the next one promotes to staging on another with an empty disk. S3 is a
// fake; all else is real, and the stages are those of the engine local, so that each machine runs its own.
func TestTwoJobsShareHistory(t *testing.T) {
	world := awsfake.Open(t, awsfake.Options{})
	world.Bucket("lotse-road-releases")
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": world.Endpoint(), "AWS_ACCESS_KEY_ID": "AKIDFAKE", "AWS_SECRET_ACCESS_KEY": "fake", "AWS_REGION": world.Region(),
		"AWS_EC2_METADATA_DISABLED": "true", "LOTSE_SHARED": "lotse-road-releases", "GITHUB_RUN_ID": "41", "GITHUB_REPOSITORY": "ada/road"} {
		t.Setenv(name, value)
	}
	one := machineIn(t, folder(t))
	repo := one.repository(map[string]string{"lotse.yaml": one.roadFile(""), "release.txt": "first", ".gitignore": "bin/\n"})
	said := one.detached(repo)
	if !strings.Contains(said, "lotse down") {
		t.Errorf("serve --detach says %q", said)
	}
	if again := one.detached(repo); !strings.Contains(again, "runs already") {
		t.Errorf("a second serve --detach says %q", again)
	}
	one.must(repo, "deploy")
	one.must(repo, "down")
	if lock := string(world.Object("lotse-road-releases", "state/lock.json")); !strings.Contains(lock, `"free":true`) || !strings.Contains(lock, "https://github.com/ada/road/actions/runs/41") {
		t.Errorf("the lock is %s", lock)
	}

	two := machineIn(t, folder(t))
	clone := two.work + "/clone"
	two.git(two.work, "clone", "-q", repo, clone)
	two.detached(clone)
	two.must(clone, "promote", "staging")
	about := two.about("staging")
	var history struct {
		Rollouts []deploy.Rollout `json:"rollouts"`
	}
	if err := json.Unmarshal([]byte(two.must(clone, "history", "--json")), &history); err != nil {
		t.Fatal(err)
	}
	of := history.Rollouts
	if len(of) != 2 || of[0].Release != of[1].Release || of[0].From != of[1].ID || of[0].Actor != of[1].Actor || about.Release != of[1].Release.Short() {
		t.Errorf("staging on the second machine is %+v, and the history %+v", about, of)
	}
	two.must(clone, "down")
	two.must(clone, "ledger", "verify")
}

// A controller that cannot begin says so through the command that started it, with its own exit code, and is not tried again.
func TestDetachedControllerThatCannotBegin(t *testing.T) {
	world := awsfake.Open(t, awsfake.Options{})
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": world.Endpoint(), "AWS_ACCESS_KEY_ID": "AKIDFAKE", "AWS_SECRET_ACCESS_KEY": "fake", "AWS_REGION": world.Region(), "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	m := machineIn(t, folder(t))
	r := m.lotse(m.work, "serve", "--detach", "--shared", "no-such-bucket")
	if r.code != 2 || !strings.Contains(r.err, "NoSuchBucket") || !strings.Contains(r.err, "Releases") {
		t.Errorf("it ended with %d: %s", r.code, r.err)
	}
	if left := m.processes(); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
}

// detached starts a controller in the background.
func (m *machine) detached(dir string) string {
	m.t.Helper()
	return m.must(dir, "serve", "--detach", "--https", strconv.Itoa(m.https), "--http", strconv.Itoa(m.http))
}
