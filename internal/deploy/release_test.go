package deploy_test

import (
	"errors"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A release was made for who asked for it first, whoever rolls it out again.
func TestAuthorOfARelease(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		by := func(name string, again bool) deploy.Rollout {
			id, err := s.Deploy(t.Context(), deploy.Request{Dir: "/app", Rev: "one", Again: again, By: deploy.Person{Name: name}})
			if err != nil {
				t.Fatal(err)
			}
			return s.ended(id)
		}
		first, second := by("Anna", false), by("Ben", true)
		release, err := s.Release(t.Context(), first.Release)
		if err != nil || release.Record.Author != first.Actor || first.Actor == "" {
			t.Errorf("the author is %q, not %q: %v", release.Record.Author, first.Actor, err)
		}
		if first.Actor == second.Actor || first.Release != second.Release {
			t.Errorf("the rollouts are of %q and %q", first.Actor, second.Actor)
		}
		if _, err := s.Release(t.Context(), digestOf("none")); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("a release that is not there: %v", err)
		}
	})
}
