package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Rules is what a Service knows of the rules of stages, and of the record.
type Rules interface {
	Approve(ctx context.Context, q deploy.ApprovalRequest) (deploy.Approval, error)
	Freeze(ctx context.Context, q deploy.Frost) error
	Thaw(ctx context.Context, q deploy.Frost) error
	Plan(ctx context.Context, q deploy.PlanRequest) (deploy.Plan, error)
	Record(ctx context.Context, id string) (deploy.RolloutRecord, error)
	Resume(ctx context.Context, id string) error
	Dora(ctx context.Context, q deploy.DoraQuery) ([]deploy.Dora, error)
}

type (
	approvalReply struct {
		Approval deploy.Approval `json:"approval"`
	}
	planReply struct {
		Plan deploy.Plan `json:"plan"`
	}
	recordReply struct {
		Record deploy.RolloutRecord `json:"record"`
	}
	doraReply struct {
		Figures []deploy.Dora `json:"figures"`
	}
)

func (s *Server) approve(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q deploy.ApprovalRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	given, err := s.service.Approve(r.Context(), q)
	return approvalReply{given}, err
}

// frost freezes a stage, or thaws it.
func (s *Server) frost(do func(context.Context, deploy.Frost) error) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q deploy.Frost
		if err := read(r, &q); err != nil {
			return nil, err
		}
		return nothing{}, do(r.Context(), q)
	}
}

func (s *Server) plan(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q deploy.PlanRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	plan, err := s.service.Plan(r.Context(), q)
	return planReply{plan}, err
}

func (s *Server) record(_ http.ResponseWriter, r *http.Request) (any, error) {
	record, err := s.service.Record(r.Context(), r.PathValue("id"))
	return recordReply{record}, err
}

func (s *Server) resume(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nothing{}, s.service.Resume(r.Context(), r.PathValue("id"))
}

func (s *Server) dora(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := queryOf(r, "app", "stage", "since")
	if err != nil {
		return nil, err
	}
	since, err := q.moment("since")
	if err != nil {
		return nil, err
	}
	figures, err := s.service.Dora(r.Context(), deploy.DoraQuery{App: q["app"], Stage: q["stage"], Since: since})
	return doraReply{figures}, err
}

// Approve gives a release somebody's yes.
func (c *Client) Approve(ctx context.Context, q deploy.ApprovalRequest) (deploy.Approval, error) {
	var r approvalReply
	err := c.call(ctx, http.MethodPost, "/v1/approvals", q, &r)
	return r.Approval, err
}

// Freeze has a stage take nothing but hotfixes.
func (c *Client) Freeze(ctx context.Context, q deploy.Frost) error {
	return c.call(ctx, http.MethodPost, "/v1/freezes", q, &nothing{})
}

// Thaw ends what Freeze began.
func (c *Client) Thaw(ctx context.Context, q deploy.Frost) error {
	return c.call(ctx, http.MethodPost, "/v1/thaws", q, &nothing{})
}

// Plan returns what a request would do. The folder of a deploy must be absolute.
func (c *Client) Plan(ctx context.Context, q deploy.PlanRequest) (deploy.Plan, error) {
	var r planReply
	err := c.call(ctx, http.MethodPost, "/v1/plans", q, &r)
	return r.Plan, err
}

// Record returns all that is kept of a rollout.
func (c *Client) Record(ctx context.Context, id string) (deploy.RolloutRecord, error) {
	var r recordReply
	err := c.call(ctx, http.MethodGet, "/v1/rollouts/"+url.PathEscape(id)+"/record", nil, &r)
	return r.Record, err
}

// Resume takes up a rollout that has not ended and that nobody walks.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/rollouts/"+url.PathEscape(id)+"/resume", nil, &nothing{})
}

// Dora returns the four figures of stages.
func (c *Client) Dora(ctx context.Context, q deploy.DoraQuery) ([]deploy.Dora, error) {
	v := url.Values{"app": {q.App}, "stage": {q.Stage}, "since": {q.Since.Format(time.RFC3339Nano)}}
	var r doraReply
	err := c.call(ctx, http.MethodGet, "/v1/dora?"+v.Encode(), nil, &r)
	return r.Figures, err
}
