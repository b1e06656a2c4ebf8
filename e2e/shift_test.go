package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/load"
)

const host = "dev.e2e.localhost"

// appFile is the lotse.yaml of the app under test. Its one step copies the program that the harness has built, so that a deploy
// costs what Lotse costs. More goes below the service; the stage's times are shortened.
func (m *machine) appFile(command string, instances int, stage string, more ...string) string {
	file := fmt.Sprintf(`app: e2e
pipeline:
  app: { run: mkdir -p bin && cp %s bin/app, makes: [bin/app] }
services:
  web:
    command: %s
    path: /
    health: /health
    instances: %d
    files: [release.txt]
`, m.bin.app, command, instances)
	for _, line := range more {
		file += "    " + line + "\n"
	}
	return file + fmt.Sprintf("stages:\n  dev: { url: https://%s, access: open, %s }\n", host, stage)
}

const quick = "watch: 1s, stable: 1s, warm: 2s, drain: 15s"

// everyKind is the load of the suite: every kind of client, over both protocols.
func (m *machine) everyKind() load.Plan {
	p := m.plan(host)
	p.Gets, p.Fresh, p.Uploads, p.Downloads, p.Sockets, p.Streams = 4, 2, 2, 4, 2, 2
	p.UploadBytes, p.DownloadBytes, p.DownloadTime, p.Pause = 256<<10, 256<<10, 2*time.Second, 10*time.Millisecond
	if proving() {
		p.DownloadTime = 10 * time.Second
	}
	return p
}

// loaded starts the load and returns when it is really on.
func (m *machine) loaded(p load.Plan) *load.Hammer {
	m.t.Helper()
	h := load.Start(m.t.Context(), p)
	m.t.Cleanup(func() { h.Stop() })
	m.more(h, 50)
	return h
}

// more waits for good answers: whatever was broken serves again.
func (m *machine) more(h *load.Hammer, answers int) {
	m.t.Helper()
	if err := h.Await(within(m.t, time.Minute), answers); err != nil {
		m.t.Fatal(err)
	}
}

// Release after release goes out under load of all kinds, and no request fails.
func TestShiftsUnderLoad(t *testing.T) {
	t.Parallel()
	deploys := 5
	if proving() {
		deploys = 20
	}
	m := newMachine(t)
	report := m.shifts(quick, deploys)
	if report.Failed != 0 {
		t.Error("a request has failed")
	}
	t.Logf("%d deploys: %s; releases served: %v", deploys, report.Summary(), report.Served)
	if len(report.Served) < 2 {
		t.Errorf("only %v were served: nothing was shifted under load", report.Served)
	}
	for kind, c := range report.Kinds {
		if c.Requests == 0 {
			t.Errorf("no request of kind %s was made", kind)
		}
	}
}

// The planted fault: without the time to drain, the same load must see failures. Else the test above proves nothing.
func TestShiftsWithoutDrain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	report := m.shifts("watch: 1s, stable: 1s, warm: 1ms, drain: 1ms", 3)
	t.Logf("without a drain: %s", report.Summary())
	if report.Failed == 0 {
		t.Error("nothing failed though nothing was drained")
	}
}

// shifts deploys two releases by turns under load; every deploy must settle.
func (m *machine) shifts(stage string, deploys int) load.Report {
	m.t.Helper()
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 2, stage), "release.txt": "0\n"})
	m.must(repo, "deploy")
	h := m.loaded(m.everyKind())
	for n := range deploys {
		m.commit(repo, map[string]string{"release.txt": fmt.Sprintln((n + 1) % 2)})
		begun := time.Now()
		m.must(repo, "deploy")
		m.t.Logf("deploy %d settled after %s", n+1, time.Since(begun).Round(time.Millisecond))
		m.more(h, 50)
	}
	return h.Stop()
}

// A release that is warm no more is drained like any other: a download that outlasts the warm time is not cut. And who deploys
// meanwhile does not find the stage busy.
func TestWarmReleaseIsDrained(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const warm = "watch: 500ms, stable: 500ms, warm: 500ms, drain: 20s"
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 1, warm), "release.txt": "0\n"})
	m.must(repo, "deploy")
	plan := m.everyKind()
	plan.Downloads, plan.DownloadTime = 12, 5*time.Second
	h := m.loaded(plan)
	first := m.instances()[0]
	m.commit(repo, map[string]string{"release.txt": "1\n"})
	m.must(repo, "deploy")
	m.await("the warm release is on its way out", 30*time.Second, func() bool { return m.phase(first) != "up" })
	m.commit(repo, map[string]string{"release.txt": "2\n"})
	m.must(repo, "deploy")
	report := h.Stop()
	t.Logf("%s", report.Summary())
	if report.Failed != 0 {
		t.Error("a request has failed")
	}
	m.await("only the last release runs", time.Minute, func() bool { return len(m.instances()) == 1 && m.instances()[0] != first })
}

// phase is what the engine has written of an instance's rollout: starting, up, stopping, or nothing when it is gone.
func (m *machine) phase(instance string) string {
	rollout, _, _ := strings.Cut(instance, ".")
	raw, err := os.ReadFile(filepath.Join(m.state, "local", "e2e", "dev", "rollouts", rollout+".json"))
	if err != nil {
		return ""
	}
	var note struct{ Phase string }
	if err := json.Unmarshal(raw, &note); err != nil {
		m.t.Fatal(err)
	}
	return note.Phase
}
