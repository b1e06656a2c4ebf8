package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	keeping "github.com/lotse-eu/lotse/internal/process"
)

// one prints one figure and adds it to the report. target is "" where there is none.
func one(out io.Writer, report *report, f figure, target string) {
	f.Status = statusReal
	report.add(f)
	if target != "" {
		target = " (target " + target + ")"
	}
	value := strconv.FormatFloat(f.Value, 'f', 2, 64)
	if f.Value >= 100 || f.Value == float64(int(f.Value)) {
		value = strconv.FormatFloat(f.Value, 'f', 0, 64)
	}
	fmt.Fprintf(out, "%s, %s: %s %s %s%s   %s\n", f.Case, f.Subject, f.Measure, value, f.Unit, target, f.Status)
}

func millis(d time.Duration) float64 { return micros(d) / 1e3 }

// benchDeploy measures what of a deploy is Lotse's own: neither the pipeline nor the app's start nor a time that the file asks for.
func benchDeploy(ctx context.Context, out io.Writer, report *report) error {
	return inHouse(ctx, func(h *house, repo string) error {
		took := map[string][]float64{}
		for n := range 6 { // the first has nothing before it and is not counted
			if err := h.commit(ctx, repo, h.appFiles(n)); err != nil {
				return err
			}
			r, err := h.deploy(ctx, repo)
			if err != nil {
				return err
			}
			for part, d := range partsOf(r) {
				if n > 0 {
					took[part] = append(took[part], millis(d))
				}
			}
		}
		for _, part := range []string{ownPart, "lease", "entry", "shift", "settle", "between steps", "health beyond the stable window"} {
			f := figure{Bench: "deploy", Case: "2 instances, median of 5", Subject: part, Measure: "time", Unit: "ms", Value: median(took[part])}
			one(out, report, f, map[string]string{ownPart: "under 100"}[part])
		}
		return nil
	})
}

const ownPart = "all but build, start, health and watch"

// partsOf is what a rollout's time went into.
func partsOf(r deploy.Rollout) map[string]time.Duration {
	parts := map[string]time.Duration{ownPart: ownTime(r), "between steps": betweenSteps(r), "health beyond the stable window": tookOf(r, "health") - benchStable}
	for _, name := range []string{"lease", "entry", "shift", "settle"} {
		parts[name] = tookOf(r, name)
	}
	return parts
}

// ownTime is the time of a rollout outside the steps in which others work or a time passes that the file asks for.
func ownTime(r deploy.Rollout) time.Duration {
	own := r.Ended.Sub(r.Began)
	for _, s := range r.Steps {
		if slices.Contains([]string{"build", "start", "health", "watch"}, s.Name) {
			own -= s.Took
		}
	}
	return own
}

// betweenSteps is the time of a rollout outside all steps: the ledger, mostly.
func betweenSteps(r deploy.Rollout) time.Duration {
	between := r.Ended.Sub(r.Began)
	for _, s := range r.Steps {
		between -= s.Took
	}
	return between
}

// tookOf is how long a step of a rollout took; 0 where it was not gone through.
func tookOf(r deploy.Rollout, name string) time.Duration {
	for _, s := range r.Steps {
		if s.Name == name {
			return s.Took
		}
	}
	return 0
}

// benchShifts shifts the traffic again and again under load of every kind. A failed request is an error.
func benchShifts(ctx context.Context, out io.Writer, report *report) error {
	const shifts = 20
	return inHouse(ctx, func(h *house, repo string) error {
		next := func(n int) error {
			if err := h.commit(ctx, repo, h.appFiles(n%2)); err != nil {
				return err
			}
			_, err := h.deploy(ctx, repo)
			return err
		}
		if err := next(0); err != nil {
			return err
		}
		hammer, err := h.hammer(ctx)
		if err != nil {
			return err
		}
		for n := range shifts {
			if err := next(n + 1); err != nil {
				hammer.Stop()
				return err
			}
		}
		said := hammer.Stop()
		name := fmt.Sprintf("%d shifts under load", shifts)
		count := func(measure string, n int, target string) {
			one(out, report, figure{Bench: "shifts", Case: name, Subject: "lotse", Measure: measure, Unit: "requests", Value: float64(n)}, target)
		}
		count("answered or failed", said.Requests, "")
		count("failed", said.Failed, "0")
		count("retried", said.Retried, "")
		one(out, report, figure{Bench: "shifts", Case: name, Subject: "lotse", Measure: "longest time without a good answer", Unit: "ms", Value: millis(said.Gap)}, "")
		if said.Failed > 0 {
			return errors.New(said.Summary())
		}
		return nil
	})
}

// benchMemory reads what the processes of a house take when nothing is asked of them.
func benchMemory(ctx context.Context, out io.Writer, report *report) error {
	return inHouse(ctx, func(h *house, repo string) error {
		if err := h.commit(ctx, repo, h.appFiles(0)); err != nil {
			return err
		}
		if _, err := h.deploy(ctx, repo); err != nil {
			return err
		}
		pids, err := h.pids()
		if err != nil {
			return err
		}
		for _, subject := range []string{"controller", "proxy", "keeper of the proxy", "keeper of an instance"} {
			rss, pss, err := memoryOf(pids[subject])
			if err != nil {
				return fmt.Errorf("%s: %w", subject, err)
			}
			one(out, report, figure{Bench: "memory", Case: "at rest after a deploy", Subject: subject, Measure: "RSS", Unit: "MiB", Value: rss}, "")
			one(out, report, figure{Bench: "memory", Case: "at rest after a deploy", Subject: subject, Measure: "PSS", Unit: "MiB", Value: pss}, "")
		}
		return nil
	})
}

// pids of a house, by what they are.
func (h *house) pids() (map[string]int, error) {
	proxy, err := keeping.Inspect(h.proxy())
	if err != nil {
		return nil, err
	}
	instances := h.instances()
	if len(instances) == 0 {
		return nil, errors.New("there is no instance")
	}
	instance, err := keeping.Inspect(instances[0])
	return map[string]int{"controller": h.controller.cmd.Process.Pid, "proxy": proxy.PID, "keeper of the proxy": proxy.KeeperPID,
		"keeper of an instance": instance.KeeperPID}, err
}

// memoryOf reads the resident and the proportional set size of a process in MiB, from proc_pid_smaps_rollup(5).
func memoryOf(pid int) (rss, pss float64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, 0, err
	}
	sizes := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			kib, _ := strconv.ParseFloat(fields[1], 64) // a number, by the manual
			sizes[fields[0]] = kib / 1024
		}
	}
	if sizes["Rss:"] == 0 || sizes["Pss:"] == 0 {
		return 0, 0, fmt.Errorf("process %d says nothing of its memory", pid)
	}
	return sizes["Rss:"], sizes["Pss:"], nil
}
