package local

import (
	"context"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Samples implements deploy.Sampler: the proxy counts.
func (e *Engine) Samples(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
	counted, err := e.Proxy.Samples(ctx, e.key(), from, to)
	if err != nil {
		return nil, e.failed("samples", err)
	}
	samples := make([]deploy.Sample, len(counted))
	for i, s := range counted {
		samples[i] = deploy.Sample{Rollout: s.Release, Service: s.Service, Method: s.Method, Endpoint: s.Endpoint,
			Requests: s.Requests, Errors: s.Errors, Latency: s.Latency}
	}
	return samples, nil
}
