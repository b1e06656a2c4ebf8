package deploy

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Controller carries rollouts through the table. There is one per ledger. It is crash-only: all it knows is in the ledger and in
// the engines. Its methods are safe for concurrent use once Run was called.
type Controller struct {
	Config

	base    context.Context // ends when the controller does
	begun   chan struct{}   // closed when everything unfinished was taken up
	crew    crew
	jobs    scheduler
	mu      sync.Mutex
	active  map[StageRef]*walk
	byID    map[string]*walk
	engines map[StageRef]Engine
	changed chan struct{}     // something settled: look at warm releases and jobs again
	freed   map[StageRef]bool // stages that were ended and are gone

	retiring map[StageRef]*retirement
	pushes   *pushes

	dataChanged chan struct{}       // a snapshot was taken, a stage serves something else: look at snapshots and drills again
	unsafe      map[StageRef]string // why the data of a stage is not safe, as tendData saw it last
	drilling    map[StageRef]*drilling
	shutFor     map[StageRef]bool // stages whose data is being replaced; no rollout begins there
}

// Config is what a controller needs from its neighbours.
type Config struct {
	Ledger  Ledger
	Places  Places
	Builder Builder
	Migrate Migrator
	Sources Sources // nil: no push starts anything
	// Read makes an app of lotse.yaml, or returns every mistake in it.
	Read func(name string, file []byte) (App, error)
	// Settings reads what a stage's instances are given. dir is where lotse.yaml lies in the work tree.
	Settings func(ctx context.Context, dir string, app string, stage Stage) (Settings, error)
	// Earlier is Settings with variables in the versions that something had, and without those that it had not: what lotse.yaml and an
	// env_file say is as at Settings, and so is the password. A *VersionsError names what can be had no more. nil: nothing goes back.
	Earlier func(ctx context.Context, dir string, app string, stage Stage, had ValueVersions) (Settings, error)
	// Engine opens the engine of a stage.
	Engine func(app string, stage Stage) (Engine, error)
	// Snapshots opens what keeps snapshots of a stage whose engine takes none itself. ErrUnsupported where nothing can. nil: nothing does.
	Snapshots func(app string, stage Stage) (Snapshots, error)

	// Masks copies databases without the people in them. nil: nothing does.
	Masks Masks
	// Whereabouts finds out where services of others stand that the settings of a stage point to, and returns what it found. ErrRefused
	// for one that is outside the EU. nil: nothing is asked.
	Whereabouts func(ctx context.Context, stage Stage, settings []Setting) ([]Evidence, error)
	// Browser loads pages of a release before it gets traffic. nil: there is none.
	Browser Browser
	// Space is what is free on the disk of the state folder, and how much that has, in bytes. nil: nobody asks.
	Space func() (free, total int64, err error)
	// Judge makes the judge of one of so many spans in which a rollout is watched, beside the release before in the same minutes or after it.
	// nil: health alone is asked.
	Judge func(limits Limits, spans int, beside bool) Judge
	// Address is where a stage's URL is reached on this machine, with the port.
	Address func(Stage) string
	// Now is the wall clock by which freezes, windows and approvals count. nil: time.Now.
	Now func() time.Time
	// Owner tells this controller from any other, also from the one before it on this machine.
	Owner string
	// Hider hides values, from when it was given them, in what the controller writes down and says. nil: nothing is hidden.
	Hider Hider
	Log   *slog.Logger
}

// Hider hides secret values in text. It is safe for concurrent use.
type Hider interface {
	Know(values []secret.Text)
	String(text string) string
}

// Settings are the variables of a stage, and a name for their version that says nothing of the values.
type Settings struct {
	Values   []Setting
	Version  string
	Password secret.Text // of a private stage; it is no variable, and a new one is no new version
	Secrets  []string    // names among Values that were set as secrets: nothing may bake them in
	Digests  ValueNames  // of each of Values
	Versions ValueVersions
}

// Places keeps paths of work trees beside the ledger under opaque ids, since a path may hold somebody's name.
type Places interface {
	Place(ctx context.Context, path string) (id string, err error)
	PathOf(ctx context.Context, id string) (path string, err error)
}

// New makes a controller. Run must be called before anything else.
func New(c Config) *Controller {
	return &Controller{Config: c, begun: make(chan struct{}), active: map[StageRef]*walk{}, byID: map[string]*walk{},
		engines: map[StageRef]Engine{}, changed: make(chan struct{}, 1), freed: map[StageRef]bool{}, retiring: map[StageRef]*retirement{}, pushes: newPushes(),
		dataChanged: make(chan struct{}, 1), shutFor: map[StageRef]bool{}, unsafe: map[StageRef]string{}, drilling: map[StageRef]*drilling{}}
}

// Run takes up what an earlier controller left unfinished, then ends warm releases in time and runs jobs, until ctx ends.
// Rollouts that are under way then stay as they are, for the next controller. A cancel is not an error.
func (c *Controller) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c.base = base
	defer c.crew.Dismiss()
	defer cancel(errShutdown)
	if err := c.takeUp(ctx); err != nil {
		return err
	}
	if err := c.takeUpData(ctx); err != nil {
		return err
	}
	close(c.begun)
	c.crew.Go(func() { c.tendData(base) })
	defer c.watchPushes(ctx)()
	c.tend(ctx)
	return nil
}

// Ready is closed when the controller has taken up what was unfinished.
func (c *Controller) Ready() <-chan struct{} { return c.begun }

// equip reads lotse.yaml and opens what the stage needs.
func (c *Controller) equip(ctx context.Context, w *walk, file []byte, stage string) (err error) {
	if w.app, err = c.Read("lotse.yaml", file); err != nil {
		return err
	}
	if w.stage, err = w.app.stage(stage); err != nil {
		return err
	}
	w.Stage = StageRef{w.app.Name, w.stage.Name}
	if w.settings, err = c.settingsOf(ctx, w); err != nil {
		return err
	}
	engine, err := c.engine(w.app.Name, w.stage)
	if err != nil {
		return err
	}
	if err := w.stage.ableTo(engine.Facts()); err != nil {
		return err
	}
	w.engine = &bounded{Engine: engine, start: w.app.longestStart()}
	if err := w.addDatabase(ctx, engine); err != nil {
		return err
	}
	c.know(w.app.hidden(w.stage, w.settings))
	return nil
}

// file is lotse.yaml of a rollout: in its release, or in the commit where there is no release yet.
func (c *Controller) file(ctx context.Context, w *walk) ([]byte, error) {
	if w.Release == "" {
		return c.Builder.File(ctx, w.commit, "lotse.yaml")
	}
	release, err := c.Builder.Release(ctx, w.Release)
	if err != nil {
		return nil, Hint(fmt.Errorf("release %s: %w", w.Release.Short(), err), "deploy its commit again; old releases are pruned")
	}
	files, err := c.Builder.Files(ctx, release)
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(files, LotseFile)
}

// longestStart is the longest that a service may take to become healthy.
func (a App) longestStart() time.Duration {
	longest := time.Duration(0)
	for _, s := range a.Services {
		longest = max(longest, s.Start)
	}
	return longest
}

// drain is how long what is in flight on a stage may take to finish.
func (a App) drain(s Stage) time.Duration {
	if s.Drain > 0 {
		return s.Drain
	}
	longest := time.Duration(0)
	for _, s := range a.Services {
		longest = max(longest, s.Drain)
	}
	return longest
}

// stage finds a stage by name; empty is the first.
func (a App) stage(name string) (Stage, error) {
	i := slices.IndexFunc(a.Stages, func(s Stage) bool { return s.Name == name })
	if name == "" && len(a.Stages) > 0 {
		i = 0
	}
	if i < 0 {
		return Stage{}, a.stageMissing(name)
	}
	return a.Stages[i], nil
}

func (a App) stageMissing(name string) error {
	hint := "stages are: " + strings.Join(a.stageNames(), ", ")
	if name == "" {
		return Hint(fmt.Errorf("%w: no stage was named", ErrBadInput), hint)
	}
	return Hint(fmt.Errorf("%w: %s has no stage %q", ErrNotFound, a.Name, name), hint)
}

func (a App) stageNames() (names []string) {
	for _, s := range a.Stages {
		names = append(names, s.Name)
	}
	return names
}

func (c *Controller) newWalk(id string) *walk {
	return &walk{Rollout: Rollout{ID: id, Outcome: Going}, c: c, finished: make(chan struct{}), overtaken: make(chan struct{}),
		live: newBroadcast()}
}

// enter makes w the rollout of its stage, behind one that is only being watched. What is taken up after a restart stood
// behind another one already.
func (c *Controller) enter(w *walk, takenUp bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shutFor[w.Stage] {
		return Hint(fmt.Errorf("%w: the data of %s is being restored", ErrBusy, w.Stage), "`lotse db status` shows it; wait for its end")
	}
	if before := c.active[w.Stage]; before != nil {
		if err := before.blocks(); err != nil && !takenUp {
			return err
		}
		w.before = before
	}
	w.ctx, w.cancel = context.WithCancelCause(c.base)
	c.active[w.Stage] = w
	c.byID[w.ID] = w
	return nil
}

// blocks is why no other rollout may come to the stage yet; nil when it has ended and only tidies up, and while it is only being watched
// and nobody waits for that to end.
func (w *walk) blocks() error {
	if w.over() || w.watching() && w.before == nil {
		return nil
	}
	return Hint(fmt.Errorf("%w: rollout %s is on its way to %s", ErrBusy, w.ID, w.Stage.Stage),
		fmt.Sprintf("see it with `lotse follow %s`, end it with `lotse abort %s`, or wait", w.ID, w.ID))
}

func (c *Controller) leave(w *walk) {
	w.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, w.ID)
	if c.active[w.Stage] == w {
		delete(c.active, w.Stage)
	}
}

// begin walks w in a goroutine of its own. At the end of Run that is too late: then the next controller takes it up.
func (c *Controller) begin(w *walk) {
	joined := c.crew.Go(func() {
		defer w.cancel(nil)
		err := w.run(w.ctx)
		c.leave(w)
		c.Log.Info("rollout ended", "rollout", w.ID, "stage", w.Stage.String(), "outcome", w.Outcome, "error", err)
		c.prune()
		c.look()
	})
	if !joined {
		c.leave(w)
		close(w.finished)
	}
}

// Abort ends a rollout; what it did is undone.
func (c *Controller) Abort(_ context.Context, id string) error {
	c.mu.Lock()
	w := c.byID[id]
	c.mu.Unlock()
	if w == nil {
		return Hint(fmt.Errorf("%w: rollout %s is not on its way", ErrNotFound, id), "`lotse history` shows how it ended")
	}
	w.cancel(ErrAborted)
	return nil
}

// takeUp goes on with every rollout that has not ended, and makes sure that what ran is running.
func (c *Controller) takeUp(ctx context.Context) error {
	events, err := c.Ledger.Events(ctx, EventQuery{})
	if err != nil {
		return err
	}
	rollouts, err := fold(events)
	if err != nil {
		return err
	}
	for stage, going := range goingOn(rollouts) {
		if !going {
			c.freeLease(ctx, stage)
		}
	}
	for _, r := range rollouts {
		if !r.Outcome.Ended() {
			c.resume(ctx, r)
		}
	}
	for _, r := range current(rollouts) {
		if err := c.adopt(ctx, r); err != nil {
			c.Log.Error("what was running could not be adopted", "rollout", r.ID, "stage", r.Stage.String(), "error", err)
		}
	}
	for _, r := range overOf(rollouts) {
		w := c.newWalk(r.ID)
		w.Rollout = r
		if err := c.reequip(ctx, w); err != nil {
			c.Log.Warn("a stage that was ended could not be looked at again", "stage", r.Stage.String(), "error", err)
		}
	}
	return nil
}

// goingOn maps every stage to whether a rollout of it has not ended.
func goingOn(rollouts []Rollout) map[StageRef]bool {
	going := map[StageRef]bool{}
	for _, r := range rollouts {
		going[r.Stage] = going[r.Stage] || !r.Outcome.Ended()
	}
	return going
}

// freeLease frees the lease that a controller held which died between the last event of a rollout and giving it back.
func (c *Controller) freeLease(ctx context.Context, stage StageRef) {
	lease, err := c.Ledger.Acquire(ctx, stage, c.owner("start"), leaseTTL, c.gone)
	if err == nil {
		err = c.Ledger.Release(ctx, lease)
	}
	if err != nil {
		c.Log.Warn("a lease could not be freed; it ends by itself", "stage", stage.String(), "error", err)
	}
}

// resume takes one rollout up again. What makes that impossible is written as its end.
func (c *Controller) resume(ctx context.Context, r Rollout) {
	w := c.newWalk(r.ID)
	w.Rollout = r
	err := c.reequip(ctx, w)
	if err == nil {
		err = c.enter(w, true)
	}
	if err == nil {
		c.Log.Info("rollout taken up", "rollout", r.ID, "stage", r.Stage.String())
		c.begin(w)
		return
	}
	c.Log.Error("rollout cannot be taken up", "rollout", r.ID, "error", err)
	lost := data(Turned{Step: "build", Why: "after a restart: " + err.Error(), Hint: HintOf(err), Code: CodeOf(err)})
	err = errors.Join(w.write(ctx, Event{Kind: KindTurned, Data: lost}), w.write(ctx, Event{Kind: KindReverted}))
	if err != nil {
		c.Log.Error("and that could not be recorded", "rollout", r.ID, "error", err)
	}
}

// reequip gives a rollout that the ledger knows what it needs. Its commit may be gone from its repository: that is found out where
// the commit is needed.
func (c *Controller) reequip(ctx context.Context, w *walk) error {
	dir, err := c.Places.PathOf(ctx, w.Place)
	if err != nil {
		return err
	}
	w.commit, err = c.find(ctx, w.Rollout, dir)
	if err != nil && w.Release == "" {
		return err
	}
	w.commit.ID, w.commit.Tree = w.Commit, dir
	file, err := c.file(ctx, w)
	if err != nil {
		return err
	}
	return c.equip(ctx, w, file, w.Stage.Stage)
}

// current returns the settled rollouts that may still run: the last of each stage, and the one before it.
func current(rollouts []Rollout) []Rollout {
	byStage := map[StageRef][]Rollout{}
	for _, r := range rollouts {
		if r.Outcome == Settled {
			byStage[r.Stage] = append(byStage[r.Stage], r)
		}
	}
	var all []Rollout
	for _, settled := range byStage {
		all = append(all, settled[max(0, len(settled)-2):]...)
	}
	slices.SortFunc(all, func(a, b Rollout) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// adopt gives an engine back what it needs to keep a rollout running, where the engine wants that.
func (c *Controller) adopt(ctx context.Context, r Rollout) (err error) {
	w := c.newWalk(r.ID)
	w.Rollout = r
	if err := c.reequip(ctx, w); err != nil {
		return err
	}
	adopter, ok := c.opened(w.Stage).(Adopter)
	if !ok {
		return nil
	}
	order, err := w.again(ctx)
	if err != nil {
		return err
	}
	if err := adopter.Adopt(ctx, r.instances(), order); !errors.Is(err, ErrUnknown) {
		return err
	}
	return nil // it is stopped: nothing to adopt
}

// engine opens the engine of a stage once.
func (c *Controller) engine(app string, stage Stage) (Engine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := StageRef{app, stage.Name}
	if e := c.engines[ref]; e != nil {
		return e, nil
	}
	e, err := c.Engine(app, stage)
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", ref, err)
	}
	c.engines[ref] = e
	return e, nil
}

// owner is what a lease is taken under: which rollout, in which controller.
func (c *Controller) owner(rollout string) string { return c.Owner + "/" + rollout }

// gone reports whether a lease's owner is a controller before this one. There is one controller at a time on a ledger, so
// any other is.
func (c *Controller) gone(owner string) bool { return !strings.HasPrefix(owner, c.Owner+"/") }

// goingBack is a context for undoing: no abort ends it, only the end of the controller.
func (c *Controller) goingBack(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.base, func() { cancel(errShutdown) })
	return ctx, func() { stop(); cancel(nil) }
}

// rolloutID is short enough to be typed: 8 letters and digits, 40 bits of chance.
func rolloutID() string {
	var b [5]byte
	rand.Read(b[:]) // never fails, by its documentation
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
