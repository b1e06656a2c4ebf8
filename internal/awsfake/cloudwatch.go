package awsfake

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// metric is one figure that was put.
type metric struct {
	namespace, name, dimensions string
	at                          time.Time
	values                      []float64
}

func cloudwatchService() *service {
	s := newService("monitoring", "http://monitoring.amazonaws.com/doc/2010-08-01/", upperCamel)
	add(s, "PutMetricData", putMetricData, "Namespace")
	add(s, "GetMetricData", getMetricData, "MetricDataQueries", "StartTime", "EndTime")
	return s
}

// dimensionsOf is a set of dimensions as one string; their order does not count.
func dimensionsOf(dimensions []types.Dimension) string {
	var all []string
	for _, d := range dimensions {
		all = append(all, aws.ToString(d.Name)+"="+aws.ToString(d.Value))
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

func putMetricData(c *request, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	for _, d := range in.MetricData {
		m := metric{namespace: *in.Namespace, name: aws.ToString(d.MetricName), dimensions: dimensionsOf(d.Dimensions), at: time.Now(), values: d.Values}
		if d.Timestamp != nil {
			m.at = *d.Timestamp
		}
		if d.Value != nil {
			m.values = []float64{*d.Value}
		}
		c.region.metrics = append(c.region.metrics, m)
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// getMetricData answers queries with a MetricStat; one with an expression is refused.
func getMetricData(c *request, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	out := &cloudwatch.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{}}
	for _, q := range in.MetricDataQueries {
		if q.MetricStat == nil || q.MetricStat.Metric == nil {
			return nil, refuse("ValidationError", "the fake knows queries with a MetricStat only")
		}
		at, values, err := c.region.statistic(q.MetricStat, *in.StartTime, *in.EndTime)
		if err != nil {
			return nil, err
		}
		if in.ScanBy != types.ScanByTimestampAscending {
			slices.Reverse(at)
			slices.Reverse(values)
		}
		label := q.Label
		if label == nil {
			label = q.MetricStat.Metric.MetricName
		}
		out.MetricDataResults = append(out.MetricDataResults, types.MetricDataResult{Id: q.Id, Label: label, StatusCode: types.StatusCodeComplete, Timestamps: at, Values: values})
	}
	return out, nil
}

// statistic works out one figure for each period that has any, oldest first.
func (r *region) statistic(stat *types.MetricStat, start, end time.Time) ([]time.Time, []float64, error) {
	period := time.Duration(cmp.Or(aws.ToInt32(stat.Period), 60)) * time.Second
	buckets := map[int64][]float64{}
	for _, m := range r.metrics {
		of := stat.Metric
		if m.namespace != aws.ToString(of.Namespace) || m.name != aws.ToString(of.MetricName) || m.dimensions != dimensionsOf(of.Dimensions) || m.at.Before(start) || !m.at.Before(end) {
			continue
		}
		begin := m.at.Truncate(period).Unix()
		buckets[begin] = append(buckets[begin], m.values...)
	}
	at, values := []time.Time{}, []float64{}
	for _, begin := range slices.Sorted(maps.Keys(buckets)) {
		value, err := figure(aws.ToString(stat.Stat), buckets[begin])
		if err != nil {
			return nil, nil, err
		}
		at, values = append(at, time.Unix(begin, 0).UTC()), append(values, value)
	}
	return at, values, nil
}

func figure(stat string, of []float64) (float64, error) {
	slices.Sort(of)
	sum := 0.0
	for _, v := range of {
		sum += v
	}
	switch stat {
	case "Sum":
		return sum, nil
	case "Average":
		return sum / float64(len(of)), nil
	case "SampleCount":
		return float64(len(of)), nil
	case "Minimum":
		return of[0], nil
	case "Maximum":
		return of[len(of)-1], nil
	}
	percent, err := strconv.ParseFloat(strings.TrimPrefix(stat, "p"), 64)
	if err != nil || !strings.HasPrefix(stat, "p") {
		return 0, refuse("ValidationError", "the fake has no statistic %q", stat)
	}
	return of[min(len(of)-1, int(percent/100*float64(len(of))))], nil
}
