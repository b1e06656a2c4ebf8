package awsfake

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// secretStore is Secrets Manager in one region, by name.
type secretStore map[string]*storedSecret

type storedSecret struct {
	name, arn, description, key string
	created, changed            time.Time
	deleted                     *time.Time
	tags                        map[string]string
	versions                    []*secretVersion // oldest first
}

type secretVersion struct {
	id      string
	text    *string
	binary  []byte
	stages  []string
	created time.Time
}

const (
	current       = "AWSCURRENT"
	previous      = "AWSPREVIOUS"
	largestSecret = 65536 // bytes (API reference, SecretString)
)

func secretsService() *service {
	s := newService("secretsmanager", "", upperCamel)
	add(s, "CreateSecret", createSecret, "Name")
	add(s, "PutSecretValue", putSecretValue, "SecretId")
	add(s, "UpdateSecret", updateSecret, "SecretId")
	add(s, "GetSecretValue", getSecretValue, "SecretId")
	add(s, "BatchGetSecretValue", batchGet)
	add(s, "DescribeSecret", describeSecret, "SecretId")
	add(s, "ListSecrets", listSecrets)
	add(s, "ListSecretVersionIds", listSecretVersions, "SecretId")
	add(s, "UpdateSecretVersionStage", moveStage, "SecretId", "VersionStage")
	add(s, "DeleteSecret", deleteSecret, "SecretId")
	add(s, "RestoreSecret", restoreSecret, "SecretId")
	add(s, "TagResource", tagSecret, "SecretId", "Tags")
	add(s, "UntagResource", untagSecret, "SecretId", "TagKeys")
	return s
}

// find takes a name, an ARN, or an ARN without its random ending.
func (s secretStore) find(id string) (*storedSecret, error) {
	for _, one := range s {
		if one.name == id || one.arn == id || one.arn[:len(one.arn)-7] == id {
			return one, nil
		}
	}
	return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// usable is find for what a secret that is marked for deletion refuses.
func (s secretStore) usable(id string) (*storedSecret, error) {
	one, err := s.find(id)
	if err == nil && one.deleted != nil {
		return nil, refuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	return one, err
}

func createSecret(c *request, in *sm.CreateSecretInput) (*sm.CreateSecretOutput, error) {
	if old, err := c.region.secrets.find(*in.Name); err == nil {
		if old.deleted != nil {
			return nil, refuse("InvalidRequestException", "You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		return nil, refuse("ResourceExistsException", "The operation failed because the secret %s already exists.", *in.Name)
	}
	one := &storedSecret{
		name: *in.Name, arn: c.arn("secretsmanager", "secret:"+*in.Name+"-"+newID(6)), description: aws.ToString(in.Description), key: aws.ToString(in.KmsKeyId),
		created: *now(), changed: *now(), tags: map[string]string{},
	}
	for _, tag := range in.Tags {
		one.tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	out := &sm.CreateSecretOutput{ARN: &one.arn, Name: &one.name}
	if in.SecretString != nil || in.SecretBinary != nil {
		v, err := one.put(in.ClientRequestToken, in.SecretString, in.SecretBinary, nil)
		if err != nil {
			return nil, err
		}
		out.VersionId = &v.id
	}
	c.region.secrets[*in.Name] = one
	return out, nil
}

// put adds a version. The same token with the same value is the same version; with another it is refused.
func (s *storedSecret) put(token, text *string, binary []byte, stages []string) (*secretVersion, error) {
	if len(aws.ToString(text)) > largestSecret || len(binary) > largestSecret {
		return nil, refuse("ValidationException", "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to %d", largestSecret)
	}
	id := aws.ToString(token)
	if id == "" {
		id = newUUID()
	}
	for _, v := range s.versions {
		if v.id == id && aws.ToString(v.text) == aws.ToString(text) && string(v.binary) == string(binary) {
			return v, nil
		}
		if v.id == id {
			return nil, refuse("ResourceExistsException", "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", id, s.arn)
		}
	}
	v := &secretVersion{id: id, text: text, binary: binary, created: *now()}
	s.versions = append(s.versions, v)
	if stages == nil {
		stages = []string{current}
	}
	for _, stage := range stages {
		s.move(stage, v)
	}
	s.changed = *now()
	return v, nil
}

// move puts a stage on a version; AWSCURRENT leaves AWSPREVIOUS where it was.
func (s *storedSecret) move(stage string, to *secretVersion) {
	for _, v := range s.versions {
		if !slices.Contains(v.stages, stage) || v == to {
			continue
		}
		v.stages = slices.DeleteFunc(v.stages, func(other string) bool { return other == stage })
		if stage == current {
			s.move(previous, v)
		}
	}
	if !slices.Contains(to.stages, stage) {
		to.stages = append(to.stages, stage)
	}
}

func putSecretValue(c *request, in *sm.PutSecretValueInput) (*sm.PutSecretValueOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	v, err := one.put(in.ClientRequestToken, in.SecretString, in.SecretBinary, in.VersionStages)
	if err != nil {
		return nil, err
	}
	return &sm.PutSecretValueOutput{ARN: &one.arn, Name: &one.name, VersionId: &v.id, VersionStages: v.stages}, nil
}

func updateSecret(c *request, in *sm.UpdateSecretInput) (*sm.UpdateSecretOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	out := &sm.UpdateSecretOutput{ARN: &one.arn, Name: &one.name}
	if in.Description != nil {
		one.description = *in.Description
	}
	if in.KmsKeyId != nil {
		one.key = *in.KmsKeyId
	}
	if in.SecretString != nil || in.SecretBinary != nil {
		v, err := one.put(in.ClientRequestToken, in.SecretString, in.SecretBinary, nil)
		if err != nil {
			return nil, err
		}
		out.VersionId = &v.id
	}
	return out, nil
}

// version finds by id, by stage, or AWSCURRENT.
func (s *storedSecret) version(id, stage *string) (*secretVersion, error) {
	if id == nil && stage == nil {
		stage = aws.String(current)
	}
	for _, v := range s.versions {
		if (id == nil || *id == v.id) && (stage == nil || slices.Contains(v.stages, *stage)) {
			return v, nil
		}
	}
	wanted := "staging label: " + aws.ToString(stage)
	if id != nil {
		wanted = "VersionId: " + *id
	}
	return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for %s", wanted)
}

func getSecretValue(c *request, in *sm.GetSecretValueInput) (*sm.GetSecretValueOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	v, err := one.version(in.VersionId, in.VersionStage)
	if err != nil {
		return nil, err
	}
	return &sm.GetSecretValueOutput{ARN: &one.arn, Name: &one.name, CreatedDate: &v.created, SecretString: v.text, SecretBinary: v.binary, VersionId: &v.id, VersionStages: v.stages}, nil
}

func batchGet(c *request, in *sm.BatchGetSecretValueInput) (*sm.BatchGetSecretValueOutput, error) {
	if (len(in.SecretIdList) == 0) == (len(in.Filters) == 0) {
		return nil, refuse("InvalidParameterException", "Either SecretIdList or Filters must be specified, but not both.") // words ours
	}
	if len(in.SecretIdList) > 20 {
		return nil, refuse("ValidationException", "1 validation error detected: Value at 'secretIdList' failed to satisfy constraint: Member must have length less than or equal to 20")
	}
	ids := slices.Clone(in.SecretIdList)
	if len(in.Filters) > 0 {
		for _, one := range c.region.secrets.sorted() {
			if one.deleted == nil && one.fits(in.Filters) {
				ids = append(ids, one.name)
			}
		}
	}
	page, next, err := paged(ids, in.MaxResults, in.NextToken)
	out := &sm.BatchGetSecretValueOutput{NextToken: next, SecretValues: []types.SecretValueEntry{}, Errors: []types.APIErrorType{}}
	for _, id := range page {
		got, err := getSecretValue(c, &sm.GetSecretValueInput{SecretId: aws.String(id)})
		if err != nil {
			refusal := refusalOf(err)
			out.Errors = append(out.Errors, types.APIErrorType{SecretId: aws.String(id), ErrorCode: &refusal.Code, Message: &refusal.Message})
			continue
		}
		entry := types.SecretValueEntry{ARN: got.ARN, Name: got.Name, CreatedDate: got.CreatedDate, SecretString: got.SecretString, SecretBinary: got.SecretBinary, VersionId: got.VersionId, VersionStages: got.VersionStages}
		out.SecretValues = append(out.SecretValues, entry)
	}
	return out, err
}

func (s secretStore) sorted() []*storedSecret {
	return slices.SortedFunc(maps.Values(s), func(a, b *storedSecret) int { return strings.Compare(a.name, b.name) })
}

// fits asks filters by name, description and tags: every filter, any of its values, as a beginning; "!" turns it round.
func (s *storedSecret) fits(filters []types.Filter) bool {
	for _, f := range filters {
		has := map[types.FilterNameStringType][]string{
			types.FilterNameStringTypeName: {s.name}, types.FilterNameStringTypeDescription: {s.description},
			types.FilterNameStringTypeTagKey: slices.Collect(maps.Keys(s.tags)), types.FilterNameStringTypeTagValue: slices.Collect(maps.Values(s.tags)),
			types.FilterNameStringTypeAll: append(append(slices.Collect(maps.Keys(s.tags)), slices.Collect(maps.Values(s.tags))...), s.name, s.description),
		}[f.Key]
		fits := slices.ContainsFunc(f.Values, func(wanted string) bool {
			without, not := strings.CutPrefix(wanted, "!")
			return not != slices.ContainsFunc(has, func(value string) bool { return strings.HasPrefix(value, without) })
		})
		if !fits {
			return false
		}
	}
	return true
}

func (s *storedSecret) listTags() []types.Tag {
	tags := []types.Tag{}
	for _, key := range slices.Sorted(maps.Keys(s.tags)) {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(s.tags[key])})
	}
	return tags
}

func (s *storedSecret) stages() map[string][]string {
	stages := map[string][]string{}
	for _, v := range s.versions {
		if len(v.stages) > 0 {
			stages[v.id] = v.stages
		}
	}
	return stages
}

func describeSecret(c *request, in *sm.DescribeSecretInput) (*sm.DescribeSecretOutput, error) {
	one, err := c.region.secrets.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	return &sm.DescribeSecretOutput{
		ARN: &one.arn, Name: &one.name, Description: text(one.description), KmsKeyId: text(one.key), CreatedDate: &one.created, LastChangedDate: &one.changed,
		DeletedDate: one.deleted, Tags: one.listTags(), VersionIdsToStages: one.stages(),
	}, nil
}

func listSecrets(c *request, in *sm.ListSecretsInput) (*sm.ListSecretsOutput, error) {
	found := []types.SecretListEntry{}
	for _, one := range c.region.secrets.sorted() {
		if !one.fits(in.Filters) || (one.deleted != nil && !aws.ToBool(in.IncludePlannedDeletion)) {
			continue
		}
		found = append(found, types.SecretListEntry{
			ARN: &one.arn, Name: &one.name, Description: text(one.description), KmsKeyId: text(one.key), CreatedDate: &one.created, LastChangedDate: &one.changed,
			DeletedDate: one.deleted, Tags: one.listTags(), SecretVersionsToStages: one.stages(),
		})
	}
	page, next, err := paged(found, in.MaxResults, in.NextToken)
	return &sm.ListSecretsOutput{SecretList: page, NextToken: next}, err
}

func listSecretVersions(c *request, in *sm.ListSecretVersionIdsInput) (*sm.ListSecretVersionIdsOutput, error) {
	one, err := c.region.secrets.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	found := []types.SecretVersionsListEntry{}
	for _, v := range one.versions {
		if len(v.stages) > 0 || aws.ToBool(in.IncludeDeprecated) {
			found = append(found, types.SecretVersionsListEntry{VersionId: &v.id, VersionStages: v.stages, CreatedDate: &v.created})
		}
	}
	page, next, err := paged(found, in.MaxResults, in.NextToken)
	return &sm.ListSecretVersionIdsOutput{ARN: &one.arn, Name: &one.name, Versions: page, NextToken: next}, err
}

func moveStage(c *request, in *sm.UpdateSecretVersionStageInput) (*sm.UpdateSecretVersionStageOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	if in.MoveToVersionId == nil {
		return one.takeStage(*in.VersionStage, aws.ToString(in.RemoveFromVersionId))
	}
	v, err := one.version(in.MoveToVersionId, nil)
	if err != nil {
		return nil, err
	}
	if from, err := one.version(nil, in.VersionStage); err == nil && from != v && from.id != aws.ToString(in.RemoveFromVersionId) {
		return nil, refuse("InvalidParameterException", "The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", *in.VersionStage, from.id)
	}
	one.move(*in.VersionStage, v)
	return &sm.UpdateSecretVersionStageOutput{ARN: &one.arn, Name: &one.name}, nil
}

// takeStage takes a label away. AWSCURRENT can only be moved (API reference, UpdateSecretVersionStage).
func (s *storedSecret) takeStage(stage, from string) (*sm.UpdateSecretVersionStageOutput, error) {
	v, err := s.version(&from, nil)
	if err != nil {
		return nil, err
	}
	if stage == current || !slices.Contains(v.stages, stage) {
		return nil, refuse("InvalidParameterException", "The staging label %s can't be taken from version %s.", stage, from) // words ours
	}
	v.stages = slices.DeleteFunc(slices.Clone(v.stages), func(other string) bool { return other == stage })
	return &sm.UpdateSecretVersionStageOutput{ARN: &s.arn, Name: &s.name}, nil
}

func deleteSecret(c *request, in *sm.DeleteSecretInput) (*sm.DeleteSecretOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	days := aws.ToInt64(in.RecoveryWindowInDays)
	if in.RecoveryWindowInDays == nil {
		days = 30
	}
	if days < 7 || days > 30 {
		return nil, refuse("InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
	}
	at := now().Add(time.Duration(days) * 24 * time.Hour)
	one.deleted = &at
	if aws.ToBool(in.ForceDeleteWithoutRecovery) {
		delete(c.region.secrets, one.name)
	}
	return &sm.DeleteSecretOutput{ARN: &one.arn, Name: &one.name, DeletionDate: &at}, nil
}

func restoreSecret(c *request, in *sm.RestoreSecretInput) (*sm.RestoreSecretOutput, error) {
	one, err := c.region.secrets.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	one.deleted = nil
	return &sm.RestoreSecretOutput{ARN: &one.arn, Name: &one.name}, nil
}

func tagSecret(c *request, in *sm.TagResourceInput) (*sm.TagResourceOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	for _, tag := range in.Tags {
		one.tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return &sm.TagResourceOutput{}, nil
}

func untagSecret(c *request, in *sm.UntagResourceInput) (*sm.UntagResourceOutput, error) {
	one, err := c.region.secrets.usable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(one.tags, key)
	}
	return &sm.UntagResourceOutput{}, nil
}

// secretFor is what Beanstalk puts into a variable for an ARN in environmentsecrets: the value, or one field of its JSON
// where a key stands behind the ARN as an eighth part.
func (r *region) secretFor(arn string) (string, error) {
	parts := strings.Split(arn, ":")
	key := ""
	if len(parts) == 8 {
		arn, key = strings.Join(parts[:7], ":"), parts[7]
	}
	one, err := r.secrets.usable(arn)
	if err != nil {
		return "", err
	}
	v, err := one.version(nil, nil)
	if err != nil || v.text == nil {
		return "", refuse("ResourceNotFoundException", "the secret %s has no text", one.name)
	}
	if key == "" {
		return *v.text, nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(*v.text), &fields); err != nil || fields[key] == nil {
		return "", refuse("ResourceNotFoundException", "the secret %s has no JSON key %s", one.name, key)
	}
	return fmt.Sprint(fields[key]), nil
}
