package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Data is what a Service has that keeps snapshots of stages, and restores them. A job goes on whether or not its client does.
type Data interface {
	TakeSnapshot(ctx context.Context, q deploy.DataRequest) (job string, err error)
	Drill(ctx context.Context, q deploy.DataRequest) (job string, err error)
	Restore(ctx context.Context, q deploy.DataRequest) (job string, err error)
	CopyData(ctx context.Context, q deploy.DataRequest) (job string, err error)
	FindPeople(ctx context.Context, app, stage string) (deploy.People, error)
	Forget(ctx context.Context, q deploy.DataRequest) error
	FollowData(ctx context.Context, job string, yield func(deploy.DataJob) error) error
	ListSnapshots(ctx context.Context, app, stage string) ([]deploy.Snapshot, error)
	DataStatus(ctx context.Context, app, stage string) ([]deploy.DataStatus, error)
}

var _ Data = (*deploy.Controller)(nil)

type (
	jobReply struct {
		Job string `json:"job"`
	}
	snapshotsReply struct {
		Snapshots []deploy.Snapshot `json:"snapshots"`
	}
	dataReply struct {
		Data []deploy.DataStatus `json:"data"`
	}
)

// withData makes a handler of one that needs Data.
func (s *Server) withData(h func(Data, *http.Request) (any, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		keeper, ok := s.service.(Data)
		if !ok {
			return nil, fmt.Errorf("%w: this controller keeps no snapshots", deploy.ErrUnsupported)
		}
		return h(keeper, r)
	}
}

// dataJob begins a job.
func dataJob(begin func(Data, context.Context, deploy.DataRequest) (string, error)) func(Data, *http.Request) (any, error) {
	return func(d Data, r *http.Request) (any, error) {
		var q deploy.DataRequest
		if err := read(r, &q); err != nil {
			return nil, err
		}
		job, err := begin(d, r.Context(), q)
		return jobReply{job}, err
	}
}

func forget(d Data, r *http.Request) (any, error) {
	var q deploy.DataRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, d.Forget(r.Context(), q)
}

func listSnapshots(d Data, r *http.Request) (any, error) {
	q, err := queryOf(r, "app", "stage")
	if err != nil {
		return nil, err
	}
	all, err := d.ListSnapshots(r.Context(), q["app"], q["stage"])
	return snapshotsReply{all}, err
}

func findPeople(d Data, r *http.Request) (any, error) {
	q, err := queryOf(r, "app", "stage")
	if err != nil {
		return nil, err
	}
	found, err := d.FindPeople(r.Context(), q["app"], q["stage"])
	return found, err
}

func dataStatus(d Data, r *http.Request) (any, error) {
	q, err := queryOf(r, "app", "stage")
	if err != nil {
		return nil, err
	}
	all, err := d.DataStatus(r.Context(), q["app"], q["stage"])
	return dataReply{all}, err
}

func (s *Server) followData(w http.ResponseWriter, r *http.Request) (any, error) {
	keeper, ok := s.service.(Data)
	if !ok {
		return nil, fmt.Errorf("%w: this controller keeps no snapshots", deploy.ErrUnsupported)
	}
	job := r.PathValue("job")
	return s.stream(w, r, func(ctx context.Context, yield func(any) error) error {
		return keeper.FollowData(ctx, job, func(j deploy.DataJob) error { return yield(j) })
	})
}

// TakeSnapshot begins a snapshot and returns the id of its job.
func (c *Client) TakeSnapshot(ctx context.Context, q deploy.DataRequest) (job string, err error) {
	return c.beginData(ctx, "/v1/snapshots", q)
}

// Drill begins to prove a snapshot and returns the id of its job.
func (c *Client) Drill(ctx context.Context, q deploy.DataRequest) (job string, err error) {
	return c.beginData(ctx, "/v1/drills", q)
}

// Restore begins to bring a stage's data back and returns the id of its job.
func (c *Client) Restore(ctx context.Context, q deploy.DataRequest) (job string, err error) {
	return c.beginData(ctx, "/v1/restores", q)
}

// CopyData begins to give a stage another one's data with people masked, and returns the id of its job.
func (c *Client) CopyData(ctx context.Context, q deploy.DataRequest) (job string, err error) {
	return c.beginData(ctx, "/v1/copies", q)
}

// FindPeople says what the columns of a stage's database hold.
func (c *Client) FindPeople(ctx context.Context, app, stage string) (found deploy.People, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/people?"+url.Values{"app": {app}, "stage": {stage}}.Encode(), nil, &found)
	return found, err
}

func (c *Client) beginData(ctx context.Context, path string, q deploy.DataRequest) (string, error) {
	var r jobReply
	err := c.call(ctx, http.MethodPost, path, q, &r)
	return r.Job, err
}

// Forget deletes what a restore has kept.
func (c *Client) Forget(ctx context.Context, q deploy.DataRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/forgets", q, &nothing{})
}

// ListSnapshots returns the snapshots of a stage, oldest first.
func (c *Client) ListSnapshots(ctx context.Context, app, stage string) ([]deploy.Snapshot, error) {
	var r snapshotsReply
	err := c.call(ctx, http.MethodGet, "/v1/snapshots?"+url.Values{"app": {app}, "stage": {stage}}.Encode(), nil, &r)
	return r.Snapshots, err
}

// DataStatus returns how well the data of stages is kept. An empty app or stage is any.
func (c *Client) DataStatus(ctx context.Context, app, stage string) ([]deploy.DataStatus, error) {
	var r dataReply
	err := c.call(ctx, http.MethodGet, "/v1/data?"+url.Values{"app": {app}, "stage": {stage}}.Encode(), nil, &r)
	return r.Data, err
}

// FollowData gives what is known of a job to yield, then every change, until the job is over (nil), yield returns an error, or ctx ends. A
// controller that goes away meanwhile is deploy.ErrUnavailable: the job goes on when it is back.
func (c *Client) FollowData(ctx context.Context, job string, yield func(deploy.DataJob) error) error {
	err := c.stream(ctx, "/v1/data/jobs/"+url.PathEscape(job), func(item json.RawMessage) error {
		var j deploy.DataJob
		if err := json.Unmarshal(item, &j); err != nil {
			return err
		}
		return yield(j)
	})
	if errors.Is(err, errCut) {
		return deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrUnavailable, err), "`lotse db status` shows how it goes on when the controller is back")
	}
	return err
}
