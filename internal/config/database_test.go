package config_test

import (
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
)

// A folder and a command of migrations are told apart, at their place.
func TestMigrateOrMigrations(t *testing.T) {
	const file = `app: shop
services: { site: { static: dist, path: / } }
database:
  postgres: 15
  migrations: db
  migrate: npx tool up
stages:
  dev: { url: https://dev.shop.localhost }
  prod: { url: https://shop.localhost }
`
	_, err := config.Read("lotse.yaml", []byte(file))
	if err == nil || !strings.Contains(err.Error(), "lotse.yaml:6:12: database.migrate must not be there together with migrations") {
		t.Errorf("both: %v", err)
	}
	app, err := config.Read("lotse.yaml", []byte(strings.Replace(file, "migrations: db", "history: notes", 1)))
	if err != nil || app.Stages[0].Database.Migrate != "npx tool up" || app.Stages[0].Database.History != "notes" {
		t.Errorf("one: %+v, %v", app.Stages, err)
	}
}
