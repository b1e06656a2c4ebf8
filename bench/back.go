package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// benchBack measures what somebody waits for in a hurry: the shift, the way back, and a controller that comes back to life. The way back is
// measured from the request until the shift is done; while the release before is warm, that is to start nothing.
func benchBack(ctx context.Context, out io.Writer, report *report) error {
	return inHouse(ctx, func(h *house, repo string) error {
		took := map[string][]float64{}
		for _, step := range []func(context.Context, *house, string, map[string][]float64) error{warmBack, coldBack, resume} {
			for range 5 {
				if err := step(ctx, h, repo, took); err != nil {
					return err
				}
			}
		}
		for _, f := range []struct{ subject, target string }{
			{"shift of a deploy", ""}, {warm + served, "under 200"},
			{cold + served, ""}, {resumed, ""},
		} {
			one(out, report, figure{Bench: "back", Case: "2 instances, median of 5", Subject: f.subject, Measure: "time", Unit: "ms", Value: median(took[f.subject])}, f.target)
		}
		return nil
	})
}

const (
	warm    = "rollback to a warm release"
	cold    = "rollback to a cold release"
	served  = ", from the request until it serves"
	resumed = "from the start of a controller after kill -9 until its rollout goes on"
)

// next deploys another release, with other times than the usual ones.
func (h *house) next(ctx context.Context, repo string, times string) (deploy.Rollout, error) {
	if err := h.commit(ctx, repo, h.filesWith(times)); err != nil {
		return deploy.Rollout{}, err
	}
	return h.deploy(ctx, repo)
}

// filesWith are those of a release that was never there.
func (h *house) filesWith(times string) map[string]string {
	h.releases++
	files := h.appFiles(h.releases)
	files["lotse.yaml"] = strings.Replace(files["lotse.yaml"], "warm: 1s", times, 1)
	return files
}

func warmBack(ctx context.Context, h *house, repo string, took map[string][]float64) error {
	for range 2 {
		r, err := h.next(ctx, repo, "warm: 5m")
		if err != nil {
			return err
		}
		took["shift of a deploy"] = append(took["shift of a deploy"], millis(tookOf(r, "shift")))
	}
	r, err := h.rollback(ctx, repo)
	if err == nil && r.Runs == "" {
		err = errors.New("the release before was warm, and was started anew")
	}
	return errors.Join(err, untilItServes(r, warm, took))
}

func coldBack(ctx context.Context, h *house, repo string, took map[string][]float64) error {
	for range 2 {
		if _, err := h.next(ctx, repo, "warm: 0s"); err != nil {
			return err
		}
	}
	err := until(ctx, func() error {
		if n := len(h.instances()); n != 2 {
			return fmt.Errorf("%d instances", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r, err := h.rollback(ctx, repo)
	return errors.Join(err, untilItServes(r, cold, took))
}

// untilItServes adds the time from the request to the end of the shift.
func untilItServes(r deploy.Rollout, what string, took map[string][]float64) error {
	for _, s := range r.Steps {
		if s.Name == "shift" {
			what += served
			took[what] = append(took[what], millis(s.Began.Add(s.Took).Sub(r.Began)))
			return nil
		}
	}
	return errors.New("the rollout has no shift")
}

func (h *house) rollback(ctx context.Context, repo string) (deploy.Rollout, error) {
	id, err := h.lotse(ctx, repo, "rollback", "dev", "--detach")
	if err != nil {
		return deploy.Rollout{}, err
	}
	return h.rollout(ctx, repo, id)
}

// resume kills the controller while a release is to be healthy for a time, and starts another.
func resume(ctx context.Context, h *house, repo string, took map[string][]float64) error {
	files := h.filesWith("warm: 0s")
	files["lotse.yaml"] = strings.Replace(files["lotse.yaml"], "stable: "+benchStable.String(), "stable: 2s", 1)
	if err := h.commit(ctx, repo, files); err != nil {
		return err
	}
	id, err := h.lotse(ctx, repo, "deploy", "--detach")
	if err != nil {
		return err
	}
	if err := until(ctx, func() error { return h.isAt(ctx, repo, id, "health") }); err != nil {
		return err
	}
	if err := h.controller.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = h.controller.stop() // it was killed, and says so
	began := time.Now()
	if err := h.run(ctx); err != nil {
		return err
	}
	r, err := h.rollout(ctx, repo, id)
	if err != nil {
		return err
	}
	for _, s := range r.Steps {
		if s.Name == "health" && s.Began.After(began) {
			took[resumed] = append(took[resumed], millis(s.Began.Sub(began)))
			return nil
		}
	}
	return fmt.Errorf("the rollout did not go on: it is %s", r.Outcome)
}

func (h *house) isAt(ctx context.Context, repo, id, step string) error {
	text, err := h.lotse(ctx, repo, "show", id, "--json")
	if err != nil {
		return err
	}
	var r deploy.Rollout
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	if n := len(r.Steps); n == 0 || r.Steps[n-1].Name != step {
		return fmt.Errorf("the rollout is not at %s", step)
	}
	return nil
}
