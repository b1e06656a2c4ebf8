package share

import (
	"context"
	"errors"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Places are the work trees of this machine. One that another machine knew is here the folder in which this controller was started: in a
// CI job that is the checkout of the same repository.
func Places(local deploy.Places, here string) deploy.Places { return places{local, here} }

type places struct {
	deploy.Places
	here string
}

func (p places) PathOf(ctx context.Context, id string) (string, error) {
	path, err := p.Places.PathOf(ctx, id)
	if errors.Is(err, deploy.ErrNotFound) && p.here != "" {
		return p.here, nil
	}
	return path, err
}
