package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Logs implements deploy.Logs. CloudWatch has a line some seconds after it was said.
func (e *Engine) Logs(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	return e.failed(ctx, "logs", e.readLogs(ctx, q, yield))
}

func (e *Engine) readLogs(ctx context.Context, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	seen := map[string]bool{} // ids of events that were given
	since := q.Since
	for first := true; ; first = false {
		all, err := e.environments(ctx)
		if err == nil {
			all = slices.DeleteFunc(all, func(v environment) bool { return v.parking() || q.Rollout != "" && v.rollout() != q.Rollout })
			var lines []deploy.LogLine
			if lines, err = e.linesOf(ctx, all, q, since, seen); err == nil {
				if first && q.Lines > 0 {
					lines = lastOfEach(lines, q.Lines)
				}
				for _, l := range lines {
					if since.Before(l.At) {
						since = l.At.Add(-logsLag)
					}
					if !yield(l) {
						return nil
					}
				}
			}
		}
		if q.Follow && ctx.Err() != nil {
			return nil //nolint:nilerr // that is how following ends, whatever it was in the middle of
		}
		if !q.Follow || err != nil && !deploy.Retryable(translate(err)) || err == nil && q.Rollout != "" && len(all) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(e.Timing.Poll):
		}
	}
}

// logsLag is by how much lines may come out of their order.
const logsLag = time.Minute

// linesOf are the lines of environments since a time, in the order of their times, without those that were seen.
func (e *Engine) linesOf(ctx context.Context, all []environment, q deploy.LogQuery, since time.Time, seen map[string]bool) ([]deploy.LogLine, error) {
	var lines []deploy.LogLine
	for _, v := range all {
		events, err := e.events(ctx, v, since)
		if err != nil {
			return nil, err
		}
		numbers := streams(events)
		for _, ev := range events {
			service, text, ok := readLine(sdk.ToString(ev.Message))
			if id := sdk.ToString(ev.EventId); !ok || seen[id] || q.Service != "" && service != q.Service {
				continue
			} else if id != "" {
				seen[id] = true
			}
			at := time.UnixMilli(sdk.ToInt64(ev.Timestamp)).UTC()
			lines = append(lines, deploy.LogLine{At: at, Rollout: v.rollout(), Service: service, Instance: numbers[sdk.ToString(ev.LogStreamName)], Text: text})
		}
	}
	slices.SortStableFunc(lines, func(a, b deploy.LogLine) int { return a.At.Compare(b.At) })
	return lines, nil
}

// events are what the instances of an environment have said.
func (e *Engine) events(ctx context.Context, v environment, since time.Time) ([]types.FilteredLogEvent, error) {
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: sdk.String(logGroup(v.name))}
	if !since.IsZero() {
		in.StartTime = sdk.Int64(since.UnixMilli())
	}
	return e.found(ctx, in)
}

// found are all events that a question finds; none of a group that is not there.
func (e *Engine) found(ctx context.Context, in *cloudwatchlogs.FilterLogEventsInput) ([]types.FilteredLogEvent, error) {
	var all []types.FilteredLogEvent
	for {
		out, err := e.api.logs.FilterLogEvents(ctx, in)
		if coded(err, "ResourceNotFoundException") {
			return nil, nil // nothing was said yet
		}
		if err != nil {
			return nil, err
		}
		all = append(all, out.Events...)
		if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// streams numbers the instances: a stream is called as the instance whose it is.
func streams(events []types.FilteredLogEvent) map[string]int {
	var names []string
	for _, ev := range events {
		if n := sdk.ToString(ev.LogStreamName); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	numbers := map[string]int{}
	for i, n := range names {
		numbers[n] = i
	}
	return numbers
}

// lastOfEach leaves the last lines of every instance.
func lastOfEach(lines []deploy.LogLine, most int) []deploy.LogLine {
	type source struct {
		rollout, service string
		instance         int
	}
	count := map[source]int{}
	var out []deploy.LogLine
	for _, l := range slices.Backward(lines) {
		if of := (source{l.Rollout, l.Service, l.Instance}); count[of] < most {
			count[of]++
			out = append(out, l)
		}
	}
	slices.Reverse(out)
	return out
}

// forgetLogs deletes what environments have said that are gone, when it is older than it may be: what the platform empties by itself
// leaves its group behind.
func (e *Engine) forgetLogs(ctx context.Context) error {
	all, err := e.environments(ctx)
	if err != nil {
		return err
	}
	in := &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: sdk.String("/aws/elasticbeanstalk/" + e.stem() + "-")}
	for {
		out, err := e.api.logs.DescribeLogGroups(ctx, in)
		if err != nil {
			return err
		}
		for _, g := range out.LogGroups {
			name := sdk.ToString(g.LogGroupName)
			rest, ours := strings.CutPrefix(name, "/aws/elasticbeanstalk/")
			rest, _, _ = strings.Cut(rest, "/")
			old := e.Now().Sub(time.UnixMilli(sdk.ToInt64(g.CreationTime))) > (retention+1)*24*time.Hour
			if !ours || !e.mayBeOurs(rest) || !old || slices.ContainsFunc(all, func(v environment) bool { return logGroup(v.name) == name }) {
				continue
			}
			if _, err := e.api.logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: g.LogGroupName}); err != nil {
				return err
			}
		}
		if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
