package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Kinds of events about the data of a stage. They have no rollout; each names its job.
const (
	KindDataBegun        = "data.begun" // a job: a snapshot, a drill, or a restore
	KindDataStep         = "data.step"  // of a restore, before it begins
	KindDataTurned       = "data.turned"
	KindDataEnded        = "data.ended"
	KindSnapshotTaken    = "snapshot.taken"
	KindSnapshotFailed   = "snapshot.failed"
	KindSnapshotMissed   = "snapshot.missed" // its time passed without one
	KindSnapshotProven   = "snapshot.proven"
	KindSnapshotUnproven = "snapshot.unproven"
	KindSnapshotPruned   = "snapshot.pruned"
	KindRestored         = "restored"
	KindRestoreFailed    = "restore.failed"
	KindDataForgotten    = "data.forgotten" // what a restore had kept
)

// DataVerb is what a job does.
type DataVerb string

// The verbs of jobs.
const (
	Snapshotting DataVerb = "snapshot"
	Drilling     DataVerb = "drill"
	Restoring    DataVerb = "restore"
	Copying      DataVerb = "copy" // of another stage's data, people masked
)

// DataJob is what the ledger knows of one job about the data of a stage: a fold over its events.
type DataJob struct {
	ID       string         `json:"id"`
	Verb     DataVerb       `json:"verb"`
	Stage    StageRef       `json:"stage"`
	Why      SnapshotReason `json:"why,omitempty"`
	Snapshot string         `json:"snapshot,omitempty"` // that is proven, restored, or was taken
	From     string         `json:"from,omitempty"`     // stage whose data is copied
	Masked   *MaskReport    `json:"masked,omitempty"`   // of a copy
	Reason   string         `json:"reason,omitempty"`
	Actor    string         `json:"actor,omitempty"` // opaque id; empty: nobody, it was time
	Began    time.Time      `json:"began"`
	Ended    time.Time      `json:"ended,omitzero"`
	Over     bool           `json:"over"` // nothing more will happen
	Steps    []DataStep     `json:"steps,omitempty"`
	Turned   *Turned        `json:"turned,omitempty"` // why a restore went back
	Taken    *Snapshot      `json:"taken,omitempty"`
	Proof    *Proof         `json:"proof,omitempty"`
	Pruned   []string       `json:"pruned,omitempty"` // ids
	Kept     string         `json:"kept,omitempty"`   // id under which a restore kept what was there
	Says     string         `json:"says,omitempty"`   // how it went, where it went well
	Failed   string         `json:"failed,omitempty"` // why not; empty: it did not fail
	Hint     string         `json:"hint,omitempty"`
	Code     string         `json:"code,omitempty"`
}

// DataStep is one step of a restore.
type DataStep struct {
	Name  string    `json:"name"`
	Began time.Time `json:"began"`
}

// dataEvent is the data of all events about data.
type dataEvent struct {
	Job      string         `json:"job,omitempty"`
	Verb     DataVerb       `json:"verb,omitempty"`
	Why      SnapshotReason `json:"why,omitempty"`
	Snapshot string         `json:"snapshot,omitempty"`
	From     string         `json:"from,omitempty"`
	Masked   *MaskReport    `json:"masked,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Rollout  string         `json:"rollout,omitempty"` // of a snapshot that a rollout has taken
	Step     string         `json:"step,omitempty"`
	Taken    *Snapshot      `json:"taken,omitempty"`
	Proof    *Proof         `json:"proof,omitempty"`
	Pruned   []string       `json:"pruned,omitempty"`
	Kept     string         `json:"kept,omitempty"`
	Says     string         `json:"says,omitempty"`
	Failed   string         `json:"failed,omitempty"`
	Hint     string         `json:"hint,omitempty"`
	Code     string         `json:"code,omitempty"`
	Again    bool           `json:"again,omitempty"` // the same failure was told before
	Due      time.Time      `json:"due,omitzero"`    // when one that is missed was to be taken
}

func failedData(err error) dataEvent {
	return dataEvent{Failed: err.Error(), Hint: HintOf(err), Code: CodeOf(err)}
}

// fold takes one more event into the job.
func (j *DataJob) fold(e Event, d dataEvent) {
	switch e.Kind {
	case KindDataBegun:
		*j = DataJob{ID: d.Job, Verb: d.Verb, Stage: StageRef{e.App, e.Stage}, Why: d.Why, Snapshot: d.Snapshot, From: d.From, Reason: d.Reason, Actor: e.Actor, Began: e.At}
	case KindDataStep:
		j.Steps = append(j.Steps, DataStep{d.Step, e.At})
	case KindDataTurned:
		j.Turned = &Turned{Step: d.Step, Why: d.Failed, Hint: d.Hint, Code: d.Code}
	case KindSnapshotTaken:
		j.Taken, j.Snapshot = d.Taken, d.Taken.ID
	case KindSnapshotProven, KindSnapshotUnproven:
		j.Proof = d.Proof
	case KindSnapshotPruned:
		j.Pruned = d.Pruned
	case KindRestored:
		j.Kept, j.Says, j.Masked = d.Kept, d.Says, d.Masked
	}
	if d.Failed != "" {
		j.Failed, j.Hint, j.Code = d.Failed, d.Hint, d.Code
	}
	if e.Kind == KindDataEnded {
		j.Over, j.Ended = true, e.At
	}
}

// foldData makes jobs of events, in the order in which they began.
func foldData(events []Event) (jobs []DataJob, err error) {
	at := map[string]int{}
	for _, e := range events {
		d, err := dataOfEvent(e)
		if err != nil {
			return nil, err
		}
		if e.Kind == KindDataBegun {
			at[d.Job] = len(jobs)
			jobs = append(jobs, DataJob{})
		}
		if i, known := at[d.Job]; known {
			jobs[i].fold(e, d)
		}
	}
	return jobs, nil
}

func dataOfEvent(e Event) (d dataEvent, err error) {
	if err = json.Unmarshal(e.Data, &d); err == nil && e.Kind == KindSnapshotTaken && d.Taken == nil {
		err = fmt.Errorf("%w: it names no snapshot", ErrDamaged)
	}
	if err != nil {
		err = fmt.Errorf("event %d (%s): %w", e.Seq, e.Kind, err)
	}
	return d, err
}

// dataKinds are the events of which jobs are made, and of which the state of a stage's data is known.
func dataKinds() []string {
	return []string{KindDataBegun, KindDataStep, KindDataTurned, KindDataEnded, KindSnapshotTaken, KindSnapshotFailed, KindSnapshotMissed,
		KindSnapshotProven, KindSnapshotUnproven, KindSnapshotPruned, KindRestored, KindRestoreFailed, KindDataForgotten}
}

func (c *Controller) dataEvents(ctx context.Context, ref StageRef) ([]Event, error) {
	return c.Ledger.Events(ctx, EventQuery{App: ref.App, Stage: ref.Stage, Kinds: dataKinds()})
}

// DataJob returns a job. ErrNotFound when there is none of this id.
func (c *Controller) DataJob(ctx context.Context, id string) (DataJob, error) {
	events, err := c.dataEvents(ctx, StageRef{})
	if err != nil {
		return DataJob{}, err
	}
	jobs, err := foldData(events)
	if err != nil {
		return DataJob{}, err
	}
	i := slices.IndexFunc(jobs, func(j DataJob) bool { return j.ID == id })
	if i < 0 {
		return DataJob{}, fmt.Errorf("%w: no job %q", ErrNotFound, id)
	}
	return jobs[i], nil
}

// FollowData calls yield with what is known of a job and then with every change, until the job is over (nil), yield returns an error, or
// ctx ends.
func (c *Controller) FollowData(ctx context.Context, id string, yield func(DataJob) error) error {
	told := ""
	for seen := int64(0); ; {
		newest, err := c.Ledger.Wait(ctx, seen)
		if err != nil {
			return err
		}
		seen = newest
		job, err := c.DataJob(ctx, id)
		if err != nil {
			return err
		}
		if now := string(data(job)); now != told {
			told = now
			if err := yield(job); err != nil {
				return err
			}
		}
		if job.Over {
			return nil
		}
	}
}

// DataAlarm is what people are told at once about the data of a stage.
type DataAlarm struct {
	What string // a sentence without its stage: a snapshot failed
	Why  string
	Hint string
	Code string
}

// DataAlarms are the kinds of events that may be one.
func DataAlarms() []string {
	return []string{KindSnapshotFailed, KindSnapshotMissed, KindSnapshotUnproven, KindRestoreFailed}
}

// DataAlarmOf is the alarm of an event, and whether it is one: what fails again as it did before is told once.
func DataAlarmOf(e Event) (a DataAlarm, alarms bool) {
	what, alarms := map[string]string{KindSnapshotFailed: "a snapshot failed", KindSnapshotMissed: "a snapshot was missed",
		KindSnapshotUnproven: "a snapshot could not be proven", KindRestoreFailed: "a restore went back"}[e.Kind]
	d, err := dataOfEvent(e)
	if !alarms || err != nil || d.Again {
		return a, false
	}
	return DataAlarm{what, d.Failed, d.Hint, d.Code}, true
}
