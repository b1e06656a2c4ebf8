package aws

import (
	"context"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// clients are the services of AWS that the engine speaks to.
type clients struct {
	eb      *eb.Client
	elb     *elb.Client
	s3      *s3.Client
	sts     *sts.Client
	stacks  *cloudformation.Client
	secrets *secretsmanager.Client
	ssm     *ssm.Client
	logs    *cloudwatchlogs.Client
	rds     *rds.Client
}

// tries is how often a call is made before it is given up: with pauses of up to 20 s, with jitter, about a minute of throttling.
const tries = 8

// newClients makes them. A call that has no answer after so long is given up.
func newClients(c sdk.Config, answer time.Duration) clients {
	c.APIOptions = append(slices.Clone(c.APIOptions), bounded(answer))
	if c.Retryer == nil {
		c.Retryer = func() sdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff, o.RateLimiter = tries, 20*time.Second, ratelimit.None
			})
		}
	}
	return clients{eb: eb.NewFromConfig(c), elb: elb.NewFromConfig(c), sts: sts.NewFromConfig(c), stacks: cloudformation.NewFromConfig(c),
		secrets: secretsmanager.NewFromConfig(c), ssm: ssm.NewFromConfig(c), logs: cloudwatchlogs.NewFromConfig(c), rds: rds.NewFromConfig(c),
		s3: s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = c.BaseEndpoint != nil })}
}

// late is a try of a call that had no answer in its time.
type late time.Duration

func (l late) Error() string { return "none within " + time.Duration(l).String() }

// bounded gives each try of a call its time: without it, one that never answers is waited for as long as the caller waits. Objects of S3
// are left to who asks for them, since they take as long as their bytes do.
func bounded(most time.Duration) func(*middleware.Stack) error {
	try := func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if slices.Contains([]string{"GetObject", "PutObject"}, middleware.GetOperationName(ctx)) {
			return next.HandleFinalize(ctx, in)
		}
		inner, cancel := context.WithTimeoutCause(ctx, most, late(most))
		defer cancel()
		out, metadata, err := next.HandleFinalize(inner, in)
		if err != nil && ctx.Err() == nil && inner.Err() != nil {
			err = late(most)
		}
		return out, metadata, err
	}
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("lotse bounds a try", try), middleware.After)
	}
}
