package e2e_test

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A release that cannot serve never gets a request. The one before goes on, the command says why, and nothing is left.
func TestBadReleases(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.appFile("bin/app good", 2, quick), "release.txt": "good\n"})
	m.must(repo, "deploy")
	good := m.instances()
	all, folders := whole(good...), m.folders()
	for _, bad := range []struct {
		name, command string
		says          []string // the cause, and the tail of the output
	}{
		{"fails its health check", "bin/app unhealthy", []string{"/health with 500", "the database is away", "app listens"}},
		{"crashes at start", "bin/app crash", []string{"exit code 3", "cannot find the module that it needs"}},
		{"hangs", "bin/app hang", []string{"gave no answer", "within 2s", "app starts in mode hang"}},
		{"listens on the wrong port", "bin/app wrongport", []string{"did not listen on its PORT", "it listens on", "app listens"}},
		{"needs a missing program", "no-such-program --serve", []string{"exit code 12", "exec: no-such-program: "}}, // 127, or 126 where a folder of PATH is closed to the user
	} {
		t.Run(bad.name, func(t *testing.T) {
			m.t = t
			h := m.loaded(m.everyKind())
			m.commit(repo, map[string]string{"lotse.yaml": m.appFile(bad.command, 2, quick, "start: 2s"), "release.txt": bad.name})
			r := m.lotse(repo, "deploy")
			said := r.out + r.err
			if r.code != 1 {
				t.Errorf("exit code %d, want 1", r.code)
			}
			for _, want := range append(bad.says, "still serves") {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in what the command said", want)
				}
			}
			if t.Failed() {
				t.Logf("it said:\n%s", said)
			}
			m.more(h, 50)
			report := h.Stop()
			t.Log(report.Summary())
			none(t, report)
			if len(report.Served) != 1 {
				t.Errorf("the bad release has served: %v", report.Served)
			}
			m.awaitCensus(all)
			m.await("the folders are as before", 10*time.Second, func() bool { return slices.Equal(m.folders(), folders) })
		})
	}
	m.t = t
}

// folders is what the engine has on disk for the stage, without what lies inside of releases, homes and keepers' folders, and
// without locks, which stay.
func (m *machine) folders() []string {
	all := map[string]bool{}
	root := filepath.Join(m.state, "local")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		depth := strings.Count(rel, "/")
		switch {
		case err != nil:
			return nil //nolint:nilerr // gone while we look
		case d.IsDir() && (depth >= 3 || d.Name() == "locks"):
			all[rel] = true
			return filepath.SkipDir
		}
		all[rel] = true
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(all))
}
