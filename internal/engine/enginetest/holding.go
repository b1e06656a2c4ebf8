package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Clause 14, of a deploy.Holder. A request that comes during a hold is answered after it: when it is ended, also by a fresh process, or by
// itself. What is beyond its bounds, and everything during maintenance, is 503 with Retry-After. What comes by Reach passes.
func holdKeeps(t T, b *bench) {
	e, ok := b.Open(t, b.Stages[0]).(deploy.Holder)
	if !ok {
		t.Logf("NOT RUN: this engine keeps no requests")
		return
	}
	one := tag("one")
	b.start(t, b.Open(t, b.Stages[0]), 3, one, 1)
	b.shift(t, b.Open(t, b.Stages[0]), 3, one, 100)
	bounds := deploy.Bounds{For: patience, Requests: 1, Bytes: 1 << 20}
	b.must(t, "a hold", e.Hold(within(t, patience), 3, bounds))
	answer := b.ask(t)
	b.closedUntil(t, e, "a request waits", func(c deploy.Closed) bool { return c.Waiting == 1 })
	if got := <-b.ask(t); got != "503 with Retry-After" {
		t.Errorf("beyond the bounds of the hold: %s", got)
	}
	if status, _ := b.reach(t, b.Open(t, b.Stages[0]), 0, one, "/get"); status != http.StatusOK {
		t.Errorf("by Reach during a hold: %d", status)
	}
	fresh := b.Open(t, b.Stages[0]).(deploy.Holder)
	if err := fresh.EndHold(within(t, patience), 2); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("the end of a hold with an old fence: %v", err)
	}
	select {
	case got := <-answer:
		t.Errorf("during the hold the answer was %s", got)
	default:
	}
	b.must(t, "the end of a hold", fresh.EndHold(within(t, patience), 3))
	if got := <-answer; got != "200" {
		t.Errorf("after the hold: %s", got)
	}

	begin := time.Now()
	bounds.For = 500 * time.Millisecond
	b.must(t, "a short hold", e.Hold(within(t, patience), 3, bounds))
	if got := <-b.ask(t); got != "200" || time.Since(begin) < bounds.For {
		t.Errorf("a hold of %s ended after %s with %s", bounds.For, time.Since(begin), got)
	}
	b.closedUntil(t, e, "the hold is over", func(c deploy.Closed) bool { return c.Until.IsZero() && c.Waiting == 0 })

	b.must(t, "maintenance", e.Maintain(within(t, patience), 4, &deploy.Page{Message: "until noon"}))
	if got := <-b.ask(t); got != "503 with Retry-After" {
		t.Errorf("during maintenance: %s", got)
	}
	b.closedUntil(t, fresh, "maintenance", func(c deploy.Closed) bool { return c.Maintenance })
	b.must(t, "the end of maintenance", fresh.Maintain(within(t, patience), 4, nil))
	if got := <-b.ask(t); got != "200" {
		t.Errorf("after maintenance: %s", got)
	}
}

func (b *bench) must(t T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// ask sends a request to the first stage and returns where the answer will be.
func (b *bench) ask(t T) <-chan string {
	t.Helper()
	answer := make(chan string, 1)
	client, url := b.client(0)
	req, err := http.NewRequestWithContext(within(t, 2*patience), http.MethodGet, url+"/get", nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		got := fmt.Sprint(resp.StatusCode)
		if resp.Header.Get("Retry-After") != "" {
			got += " with Retry-After"
		}
		answer <- got
	}()
	return answer
}

func (b *bench) closedUntil(t T, e deploy.Holder, what string, want func(deploy.Closed) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	for {
		now, err := e.Closed(ctx)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if want(now) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s: %+v", what, now)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
