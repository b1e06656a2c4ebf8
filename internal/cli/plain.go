package cli

import (
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/api"
)

// plainView prints one line for each change, prefixed with its step: for logs of CI, for files, for terminals that cannot be drawn on.
type plainView struct {
	s      *session
	p      *progress
	stands map[string]stand // what was said of each row last
	titled bool
}

func newPlainView(s *session) *plainView {
	return &plainView{s: s, p: newProgress(), stands: map[string]stand{}}
}

func (v *plainView) show(u api.Update) error {
	now := v.s.now()
	v.p.take(u, now)
	switch {
	case u.Connection == api.Lost:
		v.s.say("connection: the controller went away; trying to reach it again")
	case u.Connection == api.Back:
		v.s.say("connection: the controller is there again; the rollout goes on")
	case u.Output != nil && v.s.verbose:
		v.s.say("build/%s | %s", cleanLine(u.Output.Step), cleanLine(u.Output.Line))
	case u.Rollout != nil:
		v.changes(v.p.rows(now))
	}
	return nil
}

func (v *plainView) changes(rows []row) {
	if !v.titled {
		v.titled = true
		v.s.say("%s", v.p.title())
	}
	for _, r := range inOrder(rows) {
		if r.stand == waiting || v.stands[r.key] == r.stand {
			continue
		}
		v.stands[r.key] = r.stand
		v.s.say("%s: %s", r.key, saying(r))
	}
}

// inOrder puts the build behind what it is made of when it has ended, as it happened.
func inOrder(rows []row) []row {
	if len(rows) == 0 || rows[0].stand == running {
		return rows
	}
	n := 1
	for n < len(rows) && rows[n].depth > 0 {
		n++
	}
	return slices.Concat(rows[1:n], rows[:1], rows[n:])
}

// saying is a row in words.
func saying(r row) string {
	said := string(r.stand)
	switch {
	case r.stand == running:
		return "begun"
	case r.stand == missed && r.took > 0:
		said += " after " + took(r.took)
	case r.stand == done && r.took > 0:
		said += " in " + took(r.took)
	}
	if r.note != "" && r.stand != undone {
		said += " (" + r.note + ")"
	}
	return strings.TrimSpace(said)
}

func (*plainView) close() {}
