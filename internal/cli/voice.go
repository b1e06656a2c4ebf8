package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// The voice of the command line.
//
// Short and calm. A sentence says what is, then why, then what to do, and stops. No exclamation marks, no jokes, no
// "please", no "successfully", no "oops". Lotse is not a person: it never says I. What it tells somebody to type stands in `backticks`
// and works when pasted. Errors begin with "lotse:", lower case, without a full stop; their hint stands on the next line after an
// arrow. Words are those of DESIGN: a rollout goes back, it is not rolled back; a stage serves a release, it does not run a
// version. A digest shows 12 digits, a commit 8; --json has all of them. Times are for people: "3.2 s", "12 min ago". Nothing is
// said by colour or by a sign alone. What other programs said is shown without what would steer a terminal.

// took is a duration that is over, or goes on.
func took(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// span is about how long something is.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// ago is when something was, seen from now. A clock that went back makes it "now".
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if d := now.Sub(t); d >= time.Second {
		return span(d) + " ago"
	}
	return "now"
}

// in is when something will be.
func in(t, now time.Time) string {
	if d := t.Sub(now); d >= time.Second {
		return "in " + span(d)
	}
	return "now"
}

// moment is when something was, to the second.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

func commit(id string) string { return id[:min(8, len(id))] }

func release(d deploy.Digest) string { return orDash(d.Short()) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clean takes out of a text from elsewhere what would steer a terminal, or stand in the way of the eye; lines stay lines.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, ansi.Strip(s))
}

// cleanLine is clean for what must stay one line.
func cleanLine(s string) string { return strings.TrimSpace(strings.ReplaceAll(clean(s), "\n", " ")) }

// indented puts each line of s behind prefix.
func indented(prefix, s string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+prefix)
}

// clauses says how far a text goes on its first line, and what follows.
func clauses(s string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimRight(first, " "), rest
}

// count is a number and its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
