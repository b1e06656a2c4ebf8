package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

var noon = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

func heard(updates ...api.Update) *progress {
	p := newProgress()
	for _, u := range updates {
		p.take(u, noon)
	}
	return p
}

func isAt(r deploy.Rollout) api.Update {
	r.ID, r.Stage, r.Commit = "k3v7q2xa", deploy.StageRef{App: "whatsgonow", Stage: "dev"}, "1a2b3c4d5e6f"
	return api.Update{Update: deploy.Update{Rollout: &r}}
}

func said(step, line string) api.Update {
	return api.Update{Update: deploy.Update{Output: &deploy.Output{Step: step, Line: line}}}
}

func building() *progress {
	return heard(isAt(deploy.Rollout{Outcome: deploy.Going, Steps: []deploy.Step{{Name: "build", Began: noon.Add(-time.Second)}},
		Pipeline: []deploy.StepEvidence{{Name: "install", State: deploy.StepDone, Duration: 3100 * time.Millisecond}, {Name: "lint", State: deploy.StepCached},
			{Name: "test", State: deploy.StepRunning}}}),
		said("test", "first"), said("test", "\x1b[31mok\x1b[0m\x1b[2J   internal/store/with/a/long/path/that/does/not/fit\r"), said("lint", "never shown"), said("test", "  "))
}

// The tree, while it is built, when it went back, and when it is good.
func TestTree(t *testing.T) {
	later := noon.Add(2500 * time.Millisecond)
	for name, c := range map[string]struct {
		p    *progress
		want string
	}{
		"building": {building(), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
› build            3.5 s
  ✓ install        3.1 s
  = lint                  cached
  › test           2.5 s  ok   internal/store/with/a/long/…
· fill
· lease
· entry
· database
· snapshot
· migrate
· clear
· start
· health
· shift
· watch
· settle`},
		"going back": {heard(isAt(deploy.Rollout{Outcome: deploy.GoingBack, Steps: []deploy.Step{{Name: "build", Ended: true, Took: time.Second},
			{Name: "start", Ended: true, Took: 2 * time.Second, Undone: true}, {Name: "health", Began: noon}},
			Turned: &deploy.Turned{Step: "health", Why: "no"}})), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✓ build         1.0 s
↩ start         2.0 s  undone
✗ health               missed`},
		"going back is stuck": {heard(isAt(deploy.Rollout{Outcome: deploy.GoingBack, Steps: []deploy.Step{{Name: "shift", Began: noon, Stuck: "the platform is away"}},
			Turned: &deploy.Turned{Step: "shift", Why: "no"}})), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✗ shift          not undone yet  trying again: the pl…`},
		"taken up after a crash": {heard(isAt(deploy.Rollout{Outcome: deploy.Settled, Steps: []deploy.Step{{Name: "build", Ended: true, Took: time.Second},
			{Name: "start", Began: noon}, {Name: "start", Ended: true, Took: 2 * time.Second, Evidence: []deploy.Evidence{{Probe: "a", Figure: "b"}}}}})), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✓ build        1.0 s
✓ start        2.0 s  a: b`},
		"a canary that is worse at its second step": {heard(isAt(deploy.Rollout{Outcome: deploy.GoingBack, Steps: []deploy.Step{{Name: "shift", Began: noon}},
			Canary: []deploy.Baked{{Share: 5, Ended: true, Took: time.Minute, Evidence: []deploy.Evidence{{Probe: "a", Figure: "b"}}}, {Share: 25, Began: noon}},
			Turned: &deploy.Turned{Step: "shift", Why: "no"}})), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✗ shift          missed
  ✓ 5%           60.0 s  a: b
  ✗ 25%          missed`},
		"aborted in the pipeline": {heard(isAt(deploy.Rollout{Outcome: deploy.Reverted, Steps: []deploy.Step{{Name: "build", Began: noon}},
			Pipeline: []deploy.StepEvidence{{Name: "test", State: deploy.StepRunning}}, Turned: &deploy.Turned{Step: "build", Aborted: true}})), `
whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✗ build         missed
  - test        skipped`},
	} {
		got := ansi.Strip(strings.Join(drawn(c.p, later, 60, signs), "\n"))
		if c.p.rollout.ID == "" {
			t.Error(name, "heard nothing")
		}
		want := strings.TrimPrefix(c.want, "\n")
		if d := cmp.Diff(strings.Split(squeezed(want), "\n"), strings.Split(squeezed(got), "\n")); d != "" {
			t.Errorf("%s (-want +got)\n%s\n%s", name, d, got)
		}
	}
}

// squeezed leaves the columns to TestTreeAligns.
func squeezed(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		indent := len(l) - len(strings.TrimLeft(l, " "))
		lines[i] = l[:indent] + strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

var endOfTime = regexp.MustCompile(`^.*\d s`)

// Times stand below each other, and no line is wider than the terminal.
func TestTreeFits(t *testing.T) {
	ends := map[int]bool{}
	for _, l := range drawn(building(), noon.Add(2500*time.Millisecond), 200, signs) {
		if at := endOfTime.FindString(ansi.Strip(l)); at != "" {
			ends[ansi.StringWidth(at)] = true
		}
	}
	if len(ends) != 1 {
		t.Errorf("times end in columns %v", ends)
	}
	for width := 1; width < 100; width++ {
		for _, l := range drawn(building(), noon, width, signs) {
			if w := lipgloss.Width(l); w > width {
				t.Fatalf("%d columns in a terminal of %d: %q", w, width, l)
			}
		}
	}
}

// A terminal that is too low shows what goes on before what is to come, and that before what was.
func TestTreeFitsTheHeight(t *testing.T) {
	lines := append(drawn(building(), noon, 80, signs), "below")
	for height := 4; height < 20; height++ {
		got := fitting(append([]string(nil), lines...), height)
		text := ansi.Strip(strings.Join(got, "\n"))
		if len(got) >= height && height > 3 {
			t.Errorf("%d lines in a terminal of %d", len(got), height)
		}
		if !strings.HasPrefix(text, "whatsgonow/dev") || !strings.HasSuffix(text, "below") || !strings.Contains(text, "test") {
			t.Errorf("height %d:\n%s", height, text)
		}
	}
	if got := fitting(append([]string(nil), lines...), 8); strings.Contains(ansi.Strip(strings.Join(got, "\n")), "settle") {
		t.Error("what is to come was kept, and what was is dropped")
	}
}

// What other programs say cannot steer the terminal.
func TestTextsFromElsewhereAreClean(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[2J\x1b]0;title\x07plain":  "plain",
		"a\rb\x00c\x9b2Jd":              "abcd",
		"\u202eevil\u2066":              "evil",
		"tab\there":                     "tab here",
		"grün 日本":                       "grün 日本",
		"\x1bP payload \x1b\\after\x1b": "after",
	} {
		if got := cleanLine(in); got != want {
			t.Errorf("%q became %q, not %q", in, got, want)
		}
	}
	if got := clean("a\nb\x1b[31m"); got != "a\nb" {
		t.Errorf("%q", got)
	}
}

func TestTimesForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{took(0), "0.0 s"}, {took(3200 * time.Millisecond), "3.2 s"}, {took(99 * time.Second), "99.0 s"}, {took(2*time.Minute + 3*time.Second), "2 min 03 s"},
		{took(26*time.Hour + time.Minute), "26 h 01 min"},
		{ago(noon.Add(-12*time.Minute), noon), "12 min ago"}, {ago(noon, noon), "now"}, {ago(noon.Add(time.Hour), noon), "now"}, {ago(time.Time{}, noon), "-"},
		{ago(noon.Add(-30*time.Hour), noon), "30 h ago"}, {ago(noon.Add(-72*time.Hour), noon), "3 days ago"},
		{in(noon.Add(3*time.Minute), noon), "in 3 min"}, {in(noon.Add(-time.Minute), noon), "now"},
		{moment(time.Time{}), "-"}, {commit("abc"), "abc"}, {release(""), "-"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
}

// Every code of an error has an exit code, and the document has the same table as the code.
func TestExitCodes(t *testing.T) {
	for _, sentinel := range []error{deploy.ErrFenced, deploy.ErrUnknown, deploy.ErrUnsupported, deploy.ErrUnhealthy, deploy.ErrCannotStart, deploy.ErrBusy,
		deploy.ErrNotFound, deploy.ErrBadInput, deploy.ErrBuild, deploy.ErrDamaged, deploy.ErrNoSpace, deploy.ErrAborted, deploy.ErrUnavailable} {
		if exitOf(sentinel) == exitInternal {
			t.Errorf("%v has no exit code", sentinel)
		}
	}
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("exit.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(source)) {
		name, rest, is := strings.Cut(strings.TrimSpace(line), " ")
		if !is || !strings.HasPrefix(name, "exit") || !strings.Contains(rest, "= ") || !strings.Contains(rest, "// ") {
			continue
		}
		_, rest, _ = strings.Cut(rest, "= ")
		number, what, _ := strings.Cut(rest, "// ")
		n++
		if row := "| " + strings.TrimSpace(number) + " | " + strings.TrimSpace(what) + " |"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/cli.md has no row %s", row)
		}
	}
	if n != 9 {
		t.Errorf("%d exit codes were read from exit.go", n)
	}
}

// Every command and every flag is in the document.
func TestDocumentIsWhole(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Parts: New(partsForTests()).parts, Stdio: OS()}
	for _, c := range s.root().Commands() {
		typed := "`lotse " + c.Use
		if !c.Hidden && !strings.Contains(string(doc), typed+"`") && !strings.Contains(string(doc), typed+" ") {
			t.Errorf("docs/cli.md has no `lotse %s`", c.Use)
		}
		for _, name := range flagsOf(c) {
			if !strings.Contains(string(doc), "`--"+name) && !strings.Contains(string(doc), " --"+name) {
				t.Errorf("docs/cli.md has no --%s of lotse %s", name, c.Name())
			}
		}
	}
}

// An error is told once: as one line of JSON, or in words with its hint on a line of its own.
func TestReport(t *testing.T) {
	var text, twin strings.Builder
	err := deploy.Hint(deploy.ErrBusy, "wait\nor not")
	report(&text, err, false)
	report(&twin, err, true)
	if want := "lotse: the stage is being changed\n  → wait\n  → or not\n"; text.String() != want {
		t.Errorf("%q", text.String())
	}
	var got map[string]map[string]string
	if err := json.Unmarshal([]byte(twin.String()), &got); err != nil || got["error"]["hint"] != "wait\nor not" || strings.Count(twin.String(), "\n") != 1 {
		t.Errorf("%v %q", err, twin.String())
	}
}

func flagsOf(c *cobra.Command) []string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
