package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/secret"
)

// snaps keeps snapshots in memory, with a knob for every failure.
type snaps struct {
	world *memory.World
	now   func() time.Time
	takes time.Duration // a Take, a Prove, a Restore

	mu        sync.Mutex
	all       []deploy.Snapshot
	content   map[string]string
	checked   []string // what the check was run on
	pruned    int
	fail      error // of the next Take, as long as it is set
	unproven  string
	noRestore error
	refuse    error // of the app's own check
	n         int
}

// with looks at the snapshots, or turns a knob, while nobody else does.
func (s *snaps) with(do func(*snaps)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
}

// kept are all that there are.
func (s *snaps) kept() []deploy.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func (s *snaps) Take(ctx context.Context, o deploy.SnapshotOrder) (deploy.Snapshot, error) {
	if err := wait(ctx, s.takes); err != nil {
		return deploy.Snapshot{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return deploy.Snapshot{}, s.fail
	}
	s.n++
	taken := deploy.Snapshot{ID: fmt.Sprintf("s%03d", s.n), Stage: o.Stage, Why: o.Why, Rollout: o.Rollout, Release: o.Release, At: s.now(), Took: s.takes, Size: 1000, Where: "memory"}
	s.all = append(s.all, taken)
	s.content[taken.ID] = s.world.Read(o.Data.URL)
	return taken, nil
}

func (s *snaps) List(_ context.Context, stage deploy.StageRef) (found []deploy.Snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if one.Stage == stage {
			found = append(found, one)
		}
	}
	return found, nil
}

func (s *snaps) Prove(ctx context.Context, stage deploy.StageRef, id string, check func(context.Context, secret.Text) error) (deploy.Proof, error) {
	if err := wait(ctx, s.takes); err != nil {
		return deploy.Proof{}, err
	}
	proof := deploy.Proof{At: s.now(), Took: s.takes}
	s.with(func(s *snaps) { proof.Wrong = s.unproven })
	if check != nil && proof.Wrong == "" {
		if err := check(ctx, secret.New("scratch")); err != nil {
			proof.Wrong = err.Error()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(one deploy.Snapshot) bool { return one.ID == id && one.Stage == stage })
	if i < 0 {
		return proof, deploy.ErrNotFound
	}
	s.all[i].Proof = &proof
	if proof.Wrong != "" {
		return proof, fmt.Errorf("%w: %s", deploy.ErrDamaged, proof.Wrong)
	}
	return proof, nil
}

func (s *snaps) Restore(ctx context.Context, _ deploy.StageRef, id string, to deploy.Data) error {
	if err := wait(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noRestore != nil {
		return s.noRestore
	}
	if !s.world.Write(to.URL, s.content[id]) {
		return errors.New("there is no such database")
	}
	return nil
}

func (s *snaps) Prune(_ context.Context, stage deploy.StageRef, keep deploy.Keep) (gone []deploy.Snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruned++
	s.all = slices.DeleteFunc(s.all, func(one deploy.Snapshot) bool {
		old := one.Stage == stage && one.At.Before(s.now().Add(-time.Duration(keep.Daily)*24*time.Hour))
		if old {
			gone = append(gone, one)
		}
		return old
	})
	return gone, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keepsSnapshots has the site keep snapshots of dev, daily at three.
func (s *site) keepsSnapshots(change ...func(*deploy.SnapshotRule)) *snaps {
	s.snaps = &snaps{world: s.world, now: s.wallClock, takes: 10 * time.Second, content: map[string]string{}}
	s.builder.app.Stages = slices.Clone(s.builder.app.Stages)
	rule := &s.builder.app.Stages[0].Database.Snapshots
	*rule = deploy.SnapshotRule{At: "03:00", Keep: deploy.Keep{Daily: 7, Weekly: 4, Monthly: 6}, Drills: deploy.DrillsEach}
	for _, c := range change {
		c(rule)
	}
	s.end()
	s.boot()
	return s.snaps
}

// check is given the address of what was brought back in place of the stage's own.
func (s *snaps) check(command string, settings []deploy.Setting) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range settings {
		s.checked = append(s.checked, command+" "+v.Name+" "+v.Value.Reveal())
	}
	return s.refuse
}
