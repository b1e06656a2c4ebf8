package api

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (f *fake) Approve(_ context.Context, q deploy.ApprovalRequest) (deploy.Approval, error) {
	return deploy.Approval{Stage: shop, Release: "sha256:aa", Actor: "p-1", Kind: q.Kind}, f.note(q)
}

func (f *fake) Freeze(_ context.Context, q deploy.Frost) error { return f.note(q) }

func (f *fake) Thaw(_ context.Context, q deploy.Frost) error { return f.note("thaw " + q.Stage) }

func (f *fake) Plan(_ context.Context, q deploy.PlanRequest) (deploy.Plan, error) {
	return deploy.Plan{Verb: q.Verb, Stage: shop, Refused: []deploy.Refusal{{Code: "refused", Message: "no", Hint: "later"}}}, f.note(q)
}

func (f *fake) Record(_ context.Context, id string) (deploy.RolloutRecord, error) {
	return deploy.RolloutRecord{Rollout: deploy.Rollout{ID: id}, Events: []deploy.Link{{Event: deploy.Event{Seq: 7, Hash: "bb"}, Before: "aa"}}}, f.note("record " + id)
}

func (f *fake) Resume(_ context.Context, id string) error { return f.note("resume " + id) }

func (f *fake) Dora(_ context.Context, q deploy.DoraQuery) ([]deploy.Dora, error) {
	return []deploy.Dora{{Stage: shop, Deployments: 3, Lead: time.Hour}}, f.note(q)
}

// What is asked about the rules of a stage arrives as it was asked, and the answer comes back as it was given.
func TestRulesTravel(t *testing.T) {
	f := newFake()
	c := reached(t, f)
	ctx := t.Context()
	at := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	by := deploy.Person{Name: "Ada", Mail: "ada@example.org"}
	approval := deploy.ApprovalRequest{App: "shop", Stage: "prod", Release: "aaaa", Kind: deploy.SignsOff, Reason: "seen", By: by}
	frost := deploy.Frost{Stage: "staging", Reason: "why", Until: at, By: by}
	plan := deploy.PlanRequest{Verb: deploy.Promoted, Move: deploy.Move{Stage: "prod", Override: deploy.Override{Now: true, Reason: "why"}}}
	query := deploy.DoraQuery{App: "shop", Stage: "prod", Since: at}
	for _, c := range []struct {
		asked any
		ask   func() (any, error)
		want  any
	}{
		{approval, func() (any, error) { return c.Approve(ctx, approval) }, deploy.Approval{Stage: shop, Release: "sha256:aa", Actor: "p-1", Kind: deploy.SignsOff}},
		{frost, func() (any, error) { return nil, c.Freeze(ctx, frost) }, nil},
		{"thaw staging", func() (any, error) { return nil, c.Thaw(ctx, frost) }, nil},
		{plan, func() (any, error) { return c.Plan(ctx, plan) }, deploy.Plan{Verb: deploy.Promoted, Stage: shop, Refused: []deploy.Refusal{{Code: "refused", Message: "no", Hint: "later"}}}},
		{"record a", func() (any, error) { return c.Record(ctx, "a") }, deploy.RolloutRecord{Rollout: deploy.Rollout{ID: "a"}, Events: []deploy.Link{{Event: deploy.Event{Seq: 7, Hash: "bb"}, Before: "aa"}}}},
		{"resume a", func() (any, error) { return nil, c.Resume(ctx, "a") }, nil},
		{query, func() (any, error) { return c.Dora(ctx, query) }, []deploy.Dora{{Stage: shop, Deployments: 3, Lead: time.Hour}}},
	} {
		got, err := c.ask()
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v is answered by %+v, %v", c.asked, got, err)
		}
		if last := f.asked[len(f.asked)-1]; !reflect.DeepEqual(last, c.asked) {
			t.Errorf("%+v arrived as %+v", c.asked, last)
		}
	}
	f.err = deploy.Hint(deploy.ErrRefused, "ask somebody")
	if _, err := c.Approve(ctx, approval); !errors.Is(err, deploy.ErrRefused) || deploy.HintOf(err) != "ask somebody" {
		t.Errorf("a refusal is %v", err)
	}
}
