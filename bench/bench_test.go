package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the children that the bench starts from itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childArgument {
		os.Exit(exitCode(child(os.Args[2], os.Stdin, os.Stdout)))
	}
	os.Exit(m.Run())
}

func TestMedianAndQuantile(t *testing.T) {
	for want, values := range map[float64][]float64{0: nil, 7: {7}, 2: {3, 1, 2}, 2.5: {4, 1, 2, 3}} {
		if got := median(values); got != want {
			t.Errorf("median(%v) = %v, want %v", values, got, want)
		}
	}
	var sorted []time.Duration
	for i := range 100 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0.5: 50, 0.99: 99, 1: 100, 0.001: 1} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile(%v) = %d, want %d", q, got, want)
		}
	}
}

// The time of a grandchild counts: nginx works in children of the process that was started.
func TestCPUOfTheWholeTree(t *testing.T) {
	// The busy one ends with its parent, which is asked by its trap.
	p, err := start("sh", "-c", `sh -c 'while :; do :; done' & trap "kill $!" TERM; wait`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	err = until(t.Context(), func() error {
		used, err := p.cpu()
		if err == nil && used < 5*clockTick {
			return context.DeadlineExceeded
		}
		return err
	})
	if err != nil {
		t.Errorf("a busy grandchild does not count: %v", err)
	}
	if own, err := cpuOfTree(os.Getpid()); err != nil || own == 0 {
		t.Errorf("our own tree: %v, %v", own, err)
	}
	if _, err := cpuOfTree(1 << 30); err == nil {
		t.Error("a process that is not there has a CPU time")
	}
}

func TestVolleyAsksAsOftenAsItSays(t *testing.T) {
	asked := make(chan struct{}, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		_, _ = w.Write([]byte("four"))
	}))
	defer server.Close()
	v := volley{client: server.Client(), url: server.URL, size: 4, protocol: 1, requests: 100, clients: 7, limit: time.Minute}
	o, err := v.fire(t.Context())
	if err != nil || o.requests != 100 || len(asked) != 100 || o.p50 == 0 || o.p99 < o.p50 {
		t.Errorf("outcome %+v of %d requests, %v", o, len(asked), err)
	}
	for name, wrong := range map[string]func(*volley){
		"a short answer":   func(v *volley) { v.size = 5 },
		"another protocol": func(v *volley) { v.protocol = 2 },
		"an error answer":  func(v *volley) { v.client = server.Client(); v.url += "/%zz" },
	} {
		bad := v
		wrong(&bad)
		if _, err := bad.fire(t.Context()); err == nil {
			t.Errorf("%s is not an error", name)
		}
	}
}

// Every subject that is installed answers every question, and one that is not is NOT RUN; with few requests.
func TestEverySubjectAnswersEveryQuestion(t *testing.T) {
	stand, err := setUp(t.Context())
	if stand != nil {
		defer func() {
			if err := stand.tearDown(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(stand.dir); err == nil {
				t.Error("the folder is left")
			}
		}()
	}
	if err != nil {
		t.Fatal(err)
	}
	stand.subjects = append(stand.subjects, &subject{name: "absent", missing: "not installed"})
	var out bytes.Buffer
	report := newReport(t.Context(), time.Now())
	for _, q := range questions() {
		q.requests = 50
		if err := stand.compare(t.Context(), q, &out, report); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	measured, notRun := map[string]int{}, map[string]int{}
	for _, f := range report.Figures {
		switch {
		case f.Status == statusReal && f.Reason == "":
			measured[f.Subject]++
		case f.Status == statusNotRun && f.Reason != "" && f.Value == 0:
			notRun[f.Subject]++
		default:
			t.Errorf("a figure is neither: %+v", f)
		}
	}
	if want := len(questions()) * len(measures); measured["lotse"] != want || measured["bare Go"] != want {
		t.Errorf("%d figures of lotse, %d of the bare proxy, want %d", measured["lotse"], measured["bare Go"], want)
	}
	if notRun["absent"] != len(questions()) || !strings.Contains(out.String(), "absent NOT RUN: not installed") {
		t.Errorf("what is not installed is not said: %v\n%s", notRun, out.String())
	}
	path := filepath.Join(t.TempDir(), "results.json")
	if err := report.write(path); err != nil {
		t.Error(err)
	}
}

func TestUnknownBenchesAreNotRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, "^nothing$", filepath.Join(t.TempDir(), "r.json")); err != nil || strings.Contains(out.String(), "took") {
		t.Errorf("run = %v:\n%s", err, out.String())
	}
}
