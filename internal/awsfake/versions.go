package awsfake

import (
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func itoa(i int) string { return strconv.Itoa(i) }

func addVersions(s *service) {
	add(s, "CreateApplicationVersion", createVersion, "ApplicationName", "VersionLabel")
	add(s, "DescribeApplicationVersions", describeVersions)
	add(s, "UpdateApplicationVersion", updateVersion, "ApplicationName", "VersionLabel")
	add(s, "DeleteApplicationVersion", deleteVersion, "ApplicationName", "VersionLabel")
}

func (a *application) version(label *string) (*types.ApplicationVersionDescription, error) {
	for _, v := range a.versions {
		if *v.VersionLabel == aws.ToString(label) {
			return v, nil
		}
	}
	return nil, invalid("No Application Version named '%s' found.", aws.ToString(label))
}

func createVersion(c *request, in *eb.CreateApplicationVersionInput) (*eb.CreateApplicationVersionOutput, error) {
	b := &c.region.beanstalk
	if err := lengths(*in.VersionLabel, "versionLabel", 1, 100); err != nil {
		return nil, err
	}
	if _, err := b.app(in.ApplicationName); err != nil && aws.ToBool(in.AutoCreateApplication) {
		if _, err := createApplication(c, &eb.CreateApplicationInput{ApplicationName: in.ApplicationName}); err != nil {
			return nil, err
		}
	}
	app, err := b.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	if _, err := app.version(in.VersionLabel); err == nil {
		return nil, invalid("Application Version %s already exists.", *in.VersionLabel)
	}
	if b.countVersions() >= c.w.quota("ApplicationVersions", versionQuota) {
		return nil, refuse("TooManyApplicationVersionsException", "You cannot have more than %d Application Versions. Either remove some Application Versions or request a limit increase.", c.w.quota("ApplicationVersions", versionQuota))
	}
	bundle, err := c.bundle(in.SourceBundle)
	if err != nil {
		return nil, err
	}
	v := &types.ApplicationVersionDescription{
		ApplicationName: app.ApplicationName, VersionLabel: in.VersionLabel, Description: in.Description, SourceBundle: bundle,
		ApplicationVersionArn: aws.String(c.arn("elasticbeanstalk", "applicationversion/"+*app.ApplicationName+"/"+*in.VersionLabel)),
		DateCreated:           now(), DateUpdated: now(), Status: types.ApplicationVersionStatusUnprocessed, SourceBuildInformation: in.SourceBuildInformation,
	}
	if aws.ToBool(in.Process) {
		v.Status = types.ApplicationVersionStatusProcessed
	}
	app.versions = append(app.versions, v)
	c.tag(*v.ApplicationVersionArn, in.Tags)
	return &eb.CreateApplicationVersionOutput{ApplicationVersion: v}, nil
}

func (b *beanstalk) countVersions() (n int) {
	for _, app := range b.apps {
		n += len(app.versions)
	}
	return n
}

// largestBundle is what Beanstalk takes (Developer Guide, "Create an application source bundle"): 500 MB.
const largestBundle = 500 << 20

// bundle checks that a source bundle is there and not too large. Without one it is the sample application.
func (c *request) bundle(at *types.S3Location) (*types.S3Location, error) {
	if at == nil || at.S3Bucket == nil {
		return &types.S3Location{S3Bucket: aws.String("elasticbeanstalk-samples-" + c.region.name), S3Key: aws.String("sample.zip")}, nil
	}
	if c.w.options.NoBundles {
		return at, nil
	}
	size, there := c.w.objects.size(*at.S3Bucket, aws.ToString(at.S3Key))
	if !there || c.w.foreign[*at.S3Bucket] {
		return nil, invalid("Unable to download from S3 location (Bucket: %s  Key: %s). Reason: Not Found", *at.S3Bucket, aws.ToString(at.S3Key))
	}
	if most := c.w.quota("BundleBytes", largestBundle); size > int64(most) {
		return nil, invalid("Source bundle is too large: it must be %d bytes or smaller.", most) // ours
	}
	return at, nil
}

func describeVersions(c *request, in *eb.DescribeApplicationVersionsInput) (*eb.DescribeApplicationVersionsOutput, error) {
	var found []types.ApplicationVersionDescription
	for _, app := range c.region.beanstalk.apps {
		if in.ApplicationName != nil && *in.ApplicationName != *app.ApplicationName {
			continue
		}
		for _, v := range slices.Backward(app.versions) {
			if c.settled(*v.DateCreated) && (len(in.VersionLabels) == 0 || slices.Contains(in.VersionLabels, *v.VersionLabel)) {
				found = append(found, *v)
			}
		}
	}
	page, next, err := paged(found, in.MaxRecords, in.NextToken)
	return &eb.DescribeApplicationVersionsOutput{ApplicationVersions: page, NextToken: next}, err
}

// settled is false for what is younger than the World's lag.
func (c *request) settled(at time.Time) bool { return !at.After(time.Now().Add(-c.w.lag)) }

// paged cuts out one page. Without a limit everything is on the first.
func paged[T any](all []T, limit *int32, token *string) ([]T, *string, error) {
	from := 0
	if token != nil {
		var err error
		if from, err = strconv.Atoi(*token); err != nil || from < 0 || from > len(all) {
			return nil, nil, invalid("The NextToken is not valid.")
		}
	}
	rest := append([]T{}, all[from:]...)
	if limit == nil || *limit <= 0 || len(rest) <= int(*limit) {
		return rest, nil, nil
	}
	return rest[:*limit], aws.String(itoa(from + int(*limit))), nil
}

func updateVersion(c *request, in *eb.UpdateApplicationVersionInput) (*eb.UpdateApplicationVersionOutput, error) {
	app, err := c.region.beanstalk.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	v, err := app.version(in.VersionLabel)
	if err != nil {
		return nil, err
	}
	if in.Description != nil {
		v.Description = in.Description
	}
	v.DateUpdated = now()
	return &eb.UpdateApplicationVersionOutput{ApplicationVersion: v}, nil
}

func deleteVersion(c *request, in *eb.DeleteApplicationVersionInput) (*eb.DeleteApplicationVersionOutput, error) {
	b := &c.region.beanstalk
	app, err := b.app(in.ApplicationName)
	if err != nil {
		return nil, err
	}
	v, err := app.version(in.VersionLabel)
	if err != nil {
		return &eb.DeleteApplicationVersionOutput{}, nil //nolint:nilerr // deleting what is gone is no error
	}
	for _, env := range b.environments {
		if env.app == *app.ApplicationName && env.version == *v.VersionLabel && env.status != types.EnvironmentStatusTerminated {
			return nil, refuse("SourceBundleDeletionException", "Unable to delete application version '%s' because it is deployed to the environment '%s'.", env.version, env.name) // words ours
		}
	}
	if aws.ToBool(in.DeleteSourceBundle) {
		c.w.objects.remove(*v.SourceBundle.S3Bucket, *v.SourceBundle.S3Key)
	}
	app.versions = slices.DeleteFunc(app.versions, func(other *types.ApplicationVersionDescription) bool { return other == v })
	return &eb.DeleteApplicationVersionOutput{}, nil
}
