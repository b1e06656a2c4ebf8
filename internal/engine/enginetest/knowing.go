package enginetest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Clause 8. A fresh process lists exactly what was started and not stopped, also what the previous version wrote down, and can
// go on with it.
func listFresh(t T, b *bench) {
	old := b.Previous(t, b.Stages[0])
	e := b.Open(t, b.Stages[0])
	one, gone := tag("one"), tag("gone")
	r := b.start(t, e, 1, one, 2)
	b.start(t, e, 1, gone, 1)
	b.stop(t, e, 1, gone, time.Second)

	fresh := b.Open(t, b.Stages[0])
	b.clean(t, fresh, 0, one, old.Rollout)
	got := b.list(t, fresh)
	if l := got[one]; l.Release != r.ID || l.Share != 0 || len(l.Services) != 1 || len(l.Services[0].Instances) != b.listed(2) {
		t.Errorf("ours is listed as %+v", l)
	}
	want, l := old, got[old.Rollout]
	if l.Release != want.Release || l.Share != want.Share || !l.Since.Equal(want.Since) || len(l.Services) != len(want.Services) {
		t.Errorf("the previous version's is listed as %+v, want %+v", l, want)
	}
	b.shift(t, fresh, 1, one, 100)
	if got, want := b.shares(t, e), map[string]int{one: 100, old.Rollout: 0}; !maps.Equal(got, want) {
		t.Errorf("shares %v, want %v", got, want)
	}
	b.stop(t, fresh, 1, old.Rollout, time.Second)
	b.clean(t, b.Open(t, b.Stages[0]), 0, one)
}

// Clause 9. The same rollout id on two stages is two rollouts: other instances, traffic, fences; what happens to one does not
// happen to the other.
func twoStages(t T, b *bench) {
	left, right := b.Open(t, b.Stages[0]), b.Open(t, b.Stages[1])
	id := tag("both")
	a := b.Release(t, Good, id+"-a", 1)
	z := b.Release(t, Good, id+"-z", 1)
	if err := left.Start(within(t, patience), 9, b.order(0, id, a)); err != nil {
		t.Fatalf("start: %v", err)
	}
	if n := len(b.list(t, right)); n != 0 {
		t.Errorf("the other stage lists %d rollouts", n)
	}
	if err := right.Check(within(t, patience), id); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("the other stage knows the rollout: %v", err)
	}
	if err := right.Start(within(t, patience), 3, b.order(1, id, z)); err != nil { // a fence of its own
		t.Fatalf("start on the other stage: %v", err)
	}
	b.shift(t, left, 9, id, 100)
	b.shift(t, right, 3, id, 100)
	check := func(when string) {
		t.Helper()
		for stage, r := range []deploy.Release{a, z} {
			if status, who := b.who(t, stage); status != 200 || who != r.ID.Short() {
				t.Errorf("%s, %s is answered by %q with %d, want %q", when, b.Stages[stage].Name, who, status, r.ID.Short())
			}
		}
	}
	check("with the same id on both")
	if one, two := b.boots(t, left, 0, id, 1), b.boots(t, right, 1, id, 1); len(one) != 1 || len(two) != 1 || one[0] == two[0] {
		t.Errorf("instances %v and %v", one, two)
	}
	heal := b.Break(t, b.Stages[0], id, "web", 0)
	if err := right.Check(within(t, patience), id); err != nil {
		t.Errorf("a sick instance shows on the other stage: %v", err)
	}
	heal()
	if err := b.settled(t, left, id); err != nil {
		t.Errorf("after it was healed: %v", err)
	}
	b.stop(t, left, 9, id, time.Second)
	if status, who := b.who(t, 1); status != 200 || who != z.ID.Short() {
		t.Errorf("after a stop on the other stage %q answers with %d", who, status)
	}
	b.clean(t, left, 0)
	b.clean(t, right, 1, id)
}

// Clause 10. An app gets its settings, and whatever it prints and however it fails, no value of one is told: not in errors, lists,
// logs or files.
func noSecret(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	id := tag("tell")
	var told strings.Builder
	say := func(what string, v any) {
		plain, _ := json.Marshal(v)
		fmt.Fprintf(&told, "\n%s: %v %+v %#v %s", what, v, v, v, plain)
	}
	if err := e.Start(within(t, patience), 1, b.order(0, id, b.Release(t, Tell, id, 1))); err != nil {
		t.Fatalf("start: %v", err)
	}
	for _, s := range settings() {
		want := fmt.Sprintf("%x\n", sha256.Sum256([]byte(s.Value.Reveal())))
		if _, got := b.reach(t, e, 0, id, "/setting?name="+s.Name); got != want {
			t.Errorf("the app did not get %s", s.Name)
		}
	}
	b.shift(t, e, 1, id, 100)
	bad := tag("bad")
	err := e.Start(within(t, patience), 1, b.order(0, bad, b.Release(t, TellCrash, bad, 1)))
	var failed *deploy.StartError
	if !errors.As(err, &failed) || !strings.Contains(strings.Join(failed.Tail, "\n"), "SECRET_TOKEN=") {
		t.Fatalf("the release that prints a secret and ends: %v", err)
	}
	say("start error", err)
	say("tail", failed.Tail)
	heal := b.Break(t, b.Stages[0], id, "web", 0)
	say("check error", e.Check(within(t, patience), id))
	listed := b.list(t, e)
	heal()
	say("list", listed)
	say("facts", e.Facts())
	if logs, ok := e.(deploy.Logs); ok {
		lines := 0
		err := logs.Logs(within(t, patience), deploy.LogQuery{Rollout: id}, func(l deploy.LogLine) bool {
			lines++
			say("log", l)
			return true
		})
		if err != nil || lines == 0 {
			t.Errorf("%d lines of log: %v", lines, err)
		}
	}
	if tasks, ok := e.(deploy.Tasks); ok {
		say("task", tasks.Task(within(t, patience), id, "print", "sh -c 'echo $SECRET_TOKEN; exit 3'", nil))
	}
	b.stop(t, e, 1, id, time.Second)
	told.WriteString(b.Written(t))
	for name, form := range forms(aSecret) {
		if i := strings.Index(told.String(), form); i >= 0 {
			line, _, _ := strings.Cut(told.String()[strings.LastIndex(told.String()[:i], "\n")+1:], ":")
			t.Errorf("the secret is told, %s, in %s", name, line[:min(len(line), 60)])
		}
	}
}

// forms are the ways in which a value is commonly written.
func forms(value string) map[string]string {
	quoted, _ := json.Marshal(value)
	return map[string]string{
		"plainly":        value,
		"in base64":      base64.StdEncoding.EncodeToString([]byte(value)),
		"in hexadecimal": hex.EncodeToString([]byte(value)),
		"in a URL":       url.QueryEscape(value),
		"in JSON":        string(quoted[1 : len(quoted)-1]),
		"quoted":         strings.Trim(fmt.Sprintf("%q", value), `"`),
	}
}

// Clause 11. Every error answers errors.Is, and "try again?": no for what a person or the story must decide, yes for a platform
// that is away.
func errorsAnswer(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	id := tag("errors")
	b.start(t, e, 4, id, 1)
	b.shift(t, e, 4, id, 100)
	crash := tag("crash")
	heal := b.Break(t, b.Stages[0], id, "web", 0)
	sick := e.Check(within(t, patience), id)
	heal()
	_, unreached := e.Reach(within(t, patience), "nobody")
	cases := []struct {
		what string
		err  error
		is   error
	}{
		{"an old fence", e.Shift(within(t, patience), 3, id, 100), deploy.ErrFenced},
		{"an unknown rollout", e.Shift(within(t, patience), 4, "nobody", 100), deploy.ErrUnknown},
		{"a check of an unknown rollout", e.Check(within(t, patience), "nobody"), deploy.ErrUnknown},
		{"reach of an unknown rollout", unreached, deploy.ErrUnknown},
		{"a share that nobody can give", e.Shift(within(t, patience), 4, id, 1000), deploy.ErrUnsupported},
		{"a release that cannot run", e.Start(within(t, patience), 4, b.order(0, crash, b.Release(t, Crash, crash, 1))), deploy.ErrCannotStart},
		{"a sick instance", sick, deploy.ErrUnhealthy},
		{"a bad rollout id", e.Start(within(t, patience), 4, b.order(0, "../up", b.Release(t, Good, "up", 1))), deploy.ErrBadInput},
	}
	for _, c := range cases {
		if !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.is)
		}
		if deploy.Retryable(c.err) {
			t.Errorf("%s may be tried again: %v", c.what, c.err)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Shift(done, 4, id, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled shift: %v", err)
	}
	if err := e.Stop(done, 4, id, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled stop: %v", err)
	}
	if err := b.settled(t, e, id); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	b.duringOutage(t, e, id)
}

// duringOutage takes the platform away: changes fail, may be tried again, and then succeed.
func (b *bench) duringOutage(t T, e deploy.Engine, id string) {
	end := b.Outage(t, b.Stages[0])
	err := e.Shift(within(t, patience), 4, id, 100)
	if err == nil || !deploy.Retryable(err) {
		t.Errorf("a shift while the platform is away: %v, want one that may be tried again", err)
	}
	end()
	ctx := within(t, patience)
	for err != nil && ctx.Err() == nil {
		if err = e.Shift(ctx, 4, id, 100); err != nil && !deploy.Retryable(err) {
			t.Fatalf("after the outage: %v", err)
		}
	}
	if err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

// Clause 12. Ten callers start, check, list, shift, reach and stop at once, some the same rollout: one set of instances, no error,
// no race (under -race), nothing left.
func tenCallers(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	base := tag("base")
	r := b.start(t, e, 1, base, 1)
	b.shift(t, e, 1, base, 100)
	shared := tag("shared")
	order := b.order(0, shared, b.Release(t, Good, shared, 2))
	errs := make(chan error, 200)
	note := func(what string, err error) {
		if err != nil {
			errs <- fmt.Errorf("%s: %w", what, err)
		}
	}
	var callers sync.WaitGroup
	for caller := range 10 {
		own := b.order(0, tag(fmt.Sprintf("own-%d", caller)), r)
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			note("start the shared one", e.Start(ctx, 1, order))
			note("check the shared one", e.Check(ctx, shared))
			if caller%3 == 0 {
				note("start its own", e.Start(ctx, 1, own))
				note("check its own", e.Check(ctx, own.Rollout))
			}
			for _, id := range []string{base, shared} {
				note("shift to "+id, e.Shift(ctx, 1, id, 100))
			}
			_, err := e.List(ctx)
			note("list", err)
			_, err = e.Reach(ctx, shared)
			note("reach", err)
			note("stop its own", e.Stop(ctx, 1, own.Rollout, time.Second))
		})
	}
	callers.Wait()
	close(errs)
	for err := range errs {
		t.Errorf("%v", err)
	}
	if n := len(b.boots(t, e, 0, shared, 2)); n != b.copies() {
		t.Errorf("ten starts made %d instances, want %d", n, b.copies())
	}
	sum := 0
	for _, share := range b.shares(t, e) {
		sum += share
	}
	if sum != 100 {
		t.Errorf("the shares sum to %d", sum)
	}
	b.clean(t, e, 0, base, shared)
	for range 10 {
		callers.Go(func() {
			if err := e.Stop(within(t, patience), 1, shared, time.Second); err != nil {
				t.Errorf("stop at once: %v", err)
			}
		})
	}
	callers.Wait()
	b.clean(t, e, 0, base)
}
