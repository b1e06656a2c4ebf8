package lotse_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
)

var update = flag.Bool("update", false, "write the parts of docs/ that are made from the code")

// The tables of docs/lotse-yaml.md are what the schema says, between two marks.
func TestDocsOfTheFileAreTheSchema(t *testing.T) {
	const file, begin, end = "docs/lotse-yaml.md", "<!-- from the schema -->\n", "<!-- to here -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := bytes.Cut(page, []byte(begin))
	written, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatalf("%s has lost its marks", file)
	}
	want := tables(t, config.Schema())
	if *update {
		whole := slices.Concat(before, []byte(begin), want, []byte(end), after)
		if err := os.WriteFile(file, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(written, want) {
		t.Errorf("%s is not what the schema says; write it with: go test . -run Docs -update", file)
	}
}

// object is what of a JSON Schema is shown.
type object struct {
	Type        string          `json:"type"`
	Description string          `json:"description"`
	Default     any             `json:"default"`
	Examples    []any           `json:"examples"`
	Required    []string        `json:"required"`
	Properties  json.RawMessage `json:"properties"`
	Additional  json.RawMessage `json:"additionalProperties"`
}

func tables(t *testing.T, schema []byte) []byte {
	t.Helper()
	var page bytes.Buffer
	root := parse(t, schema)
	for _, name := range keys(t, root.Properties) {
		section := property(t, root.Properties, name)
		fmt.Fprintf(&page, "\n## %s\n\n%s\n", name, section.Description)
		of := section
		if len(section.Properties) == 0 && json.Unmarshal(section.Additional, &of) != nil {
			continue
		}
		if len(keys(t, of.Properties)) > 0 {
			table(t, &page, of)
		}
	}
	page.WriteString("\n")
	return page.Bytes()
}

func table(t *testing.T, page *bytes.Buffer, of object) {
	t.Helper()
	page.WriteString("\n| field | what it says | default | for example |\n|---|---|---|---|\n")
	for _, name := range keys(t, of.Properties) {
		p := property(t, of.Properties, name)
		usual := "–"
		switch {
		case slices.Contains(of.Required, name):
			usual = "must be there"
		case p.Default != nil:
			usual = code(p.Default)
		}
		var examples []string
		for _, e := range p.Examples {
			examples = append(examples, code(e))
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", name, strings.ReplaceAll(p.Description, "|", `\|`), usual, strings.Join(examples, ", "))
	}
}

func code(v any) string { return "`" + fmt.Sprint(v) + "`" }

func parse(t *testing.T, raw []byte) (o object) {
	t.Helper()
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func property(t *testing.T, properties json.RawMessage, name string) object {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(properties, &all); err != nil {
		t.Fatal(err)
	}
	return parse(t, all[name])
}

// keys are the names of an object in the order in which they stand.
func keys(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	if len(raw) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var skipped json.RawMessage
		if err := decoder.Decode(&skipped); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// Every link of the documents leads somewhere, and every make target that they name is there.
func TestDocsLeadSomewhere(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pages := []string{"README.md", "README.de.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
	inDocs, err := os.ReadDir("docs")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inDocs {
		pages = append(pages, "docs/"+d.Name())
	}
	links := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	targets := regexp.MustCompile("(?m)(?:`|^    )make ([a-z-]+)")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		base := ""
		if strings.HasPrefix(page, "docs/") {
			base = "docs/"
		}
		for _, link := range links.FindAllSubmatch(text, -1) {
			to := string(link[1])
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(base + to); err != nil {
				t.Errorf("%s links to %s, which is not there", page, to)
			}
		}
		for _, target := range targets.FindAllSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + string(target[1]) + `:`).Match(makefile) {
				t.Errorf("%s says `make %s`, and the Makefile has no such target", page, target[1])
			}
		}
	}
}
