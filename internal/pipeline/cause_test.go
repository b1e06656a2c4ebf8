package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/process"
)

// testdata/causes holds what the tools really said, shortened at the end.
func TestLikelyCause(t *testing.T) {
	tests := map[string]struct {
		exit process.Exit
		want string
	}{
		"enospc":        {process.Exit{Code: 1}, "the disk is full (exit code 1)"},
		"node-oom":      {process.Exit{Code: 134}, "it ran out of memory (exit code 134)"},
		"npm-lock":      {process.Exit{Code: 1}, "package-lock.json is out of step with package.json: run `npm install` and commit package-lock.json (exit code 1)"},
		"npm-nolock":    {process.Exit{Code: 1}, "there is no package-lock.json, which `npm ci` needs: run `npm install` and commit it (exit code 1)"},
		"pnpm-lock":     {process.Exit{Code: 1}, "pnpm-lock.yaml is out of step with package.json: run `pnpm install` and commit pnpm-lock.yaml (exit code 1)"},
		"pnpm-nolock":   {process.Exit{Code: 1}, "there is no pnpm-lock.yaml: run `pnpm install` and commit it (exit code 1)"},
		"yarn1-lock":    {process.Exit{Code: 1}, "yarn.lock is out of step with package.json: run `yarn install` and commit yarn.lock (exit code 1)"},
		"yarn4-lock":    {process.Exit{Code: 1}, "yarn.lock is out of step with package.json: run `yarn install` and commit yarn.lock (exit code 1)"},
		"go-sum":        {process.Exit{Code: 1}, "go.mod and go.sum are out of step with the code: run `go mod tidy` and commit both (exit code 1)"},
		"go-mod":        {process.Exit{Code: 1}, "go.mod does not have the package github.com/nosuch/pkg: run `go mod tidy` and commit it (exit code 1)"},
		"npm-refused":   {process.Exit{Code: 1}, "a package registry could not be reached (exit code 1)"},
		"npm-404":       {process.Exit{Code: 1}, "a package does not exist in the registry (exit code 1)"},
		"npm-notarget":  {process.Exit{Code: 1}, "the registry has no version ms@99.0.0 (exit code 1)"},
		"npm-script":    {process.Exit{Code: 1}, "package.json has no script nope (exit code 1)"},
		"pnpm-script":   {process.Exit{Code: 1}, "package.json has no script nope (exit code 1)"},
		"yarn1-script":  {process.Exit{Code: 1}, "package.json has no script nope (exit code 1)"},
		"yarn4-script":  {process.Exit{Code: 1}, "package.json has no script nope (exit code 1)"},
		"sh-127":        {process.Exit{Code: 127}, "the program nosuchtool is not installed, or not in PATH (exit code 127)"},
		"sh-127-root":   {process.Exit{Code: 127}, "the program nosuchtool is not installed, or only in a folder of PATH that the user of steps may not enter (exit code 127)"},
		"sh-126":        {process.Exit{Code: 126}, "/src/noexec.sh may not be run: it is not executable, or its folder may not be entered (exit code 126)"},
		"node-module":   {process.Exit{Code: 1}, "the module nosuchpkg is not installed: is it in package.json, and does the step need the one that installs? (exit code 1)"},
		"node-require":  {process.Exit{Code: 1}, "the module nosuchpkg is not installed: is it in package.json, and does the step need the one that installs? (exit code 1)"},
		"tsc":           {process.Exit{Code: 2}, "type errors (TypeScript) (exit code 2)"},
		"tsc-pretty":    {process.Exit{Code: 2}, "type errors (TypeScript) (exit code 2)"},
		"eslint":        {process.Exit{Code: 1}, "lint errors (exit code 1)"},
		"vitest":        {process.Exit{Code: 1}, "tests failed in a.test.js (exit code 1)"},
		"node-test":     {process.Exit{Code: 1}, "tests failed (exit code 1)"},
		"node-syntax":   {process.Exit{Code: 1}, "a syntax error: Unexpected token '=' (exit code 1)"},
		"go-build":      {process.Exit{Code: 1}, "it does not compile (Go) (exit code 1)"},
		"go-vet":        {process.Exit{Code: 1}, "it does not compile (Go) (exit code 1)"},
		"go-test-build": {process.Exit{Code: 1}, "it does not compile (Go) (exit code 1)"},
		"go-test":       {process.Exit{Code: 1}, "the Go test TestSum failed (exit code 1)"},
		"vite":          {process.Exit{Code: 1}, "the bundler finds no nosuchpkg (exit code 1)"},
	}
	files, err := filepath.Glob("testdata/causes/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		test, ok := tests[name]
		if !ok {
			t.Errorf("nothing is expected of %s", name)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := likelyCause(test.exit, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
		delete(tests, name)
	}
	if len(tests) > 0 {
		t.Errorf("no output is kept for %v", tests)
	}
}

func TestLikelyCauseWithoutAWord(t *testing.T) {
	for _, test := range []struct {
		exit process.Exit
		want string
	}{
		{process.Exit{Code: 1}, "it ended with exit code 1"},
		{process.Exit{Code: 127}, "a program that it calls is not installed, or not in PATH (exit code 127)"},
		{process.Exit{Code: 126}, "something that it calls cannot be executed (exit code 126)"},
		{process.Exit{Code: 137}, "it was killed, most likely because the machine or its limit ran out of memory (exit code 137)"},
		{process.Exit{Code: -1, Signal: "SIGKILL"}, "it was killed, most likely because the machine or its limit ran out of memory (SIGKILL)"},
		{process.Exit{Code: -1, Signal: "SIGSEGV"}, "it ended with SIGSEGV"},
	} {
		if got := likelyCause(test.exit, []string{"some words"}); got != test.want {
			t.Errorf("%v: %s, want %s", test.exit, got, test.want)
		}
	}
}
