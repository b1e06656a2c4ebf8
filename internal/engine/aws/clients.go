package aws

import (
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

func newClients(c sdk.Config) clients {
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
