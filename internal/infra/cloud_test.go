package infra

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// parcels has a database, and no zone.
const parcels = `
app: parcels
services: { api: { command: bin/parcels, path: / } }
database: { postgres: 16 }
aws: { account: "123456789012" }
stages:
  dev:  { url: https://dev.parcels.eu, engine: aws }
  prod: { url: https://www.parcels.eu, engine: aws }
`

// withoutProd takes the database of prod away.
var withoutProd = strings.Replace(parcels, "https://www.parcels.eu, engine: aws", "https://www.parcels.eu, engine: aws, database: { url: PROD_URL }", 1) + "secrets: [PROD_URL]\n"

const home, parcelStack = "eu-central-1", "lotse-parcels"

func appOf(t *testing.T, file string) deploy.App {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func cloudOf(w *awsfake.World) Cloud {
	return Cloud{Config: func(_ context.Context, region string) (aws.Config, error) { return w.Config(region), nil }, Look: time.Millisecond}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// applied is a World in which the app is.
func applied(t *testing.T, file string) (*awsfake.World, Cloud) {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{})
	c := cloudOf(w)
	if _, err := c.Apply(bounded(t), appOf(t, file), nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	return w, c
}

func stackOf(t *testing.T, w *awsfake.World, region, name string) *types.Stack {
	t.Helper()
	out, err := cloudformation.NewFromConfig(w.Config(region)).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		return nil
	}
	return &out.Stacks[0]
}

// leftovers are the change sets of a stack.
func leftovers(t *testing.T, w *awsfake.World, region, name string) (names []string) {
	t.Helper()
	out, err := cloudformation.NewFromConfig(w.Config(region)).ListChangeSets(t.Context(), &cloudformation.ListChangeSetsInput{StackName: &name})
	if err != nil {
		return nil
	}
	for _, s := range out.Summaries {
		names = append(names, *s.ChangeSetName)
	}
	return names
}

// fails wants the sentinel, and all of these in the error or its hint.
func fails(t *testing.T, err, sentinel error, says ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("the error is %v, want %v", err, sentinel)
		return
	}
	text := err.Error() + "\n" + deploy.HintOf(err)
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("the error does not say %q:\n%s", s, text)
		}
	}
}

func TestPlanOfNothingLeavesNothing(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	report, err := cloudOf(w).Plan(bounded(t), appOf(t, parcels))
	if err != nil {
		t.Fatal(err)
	}
	st := report.Stacks[0]
	if len(report.Stacks) != 1 || st.State != notThere || st.Account != "123456789012" || st.Region != home {
		t.Errorf("the plan is %+v", report)
	}
	adds := slices.ContainsFunc(st.Changes, func(c Change) bool { return c.Resource == "ProdDatabase" && c.Action == "add" && !c.Loses })
	if len(st.Changes) <= 25 || !adds { // more than a page of DescribeChangeSet
		t.Errorf("%d changes, the database of prod among them: %v", len(st.Changes), adds)
	}
	if s := stackOf(t, w, home, parcelStack); s != nil {
		t.Errorf("the plan has left a stack in %s", s.StackStatus)
	}
}

func TestApplyThenNothing(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	c, app := cloudOf(w), appOf(t, parcels)
	var said []string
	report, err := c.Apply(bounded(t), app, nil, func(line string) { said = append(said, line) })
	if err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if report.Stacks[0].State != asIs {
		t.Errorf("the stack %s", report.Stacks[0].State)
	}
	for _, want := range []string{"ProdDatabase (AWS::RDS::DBInstance) is being made", "ProdDatabase (AWS::RDS::DBInstance) is made", "Certificate waits for the record"} {
		if !slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("nothing begins with %q:\n%s", want, strings.Join(said, "\n"))
		}
	}
	s := stackOf(t, w, home, parcelStack)
	if !aws.ToBool(s.EnableTerminationProtection) || *s.Tags[0].Key != tagOfApp || *s.Tags[0].Value != "parcels" {
		t.Errorf("the stack is not protected, or has not its tag: %+v", s)
	}
	again, err := c.Plan(bounded(t), app)
	if err != nil || again.Stacks[0].State != asIs || len(again.Stacks[0].Changes) > 0 || len(again.Stacks[0].Drift) > 0 {
		t.Errorf("the plan after it is %+v, %v", again, err)
	}
	if left := leftovers(t, w, home, parcelStack); len(left) > 0 {
		t.Errorf("change sets are left: %v", left)
	}
	if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
		t.Error(err)
	}
	for _, call := range w.Calls() {
		if call.Action == "ExecuteChangeSet" && call.Err == "" && len(said) > 0 {
			said = nil // one is the first apply's
		} else if call.Action == "ExecuteChangeSet" {
			t.Error("an apply of no changes has executed something")
		}
	}
}

// The certificate of CloudFront is made first, in the one region that it can be in, and handed on.
func TestEdge(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	zone := w.Zone("shop.eu")
	c, app := cloudOf(w), shape(t, "static")
	if _, err := c.Plan(bounded(t), app); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if stackOf(t, w, EdgeRegion, "lotse-shop-edge") != nil {
		t.Error("the plan has left the stack of the edge")
	}
	if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	given := map[string]string{}
	for _, p := range stackOf(t, w, home, "lotse-shop").Parameters {
		given[*p.ParameterKey] = *p.ParameterValue
	}
	want := w.Physical(EdgeRegion, "lotse-shop-edge", "Certificate")
	if want == "" || given["Certificate"] != want || given["ZoneId"] != zone {
		t.Errorf("the stack was given %v, want the certificate %q and the zone %q", given, want, zone)
	}
	if report, err := c.Plan(bounded(t), app); err != nil || slices.ContainsFunc(report.Stacks, func(s StackReport) bool { return s.State != asIs }) {
		t.Errorf("the plan after it is %+v, %v", report, err)
	}
}

func TestNoZone(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.Zone("shop.eu.example")
	_, err := cloudOf(w).Plan(bounded(t), shape(t, "static"))
	fails(t, err, deploy.ErrBadInput, "no public hosted zone shop.eu", "create-hosted-zone")
}

// Where a region has no address, aws.region is said to be looked at.
func TestNoSuchRegion(t *testing.T) {
	err := unreached(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "sts.eu-cental-1.amazonaws.com", IsNotFound: true}}, "eu-cental-1")
	fails(t, err, deploy.ErrBadInput, "no address in eu-cental-1", "aws.region")
}

func TestBadInput(t *testing.T) {
	for name, test := range map[string]struct {
		before   func(*awsfake.World)
		cloud    func(*Cloud)
		sentinel error
		says     []string
	}{
		"no credentials": {cloud: func(c *Cloud) {
			was := c.Config
			c.Config = func(ctx context.Context, region string) (aws.Config, error) {
				cfg, err := was(ctx, region)
				cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no IMDS") })
				return cfg, err
			}
		}, sentinel: deploy.ErrMissing, says: []string{"no credentials", "aws sso login"}},
		"expired credentials": {before: func(w *awsfake.World) { w.Inject(awsfake.Expired("")) }, sentinel: deploy.ErrUnavailable, says: []string{"expired", "log in again"}},
		"a region that is not enabled": {before: func(w *awsfake.World) {
			w.Inject(awsfake.Fault{Service: "sts", Times: -1, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid", HTTP: 403})
		}, sentinel: deploy.ErrBadInput, says: []string{"does not know the credentials in eu-central-1", "get-region-opt-status"}},
		"a missing permission": {before: func(w *awsfake.World) { w.Deny("cloudformation", "CreateChangeSet") }, sentinel: deploy.ErrRefused,
			says: []string{"user/lotse may not cloudformation:CreateChangeSet", `"Action": "cloudformation:CreateChangeSet"`}},
		"in ROLLBACK_COMPLETE": {before: func(w *awsfake.World) {
			w.SetStack(home, parcelStack, types.StackStatusRollbackComplete, nil)
			w.TagStack(home, parcelStack, tagOfApp, "parcels")
		}, sentinel: deploy.ErrRefused, says: []string{"it holds nothing", "aws cloudformation delete-stack --stack-name lotse-parcels --region eu-central-1"}},
		"in UPDATE_ROLLBACK_FAILED": {before: func(w *awsfake.World) {
			w.SetStack(home, parcelStack, types.StackStatusUpdateRollbackFailed, nil)
			w.TagStack(home, parcelStack, tagOfApp, "parcels")
		}, sentinel: deploy.ErrRefused, says: []string{"UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name lotse-parcels"}},
		"in DELETE_FAILED": {before: func(w *awsfake.World) {
			w.SetStack(home, parcelStack, types.StackStatusDeleteFailed, nil)
			w.TagStack(home, parcelStack, tagOfApp, "parcels")
		}, sentinel: deploy.ErrRefused, says: []string{"DELETE_FAILED", "delete-stack"}},
		"somebody else's":        {before: func(w *awsfake.World) { w.Stack(parcelStack, nil) }, sentinel: deploy.ErrRefused, says: []string{"is not this app's", "no tag lotse:app"}},
		"another app's":          {before: func(w *awsfake.World) { w.Stack(parcelStack, nil); w.TagStack(home, parcelStack, tagOfApp, "par") }, sentinel: deploy.ErrRefused, says: []string{"is not this app's"}},
		"somebody else's review": {before: func(w *awsfake.World) { review(w, parcelStack, "console-review") }, sentinel: deploy.ErrRefused, says: []string{"waits for the change set console-review"}},
		"at work": {before: func(w *awsfake.World) {
			w.SetStack(home, parcelStack, types.StackStatusUpdateInProgress, nil)
			w.TagStack(home, parcelStack, tagOfApp, "parcels")
		}, sentinel: deploy.ErrBusy, says: []string{"somebody changes the stack lotse-parcels", "UPDATE_IN_PROGRESS"}},
		"in another region": {before: func(w *awsfake.World) {
			w.StackIn("eu-west-1", parcelStack, nil)
			w.TagStack("eu-west-1", parcelStack, tagOfApp, "parcels")
		}, sentinel: deploy.ErrRefused, says: []string{"is in eu-west-1, and aws.region of lotse.yaml says eu-central-1"}},
		"throttled for long": {before: func(w *awsfake.World) { w.Inject(awsfake.Throttled("cloudformation", "DescribeStacks", -1)) }, sentinel: deploy.ErrUnavailable, says: []string{"takes no more calls"}},
		"no network":         {before: func(w *awsfake.World) { w.Inject(awsfake.Fault{Drop: true, Times: -1}) }, sentinel: deploy.ErrUnavailable, says: []string{"was not reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := awsfake.Open(t, awsfake.Options{})
			c := cloudOf(w)
			if test.before != nil {
				test.before(w)
			}
			if test.cloud != nil {
				test.cloud(&c)
			}
			_, err := c.Plan(bounded(t), appOf(t, parcels))
			fails(t, err, test.sentinel, test.says...)
			_, err = c.Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
			fails(t, err, test.sentinel, test.says...)
			w.Heal()
			for _, call := range w.Calls() {
				if strings.HasPrefix(call.Action, "Execute") {
					t.Error("something was executed")
				}
			}
		})
	}
}

// review leaves a stack with a change set that nobody has executed.
func review(w *awsfake.World, name, set string) {
	_, _ = cloudformation.NewFromConfig(w.Config(home)).CreateChangeSet(context.Background(), &cloudformation.CreateChangeSetInput{StackName: &name, ChangeSetName: &set,
		ChangeSetType: types.ChangeSetTypeCreate, TemplateBody: aws.String("Resources: { A: { Type: AWS::SNS::Topic } }")})
}

func TestWrongAccount(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Account: "999999999999"})
	_, err := cloudOf(w).Plan(bounded(t), appOf(t, parcels))
	fails(t, err, deploy.ErrBadInput, "account 999999999999", "says 123456789012", "AWS_PROFILE")
}

// The name of a person never stands in an error: neither a session's, nor the host of a mail address.
func TestNamesOfPeopleStayOut(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Caller: "arn:aws:sts::123456789012:assumed-role/Deployer/anna@parcels.eu"})
	w.Deny("cloudformation", "CreateChangeSet")
	_, err := cloudOf(w).Plan(bounded(t), appOf(t, parcels))
	fails(t, err, deploy.ErrRefused, "role/Deployer may not cloudformation:CreateChangeSet")
	if text := err.Error() + deploy.HintOf(err); strings.Contains(text, "anna") {
		t.Errorf("it says %s", text)
	}
}
