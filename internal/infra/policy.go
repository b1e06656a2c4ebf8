package infra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Statement is one statement of a policy: it allows these actions on these resources. Sid says what for, in letters and digits.
//
// In resources, {region}, {account}, {key} (the ARN of the app's key) and {vpc} (the id of its network) stand for what each writer knows by another name, and so does
// {stage} where a statement is written once for all stages.
type Statement struct {
	Sid        string
	For        string // Engine, Secrets, Beanstalk, or empty for roles that are nobody's on this side
	Actions    []string
	Resources  []string
	Conditions []Condition
}

// Who makes the calls that a statement allows.
const (
	ForEngine    = "engine"    // Lotse, when it deploys
	ForSecrets   = "secrets"   // Lotse, for what people keep secret: when one sets it, and when a rollout reads it
	ForHistory   = "history"   // Lotse, when it keeps its history in the app's bucket
	ForBeanstalk = "beanstalk" // Elastic Beanstalk, in the name of whoever deploys
)

// Condition is one condition of a statement.
type Condition struct {
	Test   string // StringEquals
	Key    string
	Values []string
}

// Policy is what whoever deploys the app may do. Sids begin with the word by which the engine names the statement in its errors. It is nil
// for an app without a stage on AWS.
func Policy(app deploy.App) []Statement {
	p, err := planOf(app, Options{})
	if err != nil {
		return nil
	}
	return slices.Concat(p.LotsePolicy, p.DatabasesPolicy, p.PartsPolicy)
}

const everything = "*"

// tagged wants the thing to be of the app.
func tagged(app string) []Condition {
	return []Condition{{"StringEquals", "aws:ResourceTag/lotse:app", []string{app}}}
}

// lotsePolicy is what Lotse itself calls. What is asked of "*" is asked of lists that IAM cannot narrow (Service Authorization
// Reference, "Resource types": none).
func lotsePolicy(p plan) []Statement {
	app := p.App
	all := []Statement{
		{"Account", ForEngine, list("sts:GetCallerIdentity"), list(everything), nil},
		{"Stack", ForEngine, list("cloudformation:DescribeStacks"), list("arn:aws:cloudformation:{region}:{account}:stack/" + p.StackName + "/*"), nil},
		{"Releases", ForEngine, list("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), list(bucket(app, "releases") + "/*"), nil},
		{"ReleasesList", ForEngine, list("s3:ListBucket"), list(bucket(app, "releases")), nil},
		{"ReleasesKey", ForEngine, list("kms:Decrypt", "kms:GenerateDataKey"), list("{key}"), nil},
		{"People", ForHistory, list("secretsmanager:CreateSecret", "secretsmanager:GetSecretValue"), list(secret("lotse-people/" + releases(app) + "-??????")), nil},
	}
	if p.Static {
		return slices.Concat(all, sitePolicy(p), secretsPolicy(app, ForSecrets))
	}
	all = append(all,
		Statement{"Environments", ForEngine, list("elasticbeanstalk:CreateApplicationVersion", "elasticbeanstalk:DescribeApplicationVersions",
			"elasticbeanstalk:DeleteApplicationVersion", "elasticbeanstalk:CreateEnvironment", "elasticbeanstalk:DescribeEnvironments",
			"elasticbeanstalk:DescribeEnvironmentResources", "elasticbeanstalk:DescribeEvents", "elasticbeanstalk:AddTags",
			"elasticbeanstalk:ListTagsForResource", "elasticbeanstalk:TerminateEnvironment"), beanstalk(app), nil},
		Statement{"EnvironmentsPlatforms", ForEngine, list("elasticbeanstalk:ListPlatformVersions",
			"elasticbeanstalk:CheckDNSAvailability", "elasticbeanstalk:DescribeAccountAttributes"), list(everything), nil},
		Statement{"EnvironmentsRoles", ForEngine, list("iam:PassRole"), p.passed(),
			[]Condition{{"StringEquals", "iam:PassedToService", list("elasticbeanstalk.amazonaws.com", "ec2.amazonaws.com")}}},
		Statement{"EnvironmentsServiceRoles", ForBeanstalk, list("iam:CreateServiceLinkedRole"), list("arn:aws:iam::{account}:role/aws-service-role/*"), // here, as the parts' policy has no room
			[]Condition{{"StringEquals", "iam:AWSServiceName", list("autoscaling.amazonaws.com", "elasticbeanstalk.amazonaws.com", "elasticloadbalancing.amazonaws.com")}}})
	all = append(all, trafficPolicy(p)...)
	return append(all, stagePolicy(p)...)
}

// trafficPolicy is how a shift is made.
func trafficPolicy(p plan) []Statement {
	if !p.Shared {
		return []Statement{{"EnvironmentsNames", ForEngine, list("elasticbeanstalk:SwapEnvironmentCNAMEs"), beanstalk(p.App), nil}}
	}
	return []Statement{
		{"Traffic", ForEngine, list("elasticloadbalancing:CreateRule", "elasticloadbalancing:ModifyRule", "elasticloadbalancing:DeleteRule",
			"elasticloadbalancing:AddTags"), list(balancer("listener", p.StackName), balancer("listener-rule", p.StackName)), nil},
		{"TrafficRead", ForEngine, list("elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTags"), list(everything), nil},
	}
}

// stagePolicy is what is asked of what runs on a stage.
func stagePolicy(p plan) []Statement {
	app := p.App
	all := []Statement{
		{"Instances", ForEngine, list("ssm:SendCommand"), list("arn:aws:ec2:{region}:{account}:instance/*"),
			[]Condition{{"StringEquals", "ssm:resourceTag/lotse:app", list(app)}}},
		{"InstancesDocument", ForEngine, list("ssm:SendCommand"), list("arn:aws:ssm:{region}::document/AWS-RunShellScript"), nil},
		{"InstancesAnswers", ForEngine, list("ssm:GetCommandInvocation", "ssm:CancelCommand"), list(everything), nil},
		{"Logs", ForEngine, list("logs:FilterLogEvents", "logs:DeleteLogGroup"), list(
			logs("/lotse/"+app+"/*"), logs("/aws/elasticbeanstalk/"+app+"-*")), nil},
		{"LogsList", ForEngine, list("logs:DescribeLogGroups"), list(logs("*")), nil},
	}
	return append(all, secretsPolicy(app, ForEngine)...)
}

// databasesPolicy is how databases are looked at, and how snapshots of them are taken, proven and pruned. What may be deleted is what Lotse has
// tagged, and of instances only scratch ones by name and by tag: the tag is given to nothing else. Which snapshots there are AWS tells of all
// of a region or of none. RDS makes an instance of an encrypted snapshot with a grant of whoever asks (RDS User Guide, "Encrypting").
func databasesPolicy(p plan) []Statement {
	if !p.Databases {
		return nil
	}
	of := func(kind, name string) string { return "arn:aws:rds:{region}:{account}:" + kind + ":" + name }
	instances, snapshots, scratch := of("db", p.StackName+"-*"), of("snapshot", p.StackName+"-*"), of("db", p.StackName+"-*-scratch")
	return []Statement{
		{"SecretsOfDatabases", ForEngine, list("secretsmanager:GetSecretValue"), p.databaseSecrets(), tagged(p.App)},
		{"Database", ForEngine, list("rds:DescribeDBInstances"), list(instances), nil},
		{"DatabaseSnapshots", ForEngine, list("rds:CreateDBSnapshot"), list(instances, snapshots), nil},
		{"DatabaseSnapshotsList", ForEngine, list("rds:DescribeDBSnapshots"), list(of("snapshot", "*")), nil},
		{"DatabaseSnapshotsEnd", ForEngine, list("rds:DeleteDBSnapshot"), list(snapshots), tagged(p.App)},
		{"DatabaseTags", ForEngine, list("rds:AddTagsToResource"), list(snapshots, scratch), nil},
		{"DatabaseScratch", ForEngine, list("rds:RestoreDBInstanceFromDBSnapshot"), list(snapshots, scratch, of("subgrp", p.StackName), of("subgrp", p.StackName+"-*"), of("pg", p.StackName+"-*"), of("og", "default:*")), nil},
		{"DatabaseScratchEnd", ForEngine, list("rds:DeleteDBInstance"), list(scratch), []Condition{{"StringEquals", "aws:ResourceTag/lotse:kind", list("scratch")}}},
		{"DatabaseScratchKey", ForEngine, list("kms:CreateGrant", "kms:DescribeKey"), list("{key}"), []Condition{{"StringEquals", "kms:ViaService", list("rds.{region}.amazonaws.com")}}},
	}
}

// secretsPolicy is how secrets of the app are kept and read, wherever its stages run. by is who calls the first of them.
func secretsPolicy(app, by string) []Statement {
	return []Statement{
		{"Secrets", by, list("secretsmanager:DescribeSecret", "secretsmanager:CreateSecret", "secretsmanager:TagResource",
			"secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"), list(secret("lotse/" + app + "/*")), nil},
		{"SecretsOfPeople", ForSecrets, list("secretsmanager:DeleteSecret", "secretsmanager:RestoreSecret", "secretsmanager:UpdateSecretVersionStage"), list(secret("lotse/" + app + "/*")), nil},
		// Of "*", since neither has a resource in IAM. A batch gives only the values that GetSecretValue allows (Service Authorization Reference,
		// "AWS Secrets Manager"; Secrets Manager User Guide, "Permission to retrieve a group of secret values in a batch").
		{"SecretsList", ForSecrets, list("secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"), list(everything), nil},
	}
}

// databaseSecrets are those of the databases' owners. CloudFormation names them, after what they are called in the template.
func (p plan) databaseSecrets() (all []string) {
	for _, s := range p.Stages {
		if s.Postgres != 0 {
			all = append(all, secret(s.Camel+"DatabaseSecret-*"))
		}
	}
	return all
}

// sitePolicy is what an app of files alone asks for.
func sitePolicy(p plan) []Statement {
	var buckets, files []string
	for _, s := range p.Stages {
		buckets = append(buckets, bucket(p.App, s.Name+"-site"))
		files = append(files, bucket(p.App, s.Name+"-site")+"/*")
	}
	return []Statement{
		{"Site", ForEngine, list("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), files, nil},
		{"SiteList", ForEngine, list("s3:ListBucket"), buckets, nil},
		{"SiteInvalidation", ForEngine, list("cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"),
			list("arn:aws:cloudfront::{account}:distribution/*"), tagged(p.App)},
	}
}

// servicePolicy is what Elastic Beanstalk needs to say how an environment is ("Managing Elastic Beanstalk service roles": enhanced
// health), less what only other kinds of environment need. Describing cannot be narrowed.
func servicePolicy(plan) []Statement {
	return []Statement{
		{"HealthOfEnvironments", "", list("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeNotificationConfigurations",
			"autoscaling:DescribeScalingActivities", "ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "ec2:DescribeSecurityGroups", "elasticloadbalancing:DescribeLoadBalancers",
			"elasticloadbalancing:DescribeTargetHealth"), list(everything), nil},
	}
}

// passed are the roles that whoever deploys hands to environments.
func (p plan) passed() []string {
	roles := list(role(p.App, "service"))
	for _, s := range p.Stages {
		roles = append(roles, role(p.App, "instance-"+s.Name))
	}
	return roles
}

// anyStage stands for the stage in a policy that is written once for all.
const anyStage = "{stage}"

// instancePolicy is what an instance of a stage needs: to be reached by Run Command, to say how it is, to fetch what it runs, to read the
// stage's secrets, those that the engine keeps for it among them, and to write the stage's logs. Nothing of it is another stage's, but
// for two that have no stage in their names: bundles, whose keys are their digests, and what Elastic Beanstalk keeps below the ids of
// environments. Instances may list neither, and no secret is in them. Run Command cannot be narrowed (AmazonSSMManagedInstanceCore, less
// reading every parameter of the account).
func instancePolicy(p plan, stage string) []Statement {
	app := p.App
	streams, health := list(logs("/lotse/"+app+"/"+stage), logs("/lotse/"+app+"/"+stage+":*")), list("arn:aws:elasticbeanstalk:{region}:{account}:application/"+app)
	for _, environment := range p.environments(stage) {
		streams = append(streams, logs("/aws/elasticbeanstalk/"+environment+"/*"))
		health = append(health, "arn:aws:elasticbeanstalk:{region}:{account}:environment/"+app+"/"+environment)
	}
	return []Statement{
		{"RunCommand", "", list("ssm:UpdateInstanceInformation", "ssm:ListInstanceAssociations", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
			"ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel", "ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage",
			"ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply"), list(everything), nil},
		{"Health", "", list("elasticbeanstalk:PutInstanceStatistics"), health, nil},
		{"Bundles", "", list("s3:GetObject"), list(bucket(app, "releases") + "/bundles/*"), nil},
		{"BundlesAsBeanstalkKeepsThem", "", list("s3:GetObject", "s3:GetObjectVersion"), list(beanstalkBucket + "/resources/environments/e-*"), nil},
		{"LogsAsBeanstalkAsksForThem", "", list("s3:PutObject"), list(beanstalkBucket + "/resources/environments/logs/*"), nil},
		{"Logs", "", list("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"), streams, nil},
		{"SecretsOfTheStage", "", list("secretsmanager:GetSecretValue"), list(secret("lotse/" + app + "/" + stage + "/*")), nil},
		{"KeyOfWhatTheseServicesGive", "", list("kms:Decrypt"), list("{key}"),
			[]Condition{{"StringEquals", "kms:ViaService", list("s3.{region}.amazonaws.com", "secretsmanager.{region}.amazonaws.com")}}},
	}
}

// environments are how those of a stage are called, as IAM writes it: <app>-<stage>- and ten hexadecimal digits. With a star, dev would be
// dev-two as well. Where each environment has its own balancer, one keeps the stage's name until the first rollout is there.
func (p plan) environments(stage string) []string {
	names := list(p.App + "-" + stage + "-??????????")
	if !p.Shared {
		names = append(names, p.App+"-"+stage+"-parking")
	}
	return names
}

// partsPolicy is what Elastic Beanstalk does with the rights of whoever calls it ("Elastic Beanstalk user policy"): the managed policy
// AdministratorAccess-AWSElasticBeanstalk, less what our kind of environment has no use for, and no wildcard for an action.
func partsPolicy(p plan) []Statement {
	if p.Static {
		return nil
	}
	all := []Statement{
		{"PartsRead", ForBeanstalk, list("acm:DescribeCertificate", "acm:ListCertificates", "autoscaling:DescribeAccountLimits", "autoscaling:DescribeAutoScalingGroups",
			"autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribePolicies", "autoscaling:DescribeScalingActivities",
			"cloudwatch:DescribeAlarms", "ec2:DescribeAccountAttributes", "ec2:DescribeAvailabilityZones", "ec2:DescribeImages",
			"ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypes", "ec2:DescribeKeyPairs", "ec2:DescribeLaunchTemplates",
			"ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "elasticloadbalancing:DescribeListeners",
			"elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetGroups",
			"elasticloadbalancing:DescribeTargetGroupAttributes", "elasticloadbalancing:DescribeTargetHealth"), list(everything), nil},
		{"PartsStacks", ForBeanstalk, list("cloudformation:CancelUpdateStack", "cloudformation:CreateStack", "cloudformation:DeleteStack", "cloudformation:DescribeStackEvents",
			"cloudformation:DescribeStackResource", "cloudformation:DescribeStackResources", "cloudformation:DescribeStacks", "cloudformation:GetTemplate",
			"cloudformation:ListStackResources", "cloudformation:TagResource", "cloudformation:UpdateStack"),
			list("arn:aws:cloudformation:{region}:{account}:stack/awseb-*"), nil},
		{"PartsGroups", ForBeanstalk, list("autoscaling:AttachLoadBalancerTargetGroups", "autoscaling:CreateAutoScalingGroup", "autoscaling:CreateOrUpdateTags",
			"autoscaling:DeleteAutoScalingGroup", "autoscaling:DeletePolicy", "autoscaling:PutNotificationConfiguration",
			"autoscaling:PutScalingPolicy", "autoscaling:ResumeProcesses", "autoscaling:SetDesiredCapacity",
			"autoscaling:SuspendProcesses", "autoscaling:TerminateInstanceInAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup"),
			list("arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/awseb-*"), nil},
		// Templates have no tag of ours: Elastic Beanstalk gives environments' tags to them only where an option says so, and that for ever.
		{"PartsTemplates", ForBeanstalk, list("ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate",
			"ec2:DeleteLaunchTemplateVersions"), inEC2("launch-template/*"), nil},
		// The tags by which other statements know the app's are given while a thing is made, and to nothing that is there already.
		{"PartsTags", ForBeanstalk, list("ec2:CreateTags"), inEC2("launch-template/*", "instance/*", "volume/*", "network-interface/*"),
			[]Condition{{"StringEquals", "ec2:CreateAction", list("RunInstances", "CreateLaunchTemplate")}}},
		{"PartsSecurityGroups", ForBeanstalk, list("ec2:CreateSecurityGroup"), inEC2("security-group/*", "vpc/{vpc}"), nil},
		{"PartsSecurityGroupsOfTheNetwork", ForBeanstalk, list("ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags",
			"ec2:DeleteSecurityGroup", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"), inEC2("security-group/*"),
			[]Condition{{"ArnEquals", "ec2:Vpc", inEC2("vpc/{vpc}")}}},
		{"PartsInstances", ForBeanstalk, list("ec2:RunInstances"), append(inEC2("*/*"), // whatever an instance consists of
			"arn:aws:ec2:{region}::image/*"), []Condition{{"ArnLike", "ec2:LaunchTemplate", inEC2("launch-template/*")}}},
		{"PartsInstancesEnd", ForBeanstalk, list("ec2:TerminateInstances"), inEC2("instance/*"), tagged(p.App)},
		{"PartsAlarms", ForBeanstalk, list("cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm"), list("arn:aws:cloudwatch:{region}:{account}:alarm:awseb-*"), nil},
		{"PartsLogs", ForBeanstalk, list("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy", "logs:TagResource"), list(logs("/aws/elasticbeanstalk/" + p.App + "-*")), nil},
		{"PartsBucket", ForBeanstalk, list("s3:CreateBucket", "s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetBucketPolicy", "s3:ListBucket", "s3:PutBucketOwnershipControls",
			"s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock"), list(beanstalkBucket), nil},
		{"PartsBucketObjects", ForBeanstalk, list("s3:DeleteObject", "s3:GetObject", "s3:GetObjectAcl", "s3:PutObject"), list(beanstalkBucket + "/*"), nil},
	}
	return append(all, partsOfTraffic(p))
}

// partsOfTraffic is what stands between a balancer and an environment.
func partsOfTraffic(p plan) Statement {
	actions := list("AddTags", "CreateTargetGroup", "DeleteTargetGroup", "DeregisterTargets", "ModifyTargetGroup", "ModifyTargetGroupAttributes", "RegisterTargets", "RemoveTags")
	on := list("arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/awseb-*")
	if p.Shared {
		actions = append(actions, "CreateRule", "DeleteRule", "ModifyRule", "SetRulePriorities", "SetSecurityGroups")
		on = append(on, balancer("loadbalancer", p.StackName), balancer("listener", p.StackName), balancer("listener-rule", p.StackName))
	} else {
		actions = append(actions, "AddListenerCertificates", "CreateListener", "CreateLoadBalancer", "CreateRule", "DeleteListener", "DeleteLoadBalancer", "DeleteRule",
			"ModifyListener", "ModifyLoadBalancerAttributes", "ModifyRule", "SetRulePriorities", "SetSecurityGroups", "SetSubnets")
		on = append(on, balancer("loadbalancer", "awseb-*"), balancer("listener", "awseb-*"), balancer("listener-rule", "awseb-*"))
	}
	for i, a := range actions {
		actions[i] = "elasticloadbalancing:" + a
	}
	return Statement{"PartsTraffic", ForBeanstalk, actions, on, nil}
}

func list(values ...string) []string { return values }

func bucket(app, what string) string {
	return "arn:aws:s3:::lotse-" + app + "-" + what + "-{account}"
}

// beanstalkBucket is the one that Elastic Beanstalk makes for itself in each region.
const beanstalkBucket = "arn:aws:s3:::elasticbeanstalk-{region}-{account}"

func role(app, what string) string {
	return "arn:aws:iam::{account}:role/lotse-" + app + "-" + what
}

// releases is the name of the app's bucket.
func releases(app string) string { return "lotse-" + app + "-releases-{account}" }

func secret(name string) string { return "arn:aws:secretsmanager:{region}:{account}:secret:" + name }

func logs(group string) string {
	return "arn:aws:logs:{region}:{account}:log-group:" + group
}

func balancer(kind, name string) string {
	return "arn:aws:elasticloadbalancing:{region}:{account}:" + kind + "/app/" + name + "/*"
}

func inEC2(kinds ...string) (arns []string) {
	for _, k := range kinds {
		arns = append(arns, "arn:aws:ec2:{region}:{account}:"+k)
	}
	return arns
}

// beanstalk is all that is of the app in Elastic Beanstalk, and the platforms that an environment may name.
func beanstalk(app string) (arns []string) {
	for _, kind := range list("application/"+app, "applicationversion/"+app+"/*", "environment/"+app+"/*") {
		arns = append(arns, "arn:aws:elasticbeanstalk:{region}:{account}:"+kind)
	}
	return append(arns, "arn:aws:elasticbeanstalk:{region}::platform/*", "arn:aws:elasticbeanstalk:{region}::solutionstack/*")
}

// yamlStatements writes statements for CloudFormation.
func (p plan) yamlStatements(at int, statements []Statement) string {
	known := strings.NewReplacer("{region}", p.AWS.Region, "{account}", "${AWS::AccountId}", "{key}", "${Key.Arn}", "{vpc}", "${Vpc}")
	pad := strings.Repeat(" ", at)
	var b strings.Builder
	for _, s := range statements {
		fmt.Fprintf(&b, "%s- Sid: %s\n%s  Effect: Allow\n", pad, s.Sid, pad)
		fmt.Fprintf(&b, "%s  Action: %s\n", pad, wrapped(at+11, s.Actions))
		fmt.Fprintf(&b, "%s  Resource:", pad)
		for _, r := range s.Resources {
			switch r {
			case everything:
				fmt.Fprintf(&b, " \"*\"")
			case "{key}":
				fmt.Fprintf(&b, " !GetAtt Key.Arn")
			default:
				fmt.Fprintf(&b, "\n%s    - %s", pad, yamlText(known.Replace(r)))
			}
		}
		b.WriteString("\n")
		for _, c := range s.Conditions {
			fmt.Fprintf(&b, "%s  Condition: { %s: { %q: %s } }\n", pad, c.Test, c.Key, conditionYAML(known, c.Values))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func conditionYAML(known *strings.Replacer, values []string) string {
	var quoted []string
	for _, v := range values {
		quoted = append(quoted, yamlText(known.Replace(v)))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// yamlText is a string, with !Sub where something in it is to be replaced.
func yamlText(s string) string {
	if strings.Contains(s, "${") {
		return fmt.Sprintf("!Sub %q", s)
	}
	return fmt.Sprintf("%q", s)
}

// hclStatements writes statements for Terraform's aws_iam_policy_document.
func hclStatements(statements []Statement) string {
	known := strings.NewReplacer("{region}", "${local.region}", "{account}", "${local.account}", "{key}", "${aws_kms_key.main.arn}", "{vpc}", "${aws_vpc.main.id}", anyStage, "${each.key}")
	var b strings.Builder
	for i, s := range statements {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  statement {\n    sid = %q\n", s.Sid)
		b.WriteString(hclList("actions", s.Actions))
		var resources []string
		for _, r := range s.Resources {
			resources = append(resources, known.Replace(r))
		}
		b.WriteString(hclList("resources", resources))
		for _, c := range s.Conditions {
			var values []string
			for _, v := range c.Values {
				values = append(values, known.Replace(v))
			}
			fmt.Fprintf(&b, "    condition {\n      test     = %q\n      variable = %q\n      values   = %s\n    }\n", c.Test, c.Key, quotedList(values))
		}
		b.WriteString("  }\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// hclList has a line for each value, as terraform fmt leaves it.
func hclList(name string, values []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "    %s = [\n", name)
	for _, v := range values {
		text := fmt.Sprintf("%q", v)
		if v == "${aws_kms_key.main.arn}" {
			text = "aws_kms_key.main.arn"
		}
		fmt.Fprintf(&b, "      %s,\n", text)
	}
	b.WriteString("    ]\n")
	return b.String()
}
