package api

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Pushes is what a Service has that looks for pushes.
type Pushes interface {
	// Pushed says that something came into the repository that holds dir. It returns the stages for which that is looked at now.
	Pushed(ctx context.Context, dir string) ([]deploy.StageRef, error)
}

var _ Pushes = (*deploy.Controller)(nil)

type (
	pushedBody struct {
		Dir string `json:"dir"` // absolute: the controller has a folder of its own
	}
	pushedReply struct {
		Stages []deploy.StageRef `json:"stages"`
	}
)

func (s *Server) pushed(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q pushedBody
	if err := read(r, &q); err != nil {
		return nil, err
	}
	looks, ok := s.service.(Pushes)
	if !ok {
		return nil, fmt.Errorf("%w: this controller looks for no pushes", deploy.ErrUnsupported)
	}
	if !filepath.IsAbs(q.Dir) {
		return nil, fmt.Errorf("%w: dir must be an absolute path", deploy.ErrBadInput)
	}
	stages, err := looks.Pushed(r.Context(), q.Dir)
	return pushedReply{stages}, err
}

// Pushed says that something came into the repository that holds dir, an absolute path. It returns the stages for which that is looked at
// now; none where nobody watches it.
func (c *Client) Pushed(ctx context.Context, dir string) ([]deploy.StageRef, error) {
	var r pushedReply
	err := c.call(ctx, http.MethodPost, "/v1/pushes", pushedBody{dir}, &r)
	return r.Stages, err
}
