package deploy

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kinds of events. Those of a rollout are drawn in the package's comment.
const (
	KindRequested = "requested"     // a rollout was asked for
	KindPipeline  = "pipeline.step" // a step of the pipeline changed its state
	KindRelease   = "release.made"
	KindBegun     = "step.begun"
	KindEnded     = "step.ended"
	KindBefore    = "before" // who has the traffic at the time of the shift
	KindTurned    = "turned"
	KindUndone    = "step.undone"
	KindStuck     = "step.stuck" // undoing it failed, and is tried again
	KindSettled   = "settled"
	KindReverted  = "reverted"
	KindUnchanged = "unchanged"
	KindStopped   = "stopped" // a warm release was stopped
	KindJobBegun  = "job.begun"
	KindJobEnded  = "job.ended"
)

// Outcome is how a rollout ended, or that it has not.
type Outcome string

// The outcomes of a rollout.
const (
	Going     Outcome = "going"
	GoingBack Outcome = "going back"
	Settled   Outcome = "settled"
	Reverted  Outcome = "reverted"  // it missed, and what it did is undone
	Unchanged Outcome = "unchanged" // the stage served the release already
	Over      Outcome = "over"      // it settled, and the stage was ended later
)

// Ended reports whether nothing more will happen.
func (o Outcome) Ended() bool { return o == Settled || o == Reverted || o == Unchanged || o == Over }

// Rollout is what the ledger knows of one rollout: a fold over its events.
type Rollout struct {
	ID         string         `json:"id"`
	Stage      StageRef       `json:"stage"`
	Verb       Verb           `json:"verb"`
	From       string         `json:"from,omitempty"` // rollout whose release it is, unless it made one
	Commit     string         `json:"commit"`
	Place      string         `json:"place"` // opaque id of the folder that it came from
	Actor      string         `json:"actor"` // opaque id
	Again      bool           `json:"again,omitempty"`
	Trigger    Trigger        `json:"trigger,omitempty"`
	Tag        string         `json:"tag,omitempty"`     // that began it
	Origin     string         `json:"origin,omitempty"`  // opaque id of the repository that its commit was pushed to, where a push started it
	Watches    *Watch         `json:"watches,omitempty"` // where its lotse.yaml looks for pushes
	Version    string         `json:"version,omitempty"` // of the settings
	URL        string         `json:"url"`
	Hosts      []string       `json:"hosts,omitempty"`
	Road       []Stop         `json:"road,omitempty"` // the stages of the app, as this rollout knew them
	Warm       time.Duration  `json:"warm"`           // how long the release before stays up
	Drain      time.Duration  `json:"drain"`          // how long what is in flight in it may take then
	Began      time.Time      `json:"began"`
	Ended      time.Time      `json:"ended,omitzero"`
	Outcome    Outcome        `json:"outcome"`
	Release    Digest         `json:"release,omitempty"`
	Before     string         `json:"before,omitempty"` // rollout whose instances had the traffic
	Runs       string         `json:"runs,omitempty"`   // rollout whose instances it has taken over; empty: it has its own
	Pipeline   []StepEvidence `json:"pipeline,omitempty"`
	Steps      []Step         `json:"steps,omitempty"`
	Turned     *Turned        `json:"turned,omitempty"`
	Rules      []Evidence     `json:"rules,omitempty"`            // what the stage's rules said when it was asked for
	Override   string         `json:"override,omitempty"`         // the reason for which a freeze or a window was passed
	Unsaved    string         `json:"without_snapshot,omitempty"` // the reason for which it migrates without a snapshot before
	Allowed    []string       `json:"allow_migration,omitempty"`  // what of its migrations was let in
	AllowedWhy string         `json:"allow_reason,omitempty"`     // the reason for that
	CommitAt   time.Time      `json:"commit_at,omitzero"`         // when the commit was made
	Values     ValueNames     `json:"variables,omitzero"`         // the variables that it was given
	Versions   ValueVersions  `json:"versions,omitzero"`          // of those that the vault keeps
	Canary     []Baked        `json:"canary,omitempty"`           // the shares that the release has had
	Bad        string         `json:"bad,omitempty"`              // why its release was marked as bad

	Waiting    []string `json:"waiting,omitempty"`     // migrations of its release that wait until nothing runs that cannot stand them
	WaitFailed string   `json:"wait_failed,omitempty"` // why they have not run when they could
	Contracted []string `json:"contracted,omitempty"`  // migrations that ran and that releases without them cannot stand
	Contracts  []string `json:"contracts,omitempty"`   // of the same kind, run with the release: all that runs knows them
}

// Step is one row of the table as it went.
type Step struct {
	Name     string        `json:"name"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took,omitempty"` // 0 while it goes on
	Ended    bool          `json:"ended"`
	Undone   bool          `json:"undone,omitempty"`
	Stuck    string        `json:"stuck,omitempty"` // why it is not undone yet
	Evidence []Evidence    `json:"evidence,omitempty"`
}

// Evidence is the answer of a probe, with its figure.
type Evidence struct {
	Probe  string `json:"probe"`
	Figure string `json:"figure"`
	File   string `json:"file,omitempty"` // a folder with more of it, relative to the state folder; pruned with old rollouts
}

// Turned is why a rollout went back.
type Turned struct {
	Step    string `json:"step"`
	Why     string `json:"why"`
	Hint    string `json:"hint,omitempty"`
	Code    string `json:"code"`
	Aborted bool   `json:"aborted,omitempty"`

	Evidence []Evidence `json:"evidence,omitempty"` // of the step that missed
}

// Stop is one stage on the road of an app.
type Stop struct {
	Stage string `json:"stage"`
	URL   string `json:"url"`
}

type requestedData struct {
	Verb    Verb    `json:"verb"`
	From    string  `json:"from,omitempty"`
	Release Digest  `json:"release,omitempty"`
	Commit  string  `json:"commit"`
	Place   string  `json:"place"`
	Again   bool    `json:"again,omitempty"`
	Trigger Trigger `json:"trigger,omitempty"`
	Tag     string  `json:"tag,omitempty"`
	Origin  string  `json:"origin,omitempty"`
	Watches *Watch  `json:"watches,omitempty"`
	Version string  `json:"version,omitempty"`

	Rules      []Evidence `json:"rules,omitempty"`
	Override   string     `json:"override,omitempty"`
	Unsaved    string     `json:"without_snapshot,omitempty"`
	Allowed    []string   `json:"allow_migration,omitempty"`
	AllowedWhy string     `json:"allow_reason,omitempty"`
	CommitAt   time.Time  `json:"commit_at,omitzero"`
	Values     ValueNames `json:"variables,omitzero"`

	Versions ValueVersions `json:"versions,omitzero"`

	URL   string        `json:"url"`
	Hosts []string      `json:"hosts,omitempty"`
	Road  []Stop        `json:"road,omitempty"`
	Warm  time.Duration `json:"warm"`
	Drain time.Duration `json:"drain"`
}

type stepData struct {
	Step     string        `json:"step"`
	Took     time.Duration `json:"took,omitempty"`
	Evidence []Evidence    `json:"evidence,omitempty"`
	Why      string        `json:"why,omitempty"` // of a step that is stuck
}

type releaseData struct {
	Steps []StepEvidence `json:"steps"`
}

type settledData struct {
	Before string `json:"before,omitempty"`
}

// fold takes one more event into the rollout.
func (r *Rollout) fold(e Event) error {
	var err error
	switch e.Kind {
	case KindRequested:
		var d requestedData
		err = json.Unmarshal(e.Data, &d)
		*r = Rollout{ID: e.Rollout, Stage: StageRef{e.App, e.Stage}, Actor: e.Actor, Began: e.At, Outcome: Going,
			Verb: d.Verb, From: d.From, Release: d.Release, Commit: d.Commit, Place: d.Place, Again: d.Again, Version: d.Version,
			Trigger: d.Trigger, Tag: d.Tag, Origin: d.Origin, Watches: d.Watches,
			Rules: d.Rules, Override: d.Override, Unsaved: d.Unsaved, Allowed: d.Allowed, AllowedWhy: d.AllowedWhy, CommitAt: d.CommitAt, Values: d.Values, Versions: d.Versions,
			URL: d.URL, Hosts: d.Hosts, Road: d.Road, Warm: d.Warm, Drain: d.Drain}
	case KindPipeline:
		var d StepEvidence
		err = json.Unmarshal(e.Data, &d)
		r.foldPipeline(d)
	case KindRelease:
		r.Release = e.Release
	case KindBegun, KindEnded, KindUndone, KindStuck:
		var d stepData
		err = json.Unmarshal(e.Data, &d)
		r.foldStep(e, d)
	case KindBefore:
		var d settledData
		err = json.Unmarshal(e.Data, &d)
		r.Before = d.Before
	case KindRuns:
		var d runsData
		err = json.Unmarshal(e.Data, &d)
		r.Runs = d.Runs
	case KindCanary:
		var d canaryData
		err = json.Unmarshal(e.Data, &d)
		r.foldCanary(e, d)
	case KindBad:
		var d badData
		err = json.Unmarshal(e.Data, &d)
		r.Bad = d.Why
	case KindWaiting, KindContracted:
		var d waitingData
		err = json.Unmarshal(e.Data, &d)
		r.foldMigrations(e.Kind, d)
	case KindTurned:
		r.Turned, r.Outcome = &Turned{}, GoingBack
		err = json.Unmarshal(e.Data, r.Turned)
	case KindSettled:
		r.Outcome, r.Ended = Settled, e.At
		if last := len(r.Steps) - 1; last >= 0 { // the last step ends with the rollout
			r.Steps[last].Ended, r.Steps[last].Took = true, e.At.Sub(r.Steps[last].Began)
		}
	case KindReverted:
		r.Outcome, r.Ended = Reverted, e.At
	case KindUnchanged:
		r.Outcome, r.Ended = Unchanged, e.At
	}
	if err != nil {
		return fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
	}
	return nil
}

func (r *Rollout) foldPipeline(d StepEvidence) {
	for i := range r.Pipeline {
		if r.Pipeline[i].Name == d.Name {
			r.Pipeline[i] = d
			return
		}
	}
	r.Pipeline = append(r.Pipeline, d)
}

func (r *Rollout) foldStep(e Event, d stepData) {
	if e.Kind == KindBegun {
		r.Steps = append(r.Steps, Step{Name: d.Step, Began: e.At})
		return
	}
	for i := len(r.Steps) - 1; i >= 0; i-- {
		s := &r.Steps[i]
		if s.Name != d.Step {
			continue
		}
		switch e.Kind {
		case KindUndone:
			s.Undone, s.Stuck = true, ""
		case KindStuck:
			s.Stuck = d.Why
		default:
			s.Ended, s.Took, s.Evidence = true, d.Took, d.Evidence
		}
		return
	}
}

// fold makes rollouts of events, in the order in which they were asked for.
func fold(events []Event) ([]Rollout, error) {
	var order []string
	byID := map[string]*Rollout{}
	for _, e := range events {
		if e.Kind == KindStageEnded {
			endStage(byID, e)
		}
		if e.Rollout == "" {
			continue
		}
		r := byID[e.Rollout]
		if r == nil {
			r = &Rollout{ID: e.Rollout}
			byID[e.Rollout] = r
			order = append(order, e.Rollout)
		}
		if err := r.fold(e); err != nil {
			return nil, err
		}
	}
	rollouts := make([]Rollout, len(order))
	for i, id := range order {
		rollouts[i] = *byID[id]
	}
	return rollouts, nil
}
