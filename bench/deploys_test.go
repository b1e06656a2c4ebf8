package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestOwnTimeIsWhatOthersDoNotTake(t *testing.T) {
	began := time.Unix(1000, 0)
	r := deploy.Rollout{Began: began, Ended: began.Add(10 * time.Second), Steps: []deploy.Step{
		{Name: "build", Took: time.Second}, {Name: "lease", Took: 100 * time.Millisecond}, {Name: "start", Took: 2 * time.Second},
		{Name: "health", Took: 3 * time.Second}, {Name: "shift", Took: 200 * time.Millisecond}, {Name: "watch", Took: 3 * time.Second}}}
	if own := ownTime(r); own != time.Second {
		t.Errorf("own time %v, want 1s", own)
	}
	if between := betweenSteps(r); between != 700*time.Millisecond {
		t.Errorf("between steps %v, want 700ms", between)
	}
	if got := tookOf(r, "health"); got != 3*time.Second || tookOf(r, "settle") != 0 {
		t.Errorf("health took %v", got)
	}
}

// The bench's form of the example keeps every step, each with another command, and is a file that Lotse takes.
func TestTheExampleAsItIsBenched(t *testing.T) {
	file, err := os.ReadFile("../examples/whatsgonow/lotse.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := config.Read("lotse.yaml", file)
	if err != nil {
		t.Fatal(err)
	}
	benched, err := exampleOf(string(file), 7)
	if err != nil {
		t.Fatal(err)
	}
	app, err := config.Read("lotse.yaml", []byte(benched))
	if err != nil {
		t.Fatalf("%v in\n%s", err, benched)
	}
	if len(app.Pipeline) != len(whole.Pipeline) {
		t.Errorf("%d steps, want %d", len(app.Pipeline), len(whole.Pipeline))
	}
	for i, step := range whole.Pipeline {
		if got := app.Pipeline[i]; got.Run != step.Run+" && true 7" || got.In != step.In || len(got.Needs) != len(step.Needs) {
			t.Errorf("step %s is %+v", step.Name, got)
		}
	}
	quiet, err := config.Read("lotse.yaml", []byte(idle(benched)))
	if err != nil || len(quiet.Pipeline) != len(whole.Pipeline) || strings.Contains(idle(benched), "npm") {
		t.Errorf("idle: %v in\n%s", err, idle(benched))
	}
	if _, err := exampleOf("app: x\n", 0); err == nil {
		t.Error("a file without a pipeline is no error")
	}
}

func TestMemoryOfAProcess(t *testing.T) {
	rss, pss, err := memoryOf(os.Getpid())
	if err != nil || pss <= 0 || pss > rss || rss < 1 || rss > 4096 {
		t.Errorf("RSS %v MiB, PSS %v MiB, %v", rss, pss, err)
	}
	if _, _, err := memoryOf(1 << 30); err == nil {
		t.Error("a process that is not there has a size")
	}
}

// A house deploys the bench's app, and nothing is left of it.
func TestAHouseDeploysAndIsClosed(t *testing.T) {
	var out bytes.Buffer
	report := newReport(t.Context(), time.Now())
	dir := ""
	err := inHouse(t.Context(), func(h *house, repo string) error {
		dir = h.dir
		if err := h.commit(t.Context(), repo, h.appFiles(1)); err != nil {
			return err
		}
		r, err := h.deploy(t.Context(), repo)
		if err != nil || r.Outcome != deploy.Settled || ownTime(r) <= 0 || ownTime(r) > r.Ended.Sub(r.Began) {
			t.Errorf("own time %v, %+v", ownTime(r), r)
		}
		hammer, err := h.hammer(t.Context())
		if err != nil {
			return err
		}
		if said := hammer.Stop(); said.Failed > 0 || said.Requests < 50 {
			t.Error(said.Summary())
		}
		if took, err := h.byHand(t.Context(), repo, `test -e lotse.yaml && test -w "$HOME" && touch made`); err != nil || took <= 0 {
			t.Errorf("by hand: %v, %v", took, err)
		}
		if _, err := h.byHand(t.Context(), repo, "exit 3"); err == nil {
			t.Error("a failing script is no error")
		}
		pids, err := h.pids()
		for subject, pid := range pids {
			if pid == 0 {
				t.Errorf("the %s has no process", subject)
			}
		}
		one(&out, report, figure{Bench: "deploy", Value: 1}, "2")
		notRun(&out, report, figure{Bench: "deploy"}, errors.New("why"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Join(dir, "s"))); err == nil {
		t.Error("the folder is left")
	}
	if f := report.Figures; len(f) != 2 || f[0].Status != statusReal || f[1].Status != statusNotRun || f[1].Reason != "why" {
		t.Errorf("figures %+v\n%s", f, out.String())
	}
}
