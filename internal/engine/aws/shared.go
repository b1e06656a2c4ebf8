package aws

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// sharedBalancer is one load balancer of the stack for all stages. A stage has one rule, by which its host leads to the target groups of
// its rollouts with their weights, and each rollout a rule before it, by which a secret header leads to its target group alone. The
// target groups are Elastic Beanstalk's: they are found by the rule that it makes for each environment's own name.
type sharedBalancer struct{ *Engine }

// The numbers of rules: what stands first is asked first. Elastic Beanstalk's own rules are for other hosts and may stand anywhere.
const (
	firstReach, lastReach = 10000, 19999
	firstStage, lastStage = 20000, 29999
)

const (
	kindStage = "stage"
	kindReach = "reach"
)

func (b sharedBalancer) facts() deploy.Facts {
	return deploy.Facts{Engine: "aws", Carries: "load balancer", Switch: b.Timing.Switch, Shares: true, Sticky: true, Sampling: sampling, Lag: samplesLag}
}

func (b sharedBalancer) launches() int { return 1 }

func (b sharedBalancer) resources() string { return "" }

// begin makes the stage's rule: whose the host is must be known before anything is launched.
func (b sharedBalancer) begin(ctx context.Context) error {
	b.site.Lock()
	defer b.site.Unlock()
	table, err := b.table(ctx)
	if err == nil {
		_, err = b.stageRule(ctx, table)
	}
	return err
}

func (b sharedBalancer) options(s *stack) settings {
	var all settings
	all.set(nsEnvironment, "LoadBalancerIsShared", "true")
	all.set(nsBalancer, "SharedLoadBalancer", s.balancer)
	all.set(nsListener, "Rules", "default")
	return all
}

// rule is one of the listener's, with its tags where it is ours.
type rule struct {
	types.Rule
	labels
}

func (r rule) hasHost(host string) bool {
	return slices.ContainsFunc(r.Conditions, func(c types.RuleCondition) bool {
		values := c.Values
		if c.HostHeaderConfig != nil {
			values = append(slices.Clone(values), c.HostHeaderConfig.Values...)
		}
		return sdk.ToString(c.Field) == "host-header" && slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, host) })
	})
}

// token is the value of the header of a rule that reaches.
func (r rule) token() string {
	for _, c := range r.Conditions {
		if c.HttpHeaderConfig != nil && strings.EqualFold(sdk.ToString(c.HttpHeaderConfig.HttpHeaderName), reachHeader) && len(c.HttpHeaderConfig.Values) > 0 {
			return c.HttpHeaderConfig.Values[0]
		}
	}
	return ""
}

// weights are the target groups that a rule forwards to.
func (r rule) weights() map[string]int {
	out := map[string]int{}
	for _, a := range r.Actions {
		switch {
		case a.ForwardConfig != nil:
			for _, g := range a.ForwardConfig.TargetGroups {
				out[sdk.ToString(g.TargetGroupArn)] = int(sdk.ToInt32(g.Weight))
			}
		case a.TargetGroupArn != nil:
			out[*a.TargetGroupArn] = 1
		}
	}
	return out
}

// table is the listener's rules as they are now.
func (b sharedBalancer) table(ctx context.Context) ([]rule, error) {
	s, err := b.outputs(ctx)
	if err != nil {
		return nil, err
	}
	var all []rule
	in := &elb.DescribeRulesInput{ListenerArn: &s.listener}
	for {
		out, err := b.api.elb.DescribeRules(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, r := range out.Rules {
			all = append(all, rule{Rule: r})
		}
		if in.Marker = out.NextMarker; sdk.ToString(in.Marker) == "" {
			return all, b.tag(ctx, all)
		}
	}
}

// tag asks for the tags of those rules that are not known yet. Tags of a rule never change.
func (b sharedBalancer) tag(ctx context.Context, all []rule) error {
	const most = 20 // resources of one call
	var unknown []string
	b.mu.Lock()
	for i, r := range all {
		arn := sdk.ToString(r.RuleArn)
		l, known := b.rules[arn]
		if all[i].labels = l; !known && !sdk.ToBool(r.IsDefault) {
			unknown = append(unknown, arn)
		}
	}
	b.mu.Unlock()
	for part := range slices.Chunk(unknown, most) {
		out, err := b.api.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: part})
		if coded(err, "RuleNotFound", "RuleNotFoundException") { // one of them has gone meanwhile; the next look is without it
			continue
		}
		if err != nil {
			return err
		}
		b.learn(out.TagDescriptions)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range all {
		all[i].labels = b.rules[sdk.ToString(r.RuleArn)]
	}
	return nil
}

func (b sharedBalancer) learn(all []types.TagDescription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range all {
		l := labels{}
		for _, t := range d.Tags {
			l[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
		}
		b.rules[sdk.ToString(d.ResourceArn)] = l
	}
}

// of is our rule of a kind; rollout is empty for the stage's.
func (b sharedBalancer) of(all []rule, kind, rollout string) *rule {
	for i, r := range all {
		if r.labels.ours(b.Engine) && r.labels[tagKind] == kind && r.labels[tagRollout] == rollout {
			return &all[i]
		}
	}
	return nil
}

// group is the target group that Elastic Beanstalk has made for an environment, "" while it has not.
func group(all []rule, v environment) string {
	for _, r := range all {
		if r.hasHost(v.cname) {
			for arn := range r.weights() {
				return arn
			}
		}
	}
	return ""
}

func (b sharedBalancer) shares(ctx context.Context, all []environment) (map[string]int, error) {
	table, err := b.table(ctx)
	if err != nil {
		return nil, err
	}
	return b.sharesIn(table, all), nil
}

func (b sharedBalancer) sharesIn(table []rule, all []environment) map[string]int {
	shares := map[string]int{}
	stage := b.of(table, kindStage, "")
	if stage == nil {
		return shares
	}
	weights, sum := stage.weights(), 0
	for _, w := range weights {
		sum += w
	}
	for _, v := range all {
		if arn := group(table, v); arn != "" && sum > 0 {
			shares[v.rollout()] = weights[arn] * 100 / sum
		}
	}
	return shares
}

func (b sharedBalancer) give(ctx context.Context, all []environment, next map[string]int) error {
	table, err := b.table(ctx)
	if err != nil {
		return err
	}
	forward := &types.ForwardActionConfig{TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: sdk.Bool(len(next) > 1)}}
	if len(next) > 1 { // a visitor stays with one release while two serve
		forward.TargetGroupStickinessConfig.DurationSeconds = sdk.Int32(600)
	}
	for _, rollout := range slices.Sorted(maps.Keys(next)) {
		i := slices.IndexFunc(all, func(v environment) bool { return v.rollout() == rollout })
		if i < 0 {
			return fmt.Errorf("%w: %s, which is to have %d %% of the traffic", deploy.ErrUnknown, rollout, next[rollout])
		}
		arn := group(table, all[i])
		if arn == "" {
			return fmt.Errorf("%w: the balancer does not know the environment %s yet", deploy.ErrUnavailable, all[i].name)
		}
		forward.TargetGroups = append(forward.TargetGroups, types.TargetGroupTuple{TargetGroupArn: &arn, Weight: sdk.Int32(int32(next[rollout]))}) // a percentage
	}
	action := types.Action{Type: types.ActionTypeEnumForward, ForwardConfig: forward}
	if len(next) == 0 {
		action = nothing()
	}
	stage, err := b.stageRule(ctx, table)
	if err != nil {
		return err
	}
	if _, err := b.api.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: stage.RuleArn, Actions: []types.Action{action}}); err != nil {
		return err
	}
	return b.given(ctx, all, next)
}

// given reads the rule back until it says what it was told.
func (b sharedBalancer) given(ctx context.Context, all []environment, next map[string]int) error {
	return b.await(ctx, b.Timing.Settle, "the change of the rule", func(ctx context.Context) (bool, error) {
		now, err := b.shares(ctx, all)
		return err == nil && maps.Equal(positive(now), next), err
	})
}

// nothing is what a stage answers on which nothing runs.
func nothing() types.Action {
	return types.Action{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: sdk.String("503"),
		ContentType: sdk.String("text/plain"), MessageBody: sdk.String("nothing runs here at the moment\n")}}
}

// stageRule is the stage's rule, which is made where it is not there, and follows the stage's host.
func (b sharedBalancer) stageRule(ctx context.Context, table []rule) (*rule, error) {
	hosts := []types.RuleCondition{hostIs(b.host)}
	r := b.of(table, kindStage, "")
	if r == nil {
		if i := slices.IndexFunc(table, func(r rule) bool { return r.hasHost(b.host) && r.token() == "" }); i >= 0 {
			return nil, deploy.Hint(fmt.Errorf("%w: a rule of the balancer has the host %s already, and it is not this stage's", deploy.ErrRefused, b.host),
				"give the stages hosts of their own in lotse.yaml, or delete the rule with the priority "+sdk.ToString(table[i].Priority))
		}
		return b.makeRule(ctx, table, labels{tagKind: kindStage}, hosts, nothing(), firstStage, lastStage)
	}
	if !r.hasHost(b.host) {
		_, err := b.api.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: r.RuleArn, Conditions: hosts})
		return r, err
	}
	return r, nil
}

func hostIs(host string) types.RuleCondition {
	return types.RuleCondition{Field: sdk.String("host-header"), HostHeaderConfig: &types.HostHeaderConditionConfig{Values: []string{host}}}
}

// makeRule makes a rule at the first number that is free. Somebody else may take it meanwhile.
func (b sharedBalancer) makeRule(ctx context.Context, table []rule, more labels, when []types.RuleCondition, then types.Action, first, last int) (*rule, error) {
	s, err := b.outputs(ctx)
	if err != nil {
		return nil, err
	}
	taken := map[int]bool{}
	for _, r := range table {
		n, _ := strconv.Atoi(sdk.ToString(r.Priority))
		taken[n] = true
	}
	l := labels{tagApp: b.App, tagStage: b.Stage.Name}
	maps.Copy(l, more)
	var tags []types.Tag
	for _, key := range sorted(l) {
		tags = append(tags, types.Tag{Key: sdk.String(key), Value: sdk.String(l[key])})
	}
	for n := first; n <= last; n++ {
		if taken[n] {
			continue
		}
		out, err := b.api.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: &s.listener, Priority: sdk.Int32(int32(n)), Conditions: when, // at most 50,000
			Actions: []types.Action{then}, Tags: tags})
		if coded(err, "PriorityInUse", "PriorityInUseException") {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &rule{Rule: out.Rules[0], labels: l}, nil
	}
	return nil, fmt.Errorf("%w: the balancer has no number for a rule left", deploy.ErrRefused)
}

func (b sharedBalancer) prepare(ctx context.Context, v environment) error {
	b.site.Lock()
	defer b.site.Unlock()
	return b.await(ctx, b.Timing.Settle, "the target group of the environment", func(ctx context.Context) (bool, error) {
		table, err := b.table(ctx)
		if err != nil {
			return false, err
		}
		arn := group(table, v)
		if arn == "" {
			return false, nil
		}
		return true, b.reachRule(ctx, table, v, arn)
	})
}

// reachRule makes the rule by which a rollout is reached, where it is not there.
func (b sharedBalancer) reachRule(ctx context.Context, table []rule, v environment, arn string) error {
	if b.of(table, kindReach, v.rollout()) != nil {
		return nil
	}
	when := []types.RuleCondition{hostIs(b.host), {Field: sdk.String("http-header"),
		HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: sdk.String(reachHeader), Values: []string{rand.Text()}}}}
	then := types.Action{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{
		TargetGroups: []types.TargetGroupTuple{{TargetGroupArn: &arn, Weight: sdk.Int32(1)}}}}
	_, err := b.makeRule(ctx, table, labels{tagKind: kindReach, tagRollout: v.rollout()}, when, then, firstReach, lastReach)
	return err
}

func (b sharedBalancer) route(ctx context.Context, v environment) (string, string, error) {
	for range 2 {
		table, err := b.table(ctx)
		if err != nil {
			return "", "", err
		}
		if r := b.of(table, kindReach, v.rollout()); r != nil {
			return v.cname, r.token(), nil
		}
		if !v.ready() {
			break
		}
		if err := b.prepare(ctx, v); err != nil { // a controller that died had not come so far
			return "", "", err
		}
	}
	return "", "", fmt.Errorf("%w: %s is still starting", deploy.ErrUnavailable, v.rollout())
}

func (b sharedBalancer) forget(ctx context.Context, rollout string) error {
	b.site.Lock()
	defer b.site.Unlock()
	table, err := b.table(ctx)
	if err != nil {
		return err
	}
	for _, r := range table {
		if !r.labels.ours(b.Engine) || r.labels[tagKind] != kindReach || r.labels[tagRollout] != rollout {
			continue
		}
		if _, err := b.api.elb.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: r.RuleArn}); err != nil && !coded(err, "RuleNotFound", "RuleNotFoundException") {
			return err
		}
	}
	return nil
}
