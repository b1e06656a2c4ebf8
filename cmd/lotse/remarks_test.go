package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// A file with variables that is not there is named once, with the stages that want it.
func TestRemarks(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env.prod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := []byte(`app: shop
services: { site: { static: dist } }
stages:
  dev: { url: https://dev.shop.localhost, env_file: .env }
  staging: { url: https://staging.shop.localhost, env_file: .env }
  prod: { url: https://shop.localhost, env_file: .env.prod }
`)
	want := []string{"env_file of dev, staging: there is no file .env beside lotse.yaml; a deploy from this folder needs it"}
	if got := remarks(dir, file); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := remarks(dir, []byte("app: [")); len(got) != 0 {
		t.Errorf("of a file with mistakes: %q", got)
	}
}

// Where migrations could not be judged, check says so.
func TestUnjudgeable(t *testing.T) {
	app := deploy.App{Stages: []deploy.Stage{{Name: "dev"}, {Name: "prod", Database: deploy.Database{URL: "DATABASE_URL", Migrate: "npx tool"}}, {Name: "old", Database: deploy.Database{Postgres: 15, Migrations: "db"}}}}
	none := func() (postgres.Binaries, error) { return postgres.Binaries{}, postgres.ErrNotInstalled }
	if got := unjudgeable(app, none); len(got) != 1 || !strings.HasPrefix(got[0], "migrations of prod, old: no PostgreSQL is installed here") {
		t.Errorf("%q", got)
	}
	some := func() (postgres.Binaries, error) { return postgres.Binaries{Major: 15}, nil }
	if got := append(unjudgeable(app, some), unjudgeable(deploy.App{Stages: app.Stages[:1]}, none)...); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
