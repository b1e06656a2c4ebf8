// What Lotse's product code asks of RDS, CloudFormation's outputs, Secrets Manager, S3 and Route 53, tried against moto. S3 and CloudFront
// of static releases are tried in internal/bucket, people's secrets in internal/vault.
package mototest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	engine "github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/infra"
)

const (
	region   = "eu-central-1"
	releases = "lotse-shop-releases-" + mototest.Account
	database = "lotse-shop-prod"
)

// stack makes what `lotse infra apply` would have made, as far as the engine's database needs it. The template is a stand-in: moto's
// CloudFormation says nothing about ours.
func stack(t *testing.T, cfg aws.Config, more ...string) {
	t.Helper()
	ctx := t.Context()
	master := `{"username":"lotse","password":"a b/c@d"}`
	made, err := secretsmanager.NewFromConfig(cfg).CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("database"), SecretString: &master})
	if err != nil {
		t.Fatal(err)
	}
	created, err := rds.NewFromConfig(cfg).CreateDBInstance(ctx, &rds.CreateDBInstanceInput{DBInstanceIdentifier: aws.String(database), Engine: aws.String("postgres"), EngineVersion: aws.String("15.4"),
		DBInstanceClass: aws.String("db.t4g.micro"), AllocatedStorage: aws.Int32(20), MasterUsername: aws.String("lotse"), MasterUserPassword: aws.String("0123456789")})
	if err != nil {
		t.Fatal(err)
	}
	host := database + "." + region + ".rds.amazonaws.com"
	if e := created.DBInstance.Endpoint; e != nil && e.Address != nil {
		host = *e.Address
	}
	if _, err := buckets(cfg).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(releases), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}}); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]any{"Releases": releases, "ProdDatabaseHost": host, "ProdDatabaseSecret": *made.ARN}
	for _, name := range []string{"Application", "ServiceRole", "ProdInstanceProfile", "Vpc", "InstanceSubnets", "BalancerSubnets", "ProdInstanceSecurityGroup", "BalancerSecurityGroup", "Certificate", "Balancer", "Listener"} {
		outputs[name] = "x"
	}
	for pair := range slices.Chunk(more, 2) {
		outputs[pair[0]] = pair[1]
	}
	for name, value := range outputs {
		outputs[name] = map[string]any{"Value": value}
	}
	template, err := json.Marshal(map[string]any{"Resources": map[string]any{"Topic": map[string]string{"Type": "AWS::SNS::Topic"}}, "Outputs": outputs})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cloudformation.NewFromConfig(cfg).CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("lotse-shop"), TemplateBody: aws.String(string(template))}); err != nil {
		t.Fatal(err)
	}
}

func buckets(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
}

func open(t *testing.T, cfg aws.Config, postgres int) (*engine.Engine, deploy.Database) {
	t.Helper()
	db := deploy.Database{Postgres: postgres}
	stage := deploy.Stage{Name: "prod", URL: "https://shop.example.org", Engine: "aws", Database: db, AWS: deploy.AWS{Region: region, Account: mototest.Account}}
	e, err := engine.Open(engine.Config{App: "shop", Stage: stage, AWS: cfg, Dir: t.TempDir(), Timing: engine.Timing{Poll: 10 * time.Millisecond, Launch: 20 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return e, db
}

// The engine finds the database of the stack, hands its address on as a reference to a secret, and keeps its fence in S3.
func TestDatabaseOfAStageOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "the engine's database was tried against no RDS, Secrets Manager and S3 that others wrote")
	stack(t, cfg)
	ctx := t.Context()
	e, db := open(t, cfg, 15)
	address, err := e.DatabaseURL(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address.Value.Reveal())
	if password, _ := u.User.Password(); err != nil || password != "a b/c@d" || !strings.HasPrefix(u.Host, database+".") || u.Query().Get("sslmode") != "verify-full" {
		t.Errorf("the address is not of the database, or without TLS (%v)", err)
	}
	kept, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &address.Reference})
	if err != nil || *kept.SecretString != address.Value.Reveal() {
		t.Errorf("the reference %q does not lead to the address: %v", address.Reference, err)
	}
	another, _ := open(t, cfg, 15)
	if again, err := another.DatabaseURL(ctx, db); err != nil || again != address && again.Reference != address.Reference {
		t.Errorf("asked again, the reference is %q, %v", again.Reference, err)
	}
	if err := e.OpenDatabase(ctx, 2, db); err != nil {
		t.Errorf("a database that is available: %v", err)
	}
	if err := another.OpenDatabase(ctx, 1, db); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("an older fence: %v", err)
	}
	newer, wrong := open(t, cfg, 16)
	if err := newer.OpenDatabase(ctx, 3, wrong); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "PostgreSQL 15") {
		t.Errorf("another major version: %v", err)
	}
	instances := rds.NewFromConfig(cfg)
	if _, err := instances.StopDBInstance(ctx, &rds.StopDBInstanceInput{DBInstanceIdentifier: aws.String(database)}); err != nil {
		t.Fatal(err)
	}
	if err := e.OpenDatabase(ctx, 4, db); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "stop") {
		t.Errorf("a database that was stopped: %v", err)
	}
	if _, err := instances.DeleteDBInstance(ctx, &rds.DeleteDBInstanceInput{DBInstanceIdentifier: aws.String(database), SkipFinalSnapshot: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if err := e.OpenDatabase(ctx, 5, db); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("a database that is gone: %v", err)
	}
}

// The fence of a stage is one object that only a condition replaces: of ten at once with different numbers, the greatest is left.
func TestFencesOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "the engine's fence was tried against no S3 that others wrote")
	stack(t, cfg)
	errs := make(chan error)
	for fence := range deploy.Fence(10) {
		e, db := open(t, cfg, 15)
		go func() { errs <- e.OpenDatabase(t.Context(), fence+1, db) }()
	}
	for range 10 {
		if err := <-errs; err != nil && !errors.Is(err, deploy.ErrFenced) {
			t.Error(err)
		}
	}
	out, err := buckets(cfg).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(releases), Key: aws.String("stages/prod/fence.json")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	var state struct{ Fence int64 }
	if err := json.NewDecoder(out.Body).Decode(&state); err != nil || state.Fence != 10 {
		t.Errorf("the fence is %d, %v", state.Fence, err)
	}
}

const file = `app: shop
services: { site: { static: dist, fallback: index.html } }
aws: { region: eu-central-1, zone: example.org }
stages: { prod: { engine: aws, url: https://shop.example.org, access: open } }
`

// The zone of a stage is found in Route 53 by its name; a private one, and one whose name comes after it, are not it. Everything but
// Route 53 is our own fake.
func TestZonesOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "zones were looked up in no Route 53 that others wrote")
	app, err := config.Read("lotse.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	world := awsfake.Open(t, awsfake.Options{})
	cloud := infra.Cloud{Now: time.Now, Look: 5 * time.Millisecond, Config: func(_ context.Context, region string) (aws.Config, error) {
		mixed := world.Config(region)
		mixed.HTTPClient = &zonesOf{mixed.HTTPClient, *cfg.BaseEndpoint}
		return mixed, nil
	}}
	zones := route53.NewFromConfig(cfg)
	zone := func(name string, private bool) {
		in := &route53.CreateHostedZoneInput{Name: &name, CallerReference: aws.String(name), HostedZoneConfig: &types.HostedZoneConfig{PrivateZone: private}}
		if private {
			in.VPC = &types.VPC{VPCId: aws.String("vpc-1"), VPCRegion: types.VPCRegionEuCentral1}
			in.CallerReference = aws.String("private " + name)
		}
		if _, err := zones.CreateHostedZone(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	zone("example.org", true)
	zone("zebra.example.org", false)
	if _, err := cloud.Plan(t.Context(), app); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), "no public hosted zone example.org") {
		t.Errorf("without the zone: %v", err)
	}
	zone("example.org", false)
	if _, err := cloud.Plan(t.Context(), app); err != nil {
		t.Errorf("with the zone: %v", err)
	}
}

// zonesOf sends what is for Route 53 elsewhere.
type zonesOf struct {
	aws.HTTPClient
	endpoint string
}

func (z *zonesOf) Do(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.Header.Get("Authorization"), "/route53/") {
		return z.HTTPClient.Do(r)
	}
	u, err := url.Parse(z.endpoint)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Host, r.URL.Scheme = u.Host, u.Scheme
	return (&http.Client{Timeout: time.Minute}).Do(r)
}
