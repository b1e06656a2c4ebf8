package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

var _ deploy.TakesSnapshots = (*Engine)(nil)

// copies are the snapshots that RDS takes of the stage's database. All that is known of one stands on AWS, so that any process may go on
// where another was killed:
//
//	DB snapshot lotse-<app>-<stage>-<id>      the copy; its tags say app, stage, release, rollout, why, what was counted, and how its drill ended
//	stages/<stage>/snapshots/<id>.json        how the database looked just before and just after, in the bucket of releases
//	DB instance lotse-<app>-<stage>-scratch   what a drill is held on; there is one at most
//
// RDS ends what it has begun, whoever was killed meanwhile: such a snapshot is listed when it is whole, and the rollout that had begun it
// takes it as its own. A scratch instance that is left is removed by the next drill, or by the next snapshot but one of a rollout, beside
// which a drill may be on its way.
type copies struct {
	e  *Engine
	db deploy.Database
}

// Snapshots implements deploy.TakesSnapshots: RDS takes those of the databases that it runs.
func (e *Engine) Snapshots(db deploy.Database) (deploy.Snapshots, bool) {
	return copies{e, db}, db.Own()
}

// The tags of snapshots and of scratch instances beside those of all that the engine makes.
const (
	tagSnapshot = "lotse:snapshot" // its id
	tagWhy      = "lotse:why"
	tagTook     = "lotse:took"
	tagSchema   = "lotse:schema"
	tagRows     = "lotse:rows"
	tagTables   = "lotse:tables"

	tagProven   = "lotse:proven-at" // when a drill was held, also one that has failed
	tagBack     = "lotse:proven-took"
	tagWrong    = "lotse:proven-wrong"
	tagCheck    = "lotse:proven-check"
	tagCompared = "lotse:proven-compared"
)

// copyID is the layout of a snapshot's id, of the time in UTC at which it was asked for.
const copyID = "20060102-150405"

// Take implements deploy.Snapshots. A snapshot of RDS shows one moment between its order and its end, which RDS tells: what is written
// meanwhile may be in it or not.
func (c copies) Take(ctx context.Context, order deploy.SnapshotOrder) (deploy.Snapshot, error) {
	s, err := c.take(ctx, order)
	return s, c.e.failed(ctx, "snapshot", err)
}

func (c copies) take(ctx context.Context, order deploy.SnapshotOrder) (none deploy.Snapshot, err error) {
	of, err := c.e.databaseInstance(ctx, c.db)
	if err != nil {
		return none, err
	}
	if order.Rollout == "" { // else a drill may be on its way
		if _, err := c.clear(ctx); err != nil {
			c.e.Log.Warn("a scratch instance of an earlier drill stays", "app", c.e.App, "stage", c.e.Stage.Name, "err", translate(err))
		}
	}
	begun := c.e.Now()
	name, err := c.begunFor(ctx, order.Rollout)
	if err != nil {
		return none, err
	}
	var before *deploy.Look
	if name == "" {
		if before, err = c.lookBefore(ctx); err != nil {
			return none, err
		}
		if name, err = c.create(ctx, of, order, before); err != nil {
			return none, err
		}
	}
	there, err := c.awaitSnapshot(ctx, name)
	if err != nil {
		return none, err
	}
	if before != nil {
		c.lookAfter(ctx, there, *before)
	}
	if err := c.tag(ctx, there.DBSnapshotArn, labels{tagTook: strconv.FormatFloat(c.e.Now().Sub(begun).Seconds(), 'f', 1, 64)}); err != nil {
		return none, err
	}
	all, err := c.List(ctx, c.ref())
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(all, func(s deploy.Snapshot) bool { return s.Where == whereOf(name) })
	if i < 0 {
		return none, fmt.Errorf("%w: the snapshot %s went while it was looked at", deploy.ErrUnavailable, name)
	}
	return all[i], nil
}

func (c copies) ref() deploy.StageRef { return deploy.StageRef{App: c.e.App, Stage: c.e.Stage.Name} }

func whereOf(name string) string { return "rds:" + name }

// begunFor is the snapshot that a rollout has begun before a crash, "" where there is none.
func (c copies) begunFor(ctx context.Context, rollout string) (string, error) {
	if rollout == "" {
		return "", nil
	}
	all, err := c.described(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if l := copyLabels(s.TagList); l[tagRollout] == rollout && (sdk.ToString(s.Status) == "creating" || sdk.ToString(s.Status) == "available") {
			return sdk.ToString(s.DBSnapshotIdentifier), nil
		}
	}
	return "", nil
}

// lookBefore looks at the database from one of the stage's instances. Where that cannot be done the snapshot is taken all the same: less
// of it can be compared, and its drill says so.
func (c copies) lookBefore(ctx context.Context) (*deploy.Look, error) {
	look, err := c.e.look(ctx, "", "count", c.e.Timing.Copy)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.e.Log.Warn("nothing of the database was counted before its snapshot", "app", c.e.App, "stage", c.e.Stage.Name, "err", translate(err))
		return nil, nil
	}
	return &look, nil
}

// lookAfter keeps what a drill compares with. Without it the snapshot is as good, and less of it can be compared.
func (c copies) lookAfter(ctx context.Context, of types.DBSnapshot, before deploy.Look) {
	err := c.e.awaitCounted(ctx, sdk.ToTime(of.SnapshotCreateTime))
	var after deploy.Look
	if err == nil {
		after, err = c.e.look(ctx, "", "none", c.e.Timing.Copy)
	}
	if err == nil {
		err = c.keep(ctx, copyLabels(of.TagList)[tagSnapshot], deploy.Around{Before: before, After: after})
	}
	if err != nil && ctx.Err() == nil {
		c.e.Log.Warn("what was counted of the database is not kept", "app", c.e.App, "stage", c.e.Stage.Name, "err", translate(err))
	}
}

// awaitCounted waits until what was written before a moment has been counted: a session of PostgreSQL tells what it has written within a
// minute (pgstat.c, PGSTAT_MAX_INTERVAL).
func (e *Engine) awaitCounted(ctx context.Context, moment time.Time) error {
	timer := time.NewTimer(min(e.Timing.Counted, e.Timing.Counted-e.Now().Sub(moment)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// create orders a snapshot as soon as the instance takes the order. An order whose answer was lost is found by its name.
func (c copies) create(ctx context.Context, of string, order deploy.SnapshotOrder, before *deploy.Look) (name string, err error) {
	err = c.e.await(ctx, c.e.Timing.Copy, "the database", func(ctx context.Context) (bool, error) {
		there, err := c.e.describeInstance(ctx, of)
		if err != nil {
			return false, err
		}
		if there == nil {
			return false, gone(of)
		}
		if usable, err := instanceUsable(*there); err != nil || !usable {
			return false, err
		}
		id := c.e.Now().UTC().Format(copyID)
		name = c.name(id)
		l := labels{tagApp: c.e.App, tagStage: c.e.Stage.Name, tagSnapshot: id, tagWhy: string(order.Why), tagRollout: order.Rollout, tagRelease: string(order.Release)}
		if before != nil {
			l[tagSchema], l[tagRows], l[tagTables] = before.Schema, strconv.FormatInt(before.Rows(), 10), strconv.Itoa(len(before.Tables)+before.More)
		}
		_, err = c.e.api.rds.CreateDBSnapshot(ctx, &rds.CreateDBSnapshotInput{DBInstanceIdentifier: &of, DBSnapshotIdentifier: &name, Tags: rdsTags(l)})
		switch {
		case coded(err, "DBSnapshotAlreadyExists"):
			return c.isOurs(ctx, name, l)
		case coded(err, "InvalidDBInstanceState"): // a backup or a change of RDS's own has just begun
			return false, nil
		case err == nil:
			c.e.Log.Info("RDS takes a snapshot", "app", c.e.App, "stage", c.e.Stage.Name, "snapshot", id)
		}
		return err == nil, err
	})
	return name, err
}

// isOurs reports whether a snapshot of this name was ordered with these tags. Another, of the same second, is let pass.
func (c copies) isOurs(ctx context.Context, name string, l labels) (bool, error) {
	all, err := c.described(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(s types.DBSnapshot) bool {
		is := copyLabels(s.TagList)
		return sdk.ToString(s.DBSnapshotIdentifier) == name && is[tagWhy] == l[tagWhy] && is[tagRollout] == l[tagRollout]
	}), nil
}

// name is what RDS knows a snapshot by: letters, digits and single hyphens.
func (c copies) name(id string) string {
	return rdsName("lotse-"+c.e.App+"-"+c.e.Stage.Name, 200) + "-" + id
}

func (c copies) awaitSnapshot(ctx context.Context, name string) (there types.DBSnapshot, err error) {
	err = c.e.await(ctx, c.e.Timing.Copy, "the end of the snapshot", func(ctx context.Context) (bool, error) {
		all, err := c.described(ctx)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(all, func(s types.DBSnapshot) bool { return sdk.ToString(s.DBSnapshotIdentifier) == name })
		if i < 0 {
			return false, nil // it is not to be seen yet
		}
		there = all[i]
		switch state := sdk.ToString(there.Status); state {
		case "available":
			return true, nil
		case "creating", "pending":
			return false, nil
		default:
			return false, deploy.Hint(fmt.Errorf("%w: RDS says %s of the snapshot %s", deploy.ErrRefused, state, name), "look at the database's events in the console of RDS")
		}
	})
	return there, err
}

// described are the snapshots that Lotse has ordered for this stage, in whatever state, oldest first. RDS's own automated ones are not
// among them: they end by a rule of their own, and nobody can keep or prove one.
func (c copies) described(ctx context.Context) ([]types.DBSnapshot, error) {
	var all []types.DBSnapshot
	pages := rds.NewDescribeDBSnapshotsPaginator(c.e.api.rds, &rds.DescribeDBSnapshotsInput{SnapshotType: sdk.String("manual")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.DBSnapshots {
			if l := copyLabels(s.TagList); l.ours(c.e) && l[tagSnapshot] != "" {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b types.DBSnapshot) int {
		return strings.Compare(copyLabels(a.TagList)[tagSnapshot], copyLabels(b.TagList)[tagSnapshot])
	})
	return all, nil
}

// List implements deploy.Snapshots. What RDS is still at is not listed.
func (c copies) List(ctx context.Context, _ deploy.StageRef) ([]deploy.Snapshot, error) {
	there, err := c.described(ctx)
	if err != nil {
		return nil, c.e.failed(ctx, "list snapshots", err)
	}
	all := []deploy.Snapshot{}
	for _, s := range there {
		switch state := sdk.ToString(s.Status); state {
		case "creating", "pending", "deleting":
		case "available":
			all = append(all, c.told(s, ""))
		default:
			all = append(all, c.told(s, "RDS says "+state))
		}
	}
	return all, nil
}

// told is a snapshot in deploy's words.
func (c copies) told(s types.DBSnapshot, damaged string) deploy.Snapshot {
	l := copyLabels(s.TagList)
	rows, _ := strconv.ParseInt(l[tagRows], 10, 64)
	tables, _ := strconv.Atoi(l[tagTables])
	return deploy.Snapshot{ID: l[tagSnapshot], Stage: c.ref(), Why: deploy.SnapshotReason(l[tagWhy]), Rollout: l[tagRollout], Release: deploy.Digest(l[tagRelease]),
		At: sdk.ToTime(s.SnapshotCreateTime).UTC(), Took: l.seconds(tagTook), Size: int64(sdk.ToInt32(s.AllocatedStorage)) << 30, Server: sdk.ToString(s.EngineVersion),
		Schema: l[tagSchema], Rows: rows, Tables: tables, Where: whereOf(sdk.ToString(s.DBSnapshotIdentifier)), Damaged: damaged, Proof: l.proof()}
}

// Prune implements deploy.Snapshots.
func (c copies) Prune(ctx context.Context, ref deploy.StageRef, keep deploy.Keep) (gone []deploy.Snapshot, err error) {
	all, err := c.List(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, s := range keep.Gone(all, c.e.Now()) {
		if err := c.drop(ctx, s); err != nil {
			return gone, c.e.failed(ctx, "prune the snapshot "+s.ID, err)
		}
		gone = append(gone, s)
	}
	return gone, nil
}

func (c copies) drop(ctx context.Context, s deploy.Snapshot) error {
	_, err := c.e.api.rds.DeleteDBSnapshot(ctx, &rds.DeleteDBSnapshotInput{DBSnapshotIdentifier: sdk.String(strings.TrimPrefix(s.Where, whereOf("")))})
	if err != nil && !coded(err, "DBSnapshotNotFound", "DBSnapshotNotFoundFault") {
		return err
	}
	at, err := c.e.outputs(ctx)
	if err != nil {
		return err
	}
	_, err = c.e.api.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &at.releases, Key: sdk.String(c.key(s.ID)), ExpectedBucketOwner: &at.account})
	return err
}

// Restore implements deploy.Snapshots: a snapshot of RDS fills no database that is there, it becomes one.
func (c copies) Restore(context.Context, deploy.StageRef, string, deploy.Data) error {
	return deploy.Hint(fmt.Errorf("%w: a snapshot of RDS becomes an instance of its own", deploy.ErrUnsupported), "docs/restore.md says how to come back there")
}

func (c copies) key(id string) string {
	return "stages/" + c.e.Stage.Name + "/snapshots/" + id + ".json"
}

// keep writes how the database looked around a snapshot.
func (c copies) keep(ctx context.Context, id string, a deploy.Around) error {
	at, err := c.e.outputs(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	ctx, cancel := c.e.answering(ctx)
	defer cancel()
	_, err = c.e.api.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &at.releases, Key: sdk.String(c.key(id)), Body: bytes.NewReader(raw), ContentType: sdk.String("application/json"),
		ExpectedBucketOwner: &at.account})
	return inTime(ctx, err)
}

// kept is how the database looked around a snapshot, nil where that is not known.
func (c copies) kept(ctx context.Context, id string) (*deploy.Around, error) {
	at, err := c.e.outputs(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.e.answering(ctx)
	defer cancel()
	out, err := c.e.api.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &at.releases, Key: sdk.String(c.key(id)), ExpectedBucketOwner: &at.account})
	if coded(err, "NoSuchKey") {
		return nil, nil
	}
	if err != nil {
		return nil, inTime(ctx, err)
	}
	defer out.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(out.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: what was counted of the snapshot was cut off", deploy.ErrUnavailable)
	}
	a := &deploy.Around{}
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("%w: %s in the bucket %s cannot be read", deploy.ErrDamaged, c.key(id), at.releases)
	}
	return a, nil
}
