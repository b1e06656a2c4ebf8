package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/config"
)

// Whatever the bytes are: no panic, and every mistake has a sentence and a place inside the file; an app that is read has no
// problems left.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatal(pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, s := range []string{"", "\ufeff", "a: &a [*a]", "? a\n: b", "<<: *x", "a: |\n  x", "- - -", "x: [1,2", "\t", "app: \"\\0\"", "jobs: {j: {schedule: CRON_TZ=}}", "!!map {a: b}", "%TAG ! a\n---\na: 1",
		"stages: {d: {url: 'https://[::1'}}", "a: 1\r\rb: 2", "&a : *a", "--- {}\n...\n--- {}", "services: {s: {static: '../../x', immutable: ['[']}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		app, err := config.Read("f", data)
		if err == nil {
			if left := app.Problems(); len(left) > 0 {
				t.Fatalf("an app with problems was read: %v", left)
			}
			return
		}
		var all *config.Errors
		if !errors.As(err, &all) || len(all.Mistakes) == 0 {
			t.Fatalf("an error of another kind: %v", err)
		}
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(data), "\ufeff")), "\n")
		for _, m := range all.Mistakes {
			if m.Message == "" || m.Line < 1 || m.Line > len(lines) || m.Column < 1 || m.Column > utf8.RuneCountInString(lines[m.Line-1])+1 {
				t.Fatalf("a place outside of the file: %d:%d: %q", m.Line, m.Column, m.Message)
			}
			if !utf8.ValidString(m.Error()) || strings.ContainsAny(strings.SplitN(m.Error(), "\n", 2)[0], "\x00\x1b") {
				t.Fatalf("an error that a terminal should not be given: %q", m.Error())
			}
		}
	})
}
