package awsfake

import (
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// What a stack makes is there for the other services too, as far as the fake has those: applications, balancers with listeners and rules,
// certificates, secrets, log groups, records. All else of a template is a name.

// real makes a resource in the service that it belongs to, and gives it the name that it has there. It says why that cannot be.
func (w *World) real(s *stack, r *stackResource) error {
	c := &request{w: w, region: w.in(s.region)}
	switch r.kind {
	case "AWS::ElasticBeanstalk::Application":
		return c.realApplication(r)
	case "AWS::CertificateManager::Certificate":
		hosts := []string{str(r.properties["DomainName"])}
		for _, host := range list(r.properties["SubjectAlternativeNames"]) {
			hosts = append(hosts, str(host))
		}
		c.region.balancing.certificates[r.physical] = hosts
	case "AWS::ElasticLoadBalancingV2::LoadBalancer":
		return c.realBalancer(s, r)
	case "AWS::ElasticLoadBalancingV2::Listener":
		in := elb.CreateListenerInput{}
		return throughAPI(r, &in, func() (string, error) {
			out, err := createListener(c, &in)
			if err != nil {
				return "", err
			}
			return *out.Listeners[0].ListenerArn, nil
		})
	case "AWS::ElasticLoadBalancingV2::ListenerRule":
		in := elb.CreateRuleInput{}
		return throughAPI(r, &in, func() (string, error) {
			out, err := createRule(c, &in)
			if err != nil {
				return "", err
			}
			return *out.Rules[0].RuleArn, nil
		})
	case "AWS::SecretsManager::Secret":
		return c.realSecret(r)
	case "AWS::Logs::LogGroup":
		if _, err := createLogGroup(c, &cwl.CreateLogGroupInput{LogGroupName: &r.physical}); err != nil {
			return err
		}
	case "AWS::CloudFront::Distribution":
		return w.distribute(r.physical, s.distribution(r))
	case "AWS::S3::BucketPolicy":
		w.deny(str(r.properties["Bucket"]), object(r.properties["PolicyDocument"]))
	case "AWS::Route53::RecordSet":
		w.backing.record(str(r.properties["Name"]), recordTarget(r), w.options.RecordTTL)
	}
	return nil
}

// throughAPI fills an input from the properties of a template, whose names are those of the API.
func throughAPI(r *stackResource, in any, create func() (string, error)) error {
	raw, err := json.Marshal(asAPI(r.properties))
	if err == nil {
		err = json.Unmarshal(raw, in)
	}
	if err != nil {
		return err
	}
	name, err := create()
	if err == nil {
		r.physical = name
	}
	return err
}

// asAPI turns what templates write otherwise than the API: numbers are text in resolved properties.
func asAPI(properties map[string]any) map[string]any {
	out := map[string]any{}
	for name, value := range properties {
		if text, is := value.(string); is && (name == "Port" && !strings.Contains(text, "#") || name == "Priority") {
			value = json.Number(text)
		}
		out[name] = value
	}
	return out
}

func (c *request) realApplication(r *stackResource) error {
	_, err := createApplication(c, &eb.CreateApplicationInput{ApplicationName: &r.physical})
	return err
}

func (c *request) realBalancer(s *stack, r *stackResource) error {
	name := str(r.properties["Name"])
	if name == "" {
		name = s.name + "-" + newID(8)
	}
	out, err := createBalancer(c, &elb.CreateLoadBalancerInput{Name: &name})
	if err != nil {
		return err
	}
	r.physical = *out.LoadBalancers[0].LoadBalancerArn
	return nil
}

// realSecret makes the secret, with a password of the fake's where the template wants one made.
func (c *request) realSecret(r *stackResource) error {
	in := &sm.CreateSecretInput{Name: aws.String(str(r.properties["Name"])), Description: aws.String(str(r.properties["Description"]))}
	if *in.Name == "" {
		in.Name = aws.String(r.id + "-" + newID(8))
	}
	if generate := object(r.properties["GenerateSecretString"]); len(generate) > 0 {
		whole := map[string]any{}
		if err := json.Unmarshal([]byte(str(generate["SecretStringTemplate"])), &whole); err != nil {
			return refuse("InvalidRequestException", "Could not parse SecretStringTemplate") // words ours
		}
		whole[str(generate["GenerateStringKey"])] = newID(40)
		raw, err := json.Marshal(whole)
		if err != nil {
			return err
		}
		in.SecretString = aws.String(string(raw))
	}
	out, err := createSecret(c, in)
	if err != nil {
		return err
	}
	r.physical = *out.ARN
	return nil
}

// recordTarget is where a record leads: the name of an alias, or its one value.
func recordTarget(r *stackResource) string {
	if alias := str(object(r.properties["AliasTarget"])["DNSName"]); alias != "" {
		return alias
	}
	for _, value := range list(r.properties["ResourceRecords"]) {
		return str(value)
	}
	return ""
}

// unreal takes away what real has made. What is gone already is fine: a balancer takes its listeners along, and those their rules.
func (w *World) unreal(s *stack, r *stackResource) (err error) {
	region := w.in(s.region)
	c := &request{w: w, region: region}
	switch r.kind {
	case "AWS::ElasticBeanstalk::Application":
		_, err = deleteApplication(c, &eb.DeleteApplicationInput{ApplicationName: &r.physical})
	case "AWS::CertificateManager::Certificate":
		delete(region.balancing.certificates, r.physical)
	case "AWS::ElasticLoadBalancingV2::LoadBalancer":
		_, err = deleteBalancer(c, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &r.physical})
	case "AWS::ElasticLoadBalancingV2::Listener":
		_, err = deleteListener(c, &elb.DeleteListenerInput{ListenerArn: &r.physical})
	case "AWS::ElasticLoadBalancingV2::ListenerRule":
		_, err = deleteRule(c, &elb.DeleteRuleInput{RuleArn: &r.physical})
	case "AWS::SecretsManager::Secret":
		_, err = deleteSecret(c, &sm.DeleteSecretInput{SecretId: &r.physical, ForceDeleteWithoutRecovery: aws.Bool(true)})
	case "AWS::Logs::LogGroup":
		_, err = deleteLogGroup(c, &cwl.DeleteLogGroupInput{LogGroupName: &r.physical})
	case "AWS::CloudFront::Distribution":
		w.undistribute(r.physical)
	case "AWS::Route53::RecordSet":
		w.backing.record(str(r.properties["Name"]), "", 0)
	}
	if strings.Contains(codeOf(err), "NotFound") {
		return nil
	}
	return err
}

// balancerName is the DNS name that a balancer of a stack really has, "" where it is none.
func (s *stack) balancerName(w *World, r *stackResource) string {
	if b, err := w.in(s.region).balancer(r.physical); err == nil {
		return b.dns
	}
	return ""
}
