package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// What Lotse does with the data of a stage beside its rollouts: snapshots, drills, restores. Each is a job in the ledger. One at a time works
// on the data of a stage, on whichever controller: it holds a lease of its own, under which rollouts go on. A restore holds the
// stage's lease too.

// longestSnapshot is the most that copying, proving or filling may take.
const longestSnapshot = 12 * time.Hour

// DataRequest asks for a job.
type DataRequest struct {
	App    string `json:"app,omitempty"` // empty: the only one
	Stage  string `json:"stage"`
	ID     string `json:"id,omitempty"`     // of a snapshot; a drill without one takes the newest
	To     string `json:"to,omitempty"`     // restore: another stage; empty: the snapshot's own
	From   string `json:"from,omitempty"`   // copy: the stage whose data Stage is to have
	Reason string `json:"reason,omitempty"` // for the history
	By     Person `json:"by,omitzero"`
}

// holdings is what it takes to work with the data of a stage.
type holdings struct {
	*walk  // of what the stage serves
	keeper Snapshots
}

// holdingsOf finds them for what a stage serves now.
func (c *Controller) holdingsOf(ctx context.Context, serves Rollout) (*holdings, error) {
	w := c.newWalk(serves.ID)
	w.Rollout = serves
	if err := c.reequip(ctx, w); err != nil {
		return nil, err
	}
	keeper, err := w.keeper()
	if err != nil {
		return nil, err
	}
	return &holdings{w, keeper}, nil
}

// platforms is what the platform of the stage keeps of its snapshots, where it takes them itself.
func (w *walk) platforms() (own Snapshots, takes bool) {
	if platform, ok := w.c.opened(w.Stage).(TakesSnapshots); ok {
		return platform.Snapshots(w.stage.Database)
	}
	return nil, false
}

// keeper is what keeps the snapshots of the stage: its platform, or Lotse. ErrUnsupported where nothing does.
func (w *walk) keeper() (Snapshots, error) {
	if own, takes := w.platforms(); takes {
		return own, nil
	}
	if w.c.Snapshots == nil {
		return nil, fmt.Errorf("%w: this controller keeps no snapshots", ErrUnsupported)
	}
	return w.c.Snapshots(w.app.Name, w.stage)
}

// data is where the data of the stage is.
func (w *walk) data(ctx context.Context) (d Data, err error) {
	d = Data{Database: w.app.Name}
	if w.stage.Database.Own() || w.stage.Database.URL != "" {
		if d.URL, err = w.databaseURL(); err != nil {
			return d, err
		}
	}
	if beside, ok := w.c.opened(w.Stage).(Beside); ok && len(w.app.Volumes) > 0 {
		d.Volumes, err = beside.Volumes(ctx, w.app.Volumes)
	}
	if err == nil && d.URL.Empty() && len(d.Volumes) == 0 {
		err = Hint(fmt.Errorf("%w: %s has neither a database that Lotse knows of nor volumes", ErrRefused, w.Stage), "database: in lotse.yaml names it")
	}
	return d, err
}

// served finds what a stage serves, of the app that is meant.
func (c *Controller) served(ctx context.Context, app, stage string) (Rollout, error) {
	rollouts, err := c.rolloutsOf(ctx, Move{App: app, Stage: stage})
	if err != nil {
		return Rollout{}, err
	}
	if now, ok := lastSettled(rollouts, stage); ok {
		return now, nil
	}
	return Rollout{}, c.servesNothing(ctx, rollouts, stage)
}

// dataJob is a job on its way.
type dataJob struct {
	*holdings
	c     *Controller
	id    string
	verb  DataVerb
	actor string
	lease Lease // of the stage's data
}

// dataLease is what the lease of a stage's data is held of. No stage is called so.
func dataLease(ref StageRef) StageRef { return StageRef{ref.App, ref.Stage + "/data"} }

// newJob takes the lease of the data. ErrBusy while another job works on it.
func (c *Controller) newJob(ctx context.Context, h *holdings, verb DataVerb, id string, by Person) (*dataJob, error) {
	j := &dataJob{holdings: h, c: c, id: id, verb: verb}
	var err error
	if by != (Person{}) {
		if j.actor, err = c.Ledger.Person(ctx, by.Name, by.Mail); err != nil {
			return nil, err
		}
	}
	if verb != Drilling {
		if err := c.setDrillAside(ctx, h.Stage); err != nil {
			return nil, err
		}
	}
	j.lease, err = c.Ledger.Acquire(ctx, dataLease(h.Stage), c.owner(id), leaseTTL, c.gone)
	if errors.Is(err, ErrBusy) {
		return nil, Hint(fmt.Errorf("%w: a snapshot, a drill or a restore of %s is on its way", ErrBusy, h.Stage), "`lotse db status` shows it; wait for its end")
	}
	return j, err
}

// begin writes the job's first event, and does it beside whatever goes on.
func (j *dataJob) begin(ctx context.Context, d dataEvent, do func(context.Context) error) error {
	d.Verb = j.verb
	if err := j.note(ctx, KindDataBegun, d); err != nil {
		j.giveBack()
		return err
	}
	j.goOn(do)
	return nil
}

// goOn does the job in a goroutine of its own. At the end of the controller it stays as it is, for the next one.
func (j *dataJob) goOn(do func(context.Context) error) {
	ctx, cancel := context.WithCancelCause(j.c.base)
	ended := j.c.drills(j, cancel)
	joined := j.c.crew.Go(func() {
		defer ended()
		defer cancel(nil)
		stop := j.renew(ctx, cancel)
		err := do(ctx)
		stop()
		defer j.c.lookAtData()
		if j.c.base.Err() != nil {
			return
		}
		if err != nil {
			j.c.Log.Warn("a job about data failed", "verb", j.verb, "stage", j.Stage.String(), "error", err, "hint", HintOf(err))
		}
		last := dataEvent{}
		if cause := context.Cause(ctx); cause != nil {
			last = failedData(cause)
		}
		if err := j.note(j.c.base, KindDataEnded, last); err != nil {
			j.c.Log.Error("the end of a job could not be recorded", "verb", j.verb, "stage", j.Stage.String(), "error", err)
		}
		j.giveBack()
	})
	if !joined {
		ended()
		j.giveBack()
	}
}

// drilling is a drill that goes on, and can wait.
type drilling struct {
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

// drills remembers a drill until it has ended.
func (c *Controller) drills(j *dataJob, cancel context.CancelCauseFunc) (ended func()) {
	if j.verb != Drilling {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &drilling{cancel, make(chan struct{})}
	c.drilling[j.Stage] = d
	return func() {
		c.mu.Lock()
		delete(c.drilling, j.Stage)
		c.mu.Unlock()
		close(d.ended)
	}
}

// setDrillAside ends a drill, which is held again later: who needs the data back does not wait for a proof.
func (c *Controller) setDrillAside(ctx context.Context, ref StageRef) error {
	c.mu.Lock()
	d := c.drilling[ref]
	c.mu.Unlock()
	if d == nil {
		return nil
	}
	d.cancel(Hint(fmt.Errorf("%w: something that cannot wait came for the data of the stage", ErrAborted), "the drill is held again afterwards; `lotse db status` shows it"))
	select {
	case <-d.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew keeps the lease of the data. A lost lease ends the job.
func (j *dataJob) renew(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go func() {
		for sleep(ctx, leaseRenewal) == nil {
			if err := j.c.Ledger.Renew(ctx, j.lease, leaseTTL); errors.Is(err, ErrFenced) {
				cancel(err)
				return
			}
		}
	}()
	return stop
}

func (j *dataJob) giveBack() {
	if err := j.c.Ledger.Release(context.WithoutCancel(j.c.base), j.lease); err != nil {
		j.c.Log.Warn("the lease of a stage's data could not be given back; it ends by itself", "stage", j.Stage.String(), "error", err)
	}
}

func (j *dataJob) note(ctx context.Context, kind string, d dataEvent) error {
	d.Job = j.id
	_, err := j.c.Ledger.Append(ctx, Event{Kind: kind, App: j.Stage.App, Stage: j.Stage.Stage, Actor: j.actor, Data: data(d)})
	return err
}

// TakeSnapshot begins a snapshot of what a stage has, and returns the id of its job.
func (c *Controller) TakeSnapshot(ctx context.Context, q DataRequest) (string, error) {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return "", err
	}
	serves, err := c.served(ctx, q.App, q.Stage)
	if err != nil {
		return "", err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return "", err
	}
	return c.snapshot(ctx, h, SnapshotByHand, reason, q.By)
}

func (c *Controller) snapshot(ctx context.Context, h *holdings, why SnapshotReason, reason string, by Person) (string, error) {
	of, err := h.data(ctx)
	if err != nil {
		return "", err
	}
	j, err := c.newJob(ctx, h, Snapshotting, rolloutID(), by)
	if err != nil {
		return "", err
	}
	return j.id, j.begin(ctx, dataEvent{Why: why, Reason: reason}, func(ctx context.Context) error {
		taken, err := h.take(ctx, SnapshotOrder{Stage: h.Stage, Why: why, Release: h.Release, Data: of})
		if err != nil && ctx.Err() == nil {
			failed := failedData(err)
			failed.Why, failed.Again = why, c.failedBefore(ctx, h.Stage)
			return errors.Join(err, j.note(ctx, KindSnapshotFailed, failed))
		}
		return errors.Join(err, j.note(ctx, KindSnapshotTaken, dataEvent{Taken: &taken}))
	})
}

func (h *holdings) take(ctx context.Context, order SnapshotOrder) (taken Snapshot, err error) {
	err = within(ctx, longestSnapshot, "the snapshot", func(ctx context.Context) error { taken, err = h.keeper.Take(ctx, order); return err })
	return taken, err
}

// Drill begins to prove a snapshot, and returns the id of its job. ErrNotFound, with those that are near, for one that is not there.
func (c *Controller) Drill(ctx context.Context, q DataRequest) (string, error) {
	serves, err := c.served(ctx, q.App, q.Stage)
	if err != nil {
		return "", err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return "", err
	}
	of, err := h.find(ctx, q.ID)
	if err != nil {
		return "", err
	}
	return c.drill(ctx, h, of.ID, q.By)
}

func (c *Controller) drill(ctx context.Context, h *holdings, snapshot string, by Person) (string, error) {
	j, err := c.newJob(ctx, h, Drilling, rolloutID(), by)
	if err != nil {
		return "", err
	}
	return j.id, j.begin(ctx, dataEvent{Snapshot: snapshot}, func(ctx context.Context) error { return j.prove(ctx, snapshot) })
}

// prove holds the drill, and prunes when it has shown that a newer snapshot can be restored.
func (j *dataJob) prove(ctx context.Context, id string) error {
	var proof Proof
	err := within(ctx, longestSnapshot, "the drill", func(ctx context.Context) (err error) {
		proof, err = j.keeper.Prove(ctx, j.Stage, id, j.checkOf())
		return err
	})
	switch {
	case ctx.Err() != nil:
		return err
	case err == nil && proof.Wrong != "":
		err = fmt.Errorf("%w: %s", ErrDamaged, proof.Wrong)
	}
	if err != nil {
		failed := failedData(err)
		failed.Snapshot = id
		if !proof.At.IsZero() {
			failed.Proof = &proof
		}
		return errors.Join(err, j.note(ctx, KindSnapshotUnproven, failed))
	}
	if err := j.note(ctx, KindSnapshotProven, dataEvent{Snapshot: id, Proof: &proof}); err != nil {
		return err
	}
	gone, err := j.keeper.Prune(ctx, j.Stage, j.stage.Database.Snapshots.Keep)
	if len(gone) > 0 {
		err = errors.Join(err, j.note(ctx, KindSnapshotPruned, dataEvent{Pruned: idsOf(gone)}))
	}
	return err
}

// checkOf runs the app's own check against a database that was brought back; nil where there is none.
func (h *holdings) checkOf() func(context.Context, secret.Text) error {
	command := h.stage.Database.Snapshots.Check
	tasks, ok := h.c.opened(h.Stage).(Instead)
	if command == "" || !ok {
		return nil
	}
	name := DatabaseURL
	if !h.stage.Database.Own() {
		name = h.stage.Database.URL
	}
	return func(ctx context.Context, url secret.Text) error {
		return tasks.TaskInstead(ctx, h.instances(), "check", command, nil, []Setting{{Name: name, Value: url}})
	}
}

// find returns the snapshot of an id, or of its beginning; without one the newest.
func (h *holdings) find(ctx context.Context, id string) (Snapshot, error) {
	all, err := h.keeper.List(ctx, h.Stage)
	if err != nil {
		return Snapshot{}, err
	}
	if len(all) == 0 {
		return Snapshot{}, Hint(fmt.Errorf("%w: %s has no snapshot", ErrNotFound, h.Stage), "`lotse db snapshot --stage "+h.Stage.Stage+"` takes one")
	}
	if id == "" {
		return all[len(all)-1], nil
	}
	var fit []Snapshot
	for _, s := range all {
		if s.ID == id {
			return s, nil
		}
		if strings.HasPrefix(s.ID, id) {
			fit = append(fit, s)
		}
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	near := "the newest are: " + strings.Join(idsOf(all[max(0, len(all)-5):]), ", ")
	if name := Nearest(id, idsOf(all)); name != "" {
		near = fmt.Sprintf("did you mean %q? ", name) + near
	}
	if len(fit) > 1 {
		near = "these begin so: " + strings.Join(idsOf(fit), ", ")
	}
	return Snapshot{}, Hint(fmt.Errorf("%w: %s has no snapshot %q", ErrNotFound, h.Stage, id), near)
}

func idsOf(all []Snapshot) (ids []string) {
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

// ListSnapshots returns the snapshots of a stage, oldest first.
func (c *Controller) ListSnapshots(ctx context.Context, app, stage string) ([]Snapshot, error) {
	serves, err := c.served(ctx, app, stage)
	if err != nil {
		return nil, err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return nil, err
	}
	all, err := h.keeper.List(ctx, h.Stage)
	return slices.Clip(all), err
}
