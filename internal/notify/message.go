package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

// message is what is told, for every kind of endpoint; as JSON it is what a plain webhook is sent (docs/notify.md has it, field by
// field). Nothing in it is personal or secret. There is no author, no subject of a commit, no id of a person.
type message struct {
	ID    string      `json:"id"`    // the same when it is told again
	Event string      `json:"event"` // success, failure, test
	App   string      `json:"app"`
	Stage string      `json:"stage"`
	URL   string      `json:"url,omitempty"` // of the stage
	Verb  deploy.Verb `json:"verb,omitempty"`
	Data  string      `json:"data,omitempty"` // what went wrong with the data of the stage, in a sentence; then there is no rollout

	Trigger deploy.Trigger `json:"trigger,omitempty"` // push, tag or schedule, where one began it
	Tag     string         `json:"tag,omitempty"`     // that began it
	Rollout string         `json:"rollout,omitempty"`
	Release deploy.Digest  `json:"release,omitempty"` // none where the pipeline failed
	Commit  string         `json:"commit,omitempty"`
	Began   time.Time      `json:"began,omitzero"`
	Ended   time.Time      `json:"ended,omitzero"`
	Seconds float64        `json:"seconds,omitempty"` // from began to ended
	Failure *failure       `json:"failure,omitempty"`
}

// failure is why a rollout went back.
type failure struct {
	Step    string   `json:"step"` // of the rollout; with the step of the pipeline: build/test
	Cause   string   `json:"cause"`
	Hint    string   `json:"hint,omitempty"`
	Code    string   `json:"code"` // as in `--json` of the command line
	Aborted bool     `json:"aborted,omitempty"`
	Tail    []string `json:"tail,omitempty"` // the last lines of its output
}

const (
	tailLines = 15
	lineRunes = 300
	textRunes = 600 // of a cause, of a hint
)

func newMessage(s story, names []string) message {
	r := s.rollout
	if a := s.alarm; a != nil {
		clean := newCleaner(s.settings, names)
		return message{ID: s.id(), Event: "failure", App: r.Stage.App, Stage: r.Stage.Stage, URL: r.URL, Data: a.What, Ended: a.at,
			Failure: &failure{Step: a.kind, Cause: clean.text(a.Why), Hint: clean.text(a.Hint), Code: a.Code}}
	}
	m := message{ID: s.id(), Event: "success", App: r.Stage.App, Stage: r.Stage.Stage, URL: r.URL, Verb: r.Verb, Trigger: r.Trigger, Tag: r.Tag, Rollout: r.ID,
		Release: r.Release, Commit: r.Commit, Began: r.Began, Ended: r.Ended, Seconds: r.Ended.Sub(r.Began).Round(time.Millisecond).Seconds()}
	if r.Outcome != deploy.Settled && r.Outcome != deploy.Over {
		m.Event, m.Failure = "failure", newFailure(r, newCleaner(s.settings, names))
	}
	return m
}

func newFailure(r deploy.Rollout, clean cleaner) *failure {
	if r.Turned == nil {
		return &failure{Step: "unknown", Cause: "it ended without saying why", Code: "internal"}
	}
	why, rest, _ := strings.Cut(strings.TrimSpace(r.Turned.Why), "\n")
	f := &failure{Step: r.Turned.Step, Cause: strings.TrimSuffix(why, "; its last output:"), Code: r.Turned.Code, Hint: r.Turned.Hint, Aborted: r.Turned.Aborted}
	tail := strings.Split(strings.ReplaceAll("\n"+rest, "\n  ", "\n"), "\n") // as deploy's errors show it
	if step := failedStep(r); step != nil && !f.Aborted {
		f.Step, tail = f.Step+"/"+step.Name, step.Tail
		f.Cause = fmt.Sprintf("ended with exit code %d", step.Exit)
		if step.Cause != "" {
			f.Cause = step.Cause
		}
	}
	f.Cause, f.Hint, f.Tail = clean.text(f.Cause), clean.text(f.Hint), clean.lines(tail)
	return f
}

// failedStep is the step of the pipeline that a rollout went back for.
func failedStep(r deploy.Rollout) *deploy.StepEvidence {
	i := slices.IndexFunc(r.Pipeline, func(e deploy.StepEvidence) bool { return e.State == deploy.StepFailed })
	if i < 0 || r.Turned.Step != "build" && r.Turned.Step != "fill" {
		return nil
	}
	return &r.Pipeline[i]
}

// cleaner makes what programs said fit to leave the house.
type cleaner struct {
	mask  *process.Mask
	names []string
}

// newCleaner hides everything that a stage is given, whether or not it was set as a secret.
func newCleaner(settings deploy.Settings, names []string) cleaner {
	values := []secret.Text{settings.Password}
	for _, s := range settings.Values {
		values = append(values, s.Value)
	}
	return cleaner{process.NewMask(values), names}
}

// whole is s without what steers a terminal, which may stand in the middle of a secret; then without secrets, then without people.
func (c cleaner) whole(s string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, ansi.Strip(strings.ToValidUTF8(s, "")))
	return privacy.Scrub(c.mask.String(plain), c.names...)
}

func (c cleaner) text(s string) string { return clip(strings.TrimSpace(c.whole(s)), textRunes) }

// lines are the last of what was said. They are cleaned before they are cut: half a secret is not found.
func (c cleaner) lines(all []string) (tail []string) {
	for line := range strings.SplitSeq(c.whole(strings.Join(all, "\n")), "\n") {
		if line = strings.TrimRight(line, " "); line != "" {
			tail = append(tail, clip(line, lineRunes))
		}
	}
	return tail[max(0, len(tail)-tailLines):]
}

// clip cuts s to this many characters.
func clip(s string, runes int) string {
	if utf8.RuneCountInString(s) <= runes {
		return s
	}
	return string([]rune(s)[:runes-1]) + "…"
}

// fit cuts s until it has at most limit bytes when it is written with escape.
func fit(s string, limit int, escape func(string) string) string {
	written := escape(s)
	for len(written) > limit {
		_, last := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-last]
		written = escape(s) + "…"
	}
	return written
}

// fitTail leaves lines away from the front until the others fit: the end says most.
func fitTail(lines []string, limit int, escape func(string) string) string {
	for len(lines) > 1 && len(escape(strings.Join(lines, "\n"))) > limit {
		lines = lines[1:]
	}
	return fit(strings.Join(lines, "\n"), limit, escape)
}

// title says it in one line.
func (m message) title() string {
	at := m.App + "/" + m.Stage
	switch {
	case m.Event == "test":
		return at + ": a test message of Lotse"
	case m.Data != "":
		return at + ": " + m.Data
	case m.Failure == nil:
		return at + " serves release " + m.Release.Short()
	case m.Failure.Aborted:
		return at + ": the " + m.noun() + " was aborted at " + m.Failure.Step + " and went back"
	}
	return at + ": the " + m.noun() + " went back at " + m.Failure.Step
}

func (m message) noun() string {
	if m.Verb == deploy.Promoted {
		return "promotion"
	}
	return string(m.Verb) // deploy, redeploy, rollback
}

// facts are for the line below the title.
func (m message) facts() []string {
	if m.Event == "test" || m.Data != "" {
		return nil
	}
	facts := []string{m.noun()}
	if m.Trigger != "" {
		facts[0] += " by " + strings.TrimSpace(string(m.Trigger)+" "+m.Tag)
	}
	if m.Failure != nil && m.Release != "" {
		facts = append(facts, "release "+m.Release.Short())
	}
	return append(facts, "commit "+m.Commit[:min(8, len(m.Commit))], took(m.Ended.Sub(m.Began)), "rollout "+m.Rollout)
}

func took(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// unfenced keeps a text from ending the block of code that it stands in.
func unfenced(s string) string { return strings.ReplaceAll(s, "```", "`\u200b`\u200b`") }
