package aws

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Namespaces of options (docs.aws.amazon.com/elasticbeanstalk, "General options for all environments").
const (
	nsGroup       = "aws:autoscaling:asg"
	nsLaunch      = "aws:autoscaling:launchconfiguration"
	nsInstances   = "aws:ec2:instances"
	nsNetwork     = "aws:ec2:vpc"
	nsEnvironment = "aws:elasticbeanstalk:environment"
	nsProcess     = "aws:elasticbeanstalk:environment:process:default"
	nsProxy       = "aws:elasticbeanstalk:environment:proxy"
	nsHealth      = "aws:elasticbeanstalk:healthreporting:system"
	nsLogs        = "aws:elasticbeanstalk:cloudwatch:logs"
	nsVariables   = "aws:elasticbeanstalk:application:environment"
	nsSecrets     = "aws:elasticbeanstalk:application:environmentsecrets"
	nsManaged     = "aws:elasticbeanstalk:managedactions"
	nsCommand     = "aws:elasticbeanstalk:command"
	nsBalancer    = "aws:elbv2:loadbalancer"
	nsListener    = "aws:elbv2:listener:443"
	nsPlain       = "aws:elbv2:listener:default"
)

const (
	// frontPort is where the front listens on an instance.
	frontPort = "5000"
	// healthPath is what the front answers by itself, for balancers.
	healthPath = "/.lotse/health"
	// retention is how many days the platform keeps what an environment has said.
	retention = 30
	// launchTimeout is how many seconds the platform gives the commands of a launch, migrations among them.
	launchTimeout = 300
	// tlsPolicy is TLS 1.3 and 1.2, as the shared balancer's.
	tlsPolicy = "ELBSecurityPolicy-TLS13-1-2-2021-06"
)

// settings are the options of a new environment.
type settings []types.ConfigurationOptionSetting

func (s *settings) set(namespace string, pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		*s = append(*s, types.ConfigurationOptionSetting{Namespace: sdk.String(namespace), OptionName: sdk.String(pair[0]), Value: sdk.String(pair[1])})
	}
}

// options are those of an environment with so many machines, whoever carries its requests.
func (e *Engine) options(s *stack, count int, drain time.Duration) settings {
	n, kind := strconv.Itoa(count), e.Stage.AWS.Instance
	arch := map[string]string{"arm64": "arm64"}[e.Machine]
	if kind == "" {
		kind = map[string]string{"arm64": "t4g.small"}[e.Machine]
	}
	var all settings
	all.set(nsGroup, "MinSize", n, "MaxSize", n)
	all.set(nsInstances, "InstanceTypes", cmp.Or(kind, "t3.small"), "SupportedArchitectures", cmp.Or(arch, "x86_64"))
	all.set(nsLaunch, "IamInstanceProfile", s.profile, "SecurityGroups", s.instanceGroup, "DisableIMDSv1", "true", "RootVolumeType", "gp3", "RootVolumeSize", "12")
	all.set(nsNetwork, "VPCId", s.vpc, "Subnets", s.instanceSubnets, "ELBSubnets", s.balancerSubnets, "AssociatePublicIpAddress", "false")
	all.set(nsEnvironment, "EnvironmentType", "LoadBalanced", "LoadBalancerType", "application", "ServiceRole", s.serviceRole)
	all.set(nsProcess, "Port", frontPort, "Protocol", "HTTPS", "HealthCheckPath", healthPath, "MatcherHTTPCode", "200", "HealthCheckInterval", "10",
		"HealthCheckTimeout", "5", "HealthyThresholdCount", "2", "UnhealthyThresholdCount", "3", "StickinessEnabled", "false",
		"DeregistrationDelay", strconv.Itoa(int(drain.Seconds())))
	all.set(nsProxy, "ProxyServer", "none")
	all.set(nsHealth, "SystemType", "enhanced")
	all.set(nsLogs, "StreamLogs", "true", "DeleteOnTerminate", "false", "RetentionInDays", strconv.Itoa(retention))
	all.set(nsManaged, "ManagedActionsEnabled", "false") // an environment lives as long as its rollout, and is not changed meanwhile
	all.set(nsCommand, "Timeout", strconv.Itoa(launchTimeout))
	all.set(nsPlain, "ListenerEnabled", "false")
	all = append(all, e.lb.options(s)...)
	return all
}

// variables are those of a rollout: values, or references that the platform reads itself.
func variables(all []deploy.Setting) settings {
	var out settings
	for _, s := range all {
		if s.Reference != "" {
			out.set(nsSecrets, s.Name, s.Reference)
		} else {
			out.set(nsVariables, s.Name, s.Value.Reveal())
		}
	}
	return out
}

// drainOf is what requests in flight get on a stage: what the stage says, or the longest of the services.
func drainOf(o deploy.Order) time.Duration {
	drain := o.Stage.Drain
	for _, s := range o.Release.Manifest.Services {
		if o.Stage.Drain == 0 {
			drain = max(drain, s.Drain)
		}
	}
	return cmp.Or(drain, 30*time.Second)
}

// language is the kind of platform that has what the commands call.
func language(services []deploy.Service) string {
	for _, s := range commands(services) {
		first, _, _ := strings.Cut(strings.TrimSpace(s.Command), " ")
		if slices.Contains([]string{"node", "npm", "npx", "yarn", "pnpm", "next"}, first) {
			return "Node.js"
		}
	}
	return "Go"
}

// platform is the newest version of the newest branch of a kind, as AWS has it today.
func (e *Engine) platform(ctx context.Context, kind string) (string, error) {
	filter := func(name, value string) types.PlatformFilter {
		return types.PlatformFilter{Type: sdk.String(name), Operator: sdk.String("="), Values: []string{value}}
	}
	in := &eb.ListPlatformVersionsInput{Filters: []types.PlatformFilter{filter("PlatformOwner", "AWSElasticBeanstalk"),
		filter("PlatformStatus", "Ready"), filter("PlatformVersion", "latest"), filter("ProgrammingLanguageName", kind)}}
	var best types.PlatformSummary
	pages := eb.NewListPlatformVersionsPaginator(e.api.eb, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, p := range page.PlatformSummaryList {
			if usablePlatform(p) && (best.PlatformArn == nil || newer(sdk.ToString(p.PlatformBranchName), sdk.ToString(best.PlatformBranchName)) ||
				sdk.ToString(p.PlatformBranchName) == sdk.ToString(best.PlatformBranchName) && newer(sdk.ToString(p.PlatformVersion), sdk.ToString(best.PlatformVersion))) {
				best = p
			}
		}
	}
	if best.PlatformArn == nil {
		return "", fmt.Errorf("%w: Elastic Beanstalk has no platform for %s on Amazon Linux 2023 in %s", deploy.ErrUnsupported, kind, e.AWS.Region)
	}
	return *best.PlatformArn, nil
}

func usablePlatform(p types.PlatformSummary) bool {
	state := sdk.ToString(p.PlatformBranchLifecycleState)
	return strings.Contains(sdk.ToString(p.PlatformBranchName), "64bit Amazon Linux 2023") && (state == "" || strings.EqualFold(state, "Supported"))
}

var numbers = regexp.MustCompile(`\d+`)

// newer reports whether a has the greater numbers: Node.js 24 is newer than Node.js 8.
func newer(a, b string) bool {
	as, bs := numbers.FindAllString(a, -1), numbers.FindAllString(b, -1)
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x > y
		}
	}
	return len(as) > len(bs)
}
