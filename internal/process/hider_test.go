package process

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/leakstest"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Every place where this package hides something, with the hiding and without: what is found without it is what the test would see if
// somebody took it out.
func TestEveryPlaceHides(t *testing.T) {
	all := leakstest.Make()
	var plain []string
	for _, s := range all {
		plain = append(plain, s.Value)
	}
	var told bytes.Buffer
	leakstest.Tell(&told, plain)
	script := filepath.Join(t.TempDir(), "told")
	if err := os.WriteFile(script, told.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	values := leakstest.Values(all)
	for name, say := range map[string]func(t *testing.T, known []secret.Text) string{
		"what a command prints": func(t *testing.T, known []secret.Text) string {
			var out strings.Builder
			_, err := Run(t.Context(), Spec{Name: "told", Command: []string{"cat", script}, Mask: known, Env: os.Environ()}, func(line string) { out.WriteString(line + "\n") })
			if err != nil {
				t.Fatal(err)
			}
			return out.String()
		},
		"what a log holds": func(t *testing.T, known []secret.Text) string {
			dir := t.TempDir()
			j, err := openJournal(dir, Spec{Name: "told", Mask: known})
			if err != nil {
				t.Fatal(err)
			}
			w, err := j.writeEnd(nil)
			if err != nil {
				t.Fatal(err)
			}
			j.read(false)
			if _, err := w.Write(told.Bytes()); err != nil {
				t.Fatal(err)
			}
			w.Close()
			j.close()
			found := ""
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, f := range files {
				if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() {
					continue // the FIFO
				}
				text, _ := os.ReadFile(f)
				found += string(text)
			}
			return found
		},
		"the log of the program": func(_ *testing.T, known []secret.Text) string {
			var out bytes.Buffer
			h := &Hider{}
			h.Know(known)
			log := h.Logger(slog.New(slog.NewJSONHandler(&out, nil))).With("with", told.String()).WithGroup("group")
			log.Error(told.String(), "text", told.String(), "error", errors.New(told.String()), slog.Group("in", "a", told.String()), "any", plain) //nolint:sloglint // what leaks is a message, too
			return out.String()
		},
		"a writer": func(_ *testing.T, known []secret.Text) string {
			var out bytes.Buffer
			h := &Hider{}
			h.Know(known[:len(known)/2])
			h.Know(known)
			if _, err := h.Writer(&out).Write(told.Bytes()); err != nil {
				t.Fatal(err)
			}
			return out.String()
		},
		"a text": func(_ *testing.T, known []secret.Text) string { return NewMask(known).String(told.String()) },
	} {
		t.Run(name, func(t *testing.T) {
			hidden, plain := leakstest.NewFinder(all), leakstest.NewFinder(all)
			hidden.Answer(name, say(t, values))
			plain.Answer(name, say(t, nil))
			for _, found := range hidden.Found {
				t.Error(found)
			}
			if len(plain.Found) < 3*len(all) {
				t.Errorf("without hiding, %d forms are found: the search would not notice", len(plain.Found))
			}
		})
	}
}

// Numbers and times stay what they are in a log.
func TestTheLogStaysReadable(t *testing.T) {
	var out bytes.Buffer
	h := &Hider{}
	h.Know([]secret.Text{secret.New("123456789")})
	h.Logger(slog.New(slog.NewJSONHandler(&out, nil))).Info("it is", "n", 123456789, "s", "123456789")
	if got := out.String(); !strings.Contains(got, `"n":123456789`) || !strings.Contains(got, `"s":"•••"`) {
		t.Error(got)
	}
}

func TestNilHiderHidesNothing(t *testing.T) {
	var h *Hider
	h.Know([]secret.Text{secret.New("abcdefgh")})
	if got := h.String("abcdefgh"); got != "abcdefgh" || len(h.Values()) != 0 {
		t.Error(got)
	}
}

// What is looked for in files is a whole value, and the Mask of it says where.
func TestSeeker(t *testing.T) {
	pem := "-----BEGIN A KEY-----\nabcdefghijkl\n-----END A KEY-----"
	m := NewSeeker([]secret.Text{secret.New(pem), secret.New("short"), secret.New("long-enough")})
	for text, want := range map[string]int{
		"x " + pem + " y": 2, "-----BEGIN A KEY-----\nother\n": -1, "it is short": -1, "it is long-enough": 6, "": -1,
		fmt.Sprintf("%x", pem): 0,
	} {
		if got := m.Find([]byte(text)); got != want {
			t.Errorf("%.20q: %d, want %d", text, got, want)
		}
	}
}

// A process that dies leaves no core: neither this one nor what it starts.
func TestNoDumps(t *testing.T) {
	if os.Getenv("LOTSE_NO_DUMPS") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoDumps$")
		cmd.Env = append(os.Environ(), "LOTSE_NO_DUMPS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := NoDumps(); err != nil {
		t.Fatal(err)
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil || now.Cur != 0 || now.Max != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	_, err := Run(t.Context(), Spec{Name: "limit", Command: []string{"sh", "-c", "ulimit -c; ulimit -Hc"}, Env: os.Environ()}, func(line string) {
		if line != "0" {
			t.Errorf("what it starts may leave %s blocks", line)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
