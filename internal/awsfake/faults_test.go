package awsfake_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

func TestFaultsStrikeTheCallsThatTheyName(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	identity := sts.NewFromConfig(w.Config(""))
	secrets := secretsmanager.NewFromConfig(w.Config("us-east-1"))
	describe := func() error {
		_, err := c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{})
		return err
	}

	w.Inject(awsfake.Throttled("elasticbeanstalk", "DescribeEnvironments", 2))
	w.ForgetCalls()
	if err := describe(); err != nil || len(w.Calls()) != 3 || w.Calls()[0].Err != "Throttling" || w.Calls()[2].Err != "" {
		t.Errorf("throttled twice, tried thrice: %v, %+v", err, w.Calls())
	}

	w.Inject(awsfake.Fault{Service: "elasticbeanstalk", Action: "DescribeEnvironments", After: 1, Code: "InvalidParameterValue", Message: "no"})
	if err := describe(); err != nil {
		t.Errorf("the first passes: %v", err)
	}
	if err := describe(); codeOf(err) != "InvalidParameterValue" {
		t.Errorf("the second fails: %v", err)
	}
	if err := describe(); err != nil {
		t.Errorf("the third passes: %v", err)
	}

	w.Inject(awsfake.Expired(""))
	if err := describe(); codeOf(err) != "ExpiredToken" {
		t.Errorf("expired: %v", err)
	}
	if _, err := secrets.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{}); codeOf(err) != "ExpiredTokenException" {
		t.Errorf("expired, in JSON: %v", err)
	}
	w.Heal()

	w.Deny("elasticbeanstalk", "CreateApplication")
	_, err := c.CreateApplication(t.Context(), &eb.CreateApplicationInput{ApplicationName: aws.String("more")})
	if codeOf(err) != "AccessDenied" || !strings.Contains(err.Error(), "User: arn:aws:iam::123456789012:user/lotse is not authorized to perform: elasticbeanstalk:CreateApplication on resource: more") {
		t.Errorf("denied: %v", err)
	}
	if out, err := identity.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err != nil || *out.Account != "123456789012" {
		t.Errorf("another service: %v", err)
	}
}

func TestLostNetworkAndAnswersThatAreLost(t *testing.T) {
	w, c := shop(t, awsfake.Options{})
	create := func(ctx context.Context, name string) error {
		_, err := c.CreateApplication(ctx, &eb.CreateApplicationInput{ApplicationName: &name}, func(o *eb.Options) { o.Retryer = aws.NopRetryer{} })
		return err
	}
	there := func(name string) bool {
		out, err := c.DescribeApplications(t.Context(), &eb.DescribeApplicationsInput{ApplicationNames: []string{name}})
		return err == nil && len(out.Applications) == 1
	}
	w.Inject(awsfake.Fault{Action: "CreateApplication", Drop: true})
	if err := create(t.Context(), "dropped"); err == nil || there("dropped") {
		t.Errorf("a call that never arrived: %v", err)
	}
	w.Inject(awsfake.Fault{Action: "CreateApplication", Drop: true, Done: true})
	if err := create(t.Context(), "done"); err == nil || !there("done") {
		t.Errorf("a call whose answer was lost: %v", err)
	}
	w.Inject(awsfake.Fault{Action: "CreateApplication", Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := create(ctx, "hung"); err == nil || there("hung") {
		t.Errorf("a call that hangs: %v", err)
	}
}

func TestUnknownMembersAndMissingOnesAreRefused(t *testing.T) {
	w, _ := shop(t, awsfake.Options{})
	for form, wanted := range map[string]string{
		"Action=CreateApplication&ApplicationName=a&Nonsense=1":                                           "unknown member Nonsense",
		"Action=CreateApplication&Description=a":                                                          "'applicationName'",
		"Action=DescribeEvents&Severity=LOUD":                                                             "enum value set",
		"Action=DescribeEnvironments&EnvironmentNames.1=a":                                                "is a list",
		"Action=DescribeEnvironments&IncludeDeleted=perhaps":                                              "is no bool",
		"Action=UpdateEnvironment&EnvironmentName=a&OptionSettings.member.2.Value=a":                      "no element 1",
		"Action=CreateEnvironment&ApplicationName=a&OptionSettings.member.1.Valeu=a&EnvironmentName=shop": "unknown member OptionSettings.member.1.Valeu",
	} {
		values, err := url.ParseQuery(form)
		if err != nil {
			t.Fatal(err)
		}
		input := map[string]any{}
		for key := range values {
			if key != "Action" {
				input[key] = values.Get(key)
			}
		}
		answer, status := ask(t, w, values.Get("Action"), input)
		if refusal := answer.children["ErrorResponse"]; status != http.StatusBadRequest || len(refusal) != 1 || !strings.Contains(refusal[0].children["Error"][0].children["Message"][0].text, wanted) {
			t.Errorf("%s: %d %+v", form, status, answer)
		}
	}
}

func TestConditionalPutIsOneStep(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.Bucket("releases")
	w.ForeignBucket("theirs")
	c := s3.NewFromConfig(w.Config(""))
	put := func(bucket, body string, change func(*s3.PutObjectInput)) (*s3.PutObjectOutput, error) {
		in := &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("stages/prod/fence.json"), Body: strings.NewReader(body)}
		change(in)
		return c.PutObject(t.Context(), in)
	}
	var won, lost atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch _, err := put("releases", "first", func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }); codeOf(err) {
			case "":
				won.Add(1)
			case "PreconditionFailed":
				lost.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || lost.Load() != 19 {
		t.Errorf("%d wrote the object first and %d were refused", won.Load(), lost.Load())
	}
	got, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("releases"), Key: aws.String("stages/prod/fence.json")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put("releases", "second", func(in *s3.PutObjectInput) { in.IfMatch = got.ETag }); err != nil {
		t.Errorf("with the right tag: %v", err)
	}
	if _, err := put("releases", "third", func(in *s3.PutObjectInput) { in.IfMatch = got.ETag }); codeOf(err) != "PreconditionFailed" {
		t.Errorf("with the tag of before: %v", err)
	}
	if string(w.Object("releases", "stages/prod/fence.json")) != "second" {
		t.Errorf("the object holds %s", w.Object("releases", "stages/prod/fence.json"))
	}
	if _, err := put("theirs", "x", func(*s3.PutObjectInput) {}); codeOf(err) != "AccessDenied" {
		t.Errorf("a bucket of another account: %v", err)
	}
	if _, err := put("releases", "other bytes", func(in *s3.PutObjectInput) {
		in.ChecksumSHA256 = aws.String("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")
	}); codeOf(err) != "BadDigest" {
		t.Errorf("bytes that are not those of the checksum: %v", err)
	}
	w.Inject(awsfake.Throttled("s3", "PutObject", 4))
	if _, err := put("releases", "x", func(*s3.PutObjectInput) {}); codeOf(err) != "SlowDown" {
		t.Errorf("throttled: %v", err)
	}
	w.Heal()
	w.RemoveObject("releases", "stages/prod/fence.json")
	if _, err := put("releases", "x", func(in *s3.PutObjectInput) { in.IfMatch = got.ETag }); codeOf(err) != "NoSuchKey" {
		t.Errorf("If-Match where nothing is: %v", err)
	}
}
