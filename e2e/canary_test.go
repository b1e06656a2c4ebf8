package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A canary with real processes under load, whose new release does worse at one endpoint, is undone by itself: the endpoint and how much are
// said, everybody is given back to the old release, and the new one is refused from then on. One that is as good settles.
func TestCanaryIsJudged(t *testing.T) {
	t.Parallel()
	type trial struct {
		mode, says string // empty: it settles
	}
	trials, stage := []trial{{"errors=30", "web: GET /about: errors "}}, "strategy: canary, canary: [20% for 8s], watch: 1s, stable: 1s, warm: 1s"
	if proving() {
		trials = []trial{{"errors=1", ""}, {"errors=4", "web: GET /about: errors "}, {"slower=200ms", "web: GET /about: p95 "}}
		stage = "strategy: canary, canary: [10% for 20s, 50% for 60s], watch: 10s, stable: 1s, warm: 1s"
	}
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app errors=1", 2, stage), "release.txt": "0\n"})
	m.must(repo, "deploy")
	plan := m.plan(host)
	plan.Paths, plan.Gets, plan.Pause = []string{"/about", "/get?word=hello"}, 8, 5*time.Millisecond
	m.loaded(plan)
	for _, c := range trials {
		m.commit(repo, map[string]string{"lotse.yaml": m.appFile("bin/app "+c.mode, 2, stage), "release.txt": c.mode})
		r := m.lotse(repo, "deploy", "--json")
		last := m.newest()
		t.Logf("%s: %s\n%s", c.mode, last.Outcome, told(last))
		if c.says == "" {
			if r.code != 0 || last.Outcome != deploy.Settled {
				t.Errorf("%s is %s with exit code %d: %+v", c.mode, last.Outcome, r.code, last.Turned)
			}
			continue
		}
		if r.code != 1 || last.Outcome != deploy.Reverted || last.Turned.Code != "regression" || last.Bad == "" {
			t.Fatalf("%s is %s with exit code %d: %+v\n%s", c.mode, last.Outcome, r.code, last.Turned, r.err)
		}
		if !strings.Contains(last.Turned.Why, c.says) || !strings.Contains(last.Turned.Why, "% of the traffic") {
			t.Errorf("%s: the reason is %s", c.mode, last.Turned.Why)
		}
		if again := m.lotse(repo, "deploy"); again.code != 1 || !strings.Contains(again.err, "is marked as bad") || !strings.Contains(again.err, "--again") {
			t.Errorf("deploying it again: exit code %d\n%s", again.code, again.err)
		}
	}
}

// newest is the last rollout of this machine.
func (m *machine) newest() deploy.Rollout {
	m.t.Helper()
	all, err := m.api.History(m.t.Context(), "", "", 1)
	if err != nil || len(all) == 0 {
		m.t.Fatalf("history: %v, %v", all, err)
	}
	return all[0]
}

// told is what a rollout has kept of its traffic.
func told(r deploy.Rollout) string {
	var lines []string
	for _, b := range r.Canary {
		for _, e := range b.Evidence {
			lines = append(lines, e.Probe+": "+e.Figure)
		}
	}
	if r.Turned != nil {
		lines = append(lines, r.Turned.Why)
		for _, e := range r.Turned.Evidence {
			lines = append(lines, e.Probe+": "+e.Figure)
		}
	}
	return strings.Join(lines, "\n")
}

// A controller that is killed in the middle of a canary's step leaves the shares as they are, and the next one goes on with the step.
func TestCanaryOutlivesController(t *testing.T) {
	provesOnly(t, "a canary whose controller is killed")
	t.Parallel()
	m := newMachine(t)
	stage := "strategy: canary, canary: [20% for 10s, 60% for 5s], watch: 1s, stable: 1s, warm: 1s"
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 1, stage), "release.txt": "0\n"})
	m.must(repo, "deploy")
	h := m.loaded(m.everyKind())
	m.commit(repo, map[string]string{"release.txt": "1\n"})
	id := strings.TrimSpace(m.must(repo, "deploy", "--detach"))
	for _, steps := range []int{1, 2} {
		m.await("the canary has a share", time.Minute, func() bool { return len(m.newest().Canary) == steps })
		m.killController()
		m.more(h, 200)
		m.serve()
	}
	m.must(repo, "follow", id)
	if last := m.newest(); last.Outcome != deploy.Settled || len(last.Canary) != 2 || !last.Canary[0].Ended {
		t.Errorf("it is %s: %+v, %+v", last.Outcome, last.Turned, last.Canary)
	}
	report := h.Stop()
	t.Log(report.Summary())
	if report.Failed != 0 || len(report.Served) != 2 {
		t.Errorf("served were %v", report.Served)
	}
}

// What cannot run twice is never there twice, and requests wait while it is started anew: none fails. One that cannot start has the old one
// started again.
func TestRecreate(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	stage := "strategy: recreate, watch: 1s, stable: 1s, drain: 5s"
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 1, stage), "release.txt": "0\n"})
	m.must(repo, "deploy")
	plan := m.plan(host)
	plan.Gets, plan.Fresh = 4, 4
	h := m.loaded(plan)
	for _, c := range []struct {
		mode string
		code int
	}{{"good", 0}, {"crash", 1}} {
		m.commit(repo, map[string]string{"lotse.yaml": m.appFile("bin/app "+c.mode, 1, stage), "release.txt": "1\n"})
		if r := m.lotse(repo, "deploy"); r.code != c.code {
			t.Errorf("%s: exit code %d\n%s%s", c.mode, r.code, r.out, r.err)
		}
		if now := m.instances(); len(now) != 1 {
			t.Errorf("%s: instances are %v", c.mode, now)
		}
		m.more(h, 100)
	}
	report := h.Stop()
	t.Log(report.Summary())
	if report.Failed != 0 || len(report.Served) != 2 {
		t.Errorf("served were %v", report.Served)
	}
}
