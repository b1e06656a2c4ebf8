package awsfake

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func stsService() *service {
	s := newService("sts", "https://sts.amazonaws.com/doc/2011-06-15/", nil)
	add(s, "GetCallerIdentity", func(c *request, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
		return &sts.GetCallerIdentityOutput{
			Account: aws.String(c.w.options.Account), Arn: aws.String(c.w.options.Caller), UserId: aws.String("AIDAFAKEFAKEFAKEFAKE"),
		}, nil
	})
	return s
}
