package awsfake_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

const node = "64bit Amazon Linux 2023 v6.8.1 running Node.js 24"

// shop is a World with an application shop and a version v1 of it.
func shop(t *testing.T, o awsfake.Options) (*awsfake.World, *eb.Client) {
	t.Helper()
	o.NoBundles = true
	w := awsfake.Open(t, o)
	c := eb.NewFromConfig(w.Config(""))
	if _, err := c.CreateApplication(t.Context(), &eb.CreateApplicationInput{ApplicationName: aws.String("shop")}); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"v1", "v2"} {
		if _, err := c.CreateApplicationVersion(t.Context(), &eb.CreateApplicationVersionInput{ApplicationName: aws.String("shop"), VersionLabel: aws.String(label)}); err != nil {
			t.Fatal(err)
		}
	}
	return w, c
}

func launch(t *testing.T, c *eb.Client, name string, options ...types.ConfigurationOptionSetting) string {
	t.Helper()
	out, err := c.CreateEnvironment(t.Context(), &eb.CreateEnvironmentInput{
		ApplicationName: aws.String("shop"), EnvironmentName: &name, CNAMEPrefix: &name, VersionLabel: aws.String("v1"), SolutionStackName: aws.String(node), OptionSettings: options,
		Tags: []types.Tag{{Key: aws.String("lotse:stage"), Value: aws.String("prod")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Status != types.EnvironmentStatusLaunching || out.Health != types.EnvironmentHealthGrey {
		t.Fatalf("a new environment is %s and %s", out.Status, out.Health)
	}
	return *out.EnvironmentId
}

// await asks until the environment is in a status.
func await(t *testing.T, c *eb.Client, id string, status types.EnvironmentStatus) types.EnvironmentDescription {
	t.Helper()
	for range 1000 {
		out, err := c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentIds: []string{id}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Environments) == 1 && out.Environments[0].Status == status {
			return out.Environments[0]
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	t.Fatalf("%s never is %s", id, status)
	return types.EnvironmentDescription{}
}

func messages(t *testing.T, c *eb.Client, id string) string {
	t.Helper()
	out, err := c.DescribeEvents(t.Context(), &eb.DescribeEventsInput{EnvironmentId: &id})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, ev := range out.Events {
		all = append(all, string(ev.Severity)+" "+*ev.Message)
	}
	return strings.Join(all, "\n")
}

func codeOf(err error) string {
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		return refusal.ErrorCode()
	}
	return ""
}

func TestEnvironmentComesUpAndGoesDown(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	id := launch(t, c, "shop-prod-1")
	if _, err := c.TerminateEnvironment(t.Context(), &eb.TerminateEnvironmentInput{EnvironmentId: &id}); codeOf(err) != "InvalidParameterValue" || !strings.Contains(err.Error(), "Must be Ready") {
		t.Errorf("an environment that is Launching is terminated: %v", err)
	}
	e := await(t, c, id, types.EnvironmentStatusReady)
	if e.Health != types.EnvironmentHealthGreen || e.HealthStatus != types.EnvironmentHealthStatusOk || *e.CNAME != "shop-prod-1.eu-central-1.elasticbeanstalk.com" {
		t.Errorf("Ready: %+v", e)
	}
	if said := messages(t, c, id); !strings.Contains(said, "INFO Successfully launched environment: shop-prod-1") {
		t.Errorf("events: %s", said)
	}
	tags, err := c.ListTagsForResource(t.Context(), &eb.ListTagsForResourceInput{ResourceArn: e.EnvironmentArn})
	if err != nil || len(tags.ResourceTags) != 4 {
		t.Errorf("tags %+v, %v", tags, err)
	}
	if _, err := c.TerminateEnvironment(t.Context(), &eb.TerminateEnvironmentInput{EnvironmentId: &id}); err != nil {
		t.Fatal(err)
	}
	await(t, c, id, types.EnvironmentStatusTerminated)
	free, err := c.CheckDNSAvailability(t.Context(), &eb.CheckDNSAvailabilityInput{CNAMEPrefix: aws.String("shop-prod-1")})
	if err != nil || !*free.Available {
		t.Errorf("the CNAME of a terminated environment is not free: %v", err)
	}
	calls := w.Calls()
	if last := calls[len(calls)-1]; last.Service != "elasticbeanstalk" || last.Action != "CheckDNSAvailability" || last.Resource != "shop-prod-1" || last.Region != "eu-central-1" {
		t.Errorf("the last call was %+v", last)
	}
}

func TestEnvironmentRefusals(t *testing.T) {
	_, c := shop(t, awsfake.Options{Quotas: map[string]int{"Environments": 2}})
	launch(t, c, "shop-taken")
	long := strings.Repeat("x", 41)
	setting := func(namespace, name, value string) []types.ConfigurationOptionSetting {
		return []types.ConfigurationOptionSetting{{Namespace: &namespace, OptionName: &name, Value: &value}}
	}
	const variables = "aws:elasticbeanstalk:application:environment"
	for name, refused := range map[string]struct {
		change       func(*eb.CreateEnvironmentInput)
		code, wanted string
	}{
		"short name":       {func(in *eb.CreateEnvironmentInput) { in.EnvironmentName = aws.String("abc") }, "ValidationError", "greater than or equal to 4"},
		"long name":        {func(in *eb.CreateEnvironmentInput) { in.EnvironmentName = &long }, "ValidationError", "less than or equal to 40"},
		"hyphen at an end": {func(in *eb.CreateEnvironmentInput) { in.EnvironmentName = aws.String("shop-") }, "InvalidParameterValue", "dash"},
		"taken name":       {func(in *eb.CreateEnvironmentInput) { in.EnvironmentName = aws.String("shop-taken") }, "InvalidParameterValue", "already exists"},
		"short cname":      {func(in *eb.CreateEnvironmentInput) { in.CNAMEPrefix = aws.String("abc") }, "ValidationError", "greater than or equal to 4"},
		"taken cname":      {func(in *eb.CreateEnvironmentInput) { in.CNAMEPrefix = aws.String("shop-taken") }, "InvalidParameterValue", "is not available"},
		"no such version":  {func(in *eb.CreateEnvironmentInput) { in.VersionLabel = aws.String("v9") }, "InvalidParameterValue", "No Application Version named 'v9'"},
		"no such stack":    {func(in *eb.CreateEnvironmentInput) { in.SolutionStackName = aws.String("DOS") }, "InvalidParameterValue", "No Solution Stack named"},
		"no such app":      {func(in *eb.CreateEnvironmentInput) { in.ApplicationName = aws.String("else") }, "InvalidParameterValue", "No Application named 'else' found."},
		"unknown option":   {func(in *eb.CreateEnvironmentInput) { in.OptionSettings = setting("aws:ec2:vpc", "Subnet", "a") }, "ConfigurationValidationException", "Unknown configuration setting"},
		"no number": {func(in *eb.CreateEnvironmentInput) {
			in.OptionSettings = setting("aws:autoscaling:asg", "MinSize", "two")
		}, "ConfigurationValidationException", "not a number"},
		"secret's name": {func(in *eb.CreateEnvironmentInput) {
			in.OptionSettings = setting("aws:elasticbeanstalk:application:environmentsecrets", "lower", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-abcdef")
		}, "ConfigurationValidationException", "option name"},
		"4,097 bytes": {func(in *eb.CreateEnvironmentInput) {
			in.OptionSettings = setting(variables, "A", strings.Repeat("x", 4095))
		}, "InvalidParameterValue", "at most 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &eb.CreateEnvironmentInput{ApplicationName: aws.String("shop"), EnvironmentName: aws.String("shop-new"), SolutionStackName: aws.String(node)}
			refused.change(in)
			if _, err := c.CreateEnvironment(t.Context(), in); codeOf(err) != refused.code || !strings.Contains(err.Error(), refused.wanted) {
				t.Errorf("%v", err)
			}
		})
	}
	in := &eb.CreateEnvironmentInput{ApplicationName: aws.String("shop"), EnvironmentName: aws.String("shop-most"), SolutionStackName: aws.String(node), OptionSettings: setting(variables, "A", strings.Repeat("x", 4094))}
	if _, err := c.CreateEnvironment(t.Context(), in); err != nil {
		t.Errorf("4,096 bytes: %v", err)
	}
	in.EnvironmentName = aws.String("shop-many")
	if _, err := c.CreateEnvironment(t.Context(), in); codeOf(err) != "TooManyEnvironmentsException" {
		t.Errorf("a third environment: %v", err)
	}
}

func TestTroublesOfEnvironments(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	w.Trouble(awsfake.Trouble{Environment: "shop-red", Red: true})
	w.Trouble(awsfake.Trouble{Environment: "shop-fails", LaunchFails: true})
	w.Trouble(awsfake.Trouble{Environment: "shop-silent", NoEvent: "Successfully launched", Times: -1})
	red, fails, silent := launch(t, c, "shop-red"), launch(t, c, "shop-fails"), launch(t, c, "shop-silent")
	if e := await(t, c, red, types.EnvironmentStatusReady); e.Health != types.EnvironmentHealthRed || e.HealthStatus != types.EnvironmentHealthStatusSevere {
		t.Errorf("Ready and %s", e.Health)
	}
	e := await(t, c, fails, types.EnvironmentStatusReady)
	if said := messages(t, c, fails); e.Health != types.EnvironmentHealthRed || !strings.Contains(said, "ERROR Failed to deploy application.") || strings.Contains(said, "Successfully") {
		t.Errorf("%s after %s", e.Health, said)
	}
	if e := await(t, c, silent, types.EnvironmentStatusReady); e.Health != types.EnvironmentHealthGreen || strings.Contains(messages(t, c, silent), "Successfully") {
		t.Errorf("the event that never comes came")
	}
	w.Trouble(awsfake.Trouble{Environment: "shop-stuck", Stuck: true})
	stuck := launch(t, c, "shop-stuck")
	for range 30 {
		out, err := c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentIds: []string{stuck}})
		if err != nil || out.Environments[0].Status != types.EnvironmentStatusLaunching {
			t.Fatalf("stuck: %+v, %v", out, err)
		}
		<-time.After(5 * time.Millisecond)
	}
	w.Heal()
	await(t, c, stuck, types.EnvironmentStatusReady)
}

func TestSwapExchangesNamesAndMayFail(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	blue, green := launch(t, c, "shop-blue"), launch(t, c, "shop-green")
	await(t, c, blue, types.EnvironmentStatusReady)
	await(t, c, green, types.EnvironmentStatusReady)
	swap := func() types.EnvironmentDescription {
		if _, err := c.SwapEnvironmentCNAMEs(t.Context(), &eb.SwapEnvironmentCNAMEsInput{SourceEnvironmentId: &blue, DestinationEnvironmentId: &green}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.TerminateEnvironment(t.Context(), &eb.TerminateEnvironmentInput{EnvironmentId: &green}); !strings.Contains(err.Error(), "Must be Ready") {
			t.Errorf("during the swap: %v", err)
		}
		return await(t, c, blue, types.EnvironmentStatusReady)
	}
	w.Trouble(awsfake.Trouble{SwapFails: true})
	if e := swap(); *e.CNAME != "shop-blue.eu-central-1.elasticbeanstalk.com" || strings.Contains(messages(t, c, blue), "Completed swapping") {
		t.Errorf("a swap that fails: %s", *e.CNAME)
	}
	if e := swap(); *e.CNAME != "shop-green.eu-central-1.elasticbeanstalk.com" || !strings.Contains(messages(t, c, green), "Completed swapping CNAMEs for environments 'shop-blue' and 'shop-green'.") {
		t.Errorf("a swap: %s", *e.CNAME)
	}
	if _, err := c.SwapEnvironmentCNAMEs(t.Context(), &eb.SwapEnvironmentCNAMEsInput{SourceEnvironmentId: &blue, DestinationEnvironmentName: aws.String("shop-green")}); codeOf(err) != "InvalidParameterCombination" {
		t.Errorf("an id and a name: %v", err)
	}
}

func TestDescribesLagBehind(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	w.SetLag(300 * time.Millisecond)
	began := time.Now()
	id := launch(t, c, "shop-late")
	out, err := c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentIds: []string{id}})
	if err != nil || (len(out.Environments) != 0 && time.Since(began) < 300*time.Millisecond) {
		t.Errorf("an environment is shown at once: %v", err)
	}
	if said := messages(t, c, id); said != "" && time.Since(began) < 300*time.Millisecond {
		t.Errorf("events are shown at once: %s", said)
	}
	await(t, c, id, types.EnvironmentStatusReady)
	if time.Since(began) < 300*time.Millisecond {
		t.Error("Ready was shown before its time")
	}
}

func TestUpdateIsAbortedAndTheOldVersionComesBack(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	id := launch(t, c, "shop-prod")
	await(t, c, id, types.EnvironmentStatusReady)
	if _, err := c.AbortEnvironmentUpdate(t.Context(), &eb.AbortEnvironmentUpdateInput{EnvironmentId: &id}); !strings.Contains(err.Error(), "invalid state") {
		t.Errorf("nothing to abort: %v", err)
	}
	w.Trouble(awsfake.Trouble{Slower: time.Minute})
	out, err := c.UpdateEnvironment(t.Context(), &eb.UpdateEnvironmentInput{EnvironmentId: &id, VersionLabel: aws.String("v2")})
	if err != nil || out.Status != types.EnvironmentStatusUpdating || !*out.AbortableOperationInProgress {
		t.Fatalf("update: %+v, %v", out, err)
	}
	if _, err := c.AbortEnvironmentUpdate(t.Context(), &eb.AbortEnvironmentUpdateInput{EnvironmentId: &id}); err != nil {
		t.Fatal(err)
	}
	if e := await(t, c, id, types.EnvironmentStatusReady); *e.VersionLabel != "v1" {
		t.Errorf("after the abort: %s", *e.VersionLabel)
	}
	if _, err := c.UpdateEnvironment(t.Context(), &eb.UpdateEnvironmentInput{EnvironmentId: &id, VersionLabel: aws.String("v2")}); err != nil {
		t.Fatal(err)
	}
	if e := await(t, c, id, types.EnvironmentStatusReady); *e.VersionLabel != "v2" {
		t.Errorf("after the update: %s", *e.VersionLabel)
	}
	if _, err := c.DeleteApplicationVersion(t.Context(), &eb.DeleteApplicationVersionInput{ApplicationName: aws.String("shop"), VersionLabel: aws.String("v2")}); codeOf(err) != "SourceBundleDeletionException" {
		t.Errorf("a version in use is deleted: %v", err)
	}
}
