package infra

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lotse-eu/lotse/internal/deploy"
)

type writer func(deploy.App, Options) ([]File, error)

var writers = map[string]writer{"cloudformation": Cloudformation, "terraform": Terraform}

func TestGolden(t *testing.T) {
	for name := range shapes {
		for form, write := range writers {
			t.Run(name+"/"+form, func(t *testing.T) {
				files, err := write(shape(t, name), Options{})
				if err != nil {
					t.Fatal(err)
				}
				golden(t, name, files)
				again, err := write(shape(t, name), Options{})
				if err != nil || !cmp.Equal(files, again) {
					t.Error("the same app gave other bytes the second time")
				}
			})
		}
	}
}

func golden(t *testing.T, name string, files []File) {
	t.Helper()
	for _, f := range files {
		at := filepath.Join("testdata", name, filepath.FromSlash(f.Name))
		if *update {
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(f.Content), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, []byte(f.Content)) {
			t.Errorf("%s differs from testdata (go test -update writes it anew): %s", f.Name, cmp.Diff(string(want), f.Content))
		}
	}
}

// A comment among the resources stands as deep as they do: what begins a line says something of the whole file.
func TestCommentsStandAmongTheResources(t *testing.T) {
	for name := range shapes {
		files, err := Cloudformation(shape(t, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			lines := strings.Split(f.Content, "\n")
			for i := slices.Index(lines, "Resources:") + 1; i < len(lines)-1 && !strings.HasPrefix(lines[i+1], "Outputs:"); i++ {
				if strings.HasPrefix(lines[i], "#") {
					t.Errorf("%s, %s, line %d: %s", name, f.Name, i+1, lines[i])
				}
			}
		}
	}
}
