package awsfake

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// createStack and updateStack are the ways without change sets, which Terraform goes.
func createStack(c *request, in *cloudformation.CreateStackInput) (*cloudformation.CreateStackOutput, error) {
	if s, err := c.findStack(in.StackName); err == nil && s.status != cf.StackStatusDeleteComplete {
		return nil, refuse("AlreadyExistsException", "Stack [%s] already exists", *in.StackName)
	}
	t, err := c.templateOf(in.TemplateBody, in.TemplateURL, nil, nil)
	if err != nil {
		return nil, err
	}
	parameters, err := t.given(in.Parameters, nil)
	if err != nil {
		return nil, err
	}
	if err := t.capable(in.Capabilities); err != nil {
		return nil, err
	}
	s := c.w.newStack(c.region, *in.StackName)
	s.policy, s.protected = aws.ToString(in.StackPolicyBody), aws.ToBool(in.EnableTerminationProtection)
	o := &stackWork{stack: s, next: stackState{template: t, parameters: parameters, tags: in.Tags}, capabilities: in.Capabilities,
		disableRollback: aws.ToBool(in.DisableRollback) || in.OnFailure == cf.OnFailureDoNothing, retainsExceptOnCreate: aws.ToBool(in.RetainExceptOnCreate)}
	c.w.begin(o, aws.ToString(in.ClientRequestToken))
	return &cloudformation.CreateStackOutput{StackId: &s.id}, nil
}

func updateStack(c *request, in *cloudformation.UpdateStackInput) (*cloudformation.UpdateStackOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, refuse("ValidationError", "Stack [%s] does not exist", *in.StackName)
	}
	if !s.settled() {
		return nil, s.refusesUpdate()
	}
	t, err := c.templateOf(in.TemplateBody, in.TemplateURL, in.UsePreviousTemplate, s.template)
	if err != nil {
		return nil, err
	}
	parameters, err := t.given(in.Parameters, s.parameters)
	if err != nil {
		return nil, err
	}
	if err := t.capable(in.Capabilities); err != nil {
		return nil, err
	}
	changes, err := c.w.compare(s, &changeSet{template: t, parameters: parameters})
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 && (in.Tags == nil || sameTags(s.tags, in.Tags)) {
		return nil, refuse("ValidationError", "No updates are to be performed.")
	}
	tags := s.tags
	if in.Tags != nil {
		tags = in.Tags
	}
	if in.StackPolicyBody != nil {
		s.policy = *in.StackPolicyBody
	}
	o := &stackWork{stack: s, next: stackState{template: t, parameters: parameters, tags: tags}, capabilities: in.Capabilities, policy: aws.ToString(in.StackPolicyDuringUpdateBody)}
	s.changeSets = nil
	c.w.begin(o, aws.ToString(in.ClientRequestToken))
	return &cloudformation.UpdateStackOutput{StackId: &s.id}, nil
}

func validateTemplate(c *request, in *cloudformation.ValidateTemplateInput) (*cloudformation.ValidateTemplateOutput, error) {
	t, err := c.templateOf(in.TemplateBody, in.TemplateURL, nil, nil)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ValidateTemplateOutput{Capabilities: t.needed(), Parameters: []cf.TemplateParameter{}}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		p := t.parameters[name]
		out.Parameters = append(out.Parameters, cf.TemplateParameter{ParameterKey: aws.String(name), DefaultValue: aws.String(p.fallback), NoEcho: aws.Bool(p.hidden)})
	}
	return out, nil
}

func getTemplateSummary(c *request, in *cloudformation.GetTemplateSummaryInput) (*cloudformation.GetTemplateSummaryOutput, error) {
	var t *template
	if in.StackName != nil {
		s, err := c.findStack(in.StackName)
		if err != nil {
			return nil, err
		}
		t = s.template
	} else {
		var err error
		if t, err = c.templateOf(in.TemplateBody, in.TemplateURL, nil, nil); err != nil {
			return nil, err
		}
	}
	out := &cloudformation.GetTemplateSummaryOutput{Parameters: []cf.ParameterDeclaration{}, ResourceTypes: []string{}}
	if t == nil {
		return out, nil
	}
	out.Capabilities = t.needed()
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		out.Parameters = append(out.Parameters, cf.ParameterDeclaration{ParameterKey: aws.String(name), ParameterType: aws.String(t.parameters[name].kind), NoEcho: aws.Bool(t.parameters[name].hidden)})
	}
	for _, id := range t.order {
		if kind := t.resources[id].kind; !slices.Contains(out.ResourceTypes, kind) {
			out.ResourceTypes = append(out.ResourceTypes, kind)
		}
	}
	return out, nil
}
