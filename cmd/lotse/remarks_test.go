package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A file with variables that is not there is named once, with the stages that want it.
func TestRemarks(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env.prod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := []byte(`app: shop
services: { site: { static: dist } }
stages:
  dev: { url: https://dev.shop.localhost, env_file: .env }
  staging: { url: https://staging.shop.localhost, env_file: .env }
  prod: { url: https://shop.localhost, env_file: .env.prod }
`)
	want := []string{"env_file of dev, staging: there is no file .env beside lotse.yaml; a deploy from this folder needs it"}
	if got := remarks(dir, file); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := remarks(dir, []byte("app: [")); len(got) != 0 {
		t.Errorf("of a file with mistakes: %q", got)
	}
}
