package awsfake

import (
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

func addGroups(s *service) {
	add(s, "CreateTargetGroup", createGroup, "Name")
	add(s, "DescribeTargetGroups", describeGroups)
	add(s, "DeleteTargetGroup", deleteGroup, "TargetGroupArn")
	add(s, "DescribeTargetHealth", describeTargetHealth, "TargetGroupArn")
	add(s, "DescribeTargetGroupAttributes", describeGroupAttributes, "TargetGroupArn")
	add(s, "ModifyTargetGroupAttributes", modifyGroupAttributes, "TargetGroupArn", "Attributes")
	add(s, "RegisterTargets", registerTargets, "TargetGroupArn", "Targets")
	add(s, "DeregisterTargets", deregisterTargets, "TargetGroupArn", "Targets")
}

func (r *region) group(arn string) (*targetGroup, error) {
	for _, g := range r.balancing.groups {
		if g.arn == arn {
			return g, nil
		}
	}
	return nil, refuse("TargetGroupNotFound", "One or more target groups not found")
}

// newGroup makes a target group. The caller holds mu.
func (w *World) newGroup(r *region, name string, protocol types.ProtocolEnum, port int32, path, matcher string) *targetGroup {
	g := &targetGroup{arn: "arn:aws:elasticloadbalancing:" + r.name + ":" + w.options.Account + ":targetgroup/" + name + "/" + newHex(16), delay: w.options.Deregistration}
	g.TargetGroup = types.TargetGroup{
		TargetGroupArn: &g.arn, TargetGroupName: &name, Protocol: protocol, Port: &port, TargetType: types.TargetTypeEnumInstance, VpcId: aws.String("vpc-fake"),
		HealthCheckEnabled: aws.Bool(true), HealthCheckPath: &path, HealthCheckProtocol: protocol, HealthCheckPort: aws.String("traffic-port"),
		HealthCheckIntervalSeconds: aws.Int32(15), HealthCheckTimeoutSeconds: aws.Int32(5), HealthyThresholdCount: aws.Int32(3), UnhealthyThresholdCount: aws.Int32(5),
		Matcher: &types.Matcher{HttpCode: &matcher}, ProtocolVersion: aws.String("HTTP1"), IpAddressType: types.TargetGroupIpAddressTypeEnumIpv4,
	}
	g.attributes = map[string]string{"deregistration_delay.timeout_seconds": "300", "stickiness.enabled": "false", "load_balancing.algorithm.type": "round_robin", "slow_start.duration_seconds": "0"}
	r.balancing.groups = append(r.balancing.groups, g)
	w.backing.openGroup(g)
	return g
}

func createGroup(c *request, in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
	if slices.ContainsFunc(c.region.balancing.groups, func(g *targetGroup) bool { return *g.TargetGroupName == *in.Name }) {
		return nil, refuse("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", *in.Name)
	}
	if in.Protocol == "" || in.Port == nil {
		return nil, refuse("ValidationError", "A protocol and a port must be specified") // words ours
	}
	path := aws.ToString(in.HealthCheckPath)
	if path == "" {
		path = "/"
	}
	matcher := "200"
	if in.Matcher != nil {
		matcher = aws.ToString(in.Matcher.HttpCode)
	}
	g := c.w.newGroup(c.region, *in.Name, in.Protocol, *in.Port, path, matcher)
	c.elbTag(g.arn, in.Tags)
	return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{g.describe(c.region)}}, nil
}

func (g *targetGroup) describe(r *region) types.TargetGroup {
	d := g.TargetGroup
	d.LoadBalancerArns = []string{}
	for _, b := range r.balancersOf(g) {
		d.LoadBalancerArns = append(d.LoadBalancerArns, b.arn)
	}
	return d
}

// balancersOf are the balancers that forward to a group; AWS allows one.
func (r *region) balancersOf(g *targetGroup) []*balancer {
	var found []*balancer
	for _, b := range r.balancing.balancers {
		forwards := slices.ContainsFunc(b.listeners, func(l *listener) bool {
			return forwardsTo(l.DefaultActions, g) || slices.ContainsFunc(l.rules, func(one *rule) bool { return forwardsTo(one.actions, g) })
		})
		if forwards {
			found = append(found, b)
		}
	}
	return found
}

func forwardsTo(actions []types.Action, g *targetGroup) bool {
	return slices.ContainsFunc(actions, func(a types.Action) bool {
		return slices.ContainsFunc(weights(a), func(t types.TargetGroupTuple) bool { return aws.ToString(t.TargetGroupArn) == g.arn })
	})
}

func describeGroups(c *request, in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
	found := []types.TargetGroup{}
	for _, g := range c.region.balancing.groups {
		d := g.describe(c.region)
		if (len(in.TargetGroupArns) == 0 || slices.Contains(in.TargetGroupArns, g.arn)) && (len(in.Names) == 0 || slices.Contains(in.Names, *g.TargetGroupName)) &&
			(in.LoadBalancerArn == nil || slices.Contains(d.LoadBalancerArns, *in.LoadBalancerArn)) {
			found = append(found, d)
		}
	}
	if len(found) < len(in.TargetGroupArns)+len(in.Names) {
		return nil, refuse("TargetGroupNotFound", "One or more target groups not found")
	}
	page, next, err := paged(found, in.PageSize, in.Marker)
	return &elb.DescribeTargetGroupsOutput{TargetGroups: page, NextMarker: next}, err
}

func deleteGroup(c *request, in *elb.DeleteTargetGroupInput) (*elb.DeleteTargetGroupOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return &elb.DeleteTargetGroupOutput{}, nil //nolint:nilerr // deleting what is gone is no error
	}
	if len(c.region.balancersOf(g)) > 0 {
		return nil, refuse("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", g.arn)
	}
	c.w.removeGroup(c.region, g)
	return &elb.DeleteTargetGroupOutput{}, nil
}

func (w *World) removeGroup(r *region, g *targetGroup) {
	r.balancing.groups = slices.DeleteFunc(r.balancing.groups, func(other *targetGroup) bool { return other == g })
}

// register and deregister are what Beanstalk does with instances. The caller holds mu.

func (w *World) register(g *targetGroup, i instance) {
	g.targets = slices.DeleteFunc(g.targets, func(t *target) bool { return t.instance.id() == i.id() })
	g.targets = append(g.targets, &target{instance: i})
	w.backing.register(g, i)
}

func (w *World) deregister(g *targetGroup, i instance) {
	for _, t := range g.targets {
		if t.instance.id() == i.id() && t.left.IsZero() {
			t.left = time.Now()
			w.backing.deregister(g, i)
		}
	}
}

func describeTargetHealth(c *request, in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	used := len(c.region.balancersOf(g)) > 0
	out := &elb.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}
	g.targets = slices.DeleteFunc(g.targets, func(t *target) bool { return !t.left.IsZero() && time.Since(t.left) > g.delay })
	for _, t := range g.targets {
		health := c.w.targetHealth(g, t, used)
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, types.TargetHealthDescription{
			Target: &types.TargetDescription{Id: aws.String(t.instance.id()), Port: g.Port}, HealthCheckPort: aws.String(strconv.Itoa(int(*g.Port))), TargetHealth: health,
		})
	}
	return out, nil
}

func (w *World) targetHealth(g *targetGroup, t *target, used bool) *types.TargetHealth {
	switch {
	case !t.left.IsZero():
		return &types.TargetHealth{State: types.TargetHealthStateEnumDraining, Reason: types.TargetHealthReasonEnumDeregistrationInProgress, Description: aws.String("Target deregistration is in progress")}
	case !used:
		return &types.TargetHealth{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotInUse, Description: aws.String("Target group is not configured to receive traffic from the load balancer")}
	}
	state, reason := w.backing.targetHealth(g, t.instance)
	return &types.TargetHealth{State: types.TargetHealthStateEnum(state), Reason: types.TargetHealthReasonEnum(reason)}
}

func describeGroupAttributes(c *request, in *elb.DescribeTargetGroupAttributesInput) (*elb.DescribeTargetGroupAttributesOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeTargetGroupAttributesOutput{Attributes: g.listAttributes()}, nil
}

func (g *targetGroup) listAttributes() []types.TargetGroupAttribute {
	list := []types.TargetGroupAttribute{}
	for key, value := range g.attributes {
		list = append(list, types.TargetGroupAttribute{Key: aws.String(key), Value: aws.String(value)})
	}
	return list
}

// modifyGroupAttributes keeps attributes. The delay that really passes stays Options.Deregistration.
func modifyGroupAttributes(c *request, in *elb.ModifyTargetGroupAttributesInput) (*elb.ModifyTargetGroupAttributesOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, attribute := range in.Attributes {
		g.attributes[aws.ToString(attribute.Key)] = aws.ToString(attribute.Value)
	}
	return &elb.ModifyTargetGroupAttributesOutput{Attributes: g.listAttributes()}, nil
}

func registerTargets(c *request, in *elb.RegisterTargetsInput) (*elb.RegisterTargetsOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Targets {
		i := c.region.instance(aws.ToString(t.Id))
		if i == nil {
			return nil, refuse("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", aws.ToString(t.Id))
		}
		c.w.register(g, i)
	}
	return &elb.RegisterTargetsOutput{}, nil
}

func deregisterTargets(c *request, in *elb.DeregisterTargetsInput) (*elb.DeregisterTargetsOutput, error) {
	g, err := c.region.group(*in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Targets {
		if i := c.region.instance(aws.ToString(t.Id)); i != nil {
			c.w.deregister(g, i)
		}
	}
	return &elb.DeregisterTargetsOutput{}, nil
}

// instance finds a running instance of any environment, nil where there is none such.
func (r *region) instance(id string) instance {
	for _, e := range r.beanstalk.environments {
		for _, i := range e.instances {
			if i.id() == id {
				return i
			}
		}
	}
	return nil
}
