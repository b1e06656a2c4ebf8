package demo_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotse-eu/lotse/internal/demo"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// A folder that the demo did not make is neither used nor removed.
func TestOthersFoldersStay(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "thesis.tex")
	if err := os.WriteFile(theirs, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := demo.Run(t.Context(), demo.Parts{Dir: dir, Say: func(string) {}}); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
		t.Errorf("Run in somebody's folder is %v", err)
	}
	if err := demo.Remove(dir); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("Remove of somebody's folder is %v", err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
	if err := demo.Remove(filepath.Join(dir, "never was")); err != nil {
		t.Errorf("Remove of nothing is %v", err)
	}
}

// What the demo made goes, also folders that nobody may write to, as in Go's module cache.
func TestRemove(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("NOT RUN as root: that an ordinary user can remove folders that may not be written")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	failed := errors.New("no controller today")
	err := demo.Run(t.Context(), demo.Parts{Dir: dir, Example: filepath.Join("..", "..", "examples", "whatsgonow"), Say: func(string) {},
		Serve: func(context.Context) (demo.Controller, error) { return nil, failed }})
	if !errors.Is(err, failed) || !demo.Made(dir) {
		t.Fatalf("Run is %v", err)
	}
	locked := filepath.Join(dir, "mod", "cache")
	if err := os.MkdirAll(locked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(locked, "go.mod"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := demo.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
