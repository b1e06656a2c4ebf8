package awsfake

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// hangUp gives an environment its place behind a balancer: a target group, and either a rule on every listener of a shared
// balancer that it names (host-header = its CNAME) or a balancer of its own. Its CNAME points there.
func (w *World) hangUp(_ context.Context, r *region, e *environment) (err error) {
	w.locked(func() {
		defer e.touch()
		if e.options.get(nsTier, "EnvironmentType") == "SingleInstance" {
			e.endpoint = "192.0.2.1" // an address for documentation (RFC 5737); nothing listens there
			return
		}
		if e.options.get(nsTier, "LoadBalancerType") != "application" {
			e.endpoint = "awseb-" + e.id + "." + r.name + ".elb.amazonaws.com"
			return
		}
		process := nsProcess + "default"
		port, _ := strconv.ParseInt(e.options.get(process, "Port"), 10, 32)
		protocol := elbtypes.ProtocolEnum(strings.ToUpper(e.options.get(process, "Protocol")))
		e.group = w.newGroup(r, "awseb-"+strings.ToUpper(newID(10)), protocol, int32(port), e.options.get(process, "HealthCheckPath"), cmp.Or(e.options.get(process, "MatcherHTTPCode"), "200"))
		w.tell(r, e, "", "Created target group named: "+e.group.arn)
		if e.options.get(nsTier, "LoadBalancerIsShared") == "true" {
			err = w.hangOnShared(r, e)
		} else {
			w.ownBalancer(r, e)
		}
		if err == nil {
			e.endpoint = e.balancer.dns
			w.backing.record(e.cname, e.balancer.dns, w.options.RecordTTL)
		}
	})
	return err
}

func (w *World) hangOnShared(r *region, e *environment) error {
	b, err := r.balancer(e.options.get(nsSharedALB, "SharedLoadBalancer"))
	if err != nil {
		w.tell(r, e, "ERROR", "The shared load balancer does not exist: "+e.options.get(nsSharedALB, "SharedLoadBalancer")) // words ours
		return err
	}
	e.balancer = b
	for _, l := range b.listeners {
		if !e.listensOn(l) {
			continue
		}
		condition := elbtypes.RuleCondition{Field: aws.String("host-header"), Values: []string{e.cname}}
		e.rules = append(e.rules, w.newRule(l, l.nextPriority(), []elbtypes.RuleCondition{condition}, forwardTo(e.group)))
		w.tell(r, e, "", "Created Load Balancer listener rule named: "+e.rules[len(e.rules)-1].arn)
	}
	return nil
}

// listensOn: the default listener is the one on 80; others are named by their port.
func (e *environment) listensOn(l *listener) bool {
	port := strconv.Itoa(int(*l.Port))
	_, named := e.options[optionKey{nsListener + port, "ListenerEnabled"}]
	for key := range e.options {
		named = named || key.namespace == nsListener+port
	}
	enabled := e.options.get(nsListener+port, "ListenerEnabled") != "false"
	if port == "80" {
		return enabled && e.options.get(nsListener+"default", "ListenerEnabled") != "false"
	}
	return named && enabled
}

// nextPriority is a free one behind all others. Which AWS takes is not documented.
func (l *listener) nextPriority() int {
	highest := 0
	for _, one := range l.rules {
		if one.priority < greatestPriority {
			highest = max(highest, one.priority)
		}
	}
	return highest + 1
}

func forwardTo(g *targetGroup) []elbtypes.Action {
	return whole([]elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &g.arn}})
}

func (w *World) ownBalancer(r *region, e *environment) {
	e.balancer, e.ownsBalancer = w.newBalancer(r, "awseb--AWSEB-"+newID(12)), true
	w.tell(r, e, "", "Created load balancer named: "+e.balancer.arn)
	if e.options.get(nsListener+"default", "ListenerEnabled") != "false" {
		w.newListener(r, e.balancer, 80, elbtypes.ProtocolEnumHttp, nil, forwardTo(e.group))
	}
	for _, namespace := range e.listenerNamespaces() {
		port, err := strconv.ParseInt(strings.TrimPrefix(namespace, nsListener), 10, 32)
		if err != nil || e.options.get(namespace, "ListenerEnabled") == "false" {
			continue
		}
		var certificates []elbtypes.Certificate
		for arn := range strings.SplitSeq(e.options.get(namespace, "SSLCertificateArns"), ",") {
			if arn != "" {
				certificates = append(certificates, elbtypes.Certificate{CertificateArn: aws.String(arn)})
			}
		}
		protocol := elbtypes.ProtocolEnum(strings.ToUpper(e.options.get(namespace, "Protocol")))
		if protocol == "" {
			protocol = elbtypes.ProtocolEnumHttp
		}
		w.newListener(r, e.balancer, int32(port), protocol, certificates, forwardTo(e.group))
	}
}

func (e *environment) listenerNamespaces() []string {
	var found []string
	for key := range e.options {
		if strings.HasPrefix(key.namespace, nsListener) && !slices.Contains(found, key.namespace) {
			found = append(found, key.namespace)
		}
	}
	slices.Sort(found)
	return found
}

// takeDown removes what hangUp made. A target group that somebody else's rule still forwards to stays, as it does on AWS,
// where deleting it fails. The caller holds mu.
func (w *World) takeDown(r *region, e *environment) {
	for _, b := range r.balancing.balancers {
		for _, l := range b.listeners {
			for _, one := range e.rules {
				if slices.Contains(l.rules, one) {
					w.removeRule(l, one)
				}
			}
		}
	}
	w.backing.record(e.cname, "", 0)
	if e.ownsBalancer {
		w.removeBalancer(r, e.balancer)
	}
	if e.group != nil && len(r.balancersOf(e.group)) == 0 {
		w.removeGroup(r, e.group)
	}
	e.rules = nil
}
