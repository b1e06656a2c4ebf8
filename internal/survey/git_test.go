package survey

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=A", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false"}, args...)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// Git is asked what it knows of the folder, also of one in a repository, and nothing that its configuration names is run.
func TestAskGit(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(t.TempDir()))
	dir := filepath.Join(t.TempDir(), "repo")
	ran := filepath.Join(t.TempDir(), "ran")
	for name, text := range map[string]string{".env": "A=1", "web/.env": "B=1", "web/.env.production": "C=1", "web/x.env": "", ".gitignore": "/.env\n", "spy": "#!/bin/sh\ntouch " + ran + "\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if g := AskGit(t.Context(), dir); g.Repository || g.Commit {
		t.Errorf("without a repository: %+v", g)
	}
	git(t, dir, "init", "-q")
	if g := AskGit(t.Context(), dir); !g.Repository || g.Commit || !g.Ignored[".env"] {
		t.Errorf("without a commit: %+v", g)
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "a")
	git(t, dir, "config", "core.fsmonitor", filepath.Join(dir, "spy"))
	if g := AskGit(t.Context(), dir); !g.Commit || !g.Tracked["web/.env"] || !g.Tracked["web/.env.production"] || g.Tracked[".env"] || len(g.Tracked) != 2 {
		t.Errorf("with a commit: %+v", g)
	}
	if g := AskGit(t.Context(), filepath.Join(dir, "web")); !g.Commit || !g.Tracked[".env"] || g.Ignored[".env"] {
		t.Errorf("below the repository: %+v", g)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program was run that the repository names")
	}
}
