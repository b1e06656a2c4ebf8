package awsfake

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

// beanstalk is Elastic Beanstalk in one region.
type beanstalk struct {
	apps         []*application
	environments []*environment // as created, terminated ones too
	events       []event        // as written
	tags         map[string]map[string]string
	infos        []info
}

func newBeanstalk() beanstalk { return beanstalk{tags: map[string]map[string]string{}} }

type application struct {
	types.ApplicationDescription
	versions  []*types.ApplicationVersionDescription
	templates []*types.ConfigurationSettingsDescription
}

func beanstalkService() *service {
	s := newService("elasticbeanstalk", "http://elasticbeanstalk.amazonaws.com/docs/2010-12-01/", nil)
	addApplications(s)
	addVersions(s)
	addTemplates(s)
	addEnvironments(s)
	addChanges(s)
	addHealth(s)
	addInfo(s)
	addOptions(s)
	addPlatforms(s)
	addTags(s)
	return s
}

func addApplications(s *service) {
	add(s, "CreateApplication", createApplication, "ApplicationName")
	add(s, "DescribeApplications", describeApplications)
	add(s, "UpdateApplication", updateApplication, "ApplicationName")
	add(s, "UpdateApplicationResourceLifecycle", updateLifecycle, "ApplicationName", "ResourceLifecycleConfig")
	add(s, "DeleteApplication", deleteApplication, "ApplicationName")
	add(s, "DescribeAccountAttributes", describeAccountAttributes)
	add(s, "CreateStorageLocation", createStorageLocation)
}

func (b *beanstalk) app(name *string) (*application, error) {
	for _, app := range b.apps {
		if *app.ApplicationName == aws.ToString(name) {
			return app, nil
		}
	}
	return nil, invalid("No Application named '%s' found.", aws.ToString(name))
}

func now() *time.Time { return aws.Time(time.Now().UTC().Truncate(time.Millisecond)) }

func createApplication(c *request, in *eb.CreateApplicationInput) (*eb.CreateApplicationOutput, error) {
	name := *in.ApplicationName
	if err := lengths(name, "applicationName", 1, 100); err != nil {
		return nil, err
	}
	if _, err := c.region.beanstalk.app(&name); err == nil {
		return nil, invalid("Application %s already exists.", name)
	}
	app := &application{ApplicationDescription: types.ApplicationDescription{
		ApplicationName: &name, ApplicationArn: aws.String(c.arn("elasticbeanstalk", "application/"+name)), Description: in.Description,
		DateCreated: now(), DateUpdated: now(), ResourceLifecycleConfig: lifecycleOf(in.ResourceLifecycleConfig),
	}}
	c.region.beanstalk.apps = append(c.region.beanstalk.apps, app)
	c.tag(*app.ApplicationArn, in.Tags)
	c.say(event{application: name, message: "createApplication completed successfully."})
	return &eb.CreateApplicationOutput{Application: app.describe()}, nil
}

// lifecycleOf fills what AWS tells of rules that were not set.
func lifecycleOf(given *types.ApplicationResourceLifecycleConfig) *types.ApplicationResourceLifecycleConfig {
	full := types.ApplicationResourceLifecycleConfig{VersionLifecycleConfig: &types.ApplicationVersionLifecycleConfig{
		MaxAgeRule:   &types.MaxAgeRule{Enabled: aws.Bool(false), MaxAgeInDays: aws.Int32(180), DeleteSourceFromS3: aws.Bool(false)},
		MaxCountRule: &types.MaxCountRule{Enabled: aws.Bool(false), MaxCount: aws.Int32(200), DeleteSourceFromS3: aws.Bool(false)},
	}}
	if given == nil {
		return &full
	}
	full.ServiceRole = given.ServiceRole
	if rules := given.VersionLifecycleConfig; rules != nil && rules.MaxAgeRule != nil {
		full.VersionLifecycleConfig.MaxAgeRule = rules.MaxAgeRule
	}
	if rules := given.VersionLifecycleConfig; rules != nil && rules.MaxCountRule != nil {
		full.VersionLifecycleConfig.MaxCountRule = rules.MaxCountRule
	}
	return &full
}

func (a *application) describe() *types.ApplicationDescription {
	d := a.ApplicationDescription
	d.Versions, d.ConfigurationTemplates = []string{}, []string{}
	for _, v := range slices.Backward(a.versions) {
		d.Versions = append(d.Versions, *v.VersionLabel)
	}
	for _, t := range a.templates {
		d.ConfigurationTemplates = append(d.ConfigurationTemplates, *t.TemplateName)
	}
	return &d
}

func describeApplications(c *request, in *eb.DescribeApplicationsInput) (*eb.DescribeApplicationsOutput, error) {
	out := &eb.DescribeApplicationsOutput{Applications: []types.ApplicationDescription{}}
	for _, app := range c.region.beanstalk.apps {
		if len(in.ApplicationNames) == 0 || slices.Contains(in.ApplicationNames, *app.ApplicationName) {
			out.Applications = append(out.Applications, *app.describe())
		}
	}
	return out, nil
}

func updateApplication(c *request, in *eb.UpdateApplicationInput) (*eb.UpdateApplicationOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	if in.Description != nil {
		app.Description = in.Description
	}
	app.DateUpdated = now()
	return &eb.UpdateApplicationOutput{Application: app.describe()}, nil
}

func updateLifecycle(c *request, in *eb.UpdateApplicationResourceLifecycleInput) (*eb.UpdateApplicationResourceLifecycleOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	app.ResourceLifecycleConfig = lifecycleOf(in.ResourceLifecycleConfig)
	return &eb.UpdateApplicationResourceLifecycleOutput{ApplicationName: in.ApplicationName, ResourceLifecycleConfig: app.ResourceLifecycleConfig}, nil
}

func deleteApplication(c *request, in *eb.DeleteApplicationInput) (*eb.DeleteApplicationOutput, error) {
	b := &c.region.beanstalk
	app, err := b.app(in.ApplicationName)
	if err != nil {
		return &eb.DeleteApplicationOutput{}, nil //nolint:nilerr // deleting what is gone is no error
	}
	for _, env := range b.environments {
		if env.app != *app.ApplicationName || env.status == types.EnvironmentStatusTerminated {
			continue
		}
		if !aws.ToBool(in.TerminateEnvByForce) {
			return nil, invalid("Unable to delete application %s because it has a version that is deployed to a running environment.", env.app)
		}
		c.w.terminate(c.region, env)
	}
	b.apps = slices.DeleteFunc(b.apps, func(a *application) bool { return a == app })
	c.say(event{application: *app.ApplicationName, message: "deleteApplication completed successfully."})
	return &eb.DeleteApplicationOutput{}, nil
}

// The quotas that a new account has, by AWS's page of endpoints and quotas for Elastic Beanstalk.
const (
	applicationQuota = 75
	versionQuota     = 1000
	templateQuota    = 2000
	environmentQuota = 200
	platformQuota    = 50
)

func describeAccountAttributes(c *request, _ *eb.DescribeAccountAttributesInput) (*eb.DescribeAccountAttributesOutput, error) {
	quota := func(n int32) *types.ResourceQuota { return &types.ResourceQuota{Maximum: &n} }
	limit := func(name string, usual int) *types.ResourceQuota { return quota(int32(c.w.quota(name, usual))) }
	return &eb.DescribeAccountAttributesOutput{ResourceQuotas: &types.ResourceQuotas{
		ApplicationQuota: quota(applicationQuota), ApplicationVersionQuota: limit("ApplicationVersions", versionQuota), ConfigurationTemplateQuota: quota(templateQuota),
		CustomPlatformQuota: quota(platformQuota), EnvironmentQuota: limit("Environments", environmentQuota),
	}}, nil
}

func createStorageLocation(c *request, _ *eb.CreateStorageLocationInput) (*eb.CreateStorageLocationOutput, error) {
	bucket := "elasticbeanstalk-" + c.region.name + "-" + c.w.options.Account
	c.w.storage(bucket)
	return &eb.CreateStorageLocationOutput{S3Bucket: &bucket}, nil
}

// lengths is how AWS refuses names that are too short or too long.
func lengths(value, member string, least, most int) error {
	switch {
	case len(value) < least:
		return constraint(value, member, "Member must have length greater than or equal to "+itoa(least))
	case len(value) > most:
		return constraint(value, member, "Member must have length less than or equal to "+itoa(most))
	}
	return nil
}
