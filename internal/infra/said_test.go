package infra

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Nothing of an app that runs services is outside of its region, and of files alone only what is said.
func TestResidencyIsWhatIsWritten(t *testing.T) {
	for name := range shapes {
		app := shape(t, name)
		templates, modules := both(t, app)
		var said strings.Builder
		for _, l := range Residency(app) {
			if l.What == "" || l.Says == "" {
				t.Errorf("%s: an empty line", name)
			}
			said.WriteString(l.What + ": " + l.Says + "\n")
		}
		elsewhere := strings.Contains(templates, EdgeRegion) || strings.Contains(modules, EdgeRegion) || strings.Contains(templates, "CloudFront::Distribution")
		if elsewhere != app.Static() || elsewhere != strings.Contains(said.String(), "the one exception") || elsewhere != strings.Contains(said.String(), "edge locations are also outside the EU") {
			t.Errorf("%s: outside of the region %v, and it is said:\n%s", name, elsewhere, said.String())
		}
		for thing, kind := range map[string]string{"database: RDS": "RDS::DBInstance", "volumes: EFS": "EFS::FileSystem", "access log: S3": "AccessLog:"} {
			if strings.Contains(templates, kind) != strings.Contains(said.String(), thing) {
				t.Errorf("%s: %q is there or said, but not both:\n%s", name, kind, said.String())
			}
		}
	}
	outside := shape(t, "supabase")
	outside.Stages[1].AWS.OutsideEU = "customers in Canada alone"
	if lines := Residency(outside); lines[0].What != "outside the EU" || !strings.Contains(lines[0].Says, "customers in Canada alone") {
		t.Errorf("a region outside of the EU is not said first: %v", lines[0])
	}
}

func TestCosts(t *testing.T) {
	for name := range shapes {
		lines := Costs(shape(t, name), Options{})
		low, high, known := Monthly(lines)
		t.Logf("%s: %d to %d USD a month", name, low, high)
		if !known || low <= 0 || high < low {
			t.Errorf("%s: %d to %d, all known %v", name, low, high, known)
		}
		for _, l := range lines {
			if !strings.HasPrefix(l.Source, "https://aws.amazon.com/") || l.Basis == "" || l.High < l.Low {
				t.Errorf("%s: %+v has no source or basis", name, l)
			}
		}
	}
	of := func(app deploy.App, o Options, what string) (found []CostLine) {
		for _, l := range Costs(app, o) {
			if l.What == what {
				found = append(found, l)
			}
		}
		return found
	}
	mixed := shape(t, "mixed")
	if got := of(mixed, Options{}, "balancer"); len(got) != 1 || got[0].Stage != "" {
		t.Errorf("the shared balancer costs %v", got)
	}
	if got := of(mixed, Options{}, "instances"); len(got) != 3 || !strings.HasPrefix(got[0].Basis, "2 t3.small") || got[0].Low != 37 {
		t.Errorf("two copies of the API cost %v, want 2 × (730 × 0.024 + 1)", got)
	}
	if got := of(mixed, Options{Machine: "arm64"}, "instances"); !strings.HasPrefix(got[0].Basis, "2 t4g.small") {
		t.Errorf("on arm64: %v", got)
	}
	mixed.Stages[0].AWS.Instance, mixed.Stages[1].AWS.Instance, mixed.Stages[2].AWS.Instance = "u-24tb1.metal", "u-24tb1.metal", "u-24tb1.metal"
	if got := of(mixed, Options{}, "instances"); got[0].Class() != "price not known here" {
		t.Errorf("a price is made up: %v", got)
	}
	if _, _, known := Monthly(Costs(mixed, Options{})); known {
		t.Error("a sum with an unknown price is given as known")
	}
}

func TestDockerfile(t *testing.T) {
	for _, name := range []string{"mixed", "supabase", "static"} {
		files, err := Dockerfile(shape(t, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, files)
		last := files[0].Content[strings.LastIndex(files[0].Content, "\nFROM "):]
		user, entry := strings.Index(last, "\nUSER 65532:65532\n"), strings.Index(last, "\nENTRYPOINT [\"/app/.lotse/bin/lotse\", \"front\"]")
		if user < 0 || entry < user || strings.Count(last, "\nUSER ") != 1 {
			t.Errorf("%s: the image does not run the front as nobody:\n%s", name, last)
		}
		if node := strings.HasPrefix(last, "\nFROM node:"); node != (name == "supabase") {
			t.Errorf("%s: Node.js %v", name, node)
		}
		if !strings.Contains(files[1].Content, "\n.env\n") || files[1].Name != ".dockerignore" {
			t.Errorf("%s: secrets of a developer may come along:\n%s", name, files[1].Content)
		}
	}
	if _, err := Dockerfile(deploy.App{Name: "empty"}, Options{}); deploy.HintOf(err) == "" {
		t.Errorf("an image of nothing: %v", err)
	}
}

// The program that CloudFront runs on each request, run by Node.js: it has no browser and no network either.
func TestPagesFunction(t *testing.T) {
	node := tool(t, "node")
	app := shape(t, "static")
	program := pagesFunction("shop.eu", app.Services)
	asks := []struct{ Host, URI, Query, Want string }{
		{"shop.eu", "/", "", "/index.html"},
		{"shop.eu", "/orders/17", "", "/index.html"},                          // of the single-page app
		{"shop.eu", "/assets/app.0a1b2c3d.js", "", "/assets/app.0a1b2c3d.js"}, // also when it is not there: never the page instead
		{"shop.eu", "/docs", "", "/docs/index.html"},
		{"shop.eu", "/docs/", "", "/docs/index.html"},
		{"shop.eu", "/docs/begin", "", "/docs/begin.html"}, // docs have no fallback
		{"shop.eu", "/docs/more/", "", "/docs/more/index.html"},
		{"shop.eu", "/docsearch", "", "/index.html"}, // not below /docs
		{"www.shop.eu", "/orders/17", "a=1&b=%20&b=3&c", "301 https://shop.eu/orders/17?a=1&b=%20&b=3&c"},
		{"www.shop.eu", "/", "", "301 https://shop.eu/"},
	}
	harness := program + `
const said = ASKS.map((a) => {
  const querystring = {};
  for (const part of a.Query ? a.Query.split("&") : []) {
    const [name, value = ""] = part.split("=");
    if (!querystring[name]) querystring[name] = { value };
    else (querystring[name].multiValue = querystring[name].multiValue || [{ value: querystring[name].value }]).push({ value });
  }
  const r = handler({ request: { uri: a.URI, querystring, headers: { host: { value: a.Host } } } });
  return r.statusCode ? r.statusCode + " " + r.headers.location.value : r.uri;
});
console.log(JSON.stringify(said));
`
	list, err := json.Marshal(asks)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pages.js"), []byte(strings.Replace(harness, "ASKS", string(list), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, ok := runs(t, dir, node, "pages.js")
	var said []string
	if !ok || json.Unmarshal([]byte(out), &said) != nil {
		t.Fatal(out)
	}
	for i, a := range asks {
		if said[i] != a.Want {
			t.Errorf("%s%s: %s, want %s", a.Host, a.URI, said[i], a.Want)
		}
	}
}
