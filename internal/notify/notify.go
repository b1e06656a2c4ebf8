// Package notify tells people how rollouts end: in Slack, in Discord, or as JSON to any address.
//
// It reads the ledger and nothing waits for it. What is to be told of a rollout is decided by the rollout's own lotse.yaml, when the
// rollout has ended; every notice of a stage then has a queue of its own, so that an address that is slow or gone delays nobody else.
// What was accepted, or given up, is an event (deploy.KindTold), and what has none when a controller starts is told then. So each
// notice is told at least once: a second time, under the same id, where the answer to a message was lost, or the controller crashed
// between the answer and the event.
//
// A message holds no name of a person, no mail or network address and no secret: it may go to a processor outside the EU. What
// programs said is masked with all that the stage is given (process.Mask) and then scrubbed (privacy.Scrub). The address of an
// endpoint is as good as a password and appears in no log, error or event.
//
// Slack's form is that of github.com/slack-go/slack; trying again is github.com/cenkalti/backoff. What shoutrrr has for all three was
// tried and left: it sends to hooks.slack.com and discord.com alone, sleeps inside of Send without a context, keeps status and
// Retry-After of Slack to itself, and lets Discord's mentions through. For the four fields of Discord's form, discordgo is 1 MB.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	tellWithin  = 24 * time.Hour // after the end of a rollout; later, nobody wants to hear of it
	bootMargin  = time.Hour      // what a controller may have been behind when it died
	recordTries = 5
	lookTries   = 5
	ledgerPause = time.Second
)

// Rollouts is what a Teller asks of rollouts and their apps. *deploy.Controller is one.
type Rollouts interface {
	Rollout(ctx context.Context, id string) (deploy.Rollout, error)
	Described(ctx context.Context, r deploy.Rollout) (deploy.App, deploy.Settings, error)
	Draft(ctx context.Context, dir, stage string) (deploy.App, deploy.Settings, error)
}

// Config is what a Teller is given.
type Config struct {
	Ledger   deploy.Ledger
	Rollouts Rollouts
	Names    func(ctx context.Context) []string // of people that Lotse knows: they are taken out of every message; nil: none
	Log      *slog.Logger

	Transport http.RoundTripper // nil: one that verifies certificates with the roots of the system
	Loopback  bool              // http:// is let through where it goes to loopback; for tests
}

// Teller tells. There is one per ledger. Its methods are safe for concurrent use.
type Teller struct {
	Config
	client *http.Client
	before time.Time // when the ledger heard of anything the last time, before this Teller

	mu     sync.Mutex
	queues map[queue][]func(context.Context) // what waits behind what is being done; a key is there as long as somebody works on it
	holds  map[string]time.Time              // host → until when it wants to hear of nobody
	work   sync.WaitGroup
}

// Open makes a Teller. Call it before the controller begins, so that it sees how far the one before came.
func Open(ctx context.Context, c Config) (*Teller, error) {
	last, err := c.Ledger.Events(ctx, deploy.EventQuery{Last: 1})
	if err != nil {
		return nil, err
	}
	t := &Teller{Config: c, client: newClient(c.Transport), queues: map[queue][]func(context.Context){}, holds: map[string]time.Time{}}
	if len(last) > 0 {
		t.before = last[0].At
	}
	return t, nil
}

// Run tells what was not told yet, then what ends from now on, until ctx ends; that is not an error. A message that is on its way is
// given the time to arrive, at most 10 s. The Rollouts must be ready.
func (t *Teller) Run(ctx context.Context) error {
	defer t.work.Wait()
	var told map[tale]bool
	for seen := int64(0); ctx.Err() == nil; {
		var err error
		if told == nil {
			told, err = t.toldBefore(ctx)
		}
		if err == nil {
			seen, err = t.round(ctx, seen, told)
		}
		if err == nil {
			_, err = t.Ledger.Wait(ctx, seen)
		}
		if err != nil && ctx.Err() == nil {
			t.Log.Error("the ledger cannot be read, and nobody is told until it can", "error", err)
			_ = sleep(ctx, ledgerPause) // the loop sees that ctx has ended
		}
	}
	return nil
}

// tale is one notice of one rollout, or of one event about data.
type tale struct {
	rollout, notice string
	of              int64
}

// toldBefore are the tales that need not be told again.
func (t *Teller) toldBefore(ctx context.Context) (map[tale]bool, error) {
	events, err := t.Ledger.Events(ctx, deploy.EventQuery{Kinds: []string{deploy.KindTold}})
	if err != nil {
		return nil, err
	}
	told := map[tale]bool{}
	for _, e := range events {
		d, err := dataOf(e)
		if err != nil {
			return nil, err
		}
		told[tale{e.Rollout, d.Notice, d.Of}] = true
	}
	return told, nil
}

// round takes up every rollout that ended after seen, and returns up to where it looked.
func (t *Teller) round(ctx context.Context, seen int64, told map[tale]bool) (int64, error) {
	head, err := t.Ledger.Events(ctx, deploy.EventQuery{Last: 1})
	if err != nil || len(head) == 0 {
		return seen, err
	}
	ends, err := t.Ledger.Events(ctx, deploy.EventQuery{After: seen, Kinds: append(deploy.DataAlarms(), deploy.KindSettled, deploy.KindReverted)})
	if err != nil {
		return seen, err
	}
	newest := head[0].Seq
	for _, e := range ends {
		newest = max(newest, e.Seq)
		if e.At.Before(t.before.Add(-tellWithin - bootMargin)) {
			continue // a controller before this one has seen to it while it could
		}
		stage := deploy.StageRef{App: e.App, Stage: e.Stage}
		t.enqueue(ctx, queue{stage: stage}, func(ctx context.Context) {
			if e.Rollout == "" {
				t.takeAlarm(ctx, e, told)
				return
			}
			t.take(ctx, e.Rollout, told)
		})
	}
	return newest, nil
}

// take finds out who is told of a rollout, and puts it into their queues.
func (t *Teller) take(ctx context.Context, id string, told map[tale]bool) {
	s := story{}
	look := func() (struct{}, error) {
		var err error
		if s.rollout, err = t.Rollouts.Rollout(ctx, id); err == nil {
			s.app, s.settings, err = t.Rollouts.Described(ctx, s.rollout)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, look, backoff.WithBackOff(newBackOff()), backoff.WithMaxTries(lookTries))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		t.Log.Error("who is to be told of a rollout cannot be read; it is tried again when the controller starts", "rollout", id, "error", err)
		return
	}
	for _, n := range s.app.Notify {
		if n.Tells(s.rollout.Stage.Stage, s.rollout.Outcome) && !told[tale{id, n.Name, 0}] {
			one := s
			one.notice = n
			t.enqueue(ctx, queue{s.rollout.Stage, n.Name}, func(ctx context.Context) { t.tell(ctx, one) })
		}
	}
}

// story is a rollout that has ended, and one of those who are told.
type story struct {
	rollout  deploy.Rollout
	app      deploy.App
	settings deploy.Settings
	notice   deploy.Notice
	alarm    *alarm // instead of the end of the rollout; nil: that
}

// alarm is what went wrong with the data of a stage.
type alarm struct {
	deploy.DataAlarm
	seq  int64
	kind string
	at   time.Time
}

func (s story) id() string {
	if s.alarm != nil {
		return fmt.Sprintf("data-%d-%s", s.alarm.seq, s.notice.Name)
	}
	return s.rollout.ID + "-" + s.notice.Name
}

// at is when it happened.
func (s story) at() time.Time {
	if s.alarm != nil {
		return s.alarm.at
	}
	return s.rollout.Ended
}

// takeAlarm finds out who is told of what went wrong with the data of a stage: by the lotse.yaml of what the stage serves.
func (t *Teller) takeAlarm(ctx context.Context, e deploy.Event, told map[tale]bool) {
	what, alarms := deploy.DataAlarmOf(e)
	if !alarms {
		return
	}
	s := story{alarm: &alarm{what, e.Seq, e.Kind, e.At}}
	look := func() (struct{}, error) {
		settled, err := t.Ledger.Events(ctx, deploy.EventQuery{App: e.App, Stage: e.Stage, Kinds: []string{deploy.KindSettled}, Last: 1})
		if err != nil || len(settled) == 0 {
			return struct{}{}, errors.Join(err, deploy.ErrNotFound)
		}
		if s.rollout, err = t.Rollouts.Rollout(ctx, settled[0].Rollout); err == nil {
			s.app, s.settings, err = t.Rollouts.Described(ctx, s.rollout)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, look, backoff.WithBackOff(newBackOff()), backoff.WithMaxTries(lookTries))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		t.Log.Error("who is to be told of the data of a stage cannot be read; it is tried again when the controller starts", "stage", e.App+"/"+e.Stage, "error", err)
		return
	}
	for _, n := range s.app.Notify {
		if n.TellsFailures(e.Stage) && !told[tale{"", n.Name, e.Seq}] {
			one := s
			one.notice = n
			t.enqueue(ctx, queue{s.rollout.Stage, n.Name}, func(ctx context.Context) { t.tell(ctx, one) })
		}
	}
}

// names are those of people that must not be told; one that cannot be had is no reason to tell nothing.
func (t *Teller) names(ctx context.Context) []string {
	if t.Names == nil {
		return nil
	}
	return t.Names(ctx)
}

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

var errTooOld = errors.New("too old")

func tooLate(last error) error {
	return fmt.Errorf("not accepted within 24 h; the last time: %w", last)
}
