package deploy_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

func TestDeploySettles(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		begun := time.Now()
		one := s.deploy("one")
		if one.Outcome != deploy.Settled || one.Release != digestOf("one") || one.Turned != nil {
			t.Fatalf("the first deploy is %+v", one)
		}
		want := []string{"build", "fill", "lease", "entry", "database", "migrate", "start", "health", "shift", "watch", "settle"}
		if got := steps(one); !slices.Equal(got, want) {
			t.Errorf("it took the steps %v, want %v", got, want)
		}
		if took := time.Since(begun); took < 65*time.Second {
			t.Errorf("stable window and watch took %s together, want 5 s + 60 s at least", took)
		}
		if one.Steps[7].Evidence[0].Probe != "health" || one.Steps[9].Evidence[0].Probe != "watch" {
			t.Errorf("evidence is missing: %+v", one.Steps)
		}
		two := s.deploy("two")
		if got, want := s.running(), map[string]int{one.ID: 0, two.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("after the second deploy runs %v, want %v: the one before stays warm", got, want)
		}
		s.leaseIsFree()
		pass(4 * time.Minute)
		if len(s.running()) != 2 {
			t.Error("the warm release was stopped before its time")
		}
		pass(time.Minute + time.Second)
		if got, want := s.running(), map[string]int{two.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("after the warm time runs %v, want %v", got, want)
		}
		if err := s.ledger.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNextRolloutEndsTheWarmOne(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		two, three := s.deploy("two"), s.deploy("three")
		synctest.Wait() // it is retired beside everything else
		if got, want := s.running(), map[string]int{two.ID: 0, three.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("runs %v, want %v", got, want)
		}
	})
}

// What is warm no more has its time to drain like any other, and a rollout that comes meanwhile does not wait for it.
func TestWarmIsDrained(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		finish := make(chan struct{})
		s.world.Serve = func(memory.Instance) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/slow" {
					<-finish
				}
			})
		}
		one := s.deploy("one")
		cut := make(chan bool, 1)
		go func() {
			defer func() { cut <- recover() != nil }() // http.ErrAbortHandler
			s.world.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://dev.shop.localhost/api/slow", nil))
		}()
		synctest.Wait()
		two := s.deploy("two")
		pass(5*time.Minute + 10*time.Second)
		if got, want := s.running(), map[string]int{one.ID: 0, two.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("while a request is in flight runs %v, want %v", got, want)
		}
		time.AfterFunc(40*time.Second, func() { close(finish) }) // longer than the drain, which begins anew when the next has settled
		if three := s.deploy("three"); three.Outcome != deploy.Settled {
			t.Errorf("a deploy while the warm release is drained ended as %s: %+v", three.Outcome, three.Turned)
		}
		if <-cut {
			t.Error("what was in flight was cut")
		}
		s.leaseIsFree()
	})
}

func TestUnchanged(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		if again := s.deploy("one"); again.Outcome != deploy.Unchanged {
			t.Errorf("the same release again is %s", again.Outcome)
		}
		if got, want := s.running(), map[string]int{one.ID: 100}; !maps.Equal(got, want) {
			t.Errorf("runs %v, want %v", got, want)
		}
		s.leaseIsFree()
		s.secrets["KEY"] = "second-value"
		if again := s.deploy("one"); again.Outcome != deploy.Settled {
			t.Errorf("the same release with other settings is %s, want it rolled out", again.Outcome)
		}
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Again: true})
		if err != nil {
			t.Fatal(err)
		}
		if again := s.ended(id); again.Outcome != deploy.Settled {
			t.Errorf("the same release, asked for again, is %s", again.Outcome)
		}
	})
}

// Each way to miss leaves what was served before, says why, and leaves nothing else behind.
func TestMisses(t *testing.T) {
	const second = "two"
	for name, c := range map[string]struct {
		prepare func(t *testing.T, s *site) // before the second deploy
		during  func(t *testing.T, s *site, id string)
		commit  string
		step    string
		is      error
		says    string
	}{
		"the pipeline fails": {commit: "broken", step: "build", is: deploy.ErrBuild, says: "step compile failed"},
		"it crashes": {step: "start", is: deploy.ErrCannotStart, says: "ended with exit code 2", prepare: func(_ *testing.T, s *site) {
			s.world.Behave(digestOf(second), memory.Behaviour{Cause: "ended with exit code 2"})
		}},
		"it hangs": {step: "start", is: deploy.ErrCannotStart, prepare: func(_ *testing.T, s *site) {
			s.world.Behave(digestOf(second), memory.Behaviour{Hang: true})
		}},
		"it falls ill in the stable window": {step: "health", is: deploy.ErrUnhealthy, says: "api[1] out of memory",
			during: breakAt("health", 2*time.Second)},
		"it falls ill under traffic": {step: "watch", is: deploy.ErrUnhealthy, says: "api[1] out of memory",
			during: breakAt("watch", 30*time.Second)},
		"it ends and is started again in the stable window": {step: "health", is: deploy.ErrUnhealthy, says: "api[0] ended by itself",
			during: crashAt("health", 2*time.Second)},
		"it ends and is started again under traffic": {step: "watch", is: deploy.ErrUnhealthy, says: "api[0] ended by itself",
			during: crashAt("watch", 30*time.Second)},
		"the shift fails": {step: "shift", is: deploy.ErrUnavailable, says: "refused by the platform", prepare: func(_ *testing.T, s *site) {
			s.world.Fail(memory.Shift, memory.Fault{Err: errors.Join(deploy.ErrUnavailable, errors.New("refused by the platform")), Times: 1})
		}},
		"the shift fails after it was done": {step: "shift", is: deploy.ErrUnavailable, prepare: func(_ *testing.T, s *site) {
			s.world.Fail(memory.Shift, memory.Fault{Err: deploy.ErrUnavailable, Done: true, Times: 1})
		}},
		"going back needs three tries": {step: "shift", is: deploy.ErrUnavailable, prepare: func(_ *testing.T, s *site) {
			s.world.Fail(memory.Shift, memory.Fault{Err: deploy.ErrUnavailable, Done: true, Times: 3})
		}},
		"start hangs for ever": {step: "start", is: deploy.ErrUnavailable, says: "did not return", prepare: func(_ *testing.T, s *site) {
			s.world.Fail(memory.Start, memory.Fault{Hang: true, Times: 1})
		}},
		"shift hangs for ever": {step: "shift", is: deploy.ErrUnavailable, says: "did not return", prepare: func(_ *testing.T, s *site) {
			s.world.Fail(memory.Shift, memory.Fault{Hang: true, Times: 1})
		}},
		"aborted while building": {step: "build", is: deploy.ErrAborted, prepare: func(_ *testing.T, s *site) {
			s.builder.hold = make(chan struct{})
		}, during: abortAt("build")},
		"aborted while watching":       {step: "watch", is: deploy.ErrAborted, during: abortAt("watch")},
		"aborted in the stable window": {step: "health", is: deploy.ErrAborted, during: abortAt("health")},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				one := s.deploy("one")
				if c.prepare != nil {
					c.prepare(t, s)
				}
				commit := second
				if c.commit != "" {
					commit = c.commit
				}
				id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: commit})
				if err != nil {
					t.Fatal(err)
				}
				if c.during != nil {
					c.during(t, s, id)
				}
				got := s.ended(id)
				if got.Outcome != deploy.Reverted || got.Turned == nil {
					t.Fatalf("it ended as %+v", got)
				}
				if got.Turned.Step != c.step || !errors.Is(deploy.ErrorOf(got.Turned.Code), c.is) || !strings.Contains(got.Turned.Why, c.says) {
					t.Errorf("it turned at %q with code %q: %s\nwant %q, %v, saying %q", got.Turned.Step, got.Turned.Code, got.Turned.Why, c.step, c.is, c.says)
				}
				if got, want := s.running(), map[string]int{one.ID: 100}; !maps.Equal(got, want) {
					t.Errorf("runs %v, want only the one before: %v", got, want)
				}
				s.builder.hold = nil
				s.leaseIsFree()
				if three := s.deploy("three"); three.Outcome != deploy.Settled {
					t.Errorf("the next deploy is %+v", three)
				}
			})
		})
	}
}

// breakAt makes an instance of the rollout stop answering when it has been in a step for so long.
func breakAt(step string, after time.Duration) func(*testing.T, *site, string) {
	return func(t *testing.T, s *site, id string) {
		s.reaches(id, step)
		pass(after)
		if err := s.world.Break("shop", "dev", id, "api", 1, "out of memory"); err != nil {
			t.Error(err)
		}
	}
}

// crashAt makes an instance end and answer again at once.
func crashAt(step string, after time.Duration) func(*testing.T, *site, string) {
	return func(_ *testing.T, s *site, id string) {
		s.reaches(id, step)
		pass(after)
		s.crashed.Add(1)
	}
}

func abortAt(step string) func(*testing.T, *site, string) {
	return func(t *testing.T, s *site, id string) {
		s.reaches(id, step)
		if err := s.Abort(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// reaches returns when a rollout is in a step.
func (s *site) reaches(id, step string) {
	s.t.Helper()
	enough := errors.New("enough")
	err := s.Follow(s.t.Context(), id, func(u deploy.Update) error {
		if u.Rollout != nil && slices.Contains(steps(*u.Rollout), step) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		s.t.Fatalf("%s never came to %s: %v", id, step, err)
	}
}

// That a platform cannot list for a moment says nothing of the release that is being watched.
func TestListFailsDuringTheWatch(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(id, "watch")
		s.world.Fail(memory.List, memory.Fault{Err: deploy.ErrUnavailable, Times: 3})
		if r := s.ended(id); r.Outcome != deploy.Settled {
			t.Errorf("it is %s: %+v", r.Outcome, r.Turned)
		}
	})
}

// A first release that misses leaves nothing.
func TestFirstMissLeavesNothing(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		if err != nil {
			t.Fatal(err)
		}
		breakAt("watch", time.Second)(t, s, id)
		if r := s.ended(id); r.Outcome != deploy.Reverted {
			t.Errorf("it is %s", r.Outcome)
		}
		if len(s.running()) != 0 {
			t.Errorf("left behind: %v", s.running())
		}
		s.leaseIsFree()
	})
}

func TestTwoDeploysAtOnce(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.hold = make(chan struct{})
		one, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if !errors.Is(err, deploy.ErrBusy) || !strings.Contains(err.Error(), one) || !strings.Contains(deploy.HintOf(err), "lotse follow "+one) {
			t.Errorf("the second is %v (hint %q), want busy with %s", err, deploy.HintOf(err), one)
		}
		close(s.builder.hold)
		if r := s.ended(one); r.Outcome != deploy.Settled {
			t.Errorf("the first is %s", r.Outcome)
		}
	})
}

// A hotfix does not wait for the watch of what it fixes.
func TestOvertakingAWatch(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(one, "watch")
		begun := time.Now()
		two, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		first := s.ended(one)
		if first.Outcome != deploy.Settled || time.Since(begun) > 10*time.Second {
			t.Errorf("the first is %s after %s", first.Outcome, time.Since(begun))
		}
		if !strings.Contains(evidenceOf(first, "watch"), "ended early") {
			t.Errorf("the evidence does not say that the watch was cut: %+v", first.Steps[9])
		}
		if second := s.ended(two); second.Outcome != deploy.Settled || second.Before != one {
			t.Errorf("the second is %s after %s", second.Outcome, second.Before)
		}
		s.leaseIsFree()
	})
}

// Two rollouts of one stage, one being watched and one being built behind it, both go on after a restart.
func TestBothAreTakenUp(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(one, "watch")
		s.builder.hold = make(chan struct{})
		two, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(two, "build")
		s.world.Crash()
		s.end()
		close(s.builder.hold)
		s.boot()
		first, second := s.ended(one), s.ended(two)
		if first.Outcome != deploy.Settled || second.Outcome != deploy.Settled || second.Before != one {
			t.Errorf("the first is %s, the second %s after %q", first.Outcome, second.Outcome, second.Before)
		}
		if got, want := s.running(), map[string]int{one: 0, two: 100}; !maps.Equal(got, want) {
			t.Errorf("runs %v, want %v", got, want)
		}
	})
}

func TestUnknownStage(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		_, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Stage: "qa"})
		if !errors.Is(err, deploy.ErrNotFound) || !strings.Contains(deploy.HintOf(err), "dev, staging, prod") {
			t.Errorf("got %v, hint %q", err, deploy.HintOf(err))
		}
	})
}

// A controller that lost its lease stops touching the stage, and undoes nothing.
func TestLostLease(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		two, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(two, "watch")
		ref := deploy.StageRef{App: "shop", Stage: "dev"}
		if _, err := s.ledger.Acquire(t.Context(), ref, "somebody else", time.Hour, func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		synctest.Wait()
		if got := s.running()[two]; got != 100 {
			t.Errorf("the loser took the traffic away: %v", s.running())
		}
		if r, err := s.Rollout(t.Context(), two); err != nil || r.Outcome.Ended() {
			t.Errorf("the loser ended the rollout: %v, %v", r.Outcome, err)
		}
	})
}

// An undo that fails is told, with the reason, and tried until it is done, however long that takes.
func TestStuckUndoIsTold(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		one := s.deploy("one")
		s.world.Fail(memory.Shift, memory.Fault{Err: errors.Join(deploy.ErrUnavailable, errors.New("the platform is away")), Done: true})
		two, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		r, err := s.Rollout(t.Context(), two)
		if err != nil || r.Outcome != deploy.GoingBack || !strings.Contains(r.Steps[len(r.Steps)-1].Stuck, "the platform is away") {
			t.Errorf("after an hour: %+v, %v", r, err)
		}
		events, err := s.ledger.Events(t.Context(), deploy.EventQuery{Kinds: []string{deploy.KindStuck}})
		if err != nil || len(events) != 1 {
			t.Errorf("the same reason is in the ledger %d times, %v", len(events), err)
		}
		s.world.Heal()
		r = s.ended(two)
		if step := r.Steps[len(r.Steps)-1]; r.Outcome != deploy.Reverted || !step.Undone || step.Stuck != "" || s.running()[one.ID] != 100 {
			t.Errorf("in the end: %+v, %v", r, s.running())
		}
	})
}

func TestJobsRunOnSchedule(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.app.Jobs = []deploy.Job{{Name: "expire", Command: "bin/api expire", Schedule: "*/15 * * * *", Timeout: time.Minute}}
		ran := make(chan string, 100)
		s.world.Command = func(_ context.Context, rollout, _, command string) error {
			ran <- rollout
			if len(ran) == 2 {
				return &deploy.ExitError{Command: command, Code: 3}
			}
			return nil
		}
		one := s.deploy("one")
		pass(time.Hour)
		if len(ran) != 4 {
			t.Errorf("it ran %d times in an hour, want 4", len(ran))
		}
		for range len(ran) {
			if r := <-ran; r != one.ID {
				t.Errorf("it ran in %s, want %s", r, one.ID)
			}
		}
		events, err := s.ledger.Events(t.Context(), deploy.EventQuery{Kinds: []string{deploy.KindJobEnded}})
		if err != nil || len(events) != 4 || !strings.Contains(string(events[1].Data), `"exit":3`) {
			t.Errorf("the ledger has %v, %v", events, err)
		}
	})
}

// Five releases of a stage are kept, and what is under way; not those that missed.
func TestPruneKeepsWhatStagesNeed(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		for _, commit := range []string{"1", "2", "3", "4", "5", "6", "7"} {
			s.deploy(commit)
		}
		synctest.Wait()
		want := []deploy.Digest{digestOf("7"), digestOf("6"), digestOf("5"), digestOf("4"), digestOf("3")}
		s.builder.mu.Lock()
		defer s.builder.mu.Unlock()
		if !slices.Equal(s.builder.pruned, want) {
			t.Errorf("kept %v, want %v", s.builder.pruned, want)
		}
	})
}
