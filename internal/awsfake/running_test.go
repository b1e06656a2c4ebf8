package awsfake_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

// appMarker makes the test's binary the app of a bundle.
const appMarker = "AWSFAKE_APP"

func TestMain(m *testing.M) {
	if os.Getenv(appMarker) != "" {
		serveApp()
		return
	}
	os.Exit(m.Run())
}

// serveApp answers with what it was given, and is sick where SICK is set.
func serveApp() {
	fmt.Println("the app has begun")
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("SICK") != "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%s %s", os.Getenv("GREETING"), os.Getenv("PASSWORD"))
	}))
	fmt.Println(err)
}

func bundle(t *testing.T) []byte {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("Procfile")
	if err == nil {
		_, err = fmt.Fprintf(f, "web: %s\n", program)
	}
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func setting(namespace, name, value string) types.ConfigurationOptionSetting {
	return types.ConfigurationOptionSetting{Namespace: &namespace, OptionName: &name, Value: &value}
}

func variable(name, value string) types.ConfigurationOptionSetting {
	return setting("aws:elasticbeanstalk:application:environment", name, value)
}

// street is a World where programs run, with a shared balancer that shop.example leads to.
type street struct {
	w                  *awsfake.World
	eb                 *eb.Client
	elb                *elb.Client
	balancer, listener string
	secret             string
}

func newStreet(t *testing.T, patience time.Duration) *street {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{Plane: true, HealthTimeout: patience})
	s := &street{w: w, eb: eb.NewFromConfig(w.Config("")), elb: elb.NewFromConfig(w.Config(""))}
	s.balancer, s.listener = w.Balancer("lotse-shop", w.Certificate("shop.example", "*.eu-central-1.elasticbeanstalk.com"))
	w.Record("shop.example", w.BalancerName(s.balancer))
	w.Bucket("releases")
	made, err := secretsmanager.NewFromConfig(w.Config("")).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("shop/db"), SecretString: aws.String(`{"password":"hidden"}`)})
	if err != nil {
		t.Fatal(err)
	}
	s.secret = *made.ARN
	if _, err := s3.NewFromConfig(w.Config("")).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("releases"), Key: aws.String("b.zip"), Body: bytes.NewReader(bundle(t))}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.eb.CreateApplicationVersion(t.Context(), &eb.CreateApplicationVersionInput{ApplicationName: aws.String("shop"), VersionLabel: aws.String("v1"), AutoCreateApplication: aws.Bool(true),
		SourceBundle: &types.S3Location{S3Bucket: aws.String("releases"), S3Key: aws.String("b.zip")}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *street) launch(t *testing.T, name string, more ...types.ConfigurationOptionSetting) string {
	return launch(t, s.eb, name, append([]types.ConfigurationOptionSetting{
		setting("aws:elasticbeanstalk:environment", "LoadBalancerType", "application"), setting("aws:elasticbeanstalk:environment", "LoadBalancerIsShared", "true"),
		setting("aws:elbv2:loadbalancer", "SharedLoadBalancer", s.balancer), setting("aws:elbv2:listener:443", "Rules", "default"), setting("aws:elasticbeanstalk:cloudwatch:logs", "StreamLogs", "true"),
		variable(appMarker, "1"), variable("GREETING", name), setting("aws:elasticbeanstalk:application:environmentsecrets", "PASSWORD", s.secret+":password"),
	}, more...)...)
}

func get(w *awsfake.World, url string) (string, error) {
	transport := &http.Transport{DialContext: w.Dialer(), TLSClientConfig: w.TLS(), DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	return fmt.Sprint(answer.StatusCode, " ", string(raw)), err
}

// eventually asks until the answer is right.
func eventually(t *testing.T, what string, ask func() string, want string) {
	t.Helper()
	for ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second); ; {
		defer cancel()
		last := ask()
		if strings.Contains(last, want) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %s, not %s", what, last, want)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestEnvironmentsRunBehindASharedBalancer(t *testing.T) {
	s := newStreet(t, 20*time.Second)
	id := s.launch(t, "shop-one")
	e := await(t, s.eb, id, types.EnvironmentStatusReady)
	if e.Health != types.EnvironmentHealthGreen {
		t.Fatalf("%s: %s", e.Health, messages(t, s.eb, id))
	}
	if got, err := get(s.w, "https://"+*e.CNAME+"/"); err != nil || got != "200 shop-one hidden" {
		t.Errorf("by the environment's own name: %s, %v", got, err)
	}
	if got, err := get(s.w, "https://shop.example/"); err != nil || !strings.HasPrefix(got, "404") {
		t.Errorf("no rule yet: %s, %v", got, err)
	}
	rules, err := s.elb.DescribeRules(t.Context(), &elb.DescribeRulesInput{ListenerArn: &s.listener})
	if err != nil || len(rules.Rules) != 2 || rules.Rules[0].Conditions[0].Values[0] != *e.CNAME {
		t.Fatalf("the rule of the environment: %+v, %v", rules, err)
	}
	group := *rules.Rules[0].Actions[0].TargetGroupArn
	made, err := s.elb.CreateRule(t.Context(), &elb.CreateRuleInput{ListenerArn: &s.listener, Priority: aws.Int32(900),
		Conditions: []elbtypes.RuleCondition{{Field: aws.String("host-header"), Values: []string{"shop.example"}}},
		Actions:    []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, ForwardConfig: &elbtypes.ForwardActionConfig{TargetGroups: []elbtypes.TargetGroupTuple{{TargetGroupArn: &group, Weight: aws.Int32(10)}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "by the stage's host", func() string { got, err := get(s.w, "https://shop.example/"); return fmt.Sprint(got, err) }, "200 shop-one")
	s.commands(t, e)
	s.break1(t, id, group)
	s.teardown(t, id, *made.Rules[0].RuleArn)
}

func TestBundlesAreLookedFor(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Quotas: map[string]int{"BundleBytes": 10}})
	w.Bucket("releases")
	c := eb.NewFromConfig(w.Config(""))
	version := func(key string) error {
		_, err := c.CreateApplicationVersion(t.Context(), &eb.CreateApplicationVersionInput{ApplicationName: aws.String("shop"), VersionLabel: &key, AutoCreateApplication: aws.Bool(true),
			SourceBundle: &types.S3Location{S3Bucket: aws.String("releases"), S3Key: &key}})
		return err
	}
	for key, size := range map[string]int{"ten": 10, "eleven": 11} {
		if _, err := s3.NewFromConfig(w.Config("")).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("releases"), Key: &key, Body: bytes.NewReader(make([]byte, size))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := version("none"); codeOf(err) != "InvalidParameterValue" || !strings.Contains(err.Error(), "Unable to download from S3 location") {
		t.Errorf("a bundle that is not there: %v", err)
	}
	if err := version("eleven"); codeOf(err) != "InvalidParameterValue" || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a bundle that is too large: %v", err)
	}
	if err := version("ten"); err != nil {
		t.Errorf("one that is not: %v", err)
	}
}

// commands run on the machine, and what the app writes comes to CloudWatch Logs.
func (s *street) commands(t *testing.T, e types.EnvironmentDescription) {
	machine := s.w.Instances("shop-one")[0]
	c := ssm.NewFromConfig(s.w.Config(""))
	sent, err := c.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{machine.ID()}, Parameters: map[string][]string{"commands": {"echo well; echo ill >&2; exit 3"}}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command", func() string {
		out, err := c.GetCommandInvocation(t.Context(), &ssm.GetCommandInvocationInput{CommandId: sent.Command.CommandId, InstanceId: aws.String(machine.ID())})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(out.Status, out.ResponseCode, *out.StandardOutputContent, *out.StandardErrorContent)
	}, fmt.Sprint(ssmtypes.CommandInvocationStatusFailed, 3, "well\n", "ill\n"))
	if _, err := c.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{"i-0"}, Parameters: map[string][]string{"commands": {"true"}}}); codeOf(err) != "InvalidInstanceId" {
		t.Errorf("a machine that is not there: %v", err)
	}
	logs := cwl.NewFromConfig(s.w.Config(""))
	eventually(t, "the log", func() string {
		out, err := logs.FilterLogEvents(t.Context(), &cwl.FilterLogEventsInput{LogGroupName: aws.String("/aws/elasticbeanstalk/" + *e.EnvironmentName + "/var/log/web.stdout.log"), FilterPattern: aws.String(`"app has begun"`)})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(len(out.Events))
	}, "1")
}

// break1 freezes the only machine: target and environment become sick, and well again.
func (s *street) break1(t *testing.T, id, group string) {
	health := func() string {
		targets, err := s.elb.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &group})
		if err != nil {
			return err.Error()
		}
		out, err := s.eb.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentIds: []string{id}})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(targets.TargetHealthDescriptions[0].TargetHealth.State, " ", out.Environments[0].Health)
	}
	machine := s.w.Instances("shop-one")[0]
	eventually(t, "at first", health, "healthy Green")
	machine.Freeze()
	eventually(t, "frozen", health, "unhealthy Red")
	machine.Thaw()
	eventually(t, "thawed", health, "healthy Green")
}

// teardown: a target group that another's rule forwards to outlives its environment.
func (s *street) teardown(t *testing.T, id, rule string) {
	if _, err := s.eb.TerminateEnvironment(t.Context(), &eb.TerminateEnvironmentInput{EnvironmentId: &id}); err != nil {
		t.Fatal(err)
	}
	await(t, s.eb, id, types.EnvironmentStatusTerminated)
	eventually(t, "gone", func() string { got, err := get(s.w, "https://shop.example/"); return fmt.Sprint(got, err) }, "503")
	if _, err := s.elb.DeleteRule(t.Context(), &elb.DeleteRuleInput{RuleArn: &rule}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no rule any more", func() string { got, err := get(s.w, "https://shop.example/"); return fmt.Sprint(got, err) }, "404")
}

func TestSickAppIsReadyAndRed(t *testing.T) {
	s := newStreet(t, 300*time.Millisecond)
	id := s.launch(t, "shop-sick", variable("SICK", "1"))
	e := await(t, s.eb, id, types.EnvironmentStatusReady)
	if said := messages(t, s.eb, id); e.Health != types.EnvironmentHealthRed || !strings.Contains(said, "there were issues during launch") {
		t.Errorf("%s after %s", e.Health, said)
	}
}

func TestSwapOfOwnBalancersTakesTheRecordsTTL(t *testing.T) {
	s := newStreet(t, 20*time.Second)
	certificate := s.w.Certificate("*.eu-central-1.elasticbeanstalk.com")
	own := []types.ConfigurationOptionSetting{setting("aws:elasticbeanstalk:environment", "LoadBalancerIsShared", "false"),
		setting("aws:elbv2:listener:443", "Protocol", "HTTPS"), setting("aws:elbv2:listener:443", "SSLCertificateArns", certificate)}
	blue, green := s.launch(t, "shop-blue", own...), s.launch(t, "shop-green", own...)
	e := await(t, s.eb, blue, types.EnvironmentStatusReady)
	await(t, s.eb, green, types.EnvironmentStatusReady)
	ask := func() string { got, err := get(s.w, "https://"+*e.CNAME+"/"); return fmt.Sprint(got, err) }
	if got := ask(); !strings.HasPrefix(got, "200 shop-blue") {
		t.Fatalf("before the swap: %s: %s", got, messages(t, s.eb, blue))
	}
	if _, err := s.eb.SwapEnvironmentCNAMEs(t.Context(), &eb.SwapEnvironmentCNAMEsInput{SourceEnvironmentId: &blue, DestinationEnvironmentId: &green}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "after the swap", ask, "200 shop-green")
}
