package enginetest

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Clause 13, of a deploy.Sampler. What clients asked is counted for the rollout that answered, by endpoint, whoever asks for the
// samples; what was asked by Reach is not.
func samplesAgree(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	facts := e.Facts()
	if _, counts := e.(deploy.Sampler); counts != (facts.Sampling > 0) {
		t.Errorf("facts say that samples tell %s apart, and the engine is a Sampler: %v", facts.Sampling, counts)
		return
	} else if !counts {
		t.Logf("NOT RUN: this engine counts nothing")
		return
	}
	one, two := tag("one"), tag("two")
	rolloutOf := map[string]string{b.start(t, e, 1, one, 2).ID.Short(): one, b.start(t, e, 1, two, 1).ID.Short(): two}
	begin := time.Now()
	asked := map[endpointOf]counted{}
	tr := b.transport(0)
	defer tr.CloseIdleConnections()
	ask := func(times int, path, endpoint string) {
		for range times {
			status, release := b.whoAt(t, 0, tr, path)
			key := endpointOf{rolloutOf[release], endpoint}
			c := asked[key]
			c.requests++
			if status >= 500 {
				c.errors++
			}
			asked[key] = c
		}
	}
	b.shift(t, e, 1, one, 100)
	ask(12, "/get?word=secret", "/get")
	ask(3, "/fail", "/fail")
	ask(2, "/orders/4711/get", "/orders/{id}/get")
	ask(2, "/slow?bytes=100&for=400ms", "/slow")
	for range 5 {
		b.reach(t, e, 0, one, "/get")
		b.reach(t, e, 0, two, "/get")
	}
	b.shift(t, e, 1, two, 100)
	tr.CloseIdleConnections()
	ask(4, "/get", "/get")

	for name, engine := range map[string]deploy.Engine{"the same": e, "a fresh": b.Open(t, b.Stages[0])} {
		b.sampled(t, engine.(deploy.Sampler), name, begin, facts.Lag, asked)
	}
	if other, err := b.Open(t, b.Stages[1]).(deploy.Sampler).Samples(within(t, patience), begin, time.Now()); err != nil || len(other) > 0 {
		t.Errorf("samples of the other stage: %v, %v", other, err)
	}
	span := 10 * facts.Sampling
	if before, err := e.(deploy.Sampler).Samples(within(t, patience), begin.Add(-2*span), begin.Add(-span)); err != nil || len(before) > 0 {
		t.Errorf("samples of before: %v, %v", before, err)
	}
}

type endpointOf struct{ rollout, endpoint string }

type counted struct{ requests, errors uint64 }

// sampled waits until as many requests are counted as were asked, and compares them. One is counted after its client has the answer.
func (b *bench) sampled(t T, e deploy.Sampler, process string, begin time.Time, lag time.Duration, asked map[endpointOf]counted) {
	t.Helper()
	wanted := uint64(0)
	for _, c := range asked {
		wanted += c.requests
	}
	ctx := within(t, patience+lag)
	samples, total := samplesOf(t, ctx, e, begin)
	for total < wanted {
		select {
		case <-ctx.Done():
			t.Errorf("%s process has samples of %d requests, %d were asked", process, total, wanted)
			return
		case <-time.After(100 * time.Millisecond):
		}
		samples, total = samplesOf(t, ctx, e, begin)
	}
	if !slices.IsSortedFunc(samples, func(a, b deploy.Sample) int {
		return cmp.Or(cmp.Compare(a.Rollout, b.Rollout), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Endpoint, b.Endpoint))
	}) {
		t.Errorf("samples are not sorted: %v", samples)
	}
	for _, s := range samples {
		if want := asked[endpointOf{s.Rollout, s.Endpoint}]; (counted{s.Requests, s.Errors}) != want || s.Service != "web" || s.Method != http.MethodGet {
			t.Errorf("in %s process: %+v, want %+v", process, s, want)
		}
		if n := s.Latency.Sum(); n != s.Requests {
			t.Errorf("%s has %d latencies of %d requests", s.Endpoint, n, s.Requests)
		}
		if slow := s.Latency.Quantile(0.5); s.Endpoint == "/slow" && (slow < 380*time.Millisecond || slow > patience) {
			t.Errorf("answers of 400 ms took %s", slow)
		}
	}
	if len(samples) != len(asked) {
		t.Errorf("samples of %d endpoints, want %d: %v", len(samples), len(asked), samples)
	}
}

func samplesOf(t T, ctx context.Context, e deploy.Sampler, begin time.Time) (samples []deploy.Sample, requests uint64) {
	t.Helper()
	samples, err := e.Samples(ctx, begin, time.Now().Add(time.Second))
	if err != nil {
		t.Fatalf("samples: %v", err)
	}
	for _, s := range samples {
		requests += s.Requests
	}
	return samples, requests
}
