package main

import (
	"context"
	"fmt"
	"net"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"golang.org/x/net/proxy"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// awsConfig finds credentials as the command line of AWS does: environment, shared files, single sign-on, roles. AWS_ENDPOINT_URL and
// HTTPS_PROXY count as they do there. Nothing is asked over the network yet. What the SDK would write to the standard error is dropped: all
// that matters of it comes as an error.
func awsConfig(ctx context.Context, region string) (sdk.Config, error) {
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithLogger(logging.Nop{}))
	if err != nil {
		return sdk.Config{}, deploy.Hint(fmt.Errorf("%w: the configuration of AWS: %w", deploy.ErrBadInput, err), "look at ~/.aws/config and AWS_PROFILE")
	}
	return found, nil
}

// dial reaches hosts of the internet, through the SOCKS proxy of ALL_PROXY where there is one.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return proxy.Dial(ctx, network, address)
}
