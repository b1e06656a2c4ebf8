package aws_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/secret"
)

// still is an account in which nothing runs: enough for what is refused before anything would.
func still(t *testing.T, o awsfake.Options) *cloud {
	t.Helper()
	c := newCloud(t, deploy.AWSShared, o)
	c.lotse = "stack_test.go" // any file
	return c
}

func (c *cloud) start(t *testing.T, stage deploy.Stage, id string) error {
	t.Helper()
	o := deploy.Order{Rollout: id, Release: c.release(t, id, web("good", 1)), Stage: stage}
	return c.open(t, stage).Start(within(t, time.Minute), 1, o)
}

// mustSay fails unless err is a sentinel and its words with the hint have all these.
func mustSay(t *testing.T, err, is error, wants ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("%v, want %v", err, is)
		return
	}
	told := err.Error() + " → " + deploy.HintOf(err)
	for _, want := range wants {
		if !strings.Contains(told, want) {
			t.Errorf("it does not say %q: %s", want, told)
		}
	}
}

// What a person has to put right is said in words, with what to do, before anything is made.
func TestWhatIsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		harm  func(*testing.T, *cloud)
		is    error
		wants []string
	}{
		"no stack": {func(_ *testing.T, c *cloud) {
			c.w.SetStack(c.w.Region(), "lotse-shop", cftypes.StackStatusDeleteComplete, nil)
		},
			deploy.ErrNotFound, []string{"lotse-shop", "eu-central-1", "lotse infra apply"}},
		"rolled back": {func(_ *testing.T, c *cloud) {
			c.w.SetStack(c.w.Region(), "lotse-shop", cftypes.StackStatusRollbackComplete, nil)
		},
			deploy.ErrRefused, []string{"ROLLBACK_COMPLETE", "lotse infra apply"}},
		"being made": {func(_ *testing.T, c *cloud) {
			c.w.SetStack(c.w.Region(), "lotse-shop", cftypes.StackStatusCreateInProgress, nil)
		},
			deploy.ErrBusy, []string{"CREATE_IN_PROGRESS"}},
		"an old stack": {func(_ *testing.T, c *cloud) {
			c.w.SetStack(c.w.Region(), "lotse-shop", cftypes.StackStatusUpdateComplete, map[string]string{"Application": "shop"})
		}, deploy.ErrMissing, []string{"Listener", "Releases", "lotse infra apply"}},
		"another account": {func(_ *testing.T, c *cloud) { c.stages[0].AWS.Account = "999999999999" },
			deploy.ErrBadInput, []string{"123456789012", "999999999999", "AWS_PROFILE"}},
		"somebody else's bucket": {func(_ *testing.T, c *cloud) { c.w.ForeignBucket(bucket) }, deploy.ErrRefused, []string{"not ours", "Releases"}},
		"no permission": {func(_ *testing.T, c *cloud) { c.w.Deny("elasticbeanstalk", "CreateEnvironment") },
			deploy.ErrRefused, []string{"elasticbeanstalk:CreateEnvironment", "the statement Environments"}},
		"no permission for the stack": {func(_ *testing.T, c *cloud) { c.w.Deny("cloudformation", "DescribeStacks") },
			deploy.ErrRefused, []string{"cloudformation:DescribeStacks", "the statement Stack"}},
		"expired":              {func(_ *testing.T, c *cloud) { c.w.Inject(awsfake.Expired("")) }, deploy.ErrUnavailable, []string{"expired", "aws sso login"}},
		"throttled for long":   {func(_ *testing.T, c *cloud) { c.w.Inject(awsfake.Throttled("sts", "", -1)) }, deploy.ErrUnavailable, []string{"sts:GetCallerIdentity", "fewer calls"}},
		"no network":           {func(_ *testing.T, c *cloud) { c.w.Inject(awsfake.Fault{Times: -1, Drop: true}) }, deploy.ErrUnavailable, []string{"network"}},
		"a name that is taken": {takeName, deploy.ErrRefused, []string{"shop-dev-", "tags"}},
		"a host that is taken": {takeHost, deploy.ErrRefused, []string{"dev.shop.example", "not this stage's"}},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := still(t, awsfake.Options{})
			c.harm(t, cloud)
			err := cloud.start(t, cloud.stages[0], "r1")
			mustSay(t, err, c.is, c.wants...)
			cloud.w.Heal()
			out, err := eb.NewFromConfig(cloud.account).DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{IncludeDeleted: sdk.Bool(false)})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range out.Environments {
				if name != "a name that is taken" {
					t.Errorf("the environment %s was left", *v.EnvironmentName)
				}
			}
		})
	}
}

// takeName makes an environment as the rollout's would be called, by hand.
func takeName(t *testing.T, c *cloud) {
	client := eb.NewFromConfig(c.account)
	platforms, err := client.ListAvailableSolutionStacks(t.Context(), &eb.ListAvailableSolutionStacksInput{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateEnvironment(t.Context(), &eb.CreateEnvironmentInput{ApplicationName: sdk.String("shop"), SolutionStackName: &platforms.SolutionStacks[0],
		EnvironmentName: sdk.String(aws.EnvironmentName(c.open(t, c.stages[0]), "r1")), Tags: []ebtypes.Tag{{Key: sdk.String("mine"), Value: sdk.String("yes")}}})
	if err != nil {
		t.Fatal(err)
	}
}

// takeHost makes a rule for the stage's host, by hand.
func takeHost(t *testing.T, c *cloud) {
	client := elb.NewFromConfig(c.account)
	balancers, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := client.DescribeListeners(t.Context(), &elb.DescribeListenersInput{LoadBalancerArn: balancers.LoadBalancers[0].LoadBalancerArn})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateRule(t.Context(), &elb.CreateRuleInput{ListenerArn: listeners.Listeners[0].ListenerArn, Priority: sdk.Int32(7),
		Conditions: []elbtypes.RuleCondition{{Field: sdk.String("host-header"), HostHeaderConfig: &elbtypes.HostHeaderConditionConfig{Values: []string{hostOf(c.stages[0])}}}},
		Actions:    []elbtypes.Action{{Type: elbtypes.ActionTypeEnumFixedResponse, FixedResponseConfig: &elbtypes.FixedResponseActionConfig{StatusCode: sdk.String("200")}}}})
	if err != nil {
		t.Fatal(err)
	}
}

// The region of the credentials' configuration must be the app's.
func TestAnotherRegion(t *testing.T) {
	c := still(t, awsfake.Options{})
	config := c.config(c.stages[0])
	config.AWS = c.w.Config("us-east-1")
	_, err := aws.Open(config)
	mustSay(t, err, deploy.ErrBadInput, "us-east-1", "eu-central-1", "AWS_REGION")
}

// Quotas are asked before anything is uploaded.
func TestQuotas(t *testing.T) {
	for what, name := range map[string]string{"environments": "Environments", "application versions": "ApplicationVersions"} {
		c := still(t, awsfake.Options{Quotas: map[string]int{name: 0}})
		mustSay(t, c.start(t, c.stages[0], "r1"), deploy.ErrRefused, what, "may have 0", "Service Quotas")
		for _, call := range c.w.Calls() {
			if call.Action == "CreateApplicationVersion" || call.Action == "CreateEnvironment" || call.Action == "PutObject" && strings.Contains(call.Resource, "bundles") {
				t.Errorf("%s: %s was called", what, call.Action)
			}
		}
	}
}

// What does not fit is refused before AWS is asked anything.
func TestRefusedAtOnce(t *testing.T) {
	c := still(t, awsfake.Options{})
	e := c.open(t, c.stages[0])
	for name, o := range map[string]struct {
		order deploy.Order
		is    error
		want  string
	}{
		"variables":        {deploy.Order{Settings: []deploy.Setting{{Name: "LARGE", Value: secret.New(strings.Repeat("x", 5000))}}}, deploy.ErrBadInput, "LARGE"},
		"files alone":      {deploy.Order{Release: c.release(t, "files", deploy.Service{Name: "site", Static: "dist"})}, deploy.ErrUnsupported, "bucket"},
		"different counts": {deploy.Order{Release: c.release(t, "counts", web("good", 2), deploy.Service{Name: "w", Command: "./app worker"})}, deploy.ErrUnsupported, "same number"},
	} {
		c.w.ForgetCalls()
		o.order.Rollout, o.order.Stage = "r1", c.stages[0]
		if o.order.Release.ID == "" {
			o.order.Release = c.release(t, name, web("good", 1))
		}
		mustSay(t, e.Start(t.Context(), 1, o.order), o.is, o.want)
		if calls := c.w.Calls(); len(calls) > 0 {
			t.Errorf("%s: AWS was asked: %v", name, calls)
		}
	}
}

// A bundle that is too large is refused before it is uploaded.
func TestBundleOverTheLimit(t *testing.T) {
	c := still(t, awsfake.Options{})
	e := c.open(t, c.stages[0])
	aws.SetBundleMost(e, 300)
	err := e.Start(t.Context(), 1, deploy.Order{Rollout: "r1", Release: c.release(t, "large", web("good", 1)), Stage: c.stages[0]})
	mustSay(t, err, deploy.ErrBadInput, "Elastic Beanstalk takes no more", "lotse.yaml")
	if left := c.leftovers(t, c.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// A greater fence is kept where a fresh process finds it, also when many set theirs at once; the smaller one is refused.
func TestFence(t *testing.T) {
	c := still(t, awsfake.Options{})
	stop := func(fence deploy.Fence) error {
		return c.open(t, c.stages[0]).Stop(within(t, time.Minute), fence, "nobody", 0)
	}
	results := make(chan error, 10)
	for fence := range deploy.Fence(10) {
		go func() { results <- stop(fence + 1) }()
	}
	for range 10 {
		if err := <-results; err != nil && !errors.Is(err, deploy.ErrFenced) {
			t.Error(err)
		}
	}
	if err := stop(10); err != nil {
		t.Errorf("the same fence again: %v", err)
	}
	mustSay(t, stop(9), deploy.ErrFenced, "10", "9")
	if err := c.open(t, c.stages[1]).Stop(t.Context(), 1, "nobody", 0); err != nil {
		t.Errorf("another stage: %v", err)
	}
}

// late lets something happen just before the first PUT.
type late struct {
	next   sdk.HTTPClient
	before func()
	once   *sync.Once
}

// Do implements sdk.HTTPClient.
func (l late) Do(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		l.once.Do(l.before)
	}
	return l.next.Do(r)
}

// Between its look at the fence and its own note, somebody with a greater one comes: the platform refuses the note.
func TestFenceAtTheLastMoment(t *testing.T) {
	c := still(t, awsfake.Options{})
	for i, old := range []deploy.Fence{0, 3} { // nobody was there before, or somebody was
		stage := c.stages[i]
		if old > 0 {
			if err := c.open(t, stage).Stop(t.Context(), old, "nobody", 0); err != nil {
				t.Fatal(err)
			}
		}
		config := c.config(stage)
		config.AWS.HTTPClient = late{config.AWS.HTTPClient, func() {
			if err := c.open(t, stage).Stop(t.Context(), old+2, "nobody", 0); err != nil {
				t.Error(err)
			}
		}, &sync.Once{}}
		e, err := aws.Open(config)
		if err != nil {
			t.Fatal(err)
		}
		mustSay(t, e.Stop(t.Context(), old+1, "nobody", 0), deploy.ErrFenced)
	}
}

// rds makes the database of the first stage, as the stack's template would.
func (c *cloud) rds(t *testing.T) {
	t.Helper()
	template := `{"Resources": {"Database": {"Type": "AWS::RDS::DBInstance", "Properties": {"DBInstanceIdentifier": "lotse-shop-dev", "Engine": "postgres", "EngineVersion": "17",
		"DBSubnetGroupName": "closed", "VPCSecurityGroups": ["sg-closed"], "DBParameterGroupName": "by-tls"}}}}`
	client := cloudformation.NewFromConfig(c.account)
	if _, err := client.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: sdk.String("databases"), TemplateBody: &template}); err != nil {
		t.Fatal(err)
	}
	if err := cloudformation.NewStackCreateCompleteWaiter(client, func(o *cloudformation.StackCreateCompleteWaiterOptions) { o.MinDelay = time.Millisecond }).Wait(t.Context(),
		&cloudformation.DescribeStacksInput{StackName: sdk.String("databases")}, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// The address of the database is one for libpq, by TLS that is verified, and reaches the platform as a reference alone.
func TestDatabase(t *testing.T) {
	c := still(t, awsfake.Options{})
	c.secret("lotse/shop/dev/engine/database", `{"username":"lotse","password":"p@ss/word"}`)
	db := deploy.Database{Postgres: 17, Migrations: "db"}
	e := c.open(t, c.stages[0])
	s, err := e.DatabaseURL(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	const want = "postgres://lotse:p%40ss%2Fword@lotse-shop-dev.abc.eu-central-1.rds.amazonaws.com:5432/app?sslmode=verify-full&sslrootcert=/var/lib/lotse/rds.pem"
	if s.Name != deploy.DatabaseURL || s.Value.Reveal() != want || !strings.HasPrefix(s.Reference, "arn:aws:secretsmanager:") {
		t.Errorf("the setting %s is another, or its reference %q", s.Name, s.Reference)
	}
	client := secretsmanager.NewFromConfig(c.account)
	kept, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &s.Reference})
	if err != nil || *kept.SecretString != want {
		t.Errorf("the secret holds something else: %v", err)
	}
	again, err := c.open(t, c.stages[0]).DatabaseURL(t.Context(), db)
	if now, _ := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &s.Reference}); err != nil || again.Reference != s.Reference || *now.VersionId != *kept.VersionId {
		t.Errorf("asked again, it is another: %v", err)
	}
	if !e.MigratesInStart(db) || e.MigratesInStart(deploy.Database{URL: "SUPABASE_URL", Migrations: "db"}) {
		t.Error("who migrates?")
	}
	c.rds(t)
	for _, test := range []struct {
		status   string
		postgres int
		is       error
	}{{"available", 17, nil}, {"backing-up", 17, nil}, {"available", 16, deploy.ErrBadInput}, {"stopped", 17, deploy.ErrRefused}} {
		c.w.ByHand(c.w.Region(), "databases", "Database", "DBInstanceStatus", test.status)
		err := e.OpenDatabase(within(t, time.Minute), 1, deploy.Database{Postgres: test.postgres, Migrations: "db"})
		if !errors.Is(err, test.is) || (err == nil) != (test.is == nil) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
