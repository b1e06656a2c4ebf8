package awsfake

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// balancing is Elastic Load Balancing v2 in one region: application load balancers.
type balancing struct {
	balancers    []*balancer
	groups       []*targetGroup
	tags         map[string]map[string]string
	certificates map[string][]string // hosts of certificates, by ARN
}

func newBalancing() balancing {
	return balancing{tags: map[string]map[string]string{}, certificates: map[string][]string{}}
}

type balancer struct {
	types.LoadBalancer
	arn, dns  string
	listeners []*listener
	back      any // what the backing keeps
}

type listener struct {
	types.Listener
	arn   string
	of    *balancer
	rules []*rule // without the default, in the order of their making
	hosts [][]string
	back  any
}

type rule struct {
	arn        string
	priority   int
	conditions []types.RuleCondition
	actions    []types.Action
}

type targetGroup struct {
	types.TargetGroup
	arn        string
	delay      time.Duration
	attributes map[string]string
	targets    []*target
	back       any
}

type target struct {
	instance instance
	left     time.Time // when it was deregistered; zero while it is a target
}

func balancingService() *service {
	s := newService("elasticloadbalancing", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", nil)
	add(s, "CreateLoadBalancer", createBalancer, "Name")
	add(s, "DescribeLoadBalancers", describeBalancers)
	add(s, "DeleteLoadBalancer", deleteBalancer, "LoadBalancerArn")
	add(s, "CreateListener", createListener, "LoadBalancerArn", "DefaultActions")
	add(s, "ModifyListener", modifyListener, "ListenerArn")
	add(s, "DescribeListeners", describeListeners)
	add(s, "DeleteListener", deleteListener, "ListenerArn")
	addRules(s)
	addGroups(s)
	add(s, "AddTags", addELBTags, "ResourceArns", "Tags")
	add(s, "RemoveTags", removeELBTags, "ResourceArns", "TagKeys")
	add(s, "DescribeTags", describeELBTags, "ResourceArns")
	return s
}

func createBalancer(c *request, in *elb.CreateLoadBalancerInput) (*elb.CreateLoadBalancerOutput, error) {
	if slices.ContainsFunc(c.region.balancing.balancers, func(b *balancer) bool { return *b.LoadBalancerName == *in.Name }) {
		return nil, refuse("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", *in.Name)
	}
	if in.Type != "" && in.Type != types.LoadBalancerTypeEnumApplication {
		return nil, refuse("UnsupportedOperation", "the fake has application load balancers only")
	}
	b := c.w.newBalancer(c.region, *in.Name)
	b.Scheme = in.Scheme
	b.SecurityGroups = in.SecurityGroups
	c.elbTag(b.arn, in.Tags)
	return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{b.LoadBalancer}}, nil
}

func (w *World) newBalancer(r *region, name string) *balancer {
	id := newHex(16)
	b := &balancer{arn: "arn:aws:elasticloadbalancing:" + r.name + ":" + w.options.Account + ":loadbalancer/app/" + name + "/" + id}
	b.dns = name + "-" + newID(10) + "." + r.name + ".elb.amazonaws.com"
	b.LoadBalancer = types.LoadBalancer{
		LoadBalancerArn: &b.arn, LoadBalancerName: &name, DNSName: &b.dns, Type: types.LoadBalancerTypeEnumApplication, CreatedTime: now(),
		Scheme: types.LoadBalancerSchemeEnumInternetFacing, State: &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActive},
		IpAddressType: types.IpAddressTypeIpv4, VpcId: aws.String("vpc-fake"), CanonicalHostedZoneId: aws.String("Z215JYRZR1TBD5"),
		AvailabilityZones: []types.AvailabilityZone{{ZoneName: aws.String(r.name + "a"), SubnetId: aws.String("subnet-a")}, {ZoneName: aws.String(r.name + "b"), SubnetId: aws.String("subnet-b")}},
	}
	r.balancing.balancers = append(r.balancing.balancers, b)
	w.backing.openBalancer(b)
	return b
}

func describeBalancers(c *request, in *elb.DescribeLoadBalancersInput) (*elb.DescribeLoadBalancersOutput, error) {
	found := []types.LoadBalancer{}
	for _, b := range c.region.balancing.balancers {
		if (len(in.LoadBalancerArns) == 0 || slices.Contains(in.LoadBalancerArns, b.arn)) && (len(in.Names) == 0 || slices.Contains(in.Names, *b.LoadBalancerName)) {
			found = append(found, b.LoadBalancer)
		}
	}
	if len(found) < len(in.LoadBalancerArns)+len(in.Names) {
		return nil, refuse("LoadBalancerNotFound", "One or more load balancers not found")
	}
	page, next, err := paged(found, in.PageSize, in.Marker)
	return &elb.DescribeLoadBalancersOutput{LoadBalancers: page, NextMarker: next}, err
}

func (r *region) balancer(arn string) (*balancer, error) {
	for _, b := range r.balancing.balancers {
		if b.arn == arn {
			return b, nil
		}
	}
	return nil, refuse("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
}

func (r *region) listener(arn string) (*listener, error) {
	for _, b := range r.balancing.balancers {
		for _, l := range b.listeners {
			if l.arn == arn {
				return l, nil
			}
		}
	}
	return nil, refuse("ListenerNotFound", "One or more listeners not found")
}

func deleteBalancer(c *request, in *elb.DeleteLoadBalancerInput) (*elb.DeleteLoadBalancerOutput, error) {
	if b, err := c.region.balancer(*in.LoadBalancerArn); err == nil {
		c.w.removeBalancer(c.region, b)
	}
	return &elb.DeleteLoadBalancerOutput{}, nil
}

func (w *World) removeBalancer(r *region, b *balancer) {
	w.backing.closeBalancer(b)
	r.balancing.balancers = slices.DeleteFunc(r.balancing.balancers, func(other *balancer) bool { return other == b })
}

func createListener(c *request, in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	b, err := c.region.balancer(*in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	if in.Port == nil || in.Protocol == "" {
		return nil, refuse("ValidationError", "A port and a protocol must be specified") // ours
	}
	if slices.ContainsFunc(b.listeners, func(l *listener) bool { return *l.Port == *in.Port }) {
		return nil, refuse("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", b.arn)
	}
	if in.Protocol == types.ProtocolEnumHttps && len(in.Certificates) == 0 {
		return nil, refuse("ValidationError", "A certificate must be specified for HTTPS listeners")
	}
	if err := c.region.checkActions(in.DefaultActions, b); err != nil {
		return nil, err
	}
	l := c.w.newListener(c.region, b, *in.Port, in.Protocol, in.Certificates, in.DefaultActions)
	c.elbTag(l.arn, in.Tags)
	return &elb.CreateListenerOutput{Listeners: []types.Listener{l.Listener}}, nil
}

func (w *World) newListener(r *region, b *balancer, port int32, protocol types.ProtocolEnum, certificates []types.Certificate, actions []types.Action) *listener {
	arn := "arn:aws:elasticloadbalancing:" + r.name + ":" + w.options.Account + ":listener" + b.arn[len("arn:aws:elasticloadbalancing:")+len(r.name)+1+len(w.options.Account)+1+len("loadbalancer"):] + "/" + newHex(16)
	l := &listener{arn: arn, of: b}
	l.Listener = types.Listener{ListenerArn: &l.arn, LoadBalancerArn: &b.arn, Port: &port, Protocol: protocol, Certificates: certificates, DefaultActions: whole(actions)}
	if protocol == types.ProtocolEnumHttps {
		l.SslPolicy = aws.String("ELBSecurityPolicy-TLS13-1-2-2021-06")
	}
	for _, certificate := range certificates {
		l.hosts = append(l.hosts, r.balancing.certificates[aws.ToString(certificate.CertificateArn)])
	}
	b.listeners = append(b.listeners, l)
	w.backing.openListener(l)
	return l
}

func modifyListener(c *request, in *elb.ModifyListenerInput) (*elb.ModifyListenerOutput, error) {
	l, err := c.region.listener(*in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if in.DefaultActions != nil {
		if err := c.region.checkActions(in.DefaultActions, l.of); err != nil {
			return nil, err
		}
		l.DefaultActions = whole(in.DefaultActions)
	}
	c.w.backing.setRules(l)
	return &elb.ModifyListenerOutput{Listeners: []types.Listener{l.Listener}}, nil
}

func describeListeners(c *request, in *elb.DescribeListenersInput) (*elb.DescribeListenersOutput, error) {
	found := []types.Listener{}
	if in.LoadBalancerArn != nil {
		b, err := c.region.balancer(*in.LoadBalancerArn)
		if err != nil {
			return nil, err
		}
		for _, l := range b.listeners {
			found = append(found, l.Listener)
		}
	}
	for _, arn := range in.ListenerArns {
		l, err := c.region.listener(arn)
		if err != nil {
			return nil, err
		}
		found = append(found, l.Listener)
	}
	page, next, err := paged(found, in.PageSize, in.Marker)
	return &elb.DescribeListenersOutput{Listeners: page, NextMarker: next}, err
}

func deleteListener(c *request, in *elb.DeleteListenerInput) (*elb.DeleteListenerOutput, error) {
	l, err := c.region.listener(*in.ListenerArn)
	if err != nil {
		return nil, err
	}
	c.w.backing.closeListener(l)
	l.of.listeners = slices.DeleteFunc(l.of.listeners, func(other *listener) bool { return other == l })
	return &elb.DeleteListenerOutput{}, nil
}

// Certificate makes an ACM certificate for hosts known in Options.Region, for listeners; it returns its ARN. ACM itself is
// not part of the fake.
func (w *World) Certificate(hosts ...string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	arn := "arn:aws:acm:" + w.options.Region + ":" + w.options.Account + ":certificate/" + newUUID()
	w.in(w.options.Region).balancing.certificates[arn] = hosts
	return arn
}

// Balancer makes an application load balancer in Options.Region with an HTTPS listener on 443 that answers 404, as the
// stack of an app has it. It returns both ARNs.
func (w *World) Balancer(name, certificate string) (balancerARN, listenerARN string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.in(w.options.Region)
	b := w.newBalancer(r, name)
	l := w.newListener(r, b, 443, types.ProtocolEnumHttps, []types.Certificate{{CertificateArn: &certificate}}, []types.Action{{
		Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: aws.String("404"), ContentType: aws.String("text/plain")},
	}})
	return b.arn, l.arn
}

// BalancerName is the DNS name of a balancer in Options.Region, "" where there is none such.
func (w *World) BalancerName(arn string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.in(w.options.Region).balancer(arn)
	if err != nil {
		return ""
	}
	return b.dns
}

func (c *request) elbTag(arn string, tags []types.Tag) {
	kept := c.region.balancing.tags[arn]
	if kept == nil {
		kept = map[string]string{}
		c.region.balancing.tags[arn] = kept
	}
	for _, tag := range tags {
		kept[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
}

func addELBTags(c *request, in *elb.AddTagsInput) (*elb.AddTagsOutput, error) {
	for _, arn := range in.ResourceArns {
		c.elbTag(arn, in.Tags)
	}
	return &elb.AddTagsOutput{}, nil
}

func removeELBTags(c *request, in *elb.RemoveTagsInput) (*elb.RemoveTagsOutput, error) {
	for _, arn := range in.ResourceArns {
		for _, key := range in.TagKeys {
			delete(c.region.balancing.tags[arn], key)
		}
	}
	return &elb.RemoveTagsOutput{}, nil
}

func describeELBTags(c *request, in *elb.DescribeTagsInput) (*elb.DescribeTagsOutput, error) {
	out := &elb.DescribeTagsOutput{}
	for _, arn := range in.ResourceArns {
		d := types.TagDescription{ResourceArn: aws.String(arn), Tags: []types.Tag{}}
		for key, value := range c.region.balancing.tags[arn] {
			d.Tags = append(d.Tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
		}
		out.TagDescriptions = append(out.TagDescriptions, d)
	}
	return out, nil
}
