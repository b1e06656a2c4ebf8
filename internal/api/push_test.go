package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// watcher is a fake that looks for pushes.
type watcher struct{ *fake }

func (w watcher) Pushed(_ context.Context, dir string) ([]deploy.StageRef, error) {
	return []deploy.StageRef{shop}, w.note("pushed " + dir)
}

func TestPushedTravels(t *testing.T) {
	w := watcher{newFake()}
	c := reached(t, w)
	got, err := c.Pushed(t.Context(), "/srv/shop.git")
	if err != nil || !slices.Equal(got, []deploy.StageRef{shop}) {
		t.Errorf("it is %v, %v", got, err)
	}
	if _, err := c.Pushed(t.Context(), "shop.git"); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("a relative path is %v", err)
	}
	c = reached(t, newFake())
	if _, err := c.Pushed(t.Context(), "/srv/shop.git"); !errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("a controller that watches nothing is %v", err)
	}
}
