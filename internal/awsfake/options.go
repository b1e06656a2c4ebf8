package awsfake

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

const (
	nsEnvironment = "aws:elasticbeanstalk:application:environment"
	nsSecrets     = "aws:elasticbeanstalk:application:environmentsecrets"
	nsTier        = "aws:elasticbeanstalk:environment"
	nsSharedALB   = "aws:elbv2:loadbalancer"
	nsProcess     = "aws:elasticbeanstalk:environment:process:"
	nsListener    = "aws:elbv2:listener:"
	nsRule        = "aws:elbv2:listenerrule:"
)

// known are the option namespaces and options that the fake knows, with their defaults, after the Developer Guide's
// "General options for all environments". A trailing colon stands for namespaces of the user's naming.
var known = map[string]map[string]string{
	nsTier:                                               {"EnvironmentType": "LoadBalanced", "ServiceRole": "", "LoadBalancerType": "classic", "LoadBalancerIsShared": "false", "ExternalExtensionsS3Bucket": "", "ExternalExtensionsS3Key": ""},
	"aws:elasticbeanstalk:application":                   {"Application Healthcheck URL": ""},
	"aws:elasticbeanstalk:command":                       {"DeploymentPolicy": "AllAtOnce", "Timeout": "600", "BatchSizeType": "Percentage", "BatchSize": "100", "IgnoreHealthCheck": "false"},
	"aws:elasticbeanstalk:healthreporting:system":        {"SystemType": "enhanced", "ConfigDocument": "", "EnhancedHealthAuthEnabled": "true", "HealthCheckSuccessThreshold": "Ok"},
	"aws:elasticbeanstalk:environment:proxy":             {"ProxyServer": "nginx"},
	"aws:elasticbeanstalk:environment:proxy:staticfiles": {},
	"aws:elasticbeanstalk:managedactions":                {"ManagedActionsEnabled": "false", "PreferredStartTime": "", "ServiceRoleForManagedUpdates": ""},
	"aws:elasticbeanstalk:managedactions:platformupdate": {"UpdateLevel": "", "InstanceRefreshEnabled": "false"},
	"aws:elasticbeanstalk:cloudwatch:logs":               {"StreamLogs": "false", "DeleteOnTerminate": "false", "RetentionInDays": "7"},
	"aws:elasticbeanstalk:cloudwatch:logs:health":        {"HealthStreamingEnabled": "false", "DeleteOnTerminate": "false", "RetentionInDays": "7"},
	"aws:elasticbeanstalk:hostmanager":                   {"LogPublicationControl": "false"},
	"aws:elasticbeanstalk:monitoring":                    {"Automatically Terminate Unhealthy Instances": "true"},
	"aws:elasticbeanstalk:sns:topics":                    {"Notification Endpoint": "", "Notification Protocol": "email", "Notification Topic ARN": "", "Notification Topic Name": ""},
	"aws:elasticbeanstalk:trafficsplitting":              {"NewVersionPercent": "10", "EvaluationTime": "5"},
	"aws:elasticbeanstalk:xray":                          {"XRayEnabled": "false"},
	"aws:autoscaling:asg":                                {"MinSize": "1", "MaxSize": "4", "Cooldown": "360", "Availability Zones": "Any", "Custom Availability Zones": "", "EnableCapacityRebalancing": "false"},
	"aws:autoscaling:trigger":                            {"MeasureName": "NetworkOut", "Statistic": "Average", "Unit": "Bytes", "Period": "5", "EvaluationPeriods": "1", "BreachDuration": "5", "UpperThreshold": "6000000", "LowerThreshold": "2000000", "UpperBreachScaleIncrement": "1", "LowerBreachScaleIncrement": "-1"},
	"aws:autoscaling:updatepolicy:rollingupdate":         {"RollingUpdateEnabled": "false", "RollingUpdateType": "Time", "MaxBatchSize": "", "MinInstancesInService": "", "PauseTime": "", "Timeout": "PT30M"},
	"aws:autoscaling:launchconfiguration":                {"IamInstanceProfile": "", "EC2KeyName": "", "InstanceType": "", "ImageId": "", "SecurityGroups": "", "RootVolumeType": "", "RootVolumeSize": "", "RootVolumeIOPS": "", "RootVolumeThroughput": "", "DisableIMDSv1": "true", "MonitoringInterval": "5 minute", "SSHSourceRestriction": "tcp,22,22,0.0.0.0/0", "BlockDeviceMappings": "", "DisableDefaultEC2SecurityGroup": "false", "LaunchTemplateTagPropagationEnabled": "false"},
	"aws:ec2:instances":                                  {"EnableSpot": "false", "InstanceTypes": "t3.micro,t3.small", "SupportedArchitectures": "", "SpotFleetOnDemandBase": "0", "SpotFleetOnDemandAboveBasePercentage": "0", "SpotMaxPrice": "", "SpotAllocationStrategy": "capacity-optimized"},
	"aws:ec2:vpc":                                        {"VPCId": "", "Subnets": "", "ELBSubnets": "", "ELBScheme": "public", "DBSubnets": "", "AssociatePublicIpAddress": "true"},
	"aws:elb:healthcheck":                                {"Interval": "10", "Timeout": "5", "HealthyThreshold": "3", "UnhealthyThreshold": "5"},
	"aws:elb:policies":                                   {"ConnectionDrainingEnabled": "false", "ConnectionDrainingTimeout": "20", "ConnectionSettingIdleTimeout": "60"},
	"aws:rds:dbinstance":                                 {"HasCoupledDatabase": "false"},
	nsSharedALB:                                          {"SharedLoadBalancer": "", "ManagedSecurityGroup": "", "SecurityGroups": "", "AccessLogsS3Enabled": "false", "AccessLogsS3Bucket": "", "AccessLogsS3Prefix": "", "IdleTimeout": ""},
	nsProcess:                                            {"Port": "80", "Protocol": "HTTP", "HealthCheckPath": "/", "HealthCheckInterval": "15", "HealthCheckTimeout": "5", "HealthyThresholdCount": "3", "UnhealthyThresholdCount": "5", "MatcherHTTPCode": "", "DeregistrationDelay": "20", "StickinessEnabled": "false", "StickinessLBCookieDuration": "86400", "StickinessType": "lb_cookie"},
	nsListener:                                           {"ListenerEnabled": "true", "Protocol": "HTTP", "DefaultProcess": "default", "Rules": "", "SSLCertificateArns": "", "SSLPolicy": ""},
	nsRule:                                               {"HostHeaders": "", "PathPatterns": "", "Priority": "1", "Process": "default"},
}

// free namespaces take names of the user's.
var free = map[string]*regexp.Regexp{
	nsEnvironment: regexp.MustCompile(`^[A-Za-z0-9_.:/+\\@-]+$`),
	nsSecrets:     regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`),
	"aws:elasticbeanstalk:environment:proxy:staticfiles": regexp.MustCompile(`^/`),
}

// shownEmpty are options without a default that the settings of every environment show.
var shown = []string{nsProcess + "default", nsListener + "default"}

// optionKey is one option. Resources (ResourceName) are not told apart.
type optionKey struct{ namespace, name string }

type optionSet map[optionKey]string

func defaultOptions() optionSet {
	set := optionSet{}
	for namespace, options := range known {
		if strings.HasSuffix(namespace, ":") {
			continue
		}
		for name, value := range options {
			set[optionKey{namespace, name}] = value
		}
	}
	for _, namespace := range shown {
		options, _ := optionsOf(namespace)
		for name, value := range options {
			set[optionKey{namespace, name}] = value
		}
	}
	return set
}

// optionsOf are the options of a namespace, also of one of the user's naming; false where there is none such.
func optionsOf(namespace string) (map[string]string, bool) {
	if options, there := known[namespace]; there && !strings.HasSuffix(namespace, ":") {
		return options, true
	}
	for prefix, options := range known {
		if strings.HasSuffix(prefix, ":") && strings.HasPrefix(namespace, prefix) && len(namespace) > len(prefix) {
			return options, true
		}
	}
	_, there := free[namespace]
	return nil, there
}

// with is the set after settings and removals, or the first refusal.
func (o optionSet) with(settings []types.ConfigurationOptionSetting, remove []types.OptionSpecification) (optionSet, error) {
	set := maps.Clone(o)
	for _, s := range settings {
		if problem := judge(s); problem != nil {
			return nil, refuse("ConfigurationValidationException", "Configuration validation exception: %s", *problem.Message)
		}
		set[optionKey{*s.Namespace, *s.OptionName}] = aws.ToString(s.Value)
	}
	usual := defaultOptions()
	for _, r := range remove {
		key := optionKey{aws.ToString(r.Namespace), aws.ToString(r.OptionName)}
		delete(set, key)
		if value, there := usual[key]; there {
			set[key] = value
		}
	}
	return set, set.tooLarge()
}

// judge is what AWS has against one setting, nil for nothing.
func judge(s types.ConfigurationOptionSetting) *types.ValidationMessage {
	namespace, name, value := aws.ToString(s.Namespace), aws.ToString(s.OptionName), aws.ToString(s.Value)
	problem := func(format string, args ...any) *types.ValidationMessage {
		return &types.ValidationMessage{Namespace: s.Namespace, OptionName: s.OptionName, Severity: types.ValidationSeverityError, Message: aws.String(fmt.Sprintf(format, args...))}
	}
	options, there := optionsOf(namespace)
	if pattern, isFree := free[namespace]; isFree {
		if !pattern.MatchString(name) {
			return problem("Invalid option specification (Namespace: '%s', OptionName: '%s'): The option name must match %s", namespace, name, pattern) // words ours
		}
		if namespace == nsSecrets && !strings.HasPrefix(value, "arn:aws:secretsmanager:") && !strings.HasPrefix(value, "arn:aws:ssm:") {
			return problem("Invalid option value for '%s': it must be an ARN of Secrets Manager or Parameter Store", name) // words ours
		}
		return nil
	}
	usual, known := options[name]
	if !there || !known {
		return problem("Invalid option specification (Namespace: '%s', OptionName: '%s'): Unknown configuration setting.", namespace, name)
	}
	if message := badValue(usual, value); message != "" {
		return problem("Invalid option value: '%s' (Namespace: '%s', OptionName: '%s'): %s", value, namespace, name, message)
	}
	return nil
}

func badValue(usual, value string) string {
	if _, err := strconv.Atoi(usual); err == nil {
		if _, err := strconv.Atoi(value); err != nil {
			return "Value is not a number" // ours
		}
	}
	if (usual == "true" || usual == "false") && value != "true" && value != "false" {
		return "Value is not one of the allowed values: [true, false]" // ours
	}
	return ""
}

// mostVariables is how many bytes all KEY=value of an environment may have together (Developer Guide, "Environment properties").
const mostVariables = 4096

// tooLarge refuses variables that do not fit. They travel as one parameter of Beanstalk's own CloudFormation stack.
func (o optionSet) tooLarge() error {
	size := 0
	for key, value := range o {
		if key.namespace == nsEnvironment {
			size += len(key.name) + len("=") + len(value) + len(",")
		}
	}
	if size-1 > mostVariables {
		return invalid("Service:AmazonCloudFormation, Message:Template error: Parameter 'EnvironmentVariables' must contain at most %d characters.", mostVariables)
	}
	return nil
}

func (o optionSet) get(namespace, name string) string { return o[optionKey{namespace, name}] }

func (o optionSet) inNamespace(namespace string) map[string]string {
	found := map[string]string{}
	for key, value := range o {
		if key.namespace == namespace {
			found[key.name] = value
		}
	}
	return found
}

func (o optionSet) sorted() []types.ConfigurationOptionSetting {
	settings := []types.ConfigurationOptionSetting{}
	keys := slices.SortedFunc(maps.Keys(o), func(a, b optionKey) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	for _, key := range keys {
		s := types.ConfigurationOptionSetting{Namespace: aws.String(key.namespace), OptionName: aws.String(key.name)}
		if value := o[key]; value != "" {
			s.Value = &value
		}
		if strings.HasPrefix(key.namespace, "aws:autoscaling:asg") {
			s.ResourceName = aws.String("AWSEBAutoScalingGroup")
		}
		settings = append(settings, s)
	}
	return settings
}

func addOptions(s *service) {
	add(s, "DescribeConfigurationOptions", describeOptions)
	add(s, "DescribeConfigurationSettings", describeSettings, "ApplicationName")
	add(s, "ValidateConfigurationSettings", validateSettings, "ApplicationName", "OptionSettings")
}

func describeOptions(c *request, in *eb.DescribeConfigurationOptionsInput) (*eb.DescribeConfigurationOptionsOutput, error) {
	out := &eb.DescribeConfigurationOptionsOutput{SolutionStackName: in.SolutionStackName, PlatformArn: in.PlatformArn, Options: []types.ConfigurationOptionDescription{}}
	if in.EnvironmentName != nil {
		e, err := c.region.beanstalk.live(nil, in.EnvironmentName)
		if err != nil {
			return nil, err
		}
		out.SolutionStackName, out.PlatformArn = &e.platform.stack, &e.platform.arn
	}
	for _, setting := range defaultOptions().sorted() {
		asked := len(in.Options) == 0 || slices.ContainsFunc(in.Options, func(o types.OptionSpecification) bool {
			return aws.ToString(o.Namespace) == *setting.Namespace && (o.OptionName == nil || *o.OptionName == *setting.OptionName)
		})
		if asked {
			out.Options = append(out.Options, types.ConfigurationOptionDescription{
				Namespace: setting.Namespace, Name: setting.OptionName, DefaultValue: setting.Value, ChangeSeverity: aws.String("NoInterruption"),
				UserDefined: aws.Bool(false), ValueType: types.ConfigurationOptionValueTypeScalar,
			})
		}
	}
	return out, nil
}

func describeSettings(c *request, in *eb.DescribeConfigurationSettingsInput) (*eb.DescribeConfigurationSettingsOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	out := &eb.DescribeConfigurationSettingsOutput{}
	if in.TemplateName != nil {
		template, err := app.templateNamed(in.TemplateName)
		if err != nil {
			return nil, err
		}
		out.ConfigurationSettings = []types.ConfigurationSettingsDescription{*template}
		return out, nil
	}
	e, err := c.region.beanstalk.live(nil, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	out.ConfigurationSettings = []types.ConfigurationSettingsDescription{{
		ApplicationName: &e.app, EnvironmentName: &e.name, SolutionStackName: &e.platform.stack, PlatformArn: &e.platform.arn, Description: text(e.description),
		DateCreated: &e.created, DateUpdated: &e.updated, DeploymentStatus: types.ConfigurationDeploymentStatusDeployed, OptionSettings: e.options.sorted(),
	}}
	return out, nil
}

func validateSettings(c *request, in *eb.ValidateConfigurationSettingsInput) (*eb.ValidateConfigurationSettingsOutput, error) {
	if _, err := c.region.beanstalk.app(in.ApplicationName); err != nil {
		return nil, err
	}
	out := &eb.ValidateConfigurationSettingsOutput{Messages: []types.ValidationMessage{}}
	for _, s := range in.OptionSettings {
		if problem := judge(s); problem != nil {
			out.Messages = append(out.Messages, *problem)
		}
	}
	return out, nil
}
