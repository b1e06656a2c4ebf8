package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// PlanRequest asks what a request would do. Deploy counts for the verb deploy, Move for the others.
type PlanRequest struct {
	Verb   Verb    `json:"verb"`
	Deploy Request `json:"deploy,omitzero"`
	Move   Move    `json:"move,omitzero"`
}

// Plan is what would happen, and why it would or would not be let in. It is made of what is known now; nothing is changed by it, and
// nothing is asked of the release's own services.
type Plan struct {
	Verb    Verb      `json:"verb"`
	Stage   StageRef  `json:"stage"`
	URL     string    `json:"url"`
	Release Digest    `json:"release,omitempty"` // empty: the pipeline makes it
	Commit  string    `json:"commit"`
	Serves  *Lane     `json:"serves,omitempty"`  // what the stage serves; nil: nothing
	Refused []Refusal `json:"refused,omitempty"` // why it would not be let in; empty: it would be
	Rules   []Ruling  `json:"rules,omitempty"`   // what the rules of the stage say, also those that let it in

	New            []PlannedCommit `json:"new"`                       // commits that come, the newest first
	Gone           []PlannedCommit `json:"gone,omitempty"`            // that go, where it is no descendant of what is served
	CommitsUnknown string          `json:"commits_unknown,omitempty"` // why the two lists above say nothing

	Variables VariableChanges `json:"variables"`
	Database  DatabasePlan    `json:"database,omitzero"`
	Gates     []string        `json:"gates"`    // what the release will be asked
	Strategy  string          `json:"strategy"` // how it gets the traffic
}

// Refusal is one reason not to let a rollout in. Code is that of the error that the request would end with.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// PlannedCommit is a commit as people name it.
type PlannedCommit struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
}

// VariableChanges are names of variables that differ from what the stage's release was given. Values are told to nobody.
type VariableChanges struct {
	Added   []string `json:"added,omitempty"`
	Changed []string `json:"changed,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Back    []string `json:"back,omitempty"`    // a rollback gives them the values that the release had, not those of now
	Without []string `json:"without,omitempty"` // a rollback goes without them: they were set since
	Now     string   `json:"now,omitempty"`     // why a rollback gives the values of now; empty: it does not, or is none
	Unknown string   `json:"unknown,omitempty"` // why they cannot be told
}

// DatabasePlan is what happens to the stage's database.
type DatabasePlan struct {
	Says string   `json:"says,omitempty"`
	Run  []string `json:"run,omitempty"`  // migrations that no release of this stage has brought yet
	Stay []string `json:"stay,omitempty"` // migrations that were run there and that the release does not know: nothing undoes them

	Judged  *Judgement `json:"judged,omitempty"`  // of Run; nil: nothing runs that they could break, or they could not be judged
	Wait    []string   `json:"wait,omitempty"`    // of Run: those that wait until what is served now is gone
	Refused *Refusal   `json:"refused,omitempty"` // why they would not be let in
}

// Plan says what a request would do. Errors are those of the request where it names nothing that could be planned; what would refuse it
// otherwise is in the plan.
func (c *Controller) Plan(ctx context.Context, q PlanRequest) (Plan, error) {
	w, err := c.planned(ctx, q)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Verb: w.Verb, Stage: w.Stage, URL: c.Address(w.stage), Release: w.Release, Commit: w.commit.ID, New: []PlannedCommit{}}
	a, err := c.asked(ctx, w)
	if err != nil {
		return p, err
	}
	if p.Rules, err = c.rulings(ctx, w); err != nil {
		return p, err
	}
	c.judge(ctx, w, &p)
	if a.serves != nil {
		p.Serves = &Lane{Rollout: a.serves.ID, Release: a.serves.Release, Commit: a.serves.Commit, Actor: a.serves.Actor, Since: a.serves.Ended}
		if err := p.commits(ctx, a); err != nil {
			return p, err
		}
	}
	p.Variables = changedSince(a.serves, w.settings.Digests)
	p.Variables.goesBack(w)
	if p.Database, err = c.planDatabase(ctx, a); err != nil {
		return p, err
	}
	if err := c.plannedMigrations(ctx, w, &p.Database); err != nil {
		return p, err
	}
	if p.Database.Refused != nil {
		p.Refused = append(p.Refused, *p.Database.Refused)
	}
	p.Gates, p.Strategy = w.gatesToCome(), w.way(a.serves == nil)
	return p, nil
}

func (c *Controller) planned(ctx context.Context, q PlanRequest) (*walk, error) {
	switch q.Verb {
	case Deployed:
		return c.deploying(ctx, q.Deploy)
	case Promoted:
		return c.promoting(ctx, q.Move)
	case RolledBack:
		return c.rollingBack(ctx, q.Move)
	case Redeployed:
		return c.redeploying(ctx, q.Move)
	}
	return nil, fmt.Errorf("%w: there is no plan of %q", ErrBadInput, q.Verb)
}

// judge asks all that the request would be asked, also after something has refused.
func (c *Controller) judge(ctx context.Context, w *walk, p *Plan) {
	var all []error
	c.mu.Lock()
	before := c.active[w.Stage]
	c.mu.Unlock()
	if before != nil {
		all = append(all, before.blocks())
	}
	for _, ask := range c.checks() {
		all = append(all, ask(ctx, w))
	}
	for _, err := range all {
		if err != nil {
			p.Refused = append(p.Refused, c.refusal(err))
		}
	}
}

func (p *Plan) commits(ctx context.Context, a *asked) error {
	span, err := a.commits(ctx)
	if err != nil {
		return err
	}
	p.New, p.Gone, p.CommitsUnknown = plannedCommits(span.New), plannedCommits(span.Gone), span.Why
	return nil
}

func plannedCommits(all []Commit) []PlannedCommit {
	named := make([]PlannedCommit, len(all))
	for i, c := range all {
		named[i] = PlannedCommit{c.ID, c.Subject, c.At}
	}
	return named
}

// changedSince compares the variables that the stage has now with those that its release was given.
func changedSince(serves *Rollout, now ValueNames) (changes VariableChanges) {
	switch {
	case serves == nil:
		changes.Added = slices.Sorted(maps.Keys(now))
		return changes
	case serves.Values == nil:
		changes.Unknown = "what it serves was rolled out before Lotse kept which variables it had"
		return changes
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		switch before, had := serves.Values[name]; {
		case !had:
			changes.Added = append(changes.Added, name)
		case before != now[name]:
			changes.Changed = append(changes.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(serves.Values)) {
		if _, has := now[name]; !has {
			changes.Removed = append(changes.Removed, name)
		}
	}
	return changes
}

// planDatabase compares the migrations of the release with those that were brought to the stage. What somebody ran there by hand it does
// not know.
func (c *Controller) planDatabase(ctx context.Context, a *asked) (d DatabasePlan, err error) {
	folder := a.w.stage.Database.Migrations
	if folder == "" { // what a command brings, nothing but running it says
		return d, nil
	}
	own, err := c.migrationsOf(ctx, a.w, folder)
	if err != nil {
		return d, err
	}
	ran, err := c.migrationsRun(ctx, a, folder)
	if err != nil {
		return d, err
	}
	d.Run, d.Stay = without(own, ran), without(ran, own)
	switch {
	case len(d.Run) > 0:
		d.Says = fmt.Sprintf("%d migrations run before the release starts, while the one before goes on", len(d.Run))
	case len(d.Stay) > 0:
		d.Says = fmt.Sprintf("nothing is undone: %d migrations stay that the release does not know", len(d.Stay))
	default:
		d.Says = "no migration is new, and none is undone"
	}
	return d, nil
}

func without(all, taken []string) (rest []string) {
	for _, name := range all {
		if !slices.Contains(taken, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// migrationsOf are the names of the SQL files that a release brings, or its commit where there is no release yet.
func (c *Controller) migrationsOf(ctx context.Context, w *walk, folder string) (names []string, err error) {
	var paths []string
	if w.Release == "" {
		paths, err = c.Builder.Names(ctx, w.commit, folder)
	} else {
		paths, err = c.filesIn(ctx, w.Release, folder)
	}
	for _, p := range paths {
		if strings.HasSuffix(p, ".sql") {
			names = append(names, strings.TrimPrefix(p, folder+"/"))
		}
	}
	return names, err
}

func (c *Controller) filesIn(ctx context.Context, id Digest, folder string) (paths []string, err error) {
	release, err := c.Builder.Release(ctx, id)
	if err != nil {
		return nil, err
	}
	files, err := c.Builder.Files(ctx, release)
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(files, folder, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			paths = append(paths, path.Clean(p))
		}
		return err
	})
	return paths, err
}

// releasesAsked is how many releases of a stage are looked at for what they brought: what the depot keeps, and some.
const releasesAsked = 10

// migrationsRun are what the releases of a stage have brought whose rollouts came past the step that migrates, also those that went back:
// migrations are not undone. A release that was pruned is left out; what followed it has its files as well.
func (c *Controller) migrationsRun(ctx context.Context, a *asked, folder string) (names []string, err error) {
	seen := map[Digest]bool{}
	for _, r := range slices.Backward(a.all) {
		migrated := slices.ContainsFunc(r.Steps, func(s Step) bool { return (s.Name == "migrate" || s.Name == "start") && s.Ended })
		if r.Stage != a.w.Stage || r.Release == "" || seen[r.Release] || !migrated || len(seen) == releasesAsked {
			continue
		}
		seen[r.Release] = true
		of := c.newWalk("")
		of.Release = r.Release
		more, err := c.migrationsOf(ctx, of, folder)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		names = append(names, without(more, names)...)
	}
	slices.Sort(names)
	return names, nil
}

// gatesToCome are the gates that the release will be asked, in their order.
func (w *walk) gatesToCome() []string {
	gates := []string{"the release's bytes", "variables"}
	if w.stage.AWS.Region != "" {
		gates = append(gates, "region")
	}
	gates = append(gates, "disk", "health")
	if w.Verb == RolledBack {
		return gates // what goes back has passed the others
	}
	gates = append(gates, "tls")
	for _, e := range w.stage.Gates.Smoke {
		gates = append(gates, "smoke test "+e.Name)
	}
	if limit := w.stage.Gates.PageLoad.Limit; limit > 0 {
		gates = append(gates, "page load within "+limit.String())
	}
	return gates
}

// way is how the release gets the traffic of the stage, in a sentence.
func (w *walk) way(first bool) string {
	s := w.stage
	switch {
	case s.Strategy == Recreate:
		return "recreate: what is served stops before the release starts; then watched for " + shortDuration(s.Watch)
	case w.Verb == RolledBack:
		return "all traffic at once, then watched for " + shortDuration(s.Watch)
	case s.Strategy == Canary && first:
		return "the first release of the stage: all traffic at once, then watched for " + shortDuration(s.Watch)
	case s.Strategy == Canary:
		var steps []string
		for _, c := range s.Canary {
			steps = append(steps, fmt.Sprintf("%d %% for %s", c.Share, shortDuration(c.Bake)))
		}
		return "canary: " + strings.Join(append(steps, "100 %"), ", ") + ", then watched for " + shortDuration(s.Watch)
	}
	return "blue-green: beside what is served, then all traffic at once, then watched for " + shortDuration(s.Watch)
}
