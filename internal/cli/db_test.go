package cli

import (
	"context"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (h *harbour) TakeSnapshot(_ context.Context, q deploy.DataRequest) (string, error) {
	return "j1", h.note("snapshot", q.App, q.Stage, q.Reason)
}

func (h *harbour) Drill(_ context.Context, q deploy.DataRequest) (string, error) {
	return "j1", h.note("drill", q.App, q.Stage, q.ID)
}

func (h *harbour) Restore(_ context.Context, q deploy.DataRequest) (string, error) {
	return "j1", h.note("restore", q.App, q.Stage, q.ID, q.To)
}

func (h *harbour) CopyData(_ context.Context, q deploy.DataRequest) (string, error) {
	return "j1", h.note("copy", q.App, q.From, q.Stage, q.Reason)
}

func (h *harbour) FindPeople(_ context.Context, app, stage string) (deploy.People, error) {
	return h.Personal, h.note("people", app, stage)
}

func (h *harbour) Forget(_ context.Context, q deploy.DataRequest) error {
	return h.note("forget", q.App, q.Stage, q.ID)
}

func (h *harbour) FollowData(_ context.Context, job string, yield func(deploy.DataJob) error) error {
	for _, j := range h.Jobs {
		if err := yield(j); err != nil {
			return err
		}
	}
	return h.note("follow", job)
}

func (h *harbour) ListSnapshots(_ context.Context, app, stage string) ([]deploy.Snapshot, error) {
	return h.Snaps, h.note("snapshots", app, stage)
}

func (h *harbour) DataStatus(_ context.Context, app, stage string) ([]deploy.DataStatus, error) {
	return h.Data, h.note("data", app, stage)
}
