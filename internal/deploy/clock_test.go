package deploy_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A clock that jumps by an hour while a rollout is on its way, with a controller that is killed then or lives on: a good release settles in
// its time, a worse one is caught by what clients were answered, and nobody else takes the stage. What jumps is the clock by which events
// are written: ahead of the controller's it is one that was set back since, behind it one that was set ahead.
func TestClockThatJumpsInARollout(t *testing.T) {
	for name, c := range map[string]struct {
		at, by time.Duration
		killed bool
	}{
		"ahead before the canary":          {at: time.Second, by: time.Hour},
		"back before the canary":           {at: time.Second, by: -time.Hour},
		"ahead in the canary":              {at: 30 * time.Second, by: time.Hour},
		"back in the canary":               {at: 30 * time.Second, by: -time.Hour},
		"ahead in the canary, and a death": {at: 30 * time.Second, by: time.Hour, killed: true},
		"back in the canary, and a death":  {at: 30 * time.Second, by: -time.Hour, killed: true},
	} {
		if os.Getenv("LOTSE_PROVE") == "" && c.at > time.Second && !c.killed {
			t.Logf("NOT RUN without LOTSE_PROVE: %s", name)
			continue
		}
		for _, worse := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", worse", false: ", good"}[worse], func(t *testing.T) {
				inSite(t, func(t *testing.T, s *site) {
					s.going(deploy.Canary, canary...)
					if worse {
						s.behaving(map[string]http.HandlerFunc{"two": everyNth(2, "/api/orders")})
					} else {
						s.behaving(nil)
					}
					s.deploy("one")
					stop := s.clients()
					defer stop()
					pass(time.Minute)
					begun := time.Now()
					id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "two"})
					if err != nil {
						t.Fatal(err)
					}
					pass(c.at)
					s.jump.Store(int64(c.by))
					if c.killed {
						s.end()
						synctest.Wait()
						s.boot()
					}
					r := s.ended(id)
					if took := time.Since(begun); took > 15*time.Minute {
						t.Errorf("it took %s", took)
					}
					if want := map[bool]deploy.Outcome{true: deploy.Reverted, false: deploy.Settled}[worse]; r.Outcome != want {
						t.Fatalf("it is %s: %+v", r.Outcome, r.Turned)
					}
					if worse && (r.Turned.Code != "regression" || !strings.Contains(r.Turned.Why, "of the release before")) {
						t.Errorf("it went back at %s: %s", r.Turned.Step, r.Turned.Why)
					}
					// Events of an hour ago cut the steps of a canary short, as after an hour without a controller: then Lotse asks by itself.
					if more := evidenceOf(r, "synthetic"); more != "" && c.by > 0 && !c.killed {
						t.Errorf("clients asked enough, and Lotse asked as well: %s", more)
					}
					s.leaseIsFree()
				})
			})
		}
	}
}
