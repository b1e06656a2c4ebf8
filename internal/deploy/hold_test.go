package deploy_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A hold and a maintenance come to the engine, with their actor and reason in the ledger, and no lease is left.
func TestHoldAndMaintenance(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		hold := deploy.Closing{Stage: "dev", Bounds: &deploy.Bounds{}, Reason: "the queue is moved", By: deploy.Person{Name: "Ada", Mail: "ada"}}
		if _, err := s.Hold(t.Context(), hold); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("where nothing was deployed: %v", err)
		}
		s.deploy("one")
		begin := time.Now()
		now, err := s.Hold(t.Context(), hold)
		if err != nil || now.Until.Sub(begin) != 30*time.Second {
			t.Errorf("a hold: %+v %v", now, err)
		}
		if now, err = s.Maintain(t.Context(), deploy.Closing{Stage: "dev", Page: &deploy.Page{Message: "noon"}}); err != nil || !now.Maintenance {
			t.Errorf("maintenance: %+v %v", now, err)
		}
		if stages, err := s.Status(t.Context()); err != nil || stages[0].Closed == nil || !stages[0].Closed.Maintenance {
			t.Errorf("the status is %+v %v", stages, err)
		}
		if now, err = s.Hold(t.Context(), deploy.Closing{Stage: "dev"}); err != nil || !now.Until.IsZero() || !now.Maintenance {
			t.Errorf("the end of the hold: %+v %v", now, err)
		}
		if now, err = s.Maintain(t.Context(), deploy.Closing{Stage: "dev"}); err != nil || now.Maintenance {
			t.Errorf("the end of maintenance: %+v %v", now, err)
		}
		events, err := s.Ledger.Events(t.Context(), deploy.EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range events {
			if e.Rollout == "" && e.Stage == "dev" {
				kinds = append(kinds, e.Kind)
			}
			if e.Kind == deploy.KindHeld {
				var said struct{ Reason string }
				if json.Unmarshal(e.Data, &said) != nil || said.Reason != hold.Reason || e.Actor == "" || strings.Contains(string(e.Data), "Ada") {
					t.Errorf("the event is %+v", e)
				}
			}
		}
		want := []string{deploy.KindHeld, deploy.KindMaintained, deploy.KindHoldEnded, deploy.KindOpened}
		if i := slices.Index(kinds, deploy.KindHeld); i < 0 || !slices.Equal(kinds[i:], want) {
			t.Errorf("events are %v, want %v", kinds, want)
		}
		if next := s.deploy("two"); next.Outcome != deploy.Settled {
			t.Errorf("the next rollout is %s", next.Outcome)
		}
	})
}

func TestBadHolds(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		for name, q := range map[string]deploy.Closing{
			"an hour":                   {Stage: "dev", Bounds: &deploy.Bounds{For: time.Hour}},
			"backwards":                 {Stage: "dev", Bounds: &deploy.Bounds{For: -time.Second}},
			"fewer than none":           {Stage: "dev", Bounds: &deploy.Bounds{Requests: -1}},
			"a stage that is not there": {Stage: "moon", Bounds: &deploy.Bounds{}},
		} {
			if _, err := s.Hold(t.Context(), q); !errors.Is(err, deploy.ErrBadInput) && !errors.Is(err, deploy.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/shop", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Hold(t.Context(), deploy.Closing{Stage: "dev", Bounds: &deploy.Bounds{}}); !errors.Is(err, deploy.ErrBusy) {
			t.Errorf("while a rollout is on its way: %v", err)
		}
		s.ended(id)
		for name, page := range map[string]deploy.Page{"a large page": {HTML: strings.Repeat("x", 1<<19)}, "a long message": {Message: strings.Repeat("x", 2000)}, "Latin-1": {HTML: "gr\xfc\xdfe"}} {
			if _, err := s.Maintain(t.Context(), deploy.Closing{Stage: "dev", Page: &page}); !errors.Is(err, deploy.ErrBadInput) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
