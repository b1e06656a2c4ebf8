package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// run is one Build.
type run struct {
	p      *Pipeline
	id     string
	app    deploy.App
	commit deploy.Commit
	all    []source
	steps  []*step // in an order in which they could run one by one
	env    environment
	logs   string

	mu       sync.Mutex // guards what follows and orders the calls of report and output
	evidence map[*step]*deploy.StepEvidence
	report   func(deploy.StepEvidence)
	output   func(step, line string)
	made     map[*step]outputs
	proof    *proof      // nil: not looked for yet
	fits     *deploy.Fit // nil: the release is for every stage
	why      []string    // why the values of a stage are built in, and not filled in
}

// outputs is what a step made. It is the data of the note "step" under the step's key.
type outputs struct {
	Tree string `json:"tree"` // paths relative to the root of the checkout
}

// lostError says that what a step made, and the depot knew, cannot be had any more: it was pruned or is damaged.
type lostError struct {
	step *step // nil: it was not a step's, and is forgotten already
	err  error
}

func (e *lostError) Error() string {
	if e.step == nil {
		return e.err.Error()
	}
	return fmt.Sprintf("what step %s made: %v", e.step.Name, e.err)
}

func (e *lostError) Unwrap() error { return e.err }

// Build implements deploy.Builder.
func (p *Pipeline) Build(ctx context.Context, id string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	rel, err := p.build(ctx, id, app, c, report, output)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return rel, spaced(err)
}

func (p *Pipeline) build(ctx context.Context, id string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	r, err := p.prepare(ctx, &run{id: id, app: app, commit: c, report: report, output: output, logs: filepath.Join(p.runs(), id)}, placeholders)
	if err != nil {
		return deploy.Release{}, err
	}
	defer p.depot.Hold()()
	return r.untilWhole(ctx, r.attempt)
}

// prepare fills in what a run needs to know before anything is run.
func (p *Pipeline) prepare(ctx context.Context, r *run, v values) (*run, error) {
	if !stepName.MatchString(r.id) {
		return nil, fmt.Errorf("%w: %q is not a name for a run", deploy.ErrBadInput, r.id)
	}
	r.p, r.env = p, p.environment()
	var err error
	if r.steps, err = plan(r.app); err != nil {
		return nil, err
	}
	if r.all == nil {
		if r.all, err = sources(ctx, r.commit); err != nil {
			return nil, err
		}
	}
	bake(r.steps, v)
	return r, p.setKeys(ctx, r.steps, r.all, r.env)
}

// untilWhole tries until nothing turns out to be lost. What is lost is forgotten, and made again by the next attempt. Each attempt
// forgets one step.
func (r *run) untilWhole(ctx context.Context, attempt func(context.Context) (deploy.Release, error)) (deploy.Release, error) {
	for range len(r.steps) + 1 {
		rel, err := attempt(ctx)
		var lost *lostError
		if !errors.As(err, &lost) {
			return rel, err
		}
		r.p.config.Log.Warn("something cached is lost and is made again", "error", lost)
		if lost.step == nil {
			continue
		}
		if err := r.p.depot.DropNote(noteStep, string(lost.step.key)); err != nil {
			return deploy.Release{}, err
		}
	}
	return attempt(ctx)
}

// attempt runs what has to be run and makes the release.
func (r *run) attempt(ctx context.Context) (deploy.Release, error) {
	pending := r.begin()
	if pending == 0 && r.proven() {
		if rel, ok := r.again(ctx); ok {
			return rel, nil
		}
	}
	if err := r.p.askDisk(ctx); err != nil {
		return deploy.Release{}, err
	}
	if pending > 0 {
		if err := r.work(ctx); err != nil {
			return deploy.Release{}, err
		}
	}
	if err := r.prove(ctx); err != nil {
		return deploy.Release{}, err
	}
	if err := r.refuseLeftovers(ctx); err != nil {
		return deploy.Release{}, err
	}
	return r.assemble(ctx)
}

// begin finds what need not be run, and returns how many steps have to.
func (r *run) begin() (pending int) {
	r.made = map[*step]outputs{}
	r.evidence = map[*step]*deploy.StepEvidence{}
	for _, s := range r.steps {
		r.evidence[s] = &deploy.StepEvidence{Name: s.Name}
	}
	for _, s := range slices.SortedFunc(slices.Values(r.steps), func(a, b *step) int { return a.index - b.index }) {
		if made, ok := r.p.cached(s); ok {
			r.made[s] = made
			r.tell(s, func(e *deploy.StepEvidence) { e.State = deploy.StepCached })
			continue
		}
		pending++
		r.tell(s, func(e *deploy.StepEvidence) { e.State = deploy.StepWaiting })
	}
	return pending
}

// cached finds what a step made the last time it ran under its key.
func (p *Pipeline) cached(s *step) (outputs, bool) {
	var made outputs
	data, err := p.depot.Note(noteStep, string(s.key))
	if err != nil || json.Unmarshal(data, &made) != nil {
		return made, false
	}
	return made, made.Tree == "" || p.depot.Has(made.Tree)
}

// tell changes the evidence of a step and reports it.
func (r *run) tell(s *step, change func(*deploy.StepEvidence)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.evidence[s]
	change(e)
	if r.report != nil {
		r.report(*e)
	}
}

func (r *run) state(s *step) deploy.StepState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evidence[s].State
}

// record is what is known about this run, in the order of the file.
func (r *run) record() deploy.Record {
	rec := deploy.Record{Subject: r.commit.Subject, Made: r.p.config.Clock().UTC()}
	steps := slices.Clone(r.steps)
	slices.SortFunc(steps, func(a, b *step) int { return a.index - b.index })
	for _, s := range steps {
		rec.Steps = append(rec.Steps, *r.evidence[s])
	}
	return rec
}

// askDisk makes room where there is too little: what is only cached goes, the oldest first, never a release.
func (p *Pipeline) askDisk(ctx context.Context) error {
	for _, dir := range []string{p.depot.Dir(), p.config.Dir} {
		free, _, err := depot.Space(dir)
		if err != nil {
			return err
		}
		if free >= p.config.Reserve {
			continue
		}
		used, err := p.depot.Used()
		if err != nil {
			return err
		}
		freed, err := p.depot.Prune(ctx, isRelease, max(0, used-(p.config.Reserve-free)))
		if err != nil {
			return err
		}
		p.config.Log.Info("the disk is nearly full: removed cached outputs", "bytes", freed)
		if free, _, err = depot.Space(dir); err != nil {
			return err
		}
		if free < p.config.Reserve {
			return deploy.Hint(fmt.Errorf("%w: %d MiB are free and a build may need %d MiB", deploy.ErrNoSpace, free>>20, p.config.Reserve>>20),
				"free some space on the disk of "+dir)
		}
	}
	return nil
}

func isRelease(kind, _ string) bool { return kind == noteRelease }

// work checks the commit out and runs what is not cached.
func (r *run) work(ctx context.Context) error {
	if err := os.MkdirAll(r.logs, 0o700); err != nil {
		return err
	}
	slot, err := r.p.takeSlot()
	if err != nil {
		return err
	}
	defer r.p.giveBack(slot)
	uid, gid := r.p.owner()
	if err := checkOut(ctx, r.commit, r.all, slot.src(), uid, gid); err != nil {
		return fmt.Errorf("check out commit %.12s: %w", r.commit.ID, err)
	}
	return newWalk(r, slot).walk(ctx)
}
