package e2e_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// mortal is lotse with a moment at which its controller gets SIGKILL, given by LOTSE_DIE_AT; else it is what users have.
var mortal = builtWith("crashpoints")

// The real controller gets kill -9 before and after each moment at which it writes or calls the engine, while it deploys under load, and is
// started again. Then exactly one release serves, the rollout has ended, the ledger verifies, and neither a lease, nor an orphan, nor a
// second copy is left; and no request has failed. LOTSE_MOMENTS_MOST bounds the moments, which begin at a chance one.
func TestControllerIsKilledAtEveryMoment(t *testing.T) {
	provesOnly(t, "the real controller, killed where it writes or calls the engine")
	t.Parallel()
	m := mortalMachine(t)
	names := m.undisturbed()
	t.Logf("%d moments: %s", len(names), strings.Join(names, ", "))
	plan := m.everyKind()
	plan.DownloadTime = 2 * time.Second // shorter than the drain of this app, beyond which cutting is promised
	h := m.loaded(plan)
	most := len(names)
	if said, err := strconv.Atoi(os.Getenv("LOTSE_MOMENTS_MOST")); err == nil && said > 0 {
		most = min(most, said)
	}
	moments, whens := some(t, len(names), most), []string{"before", "after"}
	for _, at := range moments {
		for _, when := range whens {
			m.dies(fmt.Sprintf("%d %s", at, when), names[at-1])
		}
	}
	report := h.Stop()
	t.Logf("killed %d times, at %d of %d moments: %s; longest gap %s", len(moments)*len(whens), len(moments), len(names), report.Summary(), report.Gap)
	none(t, report)
	if len(report.Served) < 2 {
		t.Errorf("only %v were served: nothing was shifted under load", report.Served)
	}
}

// some are n of so many moments. LOTSE_SEED begins where a run that failed has said.
func some(t *testing.T, of, n int) (moments []int) {
	t.Helper()
	seed := int(time.Now().UnixNano() / 1000)
	if said, err := strconv.Atoi(os.Getenv("LOTSE_SEED")); err == nil {
		seed = said
	}
	t.Logf("LOTSE_SEED=%d", seed)
	for i := range n {
		moments = append(moments, (seed+i*of/n)%of+1)
	}
	return moments
}

// mortals is a machine whose controller can be told when to die, and its repository.
type mortals struct {
	*machine
	repo string
	turn int // commits
}

func mortalMachine(t *testing.T) *mortals {
	t.Helper()
	path, err := mortal()
	if err != nil {
		t.Fatal(err)
	}
	m := &mortals{machine: machineIn(t, folder(t))}
	m.bin.lotse = path
	m.serve()
	m.repo = m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 1, "watch: 300ms, stable: 300ms, warm: 200ms, drain: 5s"), "release.txt": "0\n"})
	m.must(m.repo, "deploy")
	return m
}

// armed starts the controller with a moment to die at, and deploys; a controller that is dead by then has no answer.
func (m *mortals) armed(env ...string) {
	m.t.Helper()
	m.turn++
	m.commit(m.repo, map[string]string{"release.txt": fmt.Sprintln(m.turn)})
	before := m.env
	m.env = append(slices.Clip(m.env), env...)
	defer func() { m.env = before }()
	if !m.servesOrDies() {
		return
	}
	_ = m.lotse(m.repo, "deploy", "--detach")
}

// undisturbed deploys once and returns the moments of it, until nothing more is written.
func (m *mortals) undisturbed() []string {
	m.t.Helper()
	told := filepath.Join(m.work, "moments")
	m.stopController()
	m.armed("LOTSE_MOMENTS=" + told)
	m.settles()
	m.stopController()
	raw, err := os.ReadFile(told)
	if err != nil {
		m.t.Fatal(err)
	}
	m.serve()
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

// dies lets the controller die there, starts another, and looks at what has become of it.
func (m *mortals) dies(at, name string) {
	m.t.Helper()
	m.stopController()
	m.armed("LOTSE_DIE_AT=" + at)
	select {
	case <-m.ended:
	case <-time.After(30 * time.Second):
		m.t.Logf("the moment %s (%s) did not come: what is repeated came less often", at, name)
		m.killController()
	}
	m.serve()
	m.settles()
	if m.t.Failed() {
		m.t.Fatalf("killed %s (%s)", at, name)
	}
	m.t.Logf("killed %s (%s)", at, name)
}

// settles waits until the last rollout has ended well and exactly one of everything is left.
func (m *mortals) settles() {
	m.t.Helper()
	var last deploy.Rollout
	m.await("the last rollout has ended", time.Minute, func() bool {
		all, err := m.api.History(m.t.Context(), "", "", 1)
		if err != nil || len(all) == 0 {
			return false
		}
		last = all[0]
		return last.Outcome.Ended()
	})
	if last.Outcome != deploy.Settled {
		m.t.Errorf("rollout %s ended as %q: %+v", last.ID, last.Outcome, last.Turned)
	}
	m.awaitCensus(whole(last.ID + ".web.0"))
	m.must(m.repo, "ledger", "verify")
	m.await("no lease is left", 20*time.Second, func() bool { return m.leases() == 0 })
}

// leases counts what the ledger's own file says.
func (m *mortals) leases() (n int) {
	m.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(m.state, "ledger.db"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("select count(*) from leases where owner <> ''").Scan(&n); err != nil {
		m.t.Fatal(err)
	}
	return n
}

// servesOrDies starts the controller and reports whether it came to answer.
func (m *mortals) servesOrDies() bool {
	m.t.Helper()
	m.start()
	answers := false
	m.await("the controller answers or is dead", time.Minute, func() bool {
		select {
		case <-m.ended:
			return true
		default:
		}
		answers = m.answers()
		return answers
	})
	return answers
}
