package deploy

import (
	"context"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

// Sampler is what an engine has that counts requests by rollout and endpoint.
type Sampler interface {
	// Samples returns what clients asked this stage for between from and to, one Sample for each rollout, service, method and endpoint
	// that had a request then, sorted by these. What was asked by Reach is not among it. Both ends are moved outwards to what the
	// platform tells apart (Facts.Sampling), and what is newer than Facts.Lag may not be counted yet. At least the last 15 minutes can
	// be asked for, also by a controller that did not live then, of rollouts that List shows. Counting survives no proxy that died.
	Samples(ctx context.Context, from, to time.Time) ([]Sample, error)
}

// Sample is what one endpoint of one rollout did in a span of time.
type Sample struct {
	Rollout  string            `json:"rollout"`
	Service  string            `json:"service"`
	Method   string            `json:"method"`   // OTHER for what RFC 9110 and RFC 5789 do not name
	Endpoint string            `json:"endpoint"` // the path with {id} for what may be personal, as the access log has it; "…" for the rest where there are too many, and for 404 on one not seen before
	Requests uint64            `json:"requests"` // ended in the span, with any status
	Errors   uint64            `json:"errors"`   // of them answered by 5xx, by Lotse's own 502, 503 or 504, or broken off by the server's side
	Latency  latency.Histogram `json:"latency"`  // until the end of the answer, without websockets and event streams, and without the time of a hold
}
