package infra

import "strings"

// outputsOf is the contract with the engine, what it reads of the stack, and the addresses that people put into their DNS.
func outputsOf(p plan) []output {
	all := []output{
		{"Releases", "!Ref Releases", "aws_s3_bucket.releases.id"},
		{"Key", "!GetAtt Key.Arn", "aws_kms_key.main.arn"},
	}
	if !p.Static {
		all = append(all,
			output{"Application", "!Ref Application", "aws_elastic_beanstalk_application.app.name"},
			output{"ServiceRole", "!GetAtt ServiceRole.Arn", "aws_iam_role.service.arn"},
			output{"Vpc", "!Ref Vpc", "aws_vpc.main.id"},
			output{"InstanceSubnets", `!Join [",", [!Ref InstanceSubnetA, !Ref InstanceSubnetB]]`, `join(",", aws_subnet.instance[*].id)`},
			output{"BalancerSubnets", `!Join [",", [!Ref BalancerSubnetA, !Ref BalancerSubnetB]]`, `join(",", aws_subnet.balancer[*].id)`},
			output{"BalancerSecurityGroup", "!GetAtt BalancerSecurityGroup.GroupId", "aws_security_group.balancer.id"},
			output{"Certificate", "!Ref Certificate", certificate(p)})
	}
	if p.Shared {
		all = append(all,
			output{"Balancer", "!Ref Balancer", "aws_lb.main.arn"},
			output{"Listener", "!Ref Listener", "aws_lb_listener.https.arn"},
			output{"Address", "!GetAtt Balancer.DNSName", "aws_lb.main.dns_name"}) // for people who make the records themselves
	}
	for _, s := range p.Stages {
		all = append(all, stageOutputs(p, s)...)
	}
	return all
}

func stageOutputs(p plan, s stage) (all []output) {
	key := `["` + s.Name + `"]`
	add := func(suffix, cloudFormation, terraform string) {
		cloudFormation = strings.ReplaceAll(cloudFormation, "STAGE", s.Camel)
		all = append(all, output{s.Camel + suffix, cloudFormation, strings.ReplaceAll(terraform, "[STAGE]", key)})
	}
	if p.Static {
		add("Site", "!Ref STAGESite", "aws_s3_bucket.site[STAGE].id")
		add("Distribution", "!Ref STAGEDistribution", "aws_cloudfront_distribution.site[STAGE].id")
		add("Address", "!GetAtt STAGEDistribution.DomainName", "aws_cloudfront_distribution.site[STAGE].domain_name")
		return all
	}
	add("InstanceProfile", "!Ref STAGEInstanceProfile", "aws_iam_instance_profile.instance[STAGE].name")
	add("InstanceSecurityGroup", "!GetAtt STAGEInstanceSecurityGroup.GroupId", "aws_security_group.instance[STAGE].id")
	if s.Postgres > 0 {
		add("DatabaseHost", "!GetAtt STAGEDatabase.Endpoint.Address", "aws_db_instance.stage[STAGE].address")
		add("DatabaseSecret", "!Ref STAGEDatabaseSecret", "aws_secretsmanager_secret.database[STAGE].arn")
	}
	if p.Volumes {
		add("Volumes", "!Ref STAGEVolumes", "aws_efs_file_system.stage[STAGE].id")
	}
	add("Logs", "!Ref STAGELogs", "aws_cloudwatch_log_group.stage[STAGE].name")
	return all
}

// certificate is asked for where it is valid: Terraform knows when, as it makes the records itself.
func certificate(p plan) string {
	if p.AWS.Zone == "" {
		return "aws_acm_certificate.main.arn"
	}
	return "aws_acm_certificate_validation.main.certificate_arn"
}
