package awsfake

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addTemplates(s *service) {
	add(s, "CreateConfigurationTemplate", createTemplate, "ApplicationName", "TemplateName")
	add(s, "UpdateConfigurationTemplate", updateTemplate, "ApplicationName", "TemplateName")
	add(s, "DeleteConfigurationTemplate", deleteTemplate, "ApplicationName", "TemplateName")
	add(s, "DeleteEnvironmentConfiguration", deleteDraft, "ApplicationName", "EnvironmentName")
}

func (a *application) templateNamed(name *string) (*types.ConfigurationSettingsDescription, error) {
	for _, t := range a.templates {
		if *t.TemplateName == aws.ToString(name) {
			return t, nil
		}
	}
	return nil, invalid("No Configuration Template named '%s/%s' found.", *a.ApplicationName, aws.ToString(name))
}

func createTemplate(c *request, in *eb.CreateConfigurationTemplateInput) (*eb.CreateConfigurationTemplateOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	if _, err := app.templateNamed(in.TemplateName); err == nil {
		return nil, invalid("Configuration Template %s already exists.", *in.TemplateName)
	}
	p, base, err := c.templateBase(in)
	if err != nil {
		return nil, err
	}
	options, err := base.with(in.OptionSettings, nil)
	if err != nil {
		return nil, err
	}
	t := &types.ConfigurationSettingsDescription{
		ApplicationName: app.ApplicationName, TemplateName: in.TemplateName, Description: in.Description, SolutionStackName: &p.stack, PlatformArn: &p.arn,
		DateCreated: now(), DateUpdated: now(), OptionSettings: options.sorted(),
	}
	app.templates = append(app.templates, t)
	c.tag(c.arn("elasticbeanstalk", "configurationtemplate/"+*app.ApplicationName+"/"+*in.TemplateName), in.Tags)
	out := &eb.CreateConfigurationTemplateOutput{}
	copyFields(out, *t)
	return out, nil
}

// templateBase is what a template begins with: an environment, another template, or a platform.
func (c *request) templateBase(in *eb.CreateConfigurationTemplateInput) (*platform, optionSet, error) {
	switch {
	case in.EnvironmentId != nil:
		e, err := c.region.beanstalk.live(in.EnvironmentId, nil)
		if err != nil {
			return nil, nil, err
		}
		return e.platform, e.options, nil
	case in.SourceConfiguration != nil:
		app, err := c.region.beanstalk.app(in.SourceConfiguration.ApplicationName)
		if err != nil {
			return nil, nil, err
		}
		source, err := app.templateNamed(in.SourceConfiguration.TemplateName)
		if err != nil {
			return nil, nil, err
		}
		p, err := c.findPlatform(source.SolutionStackName, nil)
		if err != nil {
			return nil, nil, err
		}
		options, err := optionSet{}.with(source.OptionSettings, nil)
		return p, options, err
	}
	p, err := c.findPlatform(in.SolutionStackName, in.PlatformArn)
	return p, defaultOptions(), err
}

func updateTemplate(c *request, in *eb.UpdateConfigurationTemplateInput) (*eb.UpdateConfigurationTemplateOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	t, err := app.templateNamed(in.TemplateName)
	if err != nil {
		return nil, err
	}
	old, err := optionSet{}.with(withValues(t.OptionSettings), nil)
	if err != nil {
		return nil, err
	}
	options, err := old.with(in.OptionSettings, in.OptionsToRemove)
	if err != nil {
		return nil, err
	}
	t.OptionSettings, t.DateUpdated = options.sorted(), now()
	if in.Description != nil {
		t.Description = in.Description
	}
	out := &eb.UpdateConfigurationTemplateOutput{}
	copyFields(out, *t)
	return out, nil
}

// withValues leaves out what has no value, which as a setting would be judged as an empty one.
func withValues(settings []types.ConfigurationOptionSetting) []types.ConfigurationOptionSetting {
	return slices.DeleteFunc(slices.Clone(settings), func(s types.ConfigurationOptionSetting) bool { return s.Value == nil })
}

func deleteTemplate(c *request, in *eb.DeleteConfigurationTemplateInput) (*eb.DeleteConfigurationTemplateOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	app.templates = slices.DeleteFunc(app.templates, func(t *types.ConfigurationSettingsDescription) bool { return *t.TemplateName == *in.TemplateName })
	return &eb.DeleteConfigurationTemplateOutput{}, nil
}

// deleteDraft: drafts of configurations are not kept by the fake, so there is never one to delete.
func deleteDraft(c *request, in *eb.DeleteEnvironmentConfigurationInput) (*eb.DeleteEnvironmentConfigurationOutput, error) {
	_, err := c.region.beanstalk.app(in.ApplicationName)
	return &eb.DeleteEnvironmentConfigurationOutput{}, err
}
