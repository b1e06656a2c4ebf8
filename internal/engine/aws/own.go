package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// ownBalancer is a load balancer for each environment. The stage's host is a record that leads to one name of Elastic Beanstalk, which
// one of the environments has at a time; a shift swaps it with another's, and takes as long as resolvers keep records.
//
// A name that no environment has is anybody's in the region: who took it would get the stage's visitors. So there is always one that has
// it. While no rollout does, that is a parking environment, which answers 503; it is made by the first start, and goes after the first
// shift.
type ownBalancer struct{ *Engine }

// parkingRollout is what the parking environment is called in place of a rollout. Rollouts have no dot.
const parkingRollout = "parking."

func (b ownBalancer) facts() deploy.Facts {
	return deploy.Facts{Engine: "aws", Carries: "dns", Switch: b.Timing.DNS, Sampling: sampling, Lag: samplesLag}
}

func (b ownBalancer) launches() int { return 2 }

// resources makes the balancer end clients' connections after a minute: who stays on one never asks for the name again, and would lose it
// with the environment.
func (b ownBalancer) resources() string {
	return `  AWSEBV2LoadBalancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties:
      LoadBalancerAttributes:
        - { Key: client_keep_alive.seconds, Value: "60" }
        - { Key: routing.http.drop_invalid_header_fields.enabled, Value: "true" }
`
}

func (b ownBalancer) options(s *stack) settings {
	var all settings
	all.set(nsBalancer, "SecurityGroups", s.balancerGroup, "ManagedSecurityGroup", s.balancerGroup)
	all.set(nsListener, "ListenerEnabled", "true", "Protocol", "HTTPS", "SSLCertificateArns", s.certificate, "SSLPolicy", tlsPolicy, "DefaultProcess", "default")
	return all
}

// holds reports whether an environment has the stage's name.
func (b ownBalancer) holds(v environment) bool {
	first, _, _ := strings.Cut(v.cname, ".")
	return first == strings.ToLower(b.prefix())
}

func (b ownBalancer) holder(all []environment) *environment {
	if i := slices.IndexFunc(all, b.holds); i >= 0 {
		return &all[i]
	}
	return nil
}

func (b ownBalancer) shares(_ context.Context, all []environment) (map[string]int, error) {
	shares := map[string]int{}
	for _, v := range all {
		if b.holds(v) && !v.parking() {
			shares[v.rollout()] = 100
		}
	}
	return shares, nil
}

// begin makes sure that somebody has, or will have, the stage's name.
func (b ownBalancer) begin(ctx context.Context) error {
	all, err := b.Engine.environments(ctx)
	if err != nil || b.holder(all) != nil || slices.ContainsFunc(all, environment.parking) {
		return err
	}
	free, err := b.api.eb.CheckDNSAvailability(ctx, &eb.CheckDNSAvailabilityInput{CNAMEPrefix: sdk.String(b.prefix())})
	if err != nil {
		return err
	}
	if !sdk.ToBool(free.Available) {
		return deploy.Hint(fmt.Errorf("%w: somebody else in %s has the name %s among those of Elastic Beanstalk", deploy.ErrRefused, b.AWS.Region, b.prefix()),
			"give the app another name, or write aws: balancer: shared in lotse.yaml, which needs no such name")
	}
	return b.makeParking(ctx, b.prefix())
}

// makeParking makes the parking environment, with a name of the stage's or without. The one that unpark has let go of may still be going:
// until it is gone, none can be called so.
func (b ownBalancer) makeParking(ctx context.Context, prefix string) error {
	old, err := b.Engine.named(ctx, b.parkingName(), parkingRollout)
	if err == nil && old != nil && old.going() {
		err = b.terminate(ctx, *old)
	}
	if err != nil {
		return err
	}
	s, err := b.outputs(ctx)
	if err != nil {
		return err
	}
	o := b.parkingOrder()
	l := b.labelsOf(o)
	l[tagKind] = "parking"
	_, err = b.create(ctx, s, o, b.parkingName(), prefix, b.Engine.options(s, 1, 0), l)
	return err
}

// parkingOrder is a release that answers nobody: its one service does not listen.
func (b ownBalancer) parkingOrder() deploy.Order {
	m := deploy.Manifest{Format: 1, App: b.App, Services: []deploy.Service{{Name: "parking", Command: "sleep infinity", Path: "/", Health: "/", Start: time.Second}}}
	return deploy.Order{Rollout: parkingRollout, Stage: deploy.Stage{Name: b.Stage.Name, URL: b.Stage.URL},
		Release: deploy.Release{ID: deploy.Digest("sha256:" + digits("parking", 64)), Manifest: m}}
}

// prepare waits until the stage's name is somebody's.
func (b ownBalancer) prepare(ctx context.Context, _ environment) error {
	b.site.Lock()
	defer b.site.Unlock()
	return b.named(ctx)
}

func (b ownBalancer) named(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	return b.await(ctx, b.Timing.Launch, "the stage's name", func(ctx context.Context) (bool, error) {
		all, err := b.Engine.environments(ctx)
		if err != nil {
			return false, err
		}
		h := b.holder(all)
		return h != nil && h.ready(), nil
	})
}

func (b ownBalancer) route(_ context.Context, v environment) (string, string, error) {
	if v.cname == "" {
		return "", "", fmt.Errorf("%w: %s is still starting", deploy.ErrUnavailable, v.rollout())
	}
	return v.cname, "own", nil // any value: the name leads there, and the header keeps the request out of the samples
}

// forget has nothing to take away: the name was given to another before.
func (b ownBalancer) forget(context.Context, string) error { return nil }

// give swaps the stage's name to who is to have the traffic: a rollout, or the parking environment where there is none.
func (b ownBalancer) give(ctx context.Context, all []environment, next map[string]int) error {
	to := slices.IndexFunc(all, func(v environment) bool { return next[v.rollout()] == 100 })
	if to < 0 {
		return b.park(ctx)
	}
	if err := b.named(ctx); err != nil {
		return err
	}
	if err := b.swap(ctx, all[to]); err != nil {
		return err
	}
	return b.unpark(ctx)
}

// swap gives the stage's name to an environment, and waits until it has it.
func (b ownBalancer) swap(ctx context.Context, to environment) error {
	asked, since := false, b.Now().Add(-time.Minute) // clocks differ
	return b.await(ctx, b.Timing.Settle, "the swap of names", func(ctx context.Context) (bool, error) {
		all, err := b.Engine.environments(ctx)
		if err != nil {
			return false, err
		}
		h := b.holder(all)
		i := slices.IndexFunc(all, func(v environment) bool { return v.id == to.id })
		switch {
		case h == nil || i < 0:
			return false, fmt.Errorf("%w: while the name was to be swapped, an environment went", deploy.ErrUnavailable)
		case !h.ready() || !all[i].ready():
			return false, nil // also while the swap goes on
		case h.id == to.id:
			return true, nil
		case asked:
			return false, b.swapFailed(ctx, to, since)
		}
		_, err = b.api.eb.SwapEnvironmentCNAMEs(ctx, &eb.SwapEnvironmentCNAMEsInput{SourceEnvironmentId: &h.id, DestinationEnvironmentId: &to.id})
		asked = err == nil
		return false, err
	})
}

// swapFailed is an error when the platform says that the swap it had begun has failed.
func (b ownBalancer) swapFailed(ctx context.Context, v environment, since time.Time) error {
	out, err := b.api.eb.DescribeEvents(ctx, &eb.DescribeEventsInput{EnvironmentId: &v.id, Severity: types.EventSeverityError, StartTime: &since})
	if err != nil || len(out.Events) == 0 {
		return err
	}
	return &answer{call: "elasticbeanstalk:SwapEnvironmentCNAMEs", code: "the swap has failed", text: clean(sdk.ToString(out.Events[0].Message)), is: deploy.ErrRefused}
}

// park gives the stage's name to the parking environment, which is made where it is not there.
func (b ownBalancer) park(ctx context.Context) error {
	all, err := b.Engine.environments(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, environment.parking)
	if i < 0 {
		if err := b.makeParking(ctx, ""); err != nil {
			return err
		}
	}
	err = b.await(ctx, b.Timing.Launch, "the parking environment", func(ctx context.Context) (bool, error) {
		if all, err = b.Engine.environments(ctx); err != nil {
			return false, err
		}
		i = slices.IndexFunc(all, environment.parking)
		return i >= 0 && all[i].ready(), nil
	})
	if err != nil {
		return err
	}
	return b.swap(ctx, all[i])
}

// unpark removes the parking environment, which has the name of nobody now. It need not be awaited: those whose resolvers still lead
// there get what they would get from nobody.
func (b ownBalancer) unpark(ctx context.Context) error {
	all, err := b.Engine.environments(ctx)
	i := slices.IndexFunc(all, environment.parking)
	if err != nil || i < 0 || b.holds(all[i]) || !all[i].ready() {
		return err
	}
	_, err = b.api.eb.TerminateEnvironment(ctx, &eb.TerminateEnvironmentInput{EnvironmentId: &all[i].id, TerminateResources: sdk.Bool(true)})
	if busy("InvalidParameterValue", errText(err)) {
		return nil // the next shift does it
	}
	return err
}
