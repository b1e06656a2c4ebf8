package config_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/config"
)

func compiled(t *testing.T) (compiled *jsonschema.Schema, raw map[string]any) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("lotse.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("lotse.json")
	if err != nil {
		t.Fatal(err)
	}
	return s, doc.(map[string]any)
}

// asEditorsSeeIt loads YAML into plain values.
func asEditorsSeeIt(t *testing.T, data []byte) any {
	t.Helper()
	var doc any
	if err := yaml.Load(data, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSchemaTakesWhatReadTakes(t *testing.T) {
	s, _ := compiled(t)
	names, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		// A date is no JSON; editors take it for text.
		data := bytes.ReplaceAll(readFile(t, name), []byte("DAY: 2026-01-01"), []byte(`DAY: "2026-01-01"`))
		if err := s.Validate(asEditorsSeeIt(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefusesWhatReadRefuses(t *testing.T) {
	s, _ := compiled(t)
	if err := s.Validate(asEditorsSeeIt(t, []byte(good))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new string }{
		{"app: shop\n", ""}, {"app: shop", "app: Shop"}, {"app: shop", "app: 7"}, {"app: shop", "app: shop\nnope: 1"},
		{"command:", "comand:"}, {"command: bin/web", "command: 7"}, {"command: bin/web, path: /", "path: /"}, {"command: bin/web", "command: bin/web, static: x"},
		{"path: /}", "path: x}"}, {"path: /}", "path: /, instances: 0}"}, {"path: /}", "path: /, instances: 1.5}"}, {"path: /}", "path: /, cpus: half}"},
		{"path: /}", "path: /, start: 60}"}, {"path: /}", "path: /, start: 1d}"}, {"path: /}", "path: /, memory: 256M}"}, {"path: /}", "path: /, files: x}"},
		{"path: /}", "path: /, volumes: {Up_: x}}"}, {"[out]", "out"}, {"[out]", "['']"}, {"run: make, ", ""}, {"web:", "Web:"}, {"{data: }", "{data: {size: 1}}"},
		{`url: "https://dev.localhost"`, ""}, {"https://", "http://"}, {"dev.localhost", "dev.localhost/x"}, {`localhost"}`, `localhost", env: {1A: x}}`},
		{`localhost"}`, `localhost", env: {A: [x]}}`}, {`localhost"}`, `localhost", watch: soon}`},
	} {
		file := strings.Replace(good, c.old, c.new, 1)
		if file == good {
			t.Errorf("%q is not there", c.old)
		}
		if err := s.Validate(asEditorsSeeIt(t, []byte(file))); err == nil {
			t.Errorf("the schema takes %q instead of %q", c.new, c.old)
		}
		if _, err := config.Read("lotse.yaml", []byte(file)); err == nil {
			t.Errorf("Read takes %q instead of %q", c.new, c.old)
		}
	}
}

// Every field of the grammar is described, with its default and, where it is a word, how such a word looks.
func TestSchemaDescribesEveryField(t *testing.T) {
	_, raw := compiled(t)
	var fields []string
	var walk func(name string, s map[string]any)
	walk = func(name string, s map[string]any) {
		if more, ok := s["additionalProperties"].(map[string]any); ok {
			walk(name+".*", more)
		}
		properties, _ := s["properties"].(map[string]any)
		for field, value := range properties {
			full, of := strings.TrimPrefix(name+"."+field, "."), value.(map[string]any)
			fields = append(fields, full)
			if text, _ := of["description"].(string); len(text) < 10 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s is described as %q", full, text)
			}
			if of["type"] == "string" && of["examples"] == nil {
				t.Errorf("%s has no example", full)
			}
			walk(full, of)
		}
		if s["properties"] != nil && s["additionalProperties"] != false {
			t.Errorf("%s: the schema takes unknown fields", name)
		}
	}
	walk("", raw)
	want := strings.Fields(`app pipeline pipeline.*.run pipeline.*.in pipeline.*.reads pipeline.*.makes pipeline.*.needs pipeline.*.public pipeline.*.timeout
		services services.*.static services.*.fallback services.*.immutable services.*.command services.*.path services.*.health services.*.instances
		services.*.memory services.*.cpus services.*.volumes services.*.start services.*.drain services.*.files
		jobs jobs.*.command jobs.*.schedule jobs.*.timeout jobs.*.volumes volumes secrets people source source.remote source.token source.paths source.ignore
		aws aws.region aws.account aws.zone aws.balancer aws.instance aws.database aws.repository aws.budget aws.outside_eu
		database database.postgres database.url database.migrations database.migrate database.history database.snapshots notify notify.*.slack notify.*.discord notify.*.webhook notify.*.on notify.*.stages
		leaks leaks.allow gates gates.smoke gates.smoke.*.get gates.smoke.*.status gates.smoke.*.contains gates.smoke.*.run gates.smoke.*.timeout gates.page_load
		stages.*.gates stages.*.gates.smoke stages.*.gates.smoke.*.get stages.*.gates.smoke.*.status stages.*.gates.smoke.*.contains
		stages.*.gates.smoke.*.run stages.*.gates.smoke.*.timeout stages.*.gates.page_load
		stages.*.approvals stages.*.sign_off stages.*.freeze stages.*.hotfix stages.*.closed
		stages.*.strategy stages.*.canary stages.*.limits stages.*.limits.errors stages.*.limits.p95 stages.*.limits.requests
		stages.*.on stages.*.access stages.*.database stages.*.database.postgres stages.*.database.url stages.*.database.migrations stages.*.database.migrate stages.*.database.history stages.*.database.snapshots
		stages stages.*.engine stages.*.url stages.*.redirects stages.*.env_file stages.*.env stages.*.watch stages.*.warm stages.*.stable stages.*.drain stages.*.old_files`)
	slices.Sort(want)
	slices.Sort(fields)
	if !slices.Equal(fields, want) {
		t.Errorf("fields are %v\nwant %v", fields, want)
	}
	for field, want := range map[string]any{"services.*.instances": "1", "services.*.start": "60s", "pipeline.*.timeout": "15m", "stages.*.warm": "5m"} {
		s := raw
		for part := range strings.SplitSeq(field, ".") {
			if part == "*" {
				s = s["additionalProperties"].(map[string]any)
				continue
			}
			s = s["properties"].(map[string]any)[part].(map[string]any)
		}
		if got := fmt.Sprint(s["default"]); got != want {
			t.Errorf("the default of %s is %v, want %v", field, got, want)
		}
	}
}
