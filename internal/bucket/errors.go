package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// Sentinels to decide by.
var (
	ErrFenced      = errors.New("somebody newer steers this bucket")       // an old fencing number; nothing was changed
	ErrBusy        = errors.New("somebody else switches this bucket now")  // with the same fencing number
	ErrInvalid     = errors.New("this release cannot be served from S3")   // nothing was changed
	ErrClash       = errors.New("a file that never changes has changed")   // nothing was changed
	ErrUnknown     = errors.New("the bucket has no such release")          // nothing was changed
	ErrIncomplete  = errors.New("the release is not whole in the bucket")  // put it again; what is served is as it was
	ErrServing     = errors.New("this release is being served")            // Remove: serve another one first
	ErrDamaged     = errors.New("what the bucket holds cannot be read")    // a file of .lotse/, or a file of the release
	ErrMissing     = errors.New("the bucket or its distribution is gone")  // nothing was changed
	ErrDenied      = errors.New("AWS refuses the credentials")             // the message names the action and the resource
	ErrUnavailable = errors.New("AWS does not answer as it should by now") // the same call may succeed later
	errLost        = errors.New("the object was changed by somebody else") // a condition did not hold; look again
	errAbsent      = errors.New("there is no such object")                 // of one object
)

// hinted is an error with what a person can do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Hint is found by those who print errors.
func (h *hinted) Hint() string { return h.hint }

// Codes as S3 and CloudFront spell them (S3 API Reference, "Error responses"; CloudFront API Reference, "Common errors").
var (
	codesLost  = []string{"PreconditionFailed", "ConditionalRequestConflict"}
	codesNoKey = []string{"NoSuchKey", "NotFound"}
	codesGone  = []string{"NoSuchBucket", "NoSuchDistribution"}
	codesWho   = []string{"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidToken", "UnrecognizedClientException"}
	codesDeny  = []string{"AccessDenied", "Forbidden", "AccessDeniedException", "AllAccessDisabled"}
	codesPlace = []string{"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "MovedPermanently", "BadRequest"}
	codesBytes = []string{"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
	codesLater = []string{"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyInvalidationsInProgress", "OperationAborted"}
)

// failed says what went wrong at an action on a resource. What the SDK says is not passed on where it may name addresses or people.
func (b *Bucket) failed(ctx context.Context, action, resource string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s of %s: %w", action, resource, context.Cause(ctx))
	}
	at := func(sentinel error, what, hint string) error {
		made := fmt.Errorf("%w: %s of %s: %s", sentinel, action, resource, what)
		if hint == "" {
			return made
		}
		return &hinted{made, hint}
	}
	code, status := answered(err)
	is := func(codes []string) bool { return slices.Contains(codes, code) }
	switch {
	case is(codesLost) || status == http.StatusPreconditionFailed:
		return at(errLost, code, "")
	case is(codesGone):
		return at(ErrMissing, code, "`lotse infra plan` shows what the stack has")
	case is(codesNoKey) || status == http.StatusNotFound:
		return at(errAbsent, code, "")
	case is(codesWho):
		return at(ErrDenied, code, "the credentials are wrong or have ended, or the clock of this machine is wrong")
	case is(codesDeny) || status == http.StatusForbidden:
		return at(ErrDenied, code, b.denied(action))
	case is(codesPlace):
		return at(ErrMissing, code, "the bucket is in another region than the stage")
	case is(codesBytes):
		return at(ErrDamaged, "the bytes that arrived are not those of the release ("+code+")", "try again")
	case is(codesLater) || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return at(ErrUnavailable, code, "")
	case code == "" && status == 0:
		return at(ErrUnavailable, "no answer, or no credentials to ask with", "`aws sts get-caller-identity` says whether there are credentials")
	}
	return at(ErrUnavailable, fmt.Sprintf("%s (HTTP %d)", code, status), "")
}

// answered takes out of an error of the SDK what the service said: its code, and the status of HTTP; "" and 0 for no answer.
func answered(err error) (code string, status int) {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = answer.HTTPStatusCode()
	}
	return code, status
}

func (b *Bucket) denied(action string) string {
	hint := "allow " + action + " to the role that Lotse deploys with"
	if b.c.ExpectedOwner != "" {
		hint += ", unless the bucket " + b.c.Bucket + " belongs to another account than " + b.c.ExpectedOwner
	}
	return hint
}
