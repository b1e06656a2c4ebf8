package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// Each part is killed alone, under load. What was in flight inside it may fail, nothing else; it is back by itself; and then
// exactly one of everything runs.
func TestKills(t *testing.T) {
	m := newMachine(t)
	m.deployed(2)
	pair := m.instances()
	all := whole(pair...)

	t.Run("controller", func(t *testing.T) {
		r := m.through(t, func(*load.Hammer) { m.killController() }, m.serve, all)
		none(t, r)
	})
	t.Run("one instance of two", func(t *testing.T) {
		m.through(t, m.killing("instance "+pair[0]), nil, all)
	})
	t.Run("keeper of an instance", func(t *testing.T) {
		none(t, m.through(t, m.killing("keeper "+pair[0]), nil, all))
	})
	t.Run("keeper of an instance, then the controller", func(t *testing.T) {
		both := func(h *load.Hammer) { m.kill("keeper " + pair[1]); m.killController() }
		none(t, m.through(t, both, m.serve, all))
	})
	t.Run("proxy", func(t *testing.T) {
		m.through(t, m.killing("proxy"), nil, all)
	})
	t.Run("keeper of the proxy", func(t *testing.T) {
		none(t, m.through(t, m.killing(proxyKeeper), nil, all))
	})
	t.Run("keeper of the proxy, then the controller", func(t *testing.T) {
		both := func(*load.Hammer) { m.kill(proxyKeeper); m.killController() }
		none(t, m.through(t, both, m.serve, all))
	})
	t.Run("proxy after its keeper was replaced", func(t *testing.T) {
		m.through(t, m.killing("proxy"), nil, all)
	})
	t.Run("instance after its keeper was replaced", func(t *testing.T) {
		m.through(t, m.killing("instance "+pair[0]), nil, all)
	})
	t.Run("the only instance", func(t *testing.T) {
		m.t = t
		m.deployed(1)
		m.await("only the new release runs", time.Minute, func() bool { return len(m.instances()) == 1 })
		only := m.instances()[0]
		m.through(t, m.killing("instance "+only), nil, whole(only))
	})
	m.t = t
}

// deployed brings a release with so many instances to the stage and waits until nothing else runs.
func (m *machine) deployed(instances int) {
	m.t.Helper()
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", instances, quick), "release.txt": "0\n"})
	m.must(repo, "deploy")
}

func (m *machine) killing(is string) func(*load.Hammer) {
	return func(h *load.Hammer) { h.Kill(func() { m.kill(is) }) }
}

// through runs one deed under load, puts right what a person has to, waits for the census, and says how the load went.
func (m *machine) through(t *testing.T, deed func(*load.Hammer), after func(), want census) load.Report {
	t.Helper()
	m.t = t
	h := m.loaded(m.everyKind())
	deed(h)
	m.more(h, 200)
	if after != nil {
		after()
	}
	m.awaitCensus(want)
	m.more(h, 100)
	r := h.Stop()
	t.Log(r.Summary())
	if r.Failed != 0 {
		t.Errorf("%d requests failed that were not in flight in what was killed", r.Failed)
	}
	return r
}

// none is for what carries no request: nothing may have been in flight in it.
func none(t *testing.T, r load.Report) {
	t.Helper()
	if r.Failed+r.Killed != 0 {
		t.Errorf("%d requests failed, though what was killed carries none", r.Failed+r.Killed)
	}
}

// A rollout that is under way when the controller is killed goes on when it is started again, wherever it was.
func TestRolloutOutlivesController(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.deployed(1)
	h := m.loaded(m.everyKind())
	slow := strings.Replace(m.appFile("bin/app good", 1, "watch: 4s, stable: 1s, warm: 2s, drain: 15s"), "mkdir -p bin", "mkdir -p bin && sleep 2", 1)
	repo := m.repository(map[string]string{"lotse.yaml": slow, "release.txt": "1\n"})
	id := strings.TrimSpace(m.must(repo, "deploy", "--detach"))
	for _, step := range []string{"build", "watch"} {
		m.await("the rollout is at "+step, time.Minute, func() bool { return m.at(id) == step })
		m.killController()
		m.more(h, 100)
		m.serve()
	}
	m.must(repo, "follow", id)
	r, err := m.api.Rollout(t.Context(), id)
	if err != nil || r.Outcome != deploy.Settled {
		t.Errorf("the rollout ended as %q, %v", r.Outcome, err)
	}
	m.must(repo, "ledger", "verify")
	m.await("the release before is gone", time.Minute, func() bool { return len(m.instances()) == 1 })
	m.awaitCensus(whole(id + ".web.0"))
	report := h.Stop()
	t.Log(report.Summary())
	none(t, report)
}

// at is the step of the table that a rollout is doing, or its outcome.
func (m *machine) at(id string) string {
	m.t.Helper()
	r, err := m.api.Rollout(m.t.Context(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	if r.Outcome.Ended() || len(r.Steps) == 0 {
		return string(r.Outcome)
	}
	return r.Steps[len(r.Steps)-1].Name
}

// Everything is killed at once, as a power cut would, and only the controller is started again.
func TestReboot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.deployed(2)
	before := m.instances()
	m.killController()
	for left := m.processes(); len(left) > 0; left = m.processes() {
		for _, p := range left {
			m.end(p)
		}
	}
	m.serve()
	m.awaitCensus(whole(before...))
	h := m.loaded(m.everyKind())
	m.more(h, 200)
	report := h.Stop()
	t.Log(report.Summary())
	none(t, report)
	m.deployed(1) // and it goes on from there
}

// `lotse down` leaves nothing running, also when it is said twice, and the next controller brings back what was served.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.deployed(2)
	before := m.instances()
	for range 2 {
		m.must(m.work, "down")
		if left := m.processes(); len(left) > 0 {
			t.Fatalf("left running: %v", left)
		}
	}
	m.serve()
	m.awaitCensus(whole(before...))
	h := m.loaded(m.everyKind())
	m.more(h, 100)
	report := h.Stop()
	t.Log(report.Summary())
	none(t, report)
}
