package infra

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// What loses data is refused before anything is executed, and done when it is named.
func TestLossWantsAName(t *testing.T) {
	w, c := applied(t, parcels)
	app := appOf(t, withoutProd)
	report, err := c.Plan(bounded(t), app)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(report.Stacks[0].Changes, func(c Change) bool { return c.Resource == "ProdDatabase" })
	if i < 0 || report.Stacks[0].Changes[i].Action != "remove" || !report.Stacks[0].Changes[i].Loses || !strings.Contains(report.Stacks[0].Changes[i].Why, "the database is kept, outside of the stack, and costs on") {
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
			Change{"replace", "ProdDatabase", "AWS::RDS::DBInstance", "DBName; the database is kept, outside of the stack, and costs on", true}},
		"perhaps replaced": {[]string{"StorageType: gp3", "StorageType: gp2"}, "ProdDatabase",
			Change{"replace", "ProdDatabase", "AWS::RDS::DBInstance", "perhaps: CloudFormation cannot tell before; StorageType", true}},
		"its key changes, and not its name": {[]string{"EnableKeyRotation: true", "EnableKeyRotation: false"}, "ProdDatabase",
			Change{"change", "ProdDatabase", "AWS::RDS::DBInstance", "KmsKeyId", false}},
		"its replacement keeps more": {[]string{"DBInstance\n    DeletionPolicy: RetainExceptOnCreate\n    UpdateReplacePolicy: Retain", "DBInstance\n    DeletionPolicy: Snapshot\n    UpdateReplacePolicy: Snapshot"}, "ProdDatabase",
			Change{"change", "ProdDatabase", "AWS::RDS::DBInstance", "DeletionPolicy, UpdateReplacePolicy", false}},
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

// What was named is replaced, under a name that it did not have, and what becomes of the old one is told: it is kept, protected or not, and
// stays until somebody wants it gone.
func TestReplacedByName(t *testing.T) {
	for _, protected := range []string{"DeletionProtection: true", "DeletionProtection: false"} {
		w := madeFrom(t, "DBName: app", "DBName: other", "DeletionProtection: true", protected)
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
		now := w.Physical(home, parcelStack, "ProdDatabase")
		if now == before || !strings.HasPrefix(now, parcelStack+"-") || !slices.Contains(w.Kept(), before) || !slices.Contains(said, "ProdDatabase ("+before+") is kept, outside of the stack, and costs on") {
			t.Errorf("it is %s and was %s, kept is %v, said was\n%s", now, before, w.Kept(), strings.Join(said, "\n"))
		}
		t.Log(strings.Join(said, "\n"))
	}
}

// A stage with a database that goes and comes back: its secret was kept, and is in nobody's way.
func TestDatabaseComesBack(t *testing.T) {
	w, c := applied(t, parcels)
	secret := w.Physical(home, parcelStack, "ProdDatabaseSecret")
	if _, err := c.Apply(bounded(t), appOf(t, withoutProd), []string{"ProdDatabase", "ProdDatabaseSecret", "ProdLogs"}, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if !slices.Contains(w.Kept(), secret) {
		t.Fatalf("the secret was not kept, but %v", w.Kept())
	}
	if _, err := c.Apply(bounded(t), appOf(t, parcels), nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if again := w.Physical(home, parcelStack, "ProdDatabaseSecret"); again == "" || again == secret {
		t.Errorf("the secret of the database that came back is %q", again)
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
