package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// walk is one rollout on its way through the table, in this controller. One goroutine walks it; the fields below mu are seen by others.
type walk struct {
	Rollout // what the ledger knows of it

	c        *Controller
	app      App
	stage    Stage
	commit   Commit
	settings Settings
	now      ValueVersions // of the variables of now; settings may be older
	asks     bool          // it goes back and is not asked for yet: versions that are gone keep it from beginning
	gone     error         // a *VersionsError that names them; nil: there are none
	engine   Engine
	source   Release // what goes from stage to stage
	release  Release // the same, as this stage gets it
	lease    Lease
	evidence []Evidence // of the step that is being done
	leaks    []Evidence // that the commit was looked through, at the request
	before   *walk      // a rollout that this one overtakes
	brings   *Judgement // of its migrations; nil: not judged
	reason   string     // for which a person has what waits run now
	last     []Sample   // of the release before, where that was stopped meanwhile; nil: it can be asked

	ctx          context.Context         // of the walk; ends with the controller
	cancel       context.CancelCauseFunc // ends the walk: abort, or the lease is lost
	renewals     context.CancelFunc
	finished     chan struct{}
	live         *broadcast
	overtaken    chan struct{}
	overtakeOnce sync.Once

	mu      sync.Mutex
	current string // name of the step that is being done
}

const mostPause = 30 * time.Second // between two tries to undo a step

var (
	errOvertaken = errors.New("a newer rollout has come")
	errUnchanged = errors.New("the stage runs this release already")
	errShutdown  = errors.New("the controller is being ended")
)

// run walks the table. Its error is why the rollout missed; nil when it settled or changed nothing.
func (w *walk) run(ctx context.Context) error {
	defer close(w.finished)
	defer w.stopRenewing()
	if w.Turned != nil {
		return w.goBack(ctx, errors.New(w.Turned.Why))
	}
	for _, s := range table() {
		err := missed(ctx, w.do(ctx, s))
		switch {
		case err == nil:
		case errors.Is(err, errUnchanged):
			return w.end(ctx, KindUnchanged)
		case errors.Is(context.Cause(ctx), errShutdown), errors.Is(err, ErrFenced):
			return err // not a miss: whoever has the stage now takes the rollout up
		default:
			return w.turn(ctx, err, s.name)
		}
	}
	return w.free(ctx)
}

// missed prefers the reason of a cancel over what the cancelled call made of it.
func missed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}

// do takes one step, between its two events.
func (w *walk) do(ctx context.Context, s step) error {
	if s.done != nil {
		if done, err := s.done(ctx, w); done || err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.at(s.name)
	begun := time.Now()
	if err := w.write(ctx, Event{Kind: KindBegun, Data: data(stepData{Step: s.name})}); err != nil {
		return err
	}
	w.evidence = nil
	if err := s.do(ctx, w); err != nil || w.Outcome.Ended() {
		return err
	}
	return w.write(ctx, Event{Kind: KindEnded, Release: w.Release,
		Data: data(stepData{Step: s.name, Took: time.Since(begun), Evidence: w.c.hideEvidence(w.evidence)})})
}

// turn decides to go back and writes down why before it does.
func (w *walk) turn(ctx context.Context, why error, at string) error {
	ctx, cancel := w.c.goingBack(ctx)
	defer cancel()
	turned := &Turned{Step: at, Why: w.c.hide(why.Error()), Hint: w.c.hide(HintOf(why)), Aborted: errors.Is(why, ErrAborted), Code: CodeOf(why),
		Evidence: w.c.hideEvidence(w.evidence)}
	w.Turned = turned
	if err := w.write(ctx, Event{Kind: KindTurned, Release: w.Release, Data: data(turned)}); err != nil {
		return errors.Join(why, err)
	}
	return w.goBack(ctx, why)
}

// goBack undoes what was begun, from the bottom of the table.
func (w *walk) goBack(ctx context.Context, why error) error {
	ctx, cancel := w.c.goingBack(ctx)
	defer cancel()
	if err := w.markBad(ctx); err != nil {
		return errors.Join(why, err)
	}
	if w.lease.Fence == 0 && (w.begun("start") || w.begun("clear")) { // taken up after a crash
		if err := takeLease(ctx, w); err != nil {
			return errors.Join(why, err)
		}
	}
	for _, s := range slices.Backward(table()) {
		if s.undo == nil || !w.begun(s.name) || s.name == "lease" {
			continue
		}
		w.at("undo " + s.name)
		if err := w.undo(ctx, s); err != nil {
			return errors.Join(why, fmt.Errorf("going back: %s: %w", s.name, err))
		}
	}
	if err := w.end(ctx, KindReverted); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// undo tries again until it is done: a stage that is half changed is worse than a wait. Why it is not done yet stands in the ledger, so
// that whoever follows the rollout can help.
func (w *walk) undo(ctx context.Context, s step) error {
	told := ""
	for pause := time.Second; ; pause = min(2*pause, mostPause) {
		err := s.undo(ctx, w)
		if err == nil {
			return w.write(ctx, Event{Kind: KindUndone, Data: data(stepData{Step: s.name})})
		}
		if errors.Is(err, ErrFenced) || ctx.Err() != nil {
			return err
		}
		w.c.Log.Warn("undoing failed, trying again", "rollout", w.ID, "step", s.name, "pause", pause, "error", err)
		if why := w.c.hide(err.Error()); why != told {
			told = why
			if err := w.write(ctx, Event{Kind: KindStuck, Data: data(stepData{Step: s.name, Why: why})}); err != nil {
				w.c.Log.Error("and that could not be recorded", "rollout", w.ID, "error", err) // undoing does not wait for it
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// end writes the last event of a rollout that did not settle, and frees the stage.
func (w *walk) end(ctx context.Context, kind string) error {
	if err := w.write(ctx, Event{Kind: kind, Release: w.Release}); err != nil {
		return err
	}
	return w.free(ctx)
}

func (w *walk) free(ctx context.Context) error {
	if w.lease.Fence == 0 {
		return nil
	}
	return giveLeaseBack(ctx, w)
}

// renewing keeps the lease until the walk ends. A lost lease ends the walk.
func (w *walk) renewing(ctx context.Context) {
	ctx, w.renewals = context.WithCancel(context.WithoutCancel(ctx))
	lease := w.lease
	go func() {
		for sleep(ctx, leaseRenewal) == nil {
			err := w.c.Ledger.Renew(ctx, lease, leaseTTL)
			if errors.Is(err, ErrFenced) {
				w.cancel(err)
				return
			}
			if err != nil && ctx.Err() == nil {
				w.c.Log.Warn("the lease could not be renewed", "rollout", w.ID, "error", err)
			}
		}
	}()
}

func (w *walk) stopRenewing() {
	if w.renewals != nil {
		w.renewals()
	}
}

// overtake ends the watch of the rollout before, which then settles, and waits until it is out of the way.
func (w *walk) overtake(ctx context.Context) error {
	if w.before == nil {
		return nil
	}
	w.before.overtakeOnce.Do(func() { close(w.before.overtaken) })
	select {
	case <-w.before.finished:
		w.before = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *walk) onOvertaken(f func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-w.overtaken:
			f()
		case <-done:
		}
	}()
	return func() { close(done) }
}

// rememberOld writes down who has the traffic, so that a controller after this one knows whom to give it back to.
func (w *walk) rememberOld(ctx context.Context) error {
	running, err := w.engine.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range running {
		if r.Share > 0 && r.Rollout != w.instances() {
			w.Before = r.Rollout
		}
	}
	return w.write(ctx, Event{Kind: KindBefore, Data: data(settledData{Before: w.Before})})
}

// unchanged reports whether the stage already serves exactly this, and nobody asked for it all the same.
func (w *walk) unchanged(running []Running) (settings int, yes bool) {
	i := slices.IndexFunc(running, func(r Running) bool { return r.Share == 100 })
	if w.Again || i < 0 || running[i].Rollout == w.instances() || running[i].Release != w.release.ID {
		return 0, false
	}
	last, err := w.c.rollout(context.Background(), running[i].Rollout)
	same := err == nil && last.Outcome == Settled && last.Version == w.Version
	return len(w.settings.Values), same
}

func (w *walk) order() Order {
	return Order{Rollout: w.instances(), Release: w.release, Stage: w.stage, Settings: w.app.forInstances(w.settings.Values), Password: w.settings.Password,
		Kept: w.app.hidden(w.stage, w.settings), Wait: w.Waiting}
}

// askThrough asks for health every second for this long, and once at its end; one miss ends it, and so does an error of what is asked
// beside. An instance that ended and was started again meanwhile is a miss, however well it answers now.
func (w *walk) askThrough(ctx context.Context, window time.Duration, beside ...func(context.Context) error) (asked int, err error) {
	before, err := w.restarts(ctx)
	if err != nil {
		return 0, err
	}
	end := time.Now().Add(window)
	for left := window; left > 0; left = time.Until(end) {
		if err := sleep(ctx, min(left, healthEvery)); err != nil {
			return asked, err
		}
		if err := w.engine.Check(ctx, w.instances()); err != nil {
			return asked, err
		}
		now, err := w.restarts(ctx)
		if err != nil {
			return asked, err
		}
		if before == nil {
			before = now
		}
		for copyOf, n := range now {
			if n > before[copyOf] {
				return asked, &CheckError{Service: copyOf.service, Instance: copyOf.number, Tail: w.lastWords(ctx, copyOf),
					Cause: "ended by itself and was started again"}
			}
		}
		asked++
		for _, ask := range beside {
			if err := ask(ctx); err != nil {
				return asked, err
			}
		}
	}
	return asked, nil
}

// instance names one copy of a service.
type instance struct {
	service string
	number  int
}

// restarts is how often each instance of the rollout was started again; nil when that cannot be known right now, as while the
// proxy itself is being started again, which says nothing of the release.
func (w *walk) restarts(ctx context.Context) (map[instance]int, error) {
	running, err := w.engine.List(ctx)
	if Retryable(err) {
		return nil, nil
	}
	restarts := map[instance]int{}
	for _, r := range running {
		if r.Rollout != w.instances() {
			continue
		}
		for _, s := range r.Services {
			for _, i := range s.Instances {
				restarts[instance{s.Name, i.Number}] = i.Restarts
			}
		}
	}
	return restarts, err
}

// lastWords is the end of an instance's output, where the engine keeps any.
func (w *walk) lastWords(ctx context.Context, of instance) (tail []string) {
	logs, ok := w.c.opened(w.Stage).(Logs)
	if !ok {
		return nil
	}
	err := logs.Logs(ctx, LogQuery{Rollout: w.instances(), Service: of.service, Lines: 10}, func(l LogLine) bool {
		if l.Instance == of.number {
			tail = append(tail, l.Text)
		}
		return true
	})
	if err != nil {
		w.c.Log.Warn("the output of an instance cannot be read", "rollout", w.ID, "error", err)
	}
	return tail
}

func (w *walk) prove(e Evidence) { w.evidence = append(w.evidence, e) }

// reportStep writes a step of the pipeline into the ledger. The pipeline keeps the log; the ledger keeps that it was.
func (w *walk) reportStep(e StepEvidence) {
	e.Log, e.Tail, e.Cause = "", w.c.hideAll(e.Tail), w.c.hide(e.Cause)
	if e.State == StepWaiting {
		return
	}
	if err := w.write(context.WithoutCancel(w.c.base), Event{Kind: KindPipeline, Data: data(e)}); err != nil {
		w.c.Log.Warn("a step of the pipeline could not be recorded", "rollout", w.ID, "error", err)
	}
}

func (w *walk) output(step, line string) { w.live.send(Output{Step: step, Line: w.c.hide(line)}) }

// write appends an event of this rollout and folds it into what is known of it.
func (w *walk) write(ctx context.Context, e Event) error {
	e.App, e.Stage, e.Rollout, e.Actor = w.Stage.App, w.Stage.Stage, w.ID, w.Actor
	written, err := w.c.Ledger.Append(ctx, e)
	if err != nil {
		return fmt.Errorf("writing into the ledger: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fold(written)
}

func (w *walk) begun(step string) bool {
	return slices.ContainsFunc(w.Steps, func(s Step) bool { return s.Name == step })
}

func (w *walk) at(step string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = step
}

// over reports whether its last event was written.
func (w *walk) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Outcome.Ended()
}

// watching reports whether a newer rollout may come.
func (w *walk) watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current == "watch" || w.current == "settle"
}

func data(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil { // only types of this package come here, and they can be marshalled
		return json.RawMessage(strconv.Quote(err.Error()))
	}
	return b
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// sleep waits, and returns the reason when ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
