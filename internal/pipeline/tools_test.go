package pipeline

import (
	"strings"
	"testing"
)

func TestCommandWords(t *testing.T) {
	for _, test := range []struct {
		run    string
		words  string
		script bool
	}{
		{"npm ci", "npm ci", false},
		{"go build -o bin/api ./cmd/api", "go build", false},
		{"NODE_ENV=production npx vite build --outDir=../x", "npx vite build", false},
		{"cd web && ./build.sh", "cd web", true},
		{"if test -e x; then scripts/a; fi", "if test x then fi", true},
		{"sh x.sh", "sh x.sh", true},
		{"make -j2\nnode $(pwd)/a.js", "make node pwd", true},
	} {
		words, script := commandWords(test.run)
		if got := strings.Join(words, " "); got != test.words || script != test.script {
			t.Errorf("%q: %q, %v; want %q, %v", test.run, got, script, test.words, test.script)
		}
	}
}
