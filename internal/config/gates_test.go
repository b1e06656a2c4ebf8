package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

const gated = `app: shop
services: { web: { command: bin/web, path: / } }
gates:
  smoke:
    health: { get: /api/health, contains: ok }
    order:  { run: node smoke.js, timeout: 2m }
  page_load: off
stages:
  dev:  { url: https://dev.shop.localhost }
  prod:
    url: https://shop.localhost
    gates:
      page_load: 1.5s
  show:
    url: https://show.localhost
    gates:
      smoke: { gone: { get: /old, status: 410 } }
      page_load: { limit: 2s, pages: [/, "/login?from=start"], network: slow 4g, cpu: 4x }
`

// What a stage says takes the place of what the app says, part by part, and defaults are filled in at both places.
func TestGates(t *testing.T) {
	app, err := config.Read("lotse.yaml", []byte(gated))
	if err != nil {
		t.Fatal(err)
	}
	smoke := []deploy.Expectation{{Name: "health", Get: "/api/health", Contains: "ok", Timeout: 30 * time.Second}, {Name: "order", Run: "node smoke.js", Timeout: 2 * time.Minute}}
	for i, want := range []deploy.Gates{
		{Smoke: smoke, PageLoad: deploy.PageLoad{Off: true}},
		{Smoke: smoke, PageLoad: deploy.PageLoad{Limit: 1500 * time.Millisecond}},
		{Smoke: []deploy.Expectation{{Name: "gone", Get: "/old", Status: 410, Timeout: 30 * time.Second}},
			PageLoad: deploy.PageLoad{Limit: 2 * time.Second, Pages: []string{"/", "/login?from=start"}, Network: "slow 4g", CPU: 4}},
	} {
		if diff := cmp.Diff(want, app.Stages[i].Gates); diff != "" {
			t.Errorf("%s: %s", app.Stages[i].Name, diff)
		}
	}
	s, _ := compiled(t)
	if err := s.Validate(asEditorsSeeIt(t, []byte(gated))); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}

// Every mistake has its place and a sentence, once, also where several stages have the app's gates.
func TestGatesWithMistakes(t *testing.T) {
	for _, c := range []struct{ old, new, place, want string }{
		{"get: /api/health", "got: /api/health", "5:", `did you mean "get"?`},
		{"get: /api/health", "get: api/health", "5:20", `gates.smoke.health.get must begin with "/"`},
		{"get: /api/health", `get: "/a b"`, "5:20", "gates.smoke.health.get must be the path of a URL"},
		{"get: /api/health", `get: "/a#b"`, "5:20", "must end before the #"},
		{"get: /api/health", `get: "//elsewhere"`, "5:20", "must be the path of a URL"},
		{"get: /api/health, contains: ok", "timeout: 1s", "5:5", "gates.smoke.health must have either get or run"},
		{"get: /api/health", "get: /x, run: y", "5:5", "gates.smoke.health must have either get or run, not both"},
		{"run: node smoke.js", "run: x, status: 200", "6:31", "gates.smoke.order.status is only for a smoke test with get"},
		{"run: node smoke.js", "run: ''", "6:5", "gates.smoke.order must have either get or run"},
		{"run: node smoke.js", "run: ' '", "6:20", "gates.smoke.order.run is missing"},
		{"timeout: 2m", "timeout: 0s", "6:44", "gates.smoke.order.timeout must be between 100ms and 1h"},
		{"status: 410", "status: 99", "17:43", "stages.show.gates.smoke.gone.status must be between 200 and 599"},
		{"gone:", "Gone:", "17:16", "must be named with"},
		{"page_load: off", "page_load: soon", "7:14", "gates.page_load must be a duration, or off"},
		{"page_load: off", "page_load: 1", "7:14", "gates.page_load must be a duration with its unit, or off"},
		{"page_load: 1.5s", "page_load: 50ms", "13:18", "stages.prod.gates.page_load must be between 100ms and 1m"},
		{"limit: 2s", "limit: 2h", "18:7", "stages.show.gates.page_load must be between 100ms and 1m"},
		{"limit: 2s", "limt: 2s", "18:20", `did you mean "limit"?`},
		{"pages: [/,", "pages: [login,", "18:39", `stages.show.gates.page_load.pages[0] must begin with "/"`},
		{"[/, \"/login?from=start\"]", "[/, /]", "18:42", "stages.show.gates.page_load.pages[1] is there twice"},
		{"[/, \"/login?from=start\"]", "[/1, /2, /3, /4, /5, /6, /7, /8, /9, /10, /11]", "18:31", "must not be more than 10"},
		{"slow 4g", "5g", "", "stages.show.gates.page_load.network is not a network that Lotse knows"},
		{"cpu: 4x", "cpu: 4", "", "stages.show.gates.page_load.cpu must be a number and x"},
		{"cpu: 4x", "cpu: 40x", "", "stages.show.gates.page_load.cpu must be between 1x and 20x"},
		{"smoke: { gone: { get: /old, status: 410 } }", "smoke: [gone]", "17:14", "stages.show.gates.smoke must be a mapping, not a list"},
	} {
		file := strings.Replace(gated, c.old, c.new, 1)
		if file == gated {
			t.Errorf("%q is not there", c.old)
		}
		_, err := config.Read("lotse.yaml", []byte(file))
		var all *config.Errors
		if !errors.As(err, &all) || len(all.Mistakes) != 1 {
			t.Errorf("%q in place of %q: %v, want one mistake", c.new, c.old, err)
			continue
		}
		if !strings.Contains(all.Error(), c.want) || !strings.Contains(all.Error(), "lotse.yaml:"+c.place) {
			t.Errorf("%q in place of %q: want %q at %s:\n%v", c.new, c.old, c.want, c.place, all)
		}
	}
}
