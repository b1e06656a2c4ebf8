package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// SecretsManager keeps secrets in AWS Secrets Manager, one for each name: lotse/<app>/<stage>/<NAME>, with the tags lotse:app and
// lotse:stage, and lotse:by with the opaque id of who set it. What lies deeper below the stage is not people's.
type SecretsManager struct {
	Config func(ctx context.Context, region string) (aws.Config, error) // credentials, region and endpoint
	Key    string                                                       // id or alias of the KMS key; empty: the account's own for Secrets Manager
}

// RecoveryDays is how long a secret that was removed can be restored (DeleteSecret, RecoveryWindowInDays: 7 is the least).
const RecoveryDays = 7

// Limits of the API (AWS Secrets Manager API Reference, BatchGetSecretValue and ListSecrets).
const (
	mostRead   = 20
	mostListed = 100
	attempts   = 6 // how often the SDK asks in all under throttling, with back-off and jitter of its own
)

// Open implements Remotes. Where the stage names an account, it asks whose the credentials are.
func (m SecretsManager) Open(ctx context.Context, home deploy.Home, stage deploy.StageRef) (Remote, error) {
	if home.Engine != "aws" || home.Region == "" {
		return nil, fmt.Errorf("%w: no region of AWS is known for %s", deploy.ErrBadInput, stage)
	}
	config, err := m.Config(ctx, home.Region)
	if err != nil {
		return nil, err
	}
	config.RetryMaxAttempts = attempts
	if home.Account != "" {
		out, err := sts.NewFromConfig(config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return nil, refused(ctx, "sts:GetCallerIdentity", "the account of "+stage.String(), err)
		}
		if is := aws.ToString(out.Account); is != home.Account {
			return nil, deploy.Hint(fmt.Errorf("%w: the credentials are of the account %s, and %s is in %s", deploy.ErrBadInput, is, stage, home.Account), "AWS_PROFILE names others")
		}
	}
	return &shelf{secretsmanager.NewFromConfig(config), stage, m.Key}, nil
}

// shelf is the Remote of one stage.
type shelf struct {
	client *secretsmanager.Client
	stage  deploy.StageRef
	key    string
}

func (s *shelf) prefix() string { return "lotse/" + s.stage.App + "/" + s.stage.Stage + "/" }

func (s *shelf) id(name string) string { return s.prefix() + name }

// named is the variable that a secret is, unless it is none.
func (s *shelf) named(id *string) (string, bool) {
	name, ours := strings.CutPrefix(aws.ToString(id), s.prefix())
	return name, ours && name != "" && name != passwordName && !strings.Contains(name, "/")
}

func (s *shelf) failed(ctx context.Context, action, name string, err error) error {
	return refused(ctx, "secretsmanager:"+action, "secret "+s.id(name), err)
}

// List implements Remote. AWS says of ListSecrets that it may be five minutes late.
func (s *shelf) List(ctx context.Context) ([]Kept, error) {
	in := &secretsmanager.ListSecretsInput{MaxResults: aws.Int32(mostListed), Filters: []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{s.prefix()}}}}
	var all []Kept
	for {
		out, err := s.client.ListSecrets(ctx, in)
		if err != nil {
			return nil, s.failed(ctx, "ListSecrets", "*", err)
		}
		for _, e := range out.SecretList {
			if name, is := s.named(e.Name); is && e.DeletedDate == nil {
				all = append(all, Kept{Name: name, Reference: aws.ToString(e.ARN), Version: current(e.SecretVersionsToStages), Number: numberOf(e.SecretVersionsToStages), Since: aws.ToTime(e.LastChangedDate).UTC(), By: tagged(e.Tags)})
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			slices.SortFunc(all, func(a, b Kept) int { return strings.Compare(a.Name, b.Name) })
			return all, nil
		}
	}
}

const tagBy = "lotse:by"

func tagged(tags []types.Tag) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == tagBy {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// Read implements Remote.
func (s *shelf) Read(ctx context.Context, names []string) ([]Kept, error) {
	var all []Kept
	for chunk := range slices.Chunk(names, mostRead) {
		read, err := s.read(ctx, chunk)
		if err != nil {
			return nil, err
		}
		all = append(all, read...)
	}
	slices.SortFunc(all, func(a, b Kept) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (s *shelf) read(ctx context.Context, names []string) (all []Kept, err error) {
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, name := range names {
		in.SecretIdList = append(in.SecretIdList, s.id(name))
	}
	out, err := s.client.BatchGetSecretValue(ctx, in)
	if code, _ := said(err); denied(code) {
		return s.describe(ctx, names)
	}
	if err != nil {
		return nil, s.failed(ctx, "BatchGetSecretValue", names[0], err)
	}
	for _, e := range out.SecretValues {
		if name, is := s.named(e.Name); is {
			all = append(all, Kept{Name: name, Reference: aws.ToString(e.ARN), Version: aws.ToString(e.VersionId), Value: secret.New(aws.ToString(e.SecretString)), Since: aws.ToTime(e.CreatedDate).UTC()})
		}
	}
	var unread []string
	for _, e := range out.Errors {
		name, _ := strings.CutPrefix(aws.ToString(e.SecretId), s.prefix())
		switch code := aws.ToString(e.ErrorCode); code {
		case "ResourceNotFoundException", "InvalidRequestException": // gone, or removed and to be restored
		default:
			unread = append(unread, name)
		}
	}
	described, err := s.describe(ctx, unread)
	return append(all, described...), err
}

// describe is Read of secrets whose values this controller may not read; the platform may.
func (s *shelf) describe(ctx context.Context, names []string) (all []Kept, err error) {
	for _, name := range names {
		k, state, err := s.look(ctx, name)
		if err != nil {
			return nil, err
		}
		if state == present {
			all = append(all, k)
		}
	}
	return all, nil
}

type presence int

const (
	absent presence = iota
	removed
	present
)

// look asks for one secret, without its value.
func (s *shelf) look(ctx context.Context, name string) (Kept, presence, error) {
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.id(name))})
	if code, _ := said(err); code == "ResourceNotFoundException" {
		return Kept{}, absent, nil
	}
	if err != nil {
		return Kept{}, absent, s.failed(ctx, "DescribeSecret", name, err)
	}
	k := Kept{Name: name, Reference: aws.ToString(out.ARN), Version: current(out.VersionIdsToStages), Since: aws.ToTime(out.LastChangedDate).UTC(), By: tagged(out.Tags)}
	if out.DeletedDate != nil {
		return k, removed, nil
	}
	return k, present, nil
}

// Put implements Remote.
func (s *shelf) Put(ctx context.Context, name string, value secret.Text, by string) error {
	_, state, err := s.look(ctx, name)
	if err != nil {
		return err
	}
	if state == absent {
		if made, err := s.create(ctx, name, value, by); made || err != nil {
			return err
		}
	}
	if state == removed {
		if err := s.restore(ctx, name); err != nil {
			return err
		}
	}
	return s.change(ctx, name, value, by)
}

func (s *shelf) restore(ctx context.Context, name string) error {
	_, err := s.client.RestoreSecret(ctx, &secretsmanager.RestoreSecretInput{SecretId: aws.String(s.id(name))})
	return s.failed(ctx, "RestoreSecret", name, err)
}

// Make implements Remote.
func (s *shelf) Make(ctx context.Context, name string, value secret.Text, by string) (secret.Text, error) {
	_, state, err := s.look(ctx, name)
	if err != nil {
		return secret.Text{}, err
	}
	switch state {
	case absent:
		if made, err := s.create(ctx, name, value, by); made || err != nil {
			return value, err
		}
	case removed:
		if err := s.restore(ctx, name); err != nil {
			return secret.Text{}, err
		}
		return value, s.change(ctx, name, value, by)
	case present:
	}
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(s.id(name))})
	if err != nil {
		return secret.Text{}, s.failed(ctx, "GetSecretValue", name, err)
	}
	return secret.New(aws.ToString(out.SecretString)), nil
}

// create makes a secret, unless somebody else has made it just now.
func (s *shelf) create(ctx context.Context, name string, value secret.Text, by string) (made bool, err error) {
	in := &secretsmanager.CreateSecretInput{Name: aws.String(s.id(name)), SecretString: aws.String(value.Reveal()), Tags: s.tags(by),
		Description: aws.String("Set with lotse for the stage " + s.stage.Stage + " of " + s.stage.App)}
	if s.key != "" {
		in.KmsKeyId = &s.key
	}
	_, err = s.client.CreateSecret(ctx, in)
	if code, _ := said(err); code == "ResourceExistsException" {
		return false, nil
	}
	return err == nil, s.failed(ctx, "CreateSecret", name, err)
}

func (s *shelf) tags(by string) []types.Tag {
	tags := []types.Tag{{Key: aws.String("lotse:app"), Value: &s.stage.App}, {Key: aws.String("lotse:stage"), Value: &s.stage.Stage}}
	if by != "" {
		tags = append(tags, types.Tag{Key: aws.String(tagBy), Value: &by})
	}
	return tags
}

// Remove implements Remote.
func (s *shelf) Remove(ctx context.Context, name string) error {
	_, err := s.client.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: aws.String(s.id(name)), RecoveryWindowInDays: aws.Int64(RecoveryDays)})
	if code, _ := said(err); code == "ResourceNotFoundException" || code == "InvalidRequestException" {
		return nil // gone, or removed before
	}
	return s.failed(ctx, "DeleteSecret", name, err)
}

// said takes out of an error of the SDK the code that AWS has answered, and the status of HTTP; "" and 0 for no answer.
func said(err error) (code string, status int) {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = answer.HTTPStatusCode()
	}
	return code, status
}

func denied(code string) bool { return strings.HasPrefix(code, "AccessDenied") }

// refused says why a call failed. What AWS has written is not repeated: it may name people and addresses.
func refused(ctx context.Context, action, resource string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", action, context.Cause(ctx))
	}
	code, status := said(err)
	at := func(sentinel error, what, hint string) error {
		return deploy.Hint(fmt.Errorf("%w: %s of %s: %s", sentinel, action, resource, what), hint)
	}
	switch {
	case denied(code):
		return at(deploy.ErrRefused, "these credentials have no permission for it", "let somebody who may change policies grant "+action)
	case slices.Contains([]string{"ExpiredToken", "ExpiredTokenException", "RequestExpired"}, code):
		return at(deploy.ErrUnavailable, "the credentials have expired", "log in to AWS again, for example with `aws sso login`")
	case slices.Contains([]string{"InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch"}, code):
		return at(deploy.ErrBadInput, "AWS does not know these credentials in this region", "look at AWS_PROFILE, and at aws: region in lotse.yaml; some regions must be switched on for an account")
	case strings.Contains(code, "Throttl") || strings.HasPrefix(code, "TooManyRequests") || code == "LimitExceededException" || status >= 500:
		return at(deploy.ErrUnavailable, "AWS asks for fewer calls, or has a trouble of its own ("+code+")", "try again in a minute")
	case code == "DecryptionFailure" || code == "EncryptionFailure" || code == "KMSAccessDeniedException":
		return at(deploy.ErrRefused, "the KMS key of the secret cannot be used", "grant kms:Decrypt and kms:GenerateDataKey for it")
	case code != "":
		return at(deploy.ErrBadInput, code, "")
	case noCredentials(err):
		return at(deploy.ErrMissing, "there are no credentials for AWS", "log in with `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return at(deploy.ErrUnavailable, "no answer from AWS", "look at the network of this machine, and at aws: region in lotse.yaml")
}

// noCredentials reports whether a call was never sent. The SDK has no type for it.
func noCredentials(err error) bool {
	return strings.Contains(err.Error(), "get credentials") || strings.Contains(err.Error(), "refresh cached credentials") || strings.Contains(err.Error(), "retrieve credentials")
}
