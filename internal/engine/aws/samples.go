package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/latency"
)

const (
	// sampling is the span by which fronts count.
	sampling = 10 * time.Second
	// samplesLag is a slot, a second until it is told, and what CloudWatch Logs takes until it finds a line: some seconds, of which no figure
	// is promised.
	samplesLag = 30 * time.Second
	// samplesStreams begin the names of streams in the stage's log group that fronts write, each its own.
	samplesStreams = "samples/"
)

// Samples implements deploy.Sampler: every front writes what it has counted into the stage's log group, a line for each slot. Those of
// rollouts that are gone are found too, for as long as the group keeps them (30 days).
func (e *Engine) Samples(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
	all, err := e.samples(ctx, from, to)
	return all, e.failed(ctx, "samples", err)
}

func (e *Engine) samples(ctx context.Context, from, to time.Time) ([]deploy.Sample, error) {
	s, err := e.outputs(ctx)
	if err != nil {
		return nil, err
	}
	if s.logs == "" {
		return nil, deploy.Hint(fmt.Errorf("%w: the stack %s has no output %sLogs", deploy.ErrMissing, e.stackName(), camel(e.Stage.Name)),
			"`lotse infra apply` brings it up to date with lotse.yaml; a release that is started then is counted")
	}
	end := to.Add(sampling - 1).Truncate(sampling)
	events, err := e.found(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &s.logs, LogStreamNamePrefix: sdk.String(samplesStreams),
		StartTime: sdk.Int64(from.Truncate(sampling).UnixMilli()), EndTime: sdk.Int64(end.UnixMilli() - 1)})
	if err != nil {
		return nil, err
	}
	return sum(events), nil
}

// counted is a line of a front. The two are of rooms that do not see each other; a test holds them together.
type counted struct {
	Rollout string          `json:"rollout"`
	Slot    time.Time       `json:"slot"`
	Part    int             `json:"part"`
	Samples []countedSample `json:"samples"`
}

type countedSample struct {
	Service  string   `json:"service"`
	Method   string   `json:"method"`
	Endpoint string   `json:"endpoint"`
	Requests uint64   `json:"requests"`
	Errors   uint64   `json:"errors,omitempty"`
	Latency  []uint64 `json:"latency,omitempty"`
}

// sum adds up what all instances have counted. A front that did not hear whether its line was taken has written it twice.
func sum(events []types.FilteredLogEvent) []deploy.Sample {
	type line struct {
		stream string
		slot   int64
		part   int
	}
	seen := map[line]bool{}
	type name struct{ rollout, service, method, endpoint string }
	sums := map[name]*deploy.Sample{}
	for _, ev := range events {
		var c counted
		if json.Unmarshal([]byte(sdk.ToString(ev.Message)), &c) != nil || c.Rollout == "" {
			continue // of somebody else
		}
		l := line{sdk.ToString(ev.LogStreamName), c.Slot.Unix(), c.Part}
		if seen[l] {
			continue
		}
		seen[l] = true
		for _, s := range c.Samples {
			n := name{c.Rollout, s.Service, s.Method, s.Endpoint}
			if sums[n] == nil {
				sums[n] = &deploy.Sample{Rollout: n.rollout, Service: n.service, Method: n.method, Endpoint: n.endpoint}
			}
			total := sums[n]
			total.Requests, total.Errors, total.Latency = total.Requests+s.Requests, total.Errors+s.Errors, total.Latency.Add(s.histogram())
		}
	}
	all := make([]deploy.Sample, 0, len(sums))
	for _, s := range sums {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b deploy.Sample) int {
		return cmp.Or(cmp.Compare(a.Rollout, b.Rollout), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return all
}

// histogram undoes the pairs of bucket and count. What is no bucket is left out.
func (s countedSample) histogram() latency.Histogram {
	h := make(latency.Histogram, 0, latency.Buckets)
	for pair := range slices.Chunk(s.Latency, 2) {
		if len(pair) < 2 || pair[0] >= latency.Buckets {
			break
		}
		h = append(h, make(latency.Histogram, max(0, int(pair[0])+1-len(h)))...)
		h[pair[0]] += pair[1]
	}
	return h
}

// LogWriter writes lines to streams of CloudWatch Logs. It is what fronts tell their counts with, with the rights of the instance. The
// zero LogWriter is not ready: Config is required. For one goroutine.
type LogWriter struct {
	// Config finds the instance's credentials.
	Config func(ctx context.Context, region string) (sdk.Config, error)

	client *cloudwatchlogs.Client
	stream string // that is there
}

// Write adds lines, all of the time at, to a stream of a group, which is there; the stream is made where it is not. When it fails, none or
// all were added.
func (w *LogWriter) Write(ctx context.Context, region, group, stream string, at time.Time, lines []string) error {
	if err := w.ready(ctx, region, group, stream); err != nil {
		return translate(err)
	}
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream}
	for _, l := range lines {
		in.LogEvents = append(in.LogEvents, types.InputLogEvent{Timestamp: sdk.Int64(at.UnixMilli()), Message: &l})
	}
	out, err := w.client.PutLogEvents(ctx, in)
	if err != nil {
		return translate(err)
	}
	if r := out.RejectedLogEventsInfo; r != nil {
		return fmt.Errorf("%w: CloudWatch Logs takes no lines of %s: the clock of this machine is wrong", deploy.ErrRefused, at.UTC().Format(time.RFC3339))
	}
	return nil
}

func (w *LogWriter) ready(ctx context.Context, region, group, stream string) error {
	if w.client == nil {
		c, err := w.Config(ctx, region)
		if err != nil {
			return err
		}
		w.client = cloudwatchlogs.NewFromConfig(c)
	}
	if w.stream == stream {
		return nil
	}
	_, err := w.client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream})
	if err != nil && !coded(err, "ResourceAlreadyExistsException") {
		return err
	}
	w.stream = stream
	return nil
}
