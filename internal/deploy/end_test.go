package deploy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func dev() deploy.StageRef { return deploy.StageRef{App: "shop", Stage: "dev"} }

// An ended stage runs nothing, has nothing to go back to, and gives its address to whoever wants it; a deploy begins it anew.
func TestEnd(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		if err := s.End(t.Context(), dev(), deploy.Person{}); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("a stage that serves nothing: %v", err)
		}
		s.deploy("one")
		s.deploy("two")
		if err := s.End(t.Context(), dev(), deploy.Person{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		if got := s.running(); len(got) > 0 {
			t.Errorf("dev runs %v", got)
		}
		if freed := s.freed.Load(); freed != 1 {
			t.Errorf("the engine gave the address back %d times", freed)
		}
		if _, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"}); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("going back on an ended stage: %v", err)
		}
		if err := s.End(t.Context(), dev(), deploy.Person{}); !errors.Is(err, deploy.ErrRefused) {
			t.Errorf("ending it twice: %v", err)
		}
		s.builder.app.Name = "copy"
		if id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/copy", Rev: "one"}); err != nil {
			t.Errorf("another app at the address: %v", err)
		} else {
			s.ended(id)
		}
		s.builder.app.Name = "shop"
		if _, err := s.Deploy(t.Context(), deploy.Request{Dir: "/shop", Rev: "one"}); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "of copy/dev already") {
			t.Errorf("coming back to an address that is taken: %v", err)
		}
	})
}

// It begins anew with a deploy, and ends again.
func TestEndAndBeginAnew(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		for range 2 {
			one := s.deploy("one")
			if one.Outcome != deploy.Settled {
				t.Fatalf("the rollout is %s", one.Outcome)
			}
			if err := s.End(t.Context(), dev(), deploy.Person{}); err != nil {
				t.Fatal(err)
			}
		}
		history, err := s.History(t.Context(), "", "", 0)
		if err != nil || len(history) != 2 || history[0].Outcome != deploy.Over {
			t.Errorf("history has %+v, %v", history, err)
		}
	})
}

// The controller that dies between the word and the deed is followed by one that does it.
func TestEndOutlivesTheController(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		s.end()
		if _, err := s.ledger.Append(t.Context(), deploy.Event{Kind: deploy.KindStageEnded, App: "shop", Stage: "dev"}); err != nil {
			t.Fatal(err)
		}
		s.boot()
		synctest.Wait()
		if got := s.running(); len(got) > 0 || s.freed.Load() != 1 {
			t.Errorf("dev runs %v, and its address was given back %d times", got, s.freed.Load())
		}
	})
}

// While a rollout is on its way, the stage stays.
func TestEndOfABusyStage(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/repo", Rev: "two"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.End(t.Context(), dev(), deploy.Person{}); !errors.Is(err, deploy.ErrBusy) {
			t.Errorf("ending it meanwhile: %v", err)
		}
		s.ended(id)
	})
}

// Who stops waiting has not stopped the ending.
func TestEndWithoutWaiting(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.deploy("one")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.End(ctx, dev(), deploy.Person{}); err == nil || slices.Contains([]error{deploy.ErrBusy, deploy.ErrRefused}, err) {
			t.Errorf("with a cancelled context: %v", err)
		}
	})
}
