package aws

import (
	"context"
	"fmt"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// versionsKept is how many application versions a stage keeps that no environment has any more.
const versionsKept = 5

func (e *Engine) versionNote() string { return "lotse " + e.key() }

// publish makes the application version of a rollout: its bundle is uploaded where the bucket has not got it.
func (e *Engine) publish(ctx context.Context, o deploy.Order, s *stack) error {
	b, err := e.bundle(ctx, o, s)
	if err != nil {
		return err
	}
	defer b.remove()
	if err := e.upload(ctx, b, s); err != nil {
		return err
	}
	label, key := e.versionLabel(o.Rollout), b.key()
	_, err = e.api.eb.CreateApplicationVersion(ctx, &eb.CreateApplicationVersionInput{ApplicationName: &s.application, VersionLabel: &label,
		SourceBundle: &types.S3Location{S3Bucket: &s.releases, S3Key: &key}, AutoCreateApplication: sdk.Bool(false),
		Description: sdk.String(e.versionNote()), Tags: beanstalkTags(e.labelsOf(o))})
	if !says(err, "already exists") {
		return err
	}
	// An earlier try has made it, of these bytes or of others.
	there, err := e.api.eb.DescribeApplicationVersions(ctx, &eb.DescribeApplicationVersionsInput{ApplicationName: &s.application, VersionLabels: []string{label}})
	if err != nil {
		return err
	}
	if v := there.ApplicationVersions; len(v) == 1 && v[0].SourceBundle != nil && sdk.ToString(v[0].SourceBundle.S3Key) == key {
		return nil
	}
	return deploy.Hint(fmt.Errorf("%w: there is an application version %s with another bundle", deploy.ErrRefused, label), "delete it in the console of Elastic Beanstalk")
}

// upload brings a bundle into the bucket. Its key is its digest: what is there is the same.
func (e *Engine) upload(ctx context.Context, b *bundle, s *stack) error {
	key := b.key()
	_, err := e.api.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.releases, Key: &key, ExpectedBucketOwner: &s.account})
	if err == nil {
		return nil
	}
	if !coded(err, "NotFound", "NoSuchKey") {
		return err
	}
	if _, err := b.file.Seek(0, 0); err != nil {
		return err
	}
	begun := time.Now()
	_, err = e.api.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.releases, Key: &key, Body: b.file, ContentLength: &b.size,
		ContentType: sdk.String("application/zip"), ExpectedBucketOwner: &s.account})
	if err == nil {
		e.Log.Info("bundle uploaded", "app", e.App, "stage", e.Stage.Name, "bytes", b.size, "took", time.Since(begun).Round(time.Millisecond))
	}
	return err
}

func beanstalkTags(l labels) []types.Tag {
	var all []types.Tag
	for _, key := range sorted(l) {
		all = append(all, types.Tag{Key: sdk.String(key), Value: sdk.String(l[key])})
	}
	return all
}

// dropVersion deletes the version of a rollout and its bundle. Where it is not there, or in use, nothing happens.
func (e *Engine) dropVersion(ctx context.Context, s *stack, label string) error {
	_, err := e.api.eb.DeleteApplicationVersion(ctx, &eb.DeleteApplicationVersionInput{ApplicationName: &s.application, VersionLabel: &label,
		DeleteSourceBundle: sdk.Bool(true)})
	if coded(err, "SourceBundleDeletionException", "SourceBundleDeletionFailure") || says(err, "No Application Version") || says(err, "No Application named") {
		return nil
	}
	return err
}

// makeRoom asks the quotas before anything starts, and deletes versions of this stage that are old and that no environment has. Quotas
// are the account's in a region; what is counted is the app's, since the deployer's policy lets nobody look at other apps. Where those
// have used a quota up, AWS refuses later, in words as clear.
func (e *Engine) makeRoom(ctx context.Context, s *stack, needs int) error {
	quotas, err := e.api.eb.DescribeAccountAttributes(ctx, &eb.DescribeAccountAttributesInput{})
	if err != nil {
		return err
	}
	used, count, err := e.versionsInUse(ctx, s)
	if err != nil {
		return err
	}
	var most types.ResourceQuotas
	if quotas.ResourceQuotas != nil {
		most = *quotas.ResourceQuotas
	}
	if err := roomFor("environments", count, needs, most.EnvironmentQuota); err != nil {
		return err
	}
	versions, err := e.versions(ctx, s)
	if err != nil {
		return err
	}
	pruned, err := e.prune(ctx, s, versions, used)
	if err != nil {
		e.Log.Warn("old application versions stay", "app", e.App, "stage", e.Stage.Name, "err", translate(err))
	}
	return roomFor("application versions", len(versions)-pruned, 1, most.ApplicationVersionQuota)
}

func roomFor(what string, have, needs int, quota *types.ResourceQuota) error {
	if quota == nil || quota.Maximum == nil || have+needs <= int(*quota.Maximum) {
		return nil
	}
	return deploy.Hint(fmt.Errorf("%w: the app has %d %s of Elastic Beanstalk, and the account may have %d in this region", deploy.ErrRefused, have, what, *quota.Maximum),
		"remove what nobody needs, or ask for more in Service Quotas")
}

// versionsInUse are the labels that environments of the app have, and how many environments there are.
func (e *Engine) versionsInUse(ctx context.Context, s *stack) (map[string]bool, int, error) {
	used, count := map[string]bool{}, 0
	in := &eb.DescribeEnvironmentsInput{ApplicationName: &s.application, IncludeDeleted: sdk.Bool(false)}
	for {
		out, err := e.api.eb.DescribeEnvironments(ctx, in)
		if err != nil {
			return nil, 0, err
		}
		for _, d := range out.Environments {
			if d.Status != types.EnvironmentStatusTerminated {
				used[sdk.ToString(d.VersionLabel)] = true
				count++
			}
		}
		if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
			return used, count, nil
		}
	}
}

// versions are all of the app.
func (e *Engine) versions(ctx context.Context, s *stack) ([]types.ApplicationVersionDescription, error) {
	var all []types.ApplicationVersionDescription
	in := &eb.DescribeApplicationVersionsInput{ApplicationName: &s.application}
	for {
		out, err := e.api.eb.DescribeApplicationVersions(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.ApplicationVersions...)
		if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// prune deletes the oldest versions of this stage but those in use and the newest few. It returns how many.
func (e *Engine) prune(ctx context.Context, s *stack, all []types.ApplicationVersionDescription, used map[string]bool) (int, error) {
	var old []types.ApplicationVersionDescription
	for _, v := range all {
		if sdk.ToString(v.Description) == e.versionNote() && !used[sdk.ToString(v.VersionLabel)] {
			old = append(old, v)
		}
	}
	slices.SortFunc(old, func(a, b types.ApplicationVersionDescription) int {
		return sdk.ToTime(b.DateCreated).Compare(sdk.ToTime(a.DateCreated))
	})
	pruned := 0
	for _, v := range old[min(versionsKept, len(old)):] {
		if err := e.dropVersion(ctx, s, sdk.ToString(v.VersionLabel)); err != nil {
			return pruned, err
		}
		pruned++
	}
	return pruned, nil
}
