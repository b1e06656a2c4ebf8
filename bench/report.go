package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what bench/results.json holds.
type report struct {
	At      time.Time `json:"at"`
	Machine machine   `json:"machine"`
	Figures []figure  `json:"figures"`
}

// figure is one measured value. A figure that was NOT RUN has a reason and no value.
type figure struct {
	Bench   string  `json:"bench"`
	Case    string  `json:"case"`
	Subject string  `json:"subject"`           // what was measured
	Measure string  `json:"measure,omitempty"` // "cpu", "p99", …
	Unit    string  `json:"unit,omitempty"`
	Value   float64 `json:"value"`
	Ratio   float64 `json:"ratio,omitempty"` // Lotse's value divided by this one
	Status  string  `json:"status"`
	Reason  string  `json:"reason,omitempty"`
}

const (
	statusReal   = "real"
	statusNotRun = "NOT RUN"
)

// machine says where the figures come from. It names no host.
type machine struct {
	Cores    int               `json:"cores"`
	CPU      string            `json:"cpu"`
	Memory   string            `json:"memory"`
	Kernel   string            `json:"kernel"`
	Load     string            `json:"load"` // of the last minute before the run: other work makes figures worse
	Versions map[string]string `json:"versions"`
}

func newReport(ctx context.Context, now time.Time) *report {
	return &report{At: now.UTC(), Machine: facts(ctx)}
}

func facts(ctx context.Context) machine {
	load, _, _ := strings.Cut(firstLine("/proc/loadavg", ""), " ")
	m := machine{
		Cores:    runtime.NumCPU(),
		CPU:      strings.TrimLeft(firstLine("/proc/cpuinfo", "model name"), " \t:"),
		Memory:   strings.TrimLeft(firstLine("/proc/meminfo", "MemTotal"), " \t:"),
		Kernel:   firstLine("/proc/sys/kernel/osrelease", ""),
		Load:     load,
		Versions: map[string]string{"go": runtime.Version()},
	}
	for name, argv := range map[string][]string{"nginx": {"nginx", "-v"}, "haproxy": {"haproxy", "-v"}} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err == nil {
			first, _, _ := strings.Cut(string(out), "\n")
			m.Versions[name] = strings.Fields(strings.NewReplacer("nginx version: nginx/", "", "HAProxy version ", "").Replace(first))[0]
		}
	}
	return m
}

// firstLine returns what follows prefix on the first line that has it, or "unknown".
func firstLine(path, prefix string) string {
	text, _ := os.ReadFile(path) // Linux alone has these
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			return rest
		}
	}
	return "unknown"
}

func (m machine) String() string {
	versions := make([]string, 0, len(m.Versions))
	for name, v := range m.Versions {
		versions = append(versions, name+" "+v)
	}
	slices.Sort(versions)
	return fmt.Sprintf("machine: %d cores (%s), %s, Linux %s, load %s; %s", m.Cores, m.CPU, m.Memory, m.Kernel, m.Load, strings.Join(versions, ", "))
}

func (r *report) add(f figure) { r.Figures = append(r.Figures, f) }

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// median of an even number of values is the mean of the middle two; of none it is zero.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// quantile of sorted values by the nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}
