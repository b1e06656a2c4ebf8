package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// scratchClass is the smallest machine that RDS runs PostgreSQL on. The storage is that of the snapshot.
const scratchClass = "db.t4g.micro"

// kindScratch is the kind of an instance that may be deleted at any time.
const kindScratch = "scratch"

const scratchMost = 63 // letters of an instance's name (RDS API reference, RestoreDBInstanceFromDBSnapshot)

// scratchName is that of the one instance on which a drill of the stage is held. It never changes, so that none can be left unseen.
func (c copies) scratchName() string {
	return rdsName("lotse-"+c.e.App+"-"+c.e.Stage.Name, scratchMost-len(kindScratch)-1) + "-" + kindScratch
}

// Prove implements deploy.Snapshots. RDS makes a scratch instance of the snapshot, in the network and the group of the stage's database; one
// of the stage's instances reads every row of it and looks at its schema, which are then compared with how the database looked around the
// snapshot. The time that it takes is until the last row was read: RDS fetches the blocks of a new instance when they are asked for first.
func (c copies) Prove(ctx context.Context, _ deploy.StageRef, id string, check func(ctx context.Context, url secret.Text) error) (deploy.Proof, error) {
	proof := deploy.Proof{At: c.e.Now().UTC()}
	there, err := c.find(ctx, id)
	if err == nil {
		err = c.prove(ctx, there, &proof, check)
	}
	damaged := errors.Is(err, deploy.ErrDamaged)
	if damaged {
		proof.Wrong = firstLine(strings.TrimPrefix(err.Error(), deploy.ErrDamaged.Error()+": "))
	}
	if (err == nil || damaged) && ctx.Err() == nil {
		err = errors.Join(err, c.tag(ctx, there.DBSnapshotArn, proofLabels(proof)))
	}
	return proof, c.e.failed(ctx, "prove the snapshot "+id, err)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (c copies) find(ctx context.Context, id string) (none types.DBSnapshot, err error) {
	all, err := c.described(ctx)
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(all, func(s types.DBSnapshot) bool { return copyLabels(s.TagList)[tagSnapshot] == id })
	if i < 0 {
		return none, deploy.Hint(fmt.Errorf("%w: there is no snapshot %s", deploy.ErrNotFound, id), "`lotse db snapshots --stage "+c.e.Stage.Name+"` lists them")
	}
	switch state := sdk.ToString(all[i].Status); state {
	case "available":
		return all[i], nil
	case "creating", "pending":
		return none, fmt.Errorf("%w: RDS is still taking the snapshot %s", deploy.ErrBusy, id)
	default:
		return all[i], fmt.Errorf("%w: RDS says %s of the snapshot", deploy.ErrDamaged, state)
	}
}

func (c copies) prove(ctx context.Context, of types.DBSnapshot, proof *deploy.Proof, check func(context.Context, secret.Text) error) (err error) {
	if err := c.clearAway(ctx, c.e.Timing.Copy, scratchGone); err != nil {
		return err
	}
	around, err := c.kept(ctx, copyLabels(of.TagList)[tagSnapshot])
	if err != nil {
		return err
	}
	defer func() {
		if left := c.clearAway(context.WithoutCancel(ctx), c.e.Timing.Undo, scratchGoes); left != nil {
			c.e.Log.Warn("the scratch instance of a drill stays, and costs, until the next drill", "app", c.e.App, "stage", c.e.Stage.Name, "err", translate(left))
		}
	}()
	at, err := c.restore(ctx, of)
	if err != nil {
		return err
	}
	now, err := c.read(ctx, at)
	if err != nil {
		return err
	}
	proof.Took = c.e.Now().Sub(proof.At)
	if proof.Compared, err = compared(around, now); err != nil {
		return err
	}
	return c.check(ctx, at, proof, check)
}

// compared says what of it could be compared, and is ErrDamaged where that is not as it was.
func compared(around *deploy.Around, now deploy.Look) (string, error) {
	if around == nil {
		return "nothing was counted when it was taken: every row was read", nil
	}
	exact, all := around.Exact()
	said := fmt.Sprintf("schema; rows of %d tables of %d, %d of them exactly; every row was read", all, len(around.Before.Tables)+around.Before.More, exact)
	if wrong := around.Differences(now); len(wrong) > 0 {
		return said, fmt.Errorf("%w: %s", deploy.ErrDamaged, strings.Join(wrong, "; "))
	}
	return said, nil
}

func (c copies) check(ctx context.Context, at string, proof *deploy.Proof, check func(context.Context, secret.Text) error) error {
	if check == nil {
		return nil
	}
	address, err := c.e.databaseURL(ctx, c.db)
	if err != nil {
		return err
	}
	url, err := elsewhere(address.Value, at)
	if err != nil {
		return err
	}
	if err := check(ctx, url); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, said := errors.AsType[*deploy.ExitError](err); !said { // it could not be asked
			return err
		}
		proof.Check = firstLine(err.Error())
		return fmt.Errorf("%w: the app's own check says: %s", deploy.ErrDamaged, proof.Check)
	}
	proof.Check = "passed"
	return nil
}

// restore makes the scratch instance, and returns its host and port when it can be worked with.
func (c copies) restore(ctx context.Context, of types.DBSnapshot) (at string, err error) {
	live, err := c.e.databaseInstance(ctx, c.db)
	if err != nil {
		return "", err
	}
	like, err := c.e.describeInstance(ctx, live)
	if err != nil {
		return "", err
	}
	if like == nil {
		return "", gone(live)
	}
	in := c.scratchLike(*like, of)
	if _, err = c.e.api.rds.RestoreDBInstanceFromDBSnapshot(ctx, in); coded(err, "DBInstanceAlreadyExists") {
		err = c.mine(ctx, copyLabels(of.TagList)[tagSnapshot]) // the answer to an earlier try was lost
	}
	if err != nil {
		return "", err
	}
	err = c.e.await(ctx, c.e.Timing.Copy, "the scratch instance", func(ctx context.Context) (bool, error) {
		there, err := c.e.describeInstance(ctx, *in.DBInstanceIdentifier)
		if err != nil || there == nil {
			return false, err
		}
		if state := sdk.ToString(there.DBInstanceStatus); state == "incompatible-restore" || state == "failed" {
			return false, fmt.Errorf("%w: it does not come back: RDS says %s", deploy.ErrDamaged, state)
		}
		usable, err := instanceUsable(*there)
		if err != nil || !usable || there.Endpoint == nil || sdk.ToString(there.Endpoint.Address) == "" {
			return false, err
		}
		at = net.JoinHostPort(*there.Endpoint.Address, strconv.Itoa(int(sdk.ToInt32(there.Endpoint.Port))))
		return true, nil
	})
	return at, err
}

// scratchLike is the order for an instance as private as the stage's own, which keeps nothing.
func (c copies) scratchLike(like types.DBInstance, of types.DBSnapshot) *rds.RestoreDBInstanceFromDBSnapshotInput {
	in := &rds.RestoreDBInstanceFromDBSnapshotInput{DBInstanceIdentifier: sdk.String(c.scratchName()), DBSnapshotIdentifier: of.DBSnapshotIdentifier,
		DBInstanceClass: sdk.String(scratchClass), PubliclyAccessible: sdk.Bool(false), MultiAZ: sdk.Bool(false), DeletionProtection: sdk.Bool(false),
		AutoMinorVersionUpgrade: sdk.Bool(false), CopyTagsToSnapshot: sdk.Bool(false), BackupRetentionPeriod: sdk.Int32(0),
		EngineLifecycleSupport: sdk.String("open-source-rds-extended-support-disabled"), // it costs
		Tags:                   rdsTags(labels{tagApp: c.e.App, tagStage: c.e.Stage.Name, tagKind: kindScratch, tagSnapshot: copyLabels(of.TagList)[tagSnapshot]})}
	if like.DBSubnetGroup != nil {
		in.DBSubnetGroupName = like.DBSubnetGroup.DBSubnetGroupName
	}
	for _, g := range like.VpcSecurityGroups {
		in.VpcSecurityGroupIds = append(in.VpcSecurityGroupIds, sdk.ToString(g.VpcSecurityGroupId))
	}
	if len(like.DBParameterGroups) > 0 {
		in.DBParameterGroupName = like.DBParameterGroups[0].DBParameterGroupName
	}
	return in
}

// mine is nil where the scratch instance that is there is of this snapshot.
func (c copies) mine(ctx context.Context, id string) error {
	there, err := c.e.describeInstance(ctx, c.scratchName())
	if err != nil {
		return err
	}
	if there == nil || copyLabels(there.TagList)[tagSnapshot] != id || !c.scratch(*there) {
		return fmt.Errorf("%w: the instance %s is there, and is not of this drill", deploy.ErrBusy, c.scratchName())
	}
	return nil
}

func (c copies) scratch(i types.DBInstance) bool {
	l := copyLabels(i.TagList)
	return l.ours(c.e) && l[tagKind] == kindScratch
}

// read waits until the scratch instance is reached from the stage's instances, and has every row of it read.
func (c copies) read(ctx context.Context, at string) (look deploy.Look, err error) {
	err = c.e.await(ctx, c.e.Timing.Settle, "the scratch instance from within", func(ctx context.Context) (bool, error) {
		_, err := c.e.look(ctx, at, "none", c.e.Timing.Settle)
		return err == nil, err
	})
	if err != nil {
		return look, err
	}
	return c.e.look(ctx, at, "read", c.e.Timing.Copy)
}

// scratchState is what becomes of a scratch instance.
type scratchState int

const (
	scratchStays scratchState = iota // RDS does not take the order yet
	scratchGoes
	scratchGone
)

// clear has the scratch instance deleted where there is one, with all of it.
func (c copies) clear(ctx context.Context) (scratchState, error) {
	there, err := c.e.describeInstance(ctx, c.scratchName())
	switch {
	case err != nil:
		return scratchStays, err
	case there == nil:
		return scratchGone, nil
	case !c.scratch(*there):
		return scratchStays, deploy.Hint(fmt.Errorf("%w: the instance %s is not Lotse's", deploy.ErrRefused, c.scratchName()), "delete it, or give it another name: a drill needs this one")
	case sdk.ToString(there.DBInstanceStatus) == "deleting":
		return scratchGoes, nil
	}
	_, err = c.e.api.rds.DeleteDBInstance(ctx, &rds.DeleteDBInstanceInput{DBInstanceIdentifier: there.DBInstanceIdentifier, SkipFinalSnapshot: sdk.Bool(true), DeleteAutomatedBackups: sdk.Bool(true)})
	switch {
	case coded(err, "DBInstanceNotFound", "DBInstanceNotFoundFault"):
		return scratchGone, nil
	case coded(err, "InvalidDBInstanceState"): // it is being made still
		return scratchStays, nil
	}
	return scratchGoes, err
}

// clearAway waits until the scratch instance is at least in this state.
func (c copies) clearAway(ctx context.Context, limit time.Duration, until scratchState) error {
	return c.e.await(ctx, limit, "the end of the scratch instance", func(ctx context.Context) (bool, error) {
		is, err := c.clear(ctx)
		return err == nil && is >= until, err
	})
}

// elsewhere is an address with another host and port.
func elsewhere(address secret.Text, at string) (secret.Text, error) {
	u, err := parsedAddress(address)
	if err != nil {
		return secret.Text{}, err
	}
	u.Host = at
	return secret.New(u.String()), nil
}
