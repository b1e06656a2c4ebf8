package infra

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// The stack goes, with its balancer and in spite of its protection. What holds data stays, and each of it is told; a second time there is
// nothing to do.
func TestDestroyKeepsWhatHoldsData(t *testing.T) {
	w, c := applied(t, parcels)
	kept := map[string]string{}
	for _, name := range []string{"ProdDatabase", "DevDatabase", "ProdDatabaseSecret", "Releases", "Key", "ProdLogs", "Vpc", "DatabaseSubnets", "ProdDatabaseSecurityGroup", "ProdInstanceSecurityGroup"} {
		kept[name] = w.Physical(home, parcelStack, name)
	}
	var said []string
	if err := c.Destroy(bounded(t), appOf(t, parcels), func(line string) { said = append(said, line) }); err != nil {
		t.Fatalf("%v\n%s\n%s", err, deploy.HintOf(err), strings.Join(said, "\n"))
	}
	if s := stackOf(t, w, home, parcelStack); s != nil {
		t.Errorf("the stack is still there, in %s", s.StackStatus)
	}
	for name, id := range kept {
		if !slices.Contains(w.Kept(), id) || !slices.Contains(said, name+" ("+id+") is kept, outside of the stack, and costs on") {
			t.Errorf("%s (%s) was not kept, or nobody was told", name, id)
		}
	}
	if !slices.Contains(said, "Balancer (AWS::ElasticLoadBalancingV2::LoadBalancer) is deleted") || !slices.Contains(said, "Nat (AWS::EC2::NatGateway) is deleted") {
		t.Errorf("what costs and holds nothing was not deleted: %s", strings.Join(said, "\n"))
	}
	if err := c.Destroy(bounded(t), appOf(t, parcels), func(string) {}); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// An app of files alone has two more stacks, in the region from which CloudFront is steered.
func TestDestroyTakesTheEdgeAlong(t *testing.T) {
	app := shape(t, "static-no-zone")
	w := awsfake.Open(t, awsfake.Options{})
	c := cloudOf(w)
	if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if err := c.Destroy(bounded(t), app, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	for _, st := range Stacks(app) {
		if s := stackOf(t, w, st.Region, st.Name); s != nil {
			t.Errorf("%s is still there, in %s", st.Name, s.StackStatus)
		}
	}
}

// While something runs nothing is deleted, and neither is a stack that would take data along, or that is somebody else's.
func TestDestroyRefuses(t *testing.T) {
	w, c := applied(t, parcels)
	eb := elasticbeanstalk.NewFromConfig(w.Config(home))
	platforms, err := eb.ListPlatformVersions(t.Context(), &elasticbeanstalk.ListPlatformVersionsInput{})
	if err != nil || len(platforms.PlatformSummaryList) == 0 {
		t.Fatal(err)
	}
	if _, err := eb.CreateEnvironment(t.Context(), &elasticbeanstalk.CreateEnvironmentInput{ApplicationName: aws.String("parcels"), EnvironmentName: aws.String("parcels-dev-0123456789"),
		PlatformArn: platforms.PlatformSummaryList[0].PlatformArn, OptionSettings: []types.ConfigurationOptionSetting{}}); err != nil {
		t.Fatal(err)
	}
	fails(t, c.Destroy(bounded(t), appOf(t, parcels), func(string) {}), deploy.ErrRefused, "still run", "parcels-dev-0123456789", "lotse end STAGE --yes-end parcels/STAGE")
	if stackOf(t, w, home, parcelStack) == nil {
		t.Error("the stack was deleted under what runs")
	}
	w = madeFrom(t, "DBInstance\n    DeletionPolicy: RetainExceptOnCreate", "DBInstance\n    DeletionPolicy: Snapshot")
	fails(t, cloudOf(w).Destroy(bounded(t), appOf(t, parcels), func(string) {}), deploy.ErrRefused, "would take data along", "ProdDatabase (AWS::RDS::DBInstance)", "lotse infra apply")
	if stackOf(t, w, home, parcelStack) == nil {
		t.Error("the stack was deleted with its data")
	}
}

// A balancer that somebody has protected stands in the way, as AWS has it, and the reason is told.
func TestDestroyTellsWhatStandsInTheWay(t *testing.T) {
	w := madeFrom(t, `deletion_protection.enabled, Value: "false"`, `deletion_protection.enabled, Value: "true"`)
	fails(t, cloudOf(w).Destroy(bounded(t), appOf(t, parcels), func(string) {}), deploy.ErrRefused, "Balancer", "OperationNotPermitted", "deletion protection", "destroy again")
}

// What a database that stays is in cannot be deleted: a template that forgets it leaves a stack that cannot go.
func TestFakeKeepsWhatADatabaseNeeds(t *testing.T) {
	w := madeFrom(t, "AWS::RDS::DBSubnetGroup\n    DeletionPolicy: RetainExceptOnCreate # a database that stays is in it\n", "AWS::RDS::DBSubnetGroup\n")
	fails(t, cloudOf(w).Destroy(bounded(t), appOf(t, parcels), func(string) {}), deploy.ErrRefused, "DatabaseSubnets", "DependencyViolation")
}
