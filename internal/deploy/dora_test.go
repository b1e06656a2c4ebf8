package deploy_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

func (s *site) dora(stage string, since time.Time) deploy.Dora {
	s.t.Helper()
	figures, err := s.Dora(s.t.Context(), deploy.DoraQuery{Stage: stage, Since: since})
	if err != nil || len(figures) != 1 {
		s.t.Fatalf("the figures are %+v, %v", figures, err)
	}
	return figures[0]
}

// The figures are of what clients have met: what never had traffic is no change, a rollback no deployment.
func TestDora(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		begun := time.Now()
		s.builder.at = func(string) time.Time { return time.Now().Add(-time.Hour) }
		s.deploy("one")
		s.deploy("two")
		s.world.Behave(digestOf("three"), memory.Behaviour{Cause: "ended with exit code 2"})
		s.deploy("three") // goes back before it has traffic
		s.deploy("broken")
		pass(time.Hour)
		s.rollback("dev", "") // two was a failure
		s.deploy("four")
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "five"})
		if err != nil {
			t.Fatal(err)
		}
		pass(25 * time.Second)
		if err := s.Abort(t.Context(), id); err != nil { // five is undone 20 s after it got the traffic
			t.Fatal(err)
		}
		s.ended(id)
		pass(24*time.Hour - time.Since(begun))
		d := s.dora("dev", begun)
		if d.Deployments != 3 || d.Changes != 4 || d.Failed != 2 || d.FailRate != 0.5 || math.Abs(d.PerDay-3) > 0.01 {
			t.Errorf("it is %+v", d)
		}
		// 5.2 s of health and a minute of watch after a commit of an hour ago.
		if d.Measured != 3 || d.Lead < time.Hour+time.Minute || d.Lead > time.Hour+2*time.Minute {
			t.Errorf("the lead time is %s of %d", d.Lead, d.Measured)
		}
		// two had the traffic for an hour, five for 20 s: the median lies between them.
		if d.Restored != 2 || d.Restore < 30*time.Minute || d.Restore > 33*time.Minute {
			t.Errorf("the time to restore is %s of %d", d.Restore, d.Restored)
		}
		if later := s.dora("dev", time.Now().Add(-time.Minute)); later.Deployments != 0 || later.Changes != 0 {
			t.Errorf("of the last minute it is %+v", later)
		}
		if _, err := s.Dora(t.Context(), deploy.DoraQuery{Stage: "qa"}); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("of an unknown stage it is %v", err)
		}
		if figures, err := s.Dora(t.Context(), deploy.DoraQuery{Stage: "prod"}); err != nil || len(figures) != 0 {
			t.Errorf("of a stage that nothing came to it is %v, %v", figures, err)
		}
	})
}
