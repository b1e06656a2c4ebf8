package deploy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What was pushed through the day goes together at its time; what is missed while no controller lives is not made up for.
func TestPushAtItsTime(t *testing.T) {
	app := onPush("main", func(a *deploy.App) { a.Stages[0].On.Schedule = "0 6 * * *" })
	inWatched(t, app, nil, func(t *testing.T, s *site, forge *forge) {
		s.wantDecided("one baseline")
		forge.push("two", pushed{})
		pass(time.Hour)
		forge.push("three", pushed{})
		pass(4 * time.Hour)
		s.wantDecided("one baseline")
		if w := s.watches(); w == nil || w.Head != "three" {
			t.Errorf("status says %+v", w)
		}
		s.end()
		s.boot()
		pass(30 * time.Minute)
		s.wantDecided("one baseline")
		pass(time.Hour) // past six
		s.wantDecided("one baseline", "three deploy")
		if r := s.lastRollout(); r.Outcome != deploy.Settled || r.Trigger != deploy.ByPush || r.Began.Hour() != 6 || r.Began.Minute() != 0 {
			t.Errorf("it is %+v", r)
		}
		forge.push("four", pushed{})
		s.end()
		pass(24 * time.Hour)
		s.boot()
		pass(time.Hour)
		s.wantDecided("one baseline", "three deploy")
		pass(24 * time.Hour)
		s.wantDecided("one baseline", "three deploy", "four deploy")
	})
}

// A push into a closed or frozen stage is refused like one that cannot be deployed, and the status says why.
func TestPushIntoAClosedStage(t *testing.T) {
	app := onPush("main", func(a *deploy.App) { a.Stages[0].Closed = []string{"01:00 - 05:00"} })
	inWatched(t, app, nil, func(t *testing.T, s *site, forge *forge) {
		pass(time.Hour)
		forge.push("two", pushed{})
		pass(time.Minute)
		s.wantDecided("one baseline", "two deploy", "two refused")
		if w := s.watches(); w == nil || !strings.Contains(w.Refused, "shop/dev is closed until Sat 2000-01-01 05:00 UTC") {
			t.Errorf("status says %+v", w)
		}
		pass(5 * time.Hour)
		forge.push("three", pushed{})
		pass(2 * time.Minute)
		if r := s.lastRollout(); r.Commit != "three" || r.Outcome != deploy.Settled {
			t.Errorf("the next one is %+v", r)
		}
	})
}

// What dev serves comes to staging at its time, once, under the same rules as by hand.
func TestPromotionAtItsTime(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.rule("staging", func(st *deploy.Stage) {
			st.On.Schedule, st.Approvals = "0 6 * * *", deploy.Consent{People: 1, Within: 24 * time.Hour}
		})
		of := func() (all []deploy.Rollout) {
			t.Helper()
			rollouts, err := s.History(t.Context(), "shop", "staging", 0)
			if err != nil {
				t.Fatal(err)
			}
			return rollouts
		}
		s.deploy("one")
		pass(7 * time.Hour)
		refused, err := s.ledger.Events(t.Context(), deploy.EventQuery{Kinds: []string{deploy.KindNotPromoted}})
		if err != nil || len(of()) != 0 || len(refused) != 1 || !strings.Contains(string(refused[0].Data), "needs 1 approval") {
			t.Fatalf("without an approval there is %+v, and the ledger has %+v, %v", of(), refused, err)
		}
		if err := s.approve("staging", deploy.Approves, bo, ""); err != nil {
			t.Fatal(err)
		}
		pass(24 * time.Hour)
		if all := of(); len(all) != 1 || all[0].Outcome != deploy.Settled || all[0].Trigger != deploy.BySchedule || all[0].Verb != deploy.Promoted || all[0].Began.Hour() != 6 {
			t.Fatalf("with one there is %+v", all)
		}
		pass(48 * time.Hour)
		if all := of(); len(all) != 1 {
			t.Errorf("the same came again: %+v", all)
		}
	})
}
