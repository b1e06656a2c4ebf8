package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (c *cloud) road() map[string]string {
	return map[string]string{"lotse.yaml": onAWSNow(c.roadFile(""), "road"), "release.txt": "0\n"}
}

// One file, one line each more, three stages on AWS: deploy, promotions, rollback, under load, with nothing left over.
func TestOnAWS(t *testing.T) {
	t.Parallel()
	provesOnly(t, "three stages on the fake of AWS under load")
	c := newCloud(t)
	begun := time.Now()
	repo := c.begin("road", c.road())
	t.Logf("infra apply and serve: %s", time.Since(begun).Round(time.Millisecond))
	var calls tally
	calls.take(c, "apply")
	c.steps(repo, &calls, "deploy")
	c.steps(repo, &calls, "promote", "staging")
	c.steps(repo, &calls, "promote", "prod")
	first := c.releaseOn("prod")
	if c.releaseOn("dev") != first || c.releaseOn("staging") != first {
		t.Errorf("dev, staging and prod serve %s, %s, %s: want one release", c.releaseOn("dev"), c.releaseOn("staging"), first)
	}
	for _, stage := range road {
		c.unpacked(c.rollouts(stage)[0])
	}

	c.commit(repo, map[string]string{"release.txt": "1\n"})
	c.steps(repo, &calls, "deploy")
	c.steps(repo, &calls, "promote", "staging")
	h := c.everybody(hostIn("road", "prod"))
	c.steps(repo, &calls, "promote", "prod")
	c.more(h, 50)
	if c.releaseOn("prod") == first {
		t.Error("prod serves the first release")
	}
	c.steps(repo, &calls, "rollback", "prod")
	c.more(h, 50)
	if c.releaseOn("prod") != first || c.releaseOn("staging") == first {
		t.Errorf("after a rollback prod serves %s and staging %s; the first was %s", c.releaseOn("prod"), c.releaseOn("staging"), first)
	}
	report := h.Stop()
	t.Logf("promotion and rollback of prod: %s; releases served: %v", report.Summary(), report.Served)
	if report.Failed != 0 || len(report.Served) < 2 {
		t.Error("a request on prod has failed, or nothing was shifted")
	}
	t.Logf("what it asks of AWS, on the fake and at the fake's pace:\n%s", &calls)

	c.sees(repo)
	c.unpacked(c.serving("prod"))
	c.only(c.serving("dev"), c.serving("staging"), c.serving("prod"))
	c.must(repo, "end", "staging", "--yes-end", "road/staging")
	c.only(c.serving("dev"), c.serving("prod"))
	if code, _ := c.asked(hostIn("road", "staging"), "/about"); code != http.StatusNotFound {
		t.Errorf("a stage that was ended answers %d, want 404: its address is free", code)
	}
}

// steps runs a command that moves a release, and counts what it asks of AWS.
func (c *cloud) steps(repo string, calls *tally, args ...string) {
	c.t.Helper()
	begun := time.Now()
	c.must(repo, args...)
	c.t.Logf("%s: %s", strings.Join(args, " "), time.Since(begun).Round(time.Millisecond))
	calls.take(c, strings.Join(args, " "))
}

// serving is the last rollout of a stage that has settled.
func (c *cloud) serving(stage string) deploy.Rollout {
	c.t.Helper()
	for _, r := range c.rollouts(stage) {
		if r.Outcome == deploy.Settled {
			return r
		}
	}
	c.t.Fatalf("nothing has settled on %s", stage)
	return deploy.Rollout{}
}

// sees wants that status, logs and history know what is on AWS.
func (c *cloud) sees(repo string) {
	c.t.Helper()
	status := c.must(repo, "status")
	for _, stage := range road {
		if !strings.Contains(status, "https://"+hostIn("road", stage)) {
			c.t.Errorf("status does not show %s:\n%s", stage, status)
		}
	}
	c.await("the logs of prod", 30*time.Second, func() bool { return strings.Contains(c.must(repo, "logs", "--stage", "prod"), "app listens") })
	if said := c.must(repo, "history", "--stage", "prod"); strings.Count(said, "road/prod") < 3 && strings.Count(said, "prod") < 3 {
		c.t.Errorf("history of prod:\n%s", said)
	}
}

// A controller that is killed in the middle of a rollout and started again carries it to its end, and nothing of it is left over.
func TestOnAWSKilled(t *testing.T) {
	t.Parallel()
	provesOnly(t, "a controller that is killed on the fake of AWS")
	c := newCloud(t)
	files := c.road()
	files["lotse.yaml"] = strings.NewReplacer("instances: 2", "instances: 1", "watch: 1s", "watch: 4s").Replace(files["lotse.yaml"])
	repo := c.begin("road", files)
	c.must(repo, "deploy")
	for n, step := range []string{"start", "shift", "watch"} {
		c.commit(repo, map[string]string{"release.txt": fmt.Sprintln(n + 1)})
		id := strings.TrimSpace(c.must(repo, "deploy", "--detach"))
		c.await("the rollout is at "+step, 2*time.Minute, func() bool { return c.at(id) == step })
		if step == "start" {
			c.await("the environment of the rollout is there", time.Minute, func() bool { return len(c.environments()) == 2 })
		}
		c.killController()
		c.serve()
		c.must(repo, "follow", id)
		if now := c.serving("dev"); now.ID != id || c.releaseOn("dev") != now.Release.Short() {
			t.Errorf("killed at %s: dev serves %s, want rollout %s", step, c.releaseOn("dev"), id)
		}
		c.only(c.serving("dev"))
		c.unpacked(c.serving("dev"))
	}
}

// The first stage is this machine and the second AWS: one release, byte for byte, and what a file with no stage on AWS makes of the commit has
// the same files.
func TestHereAndOnAWS(t *testing.T) {
	t.Parallel()
	provesOnly(t, "one digest on this machine and on the fake of AWS")
	c := newCloud(t)
	here := c.roadFile("")
	files := map[string]string{"lotse.yaml": strings.Replace(onAWSNow(here, "road"), "dev: { engine: aws, url: https://dev.road.example", "dev: { url: https://dev.road.localhost", 1), "release.txt": "0\n"}
	repo := c.begin("road", files)
	c.must(repo, "deploy")
	c.must(repo, "promote", "staging")
	if onDev, onStaging := c.about("dev").Release, c.releaseOn("staging"); onDev != onStaging || onDev == "" {
		t.Errorf("here %s is served, and on AWS %s", onDev, onStaging)
	}
	c.unpacked(c.serving("staging"))
	all := machineIn(t, folder(t))
	all.serve()
	files["lotse.yaml"] = here
	all.must(all.repository(files), "deploy")
	local, aws := all.filesOn("road", "dev"), c.filesOn("road", "staging")
	delete(local, ".lotse/lotse.yaml") // the file itself is part of the release
	delete(aws, ".lotse/lotse.yaml")
	if len(local) < 2 || !maps.Equal(local, aws) {
		t.Errorf("the engine local is given %v, and aws %v", local, aws)
	}
}

// filesOn are the digests of the files of the last release that went to a stage.
func (m *machine) filesOn(app, stage string) map[string]deploy.Digest {
	m.t.Helper()
	rollouts, err := m.api.History(m.t.Context(), app, stage, 1)
	if err != nil || len(rollouts) != 1 {
		m.t.Fatal(rollouts, err)
	}
	release, err := m.api.Release(m.t.Context(), rollouts[0].Release)
	if err != nil {
		m.t.Fatal(err)
	}
	all := map[string]deploy.Digest{}
	for _, f := range release.Manifest.Files {
		all[f.Path] = f.Digest
	}
	return all
}
