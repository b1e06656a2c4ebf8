package awsfake

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addEnvironments(s *service) {
	add(s, "CheckDNSAvailability", checkDNS, "CNAMEPrefix")
	add(s, "CreateEnvironment", createEnvironment, "ApplicationName")
	add(s, "DescribeEnvironments", describeEnvironments)
	add(s, "DescribeEvents", describeEvents)
	add(s, "TerminateEnvironment", terminateEnvironment)
	add(s, "DescribeEnvironmentResources", describeResources)
}

func contains(s, part string) bool { return strings.Contains(s, part) }

func (c *request) cname(prefix string) string {
	return strings.ToLower(prefix) + "." + c.region.name + ".elasticbeanstalk.com"
}

func checkDNS(c *request, in *eb.CheckDNSAvailabilityInput) (*eb.CheckDNSAvailabilityOutput, error) {
	if err := lengths(*in.CNAMEPrefix, "cNAMEPrefix", 4, 63); err != nil {
		return nil, err
	}
	cname := c.cname(*in.CNAMEPrefix)
	return &eb.CheckDNSAvailabilityOutput{Available: aws.Bool(!c.region.beanstalk.holds(cname)), FullyQualifiedCNAME: &cname}, nil
}

func createEnvironment(c *request, in *eb.CreateEnvironmentInput) (*eb.CreateEnvironmentOutput, error) {
	e, err := c.newEnvironment(in)
	if err != nil {
		return nil, err
	}
	b := &c.region.beanstalk
	b.environments = append(b.environments, e)
	c.tag(e.arn, append(slices.Clone(in.Tags),
		types.Tag{Key: aws.String("elasticbeanstalk:environment-name"), Value: &e.name}, types.Tag{Key: aws.String("Name"), Value: &e.name},
		types.Tag{Key: aws.String("elasticbeanstalk:environment-id"), Value: &e.id}))
	e.touch()
	c.w.tell(c.region, e, "", "createEnvironment is starting.")
	c.w.launch(c.region, e)
	out := eb.CreateEnvironmentOutput{}
	copyFields(&out, e.describe())
	out.EndpointURL = nil // that comes later
	return &out, nil
}

// newEnvironment judges a request as AWS does before anything begins.
func (c *request) newEnvironment(in *eb.CreateEnvironmentInput) (*environment, error) {
	b := &c.region.beanstalk
	app, err := b.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	e := &environment{
		name: aws.ToString(in.EnvironmentName), id: "e-" + newID(10), app: *app.ApplicationName, version: aws.ToString(in.VersionLabel), requestID: newUUID(),
		description: aws.ToString(in.Description), template: aws.ToString(in.TemplateName), role: aws.ToString(in.OperationsRole), created: *now(),
		status: types.EnvironmentStatusLaunching, color: types.EnvironmentHealthGrey, health: types.EnvironmentHealthStatusPending,
		tier: types.EnvironmentTier{Name: aws.String("WebServer"), Type: aws.String("Standard"), Version: aws.String("1.0")},
	}
	if err := c.nameEnvironment(e, in); err != nil {
		return nil, err
	}
	if in.VersionLabel != nil {
		if _, err := app.version(in.VersionLabel); err != nil {
			return nil, err
		}
	}
	if err := c.configure(e, app, in); err != nil {
		return nil, err
	}
	if b.countLive() >= c.w.quota("Environments", environmentQuota) {
		return nil, refuse("TooManyEnvironmentsException", "You cannot have more than %d Environments. Either terminate some Environments or request a limit increase.", c.w.quota("Environments", environmentQuota))
	}
	return e, nil
}

func (b *beanstalk) countLive() (n int) {
	for _, e := range b.environments {
		if e.alive() {
			n++
		}
	}
	return n
}

func (c *request) nameEnvironment(e *environment, in *eb.CreateEnvironmentInput) error {
	b := &c.region.beanstalk
	if in.EnvironmentName == nil {
		return refuse("MissingParameter", "The request must contain the parameter EnvironmentName.") // ours; AWS wants it or a GroupName
	}
	if err := lengths(e.name, "environmentName", 4, 40); err != nil {
		return err
	}
	if !hostLabel.MatchString(e.name) {
		return invalid("Value %s at 'EnvironmentName' failed to satisfy constraint: Member must contain only letters, digits, and the dash character and may not start or end with a dash", e.name)
	}
	if _, err := b.live(nil, &e.name); err == nil {
		return invalid("Environment %s already exists.", e.name)
	}
	e.arn = c.arn("elasticbeanstalk", "environment/"+e.app+"/"+e.name)
	if in.CNAMEPrefix == nil {
		e.cname = strings.ToLower(e.name) + ".eba-" + newID(8) + "." + c.region.name + ".elasticbeanstalk.com"
		return nil
	}
	if err := lengths(*in.CNAMEPrefix, "cNAMEPrefix", 4, 63); err != nil {
		return err
	}
	if !hostLabel.MatchString(*in.CNAMEPrefix) {
		return invalid("Value %s at 'CNAMEPrefix' failed to satisfy constraint: Member must contain only letters, digits, and the dash character and may not start or end with a dash", *in.CNAMEPrefix)
	}
	e.cname = c.cname(*in.CNAMEPrefix)
	if b.holds(e.cname) {
		return invalid("DNS name (%s) is not available.", e.cname)
	}
	return nil
}

// configure finds the platform and takes the options: the platform's, then the template's, then the request's.
func (c *request) configure(e *environment, app *application, in *eb.CreateEnvironmentInput) (err error) {
	settings := in.OptionSettings
	if in.TemplateName != nil {
		template, err := app.templateNamed(in.TemplateName)
		if err != nil {
			return err
		}
		in.SolutionStackName = template.SolutionStackName
		settings = append(slices.Clone(template.OptionSettings), settings...)
	}
	if e.platform, err = c.findPlatform(in.SolutionStackName, in.PlatformArn); err != nil {
		return err
	}
	e.options, err = defaultOptions().with(settings, in.OptionsToRemove)
	if in.Tier != nil {
		e.tier = *in.Tier
	}
	return err
}

// remembered is how long describes still show an environment that is terminated.
const remembered = time.Hour

func describeEnvironments(c *request, in *eb.DescribeEnvironmentsInput) (*eb.DescribeEnvironmentsOutput, error) {
	found := []types.EnvironmentDescription{}
	for _, e := range c.region.beanstalk.environments {
		seen := e.seen(c.w.lag)
		if seen != nil && matches(seen, in) && (seen.Status != types.EnvironmentStatusTerminated || showsDeleted(e, in)) {
			found = append(found, *seen)
		}
	}
	page, next, err := paged(found, in.MaxRecords, in.NextToken)
	return &eb.DescribeEnvironmentsOutput{Environments: page, NextToken: next}, err
}

func matches(e *types.EnvironmentDescription, in *eb.DescribeEnvironmentsInput) bool {
	return (in.ApplicationName == nil || *in.ApplicationName == *e.ApplicationName) &&
		(in.VersionLabel == nil || *in.VersionLabel == aws.ToString(e.VersionLabel)) &&
		(len(in.EnvironmentIds) == 0 || slices.Contains(in.EnvironmentIds, *e.EnvironmentId)) &&
		(len(in.EnvironmentNames) == 0 || slices.Contains(in.EnvironmentNames, *e.EnvironmentName))
}

func showsDeleted(e *environment, in *eb.DescribeEnvironmentsInput) bool {
	if in.IncludeDeleted != nil && !*in.IncludeDeleted {
		return false
	}
	since := time.Now().Add(-remembered)
	if in.IncludedDeletedBackTo != nil {
		since = *in.IncludedDeletedBackTo
	}
	return e.ended.After(since)
}

// severities in their order: a filter shows its own and all above.
var severities = []types.EventSeverity{types.EventSeverityTrace, types.EventSeverityDebug, types.EventSeverityInfo, types.EventSeverityWarn, types.EventSeverityError, types.EventSeverityFatal}

func describeEvents(c *request, in *eb.DescribeEventsInput) (*eb.DescribeEventsOutput, error) {
	found := []types.EventDescription{}
	for _, ev := range slices.Backward(c.region.beanstalk.events) {
		if !c.settled(ev.at) || !ev.matches(in) {
			continue
		}
		found = append(found, types.EventDescription{
			ApplicationName: text(ev.application), EnvironmentName: text(ev.environment), VersionLabel: text(ev.version), TemplateName: text(ev.tmpl),
			EventDate: aws.Time(ev.at), Message: aws.String(ev.message), Severity: ev.severity, RequestId: text(ev.requestID),
		})
	}
	page, next, err := paged(found, in.MaxRecords, in.NextToken)
	return &eb.DescribeEventsOutput{Events: page, NextToken: next}, err
}

func (ev event) matches(in *eb.DescribeEventsInput) bool {
	is := func(wanted *string, has string) bool { return wanted == nil || *wanted == has }
	return is(in.ApplicationName, ev.application) && is(in.EnvironmentName, ev.environment) && is(in.EnvironmentId, ev.id) &&
		is(in.VersionLabel, ev.version) && is(in.TemplateName, ev.tmpl) && is(in.RequestId, ev.requestID) && in.PlatformArn == nil &&
		(in.Severity == "" || slices.Index(severities, ev.severity) >= slices.Index(severities, in.Severity)) &&
		(in.StartTime == nil || !ev.at.Before(*in.StartTime)) && (in.EndTime == nil || ev.at.Before(*in.EndTime))
}

func terminateEnvironment(c *request, in *eb.TerminateEnvironmentInput) (*eb.TerminateEnvironmentOutput, error) {
	e, err := c.region.beanstalk.ready(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	c.w.terminate(c.region, e)
	out := eb.TerminateEnvironmentOutput{}
	copyFields(&out, e.describe())
	return &out, nil
}

func describeResources(c *request, in *eb.DescribeEnvironmentResourcesInput) (*eb.DescribeEnvironmentResourcesOutput, error) {
	e, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	d := &types.EnvironmentResourceDescription{
		EnvironmentName: &e.name, Instances: []types.Instance{}, LoadBalancers: []types.LoadBalancer{}, Queues: []types.Queue{}, Triggers: []types.Trigger{},
		AutoScalingGroups:    []types.AutoScalingGroup{{Name: aws.String("awseb-" + e.id + "-stack-AWSEBAutoScalingGroup")}},
		LaunchConfigurations: []types.LaunchConfiguration{}, LaunchTemplates: []types.LaunchTemplate{{Id: aws.String("lt-" + strings.TrimPrefix(e.id, "e-"))}},
	}
	for _, i := range e.instances {
		d.Instances = append(d.Instances, types.Instance{Id: aws.String(i.id())})
	}
	if e.balancer != nil {
		d.LoadBalancers = append(d.LoadBalancers, types.LoadBalancer{Name: aws.String(e.balancer.arn)})
	}
	return &eb.DescribeEnvironmentResourcesOutput{EnvironmentResources: d}, nil
}
