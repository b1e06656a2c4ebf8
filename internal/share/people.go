package share

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// PeopleSecret is the name of the secret that holds the key of people's ids, in the region of the bucket. It is not among those of the app,
// which its instances may read.
func PeopleSecret(bucket string) string { return "lotse-people/" + bucket }

// keySize is that of a key of HMAC-SHA-256 in bytes (RFC 2104 §3: at least the size of the digest).
const keySize = sha256.Size

// PeopleKey reads the key of people's ids, and makes one where there is none.
func PeopleKey(ctx context.Context, c aws.Config, bucket string) (secret.Text, error) {
	client, name := secretsmanager.NewFromConfig(c), PeopleSecret(bucket)
	key, err := readKey(ctx, client, name)
	if _, absent := errors.AsType[*types.ResourceNotFoundException](err); !absent {
		return key, refusedKey(name, err)
	}
	fresh := make([]byte, keySize)
	rand.Read(fresh) // never fails, by its documentation
	_, err = client.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(base64.StdEncoding.EncodeToString(fresh)),
		Description: aws.String("Key of the opaque ids of people in the history of Lotse. Deleting it makes the ids there are say nothing any more.")})
	if _, exists := errors.AsType[*types.ResourceExistsException](err); err != nil && !exists {
		return secret.Text{}, refusedKey(name, err)
	}
	key, err = readKey(ctx, client, name) // somebody else may have been faster
	return key, refusedKey(name, err)
}

func readKey(ctx context.Context, client *secretsmanager.Client, name string) (secret.Text, error) {
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
	if err != nil {
		return secret.Text{}, err
	}
	key, err := base64.StdEncoding.DecodeString(aws.ToString(out.SecretString))
	if err != nil || len(key) < keySize {
		return secret.Text{}, fmt.Errorf("%w: it holds no key of %d bytes in Base64", deploy.ErrDamaged, keySize)
	}
	return secret.New(string(key)), nil
}

func refusedKey(name string, err error) error {
	if err == nil {
		return nil
	}
	code := "no answer"
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	} else if errors.Is(err, deploy.ErrDamaged) {
		code = err.Error()
	}
	return deploy.Hint(fmt.Errorf("%w: the secret %s: %s", deploy.ErrUnavailable, name, code),
		"allow secretsmanager:GetSecretValue and secretsmanager:CreateSecret on it to the role that Lotse runs with")
}

// PersonID is for ledger.Config: the same id for the same mailbox wherever the key is the same; "" without a key.
func (s *Share) PersonID(mailbox string) string {
	key := s.People.Reveal()
	if key == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("lotse person 1\x00" + mailbox))
	return "p-" + strings.ToLower(base32.StdEncoding.EncodeToString(mac.Sum(nil)[:10]))
}
