package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Versions of a secret in Secrets Manager. A version without a label is deleted by AWS at a time of its own, so each that is kept has one:
// lotse-1, lotse-2 and so on. A secret has at most 20 labels (AWS Secrets Manager User Guide, "Quotas"); AWSCURRENT, AWSPREVIOUS and
// those of mostVersions leave room. That of now may have none yet: it gets it when the next one comes.
//
// The platform reads the version of now alone (Elastic Beanstalk takes the ARN of a secret and no version), so a version before is given to
// instances as a secret of its own, below the stage: <prefix>at/<NAME>/<id>. It goes with the version.

const (
	labelPrefix  = "lotse-"
	labelNow     = "AWSCURRENT"
	labelBefore  = "AWSPREVIOUS"
	tagRevoked   = "lotse:revoked" // numbers of versions, with blanks between
	mostRevoked  = 30              // of which the tag speaks: its value has at most 256 letters
	copiesPrefix = "at/"
)

// current finds the version that is read where none is named.
func current(stages map[string][]string) string {
	for version, labels := range stages {
		if slices.Contains(labels, labelNow) {
			return version
		}
	}
	return ""
}

// numbered are the numbers that versions have by their labels.
func numbered(stages map[string][]string) map[string]int {
	numbers := map[string]int{}
	for version, labels := range stages {
		for _, l := range labels {
			if n, err := strconv.Atoi(strings.TrimPrefix(l, labelPrefix)); err == nil && strings.HasPrefix(l, labelPrefix) {
				numbers[version] = max(numbers[version], n)
			}
		}
	}
	return numbers
}

// numberOf is the number of the version of now. One without a label was made by CreateSecret, or by others, after all that have one.
func numberOf(stages map[string][]string) int {
	numbers := numbered(stages)
	if n := numbers[current(stages)]; n > 0 {
		return n
	}
	highest := 0
	for _, n := range numbers {
		highest = max(highest, n)
	}
	return highest + 1
}

// described asks for the labels of a secret, and which versions of it were revoked. A secret that is removed has none.
func (s *shelf) described(ctx context.Context, name string) (stages map[string][]string, revoked []int, out *secretsmanager.DescribeSecretOutput, err error) {
	out, err = s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.id(name))})
	if code, _ := said(err); code == "ResourceNotFoundException" || err == nil && out.DeletedDate != nil {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, s.failed(ctx, "DescribeSecret", name, err)
	}
	for _, t := range out.Tags {
		if aws.ToString(t.Key) == tagRevoked {
			for n := range strings.FieldsSeq(aws.ToString(t.Value)) {
				if number, err := strconv.Atoi(n); err == nil {
					revoked = append(revoked, number)
				}
			}
		}
	}
	return out.VersionIdsToStages, revoked, out, nil
}

// Versions implements Remote.
func (s *shelf) Versions(ctx context.Context, name string) (all []KeptVersion, err error) {
	stages, revoked, out, err := s.described(ctx, name)
	if err != nil || out == nil {
		return nil, err
	}
	now := current(stages)
	for version, number := range numbered(stages) {
		all = append(all, KeptVersion{Number: number, ID: version, Now: version == now})
	}
	if !slices.ContainsFunc(all, func(k KeptVersion) bool { return k.Now }) && now != "" {
		all = append(all, KeptVersion{Number: numberOf(stages), ID: now, Now: true})
	}
	for i := range all {
		if all[i].Now {
			all[i].Since, all[i].By = aws.ToTime(out.LastChangedDate).UTC(), tagged(out.Tags)
		}
	}
	for _, n := range revoked {
		if !slices.ContainsFunc(all, func(k KeptVersion) bool { return k.Number == n }) {
			all = append(all, KeptVersion{Number: n, Gone: deploy.VersionRevoked})
		}
	}
	slices.SortFunc(all, func(a, b KeptVersion) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

// At implements Remote.
func (s *shelf) At(ctx context.Context, name, id string) (Kept, error) {
	in := &secretsmanager.GetSecretValueInput{SecretId: aws.String(s.id(name)), VersionId: &id}
	out, err := s.client.GetSecretValue(ctx, in)
	if code, _ := said(err); code == "ResourceNotFoundException" || code == "InvalidRequestException" || code == "ValidationException" || code == "InvalidParameterException" {
		return Kept{}, Gone(deploy.VersionNotKept)
	}
	if err != nil {
		return Kept{}, s.failed(ctx, "GetSecretValue", name, err)
	}
	if len(out.VersionStages) == 0 { // AWS may still have it
		return Kept{}, Gone(deploy.VersionRevoked)
	}
	value := secret.New(aws.ToString(out.SecretString))
	k := Kept{Name: name, Version: id, Value: value, Origin: aws.ToString(out.ARN), Reference: aws.ToString(out.ARN), Since: aws.ToTime(out.CreatedDate).UTC()}
	if slices.Contains(out.VersionStages, labelNow) {
		return k, nil
	}
	apart := copiesPrefix + name + "/" + id
	if _, err := s.Make(ctx, apart, value, ""); err != nil {
		return Kept{}, err
	}
	copied, _, err := s.look(ctx, apart)
	k.Reference = copied.Reference
	return k, err
}

// Revoke implements Remote. What is revoked is written down first: what a crash leaves to be done is then found by the next call.
func (s *shelf) Revoke(ctx context.Context, name string, numbers []int) error {
	stages, before, out, err := s.described(ctx, name)
	if err != nil || out == nil {
		return err
	}
	all := slices.Concat(before, numbers)
	slices.Sort(all)
	all = slices.Compact(all)
	text := strings.Trim(fmt.Sprint(all[max(0, len(all)-mostRevoked):]), "[]")
	if _, err := s.client.TagResource(ctx, &secretsmanager.TagResourceInput{SecretId: aws.String(s.id(name)), Tags: []types.Tag{{Key: aws.String(tagRevoked), Value: &text}}}); err != nil {
		return s.failed(ctx, "TagResource", name, err)
	}
	var failed []error
	for version, number := range numbered(stages) {
		if slices.Contains(numbers, number) && version != current(stages) {
			failed = append(failed, s.drop(ctx, name, version, stages[version]))
		}
	}
	return errors.Join(failed...)
}

// drop takes the labels of a version away, and the copy of it that instances may have read. AWS deletes it then.
func (s *shelf) drop(ctx context.Context, name, version string, labels []string) error {
	if err := s.Remove(ctx, copiesPrefix+name+"/"+version); err != nil {
		return err
	}
	for _, l := range labels {
		in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String(s.id(name)), VersionStage: &l, RemoveFromVersionId: &version}
		if _, err := s.client.UpdateSecretVersionStage(ctx, in); err != nil {
			return s.failed(ctx, "UpdateSecretVersionStage", name, err)
		}
	}
	return nil
}

// change gives a secret another value. Each step of it leaves every version that is to be kept with a label.
func (s *shelf) change(ctx context.Context, name string, value secret.Text, by string) error {
	stages, _, _, err := s.described(ctx, name)
	if err != nil {
		return err
	}
	numbers, now, n := numbered(stages), current(stages), numberOf(stages)
	if now != "" && numbers[now] == 0 {
		in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String(s.id(name)), VersionStage: aws.String(labelPrefix + strconv.Itoa(n)), MoveToVersionId: &now}
		if _, err := s.client.UpdateSecretVersionStage(ctx, in); err != nil {
			return s.failed(ctx, "UpdateSecretVersionStage", name, err)
		}
	}
	for version, number := range numbers {
		if number <= n+1-mostVersions && version != now {
			if err := s.drop(ctx, name, version, withoutPrevious(stages[version])); err != nil {
				return err
			}
		}
	}
	in := &secretsmanager.PutSecretValueInput{SecretId: aws.String(s.id(name)), SecretString: aws.String(value.Reveal()), VersionStages: []string{labelNow, labelPrefix + strconv.Itoa(n+1)}}
	if _, err := s.client.PutSecretValue(ctx, in); err != nil {
		return s.failed(ctx, "PutSecretValue", name, err)
	}
	if _, err := s.client.TagResource(ctx, &secretsmanager.TagResourceInput{SecretId: aws.String(s.id(name)), Tags: s.tags(by)}); err != nil {
		return s.failed(ctx, "TagResource", name, err)
	}
	return nil
}

// withoutPrevious leaves the label that AWS moves itself.
func withoutPrevious(labels []string) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return l == labelBefore })
}
