package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// boots asks a rollout until every instance has answered, and returns which ones there are.
func (b *bench) boots(t T, e deploy.Engine, stage int, id string, instances int) []string {
	t.Helper()
	seen := map[string]bool{}
	for range 8 * instances {
		var about load.About
		_, body := b.reach(t, e, stage, id, "/about")
		if err := json.Unmarshal([]byte(body), &about); err != nil {
			t.Fatalf("about: %v in %q", err, body)
		}
		seen[about.Boot] = true
	}
	var all []string
	for boot := range seen {
		all = append(all, boot)
	}
	slices.Sort(all)
	return all
}

// Clause 1. A second Start finds the same instances, in the same process and in a fresh one.
func startTwice(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	id := tag("twice")
	r := b.start(t, e, 1, id, 2)
	first := b.boots(t, e, 0, id, 2)
	if len(first) != b.copies() {
		t.Fatalf("%d instances answer, want %d", len(first), b.copies())
	}
	for name, again := range map[string]deploy.Engine{"the same": e, "a fresh": b.Open(t, b.Stages[0])} {
		if err := again.Start(within(t, patience), 1, b.order(0, id, r)); err != nil {
			t.Errorf("start again in %s process: %v", name, err)
		}
		if now := b.boots(t, again, 0, id, 2); !slices.Equal(now, first) {
			t.Errorf("after a start in %s process the instances are others", name)
		}
	}
	got := b.list(t, e)[id]
	if got.Release != r.ID || got.Share != 0 || len(got.Services) != 1 || len(got.Services[0].Instances) != b.listed(2) || got.Since.IsZero() {
		t.Errorf("list says %+v", got)
	}
	b.clean(t, e, 0, id)
}

// Clause 2. Whenever a Start is cancelled, it returns soon, with ctx's error, and leaves nothing.
func cancelledStart(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	id := tag("cancel")
	hanging := b.Release(t, Hang, id, 2)
	for _, after := range []time.Duration{0, time.Millisecond, b.Start / 20, b.Start / 3} {
		ctx, cancel := context.WithCancel(t.Context())
		if after == 0 {
			cancel()
		}
		timer := time.AfterFunc(after, cancel)
		begun := time.Now()
		err := e.Start(ctx, 1, b.order(0, id, hanging))
		took := time.Since(begun) - after
		timer.Stop()
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %s: %v, want context.Canceled", after, err)
		}
		if took > b.Slack {
			t.Errorf("cancelled after %s it took %s more: %v", after, took, err)
		}
		b.clean(t, e, 0)
	}
	b.start(t, e, 1, id, 1) // and the id is free again
	b.clean(t, e, 0, id)
}

// Clause 3. A release that cannot run fails inside its deadline, says why with the tail of its output, and leaves nothing; also
// beside one that runs.
func cannotRun(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	beside := tag("beside")
	b.start(t, e, 1, beside, 1)
	b.shift(t, e, 1, beside, 100)
	for _, kind := range []Kind{Crash, Hang, WrongPort, Unhealthy} {
		id := tag(string(kind))
		order := b.order(0, id, b.Release(t, kind, id, 2))
		begun := time.Now()
		err := e.Start(within(t, b.Start+patience), 1, order)
		took := time.Since(begun)
		var failed *deploy.StartError
		if !errors.As(err, &failed) || !errors.Is(err, deploy.ErrCannotStart) {
			t.Errorf("%s: %v, want a StartError", kind, err)
			continue
		}
		if took > b.Start+b.Slack {
			t.Errorf("%s: took %s, its deadline is %s", kind, took, b.Start)
		}
		if failed.Service != "web" || failed.Cause == "" || len(failed.Tail) == 0 || !strings.Contains(strings.Join(failed.Tail, "\n"), "starts") {
			t.Errorf("%s: it says %q, tail %q", kind, failed.Error(), failed.Tail)
		}
		if err := e.Check(within(t, patience), id); !errors.Is(err, deploy.ErrUnknown) {
			t.Errorf("%s: check afterwards: %v", kind, err)
		}
		b.clean(t, e, 0, beside)
	}
	if status, _ := b.get(t, 0, "/health"); status != 200 {
		t.Errorf("what ran beside answers %d", status)
	}
}

// Clause 4. Check is nil when all answer, names the one that does not, and is nil again when it does.
func checkNames(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	id := tag("check")
	b.start(t, e, 1, id, 2)
	if err := e.Check(within(t, patience), id); err != nil {
		t.Errorf("check of a good release: %v", err)
	}
	for instance := range b.copies() {
		heal := b.Break(t, b.Stages[0], id, "web", instance)
		err := e.Check(within(t, patience), id)
		var sick *deploy.CheckError
		if !errors.As(err, &sick) || !errors.Is(err, deploy.ErrUnhealthy) || sick.Service != "web" || sick.Instance != instance || sick.Cause == "" {
			t.Errorf("instance %d does not answer, and check says %v", instance, err)
		}
		for _, i := range b.list(t, e)[id].Services[0].Instances {
			if i.Healthy == (i.Number == instance) || (i.Note == "") != i.Healthy {
				t.Errorf("instance %d does not answer, and list says %+v", instance, i)
			}
		}
		heal()
		if err := b.settled(t, e, id); err != nil {
			t.Errorf("after it was healed: %v", err)
		}
	}
	if err := e.Check(within(t, patience), "nobody"); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("check of an unknown rollout: %v", err)
	}
}

// settled asks Check until it is nil, or for as long as the suite's patience lasts.
func (b *bench) settled(t T, e deploy.Engine, id string) error {
	ctx := within(t, patience)
	for {
		err := e.Check(ctx, id)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
