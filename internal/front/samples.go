package front

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
	"github.com/lotse-eu/lotse/internal/proxy"
)

const (
	toldAfter = time.Second      // after the end of a slot, so that no request of it is still being counted
	tellMost  = 5 * time.Second  // for one slot
	tellAgain = 14 * time.Minute // the proxy keeps slots for a quarter of an hour
	partMost  = 100              // samples of one line: some 30 kB, and CloudWatch Logs takes 1 MB
)

// counted tells what the proxy counts, slot by slot, in order. What could not be told is told later, as long as the proxy has it.
type counted struct {
	spec  Spec
	to    Log
	read  func(from, to time.Time) []proxy.Sample
	tell  func(ctx context.Context, to Log, at time.Time, lines []string) error
	clock func() time.Time
	log   *slog.Logger

	next time.Time // the first slot that was not told
	lost bool      // the last try failed
}

func (f *Front) counting(tell func(ctx context.Context, to Log, at time.Time, lines []string) error) *counted {
	if tell == nil || f.spec.Samples == nil {
		return nil
	}
	to := *f.spec.Samples
	to.Stream = "samples/" + f.spec.Rollout + "/" + rand.Text()[:10] // an instance's own name is its address
	return &counted{spec: f.spec, to: to, tell: tell, clock: f.clock, log: f.log, next: f.clock().Truncate(proxy.SampleSlot),
		read: func(from, to time.Time) []proxy.Sample { return f.proxy.Samples(f.spec.key(), from, to) }}
}

// keep tells until ctx ends.
func (c *counted) keep(ctx context.Context) {
	for {
		now := c.clock()
		timer := time.NewTimer(now.Add(-toldAfter).Truncate(proxy.SampleSlot).Add(proxy.SampleSlot + toldAfter).Sub(now))
		select {
		case <-timer.C:
			c.upTo(ctx, c.clock().Add(-toldAfter))
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// last tells the rest, when nothing is counted any more.
func (c *counted) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tellMost)
	defer cancel()
	c.upTo(ctx, c.clock().Truncate(proxy.SampleSlot).Add(proxy.SampleSlot))
}

// upTo tells every slot that has ended by then.
func (c *counted) upTo(ctx context.Context, end time.Time) {
	if oldest := end.Add(-tellAgain).Truncate(proxy.SampleSlot); c.next.Before(oldest) {
		c.next = oldest
	}
	for ; !c.next.Add(proxy.SampleSlot).After(end); c.next = c.next.Add(proxy.SampleSlot) {
		samples := c.read(c.next, c.next.Add(proxy.SampleSlot))
		if len(samples) == 0 {
			continue
		}
		if err := c.one(ctx, samples); err != nil {
			if !c.lost && ctx.Err() == nil {
				c.log.Warn("what was counted cannot be told", "log", c.to.Group, "cause", err)
			}
			c.lost = true
			return
		}
		if c.lost {
			c.log.Info("what was counted is told again", "log", c.to.Group)
		}
		c.lost = false
	}
}

func (c *counted) one(ctx context.Context, samples []proxy.Sample) error {
	ctx, cancel := context.WithTimeout(ctx, tellMost)
	defer cancel()
	lines, err := c.lines(samples)
	if err == nil {
		err = c.tell(ctx, c.to, c.next, lines)
	}
	return err
}

// told is one line. A slot has several where it has many samples; the first says the sums, too, as metrics. That a line is told twice is
// seen by stream, slot and part. It is a contract with who reads it.
type told struct {
	*sums
	Rollout string       `json:"rollout"`
	Slot    time.Time    `json:"slot"`
	Part    int          `json:"part"`
	Samples []toldSample `json:"samples"`
}

type toldSample struct {
	Service  string   `json:"service"`
	Method   string   `json:"method"`
	Endpoint string   `json:"endpoint"`
	Requests uint64   `json:"requests"`
	Errors   uint64   `json:"errors,omitempty"`
	Latency  []uint64 `json:"latency,omitempty"` // pairs: bucket, how many
}

// sums are what CloudWatch makes metrics of: three for a stage, whatever runs there and however many endpoints it has, since each costs
// by the month. The form is the embedded metric format (docs.aws.amazon.com/AmazonCloudWatch, "Specification: Embedded metric format"):
// the line must be a JSON object with nothing before or after it.
type sums struct {
	AWS      embedded `json:"_aws"`
	App      string   `json:"App"`
	Stage    string   `json:"Stage"`
	Requests uint64   `json:"Requests"`
	Errors   uint64   `json:"Errors"`
	P95      float64  `json:"P95,omitzero"` // of this instance's requests, in milliseconds; not there, and no metric, where all were streams
}

type embedded struct {
	Timestamp int64       `json:"Timestamp"` // milliseconds since 1970
	Metrics   []directive `json:"CloudWatchMetrics"`
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct{ Name, Unit string }

// MetricNamespace is where the sums stand in CloudWatch, with the dimensions App and Stage.
const MetricNamespace = "Lotse"

func (c *counted) lines(samples []proxy.Sample) (lines []string, err error) {
	head := &sums{App: c.spec.App, Stage: c.spec.Stage, AWS: embedded{c.next.UnixMilli(), []directive{{MetricNamespace, [][]string{{"App", "Stage"}},
		[]metric{{"Requests", "Count"}, {"Errors", "Count"}}}}}}
	var all latency.Histogram
	for _, s := range samples {
		head.Requests, head.Errors, all = head.Requests+s.Requests, head.Errors+s.Errors, all.Add(s.Latency)
	}
	if all.Sum() > 0 {
		head.P95 = float64(all.Quantile(0.95)) / float64(time.Millisecond)
		head.AWS.Metrics[0].Metrics = append(head.AWS.Metrics[0].Metrics, metric{"P95", "Milliseconds"})
	}
	part := 0
	for some := range slices.Chunk(samples, partMost) {
		l := told{sums: head, Rollout: c.spec.Rollout, Slot: c.next.UTC(), Part: part}
		for _, s := range some {
			l.Samples = append(l.Samples, toldSample{s.Service, s.Method, s.Endpoint, s.Requests, s.Errors, pairs(s.Latency)})
		}
		line, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		lines, head = append(lines, string(line)), nil
		part++
	}
	return lines, nil
}

// pairs are the buckets of a histogram that hold anything: few do.
func pairs(h latency.Histogram) (out []uint64) {
	for i, n := range h {
		if n > 0 {
			out = append(out, uint64(i), n)
		}
	}
	return out
}
