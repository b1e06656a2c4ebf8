package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
)

// recorder is an enginetest.T whose failures are kept instead of failing the test.
type recorder struct {
	*testing.T
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// record proves one clause on a broken engine and returns what it complained about.
func record(t *testing.T, c enginetest.Clause, wrap func(deploy.Engine) deploy.Engine) []string {
	var failures []string
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{T: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Prove(r, memoryBench(r, wrap))
		}()
		<-done
		for _, f := range slices.Backward(r.cleanups) {
			f()
		}
		failures = r.failures
	})
	return failures
}

// TestEveryClauseBites breaks an engine in one way for each clause, and wants exactly that clause to be red. Further faults
// of a clause are tried on that clause alone.
func TestEveryClauseBites(t *testing.T) {
	crossed := map[int]bool{}
	for _, f := range faults() {
		tried := enginetest.Clauses()
		if crossed[f.clause] {
			tried = tried[f.clause-1 : f.clause]
		}
		crossed[f.clause] = true
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range tried {
				said := record(t, c, f.wrap)
				if red := len(said) > 0; red != (c.Number == f.clause) {
					t.Errorf("clause %d red: %v\n   %s", c.Number, red, strings.Join(said, "\n   "))
				}
			}
		})
	}
	for _, c := range enginetest.Clauses() {
		if !crossed[c.Number] {
			t.Errorf("clause %d has no planted fault", c.Number)
		}
	}
}

type fault struct {
	clause int
	name   string
	wrap   func(deploy.Engine) deploy.Engine
}

// broken is an engine with some verbs replaced. What an optional interface shows is that of the engine inside.
type broken struct {
	deploy.Engine
	start func(context.Context, deploy.Fence, deploy.Order) error
	check func(context.Context, string) error
	reach func(context.Context, string) (http.RoundTripper, error)
	shift func(context.Context, deploy.Fence, string, int) error
	stop  func(context.Context, deploy.Fence, string, time.Duration) error
	list  func(context.Context) ([]deploy.Running, error)

	samples func(context.Context, time.Time, time.Time) ([]deploy.Sample, error)
	deploy.Holder
}

func (b *broken) Start(ctx context.Context, f deploy.Fence, o deploy.Order) error {
	return b.start(ctx, f, o)
}
func (b *broken) Check(ctx context.Context, id string) error {
	return b.check(ctx, id)
}
func (b *broken) Reach(ctx context.Context, id string) (http.RoundTripper, error) {
	return b.reach(ctx, id)
}
func (b *broken) Shift(ctx context.Context, f deploy.Fence, id string, share int) error {
	return b.shift(ctx, f, id, share)
}
func (b *broken) Stop(ctx context.Context, f deploy.Fence, id string, drain time.Duration) error {
	return b.stop(ctx, f, id, drain)
}
func (b *broken) List(ctx context.Context) ([]deploy.Running, error) {
	return b.list(ctx)
}
func (b *broken) Samples(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
	return b.samples(ctx, from, to)
}

// breaking wraps an engine so that change may replace some of its verbs.
func breaking(change func(inner deploy.Engine, b *broken)) func(deploy.Engine) deploy.Engine {
	return func(inner deploy.Engine) deploy.Engine {
		b := &broken{inner, inner.Start, inner.Check, inner.Reach, inner.Shift, inner.Stop, inner.List, inner.(deploy.Sampler).Samples, inner.(deploy.Holder)}
		change(inner, b)
		return b
	}
}

func faults() []fault {
	return slices.Concat(startFaults(), trafficFaults(), knowingFaults(), samplingFaults(), holdingFaults())
}

func startFaults() []fault {
	return []fault{
		{1, "starts anew when asked again", breaking(func(e deploy.Engine, b *broken) {
			var last atomic.Value
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				if last.Swap(o.Rollout) == o.Rollout && good(o) && !strings.HasPrefix(o.Rollout, "shared") {
					_ = e.Stop(ctx, f, o.Rollout, 0)
				}
				return e.Start(ctx, f, o)
			}
		})},
		{2, "leaks what a cancelled start had begun", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				err := e.Start(ctx, f, o)
				if errors.Is(err, context.Canceled) {
					o.Release.ID = "sha256:other" // one that comes up, in place of what was cancelled
					_ = e.Start(context.WithoutCancel(ctx), f, o)
				}
				return err
			}
		})},
		{2, "does not hear a cancel", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				return e.Start(context.WithoutCancel(ctx), f, o)
			}
		})},
		{3, "keeps a release that cannot run", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				err := e.Start(ctx, f, o)
				if errors.Is(err, deploy.ErrCannotStart) {
					o.Release.ID = "sha256:other"
					_ = e.Start(ctx, f, o)
				}
				return err
			}
		})},
		{3, "gives no tail of the output", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				err := e.Start(ctx, f, o)
				var failed *deploy.StartError
				if errors.As(err, &failed) && !strings.HasPrefix(o.Rollout, "bad") {
					failed.Tail = nil
				}
				return err
			}
		})},
		{4, "says the wrong instance", breaking(func(e deploy.Engine, b *broken) {
			b.check = func(ctx context.Context, id string) error {
				err := e.Check(ctx, id)
				if sick, ok := errors.AsType[*deploy.CheckError](err); ok {
					sick.Instance++
				}
				return err
			}
		})},
		{4, "lists a sick instance as well", breaking(func(e deploy.Engine, b *broken) {
			b.list = func(ctx context.Context) ([]deploy.Running, error) {
				all, err := e.List(ctx)
				for _, r := range all {
					for _, s := range r.Services {
						for i := range s.Instances {
							s.Instances[i].Healthy = true
						}
					}
				}
				return all, err
			}
		})},
	}
}

// good reports whether an order is one of the suite's releases that run.
func good(o deploy.Order) bool {
	return o.Release.Manifest.Services[0].Command == "./app "+string(enginetest.Good)
}

func trafficFaults() []fault {
	return []fault{
		{5, "says that it has shifted and has not", breaking(func(e deploy.Engine, b *broken) {
			var given sync.Map
			b.shift = func(ctx context.Context, f deploy.Fence, id string, share int) error {
				if share != 50 || e.Check(ctx, id) != nil {
					given.Clear()
					return e.Shift(ctx, f, id, share)
				}
				given.Store(id, share)
				return nil
			}
			b.list = func(ctx context.Context) ([]deploy.Running, error) {
				all, err := e.List(ctx)
				given.Range(func(id, share any) bool {
					for i := range all {
						all[i].Share = 100 - share.(int)
						if all[i].Rollout == id {
							all[i].Share = share.(int)
						}
					}
					return true
				})
				return all, err
			}
		})},
		{5, "drops what is in flight when it shifts to all", breaking(func(e deploy.Engine, b *broken) {
			b.shift = func(ctx context.Context, f deploy.Fence, id string, share int) error {
				before, _ := e.List(ctx)
				err := e.Shift(ctx, f, id, share)
				for _, r := range before {
					// Stopping without a drain cuts; another start of the same id makes it look as if nothing happened.
					if err == nil && share == 100 && r.Share > 0 && r.Share < 100 && r.Rollout != id {
						_ = e.Stop(ctx, f, r.Rollout, 0)
						_ = e.Start(ctx, f, deploy.Order{Rollout: r.Rollout, Stage: deploy.Stage{URL: "https://dev.shop.test"},
							Release: deploy.Release{ID: r.Release, Manifest: deploy.Manifest{Services: []deploy.Service{{Name: "web", Command: "./app good", Path: "/", Instances: 2}}}}})
					}
				}
				return err
			}
		})},
		{6, "forgets fences", breaking(func(e deploy.Engine, b *broken) {
			b.shift = func(ctx context.Context, f deploy.Fence, id string, share int) error {
				if f == 6 {
					f = 7
				}
				return e.Shift(ctx, f, id, share)
			}
		})},
		{6, "gives traffic to a sick release", breaking(func(e deploy.Engine, b *broken) {
			b.shift = func(ctx context.Context, f deploy.Fence, id string, share int) error {
				err := e.Shift(ctx, f, id, share)
				if errors.Is(err, deploy.ErrUnhealthy) {
					return nil
				}
				return err
			}
		})},
		{7, "drops what is in flight when it stops", breaking(func(e deploy.Engine, b *broken) {
			b.stop = func(ctx context.Context, f deploy.Fence, id string, drain time.Duration) error {
				if drain == 10*time.Second {
					drain = 0
				}
				return e.Stop(ctx, f, id, drain)
			}
		})},
		{7, "waits for ever for what is in flight", breaking(func(e deploy.Engine, b *broken) {
			b.stop = func(ctx context.Context, f deploy.Fence, id string, drain time.Duration) error {
				if drain == 500*time.Millisecond {
					drain = 5 * time.Second
				}
				return e.Stop(ctx, f, id, drain)
			}
		})},
		{7, "does not stop the unknown", breaking(func(e deploy.Engine, b *broken) {
			b.stop = func(ctx context.Context, f deploy.Fence, id string, drain time.Duration) error {
				if id == "nobody" {
					return deploy.ErrUnknown
				}
				return e.Stop(ctx, f, id, drain)
			}
		})},
	}
}

func knowingFaults() []fault {
	return []fault{
		{8, "does not see what the previous version wrote", breaking(func(e deploy.Engine, b *broken) {
			b.list = func(ctx context.Context) ([]deploy.Running, error) {
				all, err := e.List(ctx)
				return slices.DeleteFunc(all, func(r deploy.Running) bool { return r.Rollout == "before" }), err
			}
		})},
		{9, "shares fences between stages", sharedFence()},
		{9, "knows rollouts of the other stage", knowsAll()},
		{10, "prints a secret", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				err := e.Start(ctx, f, o)
				if failed, ok := errors.AsType[*deploy.StartError](err); ok {
					for _, s := range o.Settings {
						failed.Tail = append(failed.Tail, s.Name+"="+s.Value.Reveal())
					}
				}
				return err
			}
		})},
		{10, "does not pass settings on", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				o.Settings = o.Settings[1:]
				return e.Start(ctx, f, o)
			}
		})},
		{11, "says to try again what will never succeed", breaking(func(e deploy.Engine, b *broken) {
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				err := e.Start(ctx, f, o)
				if errors.Is(err, deploy.ErrBadInput) {
					err = fmt.Errorf("%w: %w", deploy.ErrUnavailable, err)
				}
				return err
			}
		})},
		{11, "does not say to try again", breaking(func(e deploy.Engine, b *broken) {
			b.shift = func(ctx context.Context, f deploy.Fence, id string, share int) error {
				err := e.Shift(ctx, f, id, share)
				if errors.Is(err, deploy.ErrUnavailable) {
					err = errors.New("something is wrong")
				}
				return err
			}
		})},
		{12, "can do one thing at a time", breaking(func(e deploy.Engine, b *broken) {
			var busy atomic.Bool
			b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
				if !busy.CompareAndSwap(false, true) {
					return deploy.ErrBusy
				}
				defer busy.Store(false)
				<-time.After(time.Millisecond)
				return e.Start(ctx, f, o)
			}
		})},
	}
}

// sharedFence is a platform that keeps one fence for all stages.
func sharedFence() func(deploy.Engine) deploy.Engine {
	var greatest sync.Map // by rollout
	return breaking(func(e deploy.Engine, b *broken) {
		b.start = func(ctx context.Context, f deploy.Fence, o deploy.Order) error {
			if seen, _ := greatest.Swap(o.Rollout, f); seen != nil && seen.(deploy.Fence) > f {
				return deploy.ErrFenced
			}
			return e.Start(ctx, f, o)
		}
	})
}

// knowsAll is a platform that mixes the listings of all stages that are open.
func knowsAll() func(deploy.Engine) deploy.Engine {
	return breaking(func(e deploy.Engine, b *broken) {
		b.check = func(ctx context.Context, id string) error {
			if err := e.Check(ctx, id); !errors.Is(err, deploy.ErrUnknown) || !strings.HasPrefix(id, "both") {
				return err
			}
			return nil
		}
	})
}
