package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/latency"
)

const samplesGroup = "/lotse/shop/dev"

// Fronts that run count what clients ask, and the engine finds it, also that of a rollout that is gone; what Lotse asks by Reach is not in it.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		t.Run(balancer, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, balancer, options())
			e := c.open(t, c.stages[0])
			begin := time.Now()
			c.up(t, e, 1, "one")
			c.shift(t, e, 1, "one", 100)
			c.asks(t, e, "one")
			for range 3 {
				c.serves(t)
			}
			if err := e.Stop(within(t, patience), 1, "one", 100*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			all, err := e.Samples(within(t, patience), begin, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			var got []deploy.Sample
			for _, s := range all {
				if s.Endpoint == "/get" {
					got = append(got, s)
				}
			}
			if len(got) != 1 || got[0].Rollout != "one" || got[0].Service != "web" || got[0].Method != http.MethodGet || got[0].Requests != 3 || got[0].Errors != 0 || got[0].Latency.Sum() != 3 {
				t.Errorf("three requests were asked, and there are %+v", all)
			}
			if n := c.metric(t, "Requests", begin); n < 3 {
				t.Errorf("the metric of the stage is %v", n)
			}
			for _, call := range c.w.CallsOfInstances() {
				if call.Service != "logs" || !slices.Contains([]string{"CreateLogStream", "PutLogEvents"}, call.Action) || call.Resource != samplesGroup {
					t.Errorf("an instance calls %+v", call)
				}
			}
		})
	}
}

// asks makes requests by Reach, as the gates do.
func (c *cloud) asks(t *testing.T, e *aws.Engine, rollout string) {
	t.Helper()
	rt, err := e.Reach(within(t, patience), rollout)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, c.stages[0].URL+"/get", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// metric is the sum of one of the stage's metrics since a time.
func (c *cloud) metric(t *testing.T, name string, since time.Time) (sum float64) {
	t.Helper()
	of := &cwtypes.Metric{Namespace: sdk.String("Lotse"), MetricName: &name,
		Dimensions: []cwtypes.Dimension{{Name: sdk.String("App"), Value: sdk.String("shop")}, {Name: sdk.String("Stage"), Value: sdk.String("dev")}}}
	out, err := cloudwatch.NewFromConfig(c.account).GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: sdk.Time(since.Add(-time.Minute)), EndTime: sdk.Time(time.Now().Add(time.Minute)),
		MetricDataQueries: []cwtypes.MetricDataQuery{{Id: sdk.String("m"), MetricStat: &cwtypes.MetricStat{Metric: of, Period: sdk.Int32(60), Stat: sdk.String("Sum")}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.MetricDataResults[0].Values {
		sum += v
	}
	return sum
}

// writes is a log of two instances; one line was written twice, one is of another stream, one is nobody's, one is too old.
func (c *cloud) writes(t *testing.T, at time.Time) {
	t.Helper()
	line := func(rollout string, slot time.Time, part int, samples ...map[string]any) string {
		raw, err := json.Marshal(map[string]any{"rollout": rollout, "slot": slot, "part": part, "samples": samples})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	get := map[string]any{"service": "web", "method": "GET", "endpoint": "/", "requests": 5, "errors": 1, "latency": []int{3, 4, 10, 1}}
	post := map[string]any{"service": "web", "method": "POST", "endpoint": "/orders", "requests": 1}
	c.w.LogLine(samplesGroup, "samples/one/A", at, line("one", at, 0, get))
	c.w.LogLine(samplesGroup, "samples/one/A", at, line("one", at, 0, get))
	c.w.LogLine(samplesGroup, "samples/one/A", at, line("one", at, 1, post))
	c.w.LogLine(samplesGroup, "samples/one/B", at, line("one", at, 0, get))
	c.w.LogLine(samplesGroup, "samples/two/C", at.Add(10*time.Second), line("two", at.Add(10*time.Second), 0, get))
	c.w.LogLine(samplesGroup, "samples/one/A", at.Add(-10*time.Second), line("one", at.Add(-10*time.Second), 0, get))
	c.w.LogLine(samplesGroup, "samples/one/A", at, "no JSON")
	c.w.LogLine(samplesGroup, "web/one", at, line("one", at, 0, get))
}

// What several instances have counted is added up, each line once, in the span that was asked for.
func TestSamplesAreAddedUp(t *testing.T) {
	c := still(t, awsfake.Options{})
	at := time.Now().Add(-5 * time.Minute).Truncate(10 * time.Second)
	c.writes(t, at)
	e := c.open(t, c.stages[0])
	said := func(from, to time.Time) string {
		t.Helper()
		all, err := e.Samples(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, s := range all {
			text = append(text, fmt.Sprintf("%s %s %s %s %d/%d %d", s.Rollout, s.Service, s.Method, s.Endpoint, s.Requests, s.Errors, s.Latency.Sum()))
			if s.Requests == 10 && s.Latency.Quantile(0.5) != latency.Bound(3) {
				t.Errorf("median %v", s.Latency.Quantile(0.5))
			}
		}
		return strings.Join(text, "; ")
	}
	const one = "one web GET / 10/2 10; one web POST /orders 1/0 0"
	if got := said(at.Add(3*time.Second), at.Add(4*time.Second)); got != one {
		t.Errorf("a part of a slot: %s", got)
	}
	if got := said(at, at.Add(11*time.Second)); got != one+"; two web GET / 5/1 5" {
		t.Errorf("two slots: %s", got)
	}
	if got := said(at.Add(time.Minute), at.Add(2*time.Minute)); got != "" {
		t.Errorf("nothing was counted then: %s", got)
	}
	if f := e.Facts(); f.Sampling != 10*time.Second || f.Lag < f.Sampling+2*time.Second {
		t.Errorf("%+v", f)
	}
}

// A stack without the log group is an old one: what to do is said, and the stage runs all the same.
func TestSamplesOfAnOldStack(t *testing.T) {
	c := still(t, awsfake.Options{})
	delete(c.outputs, "DevLogs")
	c.w.Stack("lotse-shop", c.outputs)
	_, err := c.open(t, c.stages[0]).Samples(t.Context(), time.Now().Add(-time.Minute), time.Now())
	mustSay(t, err, deploy.ErrMissing, "DevLogs", "lotse infra apply")
}

func configured(c sdk.Config) func(context.Context, string) (sdk.Config, error) {
	return func(context.Context, string) (sdk.Config, error) { return c, nil }
}

// A writer makes its stream once, goes on where another has made it, and says what went wrong in words of deploy.
func TestLogWriter(t *testing.T) {
	c := still(t, awsfake.Options{})
	w := &aws.LogWriter{Config: configured(c.account)}
	write := func() error {
		return w.Write(t.Context(), c.w.Region(), samplesGroup, "samples/one/A", time.Now(), []string{`{"rollout":"one"}`})
	}
	c.w.Inject(awsfake.Expired("logs"))
	mustSay(t, write(), deploy.ErrUnavailable, "expired")
	c.w.Heal()
	for range 2 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	w = &aws.LogWriter{Config: configured(c.account)}
	if err := write(); err != nil {
		t.Errorf("a stream that is there: %v", err)
	}
	mustSay(t, w.Write(t.Context(), c.w.Region(), "/lotse/shop/gone", "samples/one/A", time.Now(), []string{"{}"}), deploy.ErrNotFound)
}
