package aws_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Here RDS is a FAKE, and what instances say of databases is made up: which calls are made, what they leave, and what is judged. What a
// look at a real PostgreSQL says is in TestDrillReadsARealDatabase; moto is asked in internal/awsfake/mototest.

const (
	scratch     = "lotse-shop-dev-scratch"
	scratchHost = scratch + ".fake.eu-central-1.rds.amazonaws.com:5432"
)

// rdsBench is a stage with a database and one machine that can be asked.
type rdsBench struct {
	*cloud
	db   deploy.Database
	mu   sync.Mutex
	now  time.Time
	live deploy.Look
	back deploy.Look // what is in the scratch instance
	code int         // by which every look ends
}

func newRDSBench(t *testing.T, o awsfake.Options) *rdsBench {
	t.Helper()
	b := &rdsBench{db: deploy.Database{Postgres: 17, Migrations: "db"}, now: time.Now().UTC().Add(24 * time.Hour),
		live: deploy.Look{Server: "17.4", Schema: "sha256:ab", Since: "monday", Tables: []deploy.TableLook{{Name: "public.orders", Rows: 42, Inserted: 42}}}}
	b.back = b.live
	o.Answer = b.answer
	if o.Plane {
		b.cloud = newCloud(t, deploy.AWSShared, o)
	} else {
		b.cloud = still(t, o)
	}
	b.stages[0].Database = b.db
	b.rds(t)
	b.secret("lotse/shop/dev/engine/database", `{"username":"lotse","password":"p@ss/word"}`)
	if !o.Plane {
		b.machine(t)
	}
	return b
}

// machine is an environment of a rollout, which the fake says is well.
func (b *rdsBench) machine(t *testing.T) {
	t.Helper()
	client := eb.NewFromConfig(b.account)
	if _, err := client.CreateEnvironment(t.Context(), &eb.CreateEnvironmentInput{ApplicationName: sdk.String("shop"), EnvironmentName: sdk.String(aws.EnvironmentName(b.open(t, b.stages[0]), "one")),
		SolutionStackName: sdk.String(b.solution(t)), Tags: []ebtypes.Tag{{Key: sdk.String("lotse:app"), Value: sdk.String("shop")},
			{Key: sdk.String("lotse:stage"), Value: sdk.String("dev")}, {Key: sdk.String("lotse:rollout"), Value: sdk.String("one")}}}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for b.environment(t, aws.EnvironmentName(b.open(t, b.stages[0]), "one")).Status != ebtypes.EnvironmentStatusReady {
		if time.Now().After(deadline) {
			t.Fatal("the environment is not ready")
		}
	}
}

func (b *rdsBench) solution(t *testing.T) string {
	t.Helper()
	out, err := eb.NewFromConfig(b.account).ListAvailableSolutionStacks(t.Context(), &eb.ListAvailableSolutionStacksInput{})
	if err != nil || len(out.SolutionStacks) == 0 {
		t.Fatal(err)
	}
	return out.SolutionStacks[0]
}

// answer is what the machine says.
func (b *rdsBench) answer(script string) (string, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	look := b.live
	if strings.Contains(script, "--at "+scratchHost) {
		look = b.back
	} else if strings.Contains(script, "--at") {
		return "who is that?", 1
	}
	if b.code != 0 || !strings.Contains(script, "front task --quiet --name look -- '.lotse/bin/lotse front look --rows ") {
		return "it cannot be said", b.code
	}
	raw, err := json.Marshal(look)
	if err != nil {
		return err.Error(), 1
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(raw)
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(packed.Bytes()) + "\n", 0
}

func (b *rdsBench) say(live, back deploy.Look, code int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live, b.back, b.code = live, back, code
}

// keeper is a fresh process. Its clock goes on by a minute with each.
func (b *rdsBench) keeper(t *testing.T, change ...func(*aws.Config)) deploy.Snapshots {
	t.Helper()
	b.mu.Lock()
	b.now = b.now.Add(time.Minute)
	now := b.now
	b.mu.Unlock()
	c := b.config(b.stages[0])
	begun := time.Now()
	c.Now = func() time.Time { return now.Add(time.Since(begun)) }
	c.Timing.Copy, c.Timing.Counted, c.Timing.Undo = 20*time.Second, time.Millisecond, 5*time.Second
	for _, f := range change {
		f(&c)
	}
	e, err := aws.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	keeper, takes := e.Snapshots(b.db)
	if !takes {
		t.Fatal("RDS takes none")
	}
	return keeper
}

func (b *rdsBench) ref() deploy.StageRef { return deploy.StageRef{App: "shop", Stage: "dev"} }

func (b *rdsBench) order(why deploy.SnapshotReason, rollout string) deploy.SnapshotOrder {
	return deploy.SnapshotOrder{Stage: b.ref(), Why: why, Rollout: rollout, Release: "sha256:cd"}
}

func (b *rdsBench) take(t *testing.T) deploy.Snapshot {
	t.Helper()
	s, err := b.keeper(t).Take(within(t, patience), b.order(deploy.SnapshotDaily, ""))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.log)
	}
	return s
}

func (b *rdsBench) list(t *testing.T) []deploy.Snapshot {
	t.Helper()
	all, err := b.keeper(t).List(within(t, patience), b.ref())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// noScratch fails where an instance costs on.
func (b *rdsBench) noScratch(t *testing.T, when string) {
	t.Helper()
	if left := b.w.RestoredDatabases(); len(left) > 0 {
		t.Errorf("%s: %v is left", when, left)
	}
}

func (b *rdsBench) calls(action string) (n int) {
	for _, c := range b.w.Calls() {
		if c.Service == "rds" && c.Action == action {
			n++
		}
	}
	return n
}

// A snapshot is taken, listed with what was counted, proven on an instance as private as the stage's own, which is gone afterwards, and
// pruned by the rule that all snapshots are kept by. Every call is on the list that the deployer's policy is made of.
func TestSnapshotsOfRDS(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{})
	first := b.take(t)
	if first.Why != deploy.SnapshotDaily || first.Release != "sha256:cd" || first.Rows != 42 || first.Tables != 1 || first.Schema != "sha256:ab" || first.Server != "17.4" ||
		first.Size != 20<<30 || first.At.IsZero() || first.Took <= 0 || first.Proof != nil || first.Damaged != "" || first.Stage != b.ref() || first.Where != "rds:lotse-shop-dev-"+first.ID {
		t.Errorf("%+v", first)
	}
	asked := ""
	proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), first.ID, func(_ context.Context, url secret.Text) error {
		asked = url.Reveal()
		if left := b.w.RestoredDatabases(); len(left) != 1 || left[0] != scratch+" db.t4g.micro sg-closed closed by-tls public:false "+
			"lotse:app=shop lotse:kind=scratch lotse:snapshot="+first.ID+" lotse:stage=dev" {
			t.Errorf("the drill is held on %q", left)
		}
		return nil
	})
	if err != nil || proof.Wrong != "" || proof.Took <= 0 || proof.Check != "passed" || proof.Compared != "schema; rows of 1 tables of 1, 1 of them exactly; every row was read" {
		t.Fatalf("%+v, %v\n%s", proof, err, b.log)
	}
	if asked != "postgres://lotse:p%40ss%2Fword@"+scratchHost+"/app?sslmode=verify-full&sslrootcert=/var/lib/lotse/rds.pem" {
		t.Error("the check was asked of another database")
	}
	b.noScratch(t, "after a drill")
	if all := b.list(t); len(all) != 1 || all[0].Proof == nil || all[0].Proof.Wrong != "" || all[0].Proof.Check != "passed" ||
		(all[0].Proof.Took-proof.Took).Abs() > 2*time.Second || all[0].Proof.At.Sub(proof.At).Abs() > 2*time.Second { // tags have whole seconds
		t.Errorf("another process sees %+v", all)
	}
	second := b.take(t)
	if gone, err := b.keeper(t).Prune(within(t, patience), b.ref(), deploy.Keep{Daily: 1}); err != nil || len(gone) != 0 {
		t.Errorf("before a newer one is proven, %v goes (%v)", gone, err)
	}
	if _, err := b.keeper(t).Prove(within(t, patience), b.ref(), second.ID, nil); err != nil {
		t.Fatal(err)
	}
	gone, err := b.keeper(t).Prune(within(t, patience), b.ref(), deploy.Keep{Daily: 1})
	if all := b.list(t); err != nil || len(gone) != 1 || gone[0].ID != first.ID || len(all) != 1 || all[0].ID != second.ID {
		t.Errorf("%v goes (%v), and %v is left", gone, err, all)
	}
	if b.w.Object(bucket, "stages/dev/snapshots/"+first.ID+".json") != nil || b.w.Object(bucket, "stages/dev/snapshots/"+second.ID+".json") == nil {
		t.Error("what was counted does not go with its snapshot")
	}
	var known []string
	for _, a := range aws.Actions() {
		known = append(known, a.String())
	}
	for _, call := range b.w.Calls() {
		if call.Service == "rds" && !slices.Contains(known, "rds:"+call.Action) {
			t.Errorf("rds:%s is on no list", call.Action)
		}
	}
	if text := b.log.String() + string(b.w.Object(bucket, "stages/dev/snapshots/"+second.ID+".json")); strings.Contains(text, "p@ss") || strings.Contains(text, "p%40ss") {
		t.Error("the password is in a log or in the bucket")
	}
}

// A drill names what did not come back, keeps that beside the snapshot, and leaves no instance.
func TestDrillsOfRDSThatFail(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{})
	one := b.take(t)
	good := b.live
	fewer, other, none := good, good, good
	fewer.Tables = []deploy.TableLook{{Name: "public.orders", Rows: 41}}
	other.Schema = "sha256:other"
	none.Tables = nil
	for _, c := range []struct {
		back  deploy.Look
		check error
		says  string
	}{
		{fewer, nil, "table public.orders has 41 rows, and had 42"},
		{other, nil, "the schema is not the one that was there"},
		{none, nil, "table public.orders is missing"},
		{good, &deploy.ExitError{Command: "bin/check", Code: 3}, "the app's own check says"},
	} {
		b.say(good, c.back, 0)
		proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, func(context.Context, secret.Text) error { return c.check })
		listed := b.list(t)[0].Proof
		if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(proof.Wrong, c.says) || listed == nil || listed.Wrong != proof.Wrong || listed.Check != proof.Check {
			t.Errorf("%s: %+v, %v, listed %+v", c.says, proof, err, listed)
		}
		b.noScratch(t, c.says)
	}
	b.say(good, good, 65)
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(proof.Wrong, "it cannot be said") {
		t.Errorf("a table that cannot be read: %+v, %v", proof, err)
	}
	b.noScratch(t, "a table that cannot be read")
	b.say(good, good, 0)
	b.w.DatabaseSnapshot(one.ID, "failed")
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); !errors.Is(err, deploy.ErrDamaged) || proof.Wrong == "" || b.list(t)[0].Damaged == "" {
		t.Errorf("a snapshot that RDS has given up: %+v, %v", proof, err)
	}
	b.w.DatabaseSnapshot(one.ID, "")
	if _, err := b.keeper(t).Prove(within(t, patience), b.ref(), "20200101-000000", nil); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	// Where nothing was found out, what is known of the snapshot stays.
	b.say(good, good, 1)
	before := *b.list(t)[0].Proof
	if _, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); err == nil || errors.Is(err, deploy.ErrDamaged) || *b.list(t)[0].Proof != before {
		t.Errorf("a look that fails: %v", err)
	}
	b.noScratch(t, "a look that fails")
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); err == nil {
		t.Errorf("%+v", proof)
	}
	b.say(good, good, 0)
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); err != nil || proof.Wrong != "" || b.list(t)[0].Proof.Wrong != "" {
		t.Errorf("as it is: %+v, %v", proof, err)
	}
}

// Without a machine to ask, or with one of an older Lotse, a snapshot is taken all the same, and its drill says what was not compared.
func TestSnapshotsThatNobodyCounted(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{})
	b.say(b.live, b.back, 2)
	one := b.take(t)
	if one.Rows != 0 || one.Schema != "" || !strings.Contains(b.log.String(), "older Lotse") {
		t.Errorf("%+v", one)
	}
	b.say(b.live, b.back, 0)
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); err != nil || !strings.Contains(proof.Compared, "nothing was counted") || b.list(t)[0].Proof.Compared == "" {
		t.Errorf("%+v, %v", proof, err)
	}
}

// What RDS refuses is said with what to do, and what it asks to wait for is waited for.
func TestRDSRefuses(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{Quotas: map[string]int{"ManualSnapshots": 1}})
	ctx := within(t, patience)
	for _, action := range []string{"CreateDBSnapshot", "DescribeDBSnapshots", "AddTagsToResource"} {
		b.w.Inject(awsfake.Throttled("rds", action, 2))
	}
	b.w.Inject(awsfake.Fault{Service: "rds", Action: "CreateDBSnapshot", Code: "InvalidDBInstanceState", Message: "backing-up"})
	b.w.Inject(awsfake.Fault{Service: "rds", Action: "CreateDBSnapshot", Drop: true, Done: true}) // the answer is lost: the second try finds it there
	one := b.take(t)
	if all := b.list(t); len(all) != 1 {
		t.Errorf("%v", all)
	}
	_, err := b.keeper(t).Take(ctx, b.order(deploy.SnapshotByHand, ""))
	mustSay(t, err, deploy.ErrRefused, "SnapshotQuotaExceeded", "Service Quotas")
	for action, do := range map[string]func(k deploy.Snapshots) error{
		"CreateDBSnapshot":                func(k deploy.Snapshots) error { _, err := k.Take(ctx, b.order(deploy.SnapshotByHand, "")); return err },
		"DescribeDBSnapshots":             func(k deploy.Snapshots) error { _, err := k.List(ctx, b.ref()); return err },
		"RestoreDBInstanceFromDBSnapshot": func(k deploy.Snapshots) error { _, err := k.Prove(ctx, b.ref(), one.ID, nil); return err },
	} {
		b.w.Deny("rds", action)
		mustSay(t, do(b.keeper(t)), deploy.ErrRefused, "rds:"+action, "the statement Database of the deployer's policy")
		b.w.Heal()
	}
	b.w.ByHand(b.w.Region(), "databases", "Database", "DBInstanceStatus", "stopped")
	_, err = b.keeper(t).Take(ctx, b.order(deploy.SnapshotByHand, ""))
	mustSay(t, err, deploy.ErrRefused, "is stopped")
	b.w.ByHand(b.w.Region(), "databases", "Database", "DBInstanceStatus", "available")
	mustSay(t, b.keeper(t).Restore(ctx, b.ref(), one.ID, deploy.Data{}), deploy.ErrUnsupported, "docs/restore.md")
	b.noScratch(t, "refused")
}

// What never comes is given up in time: a snapshot that stays in the making is not listed and does not count; an instance that does, is
// removed by the next drill.
func TestRDSNeverComes(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{Database: 300 * time.Millisecond})
	hasty := func(c *aws.Config) {
		c.Timing.Copy, c.Timing.Undo = 100*time.Millisecond, 50*time.Millisecond
	}
	_, err := b.keeper(t, hasty).Take(within(t, patience), b.order(deploy.SnapshotDaily, ""))
	mustSay(t, err, deploy.ErrUnavailable, "the end of the snapshot did not come within 100ms")
	one := b.take(t) // by now the first is whole, too
	if all := b.list(t); len(all) != 2 || all[1].ID != one.ID {
		t.Errorf("%v", all)
	}
	if _, err := b.keeper(t, hasty).Prove(within(t, patience), b.ref(), one.ID, nil); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if left := b.w.RestoredDatabases(); len(left) != 1 || !strings.Contains(b.log.String(), "stays, and costs") {
		t.Errorf("RDS deletes nothing that it is making; there is %v", left)
	}
	if proof, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil); err != nil || proof.Wrong != "" {
		t.Errorf("%+v, %v", proof, err)
	}
	b.noScratch(t, "the next drill")
}

// A controller is killed at every call of a snapshot and of its drill, whether or not RDS has carried it out. The next ones go well: no
// instance is left, a rollout finds the snapshot that it had ordered, and no other was ordered for it.
func TestKilledAtEveryCallOfRDS(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{Database: 5 * time.Millisecond})
	voyage := func(ctx context.Context, k deploy.Snapshots, rollout string) error {
		s, err := k.Take(ctx, b.order(deploy.SnapshotMigration, rollout))
		if err != nil {
			return err
		}
		_, err = k.Prove(ctx, b.ref(), s.ID, nil)
		return err
	}
	for at := 0; ; at++ {
		when := fmt.Sprintf("killed at call %d", at)
		rollout := fmt.Sprintf("r%d", at)
		ctx, die := context.WithCancel(within(t, patience))
		after := make(chan struct{}, at)
		for range at {
			after <- struct{}{}
		}
		err := voyage(ctx, b.keeper(t, func(c *aws.Config) {
			c.AWS.HTTPClient = dying{c.AWS.HTTPClient, after, at%2 == 0, die}
			c.AWS.Retryer = func() sdk.Retryer { return sdk.NopRetryer{} }
			c.Timing.Undo = 10 * time.Millisecond // the dead undo nothing
		}), rollout)
		die()
		if err == nil {
			t.Logf("%d calls", at)
			break
		}
		if err := voyage(within(t, patience), b.keeper(t), rollout); err != nil {
			t.Fatalf("%s: %v\n%s", when, err, b.log)
		}
		b.noScratch(t, when)
		if all := b.list(t); len(all) != 1 || all[0].Rollout != rollout || all[0].Proof == nil || all[0].Proof.Wrong != "" {
			t.Fatalf("%s: %+v", when, all)
		}
		b.w.ForgetSnapshots()
	}
}

// An instance of the scratch's name that is not Lotse's is left alone, and so are snapshots of other stages and of people.
func TestRDSOfOthers(t *testing.T) {
	t.Parallel()
	b := newRDSBench(t, awsfake.Options{})
	one := b.take(t)
	b.w.ForeignDatabase("lotse-shop-dev-by-hand", scratch)
	if all := b.list(t); len(all) != 1 || all[0].ID != one.ID {
		t.Errorf("%v", all)
	}
	_, err := b.keeper(t).Prove(within(t, patience), b.ref(), one.ID, nil)
	mustSay(t, err, deploy.ErrRefused, "is not Lotse's")
	if len(b.w.RestoredDatabases()) != 1 || b.calls("DeleteDBInstance") != 0 {
		t.Error("somebody's instance was deleted")
	}
}
