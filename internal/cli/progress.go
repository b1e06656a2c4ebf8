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
	of := "of commit " + commit(p.rollout.Commit)
	if p.rollout.Verb.Moves() {
		of = fmt.Sprintf("(%s) of release %s, commit %s", p.rollout.Verb, release(p.rollout.Release), commit(p.rollout.Commit))
	}
	return fmt.Sprintf("%s: rollout %s %s", cleanLine(p.rollout.Stage.String()), p.rollout.ID, of)
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
	stuck   stand = "not undone yet"
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
		if r.stand == waiting && (p.rollout.Outcome != deploy.Going || p.passed(name)) {
			continue // it will not come to that, or was passed over
		}
		all = append(all, r)
		if name == "build" {
			all = append(all, p.pipeline(now)...)
		}
		if name == "shift" {
			all = append(all, p.canary(now)...)
		}
	}
	return all
}

// passed reports whether a later step was begun.
func (p *progress) passed(name string) bool {
	road := deploy.StepNames()
	for _, later := range road[slices.Index(road, name)+1:] {
		if lastStep(p.rollout.Steps, later) >= 0 {
			return true
		}
	}
	return false
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
	case s.Stuck != "":
		r.stand, r.note = stuck, "trying again: "+cleanLine(s.Stuck)
	case turned != nil && turned.Step == name && !s.Ended:
		r.stand, r.note = missed, evidence(turned.Evidence)
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

// canary are the shares that the release has had.
func (p *progress) canary(now time.Time) (all []row) {
	for _, b := range p.rollout.Canary {
		name := fmt.Sprintf("%d%%", b.Share)
		r := row{key: "shift/" + name, name: name, depth: 1, stand: done, took: b.Took, note: evidence(b.Evidence)}
		switch {
		case !b.Ended && p.rollout.Outcome == deploy.Going:
			r.stand, r.took = running, max(0, now.Sub(b.Began))
		case !b.Ended:
			r.stand = missed
		}
		all = append(all, r)
	}
	return all
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
			r.stand, r.note = done, cleanLine(e.Cause)
		case deploy.StepCached:
			r.stand, r.took, r.note = cached, 0, cleanLine(e.Cause)
		case deploy.StepFailed:
			r.stand, r.note = missed, howEnded(e)
		case deploy.StepSkipped:
			r.stand = skipped
		default:
			r.stand = waiting
		}
		all = append(all, r)
	}
	return all
}

// howEnded is the exit code of a step, or in words what ended it.
func howEnded(e deploy.StepEvidence) string {
	switch {
	case e.Exit == 0:
		return ""
	case e.Exit < 0: // it has none
		first, _ := clauses(e.Cause)
		return cleanLine(first)
	}
	return fmt.Sprintf("exit code %d", e.Exit)
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
	step := r.Steps[len(r.Steps)-1].Name
	if last := len(r.Canary) - 1; step == "shift" && last >= 0 {
		step += fmt.Sprintf(" with %d %%", r.Canary[last].Share)
	}
	return r.ID + ": " + step
}
