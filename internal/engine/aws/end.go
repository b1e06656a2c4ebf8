package aws

import (
	"context"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lotse-eu/lotse/internal/deploy"
)

var _ deploy.Ends = (*Engine)(nil)

// End implements deploy.Ends: the rule of the stage's host goes from the shared balancer. Where environments have balancers of their own,
// the parking environment stays: the record of the stage's host leads to its name until the stack is without the stage, and a name that
// nobody has would be anybody's.
func (e *Engine) End(ctx context.Context, fence deploy.Fence) error {
	err := e.admit(ctx, fence)
	if b, ok := e.lb.(sharedBalancer); ok && err == nil {
		err = b.end(ctx)
	}
	return e.failed(ctx, "end", err)
}

func (b sharedBalancer) end(ctx context.Context) error {
	b.site.Lock()
	defer b.site.Unlock()
	table, err := b.table(ctx)
	if err != nil {
		return err
	}
	r := b.of(table, kindStage, "")
	if r == nil {
		return nil
	}
	_, err = b.api.elb.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: r.RuleArn})
	if coded(err, "RuleNotFound", "RuleNotFoundException") {
		return nil
	}
	return err
}
