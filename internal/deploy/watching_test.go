package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

// behaving makes the instances of the commits that are named answer as the handlers do, and all others at once with 200.
func (s *site) behaving(commits map[string]http.HandlerFunc) {
	s.world.Serve = func(i memory.Instance) http.Handler {
		if h := commits[i.Release.Manifest.Commit]; h != nil && i.Service == "api" {
			return h
		}
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	}
}

// everyNth fails every nth request for one path.
func everyNth(n int, path string) http.HandlerFunc {
	var mu sync.Mutex
	asked := 0
	return func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != path {
			return
		}
		if asked++; asked%n == 0 {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	}
}

// slower answers one path after a while.
func slower(by time.Duration, path string) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			pass(by)
		}
	}
}

// clients ask dev twenty times a second in all, until stop: for the page, and for two endpoints of the api. What they are answered is
// counted by status.
func (s *site) clients() (stop func() map[int]int) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all sync.WaitGroup
	answers := map[int]int{}
	client := &http.Client{Transport: &http.Transport{DialContext: s.world.Dial}}
	for _, path := range []string{"/", "/api/orders", "/api/search", "/api/orders"} {
		all.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get("http://dev.shop.localhost" + path)
				mu.Lock()
				if err != nil {
					answers[0]++
				} else {
					answers[resp.StatusCode]++
					_ = resp.Body.Close() // nothing is done with it
				}
				mu.Unlock()
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return func() map[int]int {
		cancel()
		all.Wait()
		client.CloseIdleConnections()
		return answers
	}
}

// evidenceOf is what the steps of a rollout have kept of a probe, also the one that missed and the steps of a canary.
func evidenceOf(r deploy.Rollout, probe string) string {
	var figures []string
	add := func(all []deploy.Evidence) {
		for _, e := range all {
			if e.Probe == probe {
				figures = append(figures, e.Figure)
			}
		}
	}
	for _, s := range r.Steps {
		add(s.Evidence)
	}
	for _, b := range r.Canary {
		add(b.Evidence)
	}
	if r.Turned != nil {
		add(r.Turned.Evidence)
	}
	return strings.Join(figures, "\n")
}

func mentions(t *testing.T, what, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", what, want, text)
		}
	}
}

// What is worse after the shift goes back by itself, says where and how much, and is marked as bad. What is as good as the one before
// settles. Both say how many requests that took.
func TestWatchBesideTheLastMinutes(t *testing.T) {
	for name, c := range map[string]struct {
		two  http.HandlerFunc
		says string // empty: it settles
		by   deploy.Strategy
	}{
		"as good":                     {},
		"errors at one place":         {everyNth(4, "/api/orders"), "api: GET /api/orders: errors ", deploy.BlueGreen},
		"slow at one place":           {slower(200*time.Millisecond, "/api/orders"), "api: GET /api/orders: p95 2", deploy.BlueGreen},
		"beside one that was stopped": {everyNth(4, "/api/orders"), "api: GET /api/orders: errors ", deploy.Recreate},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.going(c.by)
				s.behaving(map[string]http.HandlerFunc{"two": c.two})
				one := s.deploy("one")
				stop := s.clients()
				defer stop()
				pass(2 * time.Minute)
				two := s.deploy("two")
				if c.says == "" {
					if two.Outcome != deploy.Settled || two.Bad != "" {
						t.Fatalf("it is %s: %+v", two.Outcome, two.Turned)
					}
					mentions(t, "the evidence", evidenceOf(two, "traffic"), "site: ", "api: ", " requests, 0 % errors", "the release before, in its last minutes: ")
					if more := evidenceOf(two, "synthetic"); more != "" {
						t.Errorf("clients asked enough, and Lotse asked as well: %s", more)
					}
					return
				}
				if two.Outcome != deploy.Reverted || two.Turned.Step != "watch" || two.Turned.Code != "regression" {
					t.Fatalf("it is %s: %+v", two.Outcome, two.Turned)
				}
				mentions(t, "the reason", two.Turned.Why, c.says, " requests, ", " of the release before", "after the shift")
				mentions(t, "the evidence", evidenceOf(two, "traffic"), "api: ")
				if two.Bad != two.Turned.Why || s.running()[one.ID] != 100 {
					t.Errorf("bad: %q; running: %v", two.Bad, s.running())
				}
				s.leaseIsFree()
			})
		})
	}
}

// No traffic never means yes: Lotse asks by itself, and fixed limits judge. A release whose page fails for everybody goes back, though its
// health is well.
func TestWatchWithoutTraffic(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.builder.app.Services = slices.Clone(app.Services)
		s.builder.app.Services[1].Health = "/api/health"
		s.behaving(map[string]http.HandlerFunc{"two": everyNth(1, "/api")})
		one := s.deploy("one")
		if one.Outcome != deploy.Settled {
			t.Fatalf("the first is %s: %+v", one.Outcome, one.Turned)
		}
		mentions(t, "the evidence", evidenceOf(one, "synthetic"), "site: fewer than 50 requests of clients", "to /: 50 requests, 0 % errors",
			"to /api/health and /api: 50 requests, 0 % errors", "by fixed limits")
		two := s.deploy("two")
		if two.Outcome != deploy.Reverted || two.Turned.Code != "regression" {
			t.Fatalf("the second is %s: %+v", two.Outcome, two.Turned)
		}
		mentions(t, "the reason", two.Turned.Why, "api: GET /api: errors 100 % in ", "over the limit of 5 %")
		if strings.Contains(two.Turned.Why, "health") {
			t.Errorf("its health is well: %s", two.Turned.Why)
		}
	})
}

// What went back as bad is taken by no stage any more, unless somebody says so. What a stage serves may be started anew.
func TestBadReleasesAreRefused(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		var mu sync.Mutex
		wrong := false // at first it does well
		s.behaving(map[string]http.HandlerFunc{"two": func(rw http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if wrong {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		}})
		one := s.deploy("one")
		two := s.deploy("two")
		mu.Lock()
		wrong = true
		mu.Unlock()
		id, err := s.Promote(t.Context(), deploy.Move{Stage: "staging"})
		if err != nil {
			t.Fatal(err)
		}
		if bad := s.ended(id); bad.Bad == "" || bad.Release != two.Release {
			t.Fatalf("it is %s and not bad: %+v", bad.Outcome, bad.Turned)
		}
		_, err = s.Promote(t.Context(), deploy.Move{Stage: "staging"})
		refused(t, "promoting it", err, deploy.ErrRefused, "is marked as bad: rollout "+id+" to staging: ", "--again")
		if _, err := s.Redeploy(t.Context(), deploy.Move{Stage: "dev"}); err != nil {
			t.Errorf("starting anew what dev serves: %v", err)
		}
		synctest.Wait()
		if last := s.ended(s.lastRollout().ID); last.Verb != deploy.Redeployed || last.Outcome != deploy.Reverted {
			t.Errorf("the redeploy is %+v", last)
		}
		if all, err := s.Status(t.Context()); err != nil || all[0].Serves.Bad == "" {
			t.Errorf("the status of dev, which serves it, is %+v, %v", all[0].Serves, err)
		}
		s.deploy("three")
		_, err = s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		refused(t, "going back to it", err, deploy.ErrRefused, "is marked as bad", "`lotse rollback dev --to "+one.Release.Short()+"`")
		again := s.deploy("two") // the pipeline finds what it made
		if again.Outcome != deploy.Reverted || again.Turned.Step != "entry" || again.Turned.Code != "refused" {
			t.Errorf("deploying its commit again is %s: %+v", again.Outcome, again.Turned)
		}
		mu.Lock()
		wrong = false
		mu.Unlock()
		id, err = s.Rollback(t.Context(), deploy.Move{Stage: "dev", Again: true})
		if err != nil {
			t.Fatal(err)
		}
		if back := s.ended(id); back.Outcome != deploy.Settled {
			t.Errorf("with --again it is %s: %+v", back.Outcome, back.Turned)
		}
	})
}

// going makes dev go from release to release by a strategy.
func (s *site) going(strategy deploy.Strategy, steps ...deploy.CanaryStep) {
	s.builder.app.Stages = slices.Clone(app.Stages)
	dev := &s.builder.app.Stages[0]
	dev.Strategy, dev.Canary = strategy, steps
}

var canary = []deploy.CanaryStep{{Share: 10, Bake: 2 * time.Minute}, {Share: 50, Bake: time.Minute}}

func TestCanary(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, canary...)
		s.behaving(nil)
		one := s.deploy("one")
		if len(one.Canary) > 0 {
			t.Errorf("a first release had shares: %+v", one.Canary)
		}
		stop := s.clients()
		two := s.deploy("two")
		if answers := stop(); len(answers) != 1 || answers[200] == 0 {
			t.Errorf("clients were answered %v", answers)
		}
		if two.Outcome != deploy.Settled {
			t.Fatalf("it is %s: %+v", two.Outcome, two.Turned)
		}
		for i, b := range two.Canary {
			if b.Share != canary[i].Share || !b.Ended || b.Took < canary[i].Bake || b.Took > canary[i].Bake+time.Minute {
				t.Errorf("step %d: %+v", i, b)
			}
		}
		if len(two.Canary) != 2 {
			t.Fatalf("its steps are %+v", two.Canary)
		}
		mentions(t, "the evidence", two.Canary[1].Evidence[1].Figure, "site: ", "; the release before, in the same minutes: ")
	})
}

// At a canary's first step, a tenth of the clients meet what is wrong, and it goes back by itself. No service of it ever had more.
func TestCanaryGoesBack(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, canary...)
		s.behaving(map[string]http.HandlerFunc{"two": everyNth(3, "/api/orders")})
		one := s.deploy("one")
		stop := s.clients()
		two := s.deploy("two")
		answers := stop()
		if two.Outcome != deploy.Reverted || two.Turned.Step != "shift" || two.Bad == "" || len(two.Canary) != 1 {
			t.Fatalf("it is %s: %+v, %+v", two.Outcome, two.Turned, two.Canary)
		}
		mentions(t, "the reason", two.Turned.Why, "with 10 % of the traffic", "api: ", ": errors ")
		if answers[500]*20 > answers[200] {
			t.Errorf("clients were answered %v", answers)
		}
		if now := s.running(); now[one.ID] != 100 || len(now) != 1 {
			t.Errorf("running: %v", now)
		}
	})
}

// Who goes back has a reason: what is gone back to is not judged by what it was gone back from.
func TestRollbackIsNotJudged(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.behaving(map[string]http.HandlerFunc{"one": everyNth(3, "/api/orders")})
		one := s.deploy("one")
		s.deploy("two")
		stop := s.clients()
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		back := s.ended(id)
		if answers := stop(); back.Outcome != deploy.Settled || back.Release != one.Release || answers[500] == 0 {
			t.Errorf("it is %s: %+v; answers %v", back.Outcome, back.Turned, answers)
		}
		mentions(t, "the evidence", evidenceOf(back, "traffic"), "api: ", " requests, ", " % errors, p95 up to ", "the release before, in its last minutes: ",
			"nothing is judged by that: it was gone back to")
		if more := evidenceOf(back, "synthetic"); more != "" {
			t.Errorf("Lotse asked by itself: %s", more)
		}
		s.deploy("three")
		if quiet := s.rollback("dev", ""); quiet.Outcome != deploy.Settled || !strings.Contains(evidenceOf(quiet, "traffic"), "api: no requests; nothing is judged") {
			t.Errorf("without clients it is %s: %+v, and says %s", quiet.Outcome, quiet.Turned, evidenceOf(quiet, "traffic"))
		}
	})
}

// Few clients are enough where all of them meet what is wrong: Lotse's own requests, which are answered well, cover nothing.
func TestFewClientsAreHeard(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, deploy.CanaryStep{Share: 50, Bake: 20 * time.Second})
		s.behaving(map[string]http.HandlerFunc{"two": everyNth(1, "/api/orders")})
		s.deploy("one")
		ask := func(times int) {
			for range times {
				resp, err := (&http.Client{Transport: &http.Transport{DialContext: s.world.Dial, DisableKeepAlives: true}}).Get("http://dev.shop.localhost/api/orders")
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close() // nothing is done with it
				pass(time.Second)
			}
		}
		ask(200)
		asked := make(chan struct{})
		go func() { defer close(asked); ask(40) }()
		two := s.deploy("two")
		<-asked
		if two.Outcome != deploy.Reverted || two.Turned.Code != "regression" || two.Bad == "" {
			t.Fatalf("it is %s: %+v", two.Outcome, two.Turned)
		}
		mentions(t, "the reason", two.Turned.Why, "with 50 % of the traffic", "errors 100 % in ")
	})
}

// Who goes back leaves what is served now at once, also where releases come by a canary's steps; the plan says so.
func TestRollbackIsOneShift(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, canary...)
		s.deploy("one")
		s.deploy("two")
		plan, err := s.Plan(t.Context(), deploy.PlanRequest{Verb: deploy.RolledBack, Move: deploy.Move{Stage: "dev"}})
		if err != nil || !strings.HasPrefix(plan.Strategy, "all traffic at once") {
			t.Errorf("the plan says %q, %v", plan.Strategy, err)
		}
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		if back := s.ended(id); back.Outcome != deploy.Settled || len(back.Canary) > 0 {
			t.Errorf("it is %s, by the steps %+v", back.Outcome, back.Canary)
		}
	})
}

// A canary goes on where it was when the controller died, for the rest of its time.
func TestCanaryGoesOn(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, canary...)
		one := s.deploy("one")
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		s.reaches(id, "shift")
		pass(30 * time.Second)
		status, err := s.Status(t.Context())
		if err != nil || status[0].Serves == nil || status[0].Serves.Rollout != one.ID || status[0].OnItsWay.ID != id {
			t.Errorf("during a canary, dev serves %+v: %v", status[0].Serves, err)
		}
		pass(2 * time.Minute) // in the middle of the second step
		s.end()
		if share := s.running()[id]; share != 50 {
			t.Fatalf("it has %d %%", share)
		}
		s.world.Crash()
		s.boot()
		begun := time.Now()
		two := s.ended(id)
		if took := time.Since(begun); two.Outcome != deploy.Settled || took > 2*time.Minute {
			t.Errorf("it is %s after %s: %+v", two.Outcome, took, two.Turned)
		}
		if len(two.Canary) != 2 || two.Canary[0].Took > 3*time.Minute {
			t.Errorf("its steps: %+v", two.Canary)
		}
	})
}

// A platform that switches everybody at once cannot do a canary, and says so before anything is built.
func TestCanaryIsRefusedWithoutShares(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.going(deploy.Canary, canary...)
		s.world.RefuseShares()
		_, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one"})
		refused(t, "a canary", err, deploy.ErrUnsupported, "dev wants a canary, and memory, which carries its requests, gives all of them or none", "strategy: blue-green")
		if s.builder.builds > 0 {
			t.Error("something was built")
		}
	})
}

// Of a release with two services one cannot start, or falls ill before the shift: nothing was shifted, of either.
func TestOneBrokenServiceShiftsNothing(t *testing.T) {
	for _, strategy := range []deploy.Strategy{deploy.BlueGreen, deploy.Canary} {
		t.Run(string(strategy), func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.going(strategy)
				if strategy == deploy.Canary {
					s.going(strategy, canary...)
				}
				s.world.Serve = func(i memory.Instance) http.Handler {
					return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
						if i.Release.Manifest.Commit != "one" {
							rw.WriteHeader(http.StatusTeapot) // nobody but Lotse may see it
						}
					})
				}
				one := s.deploy("one")
				stop := s.clients()
				s.world.Behave(digestOf("two"), memory.Behaviour{Service: "api", Cause: "ended with exit code 1"})
				two := s.deploy("two")
				id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "three"})
				if err != nil {
					t.Fatal(err)
				}
				s.reaches(id, "health")
				if err := s.world.Break("shop", "dev", id, "api", 1, "out of memory"); err != nil {
					t.Fatal(err)
				}
				three := s.ended(id)
				if answers := stop(); len(answers) != 1 || answers[200] == 0 {
					t.Errorf("clients were answered %v", answers)
				}
				for _, r := range []deploy.Rollout{two, three} {
					if r.Outcome != deploy.Reverted || slices.Contains(steps(r), "shift") || r.Bad != "" {
						t.Errorf("%s is %s after %v, bad: %q", r.Commit, r.Outcome, steps(r), r.Bad)
					}
				}
				if now := s.running(); now[one.ID] != 100 || len(now) != 1 {
					t.Errorf("running: %v", now)
				}
			})
		})
	}
}

// What cannot run twice is stopped before the next one starts. Meanwhile clients wait, or are told to come back where the engine cannot have
// them wait; when the next one cannot start, the old one is started again.
func TestRecreate(t *testing.T) {
	for name, waits := range map[string]bool{"clients wait": true, "clients come back": false} {
		t.Run(name, func(t *testing.T) { inSite(t, func(t *testing.T, s *site) { recreates(t, s, waits) }) })
	}
}

func recreates(t *testing.T, s *site, waits bool) {
	s.going(deploy.Recreate)
	if !waits {
		s.world.Fail(memory.Hold, memory.Fault{Err: deploy.ErrUnsupported})
	}
	one := s.deploy("one")
	s.world.Behave(digestOf("two"), memory.Behaviour{Takes: 3 * time.Second})
	s.world.Behave(digestOf("three"), memory.Behaviour{Takes: time.Second, Cause: "ended with exit code 1"})
	stop := s.clients()
	defer stop()
	most := s.mostAtOnce(func() {
		two := s.deploy("two")
		if two.Outcome != deploy.Settled || two.Before != one.ID || !slices.Contains(steps(two), "clear") {
			t.Errorf("it is %s after %s, by %v: %+v", two.Outcome, two.Before, steps(two), two.Turned)
		}
		three := s.deploy("three")
		if now := s.running(); three.Outcome != deploy.Reverted || now[two.ID] != 100 || len(now) != 1 {
			t.Errorf("it is %s: %+v; running: %v", three.Outcome, three.Turned, now)
		}
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		if back := s.ended(id); back.Outcome != deploy.Settled || back.Release != one.Release {
			t.Errorf("going back is %s: %+v", back.Outcome, back.Turned)
		}
	})
	if most != 1 {
		t.Errorf("%d releases were there at once", most)
	}
	if answers := stop(); answers[200] == 0 || (answers[503] == 0) != waits || answers[200]+answers[503] != sumOf(answers) {
		t.Errorf("clients were answered %v", answers)
	}
}

func sumOf(answers map[int]int) (n int) {
	for _, times := range answers {
		n += times
	}
	return n
}

// mostAtOnce is how many releases were on dev at once while f went on.
func (s *site) mostAtOnce(f func()) (most int) {
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			most = max(most, len(s.running()))
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ended:
				return
			}
		}
	})
	f()
	close(ended)
	watcher.Wait()
	return most
}

// A sampler that fails says nothing of a release: Lotse asks by itself then.
func TestSamplesThatFail(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		s.world.Fail(memory.Samples, memory.Fault{Err: fmt.Errorf("the proxy: %w", deploy.ErrUnavailable)})
		two := s.deploy("two")
		if two.Outcome != deploy.Settled {
			t.Fatalf("it is %s: %+v", two.Outcome, two.Turned)
		}
		mentions(t, "the evidence", evidenceOf(two, "traffic"), "could not be counted")
		mentions(t, "the evidence", evidenceOf(two, "synthetic"), "api: ")
	})
}

// A sentence that people read, and the error by which programs decide.
func TestRegressionError(t *testing.T) {
	err := error(&deploy.RegressionError{Span: "with 5 % of the traffic", Worse: []deploy.Worse{
		{Service: "api", Method: "GET", Endpoint: "/orders/{id}", In: deploy.WorseErrors, Is: "4 %", Was: "1 %", Requests: 900, Before: 17000},
		{Service: "api", In: deploy.WorseLatency, Is: "2.4s", Limit: "2s", Requests: 90},
		{Service: "site", In: deploy.WorseErrors, Is: "9 %", Was: "0.1 %", Requests: 80, Before: 800}}})
	want := "the release is worse than it may be with 5 % of the traffic: api: GET /orders/{id}: errors 4 % in 900 requests, 1 % in 17000 of the release before; " +
		"api: p95 2.4s in 90 requests, over the limit of 2s; site: its rare endpoints together: errors 9 % in 80 requests, 0.1 % in 800 of the release before"
	if err.Error() != want || !errors.Is(err, deploy.ErrRegression) || deploy.CodeOf(err) != "regression" {
		t.Errorf("%s\nwant\n%s", err, want)
	}
	mentions(t, "the hint", deploy.HintOf(err), "marked as bad")
}
