package awsfake

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// logStore is CloudWatch Logs in one region: groups by name.
type logStore map[string]*logGroup

type logGroup struct {
	created   time.Time
	retention *int32
	streams   map[string]*logStream
	tags      map[string]string
}

type logStream struct {
	created time.Time
	lines   []logLine
}

type logLine struct {
	id, text     string
	at, ingested int64 // milliseconds since 1970
}

func logsService() *service {
	s := newService("logs", "", lowerCamel)
	add(s, "CreateLogGroup", createLogGroup, "LogGroupName")
	add(s, "DeleteLogGroup", deleteLogGroup, "LogGroupName")
	add(s, "DescribeLogGroups", describeLogGroups)
	add(s, "PutRetentionPolicy", putRetention, "LogGroupName", "RetentionInDays")
	add(s, "CreateLogStream", createLogStream, "LogGroupName", "LogStreamName")
	add(s, "DescribeLogStreams", describeLogStreams)
	add(s, "PutLogEvents", putLogEvents, "LogGroupName", "LogStreamName", "LogEvents")
	add(s, "FilterLogEvents", filterLogEvents)
	add(s, "GetLogEvents", getLogEvents, "LogStreamName")
	return s
}

func (s logStore) group(name, identifier *string) (*logGroup, error) {
	key := aws.ToString(cmp.Or(name, identifier))
	if _, short, isARN := strings.Cut(key, ":log-group:"); isARN {
		key = short
	}
	g, there := s[key]
	if !there {
		return nil, refuse("ResourceNotFoundException", "The specified log group does not exist.")
	}
	return g, nil
}

func createLogGroup(c *request, in *cwl.CreateLogGroupInput) (*cwl.CreateLogGroupOutput, error) {
	if _, there := c.region.logs[*in.LogGroupName]; there {
		return nil, refuse("ResourceAlreadyExistsException", "The specified log group already exists")
	}
	c.region.logs[*in.LogGroupName] = newLogGroup(in.Tags)
	return &cwl.CreateLogGroupOutput{}, nil
}

func newLogGroup(tags map[string]string) *logGroup {
	return &logGroup{created: time.Now(), streams: map[string]*logStream{}, tags: tags}
}

func deleteLogGroup(c *request, in *cwl.DeleteLogGroupInput) (*cwl.DeleteLogGroupOutput, error) {
	if _, err := c.region.logs.group(in.LogGroupName, nil); err != nil {
		return nil, err
	}
	delete(c.region.logs, *in.LogGroupName)
	return &cwl.DeleteLogGroupOutput{}, nil
}

func describeLogGroups(c *request, in *cwl.DescribeLogGroupsInput) (*cwl.DescribeLogGroupsOutput, error) {
	found := []types.LogGroup{}
	for _, name := range slices.Sorted(maps.Keys(c.region.logs)) {
		g := c.region.logs[name]
		if strings.HasPrefix(name, aws.ToString(in.LogGroupNamePrefix)) && strings.Contains(name, aws.ToString(in.LogGroupNamePattern)) {
			arn := c.arn("logs", "log-group:"+name)
			found = append(found, types.LogGroup{LogGroupName: aws.String(name), Arn: aws.String(arn + ":*"), LogGroupArn: &arn, CreationTime: aws.Int64(g.created.UnixMilli()), RetentionInDays: g.retention})
		}
	}
	page, next, err := paged(found, in.Limit, in.NextToken)
	return &cwl.DescribeLogGroupsOutput{LogGroups: page, NextToken: next}, err
}

func putRetention(c *request, in *cwl.PutRetentionPolicyInput) (*cwl.PutRetentionPolicyOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, nil)
	if err == nil {
		g.retention = in.RetentionInDays
	}
	return &cwl.PutRetentionPolicyOutput{}, err
}

func createLogStream(c *request, in *cwl.CreateLogStreamInput) (*cwl.CreateLogStreamOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	if _, there := g.streams[*in.LogStreamName]; there {
		return nil, refuse("ResourceAlreadyExistsException", "The specified log stream already exists")
	}
	g.streams[*in.LogStreamName] = &logStream{created: time.Now()}
	return &cwl.CreateLogStreamOutput{}, nil
}

func describeLogStreams(c *request, in *cwl.DescribeLogStreamsInput) (*cwl.DescribeLogStreamsOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	found := []types.LogStream{}
	for _, name := range slices.Sorted(maps.Keys(g.streams)) {
		if strings.HasPrefix(name, aws.ToString(in.LogStreamNamePrefix)) {
			found = append(found, g.streams[name].describe(name))
		}
	}
	if in.OrderBy == types.OrderByLastEventTime {
		slices.SortStableFunc(found, func(a, b types.LogStream) int {
			return cmp.Compare(aws.ToInt64(a.LastEventTimestamp), aws.ToInt64(b.LastEventTimestamp))
		})
	}
	if aws.ToBool(in.Descending) {
		slices.Reverse(found)
	}
	page, next, err := paged(found, in.Limit, in.NextToken)
	return &cwl.DescribeLogStreamsOutput{LogStreams: page, NextToken: next}, err
}

func (s *logStream) describe(name string) types.LogStream {
	d := types.LogStream{LogStreamName: &name, CreationTime: aws.Int64(s.created.UnixMilli())}
	if n := len(s.lines); n > 0 {
		d.FirstEventTimestamp, d.LastEventTimestamp, d.LastIngestionTime = &s.lines[0].at, &s.lines[n-1].at, &s.lines[n-1].ingested
	}
	return d
}

func putLogEvents(c *request, in *cwl.PutLogEventsInput) (*cwl.PutLogEventsOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, nil)
	if err != nil {
		return nil, err
	}
	s, there := g.streams[*in.LogStreamName]
	if !there {
		return nil, refuse("ResourceNotFoundException", "The specified log stream does not exist.")
	}
	for i, ev := range in.LogEvents {
		if i > 0 && aws.ToInt64(ev.Timestamp) < aws.ToInt64(in.LogEvents[i-1].Timestamp) {
			return nil, refuse("InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	for _, ev := range in.LogEvents {
		s.add(aws.ToInt64(ev.Timestamp), aws.ToString(ev.Message))
		c.region.metrics = append(c.region.metrics, embeddedMetrics(aws.ToString(ev.Message))...)
	}
	return &cwl.PutLogEventsOutput{NextSequenceToken: aws.String(newID(20))}, nil
}

func (s *logStream) add(at int64, line string) {
	s.lines = append(s.lines, logLine{id: newHex(32), text: line, at: at, ingested: time.Now().UnixMilli()})
	slices.SortStableFunc(s.lines, func(a, b logLine) int { return cmp.Compare(a.at, b.at) })
}

// LogLine writes a line into a stream of a log group in Options.Region, both made where they are not there, as the agent on
// an instance does.
func (w *World) LogLine(group, stream string, at time.Time, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logLine(w.in(w.options.Region), group, stream, at, line)
}

func (w *World) logLine(r *region, group, stream string, at time.Time, line string) {
	g, there := r.logs[group]
	if !there {
		g = newLogGroup(nil)
		r.logs[group] = g
	}
	s, there := g.streams[stream]
	if !there {
		s = &logStream{created: time.Now()}
		g.streams[stream] = s
	}
	s.add(at.UnixMilli(), line)
}

func filterLogEvents(c *request, in *cwl.FilterLogEventsInput) (*cwl.FilterLogEventsOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	wanted, err := termsOf(aws.ToString(in.FilterPattern))
	if err != nil {
		return nil, err
	}
	found := []types.FilteredLogEvent{}
	for _, name := range slices.Sorted(maps.Keys(g.streams)) {
		if len(in.LogStreamNames) > 0 && !slices.Contains(in.LogStreamNames, name) || !strings.HasPrefix(name, aws.ToString(in.LogStreamNamePrefix)) {
			continue
		}
		for _, line := range g.streams[name].lines {
			if line.within(in.StartTime, in.EndTime) && holds(line.text, wanted) {
				found = append(found, types.FilteredLogEvent{EventId: aws.String(line.id), LogStreamName: aws.String(name), Message: aws.String(line.text), Timestamp: aws.Int64(line.at), IngestionTime: aws.Int64(line.ingested)})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b types.FilteredLogEvent) int { return cmp.Compare(*a.Timestamp, *b.Timestamp) })
	page, next, err := paged(found, in.Limit, in.NextToken)
	return &cwl.FilterLogEventsOutput{Events: page, NextToken: next, SearchedLogStreams: []types.SearchedLogStream{}}, err
}

// within: StartTime is counted in, EndTime too (API reference: "later than this time are not returned").
func (l logLine) within(start, end *int64) bool {
	return (start == nil || l.at >= *start) && (end == nil || l.at <= *end)
}

// termsOf reads a filter pattern of plain terms and "quoted phrases", all of which a line must hold.
func termsOf(pattern string) (terms []string, err error) {
	rest := strings.TrimSpace(pattern)
	if strings.ContainsAny(rest[:min(1, len(rest))], "{[%?-") {
		return nil, refuse("InvalidParameterException", "the fake knows filter patterns of terms and quoted phrases only")
	}
	for rest != "" {
		if rest[0] == '"' {
			phrase, after, closed := strings.Cut(rest[1:], `"`)
			if !closed {
				return nil, refuse("InvalidParameterException", "Invalid filter pattern")
			}
			terms, rest = append(terms, phrase), strings.TrimSpace(after)
			continue
		}
		term, after, _ := strings.Cut(rest, " ")
		terms, rest = append(terms, term), strings.TrimSpace(after)
	}
	return terms, nil
}

func holds(line string, terms []string) bool {
	return !slices.ContainsFunc(terms, func(term string) bool { return !strings.Contains(line, term) })
}

func getLogEvents(c *request, in *cwl.GetLogEventsInput) (*cwl.GetLogEventsOutput, error) {
	g, err := c.region.logs.group(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	s, there := g.streams[*in.LogStreamName]
	if !there {
		return nil, refuse("ResourceNotFoundException", "The specified log stream does not exist.")
	}
	found := []types.OutputLogEvent{}
	for _, line := range s.lines {
		if line.within(in.StartTime, in.EndTime) {
			found = append(found, types.OutputLogEvent{Message: aws.String(line.text), Timestamp: aws.Int64(line.at), IngestionTime: aws.Int64(line.ingested)})
		}
	}
	if limit := int(aws.ToInt32(in.Limit)); limit > 0 && len(found) > limit {
		if aws.ToBool(in.StartFromHead) {
			found = found[:limit]
		} else {
			found = found[len(found)-limit:]
		}
	}
	return &cwl.GetLogEventsOutput{Events: found, NextForwardToken: aws.String("f/end"), NextBackwardToken: aws.String("b/end")}, nil
}

// takeLines takes over what instances wrote since the last request. The caller holds mu.
func (w *World) takeLines() {
	r, ok := w.backing.(*running)
	if !ok {
		return
	}
	for _, l := range r.takeLines() {
		w.logLine(w.in(l.region), l.group, l.stream, l.at, l.text)
	}
}
