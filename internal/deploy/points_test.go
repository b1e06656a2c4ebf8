package deploy_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/secret"
)

// points counts the moments at which a controller writes or calls an engine, and kills it at one of them. A killed
// controller can do nothing any more: whatever it calls fails and has no effect.
type points struct {
	mu     sync.Mutex
	seen   map[string]int
	passed int
	at     int  // the moment to die at; 0: never
	after  bool // die when the call is done, instead of before
	dead   bool
	died   chan struct{}
	names  []string
	kill   func()
	fault  fault // instead of a death: how the call of an engine at that moment goes wrong
	calm   bool
}

// fault is how one call of an engine goes wrong, once. The controller lives on.
type fault string

const (
	fails     fault = "fails"           // and has done nothing
	doneFails fault = "fails when done" // as when the answer is lost
	hangs     fault = "hangs"           // until it is cancelled
)

var cannotStart = memory.Behaviour{Cause: "ended with exit code 2"}

var errDead = errors.New("this controller is dead")

// often are calls of which the first few are enough: health is asked every second, and a lease renewed every five.
var often = map[string]int{"check": 5, "renew": 3, "list": 8, "samples": 6}

func (p *points) call(name string, do func() error) error {
	if p.fault != "" {
		return do()
	}
	if p.moment(name, false) {
		return errDead
	}
	err := do()
	if p.moment(name, true) {
		return errDead
	}
	return err
}

// verb is a call of an engine.
func (p *points) verb(ctx context.Context, name string, do func() error) error {
	if p.fault == "" {
		return p.call(name, do)
	}
	if !p.struck(name) {
		return do()
	}
	switch p.fault {
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case doneFails:
		return errors.Join(do(), deploy.ErrUnavailable)
	default:
		return deploy.ErrUnavailable
	}
}

// struck counts a call of an engine and reports whether it is the one that goes wrong.
func (p *points) struck(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if most, ok := often[name]; ok && p.seen[name] >= most || p.calm {
		return false
	}
	p.seen[name]++
	p.passed++
	p.names = append(p.names, name)
	return p.passed == p.at
}

// calms down: no call goes wrong any more, and none is counted.
func (p *points) calms() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calm = true
}

// moment counts a moment and reports whether the controller is dead.
func (p *points) moment(name string, after bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return true
	}
	if !after {
		if most, ok := often[name]; ok && p.seen[name] >= most {
			return false
		}
		p.seen[name]++
		p.passed++
		p.names = append(p.names, name)
	}
	if p.passed == p.at && after == p.after {
		p.dead = true
		p.kill()
		close(p.died)
	}
	return p.dead
}

func newPoints(at int, after bool) *points {
	return &points{at: at, after: after, seen: map[string]int{}}
}

// board takes the points into the bubble of a site.
func (p *points) board(s *site) {
	p.died, p.kill, s.points = make(chan struct{}), s.world.Crash, p
}

// wrap puts the points into everything that a controller calls.
func (p *points) wrap(c *deploy.Config) {
	c.Ledger = pointedLedger{c.Ledger, p}
	c.Builder = pointedBuilder{c.Builder, p}
	c.Migrate = pointedMigrator{c.Migrate, p}
	if keep := c.Snapshots; keep != nil {
		c.Snapshots = func(app string, stage deploy.Stage) (deploy.Snapshots, error) {
			of, err := keep(app, stage)
			return pointedSnapshots{of, p}, err
		}
	}
	open := c.Engine
	c.Engine = func(app string, stage deploy.Stage) (deploy.Engine, error) {
		e, err := open(app, stage)
		return pointedEngine{e, p}, err
	}
}

type pointedLedger struct {
	deploy.Ledger
	p *points
}

func (l pointedLedger) Append(ctx context.Context, e deploy.Event) (written deploy.Event, err error) {
	err = l.p.call("append "+e.Kind, func() error { written, err = l.Ledger.Append(ctx, e); return err })
	return written, err
}

func (l pointedLedger) Acquire(ctx context.Context, s deploy.StageRef, owner string, ttl time.Duration, gone func(string) bool) (got deploy.Lease, err error) {
	err = l.p.call("acquire", func() error { got, err = l.Ledger.Acquire(ctx, s, owner, ttl, gone); return err })
	return got, err
}

func (l pointedLedger) Renew(ctx context.Context, got deploy.Lease, ttl time.Duration) error {
	return l.p.call("renew", func() error { return l.Ledger.Renew(ctx, got, ttl) })
}

func (l pointedLedger) Release(ctx context.Context, got deploy.Lease) error {
	return l.p.call("release", func() error { return l.Ledger.Release(ctx, got) })
}

type pointedBuilder struct {
	deploy.Builder
	p *points
}

func (b pointedBuilder) Build(ctx context.Context, id string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (r deploy.Release, err error) {
	err = b.p.call("build", func() error { r, err = b.Builder.Build(ctx, id, app, c, report, output); return err })
	return r, err
}

func (b pointedBuilder) Fit(ctx context.Context, id string, app deploy.App, c deploy.Commit, from deploy.Release, public []deploy.Setting, report func(deploy.StepEvidence), output func(step, line string)) (r deploy.Release, err error) {
	err = b.p.call("fit", func() error { r, err = b.Builder.Fit(ctx, id, app, c, from, public, report, output); return err })
	return r, err
}

func (b pointedBuilder) Prune(ctx context.Context, keep []deploy.Digest) error {
	return b.p.call("prune", func() error { return b.Builder.Prune(ctx, keep) })
}

type pointedMigrator struct {
	deploy.Migrator
	p *points
}

func (m pointedMigrator) Migrate(ctx context.Context, url secret.Text, files fs.FS, dir string, wait ...string) (done deploy.Migrated, err error) {
	err = m.p.call("migrate", func() error { done, err = m.Migrator.Migrate(ctx, url, files, dir, wait...); return err })
	return done, err
}

func (m pointedMigrator) Run(ctx context.Context, url secret.Text, c deploy.MigrationCommand) (done deploy.Migrated, err error) {
	err = m.p.call("migrate", func() error { done, err = m.Migrator.Run(ctx, url, c); return err })
	return done, err
}

func (m pointedMigrator) Judge(ctx context.Context, q deploy.MigrationQuestion) (j deploy.Judgement, err error) {
	err = m.p.call("judge", func() error { j, err = m.Migrator.Judge(ctx, q); return err })
	return j, err
}

type pointedEngine struct {
	deploy.Engine
	p *points
}

func (e pointedEngine) DatabaseURL(ctx context.Context, db deploy.Database) (deploy.Setting, error) {
	return e.Engine.(deploy.Databases).DatabaseURL(ctx, db)
}

func (e pointedEngine) OpenDatabase(ctx context.Context, f deploy.Fence, db deploy.Database) error {
	return e.p.verb(ctx, "database", func() error { return e.Engine.(deploy.Databases).OpenDatabase(ctx, f, db) })
}

func (e pointedEngine) Samples(ctx context.Context, from, to time.Time) (all []deploy.Sample, err error) {
	err = e.p.verb(ctx, "samples", func() error { all, err = e.Engine.(deploy.Sampler).Samples(ctx, from, to); return err })
	return all, err
}

func (e pointedEngine) Reach(ctx context.Context, rollout string) (to http.RoundTripper, err error) {
	err = e.p.verb(ctx, "reach", func() error { to, err = e.Engine.Reach(ctx, rollout); return err })
	return to, err
}

func (e pointedEngine) Task(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount) error {
	return e.p.verb(ctx, "task", func() error { return e.Engine.(deploy.Tasks).Task(ctx, rollout, name, command, mounts) })
}

func (e pointedEngine) Start(ctx context.Context, f deploy.Fence, o deploy.Order) error {
	return e.p.verb(ctx, "start", func() error { return e.Engine.Start(ctx, f, o) })
}

func (e pointedEngine) Check(ctx context.Context, rollout string) error {
	return e.p.verb(ctx, "check", func() error { return e.Engine.Check(ctx, rollout) })
}

func (e pointedEngine) Shift(ctx context.Context, f deploy.Fence, rollout string, share int) error {
	return e.p.verb(ctx, "shift", func() error { return e.Engine.Shift(ctx, f, rollout, share) })
}

func (e pointedEngine) Stop(ctx context.Context, f deploy.Fence, rollout string, drain time.Duration) error {
	return e.p.verb(ctx, "stop", func() error { return e.Engine.Stop(ctx, f, rollout, drain) })
}

func (e pointedEngine) List(ctx context.Context) (all []deploy.Running, err error) {
	err = e.p.verb(ctx, "list", func() error { all, err = e.Engine.List(ctx); return err })
	return all, err
}

func (e pointedEngine) Hold(ctx context.Context, f deploy.Fence, b deploy.Bounds) error {
	return e.p.verb(ctx, "hold", func() error { return e.Engine.(deploy.Holder).Hold(ctx, f, b) })
}

func (e pointedEngine) EndHold(ctx context.Context, f deploy.Fence) error {
	return e.p.verb(ctx, "end of hold", func() error { return e.Engine.(deploy.Holder).EndHold(ctx, f) })
}

func (e pointedEngine) Maintain(ctx context.Context, f deploy.Fence, page *deploy.Page) error {
	return e.Engine.(deploy.Holder).Maintain(ctx, f, page)
}

func (e pointedEngine) Closed(ctx context.Context) (deploy.Closed, error) {
	return e.Engine.(deploy.Holder).Closed(ctx)
}

func (e pointedEngine) Volumes(ctx context.Context, names []string) (map[string]string, error) {
	return e.Engine.(deploy.Beside).Volumes(ctx, names)
}

func (e pointedEngine) Prepare(ctx context.Context, f deploy.Fence, set deploy.DataSet) (to deploy.Data, err error) {
	err = e.p.verb(ctx, "prepare", func() error { to, err = e.Engine.(deploy.Beside).Prepare(ctx, f, set); return err })
	return to, err
}

func (e pointedEngine) Swap(ctx context.Context, f deploy.Fence, set deploy.DataSet) error {
	return e.p.verb(ctx, "swap", func() error { return e.Engine.(deploy.Beside).Swap(ctx, f, set) })
}

func (e pointedEngine) SwapBack(ctx context.Context, f deploy.Fence, set deploy.DataSet) error {
	return e.p.verb(ctx, "swap back", func() error { return e.Engine.(deploy.Beside).SwapBack(ctx, f, set) })
}

func (e pointedEngine) Discard(ctx context.Context, f deploy.Fence, set deploy.DataSet) error {
	return e.p.verb(ctx, "discard", func() error { return e.Engine.(deploy.Beside).Discard(ctx, f, set) })
}

func (e pointedEngine) Forget(ctx context.Context, f deploy.Fence, set deploy.DataSet) error {
	return e.p.verb(ctx, "forget", func() error { return e.Engine.(deploy.Beside).Forget(ctx, f, set) })
}

func (e pointedEngine) Kept(ctx context.Context, set deploy.DataSet) ([]deploy.KeptData, error) {
	return e.Engine.(deploy.Beside).Kept(ctx, set)
}

func (e pointedEngine) TaskInstead(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount, settings []deploy.Setting) error {
	return e.p.verb(ctx, "task instead", func() error {
		return e.Engine.(deploy.Instead).TaskInstead(ctx, rollout, name, command, mounts, settings)
	})
}

type pointedSnapshots struct {
	deploy.Snapshots
	p *points
}

func (k pointedSnapshots) Take(ctx context.Context, o deploy.SnapshotOrder) (taken deploy.Snapshot, err error) {
	err = k.p.call("take", func() error { taken, err = k.Snapshots.Take(ctx, o); return err })
	return taken, err
}

func (k pointedSnapshots) Restore(ctx context.Context, stage deploy.StageRef, id string, to deploy.Data) error {
	return k.p.call("fill", func() error { return k.Snapshots.Restore(ctx, stage, id, to) })
}
