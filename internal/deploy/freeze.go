package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kinds of events of a stage that a person froze. They have no rollout.
const (
	KindFrozen = "frozen" // its data says why, and until when
	KindThawed = "thawed"
)

// Frost asks to freeze a stage, or to thaw it.
type Frost struct {
	App    string    `json:"app,omitempty"` // empty: the only one
	Stage  string    `json:"stage"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is thawed
	By     Person    `json:"by"`
}

// Frozen is how a person froze a stage.
type Frozen struct {
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
	Since  time.Time `json:"since,omitzero"`
	Actor  string    `json:"actor,omitempty"`
}

func (f Frozen) holds(now time.Time) bool { return f.Until.IsZero() || now.Before(f.Until) }

// Freeze has a stage take nothing but hotfixes, beside what its lotse.yaml says. A rollout that is on its way there goes on to its end; another
// freeze takes the place of the one before. ErrBadInput without a reason or for an end that has passed.
func (c *Controller) Freeze(ctx context.Context, q Frost) error {
	reason, err := reasonOf(q.Reason, "a freeze")
	if err != nil {
		return err
	}
	if !q.Until.IsZero() && !c.now().Before(q.Until) {
		return Hint(fmt.Errorf("%w: the freeze would have ended on %s", ErrBadInput, q.Until.Format(saidLike)), "--until takes a day to come, for example 2027-01-06")
	}
	ref, actor, err := c.frost(ctx, q)
	if err != nil {
		return err
	}
	_, err = c.Ledger.Append(ctx, Event{Kind: KindFrozen, App: ref.App, Stage: ref.Stage, Actor: actor, Data: data(Frozen{Reason: reason, Until: q.Until.UTC()})})
	return err
}

// Thaw ends what Freeze began. ErrRefused where no person has frozen the stage.
func (c *Controller) Thaw(ctx context.Context, q Frost) error {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return err
	}
	ref, actor, err := c.frost(ctx, q)
	if err != nil {
		return err
	}
	events, err := c.Ledger.Events(ctx, EventQuery{App: ref.App, Stage: ref.Stage, Kinds: []string{KindFrozen, KindThawed}})
	if err != nil {
		return err
	}
	now, err := frozenNow(events, ref.Stage)
	if err != nil {
		return err
	}
	if now == nil || !now.holds(c.now()) {
		return Hint(fmt.Errorf("%w: %s is not frozen by anybody", ErrRefused, ref), "where its lotse.yaml freezes it, change that, or promote with --now --reason")
	}
	_, err = c.Ledger.Append(ctx, Event{Kind: KindThawed, App: ref.App, Stage: ref.Stage, Actor: actor, Data: data(Frozen{Reason: reason})})
	return err
}

// frost finds the stage that is meant, and who asks.
func (c *Controller) frost(ctx context.Context, q Frost) (ref StageRef, actor string, err error) {
	rollouts, err := c.rolloutsOf(ctx, Move{App: q.App, Stage: q.Stage})
	if err != nil {
		return ref, "", err
	}
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return ref, "", err
	}
	if !slices.Contains(app.stageNames(), q.Stage) {
		return ref, "", app.stageMissing(q.Stage)
	}
	actor, err = c.somebody(ctx, q.By)
	return StageRef{app.Name, q.Stage}, actor, err
}

// somebody refuses who is nobody: who has decided must be known.
func (c *Controller) somebody(ctx context.Context, by Person) (string, error) {
	if by == (Person{}) {
		return "", Hint(fmt.Errorf("%w: who asks is not known", ErrBadInput), "`git config --global user.name NAME` and user.email say who you are")
	}
	return c.Ledger.Person(ctx, by.Name, by.Mail)
}

// frozenNow is the freeze of a stage that no thaw has ended; nil where there is none.
func frozenNow(events []Event, stage string) (*Frozen, error) {
	var now *Frozen
	for _, e := range events {
		switch {
		case e.Stage != stage:
		case e.Kind == KindThawed:
			now = nil
		case e.Kind == KindFrozen:
			now = &Frozen{Since: e.At, Actor: e.Actor}
			if err := json.Unmarshal(e.Data, now); err != nil {
				return nil, fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
			}
		}
	}
	return now, nil
}

// freeze asks whether the stage is frozen, and if so whether every commit that is new to it is a hotfix. A stage that serves nothing has
// nothing to keep.
func (a *asked) freeze(ctx context.Context, by ruled) (rulings, error) {
	why, frozen, err := by.stage.Freeze.holds(a.now)
	if err != nil {
		return nil, err
	}
	person, err := frozenNow(a.events, a.w.Stage.Stage)
	if err != nil {
		return nil, err
	}
	if person != nil && person.holds(a.now) && !frozen {
		frozen, why = true, "until it is thawed: "+person.Reason
		if !person.Until.IsZero() {
			why = "until " + person.Until.Format(saidLike) + ": " + person.Reason
		}
	}
	rule := Ruling{Rule: "freeze", time: true}
	switch {
	case !frozen && by.stage.Freeze == (Freeze{}) && person == nil:
		return nil, nil
	case !frozen:
		rule.Says = "not now"
		return rulings{rule}, nil
	case a.serves == nil:
		rule.Says = "the stage is frozen and serves nothing yet: the first release is let in"
		return rulings{rule}, nil
	}
	return a.hotfixes(ctx, rule, by.stage.mark(), fmt.Sprintf("%s is frozen %s", a.w.Stage, why))
}

// mark is what the message of a hotfix holds.
func (s Stage) mark() string {
	if s.Hotfix == "" {
		return "[hotfix]"
	}
	return s.Hotfix
}

// namedAtMost is how many commits a refusal names.
const namedAtMost = 3

// hotfixes refuses what brings a commit without the mark, or takes one away.
func (a *asked) hotfixes(ctx context.Context, rule Ruling, mark, frozen string) (rulings, error) {
	span, err := a.commits(ctx)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(span.New), func(c Commit) bool { return strings.Contains(c.Message, mark) })
	switch {
	case span.Unknown:
		rule.Says = frozen + "; which commits are new cannot be found out: " + span.Why
	case len(span.Gone) > 0:
		rule.Says = fmt.Sprintf("%s; the release lacks %s that it serves", frozen, titles(span.Gone))
	case len(others) > 0:
		rule.Says = fmt.Sprintf("%s; without %s are %s", frozen, mark, titles(others))
	default:
		rule.Says = fmt.Sprintf("%s; %d of %d new commits are hotfixes (%s)", frozen, len(span.New), len(span.New), mark)
		return rulings{rule}, nil
	}
	rule.Refused = true
	rule.Hint = fmt.Sprintf("a hotfix has %s in the message of every commit, on top of commit %.8s; or %s", mark, a.serves.Commit, a.nowHint())
	return rulings{rule}, nil
}

// titles names the first commits of a list.
func titles(all []Commit) string {
	var named []string
	for _, c := range all[:min(namedAtMost, len(all))] {
		named = append(named, fmt.Sprintf("%.8s %q", c.ID, said(c.Subject)))
	}
	text := strings.Join(named, ", ")
	if more := len(all) - namedAtMost; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// commits are those between what the stage serves and what would go there.
func (a *asked) commits(ctx context.Context) (Span, error) {
	if a.span != nil {
		return *a.span, nil
	}
	span, err := a.c.span(ctx, a.w.commit, a.serves.Commit)
	if err == nil {
		a.span = &span
	}
	return span, err
}

func (c *Controller) span(ctx context.Context, of Commit, before string) (Span, error) {
	switch {
	case of.ID == before:
		return Span{}, nil
	case of.Repo == "" && of.At.IsZero() && of.Name == "":
		return Span{Unknown: true, Why: "the commit is gone from its repository"}, nil
	}
	return c.Builder.Commits(ctx, of, before)
}
