package mototest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/deploy"
	engine "github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/secret"
)

// onlyRDS sends what is for RDS to moto, and keeps its actions.
type onlyRDS struct {
	aws.HTTPClient
	endpoint string
	mu       sync.Mutex
	actions  []string
}

func (o *onlyRDS) Do(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.Header.Get("Authorization"), "/rds/") {
		return o.HTTPClient.Do(r)
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	o.actions = append(o.actions, form.Get("Action"))
	o.mu.Unlock()
	u, err := url.Parse(o.endpoint)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(raw))
	r.URL.Host, r.URL.Scheme = u.Host, u.Scheme
	return (&http.Client{Timeout: time.Minute}).Do(r)
}

// machines is an account of our own fake with a stage that runs, whose one machine says of every database that it looks like this.
func machines(t *testing.T, look deploy.Look) *awsfake.World {
	t.Helper()
	raw, err := json.Marshal(look)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(raw)
	_ = z.Close()
	w := awsfake.Open(t, awsfake.Options{Answer: func(string) (string, int) { return base64.StdEncoding.EncodeToString(packed.Bytes()), 0 }})
	w.Bucket(releases)
	outputs := map[string]string{"Releases": releases, "Application": "shop", "ProdDatabaseHost": database + "." + region + ".rds.amazonaws.com", "ProdDatabaseSecret": "database"}
	outputs["Balancer"], outputs["Listener"] = w.Balancer("lotse-shop", w.Certificate("shop.example.org"))
	for _, name := range []string{"ServiceRole", "ProdInstanceProfile", "Vpc", "InstanceSubnets", "BalancerSubnets", "ProdInstanceSecurityGroup", "BalancerSecurityGroup", "Certificate"} {
		outputs[name] = "x"
	}
	w.Stack("lotse-shop", outputs)
	client, ctx := eb.NewFromConfig(w.Config("")), t.Context()
	stacks, err := client.ListAvailableSolutionStacks(ctx, &eb.ListAvailableSolutionStacksInput{})
	if err == nil {
		_, err = client.CreateApplication(ctx, &eb.CreateApplicationInput{ApplicationName: aws.String("shop")})
	}
	if err == nil {
		_, err = client.CreateEnvironment(ctx, &eb.CreateEnvironmentInput{ApplicationName: aws.String("shop"), EnvironmentName: aws.String("shop-prod-0123456789"), SolutionStackName: &stacks.SolutionStacks[0],
			Tags: []ebtypes.Tag{{Key: aws.String("lotse:app"), Value: aws.String("shop")}, {Key: aws.String("lotse:stage"), Value: aws.String("prod")}, {Key: aws.String("lotse:rollout"), Value: aws.String("one")}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		all, err := client.DescribeEnvironments(ctx, &eb.DescribeEnvironmentsInput{})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the environment is not ready: %v", err)
		}
		if all.Environments[0].Status == ebtypes.EnvironmentStatusReady {
			return w
		}
	}
}

// Snapshots are taken, tagged, listed, restored into a scratch instance that is deleted, and pruned on an RDS that others wrote. All else is our
// own fake, and what the machine says of the databases is made up.
func TestSnapshotsOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "snapshots were taken, restored and pruned on no RDS that others wrote")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	api := rds.NewFromConfig(cfg)
	if _, err := api.CreateDBInstance(ctx, &rds.CreateDBInstanceInput{DBInstanceIdentifier: aws.String(database), Engine: aws.String("postgres"), EngineVersion: aws.String("15.4"), DBInstanceClass: aws.String("db.t4g.large"),
		AllocatedStorage: aws.Int32(20), MasterUsername: aws.String("lotse"), MasterUserPassword: aws.String("0123456789"), CopyTagsToSnapshot: aws.Bool(true),
		Tags: []types.Tag{{Key: aws.String("lotse:app"), Value: aws.String("shop")}, {Key: aws.String("lotse:stage"), Value: aws.String("prod")}}}); err != nil {
		t.Fatal(err)
	}
	w := machines(t, deploy.Look{Server: "15.4", Schema: "sha256:ab", Since: "monday", Tables: []deploy.TableLook{{Name: "public.orders", Rows: 7}}})
	wire := &onlyRDS{HTTPClient: w.Config("").HTTPClient, endpoint: *cfg.BaseEndpoint}
	mixed := w.Config("")
	mixed.HTTPClient = wire
	now := time.Now().UTC() // moto dates what it makes by the clock
	db := deploy.Database{Postgres: 15}
	stage := deploy.Stage{Name: "prod", URL: "https://shop.example.org", Engine: "aws", Database: db, AWS: deploy.AWS{Region: region}}
	e, err := engine.Open(engine.Config{App: "shop", Stage: stage, AWS: mixed, Dir: t.TempDir(), Now: func() time.Time { now = now.Add(time.Second); return now },
		Timing: engine.Timing{Poll: 10 * time.Millisecond, Counted: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	keeper, takes := e.Snapshots(db)
	if !takes {
		t.Fatal("RDS takes none")
	}
	ref := deploy.StageRef{App: "shop", Stage: "prod"}
	one, err := keeper.Take(ctx, deploy.SnapshotOrder{Stage: ref, Why: deploy.SnapshotMigration, Rollout: "r1", Release: "sha256:ab"})
	if err != nil || one.Why != deploy.SnapshotMigration || one.Rollout != "r1" || one.Release != "sha256:ab" || one.At.IsZero() || one.Server != "15.4" || one.Rows != 7 {
		t.Fatalf("%+v, %v", one, err)
	}
	if again, err := keeper.Take(ctx, deploy.SnapshotOrder{Stage: ref, Why: deploy.SnapshotMigration, Rollout: "r1"}); err != nil || again.ID != one.ID {
		t.Errorf("after a crash the rollout takes another: %+v, %v", again, err)
	}
	// The tags of the instance are copied to it, as they are to those that RDS takes by itself.
	if _, err := api.CreateDBSnapshot(ctx, &rds.CreateDBSnapshotInput{DBInstanceIdentifier: aws.String(database), DBSnapshotIdentifier: aws.String("by-hand")}); err != nil {
		t.Fatal(err)
	}
	two, err := keeper.Take(ctx, deploy.SnapshotOrder{Stage: ref, Why: deploy.SnapshotDaily})
	if err != nil {
		t.Fatal(err)
	}
	made := ""
	proof, err := keeper.Prove(ctx, ref, two.ID, func(context.Context, secret.Text) error {
		out, err := api.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String("lotse-shop-prod-scratch")})
		if err == nil {
			made = *out.DBInstances[0].DBInstanceClass
		}
		return err
	})
	if err == nil || made != "" { // the secret of the database is in our fake, which has none
		t.Errorf("without the password the check was asked: %+v", proof)
	}
	if proof, err = keeper.Prove(ctx, ref, two.ID, nil); err != nil || proof.Wrong != "" || !strings.HasPrefix(proof.Compared, "schema; rows of 1 tables of 1, 1 of them exactly") {
		t.Errorf("%+v, %v", proof, err)
	}
	out, err := api.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{})
	if err != nil || slices.ContainsFunc(out.DBInstances, func(i types.DBInstance) bool { return *i.DBInstanceIdentifier != database }) {
		t.Errorf("there are %d instances, %v", len(out.DBInstances), err)
	}
	all, err := keeper.List(ctx, ref)
	if err != nil || len(all) != 2 || all[0].ID != one.ID || all[1].Proof == nil || all[1].Proof.Compared != proof.Compared || all[0].Proof != nil {
		t.Errorf("%+v, %v", all, err)
	}
	now = now.AddDate(0, 0, 2)
	if gone, err := keeper.Prune(ctx, ref, deploy.Keep{Daily: 1}); err != nil || len(gone) != 1 || gone[0].ID != one.ID {
		t.Errorf("%+v goes, %v", gone, err)
	}
	left, err := api.DescribeDBSnapshots(ctx, &rds.DescribeDBSnapshotsInput{SnapshotType: aws.String("manual")})
	if err != nil || len(left.DBSnapshots) != 2 {
		t.Errorf("%d snapshots are left, the one by hand among them: %v", len(left.DBSnapshots), err)
	}
	slices.Sort(wire.actions)
	want := []string{"AddTagsToResource", "CreateDBSnapshot", "DeleteDBInstance", "DeleteDBSnapshot", "DescribeDBInstances", "DescribeDBSnapshots", "RestoreDBInstanceFromDBSnapshot"}
	if got := slices.Compact(wire.actions); !slices.Equal(got, want) {
		t.Errorf("moto was asked for %v", got)
	}
}
