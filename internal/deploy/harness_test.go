package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/secret"
)

// site is a machine in memory: a world that runs releases, a real ledger, commits, and one controller after another.
type site struct {
	t       *testing.T
	world   *memory.World
	ledger  *ledger.Ledger
	builder *builder
	secrets map[string]string
	keys    sync.Mutex // of secrets, where somebody changes them while a controller looks
	data    databases
	abroad  error          // what is said of where Supabase stands
	sources deploy.Sources // nil: no push starts anything
	points  *points        // nil: nothing crashes
	life    int
	freed   atomic.Int64 // how often an engine gave an address back
	crashed atomic.Int64 // how often the first instance of the api ended and was started again
	*deploy.Controller
	end func()
}

var app = deploy.App{
	Name:     "shop",
	Pipeline: []deploy.StepSpec{{Name: "site", Run: "make", Public: []string{"TOKEN"}}},
	Services: []deploy.Service{
		{Name: "site", Static: "dist", Path: "/"},
		{Name: "api", Command: "bin/api", Path: "/api", Instances: 2, Start: 60 * time.Second, Drain: 30 * time.Second},
	},
	Stages: []deploy.Stage{
		stageOf("dev", "https://dev.shop.localhost"), stageOf("staging", "https://staging.shop.localhost"), stageOf("prod", "https://shop.localhost"),
	},
}

func stageOf(name, url string) deploy.Stage {
	return deploy.Stage{Name: name, URL: url, Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second,
		Database: deploy.Database{Postgres: 15, Migrations: "db"}}
}

// inSite runs a test in a bubble where time passes at once when everybody waits.
func inSite(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		book, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := &site{t: t, world: memory.NewWorld(), ledger: book, builder: &builder{app: app}, secrets: map[string]string{"KEY": "first-value"}}
		defer func() {
			s.end()
			s.world.Close()
			if err := book.Close(); err != nil {
				t.Error(err)
			}
		}()
		s.boot()
		f(t, s)
	})
}

// boot starts a controller, as after a crash of the one before.
func (s *site) boot() {
	s.life++
	ctx, cancel := context.WithCancel(context.Background())
	c := deploy.Config{Ledger: s.ledger, Places: s.ledger, Builder: s.builder, Migrate: &s.data, Sources: s.sources, Read: s.builder.read, Settings: s.settings,
		Whereabouts: func(context.Context, deploy.Stage, []deploy.Setting) ([]deploy.Evidence, error) {
			return []deploy.Evidence{{Probe: "region", Figure: "somewhere"}}, s.abroad
		},
		Engine: func(app string, stage deploy.Stage) (deploy.Engine, error) {
			return restarting{memory.Open(s.world, app, stage.Name), s, stage.Name}, nil
		},
		Address: func(s deploy.Stage) string { return s.URL }, Owner: fmt.Sprint("controller-", s.life), Log: slog.New(slog.DiscardHandler)}
	if s.points != nil {
		s.points.wrap(&c)
	}
	s.Controller = deploy.New(c)
	done := make(chan error, 1)
	controller := s.Controller
	go func() { done <- controller.Run(ctx) }()
	ended := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && s.points == nil {
			s.t.Errorf("controller: %v", err)
		}
	})
	s.end = ended
	if s.points == nil {
		<-controller.Ready()
	}
}

func (s *site) settings(_ context.Context, _, _ string, stage deploy.Stage) (deploy.Settings, error) {
	of := deploy.Settings{Values: []deploy.Setting{{Name: "TOKEN", Value: secret.New(stage.Name)}}}
	sum := sha256.New()
	s.keys.Lock()
	defer s.keys.Unlock()
	for name, value := range s.secrets {
		of.Values = append(of.Values, deploy.Setting{Name: name, Value: secret.New(value)})
		sum.Write([]byte(name + value))
	}
	of.Version = hex.EncodeToString(sum.Sum(nil))
	return of, nil
}

// databases are what the stages have, by name, and what was run on them.
type databases struct {
	mu      sync.Mutex
	open    map[string]int
	applied map[string][]string
	err     error // of the next migration
	inside  bool  // the engine runs them
}

func (d *databases) Migrate(_ context.Context, url secret.Text, files fs.FS, dir string) (deploy.Migrated, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return deploy.Migrated{}, d.err
	}
	before := d.applied[url.Reveal()]
	found, err := fs.ReadDir(files, dir)
	if err != nil {
		return deploy.Migrated{}, err
	}
	done := deploy.Migrated{Before: len(before)}
	for _, f := range found[min(len(before), len(found)):] {
		done.Applied = append(done.Applied, f.Name())
	}
	if d.applied == nil {
		d.applied = map[string][]string{}
	}
	d.applied[url.Reveal()] = append(before, done.Applied...)
	return done, nil
}

// restarting shows how often an instance was started again, and has databases.
type restarting struct {
	*memory.Engine
	site  *site
	stage string
}

func (e restarting) DatabaseURL(context.Context, deploy.Database) (deploy.Setting, error) {
	return deploy.Setting{Name: deploy.DatabaseURL, Value: secret.New("postgres://" + e.stage)}, nil
}

func (e restarting) End(context.Context, deploy.Fence) error { e.site.freed.Add(1); return nil }

func (e restarting) MigratesInStart(deploy.Database) bool { return e.site.data.inside }

func (e restarting) OpenDatabase(context.Context, deploy.Fence, deploy.Database) error {
	e.site.data.mu.Lock()
	defer e.site.data.mu.Unlock()
	if e.site.data.open == nil {
		e.site.data.open = map[string]int{}
	}
	e.site.data.open[e.stage]++
	return nil
}

func (e restarting) List(ctx context.Context) ([]deploy.Running, error) {
	running, err := e.Engine.List(ctx)
	for _, r := range running {
		for _, service := range r.Services {
			if service.Name == "api" {
				service.Instances[0].Restarts = int(e.site.crashed.Load())
			}
		}
	}
	return running, err
}

// deploy deploys a commit to dev and returns how it ended.
func (s *site) deploy(commit string) deploy.Rollout {
	s.t.Helper()
	id, err := s.Deploy(s.t.Context(), deploy.Request{Dir: "/app", Rev: commit})
	if err != nil {
		s.t.Fatalf("deploy %s: %v", commit, err)
	}
	return s.ended(id)
}

// ended waits until a rollout has ended.
func (s *site) ended(id string) deploy.Rollout {
	s.t.Helper()
	var last deploy.Rollout
	err := s.Follow(s.t.Context(), id, func(u deploy.Update) error {
		if u.Rollout != nil {
			last = *u.Rollout
		}
		return nil
	})
	if err != nil {
		s.t.Fatalf("following %s: %v", id, err)
	}
	return last
}

// running returns the rollouts on dev by their share.
func (s *site) running() map[string]int { return s.runningOn("dev") }

func (s *site) runningOn(stage string) map[string]int {
	s.t.Helper()
	running, err := memory.Open(s.world, "shop", stage).List(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	shares := map[string]int{}
	for _, r := range running {
		shares[r.Rollout] = r.Share
	}
	return shares
}

// leaseIsFree fails the test when somebody holds the lease of dev.
func (s *site) leaseIsFree() { s.leaseOfIsFree("dev") }

func (s *site) leaseOfIsFree(stage string) {
	s.t.Helper()
	synctest.Wait() // the lease is given back after the last event
	ref := deploy.StageRef{App: "shop", Stage: stage}
	lease, err := s.ledger.Acquire(context.Background(), ref, "test", time.Second, func(string) bool { return false })
	if err != nil {
		s.t.Errorf("the lease was left behind: %v", err)
		return
	}
	if err := s.ledger.Release(context.Background(), lease); err != nil {
		s.t.Error(err)
	}
}

// builder makes a release of any commit that is not called broken.
type builder struct {
	app   deploy.App
	apps  map[string]deploy.App // of commits whose lotse.yaml is another
	wrong map[string]error      // of commits whose lotse.yaml has mistakes

	mu     sync.Mutex
	builds int
	made   map[deploy.Digest]deploy.Release
	pruned []deploy.Digest // what the last Prune kept
	hold   chan struct{}   // a build waits for it
}

// read knows lotse.yaml of a commit by the commit's name.
func (b *builder) read(_ string, file []byte) (deploy.App, error) {
	if other, ok := b.apps[string(file)]; ok {
		return other, b.wrong[string(file)]
	}
	return b.app, b.wrong[string(file)]
}

func (b *builder) Resolve(_ context.Context, dir, rev string) (deploy.Commit, error) {
	if rev == "" {
		rev = "head"
	}
	return deploy.Commit{Tree: dir, Dir: ".", ID: rev, Name: "Ada", Mail: "ada@example.org"}, nil
}

func (b *builder) File(_ context.Context, c deploy.Commit, _ string) ([]byte, error) {
	return []byte(c.ID), nil
}

func (b *builder) Files(context.Context, deploy.Release) (fs.FS, error) {
	return fstest.MapFS{deploy.LotseFile: {Data: []byte("app: shop")}, "db/1.sql": {}, "db/2.sql": {}}, nil
}

// Fit makes another release for every stage but the first.
func (b *builder) Fit(_ context.Context, _ string, _ deploy.App, _ deploy.Commit, r deploy.Release, public []deploy.Setting, _ func(deploy.StepEvidence), _ func(step, line string)) (deploy.Release, error) {
	if len(public) != 1 || public[0].Name != "TOKEN" {
		return r, fmt.Errorf("fit was given %d values", len(public))
	}
	if public[0].Value.Reveal() == "dev" {
		return r, nil
	}
	r.ID = fittedTo(r.ID, public[0].Value.Reveal())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made[r.ID] = r
	return r, nil
}

func fittedTo(release deploy.Digest, stage string) deploy.Digest {
	return digestOf(string(release) + stage)
}

func (b *builder) Build(ctx context.Context, _ string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	report(deploy.StepEvidence{Name: "compile", State: deploy.StepRunning})
	output("compile", "compiling "+c.ID)
	b.mu.Lock()
	b.builds++
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return deploy.Release{}, ctx.Err()
		}
	}
	if c.ID == "broken" {
		report(deploy.StepEvidence{Name: "compile", State: deploy.StepFailed, Cause: "a type error"})
		return deploy.Release{}, errors.New("step compile failed")
	}
	report(deploy.StepEvidence{Name: "compile", State: deploy.StepDone})
	release := deploy.Release{ID: digestOf(c.ID), Manifest: deploy.Manifest{App: app.Name, Commit: c.ID, Services: app.Services, Jobs: app.Jobs}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		b.made = map[deploy.Digest]deploy.Release{}
	}
	b.made[release.ID] = release
	return release, nil
}

func (b *builder) Release(_ context.Context, id deploy.Digest) (deploy.Release, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.made[id]
	if !ok {
		return r, deploy.ErrNotFound
	}
	return r, nil
}

func (b *builder) Verify(ctx context.Context, id deploy.Digest) error {
	_, err := b.Release(ctx, id)
	return err
}

func (b *builder) Prune(_ context.Context, keep []deploy.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pruned = slices.Clone(keep)
	return nil
}

func digestOf(commit string) deploy.Digest {
	sum := sha256.Sum256([]byte(commit))
	return deploy.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// steps names the steps that a rollout took, in order.
func steps(r deploy.Rollout) []string {
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return names
}

// pass lets time pass, in the bubble where that takes none.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // every caller is inside synctest, where this is how time passes
}
