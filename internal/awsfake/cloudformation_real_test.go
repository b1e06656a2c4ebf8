package awsfake

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
)

const realTemplate = `
Resources:
  App: { Type: AWS::ElasticBeanstalk::Application, Properties: { ApplicationName: shop } }
  Certificate: { Type: AWS::CertificateManager::Certificate, Properties: { DomainName: shop.example, SubjectAlternativeNames: [www.shop.example] } }
  Balancer: { Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: { Name: shop } }
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties:
      LoadBalancerArn: !Ref Balancer
      Port: "443"
      Protocol: HTTPS
      Certificates: [{ CertificateArn: !Ref Certificate }]
      DefaultActions: [{ Type: fixed-response, FixedResponseConfig: { StatusCode: "404" } }]
  Rule:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Priority: "7"
      Conditions: [{ Field: host-header, HostHeaderConfig: { Values: [www.shop.example] } }]
      Actions: [{ Type: fixed-response, FixedResponseConfig: { StatusCode: "503" } }]
  Password:
    Type: AWS::SecretsManager::Secret
    Properties: { GenerateSecretString: { SecretStringTemplate: '{"username":"shop"}', GenerateStringKey: password } }
  Logs: { Type: AWS::Logs::LogGroup, Properties: { LogGroupName: /shop } }
  Database: { Type: AWS::RDS::DBInstance, DeletionPolicy: Delete, Properties: { Engine: postgres, EngineVersion: "17", DBName: app } }
Outputs:
  Listener: { Value: !Ref Listener }
  Password: { Value: !Ref Password }
  Database: { Value: !Ref Database }
`

// What a stack makes, the other services have; when it goes, they have it no more, and what had gone before is no obstacle.
func TestStacksMakeRealThings(t *testing.T) {
	w, c := formed(t)
	set(t, c, "one", realTemplate, cf.ChangeSetTypeCreate)
	if state := execute(t, c, "one"); state != cf.StackStatusCreateComplete {
		t.Fatal(state)
	}
	of := map[string]string{}
	for _, o := range ended(t, c).Outputs {
		of[*o.OutputKey] = *o.OutputValue
	}
	ctx, config := t.Context(), w.Config("")
	rules, err := elb.NewFromConfig(config).DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: aws.String(of["Listener"])})
	if err != nil || len(rules.Rules) != 2 || *rules.Rules[0].Priority != "7" || rules.Rules[0].Conditions[0].HostHeaderConfig.Values[0] != "www.shop.example" {
		t.Errorf("rules: %+v, %v", rules, err)
	}
	secret, err := secretsmanager.NewFromConfig(config).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(of["Password"])})
	var login struct{ Username, Password string }
	if err != nil || json.Unmarshal([]byte(*secret.SecretString), &login) != nil || login.Username != "shop" || len(login.Password) < 30 || !strings.HasPrefix(*secret.Name, "Password-") {
		t.Errorf("secret: %v", err)
	}
	databases := rds.NewFromConfig(config)
	in := &rds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String(of["Database"])}
	if out, err := databases.DescribeDBInstances(ctx, in); err != nil || len(out.DBInstances) != 1 || *out.DBInstances[0].EngineVersion != "17.4" || *out.DBInstances[0].DBInstanceStatus != "available" {
		t.Errorf("database: %+v, %v", out, err)
	}
	w.ByHand("eu-central-1", "shop", "Database", "DBInstanceStatus", "stopped")
	if out, err := databases.DescribeDBInstances(ctx, in); err != nil || *out.DBInstances[0].DBInstanceStatus != "stopped" {
		t.Errorf("a database that was stopped: %+v, %v", out, err)
	}
	logs := cloudwatchlogs.NewFromConfig(config)
	if _, err := logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String("/shop")}); err != nil { // by hand, before the stack goes
		t.Errorf("log group: %v", err)
	}
	if _, err := c.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: aws.String("shop")}); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		_, err := c.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String("shop")})
		return err != nil
	})
	apps, err := eb.NewFromConfig(config).DescribeApplications(ctx, &eb.DescribeApplicationsInput{})
	if err != nil || len(apps.Applications) != 0 {
		t.Errorf("applications are left: %v, %v", apps, err)
	}
	balancers, err := elb.NewFromConfig(config).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	if err != nil || len(balancers.LoadBalancers) != 0 {
		t.Errorf("balancers are left: %v, %v", balancers, err)
	}
	refused(t, second(databases.DescribeDBInstances(ctx, in)), "DBInstanceNotFound")
	refused(t, second(secretsmanager.NewFromConfig(config).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(of["Password"])})), "ResourceNotFoundException")
}

// Of RDS there are some operations, none over all databases; faults meet them.
func TestDatabasesOfTheFake(t *testing.T) {
	w := Open(t, Options{})
	c := rds.NewFromConfig(w.Config(""))
	refused(t, second(c.DescribeDBInstances(t.Context(), &rds.DescribeDBInstancesInput{})), "InvalidAction")
	refused(t, second(c.StopDBInstance(t.Context(), &rds.StopDBInstanceInput{DBInstanceIdentifier: aws.String("shop")})), "InvalidAction")
	w.Deny("rds", "DescribeDBInstances")
	refused(t, second(c.DescribeDBInstances(t.Context(), &rds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String("shop")})), "AccessDenied")
	calls := w.Calls()
	if last := calls[len(calls)-1]; last.Service != "rds" || last.Resource != "shop" || last.Err == "" {
		t.Errorf("the call is %+v", last)
	}
}

// A rule that the balancer refuses fails the stack, which takes everything back.
func TestStacksFailWhereTheServiceRefuses(t *testing.T) {
	w, c := formed(t)
	set(t, c, "one", strings.Replace(realTemplate, "ListenerArn: !Ref Listener\n", "ListenerArn: arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/none/0/0\n", 1), cf.ChangeSetTypeCreate)
	if state := execute(t, c, "one"); state != cf.StackStatusRollbackComplete {
		t.Error(state)
	}
	balancers, err := elb.NewFromConfig(w.Config("")).DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil || len(balancers.LoadBalancers) != 0 {
		t.Errorf("balancers are left: %v, %v", balancers, err)
	}
}

func second[T any](_ T, err error) error { return err }

func refused(t *testing.T, err error, code string) {
	t.Helper()
	if api, ok := errors.AsType[smithy.APIError](err); !ok || !strings.HasPrefix(api.ErrorCode(), code) {
		t.Errorf("%v, want %s", err, code)
	}
}
