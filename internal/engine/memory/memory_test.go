package memory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/secret"
)

// That the engine keeps the contract is proven in package enginetest. Here are the knobs.

func order(id string) deploy.Order {
	return deploy.Order{Rollout: id, Stage: deploy.Stage{Name: "dev", URL: "https://shop.test"},
		Release: deploy.Release{ID: deploy.Digest("sha256:" + strings.Repeat(id[:1], 64)), Manifest: deploy.Manifest{Services: []deploy.Service{
			{Name: "web", Command: "x", Path: "/", Instances: 2, Start: time.Minute}}}},
		Settings: []deploy.Setting{{Name: "TOKEN", Value: secret.New("hunter2")}}}
}

// call uses one verb of an engine in a way that succeeds when "a" is up.
func call(ctx context.Context, e *memory.Engine, v memory.Verb) error {
	var err error
	switch v {
	case memory.Start:
		err = e.Start(ctx, 1, order("b"))
	case memory.Check:
		err = e.Check(ctx, "a")
	case memory.Reach:
		_, err = e.Reach(ctx, "a")
	case memory.Shift:
		err = e.Shift(ctx, 1, "a", 100)
	case memory.Stop:
		err = e.Stop(ctx, 1, "a", 0)
	case memory.List:
		_, err = e.List(ctx)
	case memory.Task:
		err = e.Task(ctx, "a", "job", "true", nil)
	case memory.Hold:
		err = e.Hold(ctx, 1, deploy.Bounds{})
	case memory.Samples:
		_, err = e.Samples(ctx, time.Time{}, time.Now())
	}
	return err
}

func world(t *testing.T) (*memory.World, *memory.Engine) {
	t.Helper()
	w := memory.NewWorld()
	t.Cleanup(w.Close)
	e := memory.Open(w, "shop", "dev")
	if err := e.Start(t.Context(), 1, order("a")); err != nil {
		t.Fatal(err)
	}
	return w, e
}

// state is what List says, in a line.
func state(t *testing.T, e *memory.Engine) string {
	t.Helper()
	all, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, fmt.Sprintf("%s:%d", r.Rollout, r.Share))
	}
	return strings.Join(ids, " ")
}

// Every verb can be made to say no, to say no after it has done it, to hang, and to be slow; for a number of calls.
func TestFaults(t *testing.T) {
	no := errors.New("no")
	done := map[memory.Verb]string{memory.Start: "a:0 b:0", memory.Shift: "a:100", memory.Stop: ""}
	for _, v := range memory.Verbs() {
		t.Run(string(v), func(t *testing.T) {
			w, e := world(t)
			w.Fail(v, memory.Fault{Err: no, Times: 1})
			if err := call(t.Context(), e, v); !errors.Is(err, no) {
				t.Errorf("said %v", err)
			}
			if v != memory.List && state(t, e) != "a:0" {
				t.Errorf("it did something: %s", state(t, e))
			}
			w.Fail(v, memory.Fault{Hang: true, Times: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := call(ctx, e, v); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("hung and said %v", err)
			}
			w.Fail(v, memory.Fault{Slow: 30 * time.Millisecond, Times: 1, Stage: "dev"})
			begun := time.Now()
			if v != memory.Stop && v != memory.Start {
				if err := call(t.Context(), e, v); err != nil || time.Since(begun) < 30*time.Millisecond {
					t.Errorf("slow: %v after %s", err, time.Since(begun))
				}
			}
			w.Fail(v, memory.Fault{Err: no, Done: true, Times: 1})
			if err := call(t.Context(), e, v); !errors.Is(err, no) {
				t.Errorf("did it and said %v", err)
			}
			if want, changes := done[v]; changes && state(t, e) != want {
				t.Errorf("did not do it: %q, want %q", state(t, e), want)
			}
			w.Fail(v, memory.Fault{Err: no, Stage: "prod"})
			if err := call(t.Context(), e, v); err != nil {
				t.Errorf("a fault of another stage: %v", err)
			}
			w.Heal()
		})
	}
}

// A controller that crashes is dead, also in the middle of a Start; the next one sees what there was and goes on.
func TestCrash(t *testing.T) {
	w := memory.NewWorld()
	defer w.Close()
	e := memory.Open(w, "shop", "dev")
	o := order("a")
	w.Behave(o.Release.ID, memory.Behaviour{Takes: 50 * time.Millisecond})
	started := make(chan error, 1)
	go func() { started <- e.Start(t.Context(), 1, o) }()
	next := memory.Open(w, "shop", "dev")
	for state(t, next) != "a:0" {
		<-time.After(time.Millisecond)
	}
	w.Crash()
	if err := <-started; !deploy.Retryable(err) {
		t.Errorf("the start of a dead controller: %v", err)
	}
	if _, err := e.List(t.Context()); !deploy.Retryable(err) {
		t.Errorf("a dead controller answers: %v", err)
	}
	fresh := memory.Open(w, "shop", "dev")
	if err := fresh.Check(t.Context(), "a"); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("half started: %v", err)
	}
	if err := fresh.Start(t.Context(), 1, o); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Check(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	w.Lose("shop", "dev", "a")
	if err := fresh.Check(t.Context(), "a"); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("after it was lost: %v", err)
	}
}

// A platform without shares refuses them and nothing else.
func TestRefuseShares(t *testing.T) {
	w, e := world(t)
	w.RefuseShares()
	if e.Facts().Shares {
		t.Error("the facts say shares")
	}
	for share, ok := range map[int]bool{100: true, 50: false, 0: true} {
		if err := e.Shift(t.Context(), 1, "a", share); errors.Is(err, deploy.ErrUnsupported) == ok {
			t.Errorf("a share of %d: %v", share, err)
		}
	}
}

// A sick release gets no traffic and can lose what it has.
func TestSickReleaseCanLoseItsTraffic(t *testing.T) {
	w, e := world(t)
	if err := errors.Join(e.Start(t.Context(), 1, order("b")), e.Shift(t.Context(), 1, "a", 100), e.Shift(t.Context(), 1, "b", 20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Break("shop", "dev", "b", "web", 1, "is sick"); err != nil {
		t.Fatal(err)
	}
	if err := e.Shift(t.Context(), 1, "b", 50); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("more for a sick one: %v", err)
	}
	if err := e.Shift(t.Context(), 1, "b", 0); err != nil || state(t, e) != "a:100 b:0" {
		t.Errorf("%v: %s", err, state(t, e))
	}
	if err := w.Break("shop", "dev", "b", "web", 9, "is sick"); err == nil {
		t.Error("an instance that is not there was broken")
	}
}

// A release that hangs fails at its own start time, not at a clock of ours.
func TestHangEndsAtTheStartTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := memory.NewWorld()
		defer w.Close()
		e := memory.Open(w, "shop", "dev")
		o := order("h")
		w.Behave(o.Release.ID, memory.Behaviour{Hang: true, Prints: []string{"with $TOKEN"}})
		begun := time.Now()
		err := e.Start(t.Context(), 1, o)
		var failed *deploy.StartError
		if !errors.As(err, &failed) || time.Since(begun) != time.Minute || !slices.Equal(failed.Tail, []string{"with •••"}) {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// In any hundred requests each release has its share exactly, in a fixed order.
func TestSharesAreExact(t *testing.T) {
	w, e := world(t)
	if err := errors.Join(e.Start(t.Context(), 1, order("b")), e.Shift(t.Context(), 1, "a", 100), e.Shift(t.Context(), 1, "b", 7)); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: w.Dial}}
	defer client.CloseIdleConnections()
	count := map[string]int{}
	for range 300 {
		resp, err := client.Get("http://shop.test/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		count[resp.Header.Get("Lotse-Release")[:1]]++
	}
	if count["a"] != 279 || count["b"] != 21 {
		t.Errorf("%v, want 279 and 21", count)
	}
	if resp, err := client.Get("http://other.test/"); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a host that nobody has: %v", err)
	}
}

// Logs can be followed.
func TestFollowLogs(t *testing.T) {
	_, e := world(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lines := make(chan string, 4)
	ended := make(chan error, 1)
	go func() {
		ended <- e.Logs(ctx, deploy.LogQuery{Follow: true, Service: "job"}, func(l deploy.LogLine) bool {
			lines <- l.Text
			return l.Text != "last"
		})
	}()
	for _, text := range []string{"first token hunter2", "last"} {
		if err := e.Task(ctx, "a", "job", text, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := []string{<-lines, <-lines}; !slices.Equal(got, []string{"first token •••", "last"}) || <-ended != nil {
		t.Errorf("%q", got)
	}
}

// A follower goes on with the stage when a rollout goes and another one comes; one of a rollout alone ends with it.
func TestFollowGoesOnWithTheStage(t *testing.T) {
	w, e := world(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	heard, ended := make(chan string, 4), make(chan error, 1)
	go func() {
		ended <- e.Logs(ctx, deploy.LogQuery{Follow: true, Service: "job"}, func(l deploy.LogLine) bool {
			heard <- l.Rollout + " " + l.Text
			return l.Text != "last"
		})
	}()
	alone := make(chan error, 1)
	go func() {
		alone <- e.Logs(ctx, deploy.LogQuery{Follow: true, Rollout: "a"}, func(deploy.LogLine) bool { return true })
	}()
	w.Lose("shop", "dev", "a")
	if err := <-alone; err != nil || ctx.Err() != nil {
		t.Errorf("of a rollout that is gone: %v, %v", err, ctx.Err())
	}
	if err := e.Start(ctx, 1, order("b")); err != nil {
		t.Fatal(err)
	}
	if err := e.Task(ctx, "b", "job", "last", nil); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "b last" || <-ended != nil {
		t.Errorf("%q", got)
	}
}

// What was said before a time is left out.
func TestLogsSince(t *testing.T) {
	w, e := world(t)
	now := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	w.Clock = func() time.Time { return now }
	for _, text := range []string{"before", "then", "later"} {
		if err := e.Task(t.Context(), "a", "job", text, nil); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	var got []string
	q := deploy.LogQuery{Service: "job", Since: now.Add(-2 * time.Minute)}
	if err := e.Logs(t.Context(), q, func(l deploy.LogLine) bool { got = append(got, l.Text); return true }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"then", "later"}) {
		t.Errorf("%q", got)
	}
}
