package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// queue is what is done one after the other: all messages of one notice of one stage, in the order in which its rollouts ended. Without
// a notice it is the looking up of a stage's rollouts.
type queue struct {
	stage  deploy.StageRef
	notice string
}

// enqueue puts work at the end of a queue. Whoever finds the queue without work begins to work on it.
func (t *Teller) enqueue(ctx context.Context, q queue, work func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting, going := t.queues[q]
	t.queues[q] = append(waiting, work)
	if !going {
		t.work.Go(func() { t.workOff(ctx, q) })
	}
}

func (t *Teller) workOff(ctx context.Context, q queue) {
	for work := t.next(q); work != nil; work = t.next(q) {
		if ctx.Err() == nil {
			work(ctx)
		}
	}
}

func (t *Teller) next(q queue) (work func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := t.queues[q]
	if len(waiting) == 0 {
		delete(t.queues, q)
		return nil
	}
	t.queues[q] = waiting[1:]
	return waiting[0]
}

// newBackOff waits from 1 s to 10 min between attempts, each time up to a fifth more or less, so that many who failed at once do not come
// back at once.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 1250 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: 500 * time.Second}
}

// tell sends one message until it is accepted, refused for good, or too old, and writes down which. When ctx ends before, the next
// controller tells it.
func (t *Teller) tell(ctx context.Context, s story) {
	attempt := 0
	left := time.Until(s.at().Add(tellWithin))
	if left <= 0 {
		t.record(ctx, s, attempt, errTooOld)
		return
	}
	try := func() (struct{}, error) {
		if ctx.Err() != nil {
			return struct{}{}, backoff.Permanent(ctx.Err())
		}
		attempt++
		s = t.refreshed(ctx, s) // somebody may have set the right address since
		return struct{}{}, t.attempt(ctx, s)
	}
	missed := func(err error, pause time.Duration) {
		t.Log.Warn("a notice could not be told, trying again", "notice", s.notice.Name, "stage", s.rollout.Stage.String(),
			"rollout", s.rollout.ID, "attempt", attempt, "pause", pause.Round(time.Millisecond), "why", why(err))
	}
	_, err := backoff.Retry(ctx, try, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(left), backoff.WithNotify(missed))
	miss, ours := errors.AsType[*missError](err)
	switch {
	case err != nil && !ours: // ctx ended
		return
	case ours && miss.again:
		err = tooLate(miss)
	}
	t.record(ctx, s, attempt, err)
}

// refreshed is s with what its stage is given now, where that can be read.
func (t *Teller) refreshed(ctx context.Context, s story) story {
	if app, settings, err := t.Rollouts.Described(ctx, s.rollout); err == nil {
		s.app, s.settings = app, settings
	}
	return s
}

// attempt sends a message once. Its error says to backoff whether and when to try again. The end of ctx does not cut it off: then
// nobody would know whether the message had arrived.
func (t *Teller) attempt(ctx context.Context, s story) error {
	ctx = context.WithoutCancel(ctx)
	miss := t.send(ctx, s.notice.Kind, s.settings, s.notice.URL, newMessage(s, t.names(ctx)))
	switch {
	case miss == nil:
		return nil
	case !miss.again:
		return backoff.Permanent(miss)
	case miss.after > 0:
		return errors.Join(miss, &backoff.RetryAfterError{Duration: miss.after})
	}
	return miss
}

// record writes down what became of a message. Where that fails it is told again after the next start, under the same id.
func (t *Teller) record(ctx context.Context, s story, attempt int, failed error) {
	ctx = context.WithoutCancel(ctx)
	told := deploy.Told{Notice: s.notice.Name, Kind: s.notice.Kind, Attempt: attempt}
	log := t.Log.With("notice", s.notice.Name, "stage", s.rollout.Stage.String(), "rollout", s.rollout.ID)
	if s.alarm != nil {
		told.Of = s.alarm.seq
	}
	if failed != nil {
		told.Failed = failed.Error()
		log.Warn("a notice is not told", "attempts", attempt, "why", told.Failed)
	}
	data, err := json.Marshal(told)
	if err == nil {
		event := deploy.Event{Kind: deploy.KindTold, App: s.rollout.Stage.App, Stage: s.rollout.Stage.Stage, Rollout: s.rollout.ID, Data: data}
		if s.alarm != nil {
			event.Rollout = ""
		}
		_, err = backoff.Retry(ctx, func() (deploy.Event, error) { return t.Ledger.Append(ctx, event) },
			backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxTries(recordTries))
	}
	if err != nil {
		log.Error("what became of a notice could not be recorded", "error", err)
	}
}

func dataOf(e deploy.Event) (d deploy.Told, err error) {
	if err = json.Unmarshal(e.Data, &d); err != nil {
		err = fmt.Errorf("%w: event %d (%s): %w", deploy.ErrDamaged, e.Seq, e.Kind, err)
	}
	return d, err
}

// why is the reason of a miss without what backoff has to know of it.
func why(err error) string {
	if miss, ok := errors.AsType[*missError](err); ok {
		return miss.Error()
	}
	return err.Error()
}
