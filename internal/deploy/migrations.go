package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Migrations are judged at entry. What the code that runs on the stage cannot stand waits until none of it runs any more. Whether it can is
// asked of the release: one whose folder has a migration was made for the schema with it, and for the one before it.

// Kinds of events of migrations that old code cannot stand.
const (
	KindWaiting    = "migrations.waiting"    // of a rollout: its release came without them
	KindContracted = "migrations.contracted" // they ran, or why they did not
)

type waitingData struct {
	Files []string `json:"files"`
	Now   []string `json:"now,omitempty"` // of the same class, and run with the release: all that runs knows them
	Why   string   `json:"why,omitempty"` // they failed

	Reason string `json:"reason,omitempty"` // of a person who had them run before their time
}

// foldMigrations takes an event of migrations into the rollout that they came with.
func (r *Rollout) foldMigrations(kind string, d waitingData) {
	switch {
	case kind == KindWaiting:
		r.Waiting, r.WaitFailed = d.Files, ""
		r.Contracts = append(r.Contracts, without(d.Now, r.Contracts)...)
	case d.Why != "":
		r.WaitFailed = d.Why
	default:
		r.Contracted = append(r.Contracted, without(d.Files, r.Contracted)...)
		r.Waiting, r.WaitFailed = without(r.Waiting, d.Files), ""
	}
}

// judgeMigrations refuses what is dangerous, and finds out what has to wait, before anything runs.
func (w *walk) judgeMigrations(ctx context.Context) error {
	db := w.stage.Database
	if !db.Migrates() {
		return nil
	}
	files, err := w.c.Builder.Files(ctx, w.release)
	if err != nil {
		return err
	}
	running, err := w.engine.List(ctx)
	if err != nil {
		return err
	}
	running = slices.DeleteFunc(running, func(r Running) bool { return r.Rollout == w.instances() })
	if db.Own() && len(running) == 0 {
		w.prove(Evidence{Probe: "migrations judged", Figure: "not: nothing runs here that they could break"})
		return w.wait(ctx, nil, nil)
	}
	j, err := w.c.judged(ctx, w, files)
	if errors.Is(err, ErrUnsupported) {
		if err := w.mayRunUnjudged(err, files, running); err != nil {
			return err
		}
		return w.wait(ctx, nil, nil)
	}
	if err != nil {
		return err
	}
	w.brings = &j
	w.allow(j)
	waiting, err := w.c.mustWait(ctx, j, running, db)
	if err != nil {
		return err
	}
	w.prove(Evidence{Probe: "migrations judged", Figure: j.figure(waiting)})
	if err := j.refused(waiting, db.Migrate != "" && len(running) > 0); err != nil {
		return err
	}
	if db.Migrate != "" {
		return w.wait(ctx, nil, nil)
	}
	return w.wait(ctx, waiting, without(j.Of(Contract), waiting))
}

// judged asks the migrator. Where the database cannot be reached, what earlier releases have brought is taken to have run.
func (c *Controller) judged(ctx context.Context, w *walk, files fs.FS) (Judgement, error) {
	if w.stage.Database.Migrate != "" {
		return c.judgedCommand(ctx, w, commandLog)
	}
	folder := w.stage.Database.Migrations
	all, err := c.Ledger.Events(ctx, EventQuery{App: w.Stage.App})
	if err != nil {
		return Judgement{}, err
	}
	rollouts, err := fold(all)
	if err != nil {
		return Judgement{}, err
	}
	q := MigrationQuestion{Files: files, Dir: folder}
	if q.Ran, err = c.migrationsRun(ctx, &asked{w: w, all: rollouts}, folder); err != nil {
		return Judgement{}, err
	}
	gone := contractedOn(rollouts, w.Stage)
	for _, r := range rollouts {
		if r.Stage == w.Stage {
			q.Ran = without(q.Ran, without(r.Waiting, gone))
		}
	}
	if !w.migratesInStart() {
		if q.URL, err = w.databaseURL(); err != nil {
			return Judgement{}, err
		}
	}
	return c.Migrate.Judge(ctx, q)
}

// mustWait are the contract files that a release does not have which runs now. Of a command, nothing can wait.
func (c *Controller) mustWait(ctx context.Context, j Judgement, running []Running, db Database) ([]string, error) {
	waiting := j.Of(Contract)
	if len(waiting) == 0 || db.Migrate != "" {
		return nil, nil
	}
	common, err := c.knownToAll(ctx, running, db.Migrations, waiting)
	return without(waiting, common), err
}

// knownToAll are those of names that every release has which runs.
func (c *Controller) knownToAll(ctx context.Context, running []Running, folder string, names []string) ([]string, error) {
	for _, r := range running {
		of, err := c.rollout(ctx, r.Rollout)
		if errors.Is(err, ErrNotFound) {
			return nil, nil // nobody knows what it is
		}
		if err != nil {
			return nil, err
		}
		walk := c.newWalk("")
		walk.Release = of.Release
		known, err := c.migrationsOf(ctx, walk, folder)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		names = without(names, without(names, known))
	}
	return names, nil
}

// refused says why these migrations are not let in. Of a whole that old code runs beside, nothing can wait.
func (j Judgement) refused(waiting []string, whole bool) error {
	var said, hints []string
	for _, f := range j.Files {
		if class := f.Class(); class == Dangerous || whole && class == Contract {
			for _, v := range f.Verdicts {
				if v.Allowed == "" && (v.Class == Dangerous || whole && v.Class == Contract) {
					said, hints = append(said, f.Name+", "+v.String()), append(hints, v.wayIn(f))
				}
			}
			continue
		}
		if needs := without(f.Needs, without(f.Needs, waiting)); len(needs) > 0 && !slices.Contains(waiting, f.Name) {
			said = append(said, fmt.Sprintf("%s needs %s, which has to wait until the release before is gone", f.Name, strings.Join(needs, ", ")))
			hints = append(hints, "bring what waits in a release before this one")
		}
	}
	if len(said) == 0 {
		return nil
	}
	slices.Sort(hints)
	return Hint(fmt.Errorf("%w: its migrations are not let in:\n  %s", ErrRefused, strings.Join(said, "\n  ")), strings.Join(slices.Compact(hints), "\n"))
}

// wayIn is the safer way, and how to say that it may be.
func (v Verdict) wayIn(f JudgedFile) string {
	ways := []string{fmt.Sprintf("%s: %s", v.Rule, v.Safer)}
	if v.Line > 0 {
		ways = append(ways, fmt.Sprintf("or, where it may be, write into %s: -- lotse:allow %s REASON", f.Name, v.Rule))
	}
	if v.Key != "" {
		ways = append(ways, "or, where it may be this once: "+passBy(v.Allowance()))
	}
	return strings.Join(ways, "; ")
}

// figure is the judgement in a line.
func (j Judgement) figure(waiting []string) string {
	if len(j.Files) == 0 {
		return "no migration is new"
	}
	var parts []string
	for _, class := range []MigrationClass{Expand, Contract, Dangerous} {
		if names := j.Of(class); len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", len(names), class))
		}
	}
	said := []string{fmt.Sprintf("%s, on PostgreSQL %s with %s, in %s", strings.Join(parts, ", "), j.Server, j.Schema, j.Took.Round(time.Millisecond))}
	if len(j.Lacks) > 0 {
		said = append(said, "it lacked "+strings.Join(j.Lacks, ", "))
	}
	for _, f := range j.Files {
		for _, v := range f.Verdicts {
			said = append(said, f.Name+", "+v.String())
		}
	}
	if len(waiting) > 0 {
		said = append(said, "these wait until the release before is gone: "+strings.Join(waiting, ", "))
	}
	return strings.Join(said, "; ")
}

// wait writes down which files wait, where that is news.
func (w *walk) wait(ctx context.Context, names, now []string) error {
	if slices.Equal(names, w.Waiting) && len(without(now, w.Contracts)) == 0 {
		return nil
	}
	return w.write(ctx, Event{Kind: KindWaiting, Data: data(waitingData{Files: names, Now: now})})
}

// contracted writes down that what old code cannot stand has run with the release.
func (w *walk) contracted(ctx context.Context) error {
	if len(without(w.Contracts, w.Contracted)) == 0 {
		return nil
	}
	return w.write(ctx, Event{Kind: KindContracted, Release: w.Release, Data: data(waitingData{Files: w.Contracts})})
}

// schemaStands refuses a release that the schema of the stage cannot bear any more.
func (c *Controller) schemaStands(ctx context.Context, w *walk) error {
	folder := w.stage.Database.Migrations
	if folder == "" {
		return nil
	}
	rollouts, err := c.rollouts(ctx, EventQuery{App: w.Stage.App})
	if err != nil {
		return err
	}
	gone := contractedOn(rollouts, w.Stage)
	if len(gone) == 0 {
		return nil
	}
	own, err := c.migrationsOf(ctx, w, folder)
	if err != nil {
		return err
	}
	lacks := without(gone, own)
	if len(lacks) == 0 {
		return nil
	}
	return Hint(fmt.Errorf("%w: the release is older than the schema of %s: %s ran there, which its code cannot stand", ErrRefused, w.Stage, strings.Join(lacks, ", ")),
		"deploy a commit that puts it right on the schema as it is; or restore the snapshot that was taken before, which loses what was written since")
}

// contractedOn are the migrations that ran on a stage and that releases without them cannot stand.
func contractedOn(rollouts []Rollout, stage StageRef) (names []string) {
	for _, r := range rollouts {
		if r.Stage == stage {
			names = append(names, without(r.Contracted, names)...)
		}
	}
	return names
}

// contract runs what has waited, on every stage where nothing runs any more that could not stand it.
func (c *Controller) contract(ctx context.Context) {
	rollouts, err := c.rollouts(ctx, EventQuery{})
	if err != nil {
		c.Log.Error("waiting migrations could not be looked at", "error", err)
		return
	}
	going := goingOn(rollouts)
	for _, r := range settledOf(rollouts) {
		if len(r.Waiting) == 0 || r.WaitFailed != "" || going[r.Stage] || c.busy(r.Stage) || c.opened(r.Stage) == nil {
			continue
		}
		w, ready, err := c.mayContract(ctx, r)
		if err != nil && ctx.Err() == nil {
			c.Log.Warn("waiting migrations could not be looked at", "stage", r.Stage.String(), "error", err)
		}
		if err != nil || !ready {
			continue // the end of the warm time, or of the next rollout, makes us look again
		}
		c.crew.Go(func() {
			if err := c.runWaiting(ctx, w); err != nil && ctx.Err() == nil {
				c.Log.Warn("waiting migrations have not run", "stage", r.Stage.String(), "error", err)
			}
		})
	}
}

// mayContract reports whether all that runs on the stage of r can stand what waits there. Where instances alone reach the database, the next
// release runs it.
func (c *Controller) mayContract(ctx context.Context, r Rollout) (*walk, bool, error) {
	w := c.newWalk(r.ID)
	w.Rollout = r
	if err := c.reequip(ctx, w); err != nil || w.migratesInStart() {
		return nil, false, err
	}
	running, err := w.engine.List(ctx)
	if err != nil {
		return nil, false, err
	}
	ready, err := c.knownToAll(ctx, running, w.stage.Database.Migrations, w.Waiting)
	return w, len(running) > 0 && len(without(w.Waiting, ready)) == 0, err
}

// runWaiting has the stage to itself meanwhile: a rollout that comes waits for it.
func (c *Controller) runWaiting(ctx context.Context, w *walk) error {
	done, err := c.aside(ctx, w.Stage)
	if err != nil {
		return nil // a rollout has come, and its migrations are judged anew
	}
	defer done()
	rollouts, err := c.rollouts(ctx, EventQuery{App: w.Stage.App})
	if err != nil {
		return err
	}
	last, _ := lastSettled(rollouts, w.Stage.Stage)
	if last.ID != w.ID || len(last.Waiting) == 0 || last.WaitFailed != "" { // a newer rollout has come, or another run of this was faster
		return nil
	}
	lease, err := c.Ledger.Acquire(ctx, w.Stage, c.owner("migrations"), leaseTTL, c.gone)
	if errors.Is(err, ErrBusy) {
		return sleep(ctx, endLook) // another controller; looking again at once would be looking all the time
	}
	if err != nil {
		return err
	}
	w.lease = lease
	w.cancel = func(error) {} // what migrates is fenced by its own lock in the database
	w.renewing(ctx)
	defer w.stopRenewing()
	if err = w.contractNow(ctx); err != nil {
		_ = sleep(ctx, endLook) // where even that could not be written down, looking again at once would be looking all the time
	}
	return errors.Join(err, c.Ledger.Release(context.WithoutCancel(ctx), lease))
}

func (w *walk) runMigrations(ctx context.Context, wait ...string) (Migrated, error) {
	address, err := w.databaseURL()
	if err != nil {
		return Migrated{}, err
	}
	return w.migrateAt(ctx, address, wait...)
}

// migrateAt brings one database to where the release wants it.
func (w *walk) migrateAt(ctx context.Context, address secret.Text, wait ...string) (Migrated, error) {
	if w.stage.Database.Migrate != "" {
		command, err := w.command(address, commandLog)
		if err != nil {
			return Migrated{}, err
		}
		return w.c.Migrate.Run(ctx, address, command)
	}
	files, err := w.c.Builder.Files(ctx, w.release)
	if err != nil {
		return Migrated{}, err
	}
	return w.c.Migrate.Migrate(ctx, address, files, w.stage.Database.Migrations, wait...)
}
