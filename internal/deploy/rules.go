package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/privacy"
)

// Consent says whose yes a stage wants, and for how long one counts. The zero value wants nobody's.
type Consent struct {
	People    int           // how many
	By        []string      // names or mail addresses, as git knows people; empty: anybody
	NotAuthor bool          // who wrote a commit that is new to the stage, or deployed it, does not count
	Within    time.Duration // 0: it counts for ever
}

func (c Consent) wanted() bool { return c.People > 0 }

// Freeze says when a stage takes nothing but hotfixes. The zero value: never, unless a person freezes it.
type Freeze struct {
	Always bool
	From   string // a moment as ParseMoment reads it; empty: from the beginning
	To     string // empty: until the file says otherwise
	Reason string
}

// holds reports whether the file freezes the stage, and what is to be said of it.
func (f Freeze) holds(now time.Time) (why string, yes bool, err error) {
	var from, to time.Time
	if f.From != "" {
		if from, err = ParseMoment(f.From, time.UTC, false); err != nil {
			return "", false, err
		}
	}
	if f.To != "" {
		if to, err = ParseMoment(f.To, time.UTC, true); err != nil {
			return "", false, err
		}
	}
	switch {
	case f.Always:
		why = "always, by its lotse.yaml"
	case from.IsZero() && to.IsZero(), now.Before(from), !to.IsZero() && !now.Before(to):
		return "", false, nil
	case to.IsZero():
		why = "by its lotse.yaml"
	default:
		why = "until " + to.Format(saidLike) + ", by its lotse.yaml"
	}
	if f.Reason != "" {
		why += ": " + f.Reason
	}
	return why, true, nil
}

// Ruling is what one rule of a stage says of a rollout.
type Ruling struct {
	Rule    string `json:"rule"` // freeze, windows, approval, sign-off
	Says    string `json:"says"`
	Hint    string `json:"hint,omitempty"`
	Refused bool   `json:"refused,omitempty"`
	Passed  bool   `json:"passed,omitempty"` // it would have refused; somebody has said now, with a reason

	time bool // a rule about when, which "now" passes
}

// rulings are what the rules of a stage say, each once.
type rulings []Ruling

func (all rulings) add(r Ruling) rulings {
	if slices.Contains(all, r) {
		return all
	}
	return append(all, r)
}

// refusal is the error of what refuses, all of it; nil where nothing does.
func (all rulings) refusal() error {
	var said, hints []string
	for _, r := range all {
		if r.Refused {
			said = append(said, r.Says)
			if r.Hint != "" && !slices.Contains(hints, r.Hint) {
				hints = append(hints, r.Hint)
			}
		}
	}
	if said == nil {
		return nil
	}
	return Hint(fmt.Errorf("%w: %s", ErrRefused, strings.Join(said, "; and ")), strings.Join(hints, "\n"))
}

// evidence is what is kept of the rules that let a rollout in.
func (all rulings) evidence() (kept []Evidence) {
	for _, r := range all {
		kept = append(kept, Evidence{Probe: r.Rule, Figure: r.Says})
	}
	return kept
}

// ruled is a stage by one lotse.yaml, with the stage before it.
type ruled struct {
	stage  Stage
	before *Stage // nil: it is the first
}

func (a App) ruled(stage string) (ruled, bool) {
	i := slices.IndexFunc(a.Stages, func(s Stage) bool { return s.Name == stage })
	switch {
	case i < 0:
		return ruled{}, false
	case i == 0:
		return ruled{stage: a.Stages[0]}, true
	}
	return ruled{a.Stages[i], &a.Stages[i-1]}, true
}

// asked is one rollout before the rules of its stage.
type asked struct {
	c      *Controller
	w      *walk
	now    time.Time
	serves *Rollout // what the stage serves; nil: nothing
	all    []Rollout
	by     []ruled // the file of what goes in, and that of what the stage serves: a commit does not take a rule away by itself
	events []Event // freezes and approvals of the app

	span *Span // commits between; nil: not asked for yet
}

// admit asks the rules of the stage whether the rollout may begin, and writes into it what they said. ErrRefused where one of them says no.
// They are asked once, before anything begins: what changes later, a freeze or the end of an approval, lets the rollout end.
func (c *Controller) admit(ctx context.Context, w *walk) error {
	all, err := c.rulings(ctx, w)
	if err != nil {
		return err
	}
	if err := all.refusal(); err != nil {
		return err
	}
	w.Rules = all.evidence()
	return nil
}

// rulings asks every rule, also after one has refused. A way back is let in at every moment, and what a stage serves may be started anew
// at every moment: it brings no other code, and a secret that has leaked must be replaced at once.
func (c *Controller) rulings(ctx context.Context, w *walk) (rulings, error) {
	if w.Verb != Deployed && w.Verb != Promoted {
		return nil, nil
	}
	a, err := c.asked(ctx, w)
	if err != nil {
		return nil, err
	}
	var all rulings
	for _, ask := range []func(context.Context, ruled) (rulings, error){a.windows, a.freeze, a.approvals, a.signOff} {
		for _, by := range a.by {
			said, err := ask(ctx, by)
			if err != nil {
				return nil, err
			}
			for _, r := range said {
				if w.Override != "" && r.Refused && r.time {
					r.Refused, r.Passed, r.Hint, r.Says = false, true, "", r.Says+"; passed by --now: "+w.Override
				}
				all = all.add(r)
			}
		}
	}
	return all, nil
}

func (c *Controller) asked(ctx context.Context, w *walk) (*asked, error) {
	events, err := c.Ledger.Events(ctx, EventQuery{App: w.Stage.App})
	if err != nil {
		return nil, err
	}
	a := &asked{c: c, w: w, now: c.now(), events: events}
	if a.all, err = fold(events); err != nil {
		return nil, err
	}
	own, _ := w.app.ruled(w.Stage.Stage)
	a.by = []ruled{own}
	now, ok := lastSettled(a.all, w.Stage.Stage)
	if !ok {
		return a, nil
	}
	a.serves = &now
	served, err := c.appOf(ctx, now)
	switch {
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrBadInput):
		c.Log.Warn("the rules of what a stage serves cannot be read; those of what comes count alone", "stage", w.Stage.String(), "error", err)
		return a, nil
	case err != nil:
		return nil, err
	}
	if by, there := served.ruled(w.Stage.Stage); there {
		a.by = append(a.by, by)
	}
	return a, nil
}

// now is the wall clock, by which freezes, windows and approvals count.
func (c *Controller) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// appOf reads the app as the release of a rollout describes it.
func (c *Controller) appOf(ctx context.Context, r Rollout) (App, error) {
	w := c.newWalk(r.ID)
	w.Rollout = r
	file, err := c.file(ctx, w)
	if err != nil {
		return App{}, err
	}
	return c.Read("lotse.yaml", file)
}

func (a *asked) windows(_ context.Context, by ruled) (rulings, error) {
	until, which, err := closedUntil(by.stage.Closed, a.now)
	if err != nil || len(by.stage.Closed) == 0 {
		return nil, err
	}
	if which == "" {
		return rulings{{Rule: "windows", Says: "open", time: true}}, nil
	}
	return rulings{{Rule: "windows", Refused: true, time: true, Says: fmt.Sprintf("%s is closed until %s (%s)", a.w.Stage, until.Format(saidLike), which),
		Hint: a.nowHint()}}, nil
}

// nowHint is the one way past a rule about when.
func (a *asked) nowHint() string {
	command := "lotse deploy"
	if a.w.Verb.Moves() {
		command = "lotse " + string(a.w.Verb) + " " + a.w.Stage.Stage
	}
	return "wait, or `" + command + " --now --reason WHY`, which is kept in the history"
}

// said is a text of a person as the ledger may keep it: without what may say who somebody is, on one line.
func said(text string) string {
	return privacy.Scrub(strings.Join(strings.Fields(text), " "))
}

// longestReason is enough for a sentence or two.
const longestReason = 500

// reasonOf checks the reason that a person gives, and returns it as the ledger may keep it.
func reasonOf(text string, needed string) (string, error) {
	text = said(text)
	switch {
	case text == "" && needed != "":
		return "", Hint(fmt.Errorf("%w: %s needs a reason", ErrBadInput, needed), "--reason \"why, in a sentence\"")
	case len(text) > longestReason:
		return "", fmt.Errorf("%w: the reason has more than %d bytes", ErrBadInput, longestReason)
	}
	return text, nil
}
