package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Kinds of events of a stage whose requests a person keeps from its releases. They have no rollout.
const (
	KindHeld       = "held"       // its data says for how long, and why; it ends by itself
	KindHoldEnded  = "hold.ended" // before its time
	KindMaintained = "maintained" // requests are answered by a page from now on
	KindOpened     = "maintenance.ended"
)

// Holder is what an engine has whose way in can keep requests from the releases of a stage. What is in flight, and what comes by Reach, is
// left alone; the way in keeps it whichever controllers and rollouts come and go.
type Holder interface {
	// Hold keeps new requests waiting until b.For is over and lets them go on then. What is beyond the other bounds is answered 503 with
	// Retry-After. Another Hold takes the place of the one before. ErrUnknown where nothing was ever served.
	Hold(ctx context.Context, fence Fence, b Bounds) error

	// EndHold lets requests go on now. Without a hold it does nothing.
	EndHold(ctx context.Context, fence Fence) error

	// Maintain answers new requests by the page, with 503 and Retry-After, until it is called with nil. It goes before a hold.
	Maintain(ctx context.Context, fence Fence, page *Page) error

	// Closed says what is in force.
	Closed(ctx context.Context) (Closed, error)
}

// Bounds of a hold. 0 is the default.
type Bounds struct {
	For      time.Duration `json:"for,omitempty"`      // 30 s; at most 5 minutes: clients and balancers give up after one or some
	Requests int           `json:"requests,omitempty"` // at once: 1000, each is an open connection or a stream of one
	Bytes    int64         `json:"bytes,omitempty"`    // of their bodies: 64 MiB, what they take of the memory
}

const (
	holdTime     = 30 * time.Second
	holdLongest  = 5 * time.Minute
	holdRequests = 1000
	holdBytes    = 64 << 20
	pageMost     = 256 << 10
	messageMost  = 1000
)

// Page is what people see during maintenance: Lotse's own with a message, or a whole HTML page, which can load nothing and run no script.
type Page struct {
	Message string `json:"message,omitempty"`
	HTML    string `json:"html,omitempty"`
}

// Closed is what keeps requests from a stage's releases now.
type Closed struct {
	Until       time.Time `json:"until,omitzero"`        // of a hold; zero: there is none
	Waiting     int       `json:"waiting,omitempty"`     // requests that it keeps now
	Maintenance bool      `json:"maintenance,omitempty"` // a page answers
}

// Closing asks to keep requests from a stage, or to let them in again. Of Bounds and Page one is given, or neither with End.
type Closing struct {
	App    string  `json:"app,omitempty"` // empty: the only one
	Stage  string  `json:"stage"`
	Bounds *Bounds `json:"bounds,omitempty"`
	Page   *Page   `json:"page,omitempty"`
	Reason string  `json:"reason,omitempty"`
	By     Person  `json:"by"`
}

// closure is what an event says of one.
type closure struct {
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Failed string    `json:"failed,omitempty"` // what was begun did not come about
}

// Hold keeps new requests of a stage waiting for a time, and returns when it does; without Bounds it ends that. It is ErrBusy while a
// rollout is on its way, which moves the same traffic.
func (c *Controller) Hold(ctx context.Context, q Closing) (Closed, error) {
	if q.Bounds == nil {
		return c.close(ctx, q, KindHoldEnded, time.Time{}, func(h Holder, f Fence) error { return h.EndHold(ctx, f) })
	}
	b, err := q.Bounds.filled()
	if err != nil {
		return Closed{}, err
	}
	return c.close(ctx, q, KindHeld, c.now().Add(b.For).UTC(), func(h Holder, f Fence) error { return h.Hold(ctx, f, b) })
}

func (b Bounds) filled() (Bounds, error) {
	if b.For == 0 {
		b.For = holdTime
	}
	if b.Requests == 0 {
		b.Requests = holdRequests
	}
	if b.Bytes == 0 {
		b.Bytes = holdBytes
	}
	if b.For < 0 || b.For > holdLongest || b.Requests < 0 || b.Bytes < 0 {
		return b, Hint(fmt.Errorf("%w: a hold of %s", ErrBadInput, b.For), "at most "+holdLongest.String()+"; what takes longer is `lotse maintenance`")
	}
	return b, nil
}

// Maintain answers new requests of a stage by a page; without one it ends that. Otherwise as Hold.
func (c *Controller) Maintain(ctx context.Context, q Closing) (Closed, error) {
	kind := KindMaintained
	if q.Page == nil {
		kind = KindOpened
	} else if err := q.Page.check(); err != nil {
		return Closed{}, err
	}
	return c.close(ctx, q, kind, time.Time{}, func(h Holder, f Fence) error { return h.Maintain(ctx, f, q.Page) })
}

func (p Page) check() error {
	switch {
	case len(p.HTML) > pageMost:
		return Hint(fmt.Errorf("%w: the page has %d bytes, at most %d", ErrBadInput, len(p.HTML), pageMost), "put no pictures into it, or small ones")
	case len(p.Message) > messageMost:
		return fmt.Errorf("%w: the message has %d bytes, at most %d", ErrBadInput, len(p.Message), messageMost)
	case !utf8.ValidString(p.HTML + p.Message):
		return fmt.Errorf("%w: the page is not in UTF-8", ErrBadInput)
	}
	return nil
}

// close says in the ledger what is to be, and has the engine do it under a lease of its own.
func (c *Controller) close(ctx context.Context, q Closing, kind string, until time.Time, do func(Holder, Fence) error) (Closed, error) {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return Closed{}, err
	}
	ref, holder, err := c.holderOf(ctx, q)
	if err != nil {
		return Closed{}, err
	}
	actor := ""
	if q.By != (Person{}) { // git knows nobody here
		if actor, err = c.Ledger.Person(ctx, q.By.Name, q.By.Mail); err != nil {
			return Closed{}, err
		}
	}
	done, err := c.aside(ctx, ref)
	if err != nil {
		return Closed{}, err
	}
	defer done()
	lease, err := c.Ledger.Acquire(ctx, ref, c.owner("hold"), leaseTTL, c.gone)
	if err != nil {
		return Closed{}, err
	}
	defer func() { _ = c.Ledger.Release(context.WithoutCancel(ctx), lease) }() // it ends by itself
	e := Event{Kind: kind, App: ref.App, Stage: ref.Stage, Actor: actor, Data: data(closure{Until: until, Reason: reason})}
	if _, err := c.Ledger.Append(ctx, e); err != nil {
		return Closed{}, err
	}
	if err := do(holder, lease.Fence); err != nil {
		e.Data = data(closure{Failed: err.Error()})
		_, told := c.Ledger.Append(context.WithoutCancel(ctx), e)
		return Closed{}, errors.Join(err, told)
	}
	return holder.Closed(ctx)
}

func (c *Controller) holderOf(ctx context.Context, q Closing) (StageRef, Holder, error) {
	rollouts, err := c.rolloutsOf(ctx, Move{App: q.App, Stage: q.Stage})
	if err != nil {
		return StageRef{}, nil, err
	}
	ref := StageRef{rollouts[0].Stage.App, q.Stage}
	if _, ok := lastSettled(rollouts, q.Stage); !ok {
		return ref, nil, c.servesNothing(ctx, rollouts, q.Stage)
	}
	if goingOn(rollouts)[ref] {
		return ref, nil, isRolling(ref)
	}
	engine := c.opened(ref)
	if engine == nil {
		return ref, nil, fmt.Errorf("%w: the engine of %s could not be opened; see the controller's log", ErrUnavailable, ref)
	}
	holder, ok := engine.(Holder)
	if !ok {
		return ref, nil, Hint(fmt.Errorf("%w: on the engine %s requests of %s do not come through one place that could keep them", ErrUnsupported, engine.Facts().Engine, ref),
			"docs/engines.md says what each engine can do")
	}
	return ref, holder, nil
}

// aside has the stage to itself for a change that takes no time. What is warm no more may be on its way out: that is waited for. A rollout that
// comes meanwhile waits for the change, as it would for that.
func (c *Controller) aside(ctx context.Context, ref StageRef) (done func(), err error) {
	for {
		c.mu.Lock()
		if c.active[ref] == nil && c.retiring[ref] == nil {
			way := &retirement{func() {}, make(chan struct{})}
			c.retiring[ref] = way
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.retiring, ref)
				c.mu.Unlock()
				close(way.ended)
				c.look()
			}, nil
		}
		rolls := c.active[ref] != nil
		c.mu.Unlock()
		if rolls {
			return nil, isRolling(ref)
		}
		if err := sleep(ctx, endLook); err != nil {
			return nil, err
		}
	}
}

func isRolling(ref StageRef) error {
	return Hint(fmt.Errorf("%w: a rollout is on its way to %s", ErrBusy, ref), "wait for its end, or `lotse abort` it; `lotse status` shows it")
}
