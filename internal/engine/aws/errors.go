package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// answer is what AWS said to a call that failed, without what nobody is to read: request ids, addresses, names of people.
type answer struct {
	call string // elasticbeanstalk:CreateEnvironment
	code string
	text string
	is   error // sentinel of deploy, or nil
}

func (a *answer) Error() string {
	said := a.call + ": " + a.code
	if a.text != "" {
		said += ": " + a.text
	}
	if a.is != nil {
		said = a.is.Error() + ": " + said
	}
	return said
}

func (a *answer) Unwrap() error { return a.is }

// translate turns an error of the SDK into one of deploy. Others it leaves alone.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return err
	}
	a := &answer{call: iamName(op.ServiceID) + ":" + op.OperationName}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		a.code, a.text = api.ErrorCode(), clean(api.ErrorMessage())
		return deploy.Hint(a, a.decide(op, err))
	}
	return withoutAnswer(a, err)
}

// decide sets the sentinel of what AWS has answered, and returns what a person can do.
func (a *answer) decide(op *smithy.OperationError, err error) (hint string) {
	status := 0
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	_, throttled := retry.DefaultThrottleErrorCodes[a.code]
	switch {
	case throttled || status == 429 || strings.Contains(a.code, "Throttl") || a.code == "SlowDown" || a.code == "PriorRequestNotComplete":
		a.is, a.text = deploy.ErrUnavailable, "AWS asks for fewer calls, also after some tries"
		return "try again in a minute"
	case slices.Contains([]string{"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}, a.code):
		a.is, a.text = deploy.ErrUnavailable, "the credentials have expired"
		return "log in to AWS again, for example with `aws sso login`"
	case slices.Contains([]string{"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"}, a.code):
		a.is, a.text = deploy.ErrBadInput, "AWS does not know these credentials"
		return "look at AWS_PROFILE and AWS_ACCESS_KEY_ID, or log in again"
	case a.denied(status):
		return a.deny(op)
	case busy(a.code, a.text):
		a.is = deploy.ErrBusy
		return "the platform is still at something else; try again in a few minutes"
	case strings.HasPrefix(a.code, "TooMany") || strings.HasSuffix(a.code, "LimitExceeded") || strings.HasSuffix(a.code, "LimitExceededException") || strings.HasSuffix(a.code, "QuotaExceeded"):
		a.is = deploy.ErrRefused
		return "a quota of the account is used up: stop what is not needed, or ask for more in Service Quotas"
	case a.code == "PermanentRedirect" || a.code == "AuthorizationHeaderMalformed" || a.code == "IllegalLocationConstraintException":
		a.is = deploy.ErrBadInput
		return "the bucket is in another region than lotse.yaml says"
	case status >= 500:
		a.is = deploy.ErrUnavailable
		return "try again in a minute; health.aws.amazon.com says how AWS is"
	case strings.Contains(a.code, "NotFound") || strings.HasPrefix(a.code, "NoSuch") || a.code == "InvocationDoesNotExist":
		a.is = deploy.ErrNotFound
	case status >= 400:
		a.is = deploy.ErrBadInput
	}
	return ""
}

func (a *answer) denied(status int) bool {
	return strings.HasPrefix(a.code, "AccessDenied") || slices.Contains([]string{"UnauthorizedOperation", "InsufficientPrivilegesException",
		"NotAuthorized", "UnauthorizedException"}, a.code) || status == 403 && (a.code == "Forbidden" || a.code == "AllAccessDisabled")
}

// deny says which action is missing, and which statement of the deployer's policy has it.
func (a *answer) deny(op *smithy.OperationError) string {
	a.is, a.text = deploy.ErrRefused, ""
	service, name := iamAction(op)
	if m := deniedAction.FindStringSubmatch(errText(op)); m != nil {
		service, name = m[1], m[2] // what it really asked for, which may be more than the call: iam:PassRole
	}
	a.call = service + ":" + name
	a.code = "these credentials have no permission for it"
	if service == "s3" {
		a.code += ", or the bucket is not ours"
	}
	if sid := sidOf(service, name); sid != "" {
		return fmt.Sprintf("the statement %s of the deployer's policy grants %s:%s; `lotse infra apply` brings the policy up to date", sid, service, name)
	}
	return fmt.Sprintf("let somebody who may change policies grant %s:%s", service, name)
}

var deniedAction = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+):([A-Za-z]+)`)

func errText(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorMessage()
	}
	return ""
}

// busy reports whether AWS refuses because something else is under way.
func busy(code, text string) bool {
	return strings.HasPrefix(code, "OperationInProgress") || code == "ResourceInUse" || code == "InvalidDBInstanceState" || code == "ConditionalRequestConflict" ||
		code == "InvalidParameterValue" && (strings.Contains(text, "Must be Ready") || strings.Contains(text, "invalid state for this operation"))
}

// withoutAnswer is a call that AWS has not answered: no credentials, or no network.
func withoutAnswer(a *answer, err error) error {
	text := err.Error()
	if strings.Contains(text, "get credentials") || strings.Contains(text, "refresh cached credentials") || strings.Contains(text, "retrieve credentials") {
		if strings.Contains(text, "expired") || strings.Contains(text, "InvalidGrant") {
			a.is, a.code = deploy.ErrUnavailable, "the credentials have expired"
			return deploy.Hint(a, "log in to AWS again, for example with `aws sso login`")
		}
		a.is, a.code = deploy.ErrMissing, "there are no credentials for AWS"
		return deploy.Hint(a, "log in with `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	a.is, a.code = deploy.ErrUnavailable, "no answer from AWS: "+plain(err)
	return deploy.Hint(a, "look at the network of this machine, and try again")
}

// plain is why a connection failed, without anybody's address.
func plain(err error) string {
	if l, ok := errors.AsType[late](err); ok {
		return l.Error()
	}
	if o, ok := errors.AsType[*net.OpError](err); ok {
		return o.Op + ": " + clean(o.Err.Error())
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok {
		return "no address for " + d.Name
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return clean(u.Err.Error())
	}
	if s, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return clean(s.Err.Error())
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return clean(err.Error())
}

var (
	anyIP   = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\[[0-9a-fA-F:]+\](:\d+)?`)
	anyMail = regexp.MustCompile(`[^\s/@]+@[^\s/@]+\.[^\s/@]+`)
)

// clean takes out of a text what an error must not hold: addresses of machines and of people.
func clean(text string) string {
	return anyMail.ReplaceAllString(anyIP.ReplaceAllString(text, "(address)"), "(address)")
}

// coded reports whether AWS answered with one of the codes.
func coded(err error, codes ...string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode())
}

// says reports whether AWS answered with a text that has these words.
func says(err error, words string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && strings.Contains(api.ErrorMessage(), words)
}

// iamName is a service of the SDK as IAM names it.
func iamName(id string) string {
	switch id {
	case "Elastic Beanstalk":
		return "elasticbeanstalk"
	case "Elastic Load Balancing v2":
		return "elasticloadbalancing"
	case "CloudFormation":
		return "cloudformation"
	case "Secrets Manager":
		return "secretsmanager"
	case "CloudWatch Logs":
		return "logs"
	}
	return strings.ToLower(strings.ReplaceAll(id, " ", ""))
}

// iamAction is the permission that a call needs; of S3 some have other names than the call.
func iamAction(op *smithy.OperationError) (service, name string) {
	name = op.OperationName
	if service = iamName(op.ServiceID); service == "s3" && name == "HeadObject" {
		name = "GetObject"
	}
	return service, name
}
