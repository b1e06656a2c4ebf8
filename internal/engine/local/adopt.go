package local

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// lookEvery is how often Run looks at keepers, so that a dead one is replaced within a second.
const lookEvery = 300 * time.Millisecond

// Adopt implements deploy.Adopter. Routes in the proxy stay as they are.
func (e *Engine) Adopt(ctx context.Context, rollout string, order deploy.Order) error {
	return e.failed("adopt "+rollout, e.adopt(ctx, rollout, order))
}

func (e *Engine) adopt(ctx context.Context, rollout string, order deploy.Order) error {
	if _, err := e.known(rollout); err != nil {
		return err
	}
	// First what the instances need. Without it they are taken up nevertheless: they may be running, and Run goes on trying.
	database := e.databaseOf(ctx, order.Stage)
	unlock, err := e.lock(ctx, lockOf(rollout))
	if err != nil {
		return errors.Join(database, err)
	}
	defer unlock()
	n, err := e.known(rollout)
	if err != nil || n.Phase != up {
		return errors.Join(database, err) // what was left starting or stopping goes on with Start or Stop
	}
	return errors.Join(database, e.takeUp(ctx, n, order))
}

// Run looks after the keepers of every rollout that was started or adopted, and of the stage's database, and replaces dead ones,
// until ctx ends. A cancel is not an error.
func (e *Engine) Run(ctx context.Context) error {
	var database sync.WaitGroup // its start may take minutes: nobody waits for it
	database.Go(func() { e.tendDatabase(ctx) })
	defer database.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for rollout, order := range e.remembered() {
			if err := e.mend(ctx, rollout, order); err != nil && ctx.Err() == nil {
				e.Log.Error("an instance without a keeper could not be given one", "app", e.App, "stage", e.Stage, "rollout", rollout, "err", err)
			}
		}
	}
}

func (e *Engine) remembered() map[string]deploy.Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.orders)
}

// mend gives the instances of one rollout their keepers back. Whoever stops the rollout meanwhile holds its lock.
func (e *Engine) mend(ctx context.Context, rollout string, order deploy.Order) error {
	n, err := e.readNote(rollout)
	if err != nil || n == nil || n.Phase != up {
		return err
	}
	for _, i := range e.instances(n) {
		if kept(e.dir(i)) {
			continue
		}
		if err := e.replace(ctx, rollout, i, order); err != nil {
			return err
		}
	}
	return nil
}

func kept(dir string) bool {
	s, err := process.Inspect(dir)
	return err == nil && s.Keeper || err != nil && !errors.Is(err, process.ErrUnknown)
}

func (e *Engine) replace(ctx context.Context, rollout string, i instance, order deploy.Order) error {
	unlock, err := e.lock(ctx, lockOf(rollout))
	if err != nil {
		return err
	}
	defer unlock()
	n, err := e.readNote(rollout)
	if err != nil || n == nil || n.Phase != up {
		return err
	}
	e.Log.Warn("a keeper is gone, another takes over", "app", e.App, "stage", e.Stage, "rollout", rollout, "service", i.service.Name, "instance", i.number)
	return e.revive(ctx, i, order)
}
