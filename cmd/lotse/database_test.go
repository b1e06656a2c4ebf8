package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What is not meant is refused before anything is touched.
func TestDropDatabaseRefusals(t *testing.T) {
	p := place(t.TempDir())
	there := p.at("local", "shop", "dev", "postgres")
	if err := os.MkdirAll(there, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		app, stage string
		want       error
	}{{"shop", "prod", deploy.ErrNotFound}, {"..", "dev", deploy.ErrBadInput}, {"shop/dev", "x", deploy.ErrBadInput}, {"shop", "", deploy.ErrBadInput}} {
		if err := dropDatabase(t.Context(), string(p), c.app, c.stage); !errors.Is(err, c.want) {
			t.Errorf("%s/%s: %v, want %v", c.app, c.stage, err, c.want)
		}
	}
	unlock, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := dropDatabase(t.Context(), string(p), "shop", "dev"); !errors.Is(err, deploy.ErrBusy) || deploy.HintOf(err) != "lotse down" {
		t.Errorf("beside a controller: %v", err)
	}
	if _, err := os.Stat(filepath.Clean(there)); err != nil {
		t.Error(err)
	}
}
