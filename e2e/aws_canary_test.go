package e2e_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A canary on AWS, which is a FAKE, that answers one endpoint worse is found by what the fronts count into CloudWatch Logs, and undone by
// itself: the endpoint, how much and after how many requests are said, the old release has everything again and nothing of the new one is
// left. One that is as good settles.
func TestCanaryIsJudgedOnAWS(t *testing.T) {
	provesOnly(t, "a canary that is judged on the fake of AWS")
	t.Parallel()
	c := newCloud(t)
	file := func(command string) string {
		return `app: road
pipeline:
  app: { run: mkdir -p bin && cp ` + c.bin.app + ` bin/app, makes: [bin/app] }
services:
  web: { command: bin/app ` + command + `, path: /, health: /health, instances: 2, files: [release.txt] }
stages:
  dev: { engine: aws, url: https://dev.road.example, access: open, strategy: canary, canary: [30% for 60s], watch: 1s, stable: 1s, warm: 1s, drain: 5s }
aws: { zone: road.example }
`
	}
	repo := c.begin("road", map[string]string{"lotse.yaml": file("errors=1"), "release.txt": "0\n"})
	c.must(repo, "deploy")
	first := c.releaseOn("dev")
	plan := c.plan(host)
	plan.URL, plan.Dial, plan.TLS = "https://"+hostIn("road", "dev"), c.world.Dialer(), c.world.TLS()
	plan.Paths, plan.Gets, plan.Pause = []string{"/about", "/get?word=hello"}, 8, 10*time.Millisecond
	h := c.loaded(plan)
	for _, trial := range []struct{ mode, says string }{{"errors=1", ""}, {"errors=6", "web: GET /about: errors "}, {"slower=200ms", "web: GET /about: p95 "}} {
		c.commit(repo, map[string]string{"lotse.yaml": file(trial.mode), "release.txt": trial.mode})
		begun := time.Now()
		r := c.lotse(repo, "deploy", "--json")
		last := c.newest()
		t.Logf("%s: %s after %s\n%s", trial.mode, last.Outcome, time.Since(begun).Round(time.Second), told(last))
		if trial.says == "" {
			if r.code != 0 || last.Outcome != deploy.Settled {
				t.Fatalf("%s is %s with exit code %d: %+v", trial.mode, last.Outcome, r.code, last.Turned)
			}
			first = c.releaseOn("dev")
			continue
		}
		if r.code != 1 || last.Outcome != deploy.Reverted || last.Turned.Code != "regression" || last.Bad == "" {
			t.Fatalf("%s is %s with exit code %d: %+v\n%s", trial.mode, last.Outcome, r.code, last.Turned, r.err)
		}
		if !strings.Contains(last.Turned.Why, trial.says) || !strings.Contains(last.Turned.Why, "% of the traffic") {
			t.Errorf("%s: the reason is %s", trial.mode, last.Turned.Why)
		}
		if n := requestsIn(told(last)); n < 50 {
			t.Errorf("%s: the evidence says %d requests\n%s", trial.mode, n, told(last))
		}
		if now := c.releaseOn("dev"); now != first {
			t.Errorf("%s: %s is served, want %s", trial.mode, now, first)
		}
		c.only(c.serving("dev"))
	}
	report := h.Stop()
	t.Logf("%s; releases served: %v", report.Summary(), report.Served)
	for _, f := range report.Failures {
		if !strings.HasPrefix(f.Example, "500") && !strings.Contains(f.Cause, "500") { // those are what is planted
			t.Errorf("%d× %s: %s, e.g. %s", f.Count, f.Kind, f.Cause, f.Example)
		}
	}
}

// requestsIn is the largest number of requests that a text names.
func requestsIn(text string) (most int) {
	for _, found := range regexp.MustCompile(`(\d+) requests`).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(found[1])
		most = max(most, n)
	}
	return most
}
