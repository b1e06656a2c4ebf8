package cli

import (
	"context"
	"fmt"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (h *harbour) Approve(_ context.Context, q deploy.ApprovalRequest) (deploy.Approval, error) {
	return deploy.Approval{Stage: deploy.StageRef{App: "shop", Stage: q.Stage}, Release: "sha256:3f2a9c1b77de00", Kind: q.Kind, Actor: "p-1"}, h.note("approve", fmt.Sprintf("%+v", q))
}

func (h *harbour) Freeze(_ context.Context, q deploy.Frost) error {
	until := ""
	if !q.Until.IsZero() {
		until = q.Until.UTC().Format(" until 2006-01-02T15:04")
	}
	return h.note("freeze", fmt.Sprintf("%s %s%s, by %s", q.Stage, q.Reason, until, q.By.Name))
}

func (h *harbour) Thaw(_ context.Context, q deploy.Frost) error { return h.note("thaw", q.Stage) }

func (h *harbour) Plan(_ context.Context, q deploy.PlanRequest) (deploy.Plan, error) {
	if err := h.note("plan", q.Verb, fmt.Sprintf("%+v %+v", q.Move, q.Deploy.Override)); err != nil || h.Planned == nil {
		return deploy.Plan{}, err
	}
	return *h.Planned, nil
}

func (h *harbour) Record(_ context.Context, id string) (deploy.RolloutRecord, error) {
	return deploy.RolloutRecord{Rollout: deploy.Rollout{ID: id}, Events: []deploy.Link{{Event: deploy.Event{Seq: 7, Kind: "requested", Hash: "bb"}, Before: "aa"}}}, h.note("record", id)
}

func (h *harbour) Resume(_ context.Context, id string) error { return h.note("resume", id) }

func (h *harbour) Dora(_ context.Context, q deploy.DoraQuery) ([]deploy.Dora, error) {
	return h.Figures, h.note("dora", q.App, q.Stage)
}
