package infra

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shapes are the apps that the golden files show, one for each thing that can be otherwise.
var shapes = map[string]string{
	// The example app, on AWS by one line for each stage and what it owns there.
	"mixed": `
app: whatsgonow
services:
  site: { static: web/dist, fallback: index.html }
  api:  { command: bin/api, path: /api, health: /api/health, instances: 2, volumes: { uploads: data/uploads } }
volumes: { uploads: {} }
database: { postgres: 15, migrations: db/migrations }
aws: { zone: whatsgonow.com, repository: whatsgonow/app, budget: 150 }
stages:
  dev:     { url: https://dev.whatsgonow.com, engine: aws, on: push main }
  staging: { url: https://staging.whatsgonow.com, engine: aws }
  prod:    { url: https://www.whatsgonow.com, engine: aws, redirects: [https://whatsgonow.com] }
`,
	"static": `
app: shop
services:
  docs: { static: docs, path: /docs }
  site: { static: dist, fallback: index.html }
aws: { zone: shop.eu, repository: shop/site, budget: 20 }
stages:
  pre-prod: { url: https://pre.shop.eu, engine: aws, access: open }
  prod:     { url: https://shop.eu, engine: aws, redirects: [https://www.shop.eu] }
`,
	"supabase": `
app: matching
services: { api: { command: node server.js, path: / } }
secrets: [SUPABASE_URL, SUPABASE_ANON_KEY]
database: { url: SUPABASE_DB_URL, migrations: supabase/migrations }
aws: { zone: matching.eu }
stages:
  dev:  { url: https://dev.matching.eu, engine: local }
  prod: { url: https://matching.eu, engine: aws }
`,
	"own-balancer": `
app: rides
services: { api: { command: bin/rides, path: / } }
database: { postgres: 16 }
aws: { zone: rides.eu, balancer: own, region: eu-west-3 }
stages:
  prod: { url: https://www.rides.eu, engine: aws, redirects: [https://rides.eu] }
`,
	"no-zone": `
app: parcels
services: { api: { command: bin/parcels, path: / } }
stages:
  prod: { url: https://www.parcels.eu, engine: aws, redirects: [https://parcels.eu] }
`,
	"static-no-zone": `
app: leaflet
services: { site: { static: public } }
stages: { prod: { url: https://leaflet.eu, engine: aws } }
`,
}

func shape(t *testing.T, name string) deploy.App {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(shapes[name]))
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// write puts files into a new folder and returns it.
func write(t *testing.T, files []File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		at := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(f.Content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
