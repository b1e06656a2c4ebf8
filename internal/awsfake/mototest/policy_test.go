package mototest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/infra"
)

const policed = `app: shop
services: { web: { command: node server.js } }
aws: { region: eu-central-1, zone: example.org }
stages: { prod: { engine: aws, url: https://shop.example.org, access: open, database: { postgres: 15 } } }
`

// ask makes one call of a service of which no client is among our libraries (IAM, EC2), and returns the answer.
func ask(t *testing.T, cfg aws.Config, service string, form ...string) string {
	t.Helper()
	values := url.Values{}
	for pair := range slices.Chunk(form, 2) {
		values.Set(pair[0], pair[1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint+"/", strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	return answerTo(t, r)
}

func answerTo(t *testing.T, r *http.Request) string {
	t.Helper()
	answer, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", answer.Status, text, err)
	}
	return string(text)
}

func element(t *testing.T, answer, name string) string {
	t.Helper()
	found := regexp.MustCompile("<" + name + ">([^<]+)</" + name + ">").FindStringSubmatch(answer)
	if found == nil {
		t.Fatalf("no %s in %s", name, answer)
	}
	return found[1]
}

// enforces makes moto look at policies from the next call on, or not any more.
func enforces(t *testing.T, cfg aws.Config, on bool) {
	t.Helper()
	after := map[bool]string{true: "0", false: "inf"}[on]
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint+"/moto-api/reset-auth", strings.NewReader(after))
	if err != nil {
		t.Fatal(err)
	}
	answerTo(t, r)
}

// document is what of the deployer's policy is for the engine, as moto can judge it, without some statements. Moto knows resources of S3 alone, and conditions of
// nothing: those of others are widened, so that of these only the actions are tried.
func document(t *testing.T, without ...string) string {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(policed))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("{region}", region, "{account}", mototest.Account, "{key}", "*")
	var statements []map[string]any
	for _, s := range infra.Policy(app) {
		if s.For != infra.ForEngine || slices.ContainsFunc(without, func(begin string) bool { return strings.HasPrefix(s.Sid, begin) }) {
			continue
		}
		resources := []string{"*"}
		if strings.HasPrefix(s.Actions[0], "s3:") {
			resources = nil
			for _, r := range s.Resources {
				resources = append(resources, filled.Replace(r))
			}
		}
		statements = append(statements, map[string]any{"Sid": s.Sid, "Effect": "Allow", "Action": s.Actions, "Resource": resources})
	}
	raw, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// deployer is a user who may do what a policy allows and nothing else.
func deployer(t *testing.T, cfg aws.Config) aws.Config {
	t.Helper()
	ask(t, cfg, "iam", "Action", "CreateUser", "UserName", "deployer")
	made := ask(t, cfg, "iam", "Action", "CreateAccessKey", "UserName", "deployer")
	its := cfg.Copy()
	its.Credentials = credentials.NewStaticCredentialsProvider(element(t, made, "AccessKeyId"), element(t, made, "SecretAccessKey"), "")
	return its
}

func allow(t *testing.T, cfg aws.Config, policy string) {
	t.Helper()
	enforces(t, cfg, false)
	ask(t, cfg, "iam", "Action", "PutUserPolicy", "UserName", "deployer", "PolicyName", "deploy", "PolicyDocument", policy)
	enforces(t, cfg, true)
}

// balanced makes a balancer with the rule of the stage, as Lotse would have made it, and one that is somebody else's.
func balanced(t *testing.T, cfg aws.Config) (listener string) {
	t.Helper()
	ctx, client := t.Context(), elb.NewFromConfig(cfg)
	subnet := element(t, ask(t, cfg, "ec2", "Action", "DescribeSubnets", "Version", "2016-11-15"), "subnetId")
	b, err := client.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("lotse-shop"), Subnets: []string{subnet}})
	if err != nil {
		t.Fatal(err)
	}
	nothing := []elbtypes.Action{{Type: elbtypes.ActionTypeEnumFixedResponse, FixedResponseConfig: &elbtypes.FixedResponseActionConfig{StatusCode: aws.String("404"), ContentType: aws.String("text/plain")}}}
	l, err := client.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: b.LoadBalancers[0].LoadBalancerArn, Port: aws.Int32(80), Protocol: elbtypes.ProtocolEnumHttp, DefaultActions: nothing})
	if err != nil {
		t.Fatal(err)
	}
	tag := func(key, value string) elbtypes.Tag { return elbtypes.Tag{Key: &key, Value: &value} }
	for priority, host := range map[int32]string{20000: "shop.example.org", 7: "other.example.org"} {
		in := &elb.CreateRuleInput{ListenerArn: l.Listeners[0].ListenerArn, Priority: &priority, Actions: nothing,
			Conditions: []elbtypes.RuleCondition{{Field: aws.String("host-header"), HostHeaderConfig: &elbtypes.HostHeaderConditionConfig{Values: []string{host}}}}}
		if priority == 20000 {
			in.Tags = []elbtypes.Tag{tag("lotse:app", "shop"), tag("lotse:stage", "prod"), tag("lotse:kind", "stage")}
		}
		if _, err := client.CreateRule(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	return *l.Listeners[0].ListenerArn
}

// hosts are those of the listener's rules.
func hosts(t *testing.T, cfg aws.Config, listener string) (all []string) {
	t.Helper()
	out, err := elb.NewFromConfig(cfg).DescribeRules(t.Context(), &elb.DescribeRulesInput{ListenerArn: &listener})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Rules {
		for _, c := range r.Conditions {
			all = append(all, c.HostHeaderConfig.Values...)
		}
	}
	return all
}

// With the policy that is rendered the engine does what it does; without a statement of it the call that needs it is refused, and the
// engine says which and what is missing. S3 also by resource. Rules of a balancer are looked up and deleted by the engine.
func TestPolicyOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "the deployer's policy was judged by no IAM that others wrote")
	listener := balanced(t, cfg)
	stack(t, cfg, "Listener", listener)
	its := deployer(t, cfg)
	ctx := t.Context()
	// Moto words refusals of all but S3 as AWS does not, so that no code is found in them: of those only which call was refused is looked at.
	for _, test := range []struct{ without, action string }{{"Stack", "cloudformation:DescribeStacks"}, {"Secrets", "secretsmanager:GetSecretValue"}, {"Releases", "s3:GetObject"},
		{"Traffic", "elasticloadbalancing:DescribeRules"}, {"Database", "rds:DescribeDBInstances"}} {
		allow(t, cfg, document(t, test.without))
		e, db := open(t, its, 15)
		_, err := e.DatabaseURL(ctx, db)
		if err == nil {
			err = e.OpenDatabase(ctx, 1, db)
		}
		if err == nil {
			err = e.End(ctx, 1)
		}
		told := ""
		if err != nil {
			told = err.Error() + " → " + deploy.HintOf(err)
		}
		if !strings.Contains(told, test.action) || strings.HasPrefix(test.action, "s3:") && (!errors.Is(err, deploy.ErrRefused) || !strings.Contains(told, "the statement "+test.without)) {
			t.Errorf("without %s: %s", test.without, told)
		}
	}
	allow(t, cfg, document(t))
	e, db := open(t, its, 15)
	if _, err := e.DatabaseURL(ctx, db); err != nil {
		t.Errorf("secrets: %v", err)
	}
	if err := e.OpenDatabase(ctx, 2, db); err != nil {
		t.Errorf("fence and database: %v", err)
	}
	for range 2 { // twice is fine
		if err := e.End(ctx, 2); err != nil {
			t.Errorf("rules: %v", err)
		}
	}
	if _, err := buckets(its).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("somebody-elses"), Key: aws.String("x"), Body: strings.NewReader("x")}); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("a bucket that is not of the app: %v", err)
	}
	enforces(t, cfg, false)
	if left := hosts(t, cfg, listener); !slices.Equal(left, []string{"other.example.org"}) {
		t.Errorf("rules are left for %v", left)
	}
}
