package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A bench of the example's pipeline takes some minutes on a machine that does nothing else. pipelineLimit ends it; what has been
// measured by then is told.
const pipelineLimit = 10 * time.Minute

// exampleFiles are the example app as it is in the repository, but released as its front end alone, which needs no database. Its
// pipeline is whole. round changes every command, so that nothing of another round is taken for it.
func exampleFiles(ctx context.Context, round int) (map[string]string, error) {
	module, err := said(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/lotse-eu/lotse")
	if err != nil {
		return nil, err
	}
	example := filepath.Join(strings.TrimSpace(module), "examples", "whatsgonow")
	names, err := said(ctx, example, "git", "ls-files", "-z")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(example, name))
		if err != nil {
			return nil, err
		}
		files[name] = string(text)
	}
	files["lotse.yaml"], err = exampleOf(files["lotse.yaml"], round)
	return files, err
}

func exampleOf(file string, round int) (string, error) {
	steps := regexp.MustCompile(`(?ms)^pipeline:\n.*?^$`).FindString(file)
	run := regexp.MustCompile(`(run: )(?:"([^"]*)"|([^,]+)),`)
	if !run.MatchString(steps) {
		return "", errors.New("the example's lotse.yaml is not as the bench knows it")
	}
	steps = run.ReplaceAllString(steps, fmt.Sprintf(`run: "${2}${3} && true %d",`, round))
	return "app: whatsgonow\n" + steps + "services: { site: { static: web/dist, fallback: index.html } }\n" +
		`stages: { dev: { url: "https://` + benchHost + `", access: open, stable: 50ms, watch: 0s, drain: 1s } }` + "\n", nil
}

// idle gives every step of the example a command that makes what the step is to make, and nothing that is another's.
func idle(file string) string {
	run, makes := regexp.MustCompile(`run: "[^"]*"`), regexp.MustCompile(`makes: \[([^\]]*)\]`)
	var idle strings.Builder
	for line := range strings.Lines(file) {
		command := "true"
		if made := makes.FindStringSubmatch(line); made != nil {
			file := made[1]
			if path.Dir(file) == "." {
				file += "/index.html"
			}
			command = "mkdir -p " + path.Dir(file) + " && touch " + file
		}
		idle.WriteString(run.ReplaceAllString(line, `run: "`+command+`"`))
	}
	return idle.String()
}

// deployExample deploys a round of the example and returns how long its build took.
func (h *house) deployExample(ctx context.Context, repo string, round int, change func(file string) string) (time.Duration, error) {
	files, err := exampleFiles(ctx, round)
	if err != nil {
		return 0, err
	}
	files["lotse.yaml"] = change(files["lotse.yaml"])
	if err := h.commit(ctx, repo, files); err != nil {
		return 0, err
	}
	r, err := h.deploy(ctx, repo)
	return tookOf(r, "build"), err
}

func asItIs(file string) string { return file }

// benchUnchanged deploys the example, and then commits in which nothing changes: once with steps that do nothing, which a busy machine
// has time for too, and once with its own.
func benchUnchanged(ctx context.Context, out io.Writer, report *report) error {
	ctx, cancel := context.WithTimeout(ctx, pipelineLimit)
	defer cancel()
	return inHouse(ctx, func(h *house, repo string) error {
		if err := h.unchanged(ctx, repo, "the six steps and the sources of examples/whatsgonow, idle commands", idle, out, report); err != nil {
			return err
		}
		const of = "examples/whatsgonow as it is"
		if err := h.unchanged(ctx, repo, of, asItIs, out, report); err != nil {
			notRun(out, report, figure{Bench: "unchanged", Case: of, Subject: "build"}, errors.Join(ctx.Err(), err))
		}
		return nil
	})
}

func (h *house) unchanged(ctx context.Context, repo, name string, change func(string) string, out io.Writer, report *report) error {
	first, err := h.deployExample(ctx, repo, 0, change)
	if err != nil {
		return err
	}
	var took []float64
	for range 5 {
		if err := h.commit(ctx, repo, nil); err != nil {
			return err
		}
		r, err := h.deploy(ctx, repo)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.Pipeline, func(e deploy.StepEvidence) bool { return e.State != deploy.StepCached }) || len(r.Pipeline) == 0 {
			return fmt.Errorf("steps were run again: %+v", r.Pipeline)
		}
		took = append(took, tookOf(r, "build").Seconds())
	}
	one(out, report, figure{Bench: "unchanged", Case: name, Subject: "build after an empty commit, median of 5", Measure: "time", Unit: "s", Value: median(took)}, "under 0.5")
	one(out, report, figure{Bench: "unchanged", Case: name, Subject: "the first build, with empty caches", Measure: "time", Unit: "s", Value: first.Seconds()}, "")
	return nil
}

// benchPipeline runs the example's pipeline in turns with the same commands by hand, after a round of each that warms the caches of
// npm and Go, which both share.
func benchPipeline(ctx context.Context, out io.Writer, report *report) error {
	ctx, cancel := context.WithTimeout(ctx, pipelineLimit)
	defer cancel()
	const of = "the whole pipeline of examples/whatsgonow"
	var lotse []float64
	hand := make([][]float64, len(byHandScripts))
	err := inHouse(ctx, func(h *house, repo string) error {
		for round := range 1 + 3 {
			ours, err := h.deployExample(ctx, repo, round, asItIs)
			if err != nil {
				return err
			}
			if round > 0 {
				lotse = append(lotse, ours.Seconds())
			}
			for i, way := range byHandScripts {
				theirs, err := h.byHand(ctx, repo, way.script)
				if err != nil {
					return err
				}
				if round > 0 {
					hand[i] = append(hand[i], theirs.Seconds())
				}
			}
		}
		return nil
	})
	if len(lotse) == 0 {
		notRun(out, report, figure{Bench: "pipeline", Case: of, Subject: "lotse"}, errors.Join(ctx.Err(), err))
		return nil
	}
	name := fmt.Sprintf("%s, median of %d", of, len(lotse))
	one(out, report, figure{Bench: "pipeline", Case: name, Subject: "lotse", Measure: "time", Unit: "s", Value: median(lotse)}, "")
	for i, way := range byHandScripts {
		if len(hand[i]) == 0 {
			continue
		}
		by := figure{Bench: "pipeline", Case: name, Subject: "by hand, " + way.name, Measure: "time", Unit: "s", Value: median(hand[i]), Ratio: ratio(median(lotse), median(hand[i]))}
		one(out, report, by, "")
		fmt.Fprintf(out, "lotse ÷ by hand, %s: %.2f (target at most 1.05)\n", way.name, by.Ratio)
	}
	return nil
}

// byHandScripts are what somebody would type who knows which of the commands need which.
var byHandScripts = []struct{ name, script string }{
	{"everything as soon as it can", `set -e
( go vet ./... && go test ./... && go build -o bin/api ./cmd/api ) & api=$!
( cd web
  npm ci
  npm run lint & lint=$!
  npx tsc --noEmit & types=$!
  npm test & test=$!
  npm run build & site=$!
  wait $lint; wait $types; wait $test; wait $site ) & web=$!
wait $api; wait $web
`},
	{"two at a time", `set -e
( go vet ./... && go test ./... && go build -o bin/api ./cmd/api ) & api=$!
( cd web && npm ci )
wait $api
cd web
npm run lint & lint=$!
npx tsc --noEmit & types=$!
wait $lint; wait $types
npm test & test=$!
npm run build & site=$!
wait $test; wait $site
`},
}

// byHand checks the commit out afresh and runs the commands as the user and with the home folder that Lotse's steps have.
func (h *house) byHand(ctx context.Context, repo, script string) (time.Duration, error) {
	dir, home := filepath.Join(h.dir, "hand"), filepath.Join(h.state, "pipeline", "home")
	info, err := os.Stat(home)
	if err != nil {
		return 0, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := said(ctx, h.dir, "git", "clone", "-q", repo, dir); err != nil {
		return 0, err
	}
	if _, err := said(ctx, h.dir, "chown", "-R", fmt.Sprintf("%d:%d", owner.Uid, owner.Gid), dir); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir, cmd.Env = dir, byHandEnv(home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	text, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("by hand: %w\n%s", err, text)
	}
	return time.Since(began), nil
}

// byHandEnv is the environment of Lotse's steps where it matters for speed.
func byHandEnv(home string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains([]string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOBIN", "TMPDIR", "npm_config_cache"}, name) {
			env = append(env, v)
		}
	}
	return append(env, "HOME="+home, "LANG=C.UTF-8", "TZ=UTC", "CI=true", "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false"))
}

// notRun adds a figure that could not be measured, and says why.
func notRun(out io.Writer, report *report, f figure, why error) {
	f.Status, f.Reason = statusNotRun, why.Error()
	report.add(f)
	fmt.Fprintf(out, "%s: %s %s: %s\n", f.Case, f.Subject, f.Status, f.Reason)
}
