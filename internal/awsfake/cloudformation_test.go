package awsfake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
)

// shop is a small template with everything in it that the tests ask for: short forms, a condition, a parameter, what holds data.
const shop = `
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Prefix: { Type: String, Default: shop }
  Wide: { Type: String, Default: "no" }
Conditions:
  IsWide: !Equals [!Ref Wide, "yes"]
Resources:
  Key:
    Type: AWS::KMS::Key
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties: { KeyPolicy: { Version: 2012-10-17, Statement: [] }, Description: one }
  Files:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties: { BucketName: !Sub "${Prefix}-files-${AWS::AccountId}" }
  Database:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: { Engine: postgres, KmsKeyId: !GetAtt Key.Arn, DBName: app, BackupRetentionPeriod: 7 }
  Role:
    Type: AWS::IAM::Role
    Properties: { RoleName: shop-role, AssumeRolePolicyDocument: {} }
  Wideness:
    Type: AWS::SNS::Topic
    Condition: IsWide
Outputs:
  Host: { Value: !GetAtt Database.Endpoint.Address }
  Where: { Value: !Join ["/", [!Ref AWS::Region, !Ref Files]] }
`

// formed is a World with a client of CloudFormation.
func formed(t *testing.T) (*World, *cloudformation.Client) {
	w := Open(t, Options{})
	return w, cloudformation.NewFromConfig(w.Config(""))
}

// set makes a change set and waits until it is worked out.
func set(t *testing.T, c *cloudformation.Client, name, template string, kind cf.ChangeSetType, parameters ...string) *cloudformation.DescribeChangeSetOutput {
	t.Helper()
	in := &cloudformation.CreateChangeSetInput{StackName: aws.String("shop"), ChangeSetName: &name, TemplateBody: &template, ChangeSetType: kind,
		Capabilities: []cf.Capability{cf.CapabilityCapabilityNamedIam}, Tags: []cf.Tag{{Key: aws.String("lotse:app"), Value: aws.String("shop")}}}
	for i := 0; i+1 < len(parameters); i += 2 {
		in.Parameters = append(in.Parameters, cf.Parameter{ParameterKey: &parameters[i], ParameterValue: &parameters[i+1]})
	}
	if _, err := c.CreateChangeSet(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	var out *cloudformation.DescribeChangeSetOutput
	until(t, func() bool {
		var err error
		if out, err = c.DescribeChangeSet(t.Context(), &cloudformation.DescribeChangeSetInput{StackName: aws.String("shop"), ChangeSetName: &name}); err != nil {
			t.Fatal(err)
		}
		return out.Status == cf.ChangeSetStatusCreateComplete || out.Status == cf.ChangeSetStatusFailed
	})
	return out
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds() {
		if !wait(ctx, time.Millisecond) {
			t.Fatal("not within 20 s")
		}
	}
}

// execute runs a change set to its end and says in which state the stack is then.
func execute(t *testing.T, c *cloudformation.Client, name string) cf.StackStatus {
	t.Helper()
	if _, err := c.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: aws.String("shop"), ChangeSetName: &name, RetainExceptOnCreate: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	return ended(t, c).StackStatus
}

func ended(t *testing.T, c *cloudformation.Client) cf.Stack {
	t.Helper()
	var s cf.Stack
	until(t, func() bool {
		out, err := c.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("shop")})
		if err != nil {
			t.Fatal(err)
		}
		s = out.Stacks[0]
		return !strings.HasSuffix(string(s.StackStatus), "_IN_PROGRESS")
	})
	return s
}

// madeStack is a World with the stack.
func madeStack(t *testing.T) (*World, *cloudformation.Client) {
	t.Helper()
	w, c := formed(t)
	set(t, c, "first", shop, cf.ChangeSetTypeCreate)
	if status := execute(t, c, "first"); status != cf.StackStatusCreateComplete {
		t.Fatalf("the stack is in %s", status)
	}
	return w, c
}

// changes are told as "Replace Database: KmsKeyId", in their order.
func changesOf(out *cloudformation.DescribeChangeSetOutput) (all []string) {
	for _, c := range out.Changes {
		r := c.ResourceChange
		line := fmt.Sprintf("%s %s", r.Action, *r.LogicalResourceId)
		if r.Replacement != "" {
			line += " " + string(r.Replacement)
		}
		if r.PolicyAction != "" {
			line += " " + string(r.PolicyAction)
		}
		all = append(all, line)
	}
	return all
}

func events(t *testing.T, c *cloudformation.Client) (all []string) {
	t.Helper()
	out, err := c.DescribeStackEvents(t.Context(), &cloudformation.DescribeStackEventsInput{StackName: aws.String("shop")})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(out.StackEvents)
	for _, e := range out.StackEvents {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", *e.LogicalResourceId, e.ResourceStatus, aws.ToString(e.ResourceStatusReason))))
	}
	return all
}

func refusal(t *testing.T, err error, code, says string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), says) {
		t.Errorf("the error is %v, want %s: … %s …", err, code, says)
	}
}

func TestAStackIsMade(t *testing.T) {
	w, c := madeStack(t)
	s := ended(t, c)
	outputs := map[string]string{}
	for _, o := range s.Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	if outputs["Where"] != "eu-central-1/shop-files-123456789012" || !strings.HasSuffix(outputs["Host"], ".eu-central-1.rds.amazonaws.com") {
		t.Errorf("the outputs are %v", outputs)
	}
	if !slices.Contains(events(t, c), "Database CREATE_IN_PROGRESS Resource creation Initiated") {
		t.Errorf("the events are\n%s", strings.Join(events(t, c), "\n"))
	}
	if there, _ := w.objects.backend.BucketExists("shop-files-123456789012"); !there {
		t.Error("the bucket of the template is not in S3")
	}
	if w.Physical("eu-central-1", "shop", "Wideness") != "" {
		t.Error("a resource whose condition does not hold was made")
	}
}

// What CloudFormation says of changes, kind by kind.
func TestChangeSets(t *testing.T) {
	for name, test := range map[string]struct {
		from, to   string
		parameters []string
		want       []string
	}{
		"nothing":                       {want: nil},
		"in place":                      {from: "BackupRetentionPeriod: 7", to: "BackupRetentionPeriod: 7, MaxAllocatedStorage: 100", want: []string{"Modify Database False"}},
		"replaced":                      {from: "DBName: app", to: "DBName: other", want: []string{"Modify Database True ReplaceAndSnapshot"}},
		"perhaps replaced":              {from: "Engine: postgres", to: "Engine: aurora-postgresql", want: []string{"Modify Database Conditional"}},
		"an attribute that may change":  {from: "Description: one", to: "Description: two", want: []string{"Modify Database Conditional", "Modify Key False"}},
		"by a parameter":                {parameters: []string{"Prefix", "other"}, want: []string{"Modify Files True ReplaceAndRetain"}},
		"added by a condition":          {parameters: []string{"Wide", "yes"}, want: []string{"Add Wideness"}},
		"removed and kept":              {from: "  Files:\n    Type: AWS::S3::Bucket", to: "  Other:\n    Type: AWS::S3::Bucket", want: []string{"Add Other", "Remove Files Retain"}},
		"a policy alone":                {from: "DeletionPolicy: Snapshot", to: "DeletionPolicy: Delete", want: []string{"Modify Database False"}},
		"numbers and text are the same": {from: "BackupRetentionPeriod: 7", to: `BackupRetentionPeriod: "7"`, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := madeStack(t)
			template := strings.Replace(shop, test.from, test.to, 1)
			template = strings.Replace(template, "!Ref Files]", "shop]", boolCount(name == "removed and kept"))
			out := set(t, c, "second", template, cf.ChangeSetTypeUpdate, test.parameters...)
			got := changesOf(out)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("the changes are %q, want %q", got, test.want)
			}
			if len(test.want) == 0 && (out.Status != cf.ChangeSetStatusFailed || aws.ToString(out.StatusReason) != noChanges) {
				t.Errorf("a set without changes is %s: %s", out.Status, aws.ToString(out.StatusReason))
			}
		})
	}
}

func boolCount(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func TestCreationThatFailsGoesBack(t *testing.T) {
	w, c := formed(t)
	w.StackTrouble(StackTrouble{Resource: "Role", Reason: "no"})
	set(t, c, "first", shop, cf.ChangeSetTypeCreate)
	if status := execute(t, c, "first"); status != cf.StackStatusRollbackComplete {
		t.Errorf("the stack is in %s", status)
	}
	if kept := w.Kept(); len(kept) > 0 {
		t.Errorf("RetainExceptOnCreate was asked for, and %v was kept", kept)
	}
	if _, err := c.CreateChangeSet(t.Context(), &cloudformation.CreateChangeSetInput{StackName: aws.String("shop"), ChangeSetName: aws.String("again"), TemplateBody: aws.String(shop),
		Capabilities: []cf.Capability{cf.CapabilityCapabilityNamedIam}}); err == nil {
		t.Error("a stack in ROLLBACK_COMPLETE took an update")
	} else {
		refusal(t, err, "ValidationError", "is in ROLLBACK_COMPLETE state and can not be updated.")
	}
}

func TestUpdateThatFailsGoesBack(t *testing.T) {
	w, c := madeStack(t)
	before := w.Physical("eu-central-1", "shop", "Database")
	w.StackTrouble(StackTrouble{Resource: "Key", Reason: "no"})
	set(t, c, "second", strings.Replace(shop, "Description: one", "Description: two", 1), cf.ChangeSetTypeUpdate)
	if status := execute(t, c, "second"); status != cf.StackStatusUpdateRollbackComplete {
		t.Errorf("the stack is in %s\n%s", status, strings.Join(events(t, c), "\n"))
	}
	if now := w.Physical("eu-central-1", "shop", "Database"); now != before {
		t.Errorf("the database is %s, and was %s", now, before)
	}
}

func TestUpdateThatCannotGoBack(t *testing.T) {
	w, c := madeStack(t)
	w.StackTrouble(StackTrouble{Resource: "Key", Reason: "no", NoReturn: "nor back"})
	set(t, c, "second", strings.Replace(shop, "Description: one", "Description: two", 1), cf.ChangeSetTypeUpdate)
	if status := execute(t, c, "second"); status != cf.StackStatusUpdateRollbackFailed {
		t.Fatalf("the stack is in %s", status)
	}
	w.HealStacks()
	if _, err := c.ContinueUpdateRollback(t.Context(), &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("shop")}); err != nil {
		t.Fatal(err)
	}
	if s := ended(t, c); s.StackStatus != cf.StackStatusUpdateRollbackComplete {
		t.Errorf("the stack is in %s after all", s.StackStatus)
	}
}

// Replacing makes another one, and lets go of the old one as the template says.
func TestReplacedAndKept(t *testing.T) {
	w, c := madeStack(t)
	before := w.Physical("eu-central-1", "shop", "Files")
	set(t, c, "second", shop, cf.ChangeSetTypeUpdate, "Prefix", "other")
	if status := execute(t, c, "second"); status != cf.StackStatusUpdateComplete {
		t.Fatalf("the stack is in %s", status)
	}
	if now := w.Physical("eu-central-1", "shop", "Files"); now == before || !slices.Equal(w.Kept(), []string{before}) {
		t.Errorf("the bucket is %s and was %s; kept is %v", now, before, w.Kept())
	}
}

func TestStackPolicyDenies(t *testing.T) {
	w, c := madeStack(t)
	policy := `{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"},{"Effect":"Deny","Action":["Update:Replace","Update:Delete"],"Principal":"*","Resource":["LogicalResourceId/Database"]}]}`
	if _, err := c.SetStackPolicy(t.Context(), &cloudformation.SetStackPolicyInput{StackName: aws.String("shop"), StackPolicyBody: &policy}); err != nil {
		t.Fatal(err)
	}
	before := w.Physical("eu-central-1", "shop", "Database")
	set(t, c, "second", strings.Replace(shop, "DBName: app", "DBName: other", 1), cf.ChangeSetTypeUpdate)
	if status := execute(t, c, "second"); status != cf.StackStatusUpdateRollbackComplete || w.Physical("eu-central-1", "shop", "Database") != before {
		t.Errorf("the stack is in %s, the database is replaced: %v", status, w.Physical("eu-central-1", "shop", "Database") != before)
	}
}

func TestStackPolicyOfWhatIsNotThere(t *testing.T) {
	_, c := madeStack(t)
	policy := `{"Statement":[{"Effect":"Deny","Action":"Update:*","Principal":"*","Resource":"LogicalResourceId/Other"}]}`
	_, err := c.SetStackPolicy(t.Context(), &cloudformation.SetStackPolicyInput{StackName: aws.String("shop"), StackPolicyBody: &policy})
	refusal(t, err, "ValidationError", "Unknown logical id 'LogicalResourceId/Other'")
}

func TestCustomNamesAreNotReplaced(t *testing.T) {
	_, c := formed(t)
	named := strings.Replace(shop, "DBName: app", "DBInstanceIdentifier: shop-db, DBName: app", 1)
	set(t, c, "first", named, cf.ChangeSetTypeCreate)
	execute(t, c, "first")
	set(t, c, "second", strings.Replace(named, "DBName: app", "DBName: other", 1), cf.ChangeSetTypeUpdate)
	if status := execute(t, c, "second"); status != cf.StackStatusUpdateRollbackComplete {
		t.Errorf("the stack is in %s", status)
	}
	if !strings.Contains(strings.Join(events(t, c), "\n"), "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename shop-db") {
		t.Errorf("the events are\n%s", strings.Join(events(t, c), "\n"))
	}
}

func TestRefusals(t *testing.T) {
	_, c := formed(t)
	in := func(template string) *cloudformation.CreateChangeSetInput {
		return &cloudformation.CreateChangeSetInput{StackName: aws.String("shop"), ChangeSetName: aws.String("x"), ChangeSetType: cf.ChangeSetTypeCreate, TemplateBody: &template}
	}
	for name, test := range map[string]struct {
		template, code, says string
	}{
		"capabilities":   {shop, "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]"},
		"long":           {shop + strings.Repeat("#", maxTemplateBody), "ValidationError", "Member must have length less than or equal to 51200"},
		"no yaml":        {"a: [", "ValidationError", "Template format error"},
		"unknown type":   {"Resources: { A: { Type: AWS::Invented::Thing } }", "ValidationError", "Unrecognized resource types: [AWS::Invented::Thing]"},
		"unresolved":     {"Resources: { A: { Type: AWS::SNS::Topic, Properties: { TopicName: !Ref B } } }", "ValidationError", "Unresolved resource dependencies [B]"},
		"circle":         {"Resources: { A: { Type: AWS::SNS::Topic, DependsOn: B }, B: { Type: AWS::SNS::Topic, DependsOn: A } }", "ValidationError", "Circular dependency"},
		"wrong property": {"Resources: { A: { Type: AWS::SNS::Topic, Property: {} } }", "ValidationError", "Invalid template resource property 'Property'"},
		"no value":       {"Parameters: { P: { Type: String } }\nResources: { A: { Type: AWS::SNS::Topic } }", "ValidationError", "Parameters: [P] must have values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.CreateChangeSet(t.Context(), in(test.template))
			refusal(t, err, test.code, test.says)
		})
	}
	if _, err := c.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("shop")}); err == nil {
		t.Error("a change set that was refused has left a stack")
	}
}

// Executing one change set takes the others away, and the stack of a set that was never executed stays in review.
func TestChangeSetsOfAStack(t *testing.T) {
	_, c := formed(t)
	set(t, c, "first", shop, cf.ChangeSetTypeCreate)
	if _, err := c.DeleteChangeSet(t.Context(), &cloudformation.DeleteChangeSetInput{StackName: aws.String("shop"), ChangeSetName: aws.String("first")}); err != nil {
		t.Fatal(err)
	}
	out, err := c.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("shop")})
	if err != nil || out.Stacks[0].StackStatus != cf.StackStatusReviewInProgress {
		t.Errorf("the stack without a change set is %v %v", out, err)
	}
	set(t, c, "one", shop, cf.ChangeSetTypeCreate)
	set(t, c, "two", shop, cf.ChangeSetTypeCreate)
	execute(t, c, "one")
	_, err = c.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: aws.String("shop"), ChangeSetName: aws.String("two")})
	refusal(t, err, "ChangeSetNotFound", "does not exist")
}

func TestDeletion(t *testing.T) {
	w, c := madeStack(t)
	name := aws.String("shop")
	if _, err := c.UpdateTerminationProtection(t.Context(), &cloudformation.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	_, err := c.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: name})
	refusal(t, err, "ValidationError", "cannot be deleted while TerminationProtection is enabled")
	if _, err := c.UpdateTerminationProtection(t.Context(), &cloudformation.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	database := w.Physical("eu-central-1", "shop", "Database")
	if _, err := c.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: name}); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		_, err := c.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: name})
		return err != nil
	})
	if kept := w.Kept(); !slices.Contains(kept, "shop-files-123456789012") || !slices.Contains(kept, "snapshot of "+database) {
		t.Errorf("kept is %v", kept)
	}
}

func TestDrift(t *testing.T) {
	w, c := madeStack(t)
	detect := func() []cf.StackResourceDrift {
		id, err := c.DetectStackDrift(t.Context(), &cloudformation.DetectStackDriftInput{StackName: aws.String("shop")})
		if err != nil {
			t.Fatal(err)
		}
		until(t, func() bool {
			out, err := c.DescribeStackDriftDetectionStatus(t.Context(), &cloudformation.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: id.StackDriftDetectionId})
			if err != nil {
				t.Fatal(err)
			}
			return out.DetectionStatus == cf.StackDriftDetectionStatusDetectionComplete
		})
		out, err := c.DescribeStackResourceDrifts(t.Context(), &cloudformation.DescribeStackResourceDriftsInput{StackName: aws.String("shop"),
			StackResourceDriftStatusFilters: []cf.StackResourceDriftStatus{cf.StackResourceDriftStatusModified, cf.StackResourceDriftStatusDeleted}})
		if err != nil {
			t.Fatal(err)
		}
		return out.StackResourceDrifts
	}
	if found := detect(); len(found) > 0 {
		t.Errorf("nothing was changed by hand, and %v differs", found)
	}
	w.ByHand("eu-central-1", "shop", "Database", "BackupRetentionPeriod", "0")
	w.ByHand("eu-central-1", "shop", "Database", "MultiAZ", "true") // the template does not set it
	w.RemoveByHand("eu-central-1", "shop", "Role")
	found := detect()
	if len(found) != 2 || len(found[0].PropertyDifferences) != 1 || *found[0].PropertyDifferences[0].PropertyPath != "/BackupRetentionPeriod" || found[1].StackResourceDriftStatus != cf.StackResourceDriftStatusDeleted {
		t.Errorf("what differs is %+v", found)
	}
}
