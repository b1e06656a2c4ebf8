package deploy

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The drawing in the package's comment and the table are one: same steps, same order, and a step has a done? or an undo
// exactly where the drawing has words and not a dash.
func TestTableIsAsDrawn(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(string(source), "------    ---")
	drawing, _, _ = strings.Cut(drawing, "//\n// Every step")
	type row struct {
		name         string
		passed, undo bool
	}
	var drawn []row
	columns := regexp.MustCompile(`^//\t(\w+)\s+(.{47}) (.{29}) (.+)$`)
	for line := range strings.Lines(drawing) {
		if m := columns.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			drawn = append(drawn, row{m[1], strings.TrimSpace(m[3]) != "-", strings.TrimSpace(m[4]) != "-"})
		}
	}
	var written []row
	for _, s := range table() {
		written = append(written, row{s.name, s.done != nil, s.undo != nil})
	}
	if !slices.Equal(drawn, written) {
		t.Errorf("drawn   %v\nwritten %v", drawn, written)
	}
}

// What Lotse itself uses is not given to instances, unless the app asks for it by name.
func TestForInstances(t *testing.T) {
	app := App{Secrets: []string{"STRIPE", "SHARED"}, Source: Source{Token: "GIT"}, Notify: []Notice{{URL: "HOOK"}, {URL: "SHARED"}}}
	var names []string
	for _, s := range app.forInstances([]Setting{{Name: "COLOUR"}, {Name: "GIT"}, {Name: "HOOK"}, {Name: "SHARED"}, {Name: "STRIPE"}}) {
		names = append(names, s.Name)
	}
	if want := []string{"COLOUR", "SHARED", "STRIPE"}; !slices.Equal(names, want) {
		t.Errorf("instances are given %v, want %v", names, want)
	}
}

// Every code leads to its sentinel and back, since errors travel by their codes.
func TestCodesAreOneToOne(t *testing.T) {
	for _, c := range codes {
		if CodeOf(c.sentinel) != c.name || !errors.Is(ErrorOf(c.name), c.sentinel) {
			t.Errorf("%s is %s there and %v back", c.name, CodeOf(c.sentinel), ErrorOf(c.name))
		}
	}
}
