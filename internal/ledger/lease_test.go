package ledger_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

var dev = deploy.StageRef{App: "shop", Stage: "dev"}

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func mustAcquire(t *testing.T, l *ledger.Ledger, owner string) deploy.Lease {
	t.Helper()
	lease, err := l.Acquire(t.Context(), dev, owner, 15*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func acquireFails(t *testing.T, l *ledger.Ledger, owner string) {
	t.Helper()
	if lease, err := l.Acquire(t.Context(), dev, owner, 15*time.Second, nil); !errors.Is(err, deploy.ErrBusy) || !deploy.Retryable(err) {
		t.Fatalf("%s got %v, %v, want ErrBusy", owner, lease, err)
	}
}

func TestLeaseIsHeldByOne(t *testing.T) {
	c := newClock()
	l := open(t, "", c.Now)
	a := mustAcquire(t, l, "a")
	if a.Owner != "a" || a.Stage != dev || !a.Until.Equal(c.Now().Add(15*time.Second)) {
		t.Errorf("got %+v", a)
	}
	acquireFails(t, l, "b")
	if again := mustAcquire(t, l, "a"); again.Fence != a.Fence {
		t.Errorf("the holder got fence %d, want its own %d", again.Fence, a.Fence)
	}
	if other, err := l.Acquire(t.Context(), deploy.StageRef{App: "shop", Stage: "prod"}, "b", time.Second, nil); err != nil || other.Fence == 0 {
		t.Errorf("another stage: %v, %v", other, err)
	}
	c.Move(14 * time.Second)
	if err := l.Renew(t.Context(), a, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	c.Move(14 * time.Second)
	acquireFails(t, l, "b")
	c.Move(time.Second)
	b := mustAcquire(t, l, "b")
	if b.Fence <= a.Fence {
		t.Errorf("fence %d after %d", b.Fence, a.Fence)
	}
	if err := l.Renew(t.Context(), a, time.Minute); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("renewing a lost lease: %v, want ErrFenced", err)
	}
	if err := l.Release(t.Context(), a); err != nil {
		t.Errorf("giving back a lost lease: %v", err)
	}
	acquireFails(t, l, "a")
}

func TestLeaseGivenBack(t *testing.T) {
	l := open(t, "", newClock().Now)
	a := mustAcquire(t, l, "a")
	for range 2 {
		if err := l.Release(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Renew(t.Context(), a, time.Minute); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("renewing what was given back: %v, want ErrFenced", err)
	}
	again := mustAcquire(t, l, "a")
	if again.Fence <= a.Fence {
		t.Errorf("after giving back, fence %d follows %d", again.Fence, a.Fence)
	}
	if err := l.Renew(t.Context(), a, time.Minute); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("renewing the old one of two leases: %v, want ErrFenced", err)
	}
	if err := l.Release(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	acquireFails(t, l, "b") // the old lease of the same owner is not the one it holds now
}

func TestTakeOverFromTheDead(t *testing.T) {
	l := open(t, "", newClock().Now)
	a := mustAcquire(t, l, "a")
	asked := ""
	alive := func(owner string) bool { asked = owner; return false }
	if _, err := l.Acquire(t.Context(), dev, "b", time.Second, alive); !errors.Is(err, deploy.ErrBusy) || asked != "a" {
		t.Errorf("of a living owner: %v, asked about %q", err, asked)
	}
	dead := func(owner string) bool {
		// It may ask the ledger, so nothing is locked here.
		if _, err := l.Append(t.Context(), deploy.Event{Kind: "asked"}); err != nil {
			t.Error(err)
		}
		return owner == "a"
	}
	b, err := l.Acquire(t.Context(), dev, "b", time.Second, dead)
	if err != nil || b.Fence <= a.Fence {
		t.Errorf("of a dead owner: %v, %v", b, err)
	}
	// Somebody living takes it between the question and the answer.
	stolen := func(owner string) bool {
		if owner == "b" {
			if err := l.Release(t.Context(), b); err != nil {
				t.Error(err)
			}
			mustAcquire(t, l, "living")
		}
		return owner == "b"
	}
	if lease, err := l.Acquire(t.Context(), dev, "c", time.Second, stolen); !errors.Is(err, deploy.ErrBusy) {
		t.Errorf("c took over from a living owner: %v, %v", lease, err)
	}
}

func TestClockSetBackDoesNotHoldALeaseForHours(t *testing.T) {
	c := newClock()
	l := open(t, "", c.Now)
	a := mustAcquire(t, l, "a")
	c.Move(-3 * time.Hour)
	acquireFails(t, l, "b")
	c.Move(14 * time.Second)
	acquireFails(t, l, "b")
	c.Move(time.Second)
	if b := mustAcquire(t, l, "b"); b.Fence <= a.Fence {
		t.Errorf("fence %d after %d, with a clock set back", b.Fence, a.Fence)
	}
}

func TestFencesOutliveTheLedger(t *testing.T) {
	c := newClock()
	old := open(t, "", c.Now)
	var last deploy.Lease
	for range 5 {
		last = mustAcquire(t, old, "a")
		if err := old.Release(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		c.Move(time.Second)
	}
	if first := mustAcquire(t, open(t, "", c.Now), "a"); first.Fence <= last.Fence {
		t.Errorf("a new ledger begins with fence %d, engines have seen %d", first.Fence, last.Fence)
	}
}

func TestLeasesSurviveARestart(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, c.Now)
	a := mustAcquire(t, l, "a")
	l.Close()
	l = open(t, path, c.Now)
	acquireFails(t, l, "b")
	if err := l.Renew(t.Context(), a, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestLeaseNeedsOwnerAndDuration(t *testing.T) {
	l := open(t, "", nil)
	for owner, ttl := range map[string]time.Duration{"": time.Second, "a": 0} {
		if _, err := l.Acquire(t.Context(), dev, owner, ttl, nil); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("owner %q, ttl %v: %v, want ErrBadInput", owner, ttl, err)
		}
	}
}

// Whatever owners do and clocks jump: an engine that refuses smaller fences than it has seen never lets two pass in turn, each
// take-over has a greater fence, and nobody waits longer than the ttl (plus the jumps forward) for somebody who is dead.
func TestNoTwoHoldersPassTheFence(t *testing.T) {
	c := newClock()
	l := open(t, "", c.Now)
	history := 0
	rapid.Check(t, func(r *rapid.T) {
		history++
		dev := deploy.StageRef{App: "shop", Stage: fmt.Sprint(history)} // a fresh one in the same ledger
		held := map[string]deploy.Lease{}
		byFence := map[deploy.Fence]string{}
		var seen deploy.Fence // by the engine
		owners := rapid.SampledFrom([]string{"a", "b", "c"})
		r.Repeat(map[string]func(*rapid.T){
			"acquire": func(r *rapid.T) {
				owner := owners.Draw(r, "owner")
				lease, err := l.Acquire(t.Context(), dev, owner, 15*time.Second, func(string) bool { return rapid.Bool().Draw(r, "dead") })
				if errors.Is(err, deploy.ErrBusy) {
					return
				}
				if err != nil {
					r.Fatal(err)
				}
				if before, known := byFence[lease.Fence]; known && before != owner {
					r.Fatalf("fence %d was given to %s and to %s", lease.Fence, before, owner)
				}
				if lease.Fence < seen {
					r.Fatalf("fence %d after the engine saw %d", lease.Fence, seen)
				}
				byFence[lease.Fence], held[owner] = owner, lease
				seen = max(seen, lease.Fence)
			},
			"renew": func(r *rapid.T) {
				lease, ok := held[owners.Draw(r, "owner")]
				if !ok {
					return
				}
				err := l.Renew(t.Context(), lease, 15*time.Second)
				if err == nil && lease.Fence < seen {
					r.Fatalf("a lease with fence %d was renewed, but %d was given out", lease.Fence, seen)
				}
				if err != nil && !errors.Is(err, deploy.ErrFenced) {
					r.Fatal(err)
				}
			},
			"release": func(r *rapid.T) {
				if lease, ok := held[owners.Draw(r, "owner")]; ok {
					if err := l.Release(t.Context(), lease); err != nil {
						r.Fatal(err)
					}
				}
			},
			"clock": func(r *rapid.T) {
				c.Move(time.Duration(rapid.IntRange(-7200, 7200).Draw(r, "seconds")) * time.Second)
			},
			"the dead are not waited for longer than the ttl": func(r *rapid.T) {
				if _, err := l.Acquire(t.Context(), dev, "z", 15*time.Second, nil); err != nil {
					c.Move(15 * time.Second)
				}
				lease, err := l.Acquire(t.Context(), dev, "z", 15*time.Second, nil)
				if err != nil {
					r.Fatalf("still held after the ttl: %v", err)
				}
				byFence[lease.Fence], seen = "z", max(seen, lease.Fence)
				if err := l.Release(t.Context(), lease); err != nil {
					r.Fatal(err)
				}
			},
		})
	})
}
