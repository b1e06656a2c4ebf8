package pipeline

import (
	"context"
	"errors"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Check implements deploy.Sources.
func (s *Sources) Check(ctx context.Context, c deploy.Commit) error { return whole(ctx, c) }

// whole refuses a commit of which a part is elsewhere, before anything is asked for: a build would find out in its first second, but
// then there is a rollout that goes back.
func whole(ctx context.Context, c deploy.Commit) error {
	if _, err := sources(ctx, c); errors.Is(err, deploy.ErrBadInput) {
		return err
	}
	return nil // what else may be wrong is said where the files are needed
}
