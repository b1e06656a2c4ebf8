package pipeline_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

func TestWhatIsInARelease(t *testing.T) {
	files := map[string]string{"server.js": "s", "package.json": "{}", "db/1.sql": "d", "web/i.html": "w", "run*": "r"}
	steps := []deploy.StepSpec{
		{Name: "install", Run: "mkdir node_modules; echo dep > node_modules/dep; echo stray > stray", Makes: []string{"node_modules"}},
		{Name: "web", Run: "mkdir dist; echo page > dist/index.html", Makes: []string{"dist"}},
		{Name: "go", Run: "mkdir bin; echo p > bin/api; echo q > bin/job; chmod +x bin/*", Makes: []string{"bin"}},
		{Name: "replace", Run: "rm -r web; mkdir web; echo new > web/n.html", Makes: []string{"web"}, Needs: []string{"install"}},
	}
	web := deploy.Service{Name: "web", Static: "dist", Path: "/"}
	everything := []string{"server.js", "package.json", "db/1.sql", "run*", "node_modules/dep", "dist/index.html", "bin/api*", "bin/job*", "web/n.html"}
	for _, test := range []struct {
		name     string
		services []deploy.Service
		jobs     []deploy.Job
		want     []string
	}{
		{"static alone", []deploy.Service{web}, nil, []string{"dist/index.html"}},
		{"a program that a step makes", []deploy.Service{web, {Name: "api", Command: "./bin/api -v"}}, nil, []string{"dist/index.html", "bin/api*", "bin/job*"}},
		{"with variables and exec", []deploy.Service{{Name: "api", Command: "A=b exec bin/api"}}, nil, []string{"bin/api*", "bin/job*"}},
		{"with files", []deploy.Service{{Name: "api", Command: "bin/api", Files: []string{"db", "package.json"}}}, nil, []string{"bin/api*", "bin/job*", "db/1.sql", "package.json"}},
		{"node", []deploy.Service{{Name: "api", Command: "node server.js"}}, nil, everything},
		{"a script of the commit", []deploy.Service{{Name: "api", Command: "./run"}}, nil, everything},
		{"a job beside a program", []deploy.Service{{Name: "api", Command: "bin/api"}}, []deploy.Job{{Name: "j", Command: "npm run clean"}}, everything},
		{"a job of a program", []deploy.Service{web}, []deploy.Job{{Name: "j", Command: "bin/job"}}, []string{"dist/index.html", "bin/api*", "bin/job*"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.repo.commit(files)
			got := b.content(b.must(deploy.App{Name: "a", Pipeline: steps, Services: test.services, Jobs: test.jobs}))
			delete(got, ".lotse/static/web.json")
			want := map[string]bool{}
			for _, name := range test.want {
				want[name] = true
			}
			have := map[string]bool{}
			for name := range got {
				have[name] = true
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReleasesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name     string
		files    map[string]string
		services []deploy.Service
		say      string
	}{
		{"no such folder", nil, []deploy.Service{{Name: "w", Static: "dist"}}, "service w needs dist"},
		{"no such file", nil, []deploy.Service{{Name: "a", Command: "bin/a", Files: []string{"db"}}}, "service a needs db"},
		{"a file and no folder", map[string]string{"dist": "x"}, []deploy.Service{{Name: "w", Static: "dist"}}, "dist of service w is no folder"},
		{"no fallback", map[string]string{"dist/a": "x"}, []deploy.Service{{Name: "w", Static: "dist", Fallback: "index.html"}}, "falls back to index.html, which is not in dist"},
		{"a link out", map[string]string{"d/l@": "../../x"}, []deploy.Service{{Name: "a", Command: "node d"}}, "d/l points to ../../x"},
		{"an absolute link", map[string]string{"d/l@": "/etc/passwd"}, []deploy.Service{{Name: "a", Command: "node d"}}, "d/l points to /etc/passwd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.repo.commit(test.files)
			_, err := b.build(deploy.App{Name: "a", Services: test.services})
			if !errors.Is(err, deploy.ErrBuild) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("Build = %v, want %q", err, test.say)
			}
		})
	}
}

func TestStaticFilesAreCompressedAndIndexed(t *testing.T) {
	text := strings.Repeat("some text that shrinks. ", 400)
	noise := "zmvbn5qZ81kd93Jf" // does not shrink
	files := map[string]string{
		"dist/index.html": text, "dist/assets/app-BfX3k9Qz.js": text + "//", "dist/noise.txt": noise, "dist/photo.jpg": text, "dist/own.css": text,
		"dist/own.css.br": "brought along", "dist/empty.js": "", "dist/big.js": strings.Repeat(text, 200),
	}
	b := newBench(t)
	b.repo.commit(files)
	app := deploy.App{Name: "a", Services: []deploy.Service{{Name: "web", Static: "dist", Path: "/"}}}
	got := b.content(b.must(app))
	for name, content := range files {
		if got[name] != content {
			t.Errorf("%s was changed", name)
		}
	}
	for _, name := range []string{"dist/index.html", "dist/assets/app-BfX3k9Qz.js", "dist/big.js"} {
		br, err := io.ReadAll(brotli.NewReader(strings.NewReader(got[name+".br"])))
		if err != nil || string(br) != files[name] {
			t.Errorf("%s.br holds something else: %v", name, err)
		}
		gz, err := gzip.NewReader(strings.NewReader(got[name+".gz"]))
		if err != nil {
			t.Errorf("%s.gz: %v", name, err)
			continue
		}
		if data, err := io.ReadAll(gz); err != nil || string(data) != files[name] || gz.Name != "" || !gz.ModTime.IsZero() {
			t.Errorf("%s.gz: %v, name %q, time %v", name, err, gz.Name, gz.ModTime)
		}
	}
	for _, name := range []string{"noise.txt.br", "noise.txt.gz", "photo.jpg.br", "photo.jpg.gz", "empty.js.br", "empty.js.gz"} {
		if _, ok := got["dist/"+name]; ok {
			t.Errorf("%s was made", name)
		}
	}
	if got["dist/own.css.br"] != "brought along" || got["dist/own.css.gz"] == "" {
		t.Error("a sibling that the app brings was replaced, or its other one is missing")
	}
	var index proxy.StaticIndex
	if err := json.Unmarshal([]byte(got[".lotse/static/web.json"]), &index); err != nil {
		t.Fatal(err)
	}
	if f := index.Files["index.html"]; !f.Br || !f.Gzip || f.Immutable || f.Size != int64(len(text)) {
		t.Errorf("index.html is indexed as %+v", f)
	}
	if f := index.Files["assets/app-BfX3k9Qz.js"]; !f.Br || !f.Immutable {
		t.Errorf("the script is indexed as %+v", f)
	}
	if f := index.Files["photo.jpg"]; f.Br || f.Gzip || f.Type != "image/jpeg" {
		t.Errorf("the photo is indexed as %+v", f)
	}
	if _, ok := index.Files["index.html.br"]; ok {
		t.Error("a sibling is indexed as a file")
	}

	// A new commit with one new file compresses that one only: the siblings of the others come from the last release, as a
	// planted one shows.
	b.repo.commit(map[string]string{"dist/new.html": text + "new", "dist/index.html": text + "changed"})
	again := b.content(b.must(app))
	if again["dist/big.js.br"] != got["dist/big.js.br"] || again["dist/new.html.br"] == "" || again["dist/index.html.br"] == got["dist/index.html.br"] {
		t.Error("siblings of the next release are wrong")
	}
}

const npmLock = `{"lockfileVersion":3,"packages":{
	"":{"name":"a","dependencies":{"ms":"2.1.3"}},
	"node_modules/ms":{"version":"2.1.3","integrity":"sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="},
	"node_modules/@types/node":{"version":"20.1.0","dev":true},
	"node_modules/a/node_modules/ms":{"version":"2.0.0","optional":true},
	"node_modules/alias":{"name":"real","version":"1.0.0"},
	"node_modules/workspace":{"link":true,"resolved":"packages/w"},
	"packages/w":{"version":"9.9.9"}}}`

const pnpmLock = `lockfileVersion: '9.0'
packages:
  ms@2.1.3:
    resolution: {integrity: sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==}
  '@scope/pnpm-one@1.0.0':
    resolution: {integrity: sha1-qUxT7eHXwQsPrpPcR2J5sU7KlKo=}
snapshots:
  ms@2.1.3: {}
`

const yarnLock = `# yarn lockfile v1


"@scope/yarn-one@^1.0.0", "@scope/yarn-one@^1.1.0":
  version "1.1.0"
  resolved "https://registry.example/x"
  integrity sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==
  dependencies:
    version "9.9.9"
`

const berryLock = `__metadata:
  version: 8

"berry-alias@npm:berry-real@^2.0.0":
  version: 2.0.1
  resolution: "berry-real@npm:2.0.1"
  linkType: hard

"w@workspace:.":
  version: 0.0.0-use.local
  linkType: soft
`

func TestBillOfMaterials(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{
		"w/index.html": "x", "package-lock.json": npmLock, "p/pnpm-lock.yaml": pnpmLock, "y/yarn.lock": yarnLock, "z/yarn.lock": berryLock,
		"old/package-lock.json": `{"lockfileVersion":1,"dependencies":{}}`, "requirements.txt": "flask\n", "go.mod": "module x\n", "broken/pnpm-lock.yaml": "packages: [",
	})
	app := deploy.App{Name: "shop", Services: []deploy.Service{{Name: "w", Static: "w"}}}
	rel := b.must(app)
	data, err := b.depot.Read(t.Context(), string(rel.Manifest.SBOM))
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SpecVersion != cdx.SpecVersion1_6 || bom.Metadata.Component.Name != "shop" || bom.Metadata.Component.Version != rel.Manifest.Commit || bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("metadata %+v", bom.Metadata)
	}
	type row struct {
		Purl, Group, Name string
		Scope             cdx.Scope
		Algo              cdx.HashAlgorithm
	}
	var got []row
	for _, c := range *bom.Components {
		r := row{Purl: c.PackageURL, Group: c.Group, Name: c.Name, Scope: c.Scope}
		if c.Hashes != nil {
			r.Algo = (*c.Hashes)[0].Algorithm
			if c.PackageURL == "pkg:npm/ms@2.1.3" && (*c.Hashes)[0].Value[:16] != "e85973b9b4cb646d" {
				t.Errorf("ms has hash %s", (*c.Hashes)[0].Value)
			}
		}
		got = append(got, r)
	}
	want := []row{
		{"pkg:npm/%40scope/pnpm-one@1.0.0", "@scope", "pnpm-one", "", cdx.HashAlgoSHA1},
		{"pkg:npm/%40scope/yarn-one@1.1.0", "@scope", "yarn-one", "", cdx.HashAlgoSHA512},
		{"pkg:npm/%40types/node@20.1.0", "@types", "node", cdx.ScopeExcluded, ""},
		{"pkg:npm/berry-real@2.0.1", "", "berry-real", "", ""},
		{"pkg:npm/ms@2.0.0", "", "ms", cdx.ScopeOptional, ""},
		{"pkg:npm/ms@2.1.3", "", "ms", "", cdx.HashAlgoSHA512},
		{"pkg:npm/real@1.0.0", "", "real", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var uncovered []string
	for _, p := range *bom.Metadata.Properties {
		uncovered = append(uncovered, p.Value)
	}
	if want := []string{"broken/pnpm-lock.yaml", "go.mod", "old/package-lock.json", "requirements.txt"}; !cmp.Equal(uncovered, want) {
		t.Errorf("not covered are %v, want %v", uncovered, want)
	}
	other := b.must(deploy.App{Name: "shop", Services: []deploy.Service{{Name: "w", Static: "w", Path: "/x"}}})
	if other.Manifest.SBOM != rel.Manifest.SBOM {
		t.Error("the same commit has two bills")
	}
}
