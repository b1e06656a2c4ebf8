package vault_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/vault"
)

func TestSettingsOfAStage(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	s, err := vault.OpenSettings(key)
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

	again, err := vault.OpenSettings(key)
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
	elsewhere, err := vault.OpenSettings(filepath.Join(dir, "another key"))
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
	s, err := vault.OpenSettings(filepath.Join(dir, "key"))
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
	if _, err := vault.OpenSettings(key); !errors.Is(err, deploy.ErrDamaged) || deploy.HintOf(err) == "" {
		t.Errorf("got %v with hint %q, want damaged with a hint", err, deploy.HintOf(err))
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
