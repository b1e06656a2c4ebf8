package awsfake

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// changeSet is one change set. Guarded by World.mu.
type changeSet struct {
	id, name, description string
	kind                  cf.ChangeSetType
	status                cf.ChangeSetStatus
	execution             cf.ExecutionStatus
	reason                string
	created               time.Time
	capabilities          []cf.Capability
	tags                  []cf.Tag
	template              *template
	parameters            map[string]string
	changes               []cf.Change
}

const noChanges = "The submitted information didn't contain changes. Submit different information to create a change set."

var changeSetName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

func createChangeSet(c *request, in *cloudformation.CreateChangeSetInput) (*cloudformation.CreateChangeSetOutput, error) {
	if !changeSetName.MatchString(*in.ChangeSetName) {
		return nil, constraint(*in.ChangeSetName, "changeSetName", "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*")
	}
	s, err := c.findStack(in.StackName)
	kind := in.ChangeSetType
	if kind == "" {
		kind = cf.ChangeSetTypeUpdate
	}
	switch {
	case kind == cf.ChangeSetTypeUpdate && err != nil:
		return nil, refuse("ValidationError", "Stack [%s] does not exist", *in.StackName)
	case kind == cf.ChangeSetTypeUpdate && !s.settled():
		return nil, s.refusesUpdate()
	case kind == cf.ChangeSetTypeCreate && err == nil && s.status != cf.StackStatusReviewInProgress:
		return nil, refuse("ValidationError", "Stack [%s] already exists and cannot be created again with the changeSet [%s].", *in.StackName, *in.ChangeSetName)
	case kind == cf.ChangeSetTypeImport:
		return nil, refuse("ValidationError", "the fake imports nothing")
	}
	before := (*template)(nil)
	var parameters map[string]string
	if s != nil {
		if _, err := s.findChangeSet(in.ChangeSetName); err == nil {
			return nil, refuse("AlreadyExistsException", "ChangeSet %s already exists", *in.ChangeSetName)
		}
		before, parameters = s.template, s.parameters
	}
	set := &changeSet{name: *in.ChangeSetName, kind: kind, created: time.Now(), description: aws.ToString(in.Description), capabilities: in.Capabilities, tags: in.Tags,
		status: cf.ChangeSetStatusCreatePending, execution: cf.ExecutionStatusUnavailable}
	if set.template, err = c.templateOf(in.TemplateBody, in.TemplateURL, in.UsePreviousTemplate, before); err != nil {
		return nil, err
	}
	if set.parameters, err = set.template.given(in.Parameters, parameters); err != nil {
		return nil, err
	}
	if err := set.template.capable(in.Capabilities); err != nil {
		return nil, err
	}
	if s == nil {
		s = c.w.newStack(c.region, *in.StackName)
		s.tags = in.Tags
		c.w.stackEvent(s, cf.ResourceStatus(cf.StackStatusReviewInProgress), "User Initiated")
	}
	set.id = s.globalArn(c.w, "cloudformation", "changeSet/"+set.name+"/"+newUUID())
	s.changeSets = append(s.changeSets, set)
	c.w.later(func(ctx context.Context) { c.w.workOut(ctx, s, set) })
	return &cloudformation.CreateChangeSetOutput{Id: &set.id, StackId: &s.id}, nil
}

// workOut finds what a change set would do, after a while.
func (w *World) workOut(ctx context.Context, s *stack, set *changeSet) {
	if !wait(ctx, w.options.Stack) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	changes, err := w.compare(s, set)
	switch {
	case err != nil:
		set.status, set.reason = cf.ChangeSetStatusFailed, refusalOf(err).Message
	case len(changes) == 0 && set.kind == cf.ChangeSetTypeUpdate && sameTags(s.tags, set.tags):
		set.status, set.reason = cf.ChangeSetStatusFailed, noChanges
	default:
		set.status, set.execution, set.changes = cf.ChangeSetStatusCreateComplete, cf.ExecutionStatusAvailable, changes
	}
}

func sameTags(a, b []cf.Tag) bool {
	byKey := func(tags []cf.Tag) map[string]string {
		found := map[string]string{}
		for _, tag := range tags {
			found[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
		return found
	}
	return maps.Equal(byKey(a), byKey(b))
}

// templateOf reads the template of a call, wherever it is.
func (c *request) templateOf(body, address *string, previous *bool, before *template) (*template, error) {
	switch {
	case aws.ToBool(previous) && before != nil:
		return before, nil
	case body != nil && len(*body) > maxTemplateBody:
		return nil, constraint((*body)[:64], "templateBody", "Member must have length less than or equal to "+strconv.Itoa(maxTemplateBody))
	case body != nil:
		return readTemplate(*body)
	case address != nil:
		text, err := c.w.fetch(*address)
		if err != nil {
			return nil, err
		}
		return readTemplate(text)
	default:
		return nil, refuse("ValidationError", "Either Template URL or Template Body must be specified.")
	}
}

// fetch reads a template from S3, by an address in the virtual-hosted or the path style.
func (w *World) fetch(address string) (string, error) {
	at, err := url.Parse(address)
	if err != nil || !strings.HasSuffix(at.Hostname(), ".amazonaws.com") {
		return "", refuse("ValidationError", "TemplateURL must be a supported URL.")
	}
	bucket, _, virtual := strings.Cut(at.Hostname(), ".s3.")
	key := strings.TrimPrefix(at.Path, "/")
	if !virtual {
		bucket, key, _ = strings.Cut(key, "/")
	}
	raw := w.Object(bucket, key)
	if raw == nil {
		return "", refuse("ValidationError", "S3 error: The specified key does not exist.\nFor more information check http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html")
	}
	return string(raw), nil
}

// given joins the parameters of a call with those before and the template's defaults.
func (t *template) given(given []cf.Parameter, before map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, p := range given {
		name := aws.ToString(p.ParameterKey)
		if _, declared := t.parameters[name]; !declared {
			return nil, refuse("ValidationError", "Parameters: [%s] do not exist in the template", name)
		}
		values[name] = aws.ToString(p.ParameterValue)
		if aws.ToBool(p.UsePreviousValue) {
			values[name] = before[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		if _, said := values[name]; said {
			continue
		}
		if !t.parameters[name].optional {
			return nil, refuse("ValidationError", "Parameters: [%s] must have values", name)
		}
		values[name] = t.parameters[name].fallback
	}
	return values, nil
}

// needed are the capabilities without which the template is refused: it makes identities that may do things.
func (t *template) needed() []cf.Capability {
	need := []cf.Capability{}
	for _, r := range t.resources {
		if !slices.Contains([]string{"AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::InstanceProfile", "AWS::IAM::RolePolicy"}, r.kind) {
			continue
		}
		for _, property := range []string{"RoleName", "ManagedPolicyName", "InstanceProfileName"} {
			if _, named := r.properties[property]; named && r.kind != "AWS::IAM::Policy" && r.kind != "AWS::IAM::RolePolicy" {
				return []cf.Capability{cf.CapabilityCapabilityNamedIam}
			}
		}
		need = []cf.Capability{cf.CapabilityCapabilityIam}
	}
	return need
}

func (t *template) capable(given []cf.Capability) error {
	for _, need := range t.needed() {
		if !slices.Contains(given, need) && !slices.Contains(given, cf.CapabilityCapabilityNamedIam) {
			return refuse("InsufficientCapabilitiesException", "Requires capabilities : [%s]", need)
		}
	}
	return nil
}

// findChangeSet knows the sets of a stack by name and by id.
func (s *stack) findChangeSet(name *string) (*changeSet, error) {
	for _, set := range s.changeSets {
		if set.name == aws.ToString(name) || set.id == aws.ToString(name) {
			return set, nil
		}
	}
	return nil, &apiError{Code: "ChangeSetNotFound", Message: fmt.Sprintf("ChangeSet [%s] does not exist", aws.ToString(name)), HTTP: http.StatusNotFound}
}

// changeSetOf finds a set by its id alone, or by its name and its stack's.
func (c *request) changeSetOf(stackName, name *string) (*stack, *changeSet, error) {
	if stackName == nil {
		for _, s := range c.region.stacks {
			if set, err := s.findChangeSet(name); err == nil && set.id == *name {
				return s, set, nil
			}
		}
		if strings.HasPrefix(*name, "arn:") {
			return nil, nil, &apiError{Code: "ChangeSetNotFound", Message: fmt.Sprintf("ChangeSet [%s] does not exist", *name), HTTP: http.StatusNotFound}
		}
		return nil, nil, refuse("ValidationError", "StackName must be specified if ChangeSetName is not specified as an ARN.")
	}
	s, err := c.findStack(stackName)
	if err != nil {
		return nil, nil, refuse("ValidationError", "Stack [%s] does not exist", *stackName)
	}
	set, err := s.findChangeSet(name)
	return s, set, err
}

func describeChangeSet(c *request, in *cloudformation.DescribeChangeSetInput) (*cloudformation.DescribeChangeSetOutput, error) {
	s, set, err := c.changeSetOf(in.StackName, in.ChangeSetName)
	if err != nil {
		return nil, err
	}
	page, next, err := stackPage(set.changes, in.NextToken, changesAtOnce)
	out := &cloudformation.DescribeChangeSetOutput{ChangeSetId: &set.id, ChangeSetName: &set.name, StackId: &s.id, StackName: &s.name, Description: &set.description,
		CreationTime: &set.created, Status: set.status, ExecutionStatus: set.execution, Changes: page, NextToken: next, Capabilities: set.capabilities, Tags: set.tags,
		IncludeNestedStacks: aws.Bool(false)}
	if set.reason != "" {
		out.StatusReason = aws.String(set.reason)
	}
	for _, name := range slices.Sorted(maps.Keys(set.parameters)) {
		out.Parameters = append(out.Parameters, cf.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(set.parameters[name])})
	}
	return out, err
}

func listChangeSets(c *request, in *cloudformation.ListChangeSetsInput) (*cloudformation.ListChangeSetsOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, refuse("ValidationError", "Stack [%s] does not exist", *in.StackName)
	}
	page, next, err := stackPage(s.changeSets, in.NextToken, changesAtOnce)
	out := &cloudformation.ListChangeSetsOutput{Summaries: []cf.ChangeSetSummary{}, NextToken: next}
	for _, set := range page {
		out.Summaries = append(out.Summaries, cf.ChangeSetSummary{ChangeSetId: &set.id, ChangeSetName: &set.name, CreationTime: &set.created, Description: &set.description,
			Status: set.status, ExecutionStatus: set.execution, StatusReason: aws.String(set.reason), StackId: &s.id, StackName: &s.name})
	}
	return out, err
}

// deleteChangeSet leaves a stack that was never made in REVIEW_IN_PROGRESS, as CloudFormation does.
func deleteChangeSet(c *request, in *cloudformation.DeleteChangeSetInput) (*cloudformation.DeleteChangeSetOutput, error) {
	s, set, err := c.changeSetOf(in.StackName, in.ChangeSetName)
	if err != nil {
		return &cloudformation.DeleteChangeSetOutput{}, nil //nolint:nilerr // deleting what is gone is no error
	}
	if set.execution == cf.ExecutionStatusExecuteInProgress {
		return nil, refuse("InvalidChangeSetStatus", "ChangeSet [%s] cannot be deleted in its current status of [%s]", set.id, set.execution)
	}
	s.changeSets = slices.DeleteFunc(s.changeSets, func(other *changeSet) bool { return other == set })
	return &cloudformation.DeleteChangeSetOutput{}, nil
}

func executeChangeSet(c *request, in *cloudformation.ExecuteChangeSetInput) (*cloudformation.ExecuteChangeSetOutput, error) {
	s, set, err := c.changeSetOf(in.StackName, in.ChangeSetName)
	if err != nil {
		return nil, err
	}
	if set.execution != cf.ExecutionStatusAvailable {
		return nil, refuse("InvalidChangeSetStatus", "ChangeSet [%s] cannot be executed in its current execution status of [%s]", set.id, set.execution)
	}
	if s.status != cf.StackStatusReviewInProgress && !s.settled() {
		return nil, s.refusesUpdate()
	}
	set.execution = cf.ExecutionStatusExecuteInProgress
	s.changeSets = nil // they compare with what will not be so any more
	o := &stackWork{stack: s, next: stackState{template: set.template, parameters: set.parameters, tags: set.tags}, capabilities: set.capabilities,
		retainsExceptOnCreate: aws.ToBool(in.RetainExceptOnCreate), disableRollback: aws.ToBool(in.DisableRollback)}
	c.w.begin(o, aws.ToString(in.ClientRequestToken))
	return &cloudformation.ExecuteChangeSetOutput{}, nil
}

// compare lists what becomes of each resource.
func (w *World) compare(s *stack, set *changeSet) ([]cf.Change, error) {
	p, err := w.prepare(s, stackState{template: set.template, parameters: set.parameters})
	if err != nil {
		return nil, err
	}
	var changes []cf.Change
	for _, id := range slices.Sorted(maps.Keys(p.planned)) {
		if change := p.planned[id]; change.action != "" {
			changes = append(changes, cf.Change{Type: cf.ChangeTypeResource, ResourceChange: change.told()})
		}
	}
	return changes, nil
}
