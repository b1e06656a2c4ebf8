package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A tag that is pushed carries the release of its commit on, the same digest, once and after a restart too. A tag that is moved is said.
func TestTag(t *testing.T) {
	provesOnly(t, "a tag that starts a promotion on real processes; internal/deploy and internal/pipeline show it in memory, and with real git")
	t.Parallel()
	m := newMachine(t)
	file := m.appFile("bin/app good", 1, quick) + "  prod: { url: https://prod.e2e.localhost, access: open, on: tag v*, " + quick + " }\n"
	repo := m.repository(map[string]string{"lotse.yaml": file, "release.txt": "first\n"})
	origin := filepath.Join(m.work, "origin.git")
	m.git(m.work, "init", "-q", "--bare", "-b", "main", origin)
	m.git(repo, "remote", "add", "origin", origin)
	m.git(repo, "tag", "v0.9")
	m.git(repo, "push", "-q", "-u", "origin", "main", "v0.9")
	m.must(repo, "deploy")
	m.await("the tags are watched", 30*time.Second, func() bool { s := m.lane("prod"); return s.Tags != nil && !s.Tags.Looked.IsZero() })
	m.must(origin, "hook", "install")

	m.git(repo, "-c", "user.name=E2E", "-c", "user.email=e2e@example.org", "tag", "-a", "-m", "one", "v1.0")
	begun := time.Now()
	m.git(repo, "push", "-q", "origin", "v1.0")
	m.await("the tag is served", time.Minute, func() bool { s := m.lane("prod"); return s.Serves != nil && s.OnItsWay == nil })
	t.Logf("the tag is served and settled after %s", time.Since(begun).Round(100*time.Millisecond))
	dev, prod := m.lane("dev").Serves, m.lane("prod").Serves
	if prod.Release != dev.Release || prod.Commit != m.headOf(repo) {
		t.Errorf("dev serves %+v, prod %+v", dev, prod)
	}
	if page := m.must(repo, "rollout", "show", prod.Rollout); !strings.Contains(page, "(tag v1.0)") || !strings.Contains(page, "v1.0 names commit "+prod.Commit[:8]) {
		t.Errorf("the rollout is shown as\n%s", page)
	}

	m.commit(repo, map[string]string{"release.txt": "second\n"})
	m.git(repo, "tag", "-f", "v1.0")
	m.git(repo, "push", "-q", "--force", "origin", "main", "v1.0")
	m.await("status says that it was moved", 30*time.Second, func() bool {
		return strings.Contains(m.must(repo, "status"), "the tag v1.0: it was moved from commit")
	})
	m.must(repo, "deploy")
	m.stopController()
	m.git(repo, "tag", "v1.1")
	m.git(repo, "push", "-q", "origin", "v1.1")
	m.serve()
	m.await("the tag of the time without a controller is served", time.Minute, func() bool {
		s := m.lane("prod")
		return s.Serves != nil && s.OnItsWay == nil && s.Serves.Commit == m.headOf(repo)
	})
	if page := m.must(repo, "history", "--stage", "prod"); strings.Count(page, "(tag v1.0)") != 1 || strings.Count(page, "(tag v1.1)") != 1 {
		t.Errorf("history says\n%s", page)
	}
	if page := m.must(repo, "status"); !strings.Contains(page, "e2e/prod: a tag v* in "+origin+" starts a rollout") {
		t.Errorf("status says\n%s", page)
	}
}

// lane is what status says of a stage.
func (m *machine) lane(stage string) deploy.StageStatus {
	m.t.Helper()
	all, err := m.api.Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range all {
		if s.Stage.Stage == stage {
			return s
		}
	}
	m.t.Fatalf("there is no stage %s", stage)
	return deploy.StageStatus{}
}
