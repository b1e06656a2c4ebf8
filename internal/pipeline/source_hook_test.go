package pipeline_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
)

// A push to a bare repository and a commit in a work tree run the command, which git does not wait for; taking the hooks away leaves
// nothing.
func TestHooks(t *testing.T) {
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop"})
	origin := r.bare()
	mark := filepath.Join(shared(t), "it's called")
	script := filepath.Join(filepath.Dir(mark), "tell")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$2\" >> \"$1\"\nexec sleep 20\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	told := func(repo string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			if text, _ := os.ReadFile(mark); strings.HasSuffix(string(text), repo+"\n") {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("nobody was told")
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polling a condition with a deadline
		}
	}
	install := func(dir string, want ...string) {
		t.Helper()
		for range 2 { // twice is fine
			got, err := pipeline.InstallHook(t.Context(), dir, []string{script, mark})
			if err != nil || len(got) != len(want) || filepath.Base(got[0]) != want[0] {
				t.Fatalf("installed %v, %v", got, err)
			}
		}
	}
	install(origin, "post-receive")
	install(r.dir, "post-commit", "post-merge")
	begun := time.Now()
	r.commit(map[string]string{"a": "b"})
	told(filepath.Join(r.dir, ".git"))
	r.git("push", "-q", "origin", "main")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("git waited for the hook: %s", took)
	}
	told(origin)
	for dir, want := range map[string]int{origin: 1, r.dir: 2} {
		if got, err := pipeline.RemoveHook(t.Context(), dir); err != nil || len(got) != want {
			t.Errorf("removed %v, %v", got, err)
		}
		if got, err := pipeline.RemoveHook(t.Context(), dir); err != nil || len(got) != 0 {
			t.Errorf("removed a second time %v, %v", got, err)
		}
	}
}

// What somebody else wrote is not touched, and neither is anything beside it.
func TestHooksOfOthers(t *testing.T) {
	r := newRepository(t)
	merge := filepath.Join(r.dir, ".git", "hooks", "post-merge")
	if err := os.MkdirAll(filepath.Dir(merge), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(merge, []byte("#!/bin/sh\nmake ctags\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := pipeline.InstallHook(t.Context(), r.dir, []string{"lotse", "pushed"})
	if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(deploy.HintOf(err), "'lotse' 'pushed' '"+r.dir+"/.git' </dev/null >/dev/null 2>&1 &") {
		t.Errorf("another's hook is %v (%s)", err, deploy.HintOf(err))
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(merge), "post-commit")); err == nil {
		t.Error("half of the hooks were written")
	}
	if got, err := pipeline.RemoveHook(t.Context(), r.dir); err != nil || len(got) != 0 {
		t.Errorf("removed %v, %v", got, err)
	}
	if text, _ := os.ReadFile(merge); string(text) != "#!/bin/sh\nmake ctags\n" {
		t.Errorf("the hook is now %q", text)
	}
	r.git("config", "core.hooksPath", ".husky")
	if _, err := pipeline.InstallHook(t.Context(), r.dir, []string{"lotse", "pushed"}); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), ".husky") {
		t.Errorf("hooks elsewhere are %v", err)
	}
	if _, err := pipeline.InstallHook(t.Context(), t.TempDir(), []string{"lotse"}); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("no repository is %v", err)
	}
}
