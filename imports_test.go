// Package lotse_test holds what is true of the repository as a whole.
package lotse_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lotse-eu/lotse/"

// floors is the house, from the ground up. A room may import rooms of lower floors and nothing else of ours; rooms on one
// floor do not see each other.
var floors = [][]string{
	{"internal/secret", "internal/latency"},
	{"internal/privacy", "internal/supabase", "internal/proxy", "internal/process", "internal/postgres", "internal/depot", "internal/leaks", "internal/bucket", "internal/load"},
	{"internal/deploy"},
	{"internal/api", "internal/config", "internal/pipeline", "internal/vault", "internal/ledger", "internal/migrate", "internal/mask", "internal/snapshot", "internal/front", "internal/notify", "internal/pageload", "internal/share", "internal/survey", "internal/infra", "internal/watch",
		"internal/engine/aws", "internal/engine/local", "internal/engine/memory", "internal/engine/enginetest"},
	{"internal/cli", "internal/demo"},
	{"cmd/lotse"},
}

// others are programs and helpers of tests beside the house; they may import any room and no room may import them.
var others = []string{"bench", "internal/load/app", "internal/leakstest", "internal/awsfake", "internal/awsfake/plane", "internal/awsfake/mototest"}

// The imports are read with go/parser, not by `go list`: the test cache knows which files a test reads, and does not know
// what a child process reads.
func TestArrowsPointDown(t *testing.T) {
	floorOf := map[string]int{}
	for i, rooms := range floors {
		for _, room := range rooms {
			floorOf[room] = i
		}
	}
	found := importsOf(t)
	for room, imports := range found {
		floor, known := floorOf[room]
		if slices.Contains(others, room) {
			continue
		}
		if !known {
			t.Errorf("%s stands on no floor: add it to the table", room)
			continue
		}
		for _, imported := range imports {
			below, isRoom := floorOf[imported]
			switch {
			case !isRoom:
				t.Errorf("%s imports %s, which stands on no floor", room, imported)
			case below >= floor:
				t.Errorf("%s (floor %d) imports %s (floor %d): arrows point down only", room, floor, imported, below)
			}
		}
	}
	for _, room := range slices.Concat(slices.Collect(maps.Keys(floorOf)), others) {
		if _, there := found[room]; !there {
			t.Errorf("the table has a rule for %s, which is gone", room)
		}
	}
}

// importsOf maps each package to what of ours it imports, tests left out: a test may look down from anywhere.
func importsOf(t *testing.T) map[string][]string {
	found := map[string][]string{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"examples", "node_modules", "testdata"}, d.Name())) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := path.Dir(filepath.ToSlash(file))
		found[room] = append(found[room], []string{}...)
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(found[room], ours) {
				found[room] = append(found[room], ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
