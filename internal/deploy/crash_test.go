package deploy_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// passage is how a deploy goes.
type passage struct {
	commit string
	ill    bool // it stops answering half a minute after the shift
	end    deploy.Outcome
	by     deploy.Strategy
	gates  deploy.Gates
	back   bool // from the commit to the one before it, which is warm
}

// How the second deploy would go if nobody died.
var voyages = map[string]passage{
	"a good release":                 {commit: "two", end: deploy.Settled},
	"a release that falls ill":       {commit: "two", ill: true, end: deploy.Reverted},
	"a commit that cannot be built":  {commit: "broken", end: deploy.Reverted},
	"the release that is there":      {commit: "one", end: deploy.Unchanged},
	"a release that cannot start up": {commit: "cannot", end: deploy.Reverted},
	"a release that is asked a lot":  {commit: "two", end: deploy.Settled, gates: manyGates},
	"a release that answers wrongly": {commit: "wrong", end: deploy.Reverted, gates: smoke(deploy.Expectation{Get: "/api"})},
	"a canary":                       {commit: "two", end: deploy.Settled, by: deploy.Canary},
	"a canary that is worse":         {commit: "worse", end: deploy.Reverted, by: deploy.Canary},
	"one that cannot run twice":      {commit: "two", end: deploy.Settled, by: deploy.Recreate},
	"one instead of which nothing":   {commit: "cannot", end: deploy.Reverted, by: deploy.Recreate},
	"back to a warm release":         {commit: "two", end: deploy.Settled, back: true},
	"back to one that falls ill":     {commit: "two", end: deploy.Reverted, back: true, ill: true},
}

// manyGates has one of every kind.
var manyGates = deploy.Gates{PageLoad: deploy.PageLoad{Limit: 2 * time.Second},
	Smoke: []deploy.Expectation{{Name: "get", Get: "/", Timeout: time.Minute}, {Name: "run", Run: "true", Timeout: time.Minute}}}

// The controller is killed before and after every moment at which it writes or calls an engine, and started again. Then
// exactly one release serves, every rollout has ended, the ledger verifies, and neither a lease, nor an orphan, nor a second
// copy is left. Meanwhile somebody asks the stage all the time and always gets an answer.
//
// `make prove` (LOTSE_PROVE=1) dies at every moment; otherwise at every 160th, beginning anywhere.
func TestKilledAnywhere(t *testing.T) {
	for name, v := range voyages {
		t.Run(name, func(t *testing.T) {
			undisturbed := voyage(t, v, newPoints(0, false))
			t.Logf("%d moments: %v", undisturbed.passed, undisturbed.names)
			for _, at := range everyNthOf(t, undisturbed.passed, 160) {
				for _, after := range []bool{false, true} {
					when := map[bool]string{false: "before", true: "after"}[after]
					t.Run(fmt.Sprintf("%s %d %s", when, at, undisturbed.names[at-1]), func(t *testing.T) {
						voyage(t, v, newPoints(at, after))
					})
				}
			}
		})
	}
}

// everyNthOf are the moments, of 1 to passed, at which a test dies: all with LOTSE_PROVE, else every nth from a chance one on, at least
// one. LOTSE_SEED begins where a run that failed has said.
func everyNthOf(t *testing.T, passed, n int) (moments []int) {
	t.Helper()
	seed, begin := time.Now().UnixNano(), 0
	if os.Getenv("LOTSE_PROVE") != "" {
		n = 1
	} else {
		if said, err := strconv.ParseInt(os.Getenv("LOTSE_SEED"), 10, 64); err == nil {
			seed = said
		}
		begin = int(seed/1000) % min(n, passed)
	}
	for at := 1 + begin; at <= passed; at += n {
		moments = append(moments, at)
	}
	t.Logf("dies at %d of %d moments; LOTSE_SEED=%d", len(moments), passed, seed)
	return moments
}

// voyage deploys a second commit, dies where p says, starts again, and looks at what has become of it.
func voyage(t *testing.T, v passage, p *points) *points {
	inSite(t, func(t *testing.T, s *site) {
		one := s.sails(v)
		p.board(s)
		s.boot()
		stopAsking := func() {}
		if v.by != deploy.Recreate { // there, nobody is answered for a while
			stopAsking = s.askAllTheTime()
		}
		id, err := s.begin(v, p)
		if v.back {
			id = one.Before
		}
		if err == nil {
			s.sickens(v, id)
		}
		s.awaitEndOrDeath(p)
		s.end()
		synctest.Wait()
		if v.ill { // the illness outlives the controller
			_ = s.world.Break("shop", "dev", id, "api", 0, "out of memory")
		}
		s.points = nil
		s.boot()

		last := s.lastRollout()
		if last.ID != one.ID {
			last = s.ended(last.ID)
			if last.Outcome != v.end && !(v.ill && last.Outcome == deploy.Settled) {
				t.Errorf("it ended %s (%+v), want %s", last.Outcome, last.Turned, v.end)
			}
			if bad := v.commit == "worse"; last.Release != "" && bad != (last.Bad != "") {
				t.Errorf("it was marked as bad: %q", last.Bad)
			}
		}
		synctest.Wait()
		s.inOrder(one, last)
		stopAsking()
	})
	return p
}

// sails brings the first release to the stage of a passage, and ends the controller that did.
func (s *site) sails(v passage) deploy.Rollout {
	s.going(v.by)
	if v.by == deploy.Canary {
		s.going(v.by, deploy.CanaryStep{Share: 5, Bake: 20 * time.Second}, deploy.CanaryStep{Share: 50, Bake: 10 * time.Second})
	}
	s.behaving(map[string]http.HandlerFunc{"worse": everyNth(2, "/api"), "wrong": everyNth(1, "/api")})
	one := s.deploy("one")
	if v.back {
		one = s.deploy(v.commit)
	}
	s.end()
	synctest.Wait()
	s.builder.app.Stages[0].Gates, s.browser = v.gates, &visitor{}
	s.world.Behave(digestOf("cannot"), cannotStart)
	return one
}

// sickens has the release of a passage that falls ill do so, half a minute after the shift.
func (s *site) sickens(v passage, id string) {
	if !v.ill {
		return
	}
	go func() {
		pass(35 * time.Second)
		_ = s.world.Break("shop", "dev", id, "api", 0, "out of memory") // it may be gone already
	}()
}

// begin asks for the second deploy, or for the way back. A controller that died over it has no answer.
func (s *site) begin(v passage, p *points) (string, error) {
	select {
	case <-s.Ready():
	case <-p.died:
		return "", errDead
	}
	if v.back {
		return s.Rollback(s.t.Context(), deploy.Move{Stage: "dev"})
	}
	return s.Deploy(s.t.Context(), deploy.Request{Dir: "/app", Rev: v.commit})
}

// instancesOf is the id by which engines know what a rollout runs.
func instancesOf(r deploy.Rollout) string { return cmp.Or(r.Runs, r.ID) }

// awaitEndOrDeath returns when the controller is dead, or has nothing more to do.
func (s *site) awaitEndOrDeath(p *points) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r := s.lastRollout(); !r.Outcome.Ended() {
			_ = s.Follow(s.t.Context(), r.ID, func(deploy.Update) error { // of a dead controller nothing more is heard
				select {
				case <-p.died:
					return errDead
				default:
					return nil
				}
			})
		}
	}()
	select {
	case <-done:
		synctest.Wait() // the moments after the last event: the lease, pruning, the jobs
	case <-p.died:
	}
}

func (s *site) lastRollout() deploy.Rollout {
	s.t.Helper()
	all, err := s.History(context.Background(), "", "", 1)
	if err != nil || len(all) == 0 {
		s.t.Fatalf("history: %v, %v", all, err)
	}
	return all[0]
}

// inOrder looks at everything that must be true when nothing goes on.
func (s *site) inOrder(one, last deploy.Rollout) {
	s.t.Helper()
	serving := instancesOf(one)
	warm := one.Before
	if last.Outcome == deploy.Settled {
		serving, warm = instancesOf(last), last.Before
	}
	for id, share := range s.running() {
		switch {
		case id == serving && share != 100:
			s.t.Errorf("%s has %d %% of the traffic, want all", id, share)
		case id != serving && share != 0:
			s.t.Errorf("%s has %d %% of the traffic beside %s", id, share, serving)
		case id != serving && id != warm:
			s.t.Errorf("%s was left behind", id)
		}
	}
	if _, runs := s.running()[serving]; !runs {
		s.t.Errorf("%s does not run; %v does", serving, s.running())
	}
	s.leaseIsFree()
	if err := s.ledger.Verify(context.Background()); err != nil {
		s.t.Error(err)
	}
	if three := s.deploy("three"); three.Outcome != deploy.Settled {
		s.t.Errorf("the deploy after it is %+v", three)
	}
}

// askAllTheTime asks the stage ten times a second and fails the test when it does not answer.
func (s *site) askAllTheTime() (stop func()) {
	client := &http.Client{Transport: &http.Transport{DialContext: s.world.Dial, DisableKeepAlives: true}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	asked := 0
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			answer, err := client.Get("http://dev.shop.localhost/")
			if err != nil || answer.StatusCode != http.StatusOK {
				s.t.Errorf("after %d good answers: %v, %v", asked, answer, err)
				return
			}
			asked++
			_ = answer.Body.Close() // nothing is done with it
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		cancel()
		<-done
		if asked == 0 {
			s.t.Error("nobody asked")
		}
	}
}

// Two moments of death in a row: the second controller dies while it puts right what the first one left.
func TestKilledTwice(t *testing.T) {
	for _, at := range []int{4, 9, 14, 20} {
		for _, then := range []int{2, 5, 9} {
			t.Run(fmt.Sprintf("%d and %d", at, then), func(t *testing.T) {
				inSite(t, func(t *testing.T, s *site) {
					one := s.deploy("one")
					s.end()
					for life, p := range []*points{newPoints(at, false), newPoints(then, true)} {
						synctest.Wait()
						p.board(s)
						s.boot()
						if life == 0 {
							if _, err := s.begin(passage{commit: "two"}, p); err != nil && !errors.Is(err, errDead) {
								t.Fatal(err)
							}
						}
						s.awaitEndOrDeath(p)
						s.end()
					}
					synctest.Wait()
					s.points = nil
					s.boot()
					last := s.lastRollout()
					if last.ID != one.ID {
						last = s.ended(last.ID)
					}
					synctest.Wait()
					s.inOrder(one, last)
				})
			})
		}
	}
}
