package vault_test

import (
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/vault"
)

func TestSettingsOfAStage(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	s, err := vault.Open(filepath.Join(dir, "vault"), key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, ".env"), "B=from the file\nC=only there\n")
	stage := deploy.Stage{Name: "dev", Env: map[string]string{"A": "plain", "B": "plain"}, EnvFile: ".env"}
	got, err := s.Of(t.Context(), dir, "shop", stage)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, v := range got.Values {
		text += v.Name + "=" + v.Value.Reveal() + ";"
	}
	if want := "A=plain;B=from the file;C=only there;"; text != want {
		t.Errorf("got %s, want %s", text, want)
	}

	again, err := vault.Open(filepath.Join(dir, "vault"), key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	same, err := again.Of(t.Context(), dir, "shop", stage)
	if err != nil || same.Version != got.Version || got.Version == "" {
		t.Errorf("after a restart the version is %q, %v, want %q", same.Version, err, got.Version)
	}
	put(t, filepath.Join(dir, ".env"), "B=from the file\nC=another\n")
	if other, err := again.Of(t.Context(), dir, "shop", stage); err != nil || other.Version == got.Version {
		t.Errorf("with another value the version is %q, %v", other.Version, err)
	}
	elsewhere, err := vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "another key"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, ".env"), "B=from the file\nC=only there\n")
	if other, err := elsewhere.Of(t.Context(), dir, "shop", stage); err != nil || other.Version == got.Version {
		t.Errorf("under another key the version is %q, %v: it can be computed", other.Version, err)
	}
}

func TestSettingsWithoutTheirFile(t *testing.T) {
	dir := t.TempDir()
	s, err := vault.Open(filepath.Join(dir, "vault"), filepath.Join(dir, "key"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Of(t.Context(), dir, "shop", deploy.Stage{EnvFile: ".env"}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestDamagedKey(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	put(t, key, "short")
	if _, err := vault.Open(t.TempDir(), key, time.Now); !errors.Is(err, deploy.ErrDamaged) || deploy.HintOf(err) == "" {
		t.Errorf("got %v with hint %q, want damaged with a hint", err, deploy.HintOf(err))
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Later wins: lotse.yaml, the env_file, env that was set, secrets that were set. Every change of a value is another version, and what was set
// as a secret is named.
func TestSettingsAreMerged(t *testing.T) {
	dir := t.TempDir()
	v := opened(t, dir)
	put(t, filepath.Join(dir, ".env"), "B=file\nC=file\nD=file\n")
	stage := deploy.Stage{Name: "dev", Env: map[string]string{"A": "yaml", "B": "yaml", "C": "yaml", "D": "yaml"}, EnvFile: ".env"}
	seen := map[string]bool{}
	of := func() deploy.Settings {
		s, err := v.Of(t.Context(), dir, "shop", stage)
		if err != nil {
			t.Fatal(err)
		}
		if seen[s.Version] {
			t.Errorf("%v has the version of other values", revealed(s.Values))
		}
		seen[s.Version] = true
		return s
	}
	of()
	set(t, v, dev, deploy.PlainVariable, "C", "env")
	of()
	set(t, v, dev, deploy.PlainVariable, "E", "env")
	of()
	set(t, v, dev, deploy.SecretVariable, "D", hunter)
	s := of()
	if diff := cmp.Diff([]string{"A=yaml", "B=file", "C=env", "D=" + hunter, "E=env"}, revealed(s.Values)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"D"}, s.Secrets); diff != "" {
		t.Error(diff)
	}
	set(t, v, dev, deploy.SecretVariable, "D", "changed")
	of()
	if err := v.Remove(t.Context(), dev, deploy.PlainVariable, []string{"E"}, nil); err != nil {
		t.Fatal(err)
	}
	of()
	set(t, v, prod, deploy.SecretVariable, "D", "of another stage")
	before := len(seen)
	seen = map[string]bool{}
	if of(); len(seen) != 1 || before != 6 {
		t.Errorf("%d versions", before)
	}
}

// What was set is hidden in what a program says, whole, in base64, and in pieces: what goes into its environment goes into the mask.
func TestSettingsAreMasked(t *testing.T) {
	v := opened(t, t.TempDir())
	set(t, v, dev, deploy.SecretVariable, "STRIPE_KEY", hunter)
	set(t, v, dev, deploy.PlainVariable, "LOG", "hunter-in-plain")
	s, err := v.Of(t.Context(), t.TempDir(), "shop", deploy.Stage{Name: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	spec := process.Spec{Name: "masked", Command: []string{"sh", "-c", `echo "key $STRIPE_KEY"; printf %s "$STRIPE_KEY" | base64; echo "$LOG" >&2; echo done`},
		Dir: t.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")}}
	for _, one := range s.Values {
		spec.Env, spec.Mask = append(spec.Env, one.Name+"="+one.Value.Reveal()), append(spec.Mask, one.Value)
	}
	var said []string
	exit, err := process.Run(t.Context(), spec, func(line string) { said = append(said, line) })
	if err != nil || !exit.OK() || len(said) != 4 {
		t.Fatalf("%v, %v: %q", exit, err, said)
	}
	text := strings.Join(said, "\n")
	if strings.Contains(text, "hunter") || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(hunter))[:12]) || !strings.Contains(text, "key •••") {
		t.Errorf("%q", said)
	}
}

// A .env that git has is refused, wherever in the repository it lies and whatever leads to it; one that git does not have is not. Nothing that
// the repository names is run.
func TestTrackedEnvFile(t *testing.T) {
	repo, elsewhere := t.TempDir(), t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	git("init", "-q")
	for _, name := range []string{".env", "web/.env", "free.env", "*.env"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(repo, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(repo, name), "A=hunter\n")
	}
	git("add", ".env", "web/.env")
	put(t, filepath.Join(elsewhere, "far.env"), "A=hunter\n")
	for from, to := range map[string]string{"link.env": ".env", "far.env": filepath.Join(elsewhere, "far.env")} {
		if err := os.Symlink(to, filepath.Join(repo, from)); err != nil {
			t.Fatal(err)
		}
	}
	monitor := filepath.Join(elsewhere, "monitor")
	if err := os.WriteFile(monitor, []byte("#!/bin/sh\ntouch "+monitor+".ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("config", "core.fsmonitor", monitor)
	t.Setenv("GIT_DIR", elsewhere)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(elsewhere, "index"))

	v := opened(t, elsewhere)
	for file, tracked := range map[string]bool{".env": true, "web/.env": true, "web/../.env": true, "link.env": true, filepath.Join(repo, ".env"): true,
		"free.env": false, "*.env": false, "far.env": false, filepath.Join(elsewhere, "far.env"): false} {
		_, err := v.Of(t.Context(), repo, "shop", deploy.Stage{Name: "dev", EnvFile: file})
		if !tracked {
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "a tracked .env") || !strings.Contains(deploy.HintOf(err), "git rm --cached .env") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v, hint %q", file, err, deploy.HintOf(err))
		}
	}
	if _, err := os.Stat(monitor + ".ran"); err == nil {
		t.Error("what the repository names as a monitor was run")
	}
	if _, err := v.Of(t.Context(), repo, "shop", deploy.Stage{Name: "dev", EnvFile: "none"}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	put(t, filepath.Join(repo, ".git", "index"), "rubbish")
	if _, err := v.Of(t.Context(), repo, "shop", deploy.Stage{Name: "dev", EnvFile: "free.env"}); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("git cannot say, and it is taken for a no: %v", err)
	}
}
