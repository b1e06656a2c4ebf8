package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/lotse-eu/lotse/internal/secret"
)

// How often a branch is looked at. A local one costs a few system calls; a remote one a request to somebody else's machine, so
// that machines spread and give way while it does not answer.
const (
	localEvery   = 2 * time.Second
	localMost    = 30 * time.Second // while it cannot be read
	remoteEvery  = 30 * time.Second
	remoteMost   = 10 * time.Minute
	remoteSpread = 0.1 // of the time, up or down
	freeEvery    = time.Second
)

// pushes holds a watcher for every stage that a push starts.
type pushes struct {
	changed  chan struct{} // what is watched may be another
	mu       sync.Mutex
	watchers map[StageRef]*watcher
}

func newPushes() *pushes {
	return &pushes{changed: make(chan struct{}, 1), watchers: map[StageRef]*watcher{}}
}

// look makes the controller ask anew what is to be watched.
func (p *pushes) look() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// watchPushes watches until stop, which returns when no watcher is left.
func (c *Controller) watchPushes(ctx context.Context) (stop func()) {
	if c.Sources == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			var again <-chan time.Time
			if err := c.arrange(ctx, &running); err != nil && ctx.Err() == nil {
				c.Log.Error("what is to be watched for pushes cannot be found out; it is tried again", "error", err)
				again = time.After(remoteEvery)
			}
			select {
			case <-ctx.Done():
				return
			case <-c.pushes.changed:
			case <-again:
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// arrange begins and ends watchers, so that there is one for what the ledger says is watched.
func (c *Controller) arrange(ctx context.Context, running *sync.WaitGroup) error {
	states, err := c.pushStates(ctx, "")
	if err != nil {
		return err
	}
	c.pushes.endBut(states)
	c.pushes.mu.Lock()
	defer c.pushes.mu.Unlock()
	for ref, state := range states {
		if w := c.pushes.watchers[ref]; w != nil {
			w.know()
			w.show(func(s *Watching) { s.Refused = state.refused })
			continue
		}
		if state.watch == nil {
			continue
		}
		w, wrong := c.newWatcher(ctx, ref, state)
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", ref, wrong))
			continue
		}
		c.pushes.watchers[ref] = w
		running.Go(w.run)
	}
	return err
}

// endBut ends the watchers that the ledger no longer wants as they are, and waits for them: one at a time decides for a stage.
func (p *pushes) endBut(states map[StageRef]pushState) {
	var ending []*watcher
	p.mu.Lock()
	for ref, w := range p.watchers {
		if state := states[ref]; !w.watch.same(state.watch) || w.place != state.place {
			w.cancel()
			delete(p.watchers, ref)
			ending = append(ending, w)
		}
	}
	p.mu.Unlock()
	for _, w := range ending {
		<-w.ended
	}
}

// watcher looks at one branch for one stage, and at the tags that start stages of its app. One goroutine does; what is below mu is seen by others.
type watcher struct {
	c      *Controller
	ref    StageRef
	watch  *Watch
	origin Origin
	place  string              // opaque id of the work tree of the last deploy
	dir    string              // that work tree
	tags   map[string]*tagLook // by stage
	stage  *Stage              // by whose settings the token is found; nil: not known yet

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	nudge  chan struct{}
	stale  atomic.Bool // the ledger may know more than done says
	done   string      // commit for which nothing is left to do
	waits  string      // commit that waits until the stage is free
	begun  bool        // the ledger says where the watching began

	schedule cron.Schedule // nil: what was pushed goes at once
	dueAt    time.Time     // zero: not asked yet

	mu    sync.Mutex
	shown Watching
	tries int       // in a row that failed
	next  time.Time // when it is tried again
}

func (c *Controller) newWatcher(ctx context.Context, ref StageRef, state pushState) (*watcher, error) {
	w := &watcher{c: c, ref: ref, watch: state.watch, place: state.place, ended: make(chan struct{}), nudge: make(chan struct{}, 1)}
	var err error
	if w.origin, err = c.origin(ctx, state.watch.Repository); err != nil {
		return nil, err
	}
	if w.dir, err = c.Places.PathOf(ctx, state.place); err != nil {
		return nil, err
	}
	if state.watch.Schedule != "" {
		if w.schedule, err = ParseSchedule(state.watch.Schedule); err != nil {
			return nil, err
		}
	}
	w.shown = Watching{Repository: w.origin.URL, Local: w.origin.Local, Branch: w.watch.Branch, Refused: state.refused}
	w.tags = w.newTagLooks()
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.stale.Store(true)
	return w, nil
}

func (w *watcher) run() {
	defer close(w.ended)
	defer w.cancel()
	for {
		err := w.look(w.ctx)
		if err == nil && w.ctx.Err() == nil {
			err = w.lookForTags(w.ctx)
		}
		if w.ctx.Err() != nil {
			return
		}
		if !w.rest(w.ctx, w.pause(err)) {
			return
		}
	}
}

// rest waits until it is time to look again, somebody says that something was pushed, or the stage is free for what waits.
func (w *watcher) rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var free <-chan time.Time
	if w.waits != "" && w.c.blocked(w.ref) { // else it waits for a repository that cannot be read
		ticker := time.NewTicker(freeEvery)
		defer ticker.Stop()
		free = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.nudge:
			return true
		case <-timer.C:
			return true
		case <-free:
			if !w.c.blocked(w.ref) {
				return true
			}
		}
	}
}

// pause is how long to wait until the next look, after one that ended so.
func (w *watcher) pause(err error) time.Duration {
	every, most := localEvery, localMost
	if !w.origin.Local {
		every, most = remoteEvery, remoteMost
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		if w.tries > 0 {
			w.c.Log.Info("pushes can be looked for again", "stage", w.ref.String())
		}
		w.tries, w.shown.Looked = 0, time.Now().UTC()
	} else {
		if w.tries++; w.tries == 1 {
			w.c.Log.Warn("pushes cannot be looked for; it is tried again", "stage", w.ref.String(), "error", w.plain(err))
		}
		w.shown.Trouble = w.plain(err)
	}
	pause := every
	for i := 1; i < w.tries && pause < most; i++ {
		pause *= 2
	}
	pause = min(pause, most)
	if !w.origin.Local {
		pause += time.Duration((2*rand.Float64() - 1) * remoteSpread * float64(pause)) //nolint:gosec // it spreads requests, it guards nothing
	}
	w.next = time.Now().Add(pause)
	return pause
}

// plain is an error without the places where things lie: they may hold somebody's name.
func (w *watcher) plain(err error) string {
	said := strings.TrimPrefix(err.Error(), ErrUnavailable.Error()+": ") // when it is tried again stands beside it
	for _, hide := range []struct{ what, as string }{{w.origin.URL, "the repository"}, {w.dir, "the work tree"}} {
		if len(hide.what) > 1 {
			said = strings.ReplaceAll(said, hide.what, hide.as)
		}
	}
	return w.c.hide(said)
}

// know has the watcher ask the ledger at its next look.
func (w *watcher) know() {
	w.stale.Store(true)
	for _, t := range w.tags {
		t.stale.Store(true)
	}
}

func (w *watcher) show(change func(*Watching)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.shown)
}

// says is what a status tells.
func (w *watcher) says(now time.Time) *Watching {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.shown
	if w.tries > 0 {
		times := "once"
		if w.tries > 1 {
			times = fmt.Sprintf("%d times", w.tries)
		}
		s.Trouble = fmt.Sprintf("%s, tried %s, next in %s", s.Trouble, times, max(0, w.next.Sub(now)).Round(time.Second))
	}
	return &s
}

// watching is how a stage is watched; nil where it is not.
func (c *Controller) watching(ref StageRef) *Watching {
	c.pushes.mu.Lock()
	w := c.pushes.watchers[ref]
	c.pushes.mu.Unlock()
	if w == nil || w.watch.Branch == "" {
		return nil
	}
	return w.says(time.Now())
}

// Pushed says that something was pushed to the repository that holds dir, or from a clone there. It returns the stages for which that
// repository is looked at now; none where nobody watches it.
func (c *Controller) Pushed(ctx context.Context, dir string) ([]StageRef, error) {
	told := []StageRef{}
	if c.Sources == nil {
		return told, nil
	}
	repository, err := c.Sources.Repository(ctx, dir)
	if err != nil {
		return nil, err
	}
	c.pushes.mu.Lock()
	all := make([]*watcher, 0, len(c.pushes.watchers))
	for _, w := range c.pushes.watchers {
		all = append(all, w)
	}
	c.pushes.mu.Unlock()
	for _, w := range all {
		if !w.concerns(ctx, repository) {
			continue
		}
		select {
		case w.nudge <- struct{}{}:
		default:
		}
		told = append(told, w.ref)
	}
	slices.SortFunc(told, func(a, b StageRef) int { return cmp.Compare(a.String(), b.String()) })
	return told, nil
}

// concerns reports whether a repository is the one that is watched, or the clone from which the stage was deployed.
func (w *watcher) concerns(ctx context.Context, repository string) bool {
	if w.origin.Local && w.origin.URL == repository {
		return true
	}
	clone, err := w.c.Sources.Repository(ctx, w.dir)
	return err == nil && clone == repository
}

// token is what opens the repository; empty where nothing is needed. It is read each time, so that a new one counts at once.
func (w *watcher) token(ctx context.Context, state func() (pushState, error)) (secret.Text, error) {
	if w.watch.Token == "" {
		return secret.Text{}, nil
	}
	if w.stage == nil {
		s, err := state()
		if err != nil {
			return secret.Text{}, err
		}
		if w.stage, err = w.c.watchedStage(ctx, w, s); err != nil {
			return secret.Text{}, err
		}
	}
	settings, err := w.c.Settings(ctx, w.dir, w.ref.App, *w.stage)
	if err != nil {
		return secret.Text{}, err
	}
	for _, v := range settings.Values {
		if v.Name == w.watch.Token && !v.Value.Empty() {
			w.c.know([]secret.Text{v.Value})
			return v.Value, nil
		}
	}
	return secret.Text{}, Hint(fmt.Errorf("%w: %s", ErrMissing, w.watch.Token), fmt.Sprintf("`lotse secrets set --stage %s %s`", w.ref.Stage, w.watch.Token))
}

// watchedStage reads the stage as lotse.yaml has it where the token was named: in the push that was decided on last, or in what was
// deployed by hand.
func (c *Controller) watchedStage(ctx context.Context, w *watcher, state pushState) (*Stage, error) {
	commit, err := c.Sources.Commit(ctx, w.origin, state.seen)
	if state.refused != "" || errors.Is(err, ErrNotFound) {
		var last Rollout
		if last, err = c.rollout(ctx, state.last); err == nil {
			commit, err = c.find(ctx, last, w.dir)
		}
	}
	var file []byte
	if err == nil {
		file, err = c.Builder.File(ctx, commit, "lotse.yaml")
	}
	if err != nil {
		return nil, err
	}
	app, err := c.Read("lotse.yaml", file)
	if err != nil {
		return nil, err
	}
	stage, err := app.stage(w.ref.Stage)
	return &stage, err
}

// blocked reports whether a new rollout of the stage would have to wait.
func (c *Controller) blocked(ref StageRef) bool {
	c.mu.Lock()
	before := c.active[ref]
	c.mu.Unlock()
	return before != nil && before.blocks() != nil
}
