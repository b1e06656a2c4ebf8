package awsfake

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addPlatforms(s *service) {
	add(s, "ListAvailableSolutionStacks", listStacks)
	add(s, "ListPlatformVersions", listPlatforms)
	add(s, "ListPlatformBranches", listBranches)
	add(s, "DescribePlatformVersion", describePlatform)
}

// platform is one platform version. Which there are is made up after AWS's list of November 2026; a client that takes the
// newest of its branch must not mind.
type platform struct {
	branch, version, os, state string // state of the branch
	stack, arn                 string
}

func newPlatform(region, branch, version, state string) *platform {
	kind, _, _ := strings.Cut(branch, " running on ")
	return &platform{
		branch: branch, version: version, os: "64bit Amazon Linux 2023", state: state,
		stack: "64bit Amazon Linux 2023 v" + version + " running " + kind,
		arn:   "arn:aws:elasticbeanstalk:" + region + "::platform/" + branch + "/" + version,
	}
}

// platforms of a region, the newest version of a branch first.
func platforms(region string) []*platform {
	p := func(branch, version, state string) *platform { return newPlatform(region, branch, version, state) }
	return []*platform{
		p("Node.js 24 running on 64bit Amazon Linux 2023", "6.8.1", "Supported"),
		p("Node.js 24 running on 64bit Amazon Linux 2023", "6.8.0", "Supported"),
		p("Node.js 22 running on 64bit Amazon Linux 2023", "6.8.1", "Supported"),
		p("Node.js 20 running on 64bit Amazon Linux 2023", "6.6.5", "Deprecated"),
		p("Go 1 running on 64bit Amazon Linux 2023", "4.5.1", "Supported"),
		p("Go 1 running on 64bit Amazon Linux 2023", "4.5.0", "Supported"),
		p("Docker running on 64bit Amazon Linux 2023", "4.8.0", "Supported"),
		p("Python 3.14 running on 64bit Amazon Linux 2023", "4.9.0", "Supported"),
	}
}

func (p *platform) name() string {
	kind, _, _ := strings.Cut(p.branch, " ")
	return kind
}

func (c *request) findPlatform(stack, arn *string) (*platform, error) {
	if stack != nil && slices.Contains(c.w.options.Stacks, *stack) {
		p := newPlatform(c.region.name, "Retired", "1.0.0", "Retired")
		p.stack = *stack
		return p, nil
	}
	return findPlatform(c.region.name, stack, arn)
}

func findPlatform(region string, stack, arn *string) (*platform, error) {
	for _, p := range platforms(region) {
		if stack != nil && p.stack == *stack || arn != nil && p.arn == *arn {
			return p, nil
		}
	}
	switch {
	case stack != nil:
		return nil, invalid("No Solution Stack named '%s' found.", *stack)
	case arn != nil:
		return nil, invalid("No Platform named '%s' found.", *arn)
	}
	return nil, invalid("A solution stack, a platform ARN or a template must be specified.") // ours
}

func listStacks(c *request, _ *eb.ListAvailableSolutionStacksInput) (*eb.ListAvailableSolutionStacksOutput, error) {
	out := &eb.ListAvailableSolutionStacksOutput{}
	for _, p := range platforms(c.region.name) {
		out.SolutionStacks = append(out.SolutionStacks, p.stack)
		out.SolutionStackDetails = append(out.SolutionStackDetails, types.SolutionStackDescription{SolutionStackName: aws.String(p.stack), PermittedFileTypes: []string{"zip"}})
	}
	out.SolutionStacks = append(out.SolutionStacks, c.w.options.Stacks...)
	return out, nil
}

// attribute is what a PlatformFilter or SearchFilter asks about.
func (p *platform) attribute(name string) string {
	return map[string]string{
		"PlatformName": p.branch, "PlatformVersion": p.version, "PlatformStatus": "Ready", "PlatformBranchName": p.branch, "BranchName": p.branch,
		"PlatformLifecycleState": "", "PlatformOwner": "AWSElasticBeanstalk", "SupportedTier": "WebServer/Standard", "LifecycleState": p.state,
		"OperatingSystemName": "Amazon Linux", "ProgrammingLanguageName": p.name(), "SolutionStackName": p.stack, "TierType": "WebServer",
	}[name]
}

// filterFits is one filter against one value, by the operators of PlatformFilter and SearchFilter.
func filterFits(operator, value string, wanted []string) bool {
	some := func(fits func(value, wanted string) bool) bool {
		return slices.ContainsFunc(wanted, func(w string) bool { return fits(value, w) })
	}
	switch operator {
	case "!=", "not_equals":
		return !slices.Contains(wanted, value)
	case "contains":
		return some(strings.Contains)
	case "begins_with":
		return some(strings.HasPrefix)
	case "ends_with":
		return some(strings.HasSuffix)
	case "<", "less_than":
		return some(func(v, w string) bool { return v < w })
	case ">", "greater_than":
		return some(func(v, w string) bool { return v > w })
	default:
		return slices.Contains(wanted, value)
	}
}

func listPlatforms(c *request, in *eb.ListPlatformVersionsInput) (*eb.ListPlatformVersionsOutput, error) {
	found := []types.PlatformSummary{}
	for _, p := range platforms(c.region.name) {
		fits := true
		for _, f := range in.Filters {
			value := p.attribute(aws.ToString(f.Type))
			// "latest" asks for the newest version of each branch.
			if aws.ToString(f.Type) == "PlatformVersion" && slices.Contains(f.Values, "latest") {
				fits = fits && newestOf(c.region.name, p.branch) == p.version
				continue
			}
			fits = fits && filterFits(aws.ToString(f.Operator), value, f.Values)
		}
		if fits {
			found = append(found, p.summary())
		}
	}
	page, next, err := paged(found, in.MaxRecords, in.NextToken)
	return &eb.ListPlatformVersionsOutput{PlatformSummaryList: page, NextToken: next}, err
}

func newestOf(region, branch string) string {
	for _, p := range platforms(region) {
		if p.branch == branch {
			return p.version
		}
	}
	return ""
}

func (p *platform) summary() types.PlatformSummary {
	return types.PlatformSummary{
		PlatformArn: aws.String(p.arn), PlatformBranchName: aws.String(p.branch), PlatformBranchLifecycleState: aws.String(p.state), PlatformVersion: aws.String(p.version),
		PlatformCategory: aws.String(p.name()), PlatformOwner: aws.String("AWSElasticBeanstalk"), PlatformStatus: types.PlatformStatusReady,
		OperatingSystemName: aws.String("Amazon Linux"), OperatingSystemVersion: aws.String("2023"),
		SupportedTierList: []string{"WebServer/Standard", "Worker/SQS/HTTP"}, SupportedAddonList: []string{"Log/S3", "Monitoring/Healthd"},
	}
}

func listBranches(c *request, in *eb.ListPlatformBranchesInput) (*eb.ListPlatformBranchesOutput, error) {
	found := []types.PlatformBranchSummary{}
	for i, p := range platforms(c.region.name) {
		if p.version != newestOf(c.region.name, p.branch) {
			continue
		}
		fits := true
		for _, f := range in.Filters {
			fits = fits && filterFits(aws.ToString(f.Operator), p.attribute(aws.ToString(f.Attribute)), f.Values)
		}
		if fits {
			found = append(found, types.PlatformBranchSummary{
				BranchName: aws.String(p.branch), BranchOrder: int32(1000 - i), LifecycleState: aws.String(p.state), PlatformName: aws.String(p.name()),
				SupportedTierList: []string{"WebServer/Standard", "Worker/SQS/HTTP"},
			})
		}
	}
	page, next, err := paged(found, in.MaxRecords, in.NextToken)
	return &eb.ListPlatformBranchesOutput{PlatformBranchSummaryList: page, NextToken: next}, err
}

func describePlatform(c *request, in *eb.DescribePlatformVersionInput) (*eb.DescribePlatformVersionOutput, error) {
	p, err := findPlatform(c.region.name, nil, in.PlatformArn)
	if err != nil {
		return nil, err
	}
	d := types.PlatformDescription{PlatformName: aws.String(p.branch), SolutionStackName: aws.String(p.stack), Maintainer: aws.String("AWSElasticBeanstalk"), DateCreated: now(), DateUpdated: now()}
	copyFields(&d, p.summary())
	return &eb.DescribePlatformVersionOutput{PlatformDescription: &d}, nil
}
