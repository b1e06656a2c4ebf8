package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/process"
)

// walk runs the steps of one run in one checkout.
//
//	waiting ──> running ──> done        its outputs lie in the checkout; storing them goes on beside
//	   │           ├──────> failed      what needs it is skipped, the others go on
//	   ├───────────┴──────> skipped     something that it needs failed, or the run was cancelled
//	cached                              its outputs come to the checkout when a step that runs needs them
type walk struct {
	*run
	slot   *slot
	places chan struct{}           // one for each step that may run at once
	over   map[*step]chan struct{} // closed when a step is over, or its cached outputs are there

	stores  errgroup.Group
	storing sync.Mutex // one tree at a time, to leave the cores to the steps

	failMu sync.Mutex
	failed []error // of steps, in the order of their ends
	broken error   // something else went wrong: the run ends
	stale  map[*step]bool
}

func newWalk(r *run, slot *slot) *walk {
	w := &walk{run: r, slot: slot, places: make(chan struct{}, r.p.config.Parallel), over: map[*step]chan struct{}{}, stale: map[*step]bool{}}
	for _, s := range r.steps {
		w.over[s] = make(chan struct{})
	}
	return w
}

func (w *walk) walk(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wanted := map[*step]bool{} // cached, and seen by a step that runs
	for _, s := range w.steps {
		if w.state(s) != deploy.StepCached {
			for _, n := range s.all {
				wanted[n] = true
			}
		}
	}
	// Where two could start, the one that more wait for goes first.
	order := slices.SortedStableFunc(slices.Values(w.steps), func(a, b *step) int { return b.chain - a.chain })
	var all sync.WaitGroup
	for _, s := range order {
		if w.state(s) != deploy.StepCached {
			all.Go(func() { w.one(ctx, cancel, s) })
		} else if wanted[s] {
			all.Go(func() { w.fill(ctx, cancel, s) })
		} else {
			close(w.over[s])
		}
	}
	all.Wait()
	err := w.stores.Wait()
	if w.broken != nil {
		return w.broken
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(w.failed) > 0 {
		return fmt.Errorf("%w: %w", deploy.ErrBuild, errors.Join(w.failed...))
	}
	if err != nil {
		return err
	}
	return w.storeStale(ctx)
}

// fail ends the whole run.
func (w *walk) fail(cancel context.CancelCauseFunc, err error) {
	w.failMu.Lock()
	defer w.failMu.Unlock()
	if w.broken == nil && !errors.Is(err, context.Canceled) {
		w.broken = err
	}
	cancel(err)
}

// fill writes what a cached step made into the checkout.
func (w *walk) fill(ctx context.Context, cancel context.CancelCauseFunc, s *step) {
	defer close(w.over[s])
	if err := w.fillOutputs(ctx, s); err != nil {
		if errors.Is(err, depot.ErrDamaged) || errors.Is(err, depot.ErrNotFound) {
			err = &lostError{s, err}
		}
		w.fail(cancel, err)
	}
}

func (w *walk) fillOutputs(ctx context.Context, s *step) error {
	made := w.madeOf(s)
	if made.Tree == "" {
		return nil
	}
	tree, err := w.p.depot.Tree(ctx, made.Tree)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(w.slot.src())
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range s.makes { // the commit may have something there, which the step replaced
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	}
	uid, gid := w.p.owner()
	return w.p.depot.FillInto(ctx, tree, w.slot.src(), uid, gid)
}

func (w *walk) madeOf(s *step) outputs {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made[s]
}

// one brings a step that is not cached to its end.
func (w *walk) one(ctx context.Context, cancel context.CancelCauseFunc, s *step) {
	defer close(w.over[s])
	for _, n := range s.needs {
		<-w.over[n]
		if st := w.state(n); st == deploy.StepFailed || st == deploy.StepSkipped {
			w.skip(s, "step "+n.Name+" did not succeed")
			return
		}
	}
	select {
	case w.places <- struct{}{}:
		defer func() { <-w.places }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		w.skip(s, "the run was ended")
		return
	}
	if err := w.execute(ctx, s); err != nil {
		w.fail(cancel, err)
	}
}

func (w *walk) skip(s *step, why string) {
	w.tell(s, func(e *deploy.StepEvidence) { e.State, e.Cause = deploy.StepSkipped, why })
}

// execute runs the step's command and takes its outputs. An error is not the step's fault.
func (w *walk) execute(ctx context.Context, s *step) error {
	log, err := openLog(filepath.Join(w.logs, s.Name+".log"))
	if err != nil {
		return err
	}
	defer log.close()
	w.tell(s, func(e *deploy.StepEvidence) { e.State, e.Log = deploy.StepRunning, log.file.Name() })
	limit := s.Timeout
	if limit == 0 {
		limit = 15 * time.Minute
	}
	begin := time.Now()
	timed, stop := context.WithTimeoutCause(ctx, limit, errTimeLimit)
	exit, err := process.Run(timed, w.spec(s), func(line string) {
		line = bounded(line)
		log.add(line)
		if w.output != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.output(s.Name, line)
		}
	})
	stop()
	took := time.Since(begin)
	w.tellDuration(s, took)
	switch {
	case ctx.Err() != nil:
		w.skip(s, "the run was ended")
		return context.Cause(ctx)
	case err != nil && errors.Is(context.Cause(timed), errTimeLimit):
		w.stepFailed(s, log, -1, "it was ended by its time limit of "+shortly(limit)+", with all it had started")
		return nil
	case errors.Is(err, process.ErrCannotStart):
		w.stepFailed(s, log, -1, err.Error())
		return nil
	case err != nil:
		w.skip(s, "the run was ended")
		return err
	case !exit.OK():
		w.stepFailed(s, log, exitCode(exit), likelyCause(exit, log.tail(lastLines)))
		return nil
	}
	return w.finish(ctx, s, log)
}

var errTimeLimit = errors.New("the step's time limit")

// shortly writes a duration as lotse.yaml has it: 15m, not 15m0s.
func shortly(d time.Duration) string {
	text := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d >= time.Hour && d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// exitCode is what a shell would show: 128 and the number of the signal.
func exitCode(e process.Exit) int {
	if e.Signal == "SIGKILL" {
		return 137
	}
	return e.Code
}

func (w *walk) tellDuration(s *step, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.evidence[s].Duration = took
}

func (w *walk) spec(s *step) process.Spec {
	return process.Spec{
		Name:    w.id + "-" + s.Name,
		Command: []string{"sh", "-eu", "-c", s.Run},
		Dir:     filepath.Join(w.slot.src(), filepath.FromSlash(s.in)),
		Env:     append(w.env.with(w.commit.At.Unix(), w.slot.tmp()), s.baked...),
		Mask:    append(w.p.config.Hider.Values(), w.env.masks...),
		User:    w.p.config.User,
		Grace:   3 * time.Second,
	}
}

func (w *walk) stepFailed(s *step, log *stepLog, exit int, cause string) {
	if len(s.Public) > 0 && w.fits == nil {
		cause += "; it had placeholders for " + listed(publicNames([]*step{s}))
	}
	w.failMu.Lock()
	w.failed = append(w.failed, fmt.Errorf("step %s: %s", s.Name, cause))
	w.failMu.Unlock()
	w.tell(s, func(e *deploy.StepEvidence) {
		e.State, e.Exit, e.Cause, e.Tail = deploy.StepFailed, exit, cause, shortened(log.tail(tailLines))
	})
}

// finish looks at what the step made, and stores it while the steps that wait for it go on.
func (w *walk) finish(ctx context.Context, s *step, log *stepLog) error {
	found, err := depot.Scan(w.slot.src(), s.makes)
	if cause := w.refused(s, err); cause != "" {
		log.add(cause)
		w.stepFailed(s, log, 0, cause)
		return nil
	}
	if err != nil {
		return err
	}
	w.tell(s, func(e *deploy.StepEvidence) { e.State = deploy.StepDone })
	w.stores.Go(func() error {
		w.storing.Lock()
		defer w.storing.Unlock()
		return w.store(ctx, s, found)
	})
	return nil
}

// refused says in a sentence why what a step made cannot be taken, or "".
func (w *walk) refused(s *step, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for _, p := range s.makes {
			if _, err := os.Lstat(filepath.Join(w.slot.src(), filepath.FromSlash(p))); err != nil {
				return fmt.Sprintf("it should have made %s and did not; %s", p, w.instead(p))
			}
		}
	case errors.Is(err, depot.ErrEscapes), errors.Is(err, depot.ErrSpecial):
		return fmt.Sprintf("what it made cannot be kept: %v", err)
	}
	return ""
}

// instead says what lies where p should be. It follows no link out of the checkout.
func (w *walk) instead(p string) string {
	root, err := os.OpenRoot(w.slot.src())
	if err != nil {
		return err.Error()
	}
	defer root.Close()
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		list, err := fs.ReadDir(root.FS(), dir)
		if err != nil && dir != "." {
			continue
		}
		if dir == "." {
			dir = "the checkout"
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		if len(names) == 0 {
			return dir + " is empty"
		}
		const shown = 12
		if len(names) > shown {
			names = append(names[:shown], fmt.Sprintf("and %d more", len(names)-shown))
		}
		return dir + " holds " + strings.Join(names, ", ")
	}
}

func (w *walk) store(ctx context.Context, s *step, found *depot.Scanned) error {
	var made outputs
	if len(s.makes) > 0 {
		_, digest, err := w.p.depot.PutScanned(ctx, found)
		if errors.Is(err, depot.ErrChanged) {
			w.failMu.Lock()
			defer w.failMu.Unlock()
			w.stale[s] = true
			return nil
		}
		if err != nil {
			return err
		}
		made.Tree = digest
	}
	return w.keep(s, made, true)
}

func (w *walk) keep(s *step, made outputs, cache bool) error {
	w.mu.Lock()
	w.made[s] = made
	w.mu.Unlock()
	if !cache {
		return nil
	}
	data, err := json.Marshal(made)
	if err != nil {
		return err
	}
	keeps := depot.Keeps{}
	if made.Tree != "" {
		keeps.Trees = []string{made.Tree}
	}
	return w.p.depot.SetNote(noteStep, string(s.key), data, keeps)
}

// storeStale stores, as they are at the end, outputs that another step changed while they were being stored. The release is
// made of them; the cache must not be.
func (w *walk) storeStale(ctx context.Context) error {
	for s := range w.stale {
		w.p.config.Log.Info("the step runs again the next time: another step changed what it made", "step", s.Name)
		_, digest, err := w.p.depot.PutTree(ctx, w.slot.src(), s.makes)
		if cause := w.refused(s, err); cause != "" {
			return fmt.Errorf("%w: after all steps, of step %s: %s", deploy.ErrBuild, s.Name, cause)
		}
		if err != nil {
			return err
		}
		if err := w.keep(s, outputs{digest}, false); err != nil {
			return err
		}
	}
	return nil
}
