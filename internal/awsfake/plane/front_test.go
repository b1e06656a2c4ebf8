package plane_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/front"
	"github.com/lotse-eu/lotse/internal/load"
)

// fronted is an instance with Lotse's real front and one service behind it.
func fronted(t *testing.T, id string) plane.InstanceOptions {
	t.Helper()
	spec, err := json.Marshal(front.Spec{App: "shop", Stage: "dev", Rollout: id, Host: host,
		Release:  deploy.Digest("sha256:" + strings.Repeat("0", 64)),
		Services: []deploy.Service{{Name: "web", Command: "env APP=plain SELF", Path: "/", Health: "/health"}}})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, id, files{".lotse/front.json": string(spec)})
	o.Environment["APP"], o.BareExec = "front", true
	return o
}

// Lotse's own front runs as the bundle's web process; a shift, a task and a rude end of the old instance fail no request.
func TestRealFront(t *testing.T) {
	p := open(t, plane.Options{Propagation: 100 * time.Millisecond})
	old, fresh := launch(t, p, fronted(t, "i-old")), launch(t, p, fronted(t, "i-new"))
	a, b := group(t, p, "old", old), group(t, p, "new", fresh)
	l := balanced(t, p, plane.Forward(plane.Weighted{Group: a, Weight: 1}, plane.Weighted{Group: b, Weight: 0}))
	healthy(t, a)
	healthy(t, b)
	// Run Command does not know the properties; the front that runs does, and masks their values.
	out, err := fresh.Exec(t.Context(), "APP=task "+self(t)+" sh -c 'echo ${#GREETING}'")
	if err != nil || out.Code != 0 || !strings.Contains(out.Stdout, "14\n") {
		t.Errorf("a task: %+v, %v", out, err)
	}
	h := load.Start(t.Context(), plan(p))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	await := func() {
		t.Helper()
		if err := h.Await(ctx, 200); err != nil {
			t.Fatal(err)
		}
	}
	await()
	if err := l.SetDefault(only(b)); err != nil {
		t.Fatal(err)
	}
	wait, done := context.WithTimeout(ctx, time.Second)
	defer done()
	<-wait.Done()
	old.Stop(ctx)
	await()
	r := h.Stop()
	if r.Failed != 0 {
		t.Error(r.Summary())
	}
	if r.Served["i-old"] == 0 || r.Served["i-new"] == 0 {
		t.Errorf("served by %v", r.Served)
	}
}
