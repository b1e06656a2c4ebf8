package infra

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	engine "github.com/lotse-eu/lotse/internal/engine/aws"
)

// main is the template of the stack in the app's region.
func mainTemplate(t *testing.T, app deploy.App) (string, map[string]any) {
	t.Helper()
	files, err := Cloudformation(app, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name == "cloudformation.yaml" {
			return f.Content, parsed(t, f.Content)
		}
	}
	t.Fatal("there is no cloudformation.yaml")
	return "", nil
}

// The contract with the engine, word for word: what it reads of each kind of app. Addresses are for people.
func TestOutputsAreTheContract(t *testing.T) {
	running := "Application ServiceRole Vpc InstanceSubnets BalancerSubnets BalancerSecurityGroup Certificate Releases Key ProdInstanceProfile ProdInstanceSecurityGroup ProdLogs"
	want := map[string]string{
		"mixed": running + " Balancer Listener Address DevInstanceProfile DevInstanceSecurityGroup DevDatabaseHost DevDatabaseSecret DevVolumes DevLogs" +
			" StagingInstanceProfile StagingInstanceSecurityGroup StagingDatabaseHost StagingDatabaseSecret StagingVolumes StagingLogs ProdDatabaseHost ProdDatabaseSecret ProdVolumes",
		"static":         "Releases Key PreProdSite PreProdDistribution PreProdAddress ProdSite ProdDistribution ProdAddress",
		"supabase":       running + " Balancer Listener Address",
		"own-balancer":   running + " ProdDatabaseHost ProdDatabaseSecret",
		"no-zone":        running + " Balancer Listener Address",
		"static-no-zone": "Releases Key ProdSite ProdDistribution ProdAddress",
	}
	for name := range shapes {
		app := shape(t, name)
		_, template := mainTemplate(t, app)
		wanted := slices.Sorted(slices.Values(strings.Fields(want[name])))
		written, _ := template["Outputs"].(map[string]any)
		if got := slices.Sorted(maps.Keys(written)); !slices.Equal(got, wanted) {
			t.Errorf("%s: the template has the outputs\n%v, want\n%v", name, got, wanted)
		}
		if got := slices.Sorted(slices.Values(Outputs(app))); !slices.Equal(got, wanted) {
			t.Errorf("%s: Outputs says %v", name, got)
		}
	}
}

func TestStacksSayWhereTheirParametersComeFrom(t *testing.T) {
	for name := range shapes {
		app := shape(t, name)
		files, err := Cloudformation(app, Options{})
		if err != nil {
			t.Fatal(err)
		}
		made := map[string][]string{}
		for i, s := range Stacks(app) {
			template := parsed(t, files[i].Content)
			var said []string
			for _, p := range s.Parameters {
				said = append(said, p.Name)
				if p.Stack != "" && !slices.Contains(made[p.Stack], p.Output) {
					t.Errorf("%s: %s of %s comes from %s of %s, which is not there by then", name, p.Name, s.Name, p.Output, p.Stack)
				}
				if p.Person && at(template, "Parameters", p.Name, "Default") == nil {
					t.Errorf("%s: %s must be said by a person", name, p.Name)
				}
			}
			wanted, _ := template["Parameters"].(map[string]any)
			if got := slices.Sorted(maps.Keys(wanted)); !slices.Equal(got, slices.Sorted(slices.Values(said))) {
				t.Errorf("%s: %s wants %v, and Stacks says %v", name, s.Name, got, said)
			}
			outputs, _ := template["Outputs"].(map[string]any)
			made[s.Name] = slices.Sorted(maps.Keys(outputs))
			if s.File != files[i].Name {
				t.Errorf("%s: %s stands in %s", name, s.File, files[i].Name)
			}
		}
	}
}

// What the engine calls is allowed, and nothing else is. kms and iam:PassRole are rights that calls of other services want.
func TestPolicyIsWhatTheEngineCalls(t *testing.T) {
	allowed, sids := map[string]bool{}, map[string]string{}
	for _, name := range []string{"mixed", "own-balancer", "static"} {
		for _, s := range Policy(shape(t, name)) {
			for _, a := range s.Actions {
				if s.For != ForEngine || strings.HasPrefix(a, "kms:") || a == "iam:PassRole" {
					continue
				}
				allowed[a] = true
				sids[a+" "+s.Sid] = a
			}
		}
	}
	for _, a := range append(engine.Actions(), engine.SiteActions()...) {
		if !allowed[a.String()] {
			t.Errorf("the engine calls %s, which no statement allows", a)
		}
		found := false
		for key := range sids {
			action, sid, _ := strings.Cut(key, " ")
			found = found || action == a.String() && strings.HasPrefix(sid, a.Sid)
		}
		if !found {
			t.Errorf("the engine says that %s is allowed by %s, and there is no such statement", a, a.Sid)
		}
	}
	for _, a := range append(engine.Actions(), engine.SiteActions()...) {
		delete(allowed, a.String())
	}
	for a := range allowed {
		t.Errorf("%s is allowed, and the engine never calls it", a)
	}
}

// IAM's quotas: 6,144 characters a managed policy, 10,240 of all policies in a role, without white space ("IAM and AWS STS quotas").
func TestPoliciesFit(t *testing.T) {
	longest, err := config.Read("lotse.yaml", []byte(strings.NewReplacer("app: whatsgonow", "app: an-app-with-long-name", "prod:", "live:").Replace(shapes["mixed"])))
	if err != nil {
		t.Fatal(err)
	}
	own := shape(t, "own-balancer")
	own.Name = longest.Name
	many := shape(t, "supabase") // as many stages as a certificate has hosts
	many.Name, many.Stages = "an-app-with-long-name", nil
	for i := range maxHosts {
		s := shape(t, "supabase").Stages[1]
		s.Name, s.URL = fmt.Sprintf("stage%d", i), fmt.Sprintf("https://s%d.matching.eu", i)
		many.Stages = append(many.Stages, s)
	}
	for _, app := range []deploy.App{longest, own, many} {
		_, template := mainTemplate(t, app)
		each(template, "AWS::IAM::ManagedPolicy", func(name string, r map[string]any) {
			if n := size(at(r, "Properties", "PolicyDocument")); n > 6144 {
				t.Errorf("%s has %d characters", name, n)
			}
		})
		each(template, "AWS::IAM::Role", func(name string, r map[string]any) {
			if n := size(at(r, "Properties", "Policies")); n > 10240 {
				t.Errorf("%s has %d characters", name, n)
			}
		})
	}
}

// size is how long a policy is when CloudFormation has filled it in.
func size(document any) int {
	filled := regexp.MustCompile(`\{"Fn::Sub":("[^"]*")\}|\{"Fn::GetAtt":\["Key","Arn"\]\}`).ReplaceAllStringFunc(text(document), func(found string) string {
		if m := regexp.MustCompile(`^\{"Fn::Sub":("[^"]*")\}$`).FindStringSubmatch(found); m != nil {
			return strings.ReplaceAll(m[1], "${AWS::AccountId}", "123456789012")
		}
		return `"arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012"`
	})
	return len(filled)
}

// Names that could be taken for those of the templates' own, or for each other.
func TestStagesMayHaveAnyName(t *testing.T) {
	text := "app: x\nservices: { api: { command: bin/x, path: /, volumes: { v: data } } }\nvolumes: { v: {} }\ndatabase: { postgres: 17 }\naws: { zone: x.eu, budget: 5 }\nstages:\n"
	for i, name := range []string{"access", "database", "balancer", "releases", "key", "volume", "listener", "http", "instance", "service"} {
		text += fmt.Sprintf("  %s: { url: https://s%d.x.eu, engine: aws }\n", name, i)
	}
	app, err := config.Read("lotse.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	mainTemplate(t, app) // a name that is there twice is an error
}

func TestWhatCannotBeWrittenDownIsSaid(t *testing.T) {
	edit := func(name string, change func(*deploy.App)) deploy.App {
		app := shape(t, name)
		app.Stages = slices.Clone(app.Stages)
		change(&app)
		return app
	}
	for _, c := range []struct {
		app  deploy.App
		want error
		says string
	}{
		{edit("mixed", func(a *deploy.App) {
			for i := range a.Stages {
				a.Stages[i].Engine = "local"
			}
		}), deploy.ErrBadInput, "no stage of whatsgonow has the engine aws"},
		{edit("static", func(a *deploy.App) { a.Stages[0].Private = true }), deploy.ErrUnsupported, "pre-prod is private"},
		{edit("static", func(a *deploy.App) { a.Stages[0].Database.Postgres = 15 }), deploy.ErrUnsupported, "no service with a command"},
		{edit("mixed", func(a *deploy.App) { a.Stages[0].Name, a.Stages[1].Name = "a1", "a-1" }), deploy.ErrBadInput, "are both A1"},
		{edit("mixed", func(a *deploy.App) {
			for i := range 9 {
				a.Stages[2].Redirects = append(a.Stages[2].Redirects, fmt.Sprintf("https://h%d.whatsgonow.com", i))
			}
		}), deploy.ErrUnsupported, "a certificate has 10"},
		{edit("own-balancer", func(a *deploy.App) { a.Stages[0].AWS.Region = "ca-west-1" }), deploy.ErrUnsupported, "the top of the zone"},
	} {
		for form, write := range writers {
			if files, err := write(c.app, Options{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || deploy.HintOf(err) == "" || files != nil {
				t.Errorf("%s: got %v, want %q with a hint", form, err, c.says)
			}
		}
		if Outputs(c.app) != nil || Stacks(c.app) != nil || Policy(c.app) != nil || Residency(c.app) != nil || Costs(c.app, Options{}) != nil {
			t.Errorf("something is said of an app that cannot be written down: %s", c.says)
		}
	}
}

// counterparts are the two writers' words for the same things.
var counterparts = map[string]string{
	"AWS::KMS::Key": "aws_kms_key", "AWS::KMS::Alias": "aws_kms_alias", "AWS::EC2::VPC": "aws_vpc", "AWS::EC2::InternetGateway": "aws_internet_gateway", "AWS::EC2::Subnet": "aws_subnet",
	"AWS::EC2::EIP": "aws_eip", "AWS::EC2::NatGateway": "aws_nat_gateway", "AWS::EC2::RouteTable": "aws_route_table", "AWS::EC2::Route": "aws_route",
	"AWS::EC2::SubnetRouteTableAssociation": "aws_route_table_association", "AWS::EC2::VPCEndpoint": "aws_vpc_endpoint", "AWS::EC2::SecurityGroup": "aws_security_group",
	"AWS::EC2::VPCGatewayAttachment": "aws_internet_gateway", "AWS::IAM::Role": "aws_iam_role", "AWS::IAM::InstanceProfile": "aws_iam_instance_profile",
	"AWS::IAM::ManagedPolicy": "aws_iam_policy", "AWS::IAM::OIDCProvider": "aws_iam_openid_connect_provider", "AWS::S3::Bucket": "aws_s3_bucket", "AWS::S3::BucketPolicy": "aws_s3_bucket_policy",
	"AWS::ElasticBeanstalk::Application": "aws_elastic_beanstalk_application", "AWS::Logs::LogGroup": "aws_cloudwatch_log_group", "AWS::CertificateManager::Certificate": "aws_acm_certificate",
	"AWS::ElasticLoadBalancingV2::LoadBalancer": "aws_lb", "AWS::ElasticLoadBalancingV2::Listener": "aws_lb_listener", "AWS::ElasticLoadBalancingV2::ListenerRule": "aws_lb_listener_rule",
	"AWS::CloudFront::CachePolicy": "aws_cloudfront_cache_policy", "AWS::CloudFront::ResponseHeadersPolicy": "aws_cloudfront_response_headers_policy",
	"AWS::CloudFront::OriginAccessControl": "aws_cloudfront_origin_access_control", "AWS::CloudFront::Function": "aws_cloudfront_function",
	"AWS::CloudFront::Distribution": "aws_cloudfront_distribution", "AWS::RDS::DBSubnetGroup": "aws_db_subnet_group", "AWS::RDS::DBParameterGroup": "aws_db_parameter_group",
	"AWS::RDS::DBInstance": "aws_db_instance", "AWS::SecretsManager::Secret": "aws_secretsmanager_secret", "AWS::EFS::FileSystem": "aws_efs_file_system", "AWS::EFS::MountTarget": "aws_efs_mount_target",
	"AWS::Route53::RecordSet": "aws_route53_record", "AWS::SNS::Topic": "aws_sns_topic", "AWS::SNS::TopicPolicy": "aws_sns_topic_policy", "AWS::CloudWatch::Alarm": "aws_cloudwatch_metric_alarm",
	"AWS::Budgets::Budget": "aws_budgets_budget", "AWS::Logs::DeliveryDestination": "aws_cloudwatch_log_delivery_destination", "AWS::Logs::DeliverySource": "aws_cloudwatch_log_delivery_source",
	"AWS::Logs::Delivery": "aws_cloudwatch_log_delivery",
}

func TestBothWritersWriteTheSame(t *testing.T) {
	// What Terraform has further resources for, which are properties in CloudFormation.
	only := []string{"aws_s3_bucket_", "aws_vpc_security_group_", "aws_iam_role_polic", "aws_acm_certificate_validation", "aws_secretsmanager_secret_version", "aws_efs_backup_policy",
		"aws_efs_file_system_policy", "aws_cloudformation_stack", "aws_route53_record"}
	for name := range shapes {
		templates, modules := both(t, shape(t, name))
		want := map[string]bool{}
		for _, kind := range regexp.MustCompile(`(?m)^    Type: (AWS::\w+::\w+)$`).FindAllStringSubmatch(templates, -1) {
			if counterparts[kind[1]] == "" {
				t.Fatalf("%s has no counterpart", kind[1])
			}
			want[counterparts[kind[1]]] = true
		}
		got := map[string]bool{}
		for _, kind := range regexp.MustCompile(`(?m)^resource "(\w+)"`).FindAllStringSubmatch(modules, -1) {
			extra := slices.ContainsFunc(only, func(o string) bool { return strings.HasPrefix(kind[1], o) })
			if want[kind[1]] || !extra {
				got[kind[1]] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: CloudFormation and Terraform make different things: %s", name, diff)
		}
	}
}

// both are all that is written in each of the two languages.
func both(t *testing.T, app deploy.App) (templates, modules string) {
	t.Helper()
	for form, write := range writers {
		files, err := write(app, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if form == "terraform" {
				modules += f.Content
			} else {
				templates += f.Content
			}
		}
	}
	return templates, modules
}

func TestTerraformDestroysNoData(t *testing.T) {
	held := []string{"aws_s3_bucket", "aws_db_instance", "aws_efs_file_system", "aws_kms_key", "aws_secretsmanager_secret", "aws_cloudwatch_log_group"}
	for name := range shapes {
		_, modules := both(t, shape(t, name))
		for _, block := range regexp.MustCompile(`(?ms)^resource "(\w+)" "(\w+)" \{.*?^\}`).FindAllStringSubmatch(modules, -1) {
			if slices.Contains(held, block[1]) && !strings.Contains(block[0], "prevent_destroy = true") {
				t.Errorf("%s: %s.%s may be destroyed by a plan", name, block[1], block[2])
			}
		}
	}
}
