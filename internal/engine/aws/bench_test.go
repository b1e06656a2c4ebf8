package aws_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
	"github.com/lotse-eu/lotse/internal/load"
)

// Everything here runs on a FAKE of AWS (package awsfake), which runs real processes behind real balancers. Nothing of it is tested on
// AWS.

const (
	startTime = 6 * time.Second
	bucket    = "shop-releases"
)

// programs builds lotse and the app under test, once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lotse-aws-test")
	if err != nil {
		return "", err
	}
	for name, room := range map[string]string{"lotse": "cmd/lotse", "app": "internal/load/app"} {
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "github.com/lotse-eu/lotse/"+room)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%w: %s", err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of what these tests do is waiting, for machines that start and for what does not come: four at once, also on two processors.
	if err := flag.Set("test.parallel", fmt.Sprint(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	code := m.Run()
	if built.Load() {
		dir, _ := programs()
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// built says that programs was called by a test.
var built atomic.Bool

// cloud is an account with the stack of the app, and the engines that were opened.
type cloud struct {
	t       *testing.T
	w       *awsfake.World
	dir     string
	lotse   string
	app     string
	log     *logBuffer
	stages  [2]deploy.Stage
	account sdk.Config
	outputs map[string]string // of the stack

	mu    sync.Mutex
	files map[deploy.Digest]fs.FS
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func options() awsfake.Options {
	return awsfake.Options{Plane: true, HealthTimeout: startTime, RecordTTL: 200 * time.Millisecond, KeepAlive: 100 * time.Millisecond}
}

func newCloud(t *testing.T, balancer string, o awsfake.Options) *cloud {
	t.Helper()
	c := &cloud{t: t, dir: t.TempDir(), log: &logBuffer{}, files: map[deploy.Digest]fs.FS{}}
	c.w = awsfake.Open(t, o)
	c.account = c.w.Config("")
	for i, name := range []string{"dev", "prod"} {
		host := map[string]string{"dev": "dev.shop.example", "prod": "shop.example"}[name]
		c.stages[i] = deploy.Stage{Name: name, URL: "https://" + host, Engine: "aws",
			AWS: deploy.AWS{Region: c.w.Region(), Account: c.w.Account(), Balancer: balancer}}
	}
	c.stack(balancer)
	if o.Plane {
		c.build()
	}
	return c
}

// stack is what `lotse infra apply` leaves.
func (c *cloud) stack(balancer string) {
	c.w.Bucket(bucket)
	certificate := c.w.Certificate("shop.example", "*.shop.example")
	outputs := map[string]string{"Application": "shop", "ServiceRole": "arn:aws:iam::" + c.w.Account() + ":role/service", "DevInstanceProfile": "shop-dev-instances",
		"ProdInstanceProfile": "shop-prod-instances", "DevInstanceSecurityGroup": "sg-dev", "ProdInstanceSecurityGroup": "sg-prod", "BalancerSecurityGroup": "sg-2",
		"Vpc": "vpc-1", "InstanceSubnets": "subnet-1,subnet-2", "BalancerSubnets": "subnet-3,subnet-4",
		"Certificate": certificate, "Releases": bucket, "DevDatabaseHost": "lotse-shop-dev.abc.eu-central-1.rds.amazonaws.com",
		"DevDatabaseSecret": "lotse/shop/dev/engine/database"}
	if balancer != deploy.AWSOwn {
		outputs["Balancer"], outputs["Listener"] = c.w.Balancer("lotse-shop", certificate)
	}
	for i, name := range []string{"DevLogs", "ProdLogs"} {
		outputs[name] = "/lotse/shop/" + c.stages[i].Name
		if _, err := cloudwatchlogs.NewFromConfig(c.account).CreateLogGroup(c.t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: sdk.String(outputs[name])}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.outputs = outputs
	c.w.Stack("lotse-shop", outputs)
	for i, s := range c.stages {
		var to string
		if balancer == deploy.AWSOwn {
			to = "shop-" + s.Name + "." + c.w.Region() + ".elasticbeanstalk.com"
		} else {
			to = c.w.BalancerName(outputs["Balancer"])
		}
		c.w.Record(hostOf(c.stages[i]), to)
	}
	if _, err := eb.NewFromConfig(c.account).CreateApplication(c.t.Context(), &eb.CreateApplicationInput{ApplicationName: sdk.String("shop")}); err != nil {
		c.t.Fatal(err)
	}
}

func hostOf(s deploy.Stage) string { return strings.TrimPrefix(s.URL, "https://") }

// build makes the programs. In the bundle lie scripts that run them in place: tens of bundles with tens of megabytes would prove nothing more.
func (c *cloud) build() {
	built.Store(true)
	dir, err := programs()
	if err != nil {
		c.t.Fatal(err)
	}
	script := func(name string) string {
		path := filepath.Join(c.dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/bash\nexec -a \"$0\" "+filepath.Join(dir, name)+" \"$@\"\n"), 0o755); err != nil {
			c.t.Fatal(err)
		}
		return path
	}
	c.lotse, c.app = script("lotse"), script("app")
}

func timing() aws.Timing {
	return aws.Timing{Poll: 30 * time.Millisecond, Launch: 40 * time.Second, Gone: 30 * time.Second, Settle: 20 * time.Second, Switch: 50 * time.Millisecond,
		DNS: 800 * time.Millisecond, Command: 3 * time.Second, Undo: 30 * time.Second, Quiet: 2 * time.Second}
}

func (c *cloud) config(s deploy.Stage) aws.Config {
	return aws.Config{App: enginetest.App, Stage: s, AWS: c.w.Config(""), Lotse: c.lotse, Dir: filepath.Join(c.dir, "scratch"), Machine: "amd64", Dial: c.w.Dialer(), TLS: c.w.TLS(),
		Log: slog.New(slog.NewTextHandler(c.log, nil)), Timing: timing(), PasswordCost: 4,
		Files: func(_ context.Context, r deploy.Release) (fs.FS, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.files[r.ID], nil
		}}
}

func (c *cloud) open(t enginetest.T, s deploy.Stage) *aws.Engine {
	e, err := aws.Open(c.config(s))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return e
}

// referring gives the engine secrets as the vault does: with a reference. The value alone would be a plain variable.
type referring struct {
	*aws.Engine
	c *cloud
}

// Start implements deploy.Engine.
func (r referring) Start(ctx context.Context, fence deploy.Fence, o deploy.Order) error {
	o.Settings = slices.Clone(o.Settings)
	for i, s := range o.Settings {
		if strings.HasPrefix(s.Name, "SECRET") {
			o.Settings[i].Reference = r.c.secret("lotse/shop/"+o.Stage.Name+"/"+s.Name, s.Value.Reveal())
		}
	}
	return r.Engine.Start(ctx, fence, o)
}

// secret is one in Secrets Manager, which is made where it is not there.
func (c *cloud) secret(name, value string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := secretsmanager.NewFromConfig(c.account)
	if there, err := client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name}); err == nil {
		return *there.ARN
	}
	made, err := client.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value})
	if err != nil {
		c.t.Errorf("secret: %v", err)
		return ""
	}
	return *made.ARN
}

func (c *cloud) release(t enginetest.T, tag string, services ...deploy.Service) deploy.Release {
	m := deploy.Manifest{Format: 1, App: enginetest.App, Commit: tag, Services: services, Files: []deploy.File{{Path: "app", Executable: true}, {Path: "tag"}}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := deploy.Release{ID: deploy.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(raw))), Manifest: m}
	c.keep(r.ID, tag)
	return r
}

func (c *cloud) keep(id deploy.Digest, tag string) {
	app := []byte("#!/bin/sh\n")
	if c.app != "" {
		app, _ = os.ReadFile(c.app)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[id] = fstest.MapFS{"app": {Data: app, Mode: 0o755}, "tag": {Data: []byte(tag)}}
}

func web(mode string, instances int) deploy.Service {
	return deploy.Service{Name: "web", Command: "./app " + mode, Path: "/", Health: "/health", Instances: instances, Start: startTime}
}

func (c *cloud) plan(s deploy.Stage) load.Plan {
	return load.Plan{URL: s.URL, TLS: c.w.TLS(), Dial: c.w.Dialer()}
}

func bench(t *testing.T, balancer string) enginetest.Bench {
	c := newCloud(t, balancer, options())
	return enginetest.Bench{
		Stages: c.stages, Start: startTime, Slack: 25 * time.Second,
		Open: func(t enginetest.T, s deploy.Stage) deploy.Engine { return referring{c.open(t, s), c} },
		Release: func(t enginetest.T, kind enginetest.Kind, tag string, instances int) deploy.Release {
			return c.release(t, tag, web(string(kind), instances))
		},
		Plan:      c.plan,
		Break:     c.freeze,
		Outage:    c.outage,
		Previous:  c.previous,
		Leftovers: c.leftovers,
		Written:   c.written,
	}
}

// freeze stops every process of one machine: connections are taken, and nobody answers.
func (c *cloud) freeze(t enginetest.T, s deploy.Stage, rollout, _ string, n int) func() {
	machines := c.w.Instances(aws.EnvironmentName(c.open(t, s), rollout))
	slices.SortFunc(machines, func(a, b *awsfake.Instance) int { return strings.Compare(a.ID(), b.ID()) })
	if n >= len(machines) {
		t.Fatalf("break: %s has %d machines", rollout, len(machines))
	}
	machines[n].Freeze()
	return machines[n].Thaw
}

func (c *cloud) outage(enginetest.T, deploy.Stage) func() {
	c.w.Inject(awsfake.Fault{Times: -1, Drop: true})
	return c.w.Heal
}

// previous brings up a rollout whose tags are those of the first version, as they lie in testdata since then.
func (c *cloud) previous(t enginetest.T, s deploy.Stage) deploy.Running {
	id := "sha256:" + deploy.Digest(strings.Repeat("ab", 32))
	c.keep(id, "before")
	e := c.open(t, s)
	r := deploy.Release{ID: id, Manifest: deploy.Manifest{Format: 1, App: enginetest.App, Services: []deploy.Service{web("good", 1)},
		Files: []deploy.File{{Path: "app", Executable: true}, {Path: "tag"}}}}
	if err := e.Start(t.Context(), 1, deploy.Order{Rollout: "before", Release: r, Stage: s}); err != nil {
		t.Fatalf("previous: %v", err)
	}
	if err := e.Shift(t.Context(), 1, "before", 100); err != nil {
		t.Fatalf("previous: %v", err)
	}
	there := c.environment(t, aws.EnvironmentName(e, "before"))
	tags, err := eb.NewFromConfig(c.account).ListTagsForResource(t.Context(), &eb.ListTagsForResourceInput{ResourceArn: there.EnvironmentArn})
	if err != nil {
		t.Fatalf("previous: %v", err)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, tag := range tags.ResourceTags {
		if strings.HasPrefix(*tag.Key, "lotse:") {
			got[*tag.Key] = *tag.Value
		}
	}
	raw, err := os.ReadFile("testdata/environment-1.json")
	if err == nil {
		err = json.Unmarshal(raw, &want)
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tags of format 1 were %v, and are %v now (%v)", want, got, err)
	}
	return deploy.Running{Rollout: "before", Release: id, Share: 100, Since: there.DateCreated.UTC(), Services: []deploy.RunningService{{Name: "web"}}}
}

func (c *cloud) environment(t enginetest.T, name string) ebtypes.EnvironmentDescription {
	out, err := eb.NewFromConfig(c.account).DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentNames: []string{name}, IncludeDeleted: sdk.Bool(false)})
	if err != nil || len(out.Environments) != 1 {
		t.Fatalf("environment %s: %v", name, err)
	}
	return out.Environments[0]
}

func within(t enginetest.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestContractShared proves the contract where stages share a balancer: shares are weights of its rule.
func TestContractShared(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Bench { return bench(t, deploy.AWSShared) })
}

// TestContractOwn proves it where every environment has its own, and a shift swaps names.
func TestContractOwn(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: the whole contract with a balancer for each environment takes minutes: make prove")
	}
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Bench { return bench(t, deploy.AWSOwn) })
}
