package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Notices is what a Service has that tells people how rollouts end.
type Notices interface {
	// TestNotices sends a test message for each notice that is meant. An error is about the question; what became of a message, in
	// a result.
	TestNotices(ctx context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error)
}

type noticesReply struct {
	Notices []deploy.NoticeResult `json:"notices"`
}

func (s *Server) testNotices(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q deploy.NoticeTest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	teller, ok := s.service.(Notices)
	if !ok {
		return nil, fmt.Errorf("%w: this controller tells nobody", deploy.ErrUnsupported)
	}
	results, err := teller.TestNotices(r.Context(), q)
	return noticesReply{results}, err
}

// TestNotices sends a test message for each notice of the lotse.yaml in q.Dir, or for one. q.Dir must be absolute.
func (c *Client) TestNotices(ctx context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error) {
	var r noticesReply
	err := c.call(ctx, http.MethodPost, "/v1/notices/test", q, &r)
	return r.Notices, err
}
