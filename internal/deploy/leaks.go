package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Leak is a key that a file of a commit carries. It holds nothing of the key.
type Leak struct {
	File   string `json:"file"` // relative to the folder of lotse.yaml
	Line   int    `json:"line"` // from 1
	Column int    `json:"column"`
	Rule   string `json:"rule"`             // what kind of key; KnownValue
	Name   string `json:"name,omitempty"`   // of KnownValue: the variable whose value it is
	Commit string `json:"commit,omitempty"` // in which it is, where the files of the commit itself do not have it any more
}

// KnownValue is the rule for a value that is set as a secret of a stage.
const KnownValue = "known-value"

func (l Leak) String() string {
	text := fmt.Sprintf("%s:%d:%d: %s", l.File, l.Line, l.Column, l.Rule)
	if l.Name != "" {
		text += " (the value of " + l.Name + ")"
	}
	if l.Commit != "" {
		text += fmt.Sprintf(", in the commit %.8s", l.Commit)
	}
	return text
}

// Leaks is what was looked at, and what was found.
type Leaks struct {
	Files int // of the commit, and of what came and went
	Read  int // of these; the others are known from before
	Found []Leak
}

// AllowedLeak is what looks like a key and may be in a commit.
type AllowedLeak struct {
	Rule   string
	File   string // pattern of paths
	Reason string
}

func (a AllowedLeak) allows(l Leak) bool {
	return a.Rule == l.Rule && matchPath(strings.Split(a.File, "/"), strings.Split(l.File, "/"))
}

// Unallowed are those that the file does not allow, and what the file allows that is not there.
func (a App) Unallowed(found []Leak) (left []Leak, idle []AllowedLeak) {
	for _, l := range found {
		if !slices.ContainsFunc(a.Leaks, func(one AllowedLeak) bool { return one.allows(l) }) {
			left = append(left, l)
		}
	}
	for _, one := range a.Leaks {
		if !slices.ContainsFunc(found, one.allows) {
			idle = append(idle, one)
		}
	}
	return left, idle
}

// Idle says that something is allowed that is not there.
func (a AllowedLeak) Idle() string {
	return fmt.Sprintf("leaks.allow names %s in %s, which is not there: take it out", a.Rule, a.File)
}

// LeakError names the keys that a commit carries. It is ErrBadInput.
type LeakError struct {
	Where string // "the commit 1a2b3c4d", "this folder"
	Leaks []Leak // at least one
}

const mostLeaks = 20 // that are told

func (e *LeakError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s carries %d keys", ErrBadInput, e.Where, len(e.Leaks))
	if len(e.Leaks) == 1 {
		text.Reset()
		fmt.Fprintf(&text, "%s: %s carries a key", ErrBadInput, e.Where)
	}
	for _, l := range e.Leaks[:min(mostLeaks, len(e.Leaks))] {
		text.WriteString("\n  " + l.String())
	}
	if more := len(e.Leaks) - mostLeaks; more > 0 {
		fmt.Fprintf(&text, "\n  and %d more", more)
	}
	return text.String()
}

// Is makes every LeakError an ErrBadInput.
func (e *LeakError) Is(target error) bool { return target == ErrBadInput }

// Hint is what to do with the first; the others are as it is.
func (e *LeakError) Hint() string {
	l := e.Leaks[0]
	return "whoever has the repository has it: have it revoked where it is from, take it out, and give the new one to `lotse secrets set`\n" +
		"where it is no key, or is revoked, lotse.yaml says so: leaks: { allow: [{ rule: " + l.Rule + ", file: " + l.File + ", reason: … }] }"
}

// leaksInCommit refuses a commit that carries a key, before anything is made of it. What is promoted has passed here before.
func (c *Controller) leaksInCommit(ctx context.Context, w *walk) error {
	if w.Verb != Deployed {
		return nil
	}
	before := ""
	rollouts, err := c.rollouts(ctx, EventQuery{App: w.app.Name})
	if err != nil {
		return err
	}
	if serves, ok := lastSettled(rollouts, w.Stage.Stage); ok {
		before = serves.Commit
	}
	leaks, err := c.Builder.Leaks(ctx, w.commit, before, c.secretsOf(ctx, w))
	if err != nil {
		return err
	}
	left, idle := w.app.Unallowed(leaks.Found)
	if len(left) > 0 {
		return &LeakError{fmt.Sprintf("the commit %.8s", w.commit.ID), left}
	}
	figure := fmt.Sprintf("none in %d files", leaks.Files)
	if allowed := len(leaks.Found); allowed > 0 {
		figure += fmt.Sprintf("; %d that lotse.yaml allows", allowed)
	}
	figures := []string{figure}
	for _, one := range idle {
		figures = append(figures, one.Idle())
	}
	w.leaks = []Evidence{{Probe: "keys in the commit", Figure: strings.Join(figures, "; ")}}
	return nil
}

// secretsOf are the secrets of all stages, since the release goes on to all. A stage whose secrets cannot be read now is left out, and
// says so in the log: what is wrong there is for a rollout of that stage to tell.
func (c *Controller) secretsOf(ctx context.Context, w *walk) (all []Setting) {
	for _, stage := range w.app.Stages {
		settings := w.settings
		if stage.Name != w.stage.Name {
			var err error
			if settings, err = c.Settings(ctx, w.commit.Tree, w.app.Name, stage); err != nil {
				c.Log.Warn("the commit is not compared with the secrets of a stage, which cannot be read", "stage", stage.Name, "error", err)
				continue
			}
		}
		c.know(w.app.hidden(stage, settings))
		for _, s := range settings.Values {
			if settings.secret(s.Name) {
				all = append(all, Setting{Name: s.Name + " of " + stage.Name, Value: s.Value})
			}
		}
		if settings.Password != (secret.Text{}) {
			all = append(all, Setting{Name: "the password of " + stage.Name, Value: settings.Password})
		}
	}
	return all
}
