package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Verb names a method of the engine.
type Verb string

// The verbs that can be made to fail.
const (
	Start   Verb = "start"
	Check   Verb = "check"
	Reach   Verb = "reach"
	Shift   Verb = "shift"
	Stop    Verb = "stop"
	List    Verb = "list"
	Task    Verb = "task"
	Samples Verb = "samples"
	Hold    Verb = "hold" // all verbs of deploy.Holder
)

// Verbs lists all of them.
func Verbs() []Verb { return []Verb{Start, Check, Reach, Shift, Stop, List, Task, Samples, Hold} }

// Fault is how a verb fails from now on.
type Fault struct {
	Stage string        // only on this stage; empty: on all
	Slow  time.Duration // it takes so much longer
	Hang  bool          // it does nothing until it is cancelled
	Err   error         // what it says
	Done  bool          // it does what it should first, and says Err nevertheless
	Times int           // for so many calls; 0: until Heal
}

// Fail makes a verb fail. A second fault of a verb replaces the first.
func (w *World) Fail(v Verb, f Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[v] = f
}

// Heal takes away all faults of verbs.
func (w *World) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.faults)
}

// RefuseShares makes the platform one that can only switch everything at once.
func (w *World) RefuseShares() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noShares = true
}

// fault takes the fault that a call meets.
func (w *World) fault(v Verb, stage string) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.faults[v]
	if !ok || f.Stage != "" && f.Stage != stage {
		return Fault{}
	}
	if f.Times == 1 {
		delete(w.faults, v)
	} else if f.Times > 1 {
		f.Times--
		w.faults[v] = f
	}
	return f
}

// meet does what a verb does, with the fault that is set for it.
func (e *Engine) meet(ctx context.Context, v Verb, do func(context.Context) error) error {
	if err := e.dead(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	f := e.world.fault(v, e.stage)
	if err := pause(ctx, f.Slow); err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	if f.Hang {
		<-ctx.Done()
		return fmt.Errorf("%s: %w", v, ctx.Err())
	}
	if f.Err != nil && !f.Done {
		return fmt.Errorf("%s: %w", v, f.Err)
	}
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	if f.Err != nil {
		return fmt.Errorf("%s: %w", v, f.Err)
	}
	return nil
}

func (e *Engine) dead() error {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	if e.life != e.world.crashes {
		return fmt.Errorf("%w: this controller has crashed", deploy.ErrUnavailable)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
