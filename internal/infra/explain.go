package infra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const goesOn = "then run the same command again: it goes on where this one ended"

// explain says what an error of AWS means. action is what was called, as IAM names it.
func (s *session) explain(ctx context.Context, err error, action, region string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refusal smithy.APIError
	if !errors.As(err, &refusal) {
		return unreached(err, region)
	}
	message := scrubbed(refusal.ErrorMessage())
	switch code := refusal.ErrorCode(); {
	case isDenied(code):
		return s.denied(refusal.ErrorMessage(), action)
	case strings.HasPrefix(code, "ExpiredToken") || code == "RequestExpired":
		return expired()
	case code == "InvalidClientTokenId" || code == "UnrecognizedClientException" || code == "OptInRequired" || code == "AuthFailure":
		return deploy.Hint(fmt.Errorf("%w: AWS does not know the credentials in %s", deploy.ErrBadInput, region),
			"look whether aws.region of lotse.yaml is the one that you mean, and is enabled (aws account get-region-opt-status --region-name "+region+"), or take other credentials")
	case strings.HasPrefix(code, "Throttling") || code == "RequestLimitExceeded" || code == "TooManyRequestsException":
		return deploy.Hint(fmt.Errorf("%w: AWS takes no more calls of %s for now", deploy.ErrUnavailable, action), "wait some minutes, "+goesOn)
	case statusOf(err) >= http.StatusInternalServerError:
		return deploy.Hint(fmt.Errorf("%w: AWS could not answer %s: %s", deploy.ErrUnavailable, action, message), "wait some minutes, "+goesOn)
	case strings.Contains(message, "_IN_PROGRESS state and can not be updated"):
		return deploy.Hint(fmt.Errorf("%w: %s", deploy.ErrBusy, message), "wait until it is done, "+goesOn)
	default:
		return fmt.Errorf("%w: AWS refuses %s: %s", deploy.ErrRefused, action, message)
	}
}

func expired() error {
	return deploy.Hint(fmt.Errorf("%w: the credentials of AWS have expired", deploy.ErrUnavailable), "log in again (aws sso login), "+goesOn)
}

func isDenied(code string) bool {
	return strings.HasPrefix(code, "AccessDenied") || code == "UnauthorizedOperation" || code == "NotAuthorized"
}

func statusOf(err error) int {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// unreached is an error without an answer. A region that does not exist has no name in DNS.
func unreached(err error, region string) error {
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.IsNotFound {
		return deploy.Hint(fmt.Errorf("%w: AWS has no address in %s, or this machine cannot look it up", deploy.ErrBadInput, region),
			"look whether aws.region of lotse.yaml is a region, and whether this machine is on the network")
	}
	return deploy.Hint(fmt.Errorf("%w: AWS was not reached in %s", deploy.ErrUnavailable, region), "look at the network, "+goesOn)
}

// refused is how AWS words a missing permission, in errors and in the reasons of events.
var refused = regexp.MustCompile(`not authorized to perform: ([a-zA-Z0-9-]+:[a-zA-Z0-9]+)(?: on resource: (\S+))?`)

// denied names what is missing and the statement that grants it. AWS's own sentence is not repeated: it may have a person's name in it.
func (s *session) denied(message, action string) error {
	resource := "*"
	if found := refused.FindStringSubmatch(message); found != nil {
		action = found[1]
		if strings.HasPrefix(found[2], "arn:") {
			resource = found[2]
		}
	}
	if strings.Contains(message, "explicit deny") {
		return deploy.Hint(fmt.Errorf("%w: a policy denies %s the action %s", deploy.ErrRefused, s.who, action), "ask whoever runs the account: a policy of the organisation or a boundary denies it")
	}
	return deploy.Hint(fmt.Errorf("%w: %s may not %s", deploy.ErrRefused, s.whom(), action), grant(action, resource))
}

func (s *session) whom() string {
	if s.who == "" {
		return "whoever the credentials are of"
	}
	return s.who
}

// grant is the line that a policy lacks.
func grant(action, resource string) string {
	return fmt.Sprintf(`add to its policy: {"Effect": "Allow", "Action": %q, "Resource": %q}`, action, resource)
}
