package awsfake

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

func noStack(name string) error {
	return refuse("ValidationError", "Stack with id %s does not exist", name)
}

// findStack knows stacks by their names, and by their ids also when they are deleted.
func (c *request) findStack(name *string) (*stack, error) {
	wanted := aws.ToString(name)
	if s, there := c.region.stacks[wanted]; there {
		return s, nil
	}
	for _, s := range slices.Concat(slices.Collect(maps.Values(c.region.stacks)), c.w.formation.deleted) {
		if s.id == wanted && s.region == c.region.name {
			return s, nil
		}
	}
	return nil, noStack(wanted)
}

// settled are the states in which a stack takes an update.
func (s *stack) settled() bool {
	return slices.Contains([]cf.StackStatus{cf.StackStatusCreateComplete, cf.StackStatusUpdateComplete, cf.StackStatusUpdateRollbackComplete, cf.StackStatusImportComplete}, s.status)
}

func (s *stack) working() bool {
	return strings.HasSuffix(string(s.status), "_IN_PROGRESS") && s.status != cf.StackStatusReviewInProgress
}

func (s *stack) refusesUpdate() error {
	return refuse("ValidationError", "Stack:%s is in %s state and can not be updated.", s.id, s.status)
}

func describeStacks(c *request, in *cloudformation.DescribeStacksInput) (*cloudformation.DescribeStacksOutput, error) {
	if in.StackName == nil {
		out := &cloudformation.DescribeStacksOutput{Stacks: []cf.Stack{}}
		for _, name := range slices.Sorted(maps.Keys(c.region.stacks)) {
			out.Stacks = append(out.Stacks, c.region.stacks[name].described())
		}
		return out, nil
	}
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	return &cloudformation.DescribeStacksOutput{Stacks: []cf.Stack{s.described()}}, nil
}

func (s *stack) described() cf.Stack {
	d := cf.Stack{
		StackId: &s.id, StackName: &s.name, StackStatus: s.status, CreationTime: aws.Time(s.created), EnableTerminationProtection: aws.Bool(s.protected),
		Capabilities: s.capabilities, Tags: append([]cf.Tag{}, s.tags...), Outputs: s.outputs, DisableRollback: aws.Bool(false),
		DriftInformation: &cf.StackDriftInformation{StackDriftStatus: s.drift}, RollbackConfiguration: &cf.RollbackConfiguration{}, NotificationARNs: []string{},
	}
	if s.reason != "" {
		d.StackStatusReason = aws.String(s.reason)
	}
	if !s.updated.IsZero() {
		d.LastUpdatedTime = aws.Time(s.updated)
	}
	if !s.deleted.IsZero() {
		d.DeletionTime = aws.Time(s.deleted)
	}
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		value := s.parameters[name]
		if s.template != nil && s.template.parameters[name].hidden {
			value = "****"
		}
		d.Parameters = append(d.Parameters, cf.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(value)})
	}
	return d
}

func listFormations(c *request, in *cloudformation.ListStacksInput) (*cloudformation.ListStacksOutput, error) {
	out := &cloudformation.ListStacksOutput{StackSummaries: []cf.StackSummary{}}
	for _, s := range slices.Concat(slices.Collect(maps.Values(c.region.stacks)), c.w.formation.deleted) {
		if s.region == c.region.name && (len(in.StackStatusFilter) == 0 || slices.Contains(in.StackStatusFilter, s.status)) {
			out.StackSummaries = append(out.StackSummaries, cf.StackSummary{StackId: &s.id, StackName: &s.name, StackStatus: s.status, CreationTime: aws.Time(s.created)})
		}
	}
	return out, nil
}

// How many things AWS gives at once.
const (
	eventsAtOnce    = 100
	changesAtOnce   = 25
	resourcesAtOnce = 100
)

// describeStackEvents gives the newest first, a page at a time.
func describeStackEvents(c *request, in *cloudformation.DescribeStackEventsInput) (*cloudformation.DescribeStackEventsOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, refuse("ValidationError", "Stack [%s] does not exist", aws.ToString(in.StackName))
	}
	all := slices.Clone(s.events)
	slices.Reverse(all)
	page, next, err := stackPage(all, in.NextToken, eventsAtOnce)
	return &cloudformation.DescribeStackEventsOutput{StackEvents: page, NextToken: next}, err
}

// stackPage is a page of all that begins where token says.
func stackPage[T any](all []T, token *string, size int) ([]T, *string, error) {
	from := 0
	if token != nil {
		at, err := strconv.Atoi(strings.TrimPrefix(*token, "from-"))
		if err != nil || at > len(all) {
			return nil, nil, refuse("ValidationError", "The specified token is invalid") // ours
		}
		from = at
	}
	to := min(from+size, len(all))
	var next *string
	if to < len(all) {
		next = aws.String("from-" + strconv.Itoa(to))
	}
	return append([]T{}, all[from:to]...), next, nil
}

func describeStackResources(c *request, in *cloudformation.DescribeStackResourcesInput) (*cloudformation.DescribeStackResourcesOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.DescribeStackResourcesOutput{StackResources: []cf.StackResource{}}
	for _, r := range s.sorted() {
		if in.LogicalResourceId == nil || *in.LogicalResourceId == r.id {
			out.StackResources = append(out.StackResources, cf.StackResource{LogicalResourceId: &r.id, PhysicalResourceId: aws.String(r.physical), ResourceType: &r.kind,
				ResourceStatus: r.status, ResourceStatusReason: aws.String(r.reason), Timestamp: aws.Time(r.at), StackId: &s.id, StackName: &s.name})
		}
	}
	return out, nil
}

func describeStackResource(c *request, in *cloudformation.DescribeStackResourceInput) (*cloudformation.DescribeStackResourceOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	r, there := s.resources[*in.LogicalResourceId]
	if !there {
		return nil, refuse("ValidationError", "Resource %s does not exist for stack %s", *in.LogicalResourceId, s.name)
	}
	return &cloudformation.DescribeStackResourceOutput{StackResourceDetail: &cf.StackResourceDetail{LogicalResourceId: &r.id, PhysicalResourceId: aws.String(r.physical),
		ResourceType: &r.kind, ResourceStatus: r.status, LastUpdatedTimestamp: aws.Time(r.at), StackId: &s.id, StackName: &s.name}}, nil
}

func listStackResources(c *request, in *cloudformation.ListStackResourcesInput) (*cloudformation.ListStackResourcesOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	page, next, err := stackPage(s.sorted(), in.NextToken, resourcesAtOnce)
	out := &cloudformation.ListStackResourcesOutput{StackResourceSummaries: []cf.StackResourceSummary{}, NextToken: next}
	for _, r := range page {
		out.StackResourceSummaries = append(out.StackResourceSummaries, cf.StackResourceSummary{LogicalResourceId: &r.id, PhysicalResourceId: aws.String(r.physical),
			ResourceType: &r.kind, ResourceStatus: r.status, LastUpdatedTimestamp: aws.Time(r.at)})
	}
	return out, err
}

func (s *stack) sorted() (all []*stackResource) {
	for _, id := range slices.Sorted(maps.Keys(s.resources)) {
		all = append(all, s.resources[id])
	}
	return all
}

func updateTerminationProtection(c *request, in *cloudformation.UpdateTerminationProtectionInput) (*cloudformation.UpdateTerminationProtectionOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	s.protected = *in.EnableTerminationProtection
	return &cloudformation.UpdateTerminationProtectionOutput{StackId: &s.id}, nil
}

func setStackPolicy(c *request, in *cloudformation.SetStackPolicyInput) (*cloudformation.SetStackPolicyOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	policy, err := readPolicy(aws.ToString(in.StackPolicyBody))
	if err != nil {
		return nil, refuse("ValidationError", "Error validating stack policy: %v", err) // ours
	}
	if s.working() || s.status == cf.StackStatusReviewInProgress {
		return nil, refuse("ValidationError", "Stack [%s] is in %s state and its policy cannot be set", s.name, s.status) // ours
	}
	if unknown := s.unknownIn(policy); unknown != "" {
		return nil, refuse("ValidationError", "Error validating stack policy: Unknown logical id '%s' in statement {} - stack policies can only be applied to logical ids referenced in the template", unknown)
	}
	s.policy = aws.ToString(in.StackPolicyBody)
	return &cloudformation.SetStackPolicyOutput{}, nil
}

// unknownIn is the first resource of a policy that the stack does not have.
func (s *stack) unknownIn(policy stackPolicy) string {
	for _, statement := range policy.Statement {
		for _, name := range texts(append(list(statement.Resource), list(statement.NotResource)...)) {
			id, exact := strings.CutPrefix(name, "LogicalResourceId/")
			if _, there := s.resources[id]; exact && !there && !strings.Contains(id, "*") {
				return name
			}
		}
	}
	return ""
}

func getStackPolicy(c *request, in *cloudformation.GetStackPolicyInput) (*cloudformation.GetStackPolicyOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.GetStackPolicyOutput{}
	if s.policy != "" {
		out.StackPolicyBody = aws.String(s.policy)
	}
	return out, nil
}

func getTemplate(c *request, in *cloudformation.GetTemplateInput) (*cloudformation.GetTemplateOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.GetTemplateOutput{StagesAvailable: []cf.TemplateStage{cf.TemplateStageOriginal, cf.TemplateStageProcessed}, TemplateBody: aws.String("")}
	from := s.template
	if in.ChangeSetName != nil {
		set, err := s.findChangeSet(in.ChangeSetName)
		if err != nil {
			return nil, err
		}
		from = set.template
	}
	if from != nil {
		out.TemplateBody = &from.text
	}
	return out, nil
}
