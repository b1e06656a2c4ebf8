package awsfake_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	sqtypes "github.com/aws/aws-sdk-go-v2/service/servicequotas/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

func host(values ...string) []types.RuleCondition {
	return []types.RuleCondition{{Field: aws.String("host-header"), HostHeaderConfig: &types.HostHeaderConditionConfig{Values: values}}}
}

func forward(tuples ...types.TargetGroupTuple) []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{TargetGroups: tuples}}}
}

// ruler makes rules on a listener of a World that allows two.
type ruler struct {
	t               *testing.T
	c               *elb.Client
	listener, other string
	blue, green     *string
	both            []types.Action
}

func newRuler(t *testing.T) *ruler {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{Quotas: map[string]int{"Rules": 2}})
	r := &ruler{t: t, c: elb.NewFromConfig(w.Config(""))}
	_, r.listener = w.Balancer("shop", w.Certificate("shop.example"))
	_, r.other = w.Balancer("other", w.Certificate("other.example"))
	r.blue, r.green = r.group("blue"), r.group("green")
	r.both = forward(types.TargetGroupTuple{TargetGroupArn: r.blue, Weight: aws.Int32(95)}, types.TargetGroupTuple{TargetGroupArn: r.green, Weight: aws.Int32(5)})
	return r
}

func (r *ruler) group(name string) *string {
	r.t.Helper()
	out, err := r.c.CreateTargetGroup(r.t.Context(), &elb.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttps, Port: aws.Int32(5000)})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.TargetGroups[0].TargetGroupArn
}

func (r *ruler) create(on string, priority int32, conditions []types.RuleCondition, actions []types.Action) (string, error) {
	out, err := r.c.CreateRule(r.t.Context(), &elb.CreateRuleInput{ListenerArn: &on, Priority: &priority, Conditions: conditions, Actions: actions})
	if err != nil {
		return "", err
	}
	return *out.Rules[0].RuleArn, nil
}

// two rules, at 10 and 20.
func (r *ruler) two() (first, next string) {
	r.t.Helper()
	first, err := r.create(r.listener, 10, host("shop.example"), r.both)
	if err != nil {
		r.t.Fatal(err)
	}
	if next, err = r.create(r.listener, 20, host("www.shop.example"), r.both); err != nil {
		r.t.Fatal(err)
	}
	return first, next
}

func TestRulesAreRefused(t *testing.T) {
	r := newRuler(t)
	if _, err := r.create(r.listener, 10, host("shop.example"), r.both); err != nil {
		t.Fatal(err)
	}
	rule := func(on string, priority int32, conditions []types.RuleCondition, actions []types.Action) error {
		_, err := r.create(on, priority, conditions, actions)
		return err
	}
	_, inUse := r.c.DeleteTargetGroup(t.Context(), &elb.DeleteTargetGroupInput{TargetGroupArn: r.blue})
	_, noRule := r.c.DeleteRule(t.Context(), &elb.DeleteRuleInput{RuleArn: aws.String("arn:none")})
	for name, refused := range map[string]struct {
		err  error
		code string
	}{
		"taken priority":         {rule(r.listener, 10, host("a"), r.both), "PriorityInUse"},
		"no such group":          {rule(r.listener, 11, host("a"), forward(types.TargetGroupTuple{TargetGroupArn: aws.String("arn:none")})), "TargetGroupNotFound"},
		"a group of another ALB": {rule(r.other, 1, host("a"), forward(types.TargetGroupTuple{TargetGroupArn: r.blue})), "TargetGroupAssociationLimit"},
		"no such listener":       {rule("arn:none", 1, host("a"), r.both), "ListenerNotFound"},
		"a group in use":         {inUse, "ResourceInUse"},
		"no such rule":           {noRule, "RuleNotFound"},
		"weight 1000":            {rule(r.listener, 12, host("a"), forward(types.TargetGroupTuple{TargetGroupArn: r.blue, Weight: aws.Int32(1000)})), "ValidationError"},
		"six values":             {rule(r.listener, 12, host("a", "b", "c", "d", "e", "f"), r.both), "ValidationError"},
		"no conditions":          {rule(r.listener, 12, []types.RuleCondition{}, r.both), "ValidationError"},
		"priority 0":             {rule(r.listener, 0, host("a"), r.both), "ValidationError"},
	} {
		if codeOf(refused.err) != refused.code {
			t.Errorf("%s: %v", name, refused.err)
		}
	}
}

func TestRulesAreMovedAndChanged(t *testing.T) {
	r := newRuler(t)
	first, next := r.two()
	if _, err := r.create(r.listener, 30, host("a"), r.both); codeOf(err) != "TooManyRules" {
		t.Errorf("a third rule: %v", err)
	}
	order := func() string {
		out, err := r.c.DescribeRules(t.Context(), &elb.DescribeRulesInput{ListenerArn: &r.listener})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, one := range out.Rules {
			all = append(all, *one.Priority+map[string]string{first: "=first", next: "=next"}[*one.RuleArn])
		}
		return strings.Join(all, " ")
	}
	swap := &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: &first, Priority: aws.Int32(20)}, {RuleArn: &next, Priority: aws.Int32(10)}}}
	if _, err := r.c.SetRulePriorities(t.Context(), swap); err != nil || order() != "10=next 20=first default" {
		t.Errorf("exchanged at once: %s, %v", order(), err)
	}
	onto := &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: &first, Priority: aws.Int32(10)}}}
	if _, err := r.c.SetRulePriorities(t.Context(), onto); codeOf(err) != "PriorityInUse" || order() != "10=next 20=first default" {
		t.Errorf("onto a taken one: %s, %v", order(), err)
	}
	changed, err := r.c.ModifyRule(t.Context(), &elb.ModifyRuleInput{RuleArn: &first, Actions: forward(types.TargetGroupTuple{TargetGroupArn: r.green})})
	if err != nil || *changed.Rules[0].Actions[0].TargetGroupArn != *r.green || changed.Rules[0].Conditions[0].Values[0] != "shop.example" {
		t.Errorf("modified: %+v, %v", changed, err)
	}
}

func TestSecretsHaveVersionsAndStages(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	c := secretsmanager.NewFromConfig(w.Config(""))
	made, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("shop/prod/key"), SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	put := func(value, token string) error {
		_, err := c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: made.ARN, SecretString: &value, ClientRequestToken: &token})
		return err
	}
	value := func(stage string) string {
		out, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("shop/prod/key"), VersionStage: &stage})
		if err != nil {
			return codeOf(err)
		}
		return *out.SecretString
	}
	token := strings.Repeat("t", 32)
	if err := put("two", token); err != nil || value("AWSCURRENT") != "two" || value("AWSPREVIOUS") != "one" {
		t.Errorf("after a second version: %s, before it %s, %v", value("AWSCURRENT"), value("AWSPREVIOUS"), err)
	}
	if err := put("two", token); err != nil || value("AWSPREVIOUS") != "one" {
		t.Errorf("the same again is a version of its own: %v", err)
	}
	if err := put("three", token); codeOf(err) != "ResourceExistsException" {
		t.Errorf("another value under the same token: %v", err)
	}
	if _, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("shop/prod/key")}); codeOf(err) != "ResourceExistsException" {
		t.Errorf("the same name: %v", err)
	}
	if _, err := c.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: made.ARN}); err != nil || value("AWSCURRENT") != "InvalidRequestException" {
		t.Errorf("marked for deletion: %s, %v", value("AWSCURRENT"), err)
	}
	list, err := c.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{})
	if err != nil || len(list.SecretList) != 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if _, err := c.RestoreSecret(t.Context(), &secretsmanager.RestoreSecretInput{SecretId: made.ARN}); err != nil || value("AWSCURRENT") != "two" {
		t.Errorf("restored: %s, %v", value("AWSCURRENT"), err)
	}
	elsewhere := secretsmanager.NewFromConfig(w.Config("us-east-1"))
	if _, err := elsewhere.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("shop/prod/key")}); codeOf(err) != "ResourceNotFoundException" {
		t.Errorf("in another region: %v", err)
	}
}

func TestLogsAreFilteredAndPaged(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	c := cwl.NewFromConfig(w.Config(""))
	at := time.UnixMilli(1_700_000_000_000)
	for i, line := range []string{"GET /a 200", "GET /b 500", "POST /a 200", "GET /a 200 late"} {
		w.LogLine("/shop", fmt.Sprint("i-", i%2), at.Add(time.Duration(i)*time.Second), line)
	}
	ask := func(in cwl.FilterLogEventsInput) (lines []string) {
		in.LogGroupName = aws.String("/shop")
		pages := cwl.NewFilterLogEventsPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range page.Events {
				lines = append(lines, *ev.Message)
			}
		}
		return lines
	}
	if got := ask(cwl.FilterLogEventsInput{Limit: aws.Int32(1)}); len(got) != 4 || got[3] != "GET /a 200 late" {
		t.Errorf("one by one: %q", got)
	}
	if got := ask(cwl.FilterLogEventsInput{FilterPattern: aws.String(`GET "/a 200"`), StartTime: aws.Int64(at.UnixMilli()), EndTime: aws.Int64(at.UnixMilli() + 2999)}); !slices.Equal(got, []string{"GET /a 200"}) {
		t.Errorf("filtered: %q", got)
	}
	if got := ask(cwl.FilterLogEventsInput{LogStreamNames: []string{"i-1"}}); len(got) != 2 {
		t.Errorf("one stream: %q", got)
	}
}

func TestMetricsInCBOR(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	c := cloudwatch.NewFromConfig(w.Config(""))
	at := time.Now().Add(-time.Minute).Truncate(time.Minute)
	for _, v := range []float64{1, 2, 9} {
		if _, err := c.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Shop"), MetricData: []cwtypes.MetricDatum{{
			MetricName: aws.String("Latency"), Value: &v, Timestamp: &at, Dimensions: []cwtypes.Dimension{{Name: aws.String("Path"), Value: aws.String("/")}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	query := func(stat string) cwtypes.MetricDataQuery {
		return cwtypes.MetricDataQuery{Id: aws.String("q"), MetricStat: &cwtypes.MetricStat{Period: aws.Int32(60), Stat: &stat, Metric: &cwtypes.Metric{
			Namespace: aws.String("Shop"), MetricName: aws.String("Latency"), Dimensions: []cwtypes.Dimension{{Name: aws.String("Path"), Value: aws.String("/")}}}}}
	}
	for stat, want := range map[string]float64{"Average": 4, "Sum": 12, "Maximum": 9, "p50": 2, "SampleCount": 3} {
		out, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &at, EndTime: aws.Time(at.Add(time.Minute)), MetricDataQueries: []cwtypes.MetricDataQuery{query(stat)}})
		if err != nil || len(out.MetricDataResults[0].Values) != 1 || out.MetricDataResults[0].Values[0] != want || !out.MetricDataResults[0].Timestamps[0].Equal(at) {
			t.Errorf("%s: %+v, %v", stat, out, err)
		}
	}
	if _, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &at, EndTime: &at, MetricDataQueries: []cwtypes.MetricDataQuery{{Id: aws.String("q"), Expression: aws.String("1+1")}}}); codeOf(err) != "ValidationError" {
		t.Errorf("an expression: %v", err)
	}
}

func TestQuotasAreWhatTheOptionsSay(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Quotas: map[string]int{"Environments": 7}})
	c := servicequotas.NewFromConfig(w.Config(""))
	out, err := c.ListServiceQuotas(t.Context(), &servicequotas.ListServiceQuotasInput{ServiceCode: aws.String("elasticbeanstalk")})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(out.Quotas, func(q sqtypes.ServiceQuota) bool { return *q.QuotaName == "Environments" })
	if i < 0 || *out.Quotas[i].Value != 7 {
		t.Errorf("%+v", out.Quotas)
	}
	if _, err := c.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("elasticbeanstalk"), QuotaCode: aws.String("L-0")}); codeOf(err) != "NoSuchResourceException" {
		t.Errorf("no such quota: %v", err)
	}
}
