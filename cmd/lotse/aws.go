package main

import (
	"context"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// awsConfig finds credentials as the command line of AWS does: environment, shared files, single sign-on, roles. AWS_ENDPOINT_URL and
// HTTPS_PROXY count as they do there. Nothing is asked over the network yet.
func awsConfig(ctx context.Context, region string) (sdk.Config, error) {
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return sdk.Config{}, deploy.Hint(fmt.Errorf("%w: the configuration of AWS: %w", deploy.ErrBadInput, err), "look at ~/.aws/config and AWS_PROFILE")
	}
	return found, nil
}
