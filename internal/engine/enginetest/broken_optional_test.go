package enginetest_test

import (
	"context"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func samplingFaults() []fault {
	return []fault{
		{13, "counts for one rollout what another answered", sampling(func(s *deploy.Sample) {
			if s.Endpoint == "/get" && s.Requests == 4 {
				s.Rollout = "0"
			}
		})},
		{13, "counts what came by Reach", sampling(func(s *deploy.Sample) { s.Requests += 5 })},
		{13, "counts no errors", sampling(func(s *deploy.Sample) { s.Errors = 0 })},
		{13, "shows ids", sampling(func(s *deploy.Sample) { s.Endpoint = strings.ReplaceAll(s.Endpoint, "{id}", "4711") })},
		{13, "knows nothing that an earlier process has counted", breaking(func(_ deploy.Engine, b *broken) {
			b.samples = func(context.Context, time.Time, time.Time) ([]deploy.Sample, error) { return nil, nil }
		})},
	}
}

// holdingFaults break one verb of the optional interface each.
func holdingFaults() []fault {
	return []fault{
		{14, "keeps nothing", breaking(func(e deploy.Engine, b *broken) { b.Holder = letsThrough{e.(deploy.Holder)} })},
		{14, "forgets fences", breaking(func(e deploy.Engine, b *broken) { b.Holder = fenceless{e.(deploy.Holder)} })},
		{14, "holds for ever", breaking(func(e deploy.Engine, b *broken) { b.Holder = endless{e.(deploy.Holder)} })},
		{14, "is not maintained", breaking(func(e deploy.Engine, b *broken) { b.Holder = unmaintained{e.(deploy.Holder)} })},
	}
}

type letsThrough struct{ deploy.Holder }

func (letsThrough) Hold(context.Context, deploy.Fence, deploy.Bounds) error { return nil }

type fenceless struct{ deploy.Holder }

func (h fenceless) EndHold(ctx context.Context, _ deploy.Fence) error {
	return h.Holder.EndHold(ctx, 1<<40)
}

type endless struct{ deploy.Holder }

func (h endless) Hold(ctx context.Context, f deploy.Fence, b deploy.Bounds) error {
	b.For = time.Hour
	return h.Holder.Hold(ctx, f, b)
}

type unmaintained struct{ deploy.Holder }

func (unmaintained) Maintain(context.Context, deploy.Fence, *deploy.Page) error { return nil }

// sampling changes what is said of an endpoint.
func sampling(change func(*deploy.Sample)) func(deploy.Engine) deploy.Engine {
	return breaking(func(e deploy.Engine, b *broken) {
		b.samples = func(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
			all, err := e.(deploy.Sampler).Samples(ctx, from, to)
			for i := range all {
				change(&all[i])
			}
			return all, err
		}
	})
}
