package pipeline_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// The real npm and go, as the user of the steps, in the environment of the steps.
func TestRealNpmAndGo(t *testing.T) {
	for _, tool := range []string{"npm", "node", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: %s is not installed; that npm ci and go build work in a pipeline is not proven", tool)
		}
	}
	b := newBench(t)
	b.repo.commit(map[string]string{
		"web/package.json":      `{"name":"w","version":"1.0.0","scripts":{"build":"node build.js"},"dependencies":{"ms":"2.1.3"}}`,
		"web/package-lock.json": `{"name":"w","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"w","version":"1.0.0","dependencies":{"ms":"2.1.3"}},"node_modules/ms":{"version":"2.1.3","integrity":"sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="}}}`,
		"web/build.js":          "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', require('ms')(60000))",
		"go.mod":                "module example.org/x\n\ngo 1.26\n",
		"cmd/api/main.go":       "package main\n\nfunc main() { println(`hello`) }\n",
	})
	app := deploy.App{Name: "real", Pipeline: []deploy.StepSpec{
		{Name: "install", Run: "npm ci --no-audit --no-fund", In: "web", Reads: []string{"package.json", "package-lock.json"}, Makes: []string{"node_modules"}},
		{Name: "build", Run: "npm run build", In: "web", Reads: []string{"."}, Makes: []string{"dist"}, Needs: []string{"install"}},
		{Name: "api", Run: "go vet ./... && go build -trimpath -o bin/api ./cmd/api", Reads: []string{"go.mod", "cmd"}, Makes: []string{"bin/api"}},
	}, Services: []deploy.Service{{Name: "web", Static: "web/dist"}, {Name: "api", Command: "bin/api"}}}
	rel, err := b.build(app)
	if err != nil && strings.Contains(b.last["install"].Cause, "could not be reached") {
		t.Skipf("NOT RUN: the npm registry cannot be reached; that npm ci works in a pipeline is not proven")
	}
	if err != nil {
		t.Fatalf("Build: %v\n%v", err, b.lines)
	}
	if got := b.content(rel); got["web/dist/index.html"] != "1m" || len(got["bin/api*"]) < 100_000 {
		t.Errorf("released %v", names(got))
	}
	data, err := b.depot.Read(t.Context(), string(rel.Manifest.SBOM))
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var purls []string
	for _, c := range *bom.Components {
		purl, _, _ := strings.Cut(c.PackageURL, "@")
		purls = append(purls, purl)
	}
	if strings.Join(purls, " ") != "pkg:golang/std pkg:npm/ms" {
		t.Errorf("the bill holds %v", purls)
	}

	// The lock file out of step, as it happened to them more than once.
	b.repo.commit(map[string]string{"web/package.json": `{"name":"w","version":"1.0.0","dependencies":{"ms":"2.1.2"}}`})
	if _, err := b.build(app); err == nil || !strings.Contains(err.Error(), "step install: package-lock.json is out of step with package.json") {
		t.Errorf("Build = %v", err)
	}
	if want := "install failed build skipped api cached"; b.final(app) != want {
		t.Errorf("%s, want %s", b.final(app), want)
	}
}
