package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
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
	points  *points // nil: nothing crashes
	life    int
	crashed atomic.Int64 // how often the first instance of the api ended and was started again
	*deploy.Controller
	end func()
}

var app = deploy.App{
	Name: "shop",
	Services: []deploy.Service{
		{Name: "site", Static: "dist", Path: "/"},
		{Name: "api", Command: "bin/api", Path: "/api", Instances: 2, Start: 60 * time.Second, Drain: 30 * time.Second},
	},
	Stages: []deploy.Stage{
		{Name: "dev", URL: "https://dev.shop.localhost", Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second},
		{Name: "prod", URL: "https://shop.localhost", Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second},
	},
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
	c := deploy.Config{Ledger: s.ledger, Places: s.ledger, Builder: s.builder, Read: s.builder.read, Settings: s.settings,
		Engine: func(app string, stage deploy.Stage) (deploy.Engine, error) {
			return restarting{memory.Open(s.world, app, stage.Name), s}, nil
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

func (s *site) settings(context.Context, string, string, deploy.Stage) (deploy.Settings, error) {
	var of deploy.Settings
	sum := sha256.New()
	for name, value := range s.secrets {
		of.Values = append(of.Values, deploy.Setting{Name: name, Value: secret.New(value)})
		sum.Write([]byte(name + value))
	}
	of.Version = hex.EncodeToString(sum.Sum(nil))
	return of, nil
}

// restarting shows how often an instance was started again.
type restarting struct {
	*memory.Engine
	site *site
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

// serving returns the rollouts on dev by their share.
func (s *site) running() map[string]int {
	s.t.Helper()
	running, err := memory.Open(s.world, "shop", "dev").List(context.Background())
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
func (s *site) leaseIsFree() {
	s.t.Helper()
	synctest.Wait() // the lease is given back after the last event
	ref := deploy.StageRef{App: "shop", Stage: "dev"}
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
	app deploy.App

	mu     sync.Mutex
	builds int
	made   map[deploy.Digest]deploy.Release
	pruned []deploy.Digest // what the last Prune kept
	hold   chan struct{}   // a build waits for it
}

func (b *builder) read(string, []byte) (deploy.App, error) { return b.app, nil }

func (b *builder) Resolve(_ context.Context, dir, rev string) (deploy.Commit, error) {
	if rev == "" {
		rev = "head"
	}
	return deploy.Commit{Tree: dir, Dir: ".", ID: rev, Name: "Ada", Mail: "ada@example.org"}, nil
}

func (b *builder) File(context.Context, deploy.Commit, string) ([]byte, error) { return nil, nil }

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
