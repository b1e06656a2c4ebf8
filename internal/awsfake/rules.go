package awsfake

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Limits of AWS's page "Quotas for your Application Load Balancers".
const (
	ruleQuota        = 100 // rules per balancer, defaults not counted
	mostValues       = 5   // condition values per rule
	mostGroups       = 5   // target groups per action
	greatestPriority = 50000
	greatestWeight   = 999
)

func addRules(s *service) {
	add(s, "CreateRule", createRule, "ListenerArn", "Conditions", "Priority", "Actions")
	add(s, "ModifyRule", modifyRule, "RuleArn")
	add(s, "DeleteRule", deleteRule, "RuleArn")
	add(s, "SetRulePriorities", setPriorities, "RulePriorities")
	add(s, "DescribeRules", describeRules)
}

func createRule(c *request, in *elb.CreateRuleInput) (*elb.CreateRuleOutput, error) {
	l, err := c.region.listener(*in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if err := l.freePriority(int(*in.Priority), nil); err != nil {
		return nil, err
	}
	if err := checkConditions(in.Conditions); err != nil {
		return nil, err
	}
	if err := c.region.checkActions(in.Actions, l.of); err != nil {
		return nil, err
	}
	if countRules(l.of) >= c.w.quota("Rules", ruleQuota) {
		return nil, refuse("TooManyRules", "The maximum number of rules per load balancer has been reached")
	}
	made := c.w.newRule(l, int(*in.Priority), in.Conditions, in.Actions)
	c.elbTag(made.arn, in.Tags)
	return &elb.CreateRuleOutput{Rules: []types.Rule{made.describe()}}, nil
}

func (w *World) newRule(l *listener, priority int, conditions []types.RuleCondition, actions []types.Action) *rule {
	made := &rule{arn: strings.Replace(l.arn, ":listener/", ":listener-rule/", 1) + "/" + newHex(16), priority: priority, conditions: spelledOut(conditions), actions: whole(actions)}
	l.rules = append(l.rules, made)
	w.backing.setRules(l)
	return made
}

func countRules(b *balancer) (n int) {
	for _, l := range b.listeners {
		n += len(l.rules)
	}
	return n
}

func (l *listener) freePriority(priority int, self *rule) error {
	if priority < 1 || priority > greatestPriority {
		return refuse("ValidationError", "1 validation error detected: Value '%d' at 'priority' failed to satisfy constraint: Member must have value between 1 and %d", priority, greatestPriority)
	}
	if slices.ContainsFunc(l.rules, func(other *rule) bool { return other != self && other.priority == priority }) {
		return refuse("PriorityInUse", "Priority '%d' is currently in use", priority)
	}
	return nil
}

// conditionValues are the values of a condition, whichever of the two spellings a client took.
func conditionValues(condition types.RuleCondition) []string {
	switch {
	case condition.HostHeaderConfig != nil:
		return condition.HostHeaderConfig.Values
	case condition.PathPatternConfig != nil:
		return condition.PathPatternConfig.Values
	case condition.HttpHeaderConfig != nil:
		return condition.HttpHeaderConfig.Values
	case condition.HttpRequestMethodConfig != nil:
		return condition.HttpRequestMethodConfig.Values
	}
	return condition.Values
}

func checkConditions(conditions []types.RuleCondition) error {
	count := 0
	for _, condition := range conditions {
		count += len(conditionValues(condition))
		field := aws.ToString(condition.Field)
		switch {
		case !slices.Contains([]string{"host-header", "path-pattern", "http-header", "http-request-method"}, field):
			return refuse("ValidationError", "Condition field '%s' must be one of '[path-pattern, host-header, http-header, http-request-method]'", field) // AWS has more
		case field == "http-header" && (condition.HttpHeaderConfig == nil || aws.ToString(condition.HttpHeaderConfig.HttpHeaderName) == ""):
			return refuse("ValidationError", "A condition of the field http-header must specify HttpHeaderName") // ours
		case len(conditionValues(condition)) == 0:
			return refuse("ValidationError", "A condition value must be specified")
		}
	}
	if len(conditions) == 0 {
		return refuse("ValidationError", "A condition must be specified")
	}
	if count > mostValues {
		return refuse("ValidationError", "Number of condition values exceeds the limit of %d", mostValues) // words ours
	}
	return nil
}

// spelledOut gives a condition both spellings, as AWS answers it.
func spelledOut(conditions []types.RuleCondition) []types.RuleCondition {
	all := slices.Clone(conditions)
	for i, condition := range all {
		switch aws.ToString(condition.Field) {
		case "host-header":
			all[i].Values, all[i].HostHeaderConfig = conditionValues(condition), &types.HostHeaderConditionConfig{Values: conditionValues(condition)}
		case "path-pattern":
			all[i].Values, all[i].PathPatternConfig = conditionValues(condition), &types.PathPatternConditionConfig{Values: conditionValues(condition)}
		}
	}
	return all
}

// weights are the target groups that an action forwards to.
func weights(action types.Action) []types.TargetGroupTuple {
	if action.ForwardConfig != nil && len(action.ForwardConfig.TargetGroups) > 0 {
		return action.ForwardConfig.TargetGroups
	}
	if action.TargetGroupArn != nil {
		return []types.TargetGroupTuple{{TargetGroupArn: action.TargetGroupArn, Weight: aws.Int32(1)}}
	}
	return nil
}

// whole fills in what AWS answers beside what was asked: the simple form of a single group, weights, no stickiness.
func whole(actions []types.Action) []types.Action {
	all := slices.Clone(actions)
	for i, action := range all {
		if action.Type != types.ActionTypeEnumForward {
			continue
		}
		groups := slices.Clone(weights(action))
		for j := range groups {
			if groups[j].Weight == nil {
				groups[j].Weight = aws.Int32(1)
			}
		}
		config := types.ForwardActionConfig{TargetGroups: groups, TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: aws.Bool(false)}}
		if action.ForwardConfig != nil && action.ForwardConfig.TargetGroupStickinessConfig != nil {
			config.TargetGroupStickinessConfig = action.ForwardConfig.TargetGroupStickinessConfig
		}
		all[i].ForwardConfig, all[i].TargetGroupArn = &config, nil
		if len(groups) == 1 {
			all[i].TargetGroupArn = groups[0].TargetGroupArn
		}
	}
	return all
}

func (r *region) checkActions(actions []types.Action, of *balancer) error {
	if len(actions) != 1 {
		return refuse("ValidationError", "Exactly one action is known to the fake") // AWS allows authentication before it
	}
	action := actions[0]
	switch action.Type {
	case types.ActionTypeEnumFixedResponse:
		if action.FixedResponseConfig == nil || len(aws.ToString(action.FixedResponseConfig.StatusCode)) != 3 {
			return refuse("ValidationError", "A fixed-response action must specify a status code of the form 2XX, 4XX or 5XX")
		}
		return nil
	case types.ActionTypeEnumRedirect:
		if action.RedirectConfig == nil {
			return refuse("ValidationError", "A redirect action must specify RedirectConfig")
		}
		return nil
	case types.ActionTypeEnumForward:
		return r.checkForward(action, of)
	default:
		return refuse("InvalidLoadBalancerAction", "the fake has no action '%s'", action.Type)
	}
}

func (r *region) checkForward(action types.Action, of *balancer) error {
	groups := weights(action)
	if len(groups) == 0 || len(groups) > mostGroups {
		return refuse("ValidationError", "A forward action must specify between 1 and %d target groups", mostGroups) // words ours
	}
	for _, tuple := range groups {
		g, err := r.group(aws.ToString(tuple.TargetGroupArn))
		if err != nil {
			return err
		}
		if tuple.Weight != nil && (*tuple.Weight < 0 || *tuple.Weight > greatestWeight) {
			return refuse("ValidationError", "Target group weight must be between 0 and %d", greatestWeight) // words ours
		}
		for _, used := range r.balancersOf(g) {
			if used != of {
				return refuse("TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: %s", g.arn)
			}
		}
	}
	if c := action.ForwardConfig; c != nil && c.TargetGroupStickinessConfig != nil && aws.ToBool(c.TargetGroupStickinessConfig.Enabled) {
		if d := aws.ToInt32(c.TargetGroupStickinessConfig.DurationSeconds); d < 1 || d > 604800 {
			return refuse("ValidationError", "Target group stickiness duration must be between 1 and 604800 seconds") // words ours
		}
	}
	return nil
}

func (r *rule) describe() types.Rule {
	return types.Rule{RuleArn: aws.String(r.arn), Priority: aws.String(strconv.Itoa(r.priority)), Conditions: slices.Clone(r.conditions), Actions: slices.Clone(r.actions), IsDefault: aws.Bool(false)}
}

// rule finds a rule and the listener that it stands on.
func (r *region) rule(arn string) (*listener, *rule, error) {
	for _, b := range r.balancing.balancers {
		for _, l := range b.listeners {
			for _, one := range l.rules {
				if one.arn == arn {
					return l, one, nil
				}
			}
		}
	}
	return nil, nil, refuse("RuleNotFound", "One or more rules not found")
}

func modifyRule(c *request, in *elb.ModifyRuleInput) (*elb.ModifyRuleOutput, error) {
	l, one, err := c.region.rule(*in.RuleArn)
	if err != nil {
		return nil, err
	}
	if in.Conditions != nil {
		if err := checkConditions(in.Conditions); err != nil {
			return nil, err
		}
	}
	if in.Actions != nil {
		if err := c.region.checkActions(in.Actions, l.of); err != nil {
			return nil, err
		}
		one.actions = whole(in.Actions)
	}
	if in.Conditions != nil {
		one.conditions = spelledOut(in.Conditions)
	}
	c.w.backing.setRules(l)
	return &elb.ModifyRuleOutput{Rules: []types.Rule{one.describe()}}, nil
}

func deleteRule(c *request, in *elb.DeleteRuleInput) (*elb.DeleteRuleOutput, error) {
	l, one, err := c.region.rule(*in.RuleArn)
	if err != nil {
		return nil, err
	}
	c.w.removeRule(l, one)
	return &elb.DeleteRuleOutput{}, nil
}

func (w *World) removeRule(l *listener, one *rule) {
	l.rules = slices.DeleteFunc(l.rules, func(other *rule) bool { return other == one })
	w.backing.setRules(l)
}

// setPriorities moves rules all at once, or none.
func setPriorities(c *request, in *elb.SetRulePrioritiesInput) (*elb.SetRulePrioritiesOutput, error) {
	moved := map[*rule]int{}
	touched := map[*listener]bool{}
	for _, pair := range in.RulePriorities {
		l, one, err := c.region.rule(aws.ToString(pair.RuleArn))
		if err != nil {
			return nil, err
		}
		moved[one], touched[l] = int(aws.ToInt32(pair.Priority)), true
	}
	for l := range touched {
		taken := map[int]bool{}
		for _, one := range l.rules {
			priority, moves := moved[one]
			if !moves {
				priority = one.priority
			}
			if taken[priority] {
				return nil, refuse("PriorityInUse", "Priority '%d' is currently in use", priority)
			}
			taken[priority] = true
		}
	}
	out := &elb.SetRulePrioritiesOutput{}
	for one, priority := range moved {
		one.priority = priority
		out.Rules = append(out.Rules, one.describe())
	}
	for l := range touched {
		c.w.backing.setRules(l)
	}
	return out, nil
}

func describeRules(c *request, in *elb.DescribeRulesInput) (*elb.DescribeRulesOutput, error) {
	found := []types.Rule{}
	if in.ListenerArn != nil {
		l, err := c.region.listener(*in.ListenerArn)
		if err != nil {
			return nil, err
		}
		ordered := slices.SortedFunc(slices.Values(l.rules), func(a, b *rule) int { return cmp.Compare(a.priority, b.priority) })
		for _, one := range ordered {
			found = append(found, one.describe())
		}
		found = append(found, types.Rule{
			RuleArn: aws.String(strings.Replace(l.arn, ":listener/", ":listener-rule/", 1) + "/default"), Priority: aws.String("default"),
			IsDefault: aws.Bool(true), Actions: l.DefaultActions, Conditions: []types.RuleCondition{},
		})
	}
	for _, arn := range in.RuleArns {
		_, one, err := c.region.rule(arn)
		if err != nil {
			return nil, err
		}
		found = append(found, one.describe())
	}
	if in.ListenerArn == nil && len(in.RuleArns) == 0 {
		return nil, refuse("ValidationError", "Either ListenerArn or RuleArns must be specified") // words ours
	}
	page, next, err := paged(found, in.PageSize, in.Marker)
	return &elb.DescribeRulesOutput{Rules: page, NextMarker: next}, err
}
