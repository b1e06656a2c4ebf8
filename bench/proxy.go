package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// question is one kind of request that all subjects are asked.
type question struct {
	name     string
	path     string
	size     int64
	protocol int
	requests int // of one volley
	static   bool
}

func questions() []question {
	var all []question
	for _, protocol := range []int{1, 2} {
		all = append(all,
			question{"100 B", "/bytes/100", 100, protocol, 4000, false},
			question{"64 KiB", "/bytes/65536", 64 << 10, protocol, 1500, false},
			question{"file of 20 KiB", "/static/app.js", staticSize, protocol, 3000, true})
	}
	return all
}

func (q question) String() string {
	return map[int]string{1: "HTTP/1.1", 2: "HTTP/2"}[q.protocol] + ", " + q.name
}

const (
	clients     = 16              // at once
	rounds      = 3               // A B C D, A B C D, …: the moods of the machine meet all alike; the figures are medians
	warmUp      = 200             // requests before the first round
	volleyLimit = 3 * time.Second // 3 rounds of it are the longest that one subject is asked one question
)

// sample is what one volley showed.
type sample struct{ cpu, rate, p50, p99 float64 } // µs per request, requests per second, µs, µs

// measures in the order of the table.
var measures = []struct {
	name, unit string
	of         func(sample) float64
}{
	{"cpu", "µs/request", func(s sample) float64 { return s.cpu }},
	{"throughput", "requests/s", func(s sample) float64 { return s.rate }},
	{"p50", "µs", func(s sample) float64 { return s.p50 }},
	{"p99", "µs", func(s sample) float64 { return s.p99 }},
}

func benchProxy(ctx context.Context, out io.Writer, report *report) (err error) {
	stand, err := setUp(ctx)
	if stand != nil {
		defer func() { err = errors.Join(err, stand.tearDown()) }()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d clients, TLS, kept connections, medians of %d interleaved rounds; client and upstream share the cores.\n"+
		"Lotse and nginx write an access log, Lotse counts as well; HAProxy and the bare proxy do neither.\n", clients, rounds)
	for _, q := range questions() {
		if err := stand.compare(ctx, q, out, report); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// compare asks all subjects one question, in turns.
func (s *stand) compare(ctx context.Context, q question, out io.Writer, report *report) error {
	samples := map[string][]sample{}
	volleys := map[string]volley{}
	for _, subject := range s.subjects {
		if reason := subject.cannot(q); reason != "" {
			continue
		}
		v := volley{client: newClient(subject.address, s.roots, q.protocol, clients), url: "https://" + host + q.path, size: q.size,
			protocol: q.protocol, requests: q.requests, clients: clients, limit: volleyLimit}
		defer v.client.CloseIdleConnections()
		warm := v
		warm.requests = warmUp
		if _, err := warm.fire(ctx); err != nil {
			return fmt.Errorf("%s: %w", subject.name, err)
		}
		volleys[subject.name] = v
	}
	for range rounds {
		for _, subject := range s.subjects {
			v, asked := volleys[subject.name]
			if !asked {
				continue
			}
			one, err := subject.sample(ctx, v)
			if err != nil {
				return fmt.Errorf("%s: %w", subject.name, err)
			}
			samples[subject.name] = append(samples[subject.name], one)
		}
	}
	s.tell(q, samples, out, report)
	return nil
}

// cannot says why a question is not put to the subject, or "".
func (s *subject) cannot(q question) string {
	if s.missing == "" && q.static && !s.static {
		return "it serves no files"
	}
	return s.missing
}

func (s *subject) sample(ctx context.Context, v volley) (sample, error) {
	before, err := s.process.cpu()
	if err != nil {
		return sample{}, err
	}
	o, err := v.fire(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := s.process.cpu()
	if err != nil {
		return sample{}, err
	}
	n := float64(o.requests)
	return sample{micros(after-before) / n, n / o.took.Seconds(), micros(o.p50), micros(o.p99)}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// tell prints one table and adds its figures to the report. "÷" is Lotse's figure divided by that of the row.
func (s *stand) tell(q question, samples map[string][]sample, out io.Writer, report *report) {
	fmt.Fprintf(out, "\n%s\n", q)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tCPU µs/request\t÷\trequests/s\t÷\tp50 µs\t÷\tp99 µs\t÷\t")
	ours := medians(samples["lotse"])
	var notes strings.Builder
	for _, subject := range s.subjects {
		if reason := subject.cannot(q); reason != "" {
			report.add(figure{Bench: "proxy", Case: q.String(), Subject: subject.name, Status: statusNotRun, Reason: reason})
			fmt.Fprintf(&notes, "   %s %s: %s\n", subject.name, statusNotRun, reason)
			continue
		}
		fmt.Fprint(table, subject.name, "\t")
		for i, value := range medians(samples[subject.name]) {
			f := figure{Bench: "proxy", Case: q.String(), Subject: subject.name, Measure: measures[i].name, Unit: measures[i].unit,
				Value: value, Ratio: ratio(ours[i], value), Status: statusReal}
			report.add(f)
			fmt.Fprintf(table, "%.0f\t%.2f\t", f.Value, f.Ratio)
		}
		fmt.Fprintln(table, "  "+statusReal)
	}
	_ = table.Flush() // to a terminal
	fmt.Fprint(out, notes.String())
}

// medians of the samples, in the order of measures.
func medians(samples []sample) []float64 {
	var all []float64
	for _, m := range measures {
		values := make([]float64, len(samples))
		for i, one := range samples {
			values[i] = m.of(one)
		}
		all = append(all, median(values))
	}
	return all
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
