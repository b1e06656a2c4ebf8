package infra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
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

// What loses data is refused before anything is executed, and done when it is named.
func TestLossWantsAName(t *testing.T) {
	w, c := applied(t, parcels)
	app := appOf(t, withoutProd)
	report, err := c.Plan(bounded(t), app)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(report.Stacks[0].Changes, func(c Change) bool { return c.Resource == "ProdDatabase" })
	if i < 0 || report.Stacks[0].Changes[i].Action != "remove" || !report.Stacks[0].Changes[i].Loses || !strings.Contains(report.Stacks[0].Changes[i].Why, "a snapshot of the database is kept") {
		t.Errorf("the plan is %+v", report.Stacks[0].Changes)
	}
	before := w.Physical(home, parcelStack, "ProdDatabase")
	_, err = c.Apply(bounded(t), app, []string{"ProdDatabaseSecret"}, func(string) {})
	fails(t, err, deploy.ErrRefused, "ProdDatabase (AWS::RDS::DBInstance) would be removed", "nothing was changed", "--replace ProdDatabase")
	if strings.Contains(err.Error(), "ProdDatabaseSecret (") {
		t.Errorf("what was named is refused as well: %v", err)
	}
	if w.Physical(home, parcelStack, "ProdDatabase") != before {
		t.Error("the database was touched")
	}
	if left := leftovers(t, w, home, parcelStack); len(left) > 0 {
		t.Errorf("change sets are left: %v", left)
	}
	if _, err = c.Apply(bounded(t), app, []string{"ProdDatabase", "ProdDatabaseSecret"}, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if w.Physical(home, parcelStack, "ProdDatabase") != "" || w.Physical(home, parcelStack, "DevDatabase") == "" {
		t.Error("the database of prod is still in the stack, or that of dev is not")
	}
	if after, err := c.Plan(bounded(t), app); err != nil || len(after.Stacks[0].Drift) > 0 {
		t.Errorf("after it: %+v, %v", after, err) // also: the policy that was lifted is back
	}
	_, err = c.Apply(bounded(t), app, []string{"ProdDatabas"}, func(string) {})
	fails(t, err, deploy.ErrBadInput, "no resource ProdDatabas")
}

// madeFrom is a World whose stack was made of another template than ours: some words of it were others.
func madeFrom(t *testing.T, swaps ...string) *awsfake.World {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{})
	files, err := Cloudformation(appOf(t, parcels), Options{})
	if err != nil {
		t.Fatal(err)
	}
	template, err := Compact(strings.NewReplacer(swaps...).Replace(files[0].Content))
	if err != nil {
		t.Fatal(err)
	}
	api := cloudformation.NewFromConfig(w.Config(home))
	if _, err := api.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String(parcelStack), TemplateBody: &template,
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}, Tags: []types.Tag{{Key: aws.String(tagOfApp), Value: aws.String("parcels")}}}); err != nil {
		t.Fatal(err)
	}
	for stackOf(t, w, home, parcelStack).StackStatus == types.StackStatusCreateInProgress {
		<-time.After(time.Millisecond)
	}
	return w
}

func changeOf(t *testing.T, report Report, resource string) Change {
	t.Helper()
	for _, c := range report.Stacks[0].Changes {
		if c.Resource == resource {
			return c
		}
	}
	t.Fatalf("nothing becomes of %s: %+v", resource, report.Stacks[0].Changes)
	return Change{}
}

// What makes data go, and what only looks like it.
func TestWhatLosesData(t *testing.T) {
	for name, test := range map[string]struct {
		swaps    []string
		resource string
		want     Change
	}{
		"replaced": {[]string{"DBName: app", "DBName: other"}, "ProdDatabase",
			Change{"replace", "ProdDatabase", "AWS::RDS::DBInstance", "DBName; a snapshot of the database is kept", true}},
		"perhaps replaced": {[]string{"StorageType: gp3", "StorageType: gp2"}, "ProdDatabase",
			Change{"replace", "ProdDatabase", "AWS::RDS::DBInstance", "perhaps: CloudFormation cannot tell before; StorageType", true}},
		"its key changes, and not its name": {[]string{"EnableKeyRotation: true", "EnableKeyRotation: false"}, "ProdDatabase",
			Change{"change", "ProdDatabase", "AWS::RDS::DBInstance", "KmsKeyId", false}},
		"its snapshot is not kept any more": {[]string{"DeletionPolicy: Snapshot", "DeletionPolicy: Retain"}, "ProdDatabase",
			Change{"change", "ProdDatabase", "AWS::RDS::DBInstance", "DeletionPolicy; DeletionPolicy Retain is taken away", true}},
		"replaced, and holds nothing": {[]string{"10.40.0.0/16", "10.41.0.0/16"}, "Vpc",
			Change{"replace", "Vpc", "AWS::EC2::VPC", "CidrBlock", false}},
	} {
		t.Run(name, func(t *testing.T) {
			w := madeFrom(t, test.swaps...)
			report, err := cloudOf(w).Plan(bounded(t), appOf(t, parcels))
			if err != nil {
				t.Fatalf("%v\n%s", err, deploy.HintOf(err))
			}
			if got := changeOf(t, report, test.resource); got != test.want {
				t.Errorf("the change is %+v, want %+v", got, test.want)
			}
			before := w.Physical(home, parcelStack, test.resource)
			_, err = cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
			if test.want.Loses {
				fails(t, err, deploy.ErrRefused, test.resource, "--replace "+test.resource)
			} else if err != nil {
				t.Errorf("%v\n%s", err, deploy.HintOf(err))
			}
			if same := w.Physical(home, parcelStack, test.resource) == before; !same && test.want.Loses {
				t.Error("it was replaced all the same")
			}
		})
	}
}

// What was named is replaced, and what becomes of the old one is told.
func TestReplacedByName(t *testing.T) {
	w := madeFrom(t, "DBName: app", "DBName: other", `DBInstanceIdentifier: "lotse-`, `DBInstanceIdentifier: "old-`, "DeletionProtection: true", "DeletionProtection: false")
	before := w.Physical(home, parcelStack, "ProdDatabase")
	var said []string
	_, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), []string{"ProdDatabase"}, func(line string) { said = append(said, line) })
	fails(t, err, deploy.ErrRefused, "DevDatabase (AWS::RDS::DBInstance) would be replaced") // which is not named
	if len(said) > 0 {
		t.Errorf("something was done: %s", said)
	}
	if _, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), []string{"ProdDatabase", "DevDatabase"}, func(line string) { said = append(said, line) }); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if w.Physical(home, parcelStack, "ProdDatabase") == before || !slices.Contains(w.Kept(), "snapshot of "+before) || !slices.Contains(said, "ProdDatabase (AWS::RDS::DBInstance) is deleted") {
		t.Errorf("it is %s, kept is %v, said was\n%s", w.Physical(home, parcelStack, "ProdDatabase"), w.Kept(), strings.Join(said, "\n"))
	}
}

// What Terraform made is not made a second time.
func TestTerraformsStack(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	api := cloudformation.NewFromConfig(w.Config(home))
	if _, err := api.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String(parcelStack),
		TemplateBody: aws.String(`{"Resources": {"Nothing": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}}`),
		Tags:         []types.Tag{{Key: aws.String(tagOfApp), Value: aws.String("parcels")}}}); err != nil {
		t.Fatal(err)
	}
	for stackOf(t, w, home, parcelStack).StackStatus == types.StackStatusCreateInProgress {
		<-time.After(time.Millisecond)
	}
	_, err := cloudOf(w).Plan(bounded(t), appOf(t, parcels))
	fails(t, err, deploy.ErrRefused, "was made by Terraform", "terraform plan")
}

// Credentials that expire and a network that is lost in the middle: what AWS is at goes on, and so does the second apply.
func TestLostInTheMiddle(t *testing.T) {
	for name, fault := range map[string]awsfake.Fault{"expired": awsfake.Expired("cloudformation"), "no network": {Service: "cloudformation", Drop: true, Times: -1}} {
		t.Run(name, func(t *testing.T) {
			w := awsfake.Open(t, awsfake.Options{})
			held := make(chan struct{})
			w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Hold: held})
			c, app := cloudOf(w), appOf(t, parcels)
			_, err := c.Apply(bounded(t), app, nil, func(line string) {
				if strings.HasPrefix(line, "ProdDatabase ") {
					w.Inject(fault)
				}
			})
			fails(t, err, deploy.ErrUnavailable, "AWS goes on with the stack lotse-parcels without Lotse", "it goes on where this one ended")
			w.Heal()
			var said []string
			again := make(chan error, 1)
			go func() {
				_, err := c.Apply(bounded(t), app, nil, func(line string) { said = append(said, line) })
				again <- err
			}()
			close(held)
			if err := <-again; err != nil || len(said) == 0 {
				t.Errorf("%v\n%s\n%s", err, deploy.HintOf(err), strings.Join(said, "\n"))
			}
		})
	}
}

// Where a region has no address, aws.region is said to be looked at.
func TestNoSuchRegion(t *testing.T) {
	err := unreached(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "sts.eu-cental-1.amazonaws.com", IsNotFound: true}}, "eu-cental-1")
	fails(t, err, deploy.ErrBadInput, "no address in eu-cental-1", "aws.region")
}

// A stack's policy names only what the stack has: what is being added is held from then on.
func TestAddedDataIsHeld(t *testing.T) {
	w, c := applied(t, withoutProd)
	if _, err := c.Apply(bounded(t), appOf(t, parcels), nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	out, err := cloudformation.NewFromConfig(w.Config(home)).GetStackPolicy(t.Context(), &cloudformation.GetStackPolicyInput{StackName: aws.String(parcelStack)})
	if err != nil || !strings.Contains(aws.ToString(out.StackPolicyBody), `"LogicalResourceId/ProdDatabase"`) {
		t.Errorf("the policy is %s, %v", aws.ToString(out.StackPolicyBody), err)
	}
}

// Whatever CloudFormation says of something that takes another's name: it is lost only with that other.
func TestNamesThatStay(t *testing.T) {
	takes := func(by string, evaluation types.EvaluationType) types.ResourceChange {
		return types.ResourceChange{Action: types.ChangeActionModify, LogicalResourceId: aws.String("Database"), ResourceType: aws.String("AWS::RDS::DBInstance"), Replacement: types.ReplacementTrue,
			Details: []types.ResourceChangeDetail{{ChangeSource: types.ChangeSourceResourceAttribute, CausingEntity: aws.String(by), Evaluation: evaluation,
				Target: &types.ResourceTargetDefinition{Attribute: types.ResourceAttributeProperties, Name: aws.String("KmsKeyId"), RequiresRecreation: types.RequiresRecreationAlways}}}}
	}
	key := func(replacement types.Replacement) types.ResourceChange {
		return types.ResourceChange{Action: types.ChangeActionModify, LogicalResourceId: aws.String("Key"), ResourceType: aws.String("AWS::KMS::Key"), Replacement: replacement}
	}
	for name, test := range map[string]struct {
		changes []types.ResourceChange
		loses   bool
	}{
		"its key stays":               {[]types.ResourceChange{key(types.ReplacementFalse), takes("Key.Arn", types.EvaluationTypeDynamic)}, false},
		"its key goes":                {[]types.ResourceChange{key(types.ReplacementTrue), takes("Key.Arn", types.EvaluationTypeDynamic)}, true},
		"its key may go":              {[]types.ResourceChange{key(types.ReplacementConditional), takes("Key.Arn", types.EvaluationTypeDynamic)}, true},
		"it is another key":           {[]types.ResourceChange{key(types.ReplacementFalse), takes("Key.Arn", types.EvaluationTypeStatic)}, true},
		"what it takes is not a name": {[]types.ResourceChange{key(types.ReplacementFalse), takes("Key.Description", types.EvaluationTypeDynamic)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			told := (&session{}).judge(&stack{}, test.changes)
			if told[0].Resource != "Database" || told[0].Loses != test.loses {
				t.Errorf("told is %+v", told)
			}
		})
	}
}

func TestDriftIsTold(t *testing.T) {
	w, c := applied(t, parcels)
	w.ByHand(home, parcelStack, "ProdDatabase", "BackupRetentionPeriod", "0")
	w.ByHand(home, parcelStack, "ProdDatabase", "MasterUserPassword", "hunter2")
	w.RemoveByHand(home, parcelStack, "DevLogs")
	w.ByHand(home, parcelStack, "Balancer", "Ipv4IpamPoolId", "x") // the template does not set it, so CloudFormation does not compare it
	api := cloudformation.NewFromConfig(w.Config(home))
	if _, err := api.SetStackPolicy(t.Context(), &cloudformation.SetStackPolicyInput{StackName: aws.String(parcelStack), StackPolicyBody: aws.String(guard(nil, nil))}); err != nil {
		t.Fatal(err)
	}
	report, err := c.Plan(bounded(t), appOf(t, parcels))
	if err != nil {
		t.Fatal(err)
	}
	want := []Drift{{parcelStack, "its policy does not hold what holds data; an apply puts it back"}, {"DevLogs", "is gone: somebody has deleted it"},
		{"ProdDatabase", "BackupRetentionPeriod is 0, and 7 is written down"}, {"ProdDatabase", "MasterUserPassword is not what is written down"}}
	if !slices.Equal(report.Stacks[0].Drift, want) {
		t.Errorf("the drift is %v", report.Stacks[0].Drift)
	}
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
		}, sentinel: deploy.ErrBadInput, says: []string{"no credentials", "aws sso login"}},
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

// Throttling for a while is nothing that anybody hears of.
func TestThrottlingPasses(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	for _, action := range []string{"CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DescribeStackEvents", "SetStackPolicy", "UpdateTerminationProtection"} {
		w.Inject(awsfake.Throttled("cloudformation", action, 5))
	}
	if _, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {}); err != nil {
		t.Errorf("%v\n%s", err, deploy.HintOf(err))
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Stack: time.Hour}) // the change set is never worked out
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		for len(leftovers(t, w, home, parcelStack)) == 0 && ctx.Err() == nil {
			<-time.After(time.Millisecond)
		}
		cancel()
	}()
	_, err := cloudOf(w).Plan(ctx, appOf(t, parcels))
	fails(t, err, context.Canceled)
	if s := stackOf(t, w, home, parcelStack); s != nil {
		t.Errorf("the plan has left a stack in %s, with %v", s.StackStatus, leftovers(t, w, home, parcelStack))
	}
}

// The first resource that failed is named, with its reason, and how to go on.
func TestCreationFails(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Reason: "User: arn:aws:sts::123456789012:assumed-role/D/anna@parcels.eu is not authorized to perform: rds:CreateDBInstance on resource: arn:aws:rds:eu-central-1:123456789012:db:x because no identity-based policy allows it"})
	_, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "ProdDatabase (AWS::RDS::DBInstance) could not be made", "may not rds:CreateDBInstance", `"Action": "rds:CreateDBInstance"`, "delete-stack --stack-name lotse-parcels")
	if strings.Contains(err.Error()+deploy.HintOf(err), "anna") {
		t.Errorf("a person is named: %v", err)
	}
	// The database of dev was made before, and is protected.
	again := []string{"ROLLBACK_FAILED", "What had failed first: ProdDatabase", "what is left: DevDatabase", "modify-db-instance --no-deletion-protection --db-instance-identifier " + w.Physical(home, parcelStack, "DevDatabase"), "no-enable-termination-protection"}
	_, err = cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, again...)
}

// Where nothing is in the way, a creation that failed holds nothing.
func TestCreationFailsEarly(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "Certificate", Reason: "no"})
	_, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "Certificate (AWS::CertificateManager::Certificate) could not be made: no", "ended in ROLLBACK_COMPLETE", "it holds nothing")
	if kept := w.Kept(); len(kept) > 0 {
		t.Errorf("kept is %v: the second apply would meet them", kept)
	}
	_, err = cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "ROLLBACK_COMPLETE", "Certificate: no", "no-enable-termination-protection", "delete-stack")
}

func TestUpdateFails(t *testing.T) {
	w, c := applied(t, parcels)
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Reason: "the class is not to be had"})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	var said []string
	_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(line string) { said = append(said, line) })
	fails(t, err, deploy.ErrRefused, "ProdDatabase (AWS::RDS::DBInstance) could not be changed: the class is not to be had", "the stack is what it was before")
	if !slices.Contains(said, "ProdDatabase could not be changed: the class is not to be had") {
		t.Errorf("said was\n%s", strings.Join(said, "\n"))
	}
	if _, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {}); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// A change set that somebody else has made useless is busy, not a fault.
func TestChangeSetExpires(t *testing.T) {
	w, c := applied(t, parcels)
	w.Inject(awsfake.Fault{Service: "cloudformation", Action: "ExecuteChangeSet", Code: "ChangeSetNotFound", Message: "ChangeSet [x] does not exist", HTTP: 404})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {})
	fails(t, err, deploy.ErrBusy, "holds no longer", "apply again")
}

// A change set is not left by somebody who was killed for ever.
func TestStaleChangeSetsAreSwept(t *testing.T) {
	w, c := applied(t, parcels)
	name, api := "lotse-killed", cloudformation.NewFromConfig(w.Config(home))
	if _, err := api.CreateChangeSet(t.Context(), &cloudformation.CreateChangeSetInput{StackName: aws.String(parcelStack), ChangeSetName: &name, TemplateBody: aws.String("Resources: { A: { Type: AWS::SNS::Topic } }")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Plan(bounded(t), appOf(t, parcels)); err != nil || !slices.Equal(leftovers(t, w, home, parcelStack), []string{name}) {
		t.Errorf("a young one, which may be somebody's at work, is gone: %v, %v", leftovers(t, w, home, parcelStack), err)
	}
	c.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := c.Plan(bounded(t), appOf(t, parcels)); err != nil || len(leftovers(t, w, home, parcelStack)) > 0 {
		t.Errorf("an old one is left: %v, %v", leftovers(t, w, home, parcelStack), err)
	}
}

// Two applies of the same follow each other, one of something else is told who is at work.
func TestAnotherApplyAtWork(t *testing.T) {
	w, c := applied(t, parcels)
	held := make(chan struct{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Hold: held})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	first := make(chan error, 1)
	go func() {
		_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {})
		first <- err
	}()
	for s := stackOf(t, w, home, parcelStack); s.StackStatus != types.StackStatusUpdateInProgress; s = stackOf(t, w, home, parcelStack) {
		<-time.After(time.Millisecond)
	}
	_, err := c.Apply(bounded(t), appOf(t, withoutProd), nil, func(string) {})
	fails(t, err, deploy.ErrBusy, "an apply of user/lotse changes the stack", "since ")
	second := make(chan error, 1)
	followed := make(chan struct{})
	go func() {
		_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(line string) {
			if strings.Contains(line, "is followed") {
				close(followed)
			}
		})
		second <- err
	}()
	<-followed
	close(held)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// dying is a process that is killed at a call: it goes out or not, no answer comes, and nothing after it goes out.
type dying struct {
	aws.HTTPClient
	left      *atomic.Int64
	delivered bool
}

func (d dying) Do(r *http.Request) (*http.Response, error) {
	left := d.left.Add(-1)
	if left > 0 {
		return d.HTTPClient.Do(r)
	}
	if left == 0 && d.delivered {
		if answer, err := d.HTTPClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	return nil, errors.New("killed")
}

// Killed at every call, whether or not AWS has heard of it: a second apply goes on, and nothing is done twice or left.
func TestKilledAtEveryCall(t *testing.T) {
	for _, delivered := range []bool{false, true} {
		for at := int64(1); ; at++ {
			if finished := killedAt(t, at, delivered); finished {
				if at < 10 {
					t.Errorf("an apply has %d calls only", at)
				}
				t.Logf("delivered %v: killed at each of %d calls", delivered, at-1)
				break
			}
		}
	}
}

func killedAt(t *testing.T, at int64, delivered bool) (finished bool) {
	w := awsfake.Open(t, awsfake.Options{Stack: 100 * time.Microsecond})
	c, app := cloudOf(w), appOf(t, parcels)
	left := &atomic.Int64{}
	left.Store(at)
	mortal := c
	mortal.Config = func(_ context.Context, region string) (aws.Config, error) {
		cfg := w.Config(region)
		cfg.HTTPClient = dying{cfg.HTTPClient, left, delivered}
		cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		return cfg, nil
	}
	_, err := mortal.Apply(bounded(t), app, nil, func(string) {})
	if err == nil {
		return true
	}
	var again error
	for range 200 { // an apply that was refused as busy is repeated, as its hint says
		if _, again = c.Apply(bounded(t), app, nil, func(string) {}); !errors.Is(again, deploy.ErrBusy) {
			break
		}
	}
	if again != nil {
		t.Errorf("killed at call %d (%v, delivered %v), and the second apply: %v\n%s", at, err, delivered, again, deploy.HintOf(again))
		return false
	}
	c.Now = func() time.Time { return time.Now().Add(2 * stale) }
	report, err := c.Plan(bounded(t), app)
	if err != nil || report.Stacks[0].State != asIs || len(report.Stacks[0].Drift) > 0 {
		t.Errorf("killed at call %d: afterwards %v, %v", at, report, err)
	}
	if left := leftovers(t, w, home, parcelStack); len(left) > 0 {
		t.Errorf("killed at call %d: change sets are left: %v", at, left)
	}
	executed := 0
	for _, call := range w.Calls() {
		if call.Action == "ExecuteChangeSet" && call.Err == "" {
			executed++
		}
	}
	if executed != 1 {
		t.Errorf("killed at call %d: executed %d times", at, executed)
	}
	return false
}

// A template that is too long for a call is read from the app's bucket, and one without a bucket is refused.
func TestLongTemplate(t *testing.T) {
	long := "app: parcels\nservices: { api: { command: bin/parcels, path: / } }\ndatabase: { postgres: 16 }\nstages:\n"
	for i := range 9 {
		long += fmt.Sprintf("  s%d: { url: \"https://s%d.parcels.eu\", engine: aws }\n", i, i)
	}
	w := awsfake.Open(t, awsfake.Options{})
	c, app := cloudOf(w), appOf(t, long)
	files, err := Cloudformation(app, Options{})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := Compact(files[0].Content)
	if err != nil || len(compact) <= MaxTemplateBody {
		t.Skipf("NOT RUN: the longest template that an app can have is %d bytes without comments: it fits into a call (%v)", len(compact), err)
	}
	_, err = c.Apply(bounded(t), app, nil, func(string) {})
	fails(t, err, deploy.ErrUnsupported, "no bucket yet", "apply with fewer stages first")
	if _, err = c.Apply(bounded(t), appOf(t, parcels), nil, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Plan(bounded(t), app); err != nil {
		t.Errorf("%v\n%s", err, deploy.HintOf(err))
	}
	var bucket string
	for _, call := range w.Calls() {
		if call.Service == "s3" && call.Action == "PutObject" {
			bucket = call.Resource
		}
	}
	if bucket == "" {
		t.Error("nothing was put into the bucket")
	}
}
