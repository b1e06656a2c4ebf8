package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// logbook takes what is told.
type logbook struct {
	mu     sync.Mutex
	broken error
	to     Log
	slots  []time.Time
	lines  []string
}

func (b *logbook) tell(_ context.Context, to Log, at time.Time, lines []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return b.broken
	}
	b.to, b.slots, b.lines = to, append(b.slots, at), append(b.lines, lines...)
	return nil
}

func (b *logbook) breaks(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = err
}

// told are the slots so far, as seconds after begin.
func (b *logbook) told(begin time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, at := range b.slots {
		all = append(all, fmt.Sprint(at.Sub(begin).Seconds()))
	}
	return strings.Join(all, " ")
}

// busy is a proxy that counted one request in every slot but the third.
func busy(begin time.Time) func(from, to time.Time) []proxy.Sample {
	return func(from, to time.Time) []proxy.Sample {
		if to.Sub(from) != proxy.SampleSlot || from.Sub(begin) == 2*proxy.SampleSlot {
			return nil
		}
		return []proxy.Sample{{Release: "r1", Service: "web", Method: "GET", Endpoint: "/", Requests: 1, Latency: latency.Histogram{0, 1}}}
	}
}

// A slot is told when it is over, once, in order; what could not be told is told later; an empty one is not.
func TestSlotsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().Truncate(proxy.SampleSlot)
		book, output := &logbook{}, &buffer{}
		c := &counted{spec: Spec{App: "shop", Stage: "dev", Rollout: "r1"}, read: busy(begin), tell: book.tell, clock: time.Now,
			log: slog.New(slog.NewTextHandler(output, nil)), next: begin}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); c.keep(ctx) }()
		after := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d) //nolint:forbidigo // inside synctest, where this is how time passes
			synctest.Wait()
			mustBe(t, fmt.Sprintf("told after %v", time.Since(begin)), book.told(begin), want)
		}
		after(10500*time.Millisecond, "")
		after(time.Second, "0")
		after(10*time.Second, "0 10")
		after(20*time.Second, "0 10 30")
		book.breaks(errors.New("no network"))
		after(30*time.Second, "0 10 30")
		book.breaks(nil)
		after(10*time.Second, "0 10 30 40 50 60 70")
		mustBe(t, "it is said once", strings.Count(output.String(), "no network"), 1)
		book.breaks(errors.New("no network"))
		time.Sleep(time.Hour) //nolint:forbidigo // as above
		book.breaks(nil)
		cancel()
		<-ended
		c.last(t.Context())
		mustBe(t, "the first slot after an hour", book.slots[7].Sub(begin) > 45*time.Minute, true)
		now := time.Now().Truncate(proxy.SampleSlot)
		mustBe(t, "the last slot", book.slots[len(book.slots)-1].Equal(now), true)
	})
}

// The sums are metrics as CloudWatch has them; many samples are several lines, of which one has the sums.
func TestLinesOfASlot(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	c := &counted{spec: Spec{App: "shop", Stage: "prod", Rollout: "r1"}, next: at}
	slow := make(latency.Histogram, latency.Buckets)
	slow[latency.Bucket(80*time.Millisecond)] = 9
	samples := []proxy.Sample{{Service: "web", Method: "GET", Endpoint: "/orders/{id}", Requests: 10, Errors: 2, Latency: slow}}
	for i := range 2 * partMost {
		samples = append(samples, proxy.Sample{Service: "web", Method: "GET", Endpoint: fmt.Sprintf("/%d", i), Requests: 1})
	}
	lines, err := c.lines(samples)
	if err != nil || len(lines) != 3 {
		t.Fatalf("%d lines: %v", len(lines), err)
	}
	var head map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "requests", head["Requests"], any(210.0))
	mustBe(t, "errors", head["Errors"], any(2.0))
	mustBe(t, "95 of 100 took at most", head["P95"], any(float64(latency.Bound(latency.Bucket(80*time.Millisecond)))/1e6))
	raw, _ := json.Marshal(head["_aws"])
	mustBe(t, "metrics", string(raw), `{"CloudWatchMetrics":[{"Dimensions":[["App","Stage"]],"Metrics":[{"Name":"Requests","Unit":"Count"},`+
		`{"Name":"Errors","Unit":"Count"},{"Name":"P95","Unit":"Milliseconds"}],"Namespace":"Lotse"}],"Timestamp":1795428000000}`)
	for i, line := range lines[1:] {
		if strings.Contains(line, "_aws") || !strings.Contains(line, fmt.Sprintf(`"part":%d`, i+1)) {
			t.Errorf("%.80s", line)
		}
	}
	lines, err = c.lines(samples[len(samples)-1:])
	if err != nil || strings.Contains(lines[0], "P95") {
		t.Errorf("a figure of nothing: %v %v", lines, err)
	}
}

// What clients asked is told by endpoint when the front ends at the latest; what came for one rollout whatever its share is not.
func TestRequestsAreTold(t *testing.T) {
	book := &logbook{}
	spec := specOf(web("good"))
	spec.Samples = &Log{Region: "eu-central-1", Group: "/lotse/shop/dev"}
	s := &ship{t: t, dir: release(t, spec), env: environ(t), out: &buffer{}, errs: &buffer{}, tell: book.tell}
	s.begin()
	s.healthy()
	s.page("/about")
	s.page("/about")
	s.page("/about", reachHeader, "a secret")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	requests := uint64(0)
	for _, line := range book.lines {
		var l struct {
			Rollout string
			Samples []toldSample
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		for _, sample := range l.Samples {
			requests += sample.Requests
			mustBe(t, "endpoint", sample.Method+" "+sample.Endpoint+" of "+sample.Service, "GET /about of web")
		}
		mustBe(t, "rollout", l.Rollout, spec.Rollout)
	}
	mustBe(t, "requests", requests, 2)
	mustBe(t, "group", book.to.Group, "/lotse/shop/dev")
	mustBe(t, "the stream is the rollout's", strings.HasPrefix(book.to.Stream, "samples/"+spec.Rollout+"/"), true)
}
