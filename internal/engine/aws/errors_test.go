package aws

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// wire answers every call with the same words, or with none.
type wire struct {
	status int
	body   string
	err    error
}

func (w wire) RoundTrip(*http.Request) (*http.Response, error) {
	if w.err != nil {
		return nil, w.err
	}
	return &http.Response{StatusCode: w.status, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(w.body))}, nil
}

func refused(status int, code, message string) wire {
	return wire{status: status, body: `<ErrorResponse><Error><Type>Sender</Type><Code>` + code + `</Code><Message>` + message + `</Message></Error><RequestId>1</RequestId></ErrorResponse>`}
}

func over(w wire, provider sdk.CredentialsProvider) clients {
	return newClients(sdk.Config{Region: "eu-central-1", Credentials: provider, HTTPClient: &http.Client{Transport: w}, Retryer: func() sdk.Retryer { return sdk.NopRetryer{} }}, time.Minute)
}

var someKey = credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", "")

// Whatever AWS answers becomes a sentinel to decide by, with something to do, and tells nobody's address.
func TestWhatAWSAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		wire  wire
		is    error
		retry bool
		wants []string
	}{
		"throttled":   {refused(400, "Throttling", "Rate exceeded"), deploy.ErrUnavailable, true, []string{"elasticbeanstalk:DescribeEnvironments"}},
		"expired":     {refused(403, "ExpiredToken", "The security token included in the request is expired"), deploy.ErrUnavailable, true, []string{"expired", "aws sso login"}},
		"unknown key": {refused(403, "InvalidClientTokenId", "The security token included in the request is invalid."), deploy.ErrBadInput, false, []string{"AWS_PROFILE"}},
		"denied": {refused(403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dev/anna@example.com is not authorized to perform: iam:PassRole on resource: x"),
			deploy.ErrRefused, false, []string{"iam:PassRole"}},
		"denied, one of ours": {refused(403, "AccessDenied", "User: anna is not authorized to perform: elasticbeanstalk:DescribeEnvironments on resource: *"),
			deploy.ErrRefused, false, []string{"elasticbeanstalk:DescribeEnvironments", "the statement Environments of the deployer's policy"}},
		"must be ready": {refused(400, "InvalidParameterValue", "Environment named a is in an invalid state for this operation. Must be Ready."), deploy.ErrBusy, true, nil},
		"in progress":   {refused(400, "OperationInProgressException", "busy"), deploy.ErrBusy, true, nil},
		"quota":         {refused(400, "TooManyEnvironmentsException", "You cannot have more than 200"), deploy.ErrRefused, false, []string{"quota"}},
		"away":          {refused(503, "ServiceUnavailable", "try later"), deploy.ErrUnavailable, true, nil},
		"bad value":     {refused(400, "InvalidParameterValue", "instance 10.1.2.3:443 of anna@example.com is odd"), deploy.ErrBadInput, false, []string{"instance"}},
		"no network":    {wire{err: &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 443}, Err: errors.New("connection refused")}}, deploy.ErrUnavailable, true, []string{"connection refused", "network"}},
		"no name":       {wire{err: &net.DNSError{Err: "no such host", Name: "elasticbeanstalk.eu-central-1.amazonaws.com", Server: "10.1.2.3:53"}}, deploy.ErrUnavailable, true, []string{"no address for elasticbeanstalk"}},
	} {
		_, err := over(c.wire, someKey).eb.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{})
		err = translate(err)
		if !errors.Is(err, c.is) || deploy.Retryable(err) != c.retry {
			t.Errorf("%s: %v (try again: %v), want %v", name, err, deploy.Retryable(err), c.is)
			continue
		}
		told := err.Error() + " → " + deploy.HintOf(err)
		for _, want := range c.wants {
			if !strings.Contains(told, want) {
				t.Errorf("%s: it does not say %q: %s", name, want, told)
			}
		}
		for _, never := range []string{"anna", "10.1.2.3", "RequestId"} {
			if strings.Contains(told, never) && name != "denied, one of ours" {
				t.Errorf("%s: it tells %q: %s", name, never, told)
			}
		}
	}
}

func TestCredentials(t *testing.T) {
	none := sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
		return sdk.Credentials{}, errors.New("no EC2 IMDS role found")
	})
	late := sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
		return sdk.Credentials{}, errors.New("the SSO session has expired or is invalid")
	})
	for name, c := range map[string]struct {
		from sdk.CredentialsProvider
		is   error
		want string
	}{"none": {none, deploy.ErrMissing, "AWS_PROFILE"}, "expired": {late, deploy.ErrUnavailable, "aws sso login"}} {
		_, err := over(wire{status: 200}, c.from).eb.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{})
		if err = translate(err); !errors.Is(err, c.is) || !strings.Contains(deploy.HintOf(err), c.want) {
			t.Errorf("%s: %v → %s", name, err, deploy.HintOf(err))
		}
	}
}

// A bucket that answers 403 may be somebody else's, and the error says so.
func TestForeignBucket(t *testing.T) {
	_, err := over(wire{status: 403, body: `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`}, someKey).
		s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: sdk.String("b"), Key: sdk.String("k")})
	if err = translate(err); !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "bucket is not ours") || !strings.Contains(deploy.HintOf(err), "Releases") {
		t.Errorf("%v → %s", err, deploy.HintOf(err))
	}
}

// A cancel stays one.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := over(wire{err: context.Canceled}, someKey).eb.DescribeEnvironments(ctx, &eb.DescribeEnvironmentsInput{})
	if err = translate(err); !errors.Is(err, context.Canceled) || deploy.Retryable(err) {
		t.Errorf("%v", err)
	}
}

func TestActions(t *testing.T) {
	all := Actions()
	if !slices.IsSortedFunc(all, func(a, b Action) int { return strings.Compare(a.String(), b.String()) }) {
		t.Error("they are in no order")
	}
	for i, a := range all {
		if a.Sid == "" || a.Why == "" || i > 0 && a.String() == all[i-1].String() {
			t.Errorf("%+v", a)
		}
	}
}
