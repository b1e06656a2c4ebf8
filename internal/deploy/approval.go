package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// KindApproval is the event of a person's yes. It has no rollout; it names the stage, the release and the person.
const KindApproval = "approval"

// ApprovalKind is what a yes is for.
type ApprovalKind string

// The kinds of approvals: one mechanism, asked for at the two ends of the way from a stage to the next.
const (
	Approves ApprovalKind = "approval" // the release may come to the stage
	SignsOff ApprovalKind = "sign-off" // the release may leave the stage for the next one
)

// ApprovalRequest is somebody's yes to a release.
type ApprovalRequest struct {
	App     string       `json:"app,omitempty"` // empty: the only one
	Stage   string       `json:"stage"`
	Release string       `json:"release,omitempty"` // first digits, or a rollout's id; empty: what would be promoted next
	Kind    ApprovalKind `json:"kind"`
	Reason  string       `json:"reason,omitempty"`
	By      Person       `json:"by"`
}

// Approval is a person's yes, as it was kept.
type Approval struct {
	Stage   StageRef     `json:"stage"`
	Release Digest       `json:"release"`
	Actor   string       `json:"actor"` // opaque id
	At      time.Time    `json:"at"`
	Kind    ApprovalKind `json:"kind"`
	Reason  string       `json:"reason,omitempty"`
	// Pipeline is how the steps of the pipeline went that made the release, tests among them: what a sign-off was given on.
	Pipeline []StepEvidence `json:"pipeline,omitempty"`
}

type approvalData struct {
	Kind     ApprovalKind   `json:"kind"`
	Reason   string         `json:"reason,omitempty"`
	Pipeline []StepEvidence `json:"pipeline,omitempty"`
}

// Approve writes down a person's yes to a release. Whether that person may give it is asked now; for how long it counts, and whether there
// are enough, when the release is promoted. ErrRefused for who may not, and where nobody is asked; ErrNotFound for a release that is not
// known; ErrBadInput where who asks is not known.
func (c *Controller) Approve(ctx context.Context, q ApprovalRequest) (Approval, error) {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return Approval{}, err
	}
	actor, err := c.somebody(ctx, q.By)
	if err != nil {
		return Approval{}, err
	}
	w, err := c.approvable(ctx, q)
	if err != nil {
		return Approval{}, err
	}
	a, err := c.asked(ctx, w)
	if err != nil {
		return Approval{}, err
	}
	wanted := a.consents(q.Kind)
	if wanted == nil {
		return Approval{}, Hint(fmt.Errorf("%w: %s asks for no %s", ErrRefused, q.Stage, q.Kind), "approvals and sign_off of a stage in lotse.yaml ask for them; see docs/rules.md")
	}
	for _, want := range wanted {
		if err := a.may(ctx, want, q, actor); err != nil {
			return Approval{}, err
		}
	}
	given := Approval{Stage: StageRef{w.Stage.App, q.Stage}, Release: w.Release, Actor: actor, Kind: q.Kind, Reason: reason}
	if given.Pipeline, err = c.testsOf(ctx, w.Release); err != nil {
		return given, err
	}
	e, err := c.Ledger.Append(ctx, Event{Kind: KindApproval, App: given.Stage.App, Stage: given.Stage.Stage, Release: given.Release, Actor: actor,
		Data: data(approvalData{given.Kind, given.Reason, given.Pipeline})})
	given.At = e.At
	return given, err
}

// testsOf is how the pipeline went that made a release.
func (c *Controller) testsOf(ctx context.Context, id Digest) ([]StepEvidence, error) {
	release, err := c.Builder.Release(ctx, id)
	if err != nil {
		return nil, err
	}
	return withoutLogs(release.Record.Steps), nil
}

// approvable finds the release that is meant, as a promotion would carry it on.
func (c *Controller) approvable(ctx context.Context, q ApprovalRequest) (*walk, error) {
	if q.Kind != Approves && q.Kind != SignsOff {
		return nil, fmt.Errorf("%w: %q is neither an approval nor a sign-off", ErrBadInput, q.Kind)
	}
	rollouts, err := c.rolloutsOf(ctx, Move{App: q.App, Stage: q.Stage})
	if err != nil {
		return nil, err
	}
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return nil, err
	}
	i := slices.Index(app.stageNames(), q.Stage)
	from, to := i-1, i
	if q.Kind == SignsOff {
		from, to = i, i+1
	}
	switch {
	case i < 0:
		return nil, app.stageMissing(q.Stage)
	case from < 0:
		return nil, Hint(fmt.Errorf("%w: %s is the first stage: what a commit becomes there is not known yet", ErrRefused, q.Stage), "approvals are for the stages after it")
	case to == len(app.Stages):
		return nil, Hint(fmt.Errorf("%w: %s is the last stage: nothing leaves it", ErrRefused, q.Stage), "`lotse approve "+q.Stage+"` is for what comes")
	}
	release, err := c.meant(rollouts, app.Stages[from].Name, q)
	if err != nil {
		return nil, err
	}
	w := c.newWalk("")
	w.Rollout = release
	w.ID, w.Verb, w.From, w.Stage.Stage = "", Promoted, release.ID, app.Stages[to].Name
	if w.app, err = c.appOf(ctx, release); err != nil {
		return nil, err
	}
	dir, err := c.Places.PathOf(ctx, w.Place)
	if err != nil {
		return nil, err
	}
	if found, err := c.find(ctx, w.Rollout, dir); err == nil { // a commit that is gone is seen to where it is needed
		w.commit = found
	}
	w.commit.ID = w.Commit
	return w, nil
}

// meant is a rollout of the release that somebody speaks of: what the stage from serves, unless one is named. A tester has seen what he
// signs off on that stage.
func (c *Controller) meant(rollouts []Rollout, from string, q ApprovalRequest) (Rollout, error) {
	if q.Release == "" {
		if r, ok := lastSettled(rollouts, from); ok {
			return r, nil
		}
		return Rollout{}, Hint(fmt.Errorf("%w: %s serves nothing", ErrRefused, from), "name a release with --release")
	}
	release, err := oneReleaseNamed(rollouts, q.Release)
	if err != nil {
		return Rollout{}, err
	}
	for _, r := range slices.Backward(rollouts) {
		if r.Release == release && r.Outcome == Settled && (q.Kind == Approves || r.Stage.Stage == from) {
			return r, nil
		}
	}
	return Rollout{}, Hint(fmt.Errorf("%w: %s has not served release %s", ErrRefused, from, release.Short()), "`lotse history --stage "+from+"` lists what it did")
}

// oneReleaseNamed finds a release by its first digits, of which there must be enough.
func oneReleaseNamed(rollouts []Rollout, id string) (Digest, error) {
	release := releaseNamed(rollouts, id)
	if release == "" {
		return "", Hint(fmt.Errorf("%w: no release %q", ErrNotFound, id), "at least 6 digits of one in `lotse history`")
	}
	for _, r := range rollouts {
		if _, hex, _ := strings.Cut(string(r.Release), ":"); r.Release != release && strings.HasPrefix(hex, strings.TrimPrefix(id, "sha256:")) {
			return "", Hint(fmt.Errorf("%w: %q is more than one release", ErrBadInput, id), "give more digits")
		}
	}
	return release, nil
}

// consents are what the stage, or for a sign-off the stage before, wants of people.
func (a *asked) consents(kind ApprovalKind) (wanted []Consent) {
	for _, by := range a.by {
		if c := by.consent(kind); c.wanted() {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

func (r ruled) consent(kind ApprovalKind) Consent {
	switch {
	case kind == Approves:
		return r.stage.Approvals
	case r.before != nil:
		return r.before.SignOff
	}
	return Consent{}
}

// may says why somebody's yes would not count.
func (a *asked) may(ctx context.Context, want Consent, q ApprovalRequest, actor string) error {
	if len(want.By) > 0 && !slices.ContainsFunc(want.By, q.By.is) {
		return Hint(fmt.Errorf("%w: lotse.yaml has others give the %s of %s", ErrRefused, q.Kind, q.Stage), "it names "+shownPeople(want.By))
	}
	if !want.NotAuthor {
		return nil
	}
	not := func(what string) error {
		return Hint(fmt.Errorf("%w: %s, and %s wants the %s of somebody else", ErrRefused, what, q.Stage, q.Kind), "ask somebody who did not")
	}
	if slices.Contains(a.deployers(), actor) {
		return not("you deployed this release")
	}
	authors := []Commit{a.w.commit}
	if a.serves != nil {
		span, err := a.commits(ctx)
		if err != nil {
			return err
		}
		authors = append(authors, span.New...)
	}
	for _, c := range authors {
		if c.Name == "" && c.Mail == "" {
			return Hint(fmt.Errorf("%w: who wrote commit %.8s cannot be found out", ErrRefused, c.ID), "its repository does not have it any more; deploy it again")
		}
		if q.By.same(Person{c.Name, c.Mail}) {
			return not(fmt.Sprintf("you wrote commit %.8s of it", c.ID))
		}
	}
	return nil
}

// deployers are those who brought the release to the first stage.
func (a *asked) deployers() (actors []string) {
	for _, r := range a.all {
		if r.Release == a.w.Release && (r.Verb == Deployed || r.Verb == "") {
			actors = append(actors, r.Actor)
		}
	}
	return actors
}

// is reports whether an entry of lotse.yaml means the person: a mail address where it has an @, else a name. Case does not matter.
func (p Person) is(entry string) bool {
	if strings.Contains(entry, "@") {
		return strings.EqualFold(strings.TrimSpace(p.Mail), entry)
	}
	return strings.EqualFold(strings.TrimSpace(p.Name), entry)
}

// same tells people apart as the ledger does: by their mail addresses, and by their names where one has none.
func (p Person) same(other Person) bool {
	if p.Mail != "" && other.Mail != "" {
		return strings.EqualFold(strings.TrimSpace(p.Mail), strings.TrimSpace(other.Mail))
	}
	return p.Name != "" && strings.EqualFold(strings.TrimSpace(p.Name), strings.TrimSpace(other.Name))
}

// shownPeople names entries of lotse.yaml without whole mail addresses: what is said may end in a log.
func shownPeople(entries []string) string {
	shown := make([]string, len(entries))
	for i, e := range entries {
		if name, domain, ok := strings.Cut(e, "@"); ok {
			e = name[:min(1, len(name))] + "… at " + domain
		}
		shown[i] = e
	}
	return strings.Join(shown, ", ")
}

func (a *asked) approvals(_ context.Context, by ruled) (rulings, error) {
	return a.consent(by.consent(Approves), Approves, a.w.Stage.Stage)
}

func (a *asked) signOff(_ context.Context, by ruled) (rulings, error) {
	if by.before == nil {
		return nil, nil
	}
	return a.consent(by.consent(SignsOff), SignsOff, by.before.Name)
}

// consent counts who has said yes to the release and still counts, each once.
func (a *asked) consent(want Consent, kind ApprovalKind, stage string) (rulings, error) {
	if !want.wanted() || a.w.Verb != Promoted {
		return nil, nil
	}
	given, err := approvalsOf(a.events, StageRef{a.w.Stage.App, stage}, a.w.Release, kind)
	if err != nil {
		return nil, err
	}
	counts, late := want.counting(given, a.now, a.deployers())
	rule := Ruling{Rule: string(kind), Says: fmt.Sprintf("%d of %d", len(counts), want.People)}
	if len(counts) >= want.People {
		rule.Says += fmt.Sprintf(", the last %s", counts[len(counts)-1].At.Format(saidLike))
		return rulings{rule}, nil
	}
	noun := string(kind)
	if want.People > 1 {
		noun += "s"
	}
	rule.Refused = true
	rule.Says = fmt.Sprintf("release %s needs %d %s of %s and has %d", a.w.Release.Short(), want.People, noun, stage, len(counts))
	if late > 0 {
		rule.Says += fmt.Sprintf("; %d more than %s old", late, shortDuration(want.Within))
	}
	if len(want.By) > 0 {
		rule.Says += "; wanted of " + shownPeople(want.By)
	}
	if want.NotAuthor {
		rule.Says += "; not of who wrote or deployed it"
	}
	command := "approve"
	if kind == SignsOff {
		command = "signoff"
	}
	rule.Hint = fmt.Sprintf("`lotse %s %s --release %s`", command, stage, a.w.Release.Short())
	return rulings{rule}, nil
}

// counting are the approvals that count now, the newest of each person, in the order in which they were given; late is how many are
// too old. Ages are by the wall clock: one that jumps forward ends an approval early, one that jumps back lets it count longer by as much.
func (c Consent) counting(given []Approval, now time.Time, deployers []string) (counts []Approval, late int) {
	newest := map[string]Approval{}
	for _, g := range given {
		newest[g.Actor] = g
	}
	for actor, g := range newest {
		switch {
		case c.NotAuthor && slices.Contains(deployers, actor):
		case c.Within > 0 && now.Sub(g.At) > c.Within:
			late++
		default:
			counts = append(counts, g)
		}
	}
	slices.SortFunc(counts, func(a, b Approval) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Actor, b.Actor)) })
	return counts, late
}

// approvalsOf reads what was said of a release.
func approvalsOf(events []Event, stage StageRef, release Digest, kind ApprovalKind) (all []Approval, err error) {
	for _, e := range events {
		if e.Kind != KindApproval || e.App != stage.App || e.Stage != stage.Stage || e.Release != release {
			continue
		}
		var d approvalData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return nil, fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
		}
		if d.Kind == kind {
			all = append(all, Approval{Stage: stage, Release: release, Actor: e.Actor, At: e.At, Kind: d.Kind, Reason: d.Reason, Pipeline: d.Pipeline})
		}
	}
	return all, nil
}
