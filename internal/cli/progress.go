package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// progress is what was heard of a rollout so far, as rows for people. It knows nothing of terminals.
type progress struct {
	rollout deploy.Rollout
	lines   map[string]string    // the latest output of each step of the pipeline
	since   map[string]time.Time // when a step of the pipeline was first seen running: the ledger has only how long it took
	lost    bool
}

func newProgress() *progress {
	return &progress{lines: map[string]string{}, since: map[string]time.Time{}}
}

func (p *progress) take(u api.Update, now time.Time) {
	switch {
	case u.Connection != "":
		p.lost = u.Connection == api.Lost
	case u.Output != nil:
		if line := cleanLine(u.Output.Line); line != "" {
			p.lines[u.Output.Step] = line
		}
	case u.Rollout != nil:
		p.rollout = *u.Rollout
		for _, e := range p.rollout.Pipeline {
			if _, seen := p.since[e.Name]; !seen && e.State == deploy.StepRunning {
				p.since[e.Name] = now
			}
		}
	}
}

func (p *progress) known() bool { return p.rollout.ID != "" }

// title names the rollout.
func (p *progress) title() string {
	return fmt.Sprintf("%s: rollout %s of commit %s", cleanLine(p.rollout.Stage.String()), p.rollout.ID, commit(p.rollout.Commit))
}

// stand is where a row stands.
type stand string

const (
	waiting stand = "waiting"
	running stand = "running"
	done    stand = "done"
	cached  stand = "cached"
	missed  stand = "missed"
	skipped stand = "skipped"
	undone  stand = "undone"
)

// row is a step of the rollout, or below it one of the pipeline.
type row struct {
	key   string // unique: build, build/test
	name  string
	depth int
	stand stand
	took  time.Duration // 0: not known
	note  string        // evidence, or why
	line  string        // the latest output while it runs
}

// rows are the road of the rollout: what was done, what is being done, and what is to come while something is.
func (p *progress) rows(now time.Time) []row {
	var all []row
	for _, name := range deploy.StepNames() {
		r := p.step(name, now)
		if r.stand == waiting && p.rollout.Outcome != deploy.Going {
			continue // it will not come to that
		}
		all = append(all, r)
		if name == "build" {
			all = append(all, p.pipeline(now)...)
		}
	}
	return all
}

func (p *progress) step(name string, now time.Time) row {
	r := row{key: name, name: name, stand: waiting}
	i := lastStep(p.rollout.Steps, name)
	if i < 0 {
		return r
	}
	s, turned := p.rollout.Steps[i], p.rollout.Turned
	r.took, r.note = s.Took, evidence(s.Evidence)
	switch {
	case turned != nil && turned.Step == name && !s.Ended:
		r.stand = missed
		if s.Undone {
			r.note = "undone"
		}
	case s.Undone:
		r.stand = undone
	case s.Ended, p.rollout.Outcome.Ended():
		r.stand = done // one without an end found that nothing had to be changed
	default:
		r.stand, r.took = running, max(0, now.Sub(s.Began))
	}
	return r
}

// lastStep finds how a step went last: a rollout that was taken up after a crash has begun it twice.
func lastStep(steps []deploy.Step, name string) int {
	for i, s := range slices.Backward(steps) {
		if s.Name == name {
			return i
		}
	}
	return -1
}

func (p *progress) pipeline(now time.Time) []row {
	var all []row
	for _, e := range p.rollout.Pipeline {
		name := cleanLine(e.Name)
		r := row{key: "build/" + name, name: name, depth: 1, took: e.Duration}
		switch e.State {
		case deploy.StepRunning:
			r.stand, r.took, r.line = running, max(0, now.Sub(p.since[e.Name])), p.lines[e.Name]
			if p.rollout.Outcome != deploy.Going {
				r.stand, r.took = skipped, 0 // its end was never written down
			}
		case deploy.StepDone:
			r.stand = done
		case deploy.StepCached:
			r.stand, r.took = cached, 0
		case deploy.StepFailed:
			r.stand, r.note = missed, exitCode(e.Exit)
		case deploy.StepSkipped:
			r.stand = skipped
		default:
			r.stand = waiting
		}
		all = append(all, r)
	}
	return all
}

func exitCode(code int) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprintf("exit code %d", code)
}

func evidence(all []deploy.Evidence) string {
	var said []string
	for _, e := range all {
		said = append(said, cleanLine(e.Probe+": "+e.Figure))
	}
	return strings.Join(said, "; ")
}

// heading is what is being done now, for a table.
func heading(r deploy.Rollout) string {
	if r.Outcome == deploy.GoingBack {
		return r.ID + ": going back"
	}
	if len(r.Steps) == 0 {
		return r.ID + ": asked for"
	}
	return r.ID + ": " + r.Steps[len(r.Steps)-1].Name
}
