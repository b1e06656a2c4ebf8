package api

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (f *fake) TakeSnapshot(_ context.Context, q deploy.DataRequest) (string, error) {
	return "ssss", f.note([]any{"snapshot", q})
}

func (f *fake) Drill(_ context.Context, q deploy.DataRequest) (string, error) {
	return "iiii", f.note([]any{"drill", q})
}

func (f *fake) Restore(_ context.Context, q deploy.DataRequest) (string, error) {
	return "rrrr", f.note([]any{"restore", q})
}

func (f *fake) CopyData(_ context.Context, q deploy.DataRequest) (string, error) {
	return "cccc", f.note([]any{"copy", q})
}

func (f *fake) FindPeople(_ context.Context, app, stage string) (deploy.People, error) {
	return deploy.People{Columns: []deploy.ColumnFinding{{Column: "users.email", Kind: "mail", Why: "w"}}}, f.note([]any{"people", app, stage})
}

func (f *fake) Forget(_ context.Context, q deploy.DataRequest) error {
	return f.note([]any{"forget", q})
}

func (f *fake) ListSnapshots(_ context.Context, app, stage string) ([]deploy.Snapshot, error) {
	return []deploy.Snapshot{{ID: "a", Stage: shop, Proof: &deploy.Proof{Wrong: "w"}}}, f.note([]any{"list", app, stage})
}

func (f *fake) DataStatus(_ context.Context, app, stage string) ([]deploy.DataStatus, error) {
	return []deploy.DataStatus{{Stage: shop, Wrong: "there is no snapshot"}}, f.note([]any{"status", app, stage})
}

func (f *fake) FollowData(_ context.Context, job string, yield func(deploy.DataJob) error) error {
	if err := f.note("follow " + job); err != nil {
		return err
	}
	return errors.Join(yield(deploy.DataJob{ID: job}), yield(deploy.DataJob{ID: job, Over: true}))
}

// What is asked about the data of a stage arrives as it was asked, and the answer comes back as it was given.
func TestDataTravels(t *testing.T) {
	f := newFake()
	c := reached(t, f)
	ctx := t.Context()
	q := deploy.DataRequest{App: "shop", Stage: "prod", ID: "a", To: "staging", Reason: "why", By: deploy.Person{Name: "Ada"}}
	var jobs []deploy.DataJob
	for _, c := range []struct {
		asked any
		ask   func() (any, error)
		want  any
	}{
		{[]any{"snapshot", q}, func() (any, error) { return c.TakeSnapshot(ctx, q) }, "ssss"},
		{[]any{"drill", q}, func() (any, error) { return c.Drill(ctx, q) }, "iiii"},
		{[]any{"restore", q}, func() (any, error) { return c.Restore(ctx, q) }, "rrrr"},
		{[]any{"copy", q}, func() (any, error) { return c.CopyData(ctx, q) }, "cccc"},
		{[]any{"people", "shop", "prod"}, func() (any, error) { return c.FindPeople(ctx, "shop", "prod") }, deploy.People{Columns: []deploy.ColumnFinding{{Column: "users.email", Kind: "mail", Why: "w"}}}},
		{[]any{"forget", q}, func() (any, error) { return nil, c.Forget(ctx, q) }, nil},
		{[]any{"list", "shop", "prod"}, func() (any, error) { return c.ListSnapshots(ctx, "shop", "prod") }, []deploy.Snapshot{{ID: "a", Stage: shop, Proof: &deploy.Proof{Wrong: "w"}}}},
		{[]any{"status", "", "prod"}, func() (any, error) { return c.DataStatus(ctx, "", "prod") }, []deploy.DataStatus{{Stage: shop, Wrong: "there is no snapshot"}}},
		{"follow x", func() (any, error) {
			err := c.FollowData(ctx, "x", func(j deploy.DataJob) error { jobs = append(jobs, j); return nil })
			return jobs, err
		}, []deploy.DataJob{{ID: "x"}, {ID: "x", Over: true}}},
	} {
		got, err := c.ask()
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v is answered by %+v, %v", c.asked, got, err)
		}
		if last := f.last(); !reflect.DeepEqual(last, c.asked) {
			t.Errorf("%+v arrived as %+v", c.asked, last)
		}
	}
	f.err = deploy.Hint(deploy.ErrBusy, "wait")
	if _, err := c.Restore(ctx, q); !errors.Is(err, deploy.ErrBusy) || deploy.HintOf(err) != "wait" {
		t.Errorf("a refusal is %v", err)
	}
}
