package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Verb is how a release comes to a stage.
type Verb string

// The verbs.
const (
	Deployed   Verb = "deploy"   // a commit, through the pipeline, to the first stage
	Promoted   Verb = "promote"  // what the stage before serves
	RolledBack Verb = "rollback" // what the stage served before
	Redeployed Verb = "redeploy" // what the stage serves, with the variables that it has now
)

// Moves reports whether the verb takes a release that is there already.
func (v Verb) Moves() bool { return v == Promoted || v == RolledBack || v == Redeployed }

// Person is somebody who asks for something. Name and address go into the table beside the ledger and nowhere else.
type Person struct {
	Name string `json:"name,omitempty"`
	Mail string `json:"mail,omitempty"`
}

// Request asks for a deploy: the pipeline on a commit, then a rollout of what it makes.
type Request struct {
	Dir   string `json:"dir"`             // folder of lotse.yaml
	Rev   string `json:"rev,omitempty"`   // a commit in git's words; empty: HEAD of a clean work tree
	Stage string `json:"stage,omitempty"` // empty: the first of the file, which is the only one that takes commits
	Again bool   `json:"again,omitempty"` // also when the stage serves exactly this
	By    Person `json:"by,omitzero"`     // empty: the commit's author

	Override
}

// Override is the one way past a freeze, a window or what is found of migrations: a reason, which is kept. It passes no approval, and lets
// no bad release in.
type Override struct {
	Now             bool   `json:"now,omitempty"`
	WithoutSnapshot bool   `json:"without_snapshot,omitempty"` // migrate without a snapshot before
	Reason          string `json:"reason,omitempty"`

	AllowMigration []string `json:"allow_migration,omitempty"` // what of migrations is let in that would be refused: RULE:KEY, as a plan shows it
}

// pass writes the reason into what of w it is for.
func (o Override) pass(w *walk) error {
	if !o.Now && !o.WithoutSnapshot && len(o.AllowMigration) == 0 {
		if o.Reason != "" {
			return Hint(fmt.Errorf("%w: a reason is given, and nothing is to be passed", ErrBadInput),
				"--now passes a freeze or a window, --without-snapshot migrates without one, --allow-migration lets one migration in, and --reason says why")
		}
		return nil
	}
	if err := checkAllowances(o.AllowMigration); err != nil {
		return err
	}
	flag := "--now"
	switch {
	case o.Now:
	case o.WithoutSnapshot:
		flag = "--without-snapshot"
	default:
		flag = "--allow-migration"
	}
	reason, err := reasonOf(o.Reason, flag)
	if len(o.AllowMigration) > 0 {
		w.Allowed, w.AllowedWhy = o.AllowMigration, reason
	}
	if o.Now {
		w.Override = reason
	}
	if o.WithoutSnapshot {
		w.Unsaved = reason
	}
	return err
}

// Move asks for a release that is there already: to promote it, or to roll back to it.
type Move struct {
	App   string `json:"app,omitempty"` // empty: the only one
	Stage string `json:"stage"`
	To    string `json:"to,omitempty"` // rollback: the rollout or the first digits of the release to go back to; empty: the release before
	Again bool   `json:"again,omitempty"`
	By    Person `json:"by,omitzero"`

	CurrentValues bool `json:"current_values,omitempty"` // rollback: with the variables of now, not with those that the release had

	Override
}

// Deploy begins a deploy and returns its rollout's id at once; Follow tells how it goes. ErrBusy while another rollout of
// the stage is on its way, unless that one is only being watched. ErrRefused for a stage that is not the first.
func (c *Controller) Deploy(ctx context.Context, q Request) (string, error) {
	w, err := c.deploying(ctx, q)
	if err != nil {
		return "", err
	}
	return c.request(ctx, w, q.By)
}

// deploying is a deploy that was not asked for yet.
func (c *Controller) deploying(ctx context.Context, q Request) (*walk, error) {
	w := c.newWalk(rolloutID())
	w.Verb, w.Again = Deployed, q.Again
	err := q.Override.pass(w)
	if err != nil {
		return nil, err
	}
	if w.commit, err = c.Builder.Resolve(ctx, q.Dir, q.Rev); err != nil {
		return nil, err
	}
	if w.Place, err = c.Places.Place(ctx, w.commit.Tree); err != nil {
		return nil, err
	}
	file, err := c.Builder.File(ctx, w.commit, "lotse.yaml")
	if err != nil {
		return nil, Hint(err, "Lotse reads lotse.yaml from the commit; add it and commit")
	}
	if err := c.equip(ctx, w, file, q.Stage); err != nil {
		return nil, err
	}
	if first := w.app.Stages[0].Name; w.Stage.Stage != first {
		return nil, Hint(fmt.Errorf("%w: a commit goes to %s; %s takes what the stage before it serves", ErrRefused, first, w.Stage.Stage),
			fmt.Sprintf("`lotse promote %s`", w.Stage.Stage))
	}
	w.Watches, err = c.watchOf(ctx, w)
	return w, err
}

// Promote begins a rollout of what the stage before serves. Errors are those of Deploy; ErrRefused where the stage before serves
// nothing, or there is none.
func (c *Controller) Promote(ctx context.Context, q Move) (string, error) {
	w, err := c.promoting(ctx, q)
	if err != nil {
		return "", err
	}
	return c.request(ctx, w, q.By)
}

func (c *Controller) promoting(ctx context.Context, q Move) (*walk, error) {
	rollouts, err := c.rolloutsOf(ctx, q)
	if err != nil {
		return nil, err
	}
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(app.Stages, func(s Stage) bool { return s.Name == q.Stage })
	switch {
	case i < 0:
		return nil, app.stageMissing(q.Stage)
	case i == 0:
		return nil, Hint(fmt.Errorf("%w: %s is the first stage", ErrRefused, q.Stage), "`lotse deploy` brings a commit there")
	}
	from, ok := lastSettled(rollouts, app.Stages[i-1].Name)
	if !ok {
		hint := "`lotse promote " + app.Stages[i-1].Name + "` first"
		if i == 1 {
			hint = "`lotse deploy` first"
		}
		return nil, Hint(fmt.Errorf("%w: %s serves nothing that could go on to %s", ErrRefused, app.Stages[i-1].Name, q.Stage), hint)
	}
	return c.move(ctx, Promoted, from, q)
}

// Rollback begins a rollout of what the stage served before, with the variables that it had then: going back twice goes back further.
// ErrRefused where there is nothing to go back to, and (a *VersionsError) where a version of a variable can be had no more.
func (c *Controller) Rollback(ctx context.Context, q Move) (string, error) {
	w, err := c.rollingBack(ctx, q)
	if err != nil {
		return "", err
	}
	return c.request(ctx, w, q.By)
}

func (c *Controller) rollingBack(ctx context.Context, q Move) (*walk, error) {
	rollouts, err := c.rolloutsOf(ctx, q)
	if err != nil {
		return nil, err
	}
	road := roadOf(rollouts, q.Stage)
	if len(road) == 0 {
		return nil, c.servesNothing(ctx, rollouts, q.Stage)
	}
	if q.To != "" {
		return c.rollbackTo(ctx, rollouts, road[len(road)-1], q)
	}
	i := len(road) - 2
	if i < 0 {
		return nil, Hint(fmt.Errorf("%w: %s has served nothing before release %s", ErrRefused, q.Stage, road[0].Release.Short()),
			"deploy or promote what is to be there")
	}
	return c.move(ctx, RolledBack, road[i], q)
}

// rollbackTo goes to any release that the stage has served, also to one that a rollback has left.
func (c *Controller) rollbackTo(ctx context.Context, rollouts []Rollout, now Rollout, q Move) (*walk, error) {
	to := releaseNamed(rollouts, q.To)
	if to != "" && to == now.Release {
		return nil, Hint(fmt.Errorf("%w: %s is what %s serves", ErrRefused, q.To, q.Stage), "`lotse history --stage "+q.Stage+"` lists what it served before")
	}
	for _, r := range slices.Backward(rollouts) {
		if r.Stage.Stage == q.Stage && r.Outcome == Settled && r.Release == to {
			return c.move(ctx, RolledBack, r, q)
		}
	}
	return nil, Hint(fmt.Errorf("%w: %s has not served %s", ErrNotFound, q.Stage, q.To), "`lotse history --stage "+q.Stage+"` lists what it did")
}

// Redeploy begins a rollout of what the stage serves, with the variables and secrets that it has now.
func (c *Controller) Redeploy(ctx context.Context, q Move) (string, error) {
	w, err := c.redeploying(ctx, q)
	if err != nil {
		return "", err
	}
	return c.request(ctx, w, q.By)
}

func (c *Controller) redeploying(ctx context.Context, q Move) (*walk, error) {
	rollouts, err := c.rolloutsOf(ctx, q)
	if err != nil {
		return nil, err
	}
	now, ok := lastSettled(rollouts, q.Stage)
	if !ok {
		return nil, c.servesNothing(ctx, rollouts, q.Stage)
	}
	q.Again = true
	return c.move(ctx, Redeployed, now, q)
}

// servesNothing says so, or that there is no such stage.
func (c *Controller) servesNothing(ctx context.Context, rollouts []Rollout, stage string) error {
	app, err := c.newest(ctx, rollouts)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(app.Stages, func(s Stage) bool { return s.Name == stage }) {
		return app.stageMissing(stage)
	}
	return Hint(fmt.Errorf("%w: %s/%s serves nothing", ErrRefused, app.Name, stage), "`lotse status` shows the stages")
}

// releaseNamed is the release that somebody means who writes the id of a rollout or the first digits of a release.
func releaseNamed(rollouts []Rollout, id string) Digest {
	for _, r := range slices.Backward(rollouts) {
		_, hex, _ := strings.Cut(string(r.Release), ":")
		if r.ID == id || len(id) >= 6 && strings.HasPrefix(hex, strings.TrimPrefix(id, "sha256:")) {
			return r.Release
		}
	}
	return ""
}

func indexOf(road []Rollout, release Digest) int {
	return slices.IndexFunc(road, func(r Rollout) bool { return r.Release == release })
}

// move is a rollout of a release that was settled somewhere, and was not asked for yet.
func (c *Controller) move(ctx context.Context, verb Verb, from Rollout, q Move) (*walk, error) {
	w := c.newWalk(rolloutID())
	return w, c.moving(ctx, w, verb, from, q)
}

// moving makes w that rollout.
func (c *Controller) moving(ctx context.Context, w *walk, verb Verb, from Rollout, q Move) error {
	w.Verb, w.Again, w.From = verb, q.Again, from.ID
	if err := q.Override.pass(w); err != nil {
		return err
	}
	w.Commit, w.Place, w.Origin, w.Release = from.Commit, from.Place, from.Origin, from.Release
	w.Stage = StageRef{from.Stage.App, q.Stage}
	if verb == RolledBack && !q.CurrentValues {
		w.Versions, w.asks = from.Versions, true
	}
	return c.reequip(ctx, w)
}

// checks are what is asked before a rollout begins, in this order. What a plan says is what they say.
func (c *Controller) checks() []func(context.Context, *walk) error {
	return []func(context.Context, *walk) error{
		func(ctx context.Context, w *walk) error { return w.refuseBad(ctx) },
		func(_ context.Context, w *walk) error { return w.gone },
		func(_ context.Context, w *walk) error { return w.app.Missing(w.stage, w.settings) },
		c.addressTaken, c.secretsInCommit, c.leaksInCommit, c.admit, c.schemaStands,
	}
}

// request writes down what was asked for, and begins it. Whatever can be known before is asked before. Where nobody is named, the commit's
// author asks.
func (c *Controller) request(ctx context.Context, w *walk, by Person) (id string, err error) {
	for _, ask := range c.checks() {
		if err := ask(ctx, w); err != nil {
			return "", err
		}
	}
	w.Rules = append(w.leaks, w.Rules...)
	if w.Tag != "" {
		w.Rules = append([]Evidence{{Probe: "tag", Figure: fmt.Sprintf("%s names commit %.8s", w.Tag, w.commit.ID)}}, w.Rules...)
	}
	if by == (Person{}) {
		by = Person{w.commit.Name, w.commit.Mail}
	}
	if w.Actor, err = c.Ledger.Person(ctx, by.Name, by.Mail); err != nil {
		return "", err
	}
	if err := c.enter(w, false); err != nil {
		return "", err
	}
	request := requestedData{Verb: w.Verb, From: w.From, Release: w.Release, Commit: w.commit.ID, Place: w.Place, Again: w.Again,
		Trigger: w.Trigger, Tag: w.Tag, Origin: w.Origin, Watches: w.Watches,
		Rules: w.Rules, Override: w.Override, Unsaved: w.Unsaved, Allowed: w.Allowed, AllowedWhy: w.AllowedWhy, CommitAt: w.commit.At, Values: w.settings.Digests, Versions: w.settings.Versions,
		Version: w.settings.Version, URL: c.Address(w.stage), Hosts: w.stage.hosts(), Warm: w.stage.Warm, Drain: w.app.drain(w.stage)}
	for _, s := range w.app.Stages {
		request.Road = append(request.Road, Stop{s.Name, c.Address(s)})
	}
	if err := w.write(ctx, Event{Kind: KindRequested, Data: data(request)}); err != nil {
		c.leave(w)
		return "", err
	}
	c.begin(w)
	c.pushes.look()
	return w.ID, nil
}

// secretsInCommit refuses a commit that holds what is to be kept out of it: the env_file of any stage, since the release goes on to all.
// What is promoted has passed here before.
func (c *Controller) secretsInCommit(ctx context.Context, w *walk) error {
	for _, s := range w.app.Stages {
		if w.Verb != Deployed || s.EnvFile == "" || path.IsAbs(s.EnvFile) {
			continue
		}
		_, err := c.Builder.File(ctx, w.commit, path.Clean(s.EnvFile))
		if err == nil {
			return Hint(fmt.Errorf("%w: the commit %s holds %s, the env_file of %s: who has the repository has what is in it", ErrBadInput, w.commit.ID[:min(8, len(w.commit.ID))], s.EnvFile, s.Name),
				fmt.Sprintf("`git rm --cached %s`, add it to .gitignore, commit; and change every secret that was in it", s.EnvFile))
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// hosts are the host names of a stage's URL and of its redirects.
func (s Stage) hosts() (hosts []string) {
	for _, address := range append([]string{s.URL}, s.Redirects...) {
		if u, err := url.Parse(address); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// addressTaken refuses a stage whose address another app's stage has, or another stage of this one.
func (c *Controller) addressTaken(ctx context.Context, w *walk) error {
	rollouts, err := c.rollouts(ctx, EventQuery{})
	if err != nil {
		return err
	}
	for _, r := range slices.Concat(settledOf(rollouts), notEnded(rollouts)) {
		if r.Stage == w.Stage {
			continue
		}
		for _, host := range w.stage.hosts() {
			if slices.Contains(r.Hosts, host) {
				return Hint(fmt.Errorf("%w: %s is the address of %s already", ErrBadInput, host, r.Stage), "give every stage of every app a host of its own")
			}
		}
	}
	return nil
}

func notEnded(rollouts []Rollout) (going []Rollout) {
	for _, r := range rollouts {
		if !r.Outcome.Ended() {
			going = append(going, r)
		}
	}
	return going
}

// rolloutsOf returns the rollouts of the app that is meant; there is at least one.
func (c *Controller) rolloutsOf(ctx context.Context, q Move) ([]Rollout, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{App: q.App})
	if err != nil {
		return nil, err
	}
	var apps []string
	for _, r := range rollouts {
		if !slices.Contains(apps, r.Stage.App) {
			apps = append(apps, r.Stage.App)
		}
	}
	switch {
	case len(apps) > 1:
		return nil, Hint(fmt.Errorf("%w: there are several apps", ErrBadInput), "name one with --app: "+strings.Join(apps, ", "))
	case len(apps) == 0 && q.App != "":
		return nil, Hint(fmt.Errorf("%w: %s was never deployed", ErrRefused, q.App), "`lotse deploy` brings a commit to the first stage")
	case len(apps) == 0:
		return nil, Hint(fmt.Errorf("%w: nothing was deployed yet", ErrRefused), "`lotse deploy` brings a commit to the first stage")
	}
	return rollouts, nil
}

// newest reads the app as the last release that settled anywhere describes it.
func (c *Controller) newest(ctx context.Context, rollouts []Rollout) (App, error) {
	i := len(rollouts) - 1
	for i >= 0 && rollouts[i].Outcome != Settled {
		i--
	}
	if i < 0 {
		return App{}, Hint(fmt.Errorf("%w: no release of %s serves anywhere", ErrRefused, rollouts[0].Stage.App), "`lotse deploy` brings a commit to the first stage")
	}
	return c.appOf(ctx, rollouts[i])
}

func lastSettled(rollouts []Rollout, stage string) (Rollout, bool) {
	for _, r := range slices.Backward(rollouts) {
		if r.Stage.Stage == stage && r.Outcome == Settled {
			return r, true
		}
	}
	return Rollout{}, false
}

// roadOf is the way on which a stage came to what it serves, the last at its end. Going back takes away what it went back over, so that
// the next rollback goes further back, and never to what was left.
func roadOf(rollouts []Rollout, stage string) (road []Rollout) {
	for _, r := range rollouts {
		if r.Stage.Stage != stage || r.Outcome != Settled {
			continue
		}
		i := indexOf(road, r.Release)
		switch {
		case r.Verb == RolledBack && i >= 0:
			road = road[:i]
		case len(road) > 0 && road[len(road)-1].Release == r.Release:
			road = road[:len(road)-1] // the same again
		}
		road = append(road, r)
	}
	return road
}
