package aws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

// version makes an application version by hand; note is what Lotse writes into its description.
func (c *cloud) version(t *testing.T, label, note string) {
	t.Helper()
	_, err := eb.NewFromConfig(c.account).CreateApplicationVersion(t.Context(), &eb.CreateApplicationVersionInput{ApplicationName: sdk.String("shop"), VersionLabel: &label, Description: &note})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cloud) labels(t *testing.T) (all []string) {
	t.Helper()
	out, err := eb.NewFromConfig(c.account).DescribeApplicationVersions(t.Context(), &eb.DescribeApplicationVersionsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.ApplicationVersions {
		all = append(all, *v.VersionLabel)
	}
	slices.Sort(all)
	return all
}

// runs makes an environment as a rollout's would be, by hand: nothing runs in it.
func (c *cloud) runs(t *testing.T, e *aws.Engine, rollout, version string) string {
	t.Helper()
	client := eb.NewFromConfig(c.account)
	platforms, err := client.ListAvailableSolutionStacks(t.Context(), &eb.ListAvailableSolutionStacksInput{})
	if err != nil {
		t.Fatal(err)
	}
	tag := func(key, value string) ebtypes.Tag { return ebtypes.Tag{Key: &key, Value: &value} }
	in := &eb.CreateEnvironmentInput{ApplicationName: sdk.String("shop"), SolutionStackName: &platforms.SolutionStacks[0], EnvironmentName: sdk.String(aws.EnvironmentName(e, rollout)),
		Tags: []ebtypes.Tag{tag("lotse:app", "shop"), tag("lotse:stage", "dev"), tag("lotse:rollout", rollout)}}
	if version != "" {
		in.VersionLabel = &version
	}
	out, err := client.CreateEnvironment(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.EnvironmentId
}

// Of a stage's versions the newest few stay, and each that an environment has, however old; those of others stay too.
func TestOldVersionsArePruned(t *testing.T) {
	c := still(t, awsfake.Options{NoBundles: true})
	e := c.open(t, c.stages[0])
	for i := range 9 {
		c.version(t, fmt.Sprintf("dev-r%d", i), "lotse shop/dev")
	}
	c.version(t, "prod-r0", "lotse shop/prod")
	c.version(t, "mine", "by hand")
	c.runs(t, e, "r0", "dev-r0")
	for range 2 {
		if err := aws.MakeRoom(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if got, want := c.labels(t), []string{"dev-r0", "dev-r4", "dev-r5", "dev-r6", "dev-r7", "dev-r8", "mine", "prod-r0"}; !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
	}
}

// Logs of environments that are gone go when they are older than they may be; those of others, and of those that are there, never.
func TestOldLogsAreForgotten(t *testing.T) {
	c := still(t, awsfake.Options{NoBundles: true})
	config := c.config(c.stages[0])
	days := 29
	config.Now = func() time.Time { return time.Now().Add(time.Duration(days) * 24 * time.Hour) }
	e, err := aws.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	c.runs(t, e, "here", "")
	gone, here, other := aws.LogGroup(aws.EnvironmentName(e, "gone")), aws.LogGroup(aws.EnvironmentName(e, "here")), "/aws/elasticbeanstalk/shop-dev-two-0123456789/var/log/web.stdout.log"
	for _, group := range []string{gone, here, other} {
		c.w.LogLine(group, "i-1", time.Now(), "hello")
	}
	for _, want := range [][]string{{here, other, gone}, {here, other}} {
		if err := aws.ForgetLogs(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		out, err := cloudwatchlogs.NewFromConfig(c.account).DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range out.LogGroups {
			if strings.HasPrefix(*g.LogGroupName, "/aws/") {
				got = append(got, *g.LogGroupName)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("after %d days there are %v, want %v", days, got, want)
		}
		days = 32
	}
}

// Following gives what was said, then what is said, each line once; it ends with the rollout, or with who follows.
func TestLogsAreFollowed(t *testing.T) {
	c := still(t, awsfake.Options{NoBundles: true})
	e := c.open(t, c.stages[0])
	id := c.runs(t, e, "r1", "")
	group := aws.LogGroup(aws.EnvironmentName(e, "r1"))
	says := func(text string) {
		c.w.LogLine(group, "i-1", time.Now(), fmt.Sprintf(`{"at":"2026-11-23T10:00:00Z","service":"web","text":%q}`, text))
	}
	follow := func(ctx context.Context, q deploy.LogQuery) (<-chan string, <-chan error) {
		lines, ended := make(chan string), make(chan error, 1)
		go func() {
			ended <- e.Logs(ctx, q, func(l deploy.LogLine) bool {
				select {
				case lines <- l.Rollout + " " + l.Text:
					return true
				case <-ctx.Done():
					return false
				}
			})
		}()
		return lines, ended
	}
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	says("one")
	ofOne, oneEnded := follow(within(t, time.Minute), deploy.LogQuery{Rollout: "r1", Follow: true})
	ofAll, allEnded := follow(ctx, deploy.LogQuery{Follow: true, Lines: 1})
	hears := func(want string) {
		t.Helper()
		for _, lines := range []<-chan string{ofOne, ofAll} {
			select {
			case got := <-lines:
				if got != want {
					t.Errorf("heard %q, want %q", got, want)
				}
			case <-within(t, time.Minute).Done():
				t.Fatalf("%q was not heard", want)
			}
		}
	}
	hears("r1 one")
	says("two")
	hears("r1 two")
	c.w.Inject(awsfake.Throttled("logs", "FilterLogEvents", 5)) // fewer calls, and nothing is lost
	says("three")
	hears("r1 three")
	if _, err := eb.NewFromConfig(c.account).TerminateEnvironment(t.Context(), &eb.TerminateEnvironmentInput{EnvironmentId: &id}); err != nil {
		t.Fatal(err)
	}
	if err := <-oneEnded; err != nil {
		t.Errorf("of a rollout that went: %v", err)
	}
	select {
	case err := <-allEnded:
		t.Errorf("of the stage, before it was ended: %v", err)
	default:
	}
	cancel()
	if err := <-allEnded; err != nil {
		t.Errorf("of the stage: %v", err)
	}
}

// A call that never answers ends by its bound, whoever asks, and can be tried again.
func TestCallsThatNeverAnswer(t *testing.T) {
	for _, call := range []struct{ service, action string }{{"sts", "GetCallerIdentity"}, {"cloudformation", "DescribeStacks"}, {"s3", "GetObject"}, {"elasticbeanstalk", "DescribeEnvironments"},
		{"elasticloadbalancing", "DescribeRules"}} {
		t.Run(call.action, func(t *testing.T) {
			t.Parallel()
			c := still(t, awsfake.Options{})
			config := c.config(c.stages[0])
			config.Timing.Answer = 300 * time.Millisecond
			e, err := aws.Open(config)
			if err != nil {
				t.Fatal(err)
			}
			c.w.Inject(awsfake.Fault{Service: call.service, Action: call.action, Times: -1, Hang: true})
			_, err = e.List(within(t, time.Minute))
			if !errors.Is(err, deploy.ErrUnavailable) || !deploy.Retryable(err) || !strings.Contains(err.Error(), "within 300ms") {
				t.Errorf("%v", err)
			}
			c.w.Heal()
			if _, err := e.List(within(t, time.Minute)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// The end of a stage takes its rule from the shared balancer, and no other's; twice is fine; an older fence ends nothing.
func TestEnd(t *testing.T) {
	c := still(t, awsfake.Options{})
	takeHost(t, c) // the host of dev, by somebody else
	prod := c.open(t, c.stages[1])
	client := elb.NewFromConfig(c.account)
	tag := func(key, value string) elbtypes.Tag { return elbtypes.Tag{Key: &key, Value: &value} }
	_, err := client.CreateRule(t.Context(), &elb.CreateRuleInput{ListenerArn: sdk.String(c.outputs["Listener"]), Priority: sdk.Int32(20000),
		Tags:       []elbtypes.Tag{tag("lotse:app", "shop"), tag("lotse:stage", "prod"), tag("lotse:kind", "stage")},
		Conditions: []elbtypes.RuleCondition{{Field: sdk.String("host-header"), HostHeaderConfig: &elbtypes.HostHeaderConditionConfig{Values: []string{hostOf(c.stages[1])}}}},
		Actions:    []elbtypes.Action{{Type: elbtypes.ActionTypeEnumFixedResponse, FixedResponseConfig: &elbtypes.FixedResponseActionConfig{StatusCode: sdk.String("503")}}}})
	if err != nil {
		t.Fatal(err)
	}
	rules := func() int {
		out, err := client.DescribeRules(t.Context(), &elb.DescribeRulesInput{ListenerArn: sdk.String(c.outputs["Listener"])})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Rules)
	}
	before := rules()
	if err := c.open(t, c.stages[0]).End(t.Context(), 1); err != nil || rules() != before {
		t.Errorf("a stage that has none: %v", err)
	}
	if err := prod.Stop(t.Context(), 5, "nobody", 0); err != nil {
		t.Fatal(err)
	}
	if err := prod.End(t.Context(), 4); !errors.Is(err, deploy.ErrFenced) || rules() != before {
		t.Errorf("an older fence: %v", err)
	}
	for range 2 {
		if err := prod.End(t.Context(), 5); err != nil || rules() != before-1 {
			t.Errorf("%v; there are %d rules, and were %d", err, rules(), before)
		}
	}
}

// A private stage on the fake, from its first start on: nobody sees it who has not its password, which reaches the platform as a reference
// to its lock alone; a rollout later the lock is the same.
func TestPrivateStage(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSShared, options())
	c.stages[0].Private = true
	e := c.open(t, c.stages[0])
	const password = "harbour-light-seven"
	get := func(header http.Header) int {
		t.Helper()
		req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, c.stages[0].URL+"/get", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := (&http.Transport{DialContext: c.w.Dialer(), TLSClientConfig: c.w.TLS(), DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // only the status is looked at
		return resp.StatusCode
	}
	lock := func() string {
		out, err := secretsmanager.NewFromConfig(c.account).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: sdk.String("lotse/shop/dev/engine/LOTSE_PRIVATE")})
		if err != nil {
			t.Fatal(err)
		}
		return *out.SecretString
	}
	locks := map[string]bool{}
	for _, id := range []string{"one", "two"} {
		o := deploy.Order{Rollout: id, Release: c.release(t, id, web("good", 1)), Stage: c.stages[0], Password: secret.New(password)}
		if err := e.Start(within(t, patience), 1, o); err != nil {
			t.Fatalf("%v\n%s", err, c.log)
		}
		c.shift(t, e, 1, id, 100)
		if got := get(http.Header{}); got != http.StatusUnauthorized {
			t.Errorf("%s: a stranger got %d", id, got)
		}
		if got := get(load.Basic(secret.New("something else"))); got != http.StatusUnauthorized {
			t.Errorf("%s: a wrong password got %d", id, got)
		}
		if got := get(load.Basic(secret.New(password))); got != http.StatusOK {
			t.Errorf("%s: the password got %d", id, got)
		}
		locks[lock()] = true
	}
	if len(locks) != 1 {
		t.Error("the lock is another, and everybody must sign in again")
	}
	if all := c.written(t); strings.Contains(all, password) || strings.Contains(all, lock()) {
		t.Error("the password, or its lock, stands on the platform in the open")
	}
}
