package memory

import (
	"context"
	"net/http"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Samples implements deploy.Sampler.
func (e *Engine) Samples(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
	var samples []deploy.Sample
	err := e.meet(ctx, Samples, func(context.Context) error {
		e.world.mu.Lock()
		defer e.world.mu.Unlock()
		s := e.here()
		for _, id := range sortedIDs(s.rollouts) {
			r := s.rollouts[id]
			for _, svc := range r.release.Manifest.Services { // in the order of their names
				for _, c := range r.tally(svc.Name).Read(e.world.now(), from, to) {
					samples = append(samples, deploy.Sample{Rollout: id, Service: svc.Name, Method: c.Method, Endpoint: c.Endpoint,
						Requests: c.Requests, Errors: c.Errors, Latency: c.Latency})
				}
			}
		}
		return nil
	})
	return samples, err
}

// tally is what counts a service's requests. The World must be locked.
func (r *rollout) tally(service string) *proxy.Tally {
	if r.tallies[service] == nil {
		r.tallies[service] = &proxy.Tally{}
	}
	return r.tallies[service]
}

// counted is an answer on its way to the client.
type counted struct {
	http.ResponseWriter
	status int
	stream bool
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader remembers the status.
func (c *counted) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		c.status = status
		c.stream = status == http.StatusSwitchingProtocols || c.Header().Get("Content-Type") == "text/event-stream"
	}
	c.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher.
func (c *counted) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

// count is for when an answer has ended, or was cut.
func (w *World) count(r *rollout, service string, req *http.Request, c *counted, begin time.Time) {
	took := w.now().Sub(begin)
	if c.stream {
		took = -1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.tally(service).Add(w.now(), req.Method, req.URL.Path, c.status, r.alive.Err() != nil, took)
}
