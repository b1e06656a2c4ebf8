package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A push to a bare repository next door reaches dev by itself, and so do the pushes of the time in which no controller ran: the newest of
// them, once. `git push` never waits for Lotse.
func TestPush(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 1, quick+", on: push main"), "release.txt": "first\n"})
	origin := filepath.Join(m.work, "origin.git")
	m.git(m.work, "init", "-q", "--bare", "-b", "main", origin)
	m.git(repo, "remote", "add", "origin", origin)
	m.git(repo, "push", "-q", "-u", "origin", "main")
	m.must(repo, "deploy")
	m.await("the origin is watched", 30*time.Second, func() bool { return m.watched().Head == m.headOf(repo) })
	if got := len(m.pushedRollouts()); got != 0 {
		t.Fatalf("%d rollouts of what was there already", got)
	}
	t.Logf("the controller, which watches, takes %s of processor time in 10 s", m.costOf(10*time.Second))

	begun := time.Now()
	m.pushed(repo, "second\n")
	m.served(repo)
	t.Logf("without a hook the push is served and settled after %s", time.Since(begun).Round(100*time.Millisecond))

	m.must(origin, "hook", "install")
	begun = time.Now()
	m.pushed(repo, "third\n")
	took := time.Since(begun)
	m.await("the push has begun a rollout", 20*time.Second, func() bool { return m.rolloutsFor(repo) == 1 })
	t.Logf("with a hook the push took %s, and its rollout began %s after", took.Round(time.Millisecond), (time.Since(begun) - took).Round(time.Millisecond))
	m.served(repo)

	m.stopController()
	m.pushed(repo, "fourth\n")
	between := m.headOf(repo)
	m.pushed(repo, "fifth\n")
	m.serve()
	m.served(repo)
	if all := m.pushedRollouts(); len(all) != 3 || all[0].Commit == between {
		t.Errorf("three rollouts were to be begun by pushes, there are %d", len(all))
	}
	if page := m.must(repo, "status"); !strings.Contains(page, "a push to main of "+origin+" starts a deploy") {
		t.Errorf("status says\n%s", page)
	}
	if page := m.must(repo, "history"); strings.Count(page, "(push)") != 3 {
		t.Errorf("history says\n%s", page)
	}
	m.must(origin, "hook", "remove")
	m.forced(repo)
	m.vanishes(repo, origin)
}

// forced pushes another history. Its newest commit is taken like any other.
func (m *machine) forced(repo string) {
	m.t.Helper()
	m.git(repo, "reset", "-q", "--hard", "HEAD~2")
	m.commit(repo, map[string]string{"release.txt": "another fourth\n"})
	m.git(repo, "push", "-q", "--force", "origin", "main")
	m.served(repo)
}

// vanishes takes the repository away for a while. What is served stays, status says what is wrong, and a push after its return is seen.
func (m *machine) vanishes(repo, origin string) {
	m.t.Helper()
	before := len(m.pushedRollouts())
	if err := os.Rename(origin, origin+".away"); err != nil {
		m.t.Fatal(err)
	}
	m.await("status says that the repository is away", 30*time.Second, func() bool { return m.watched().Trouble != "" })
	if said := m.must(repo, "status"); !strings.Contains(said, "next in ") {
		m.t.Errorf("status says\n%s", said)
	}
	if err := os.Rename(origin+".away", origin); err != nil {
		m.t.Fatal(err)
	}
	m.pushed(repo, "after its return\n")
	m.served(repo)
	if now := len(m.pushedRollouts()); now != before+1 {
		m.t.Errorf("%d rollouts were begun meanwhile, want one", now-before)
	}
}

func (m *machine) pushed(repo, text string) {
	m.t.Helper()
	m.commit(repo, map[string]string{"release.txt": text})
	m.git(repo, "push", "-q", "origin", "main")
}

func (m *machine) headOf(repo string) string {
	m.t.Helper()
	out, err := exec.Command("git", "-C", repo, "rev-parse", "HEAD").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func (m *machine) watched() deploy.Watching {
	m.t.Helper()
	all, err := m.api.Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if len(all) == 0 || all[0].Watches == nil {
		return deploy.Watching{}
	}
	return *all[0].Watches
}

func (m *machine) pushedRollouts() (of []deploy.Rollout) {
	m.t.Helper()
	all, err := m.api.History(m.t.Context(), "", "", 0)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range all {
		if r.Trigger == deploy.ByPush {
			of = append(of, r)
		}
	}
	return of
}

// rolloutsFor counts the rollouts that a push of the repository's newest commit has begun.
func (m *machine) rolloutsFor(repo string) int {
	n, head := 0, m.headOf(repo)
	for _, r := range m.pushedRollouts() {
		if r.Commit == head {
			n++
		}
	}
	return n
}

// served waits until the stage serves the repository's newest commit and nothing is on its way.
func (m *machine) served(repo string) {
	m.t.Helper()
	head := m.headOf(repo)
	m.await("the push is served", time.Minute, func() bool {
		all, err := m.api.Status(m.t.Context())
		return err == nil && len(all) == 1 && all[0].Serves != nil && all[0].Serves.Commit == head && all[0].OnItsWay == nil
	})
	if n := m.rolloutsFor(repo); n != 1 {
		m.t.Errorf("%d rollouts carry it", n)
	}
}

// costOf is the processor time that the controller and what it has waited for take in a while.
func (m *machine) costOf(d time.Duration) time.Duration {
	m.t.Helper()
	before := m.cpu()
	<-time.After(d)
	return m.cpu() - before
}

// cpu reads utime, stime, cutime and cstime of proc_pid_stat(5), in ticks of 10 ms.
func (m *machine) cpu() time.Duration {
	m.t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.controller.Process.Pid), "stat"))
	if err != nil {
		m.t.Fatal(err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+2:]))
	ticks := 0
	for _, f := range fields[11:15] {
		n, err := strconv.Atoi(f)
		if err != nil {
			m.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
