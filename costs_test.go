package lotse_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/infra"
)

// The table of costs in docs/aws.md is what Lotse reckons for the example app, between two marks.
func TestCostsInTheDocsAreReckoned(t *testing.T) {
	const file, begin, end = "docs/aws.md", "<!-- costs -->\n", "<!-- to here -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := bytes.Cut(page, []byte(begin))
	written, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatalf("%s has lost its marks", file)
	}
	want := costs(t)
	if *update {
		if err := os.WriteFile(file, slices.Concat(before, []byte(begin), want, []byte(end), after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(written, want) {
		t.Errorf("%s is not what is reckoned; write it with: go test . -run Costs -update", file)
	}
}

func costs(t *testing.T) []byte {
	t.Helper()
	example, err := os.ReadFile("examples/whatsgonow/lotse.yaml")
	if err != nil {
		t.Fatal(err)
	}
	onAWS := regexp.MustCompile(`(?m)^(  (?:dev|staging|prod): +\{)`).ReplaceAll(example, []byte("$1 engine: aws,"))
	onAWS = regexp.MustCompile(`whatsgonow\.localhost`).ReplaceAll(onAWS, []byte("whatsgonow.com"))
	app, err := config.Read("lotse.yaml", onAWS)
	if err != nil {
		t.Fatal(err)
	}
	lines := infra.Costs(app, infra.Options{})
	if len(lines) == 0 {
		t.Fatal("nothing costs anything")
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, "\n| what | stage | USD a month (%s) | reckoned from | source |\n|---|---|---|---|---|\n", infra.PricesKnown)
	for _, l := range lines {
		stage := l.Stage
		if stage == "" {
			stage = "all"
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", l.What, stage, l.Class(), l.Basis, l.Source)
	}
	low, high, _ := infra.Monthly(lines)
	fmt.Fprintf(&page, "| **all of it** | | **%d to %d USD** | | |\n\n", low, high)
	return page.Bytes()
}
