package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// conclude says how a rollout ended: in words when it is good, else as the error of the command.
func (s *session) conclude(ctx context.Context, c *api.Client, r deploy.Rollout) error {
	if r.Outcome == deploy.Settled || r.Outcome == deploy.Unchanged {
		if !s.json {
			s.good(r)
		}
		return nil
	}
	return missedOf(r, serves(ctx, c, r))
}

func (s *session) good(r deploy.Rollout) {
	stage := cleanLine(r.Stage.String())
	if r.Outcome == deploy.Unchanged {
		s.say("%s serves release %s already; nothing was changed", stage, release(r.Release))
		s.say("  %s", cleanLine(r.URL))
		s.say("  → `%s --again` does it all the same", command(r))
		return
	}
	s.say("%s serves release %s after %s", stage, release(r.Release), took(r.Ended.Sub(r.Began)))
	s.say("  %s", cleanLine(r.URL))
	if r.Before != "" && r.Warm > 0 && lastStep(r.Steps, "clear") < 0 {
		s.say("  the release before stays warm for %s", span(r.Warm))
	}
}

// command is what somebody types for a rollout like this one.
func command(r deploy.Rollout) string {
	if r.Verb.Moves() {
		return "lotse " + string(r.Verb) + " " + cleanLine(r.Stage.Stage)
	}
	return "lotse deploy"
}

// tailLines is how much of a failed step's output is shown. `lotse show` has what was kept.
const tailLines = 20

// missedOf makes the error of a rollout that went back: which step, why, what it said last, and what the stage serves now.
func missedOf(r deploy.Rollout, serving string) *failure {
	f := &failure{Code: "internal", Rollout: r.ID, exit: exitMissed}
	if r.Turned == nil {
		f.Message = fmt.Sprintf("rollout %s ended without saying why\n  %s", r.ID, serving)
		return f
	}
	f.Code, f.Hint, f.Step = r.Turned.Code, r.Turned.Hint, r.Turned.Step
	said := []string{fmt.Sprintf("rollout %s went back at %s", r.ID, f.Step)}
	i := slices.IndexFunc(r.Pipeline, func(e deploy.StepEvidence) bool { return e.State == deploy.StepFailed })
	switch {
	case r.Turned.Aborted:
		said = []string{fmt.Sprintf("rollout %s was aborted at %s; what it did is undone", r.ID, f.Step)}
	case f.Step == "build" && i >= 0:
		said = pipelineMiss(r.Pipeline[i])
		f.Step = "build/" + r.Pipeline[i].Name
	default:
		first, rest := clauses(r.Turned.Why)
		said[0] += ": " + first
		said = append(said, lastLines(strings.Split(rest, "\n"))...)
	}
	if stays := migrated(r); stays != "" {
		said = append(said, "  the migrations stay: "+stays)
	}
	f.Message = strings.TrimRight(strings.Join(append(said, "  "+serving), "\n"), " \n")
	return f
}

// migrated says which migrations a rollout has run, which nothing undoes; "" for none.
func migrated(r deploy.Rollout) string {
	i := lastStep(r.Steps, "migrate")
	if i < 0 || !r.Steps[i].Ended || len(r.Steps[i].Evidence) == 0 || strings.HasPrefix(r.Steps[i].Evidence[0].Figure, "0 new") {
		return ""
	}
	return cleanLine(r.Steps[i].Evidence[0].Figure)
}

func pipelineMiss(e deploy.StepEvidence) []string {
	how := []string{}
	if e.Duration > 0 {
		how = append(how, "after "+took(e.Duration))
	}
	if e.Exit > 0 {
		how = append(how, howEnded(e))
	}
	head := strings.TrimRight(fmt.Sprintf("the pipeline failed in step %s %s", e.Name, strings.Join(how, ", ")), " ")
	said := []string{head}
	switch {
	case e.Exit < 0 && e.Cause != "": // it is known
		said[0] += ": " + e.Cause
	case e.Cause != "":
		said = append(said, indented("  ", "likely cause: "+e.Cause))
	}
	if len(e.Tail) > 0 {
		said = append(said, "  its last output:")
		for _, line := range lastLines(e.Tail) {
			said = append(said, "    "+line)
		}
	}
	return append(said, "  nothing was released")
}

func lastLines(lines []string) []string {
	lines = lines[max(0, len(lines)-tailLines):]
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.TrimSpace(l) == "" })
}

// askAfter is how long the question what a stage serves may take, once everything else is known.
const askAfter = 5 * time.Second

// serves says what the stage of a rollout serves after it, or nothing where that cannot be found out.
func serves(ctx context.Context, c *api.Client, r deploy.Rollout) string {
	ctx, cancel := context.WithTimeout(ctx, askAfter)
	defer cancel()
	all, err := c.Status(ctx)
	i := slices.IndexFunc(all, func(s deploy.StageStatus) bool { return s.Stage == r.Stage })
	if err != nil || i < 0 || all[i].Note != "" {
		return ""
	}
	if all[i].Serves == nil {
		return r.Stage.String() + " serves nothing yet"
	}
	word := "still serves"
	for _, name := range []string{"shift", "clear"} {
		if s := lastStep(r.Steps, name); s >= 0 && r.Steps[s].Undone {
			word = "serves again"
		}
	}
	return fmt.Sprintf("%s %s release %s (commit %s)", r.Stage, word, all[i].Serves.Release.Short(), commit(all[i].Serves.Commit))
}
