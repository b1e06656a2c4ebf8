package awsfake

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// Only of a line that is the object and nothing else CloudWatch takes metrics, and only with all their dimensions.
func TestEmbeddedMetrics(t *testing.T) {
	w := Open(t, Options{})
	logs, metrics := cloudwatchlogs.NewFromConfig(w.Config("")), cloudwatch.NewFromConfig(w.Config(""))
	if _, err := logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("/shop")}); err != nil {
		t.Fatal(err)
	}
	if _, err := logs.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("/shop"), LogStreamName: aws.String("a")}); err != nil {
		t.Fatal(err)
	}
	const head = `{"_aws":{"Timestamp":1795428000000,"CloudWatchMetrics":[{"Namespace":"Lotse","Dimensions":[["App"]],"Metrics":[{"Name":"Requests"}]}]},`
	at := time.UnixMilli(1795428000000)
	for line, want := range map[string]int{
		head + `"App":"shop","Requests":3}`:                                 1,
		"Nov 23 10:00:00 ip web[1]: " + head + `"App":"shop","Requests":3}`: 0,
		head + `"Requests":3}`:                                              0,
		head + `"App":"shop","Requests":"3"}`:                               0,
		`{"App":"shop","Requests":3}`:                                       0,
		head + `"App":"shop","Requests":3} and more`:                        0,
	} {
		w.in("eu-central-1").metrics = nil
		if _, err := logs.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("/shop"), LogStreamName: aws.String("a"),
			LogEvents: []logtypes.InputLogEvent{{Timestamp: aws.Int64(time.Now().UnixMilli()), Message: &line}}}); err != nil {
			t.Fatal(err)
		}
		out, err := metrics.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: aws.Time(at.Add(-time.Minute)), EndTime: aws.Time(at.Add(time.Minute)),
			MetricDataQueries: []types.MetricDataQuery{{Id: aws.String("m"), MetricStat: &types.MetricStat{Period: aws.Int32(60), Stat: aws.String("Sum"), Metric: &types.Metric{
				Namespace: aws.String("Lotse"), MetricName: aws.String("Requests"), Dimensions: []types.Dimension{{Name: aws.String("App"), Value: aws.String("shop")}}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(out.MetricDataResults[0].Values); got != want || want == 1 && out.MetricDataResults[0].Values[0] != 3 {
			t.Errorf("%d figures of %s", got, line)
		}
	}
}
