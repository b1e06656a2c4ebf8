package aws

import (
	"slices"
	"strings"
)

// Action is one thing that the engine asks AWS for, in the words of IAM.
type Action struct {
	Service string // elasticbeanstalk
	Name    string // CreateEnvironment
	Sid     string // of the statement in the deployer's policy that grants it
	Why     string
}

// String is the action as a policy names it.
func (a Action) String() string { return a.Service + ":" + a.Name }

// The statements of the deployer's policy. Permissions that Elastic Beanstalk needs in the caller's name (Auto Scaling, EC2, its own
// stacks) are not here: the engine does not ask for them itself.
const (
	sidAccount      = "Account"
	sidStack        = "Stack"
	sidReleases     = "Releases"
	sidEnvironments = "Environments"
	sidTraffic      = "Traffic"
	sidInstances    = "Instances"
	sidSecrets      = "Secrets"
	sidLogs         = "Logs"
	sidDatabase     = "Database"
)

// Actions are all that the engine asks AWS for, in the order of their names.
func Actions() []Action {
	all := []Action{
		{"sts", "GetCallerIdentity", sidAccount, "whose credentials they are"},
		{"cloudformation", "DescribeStacks", sidStack, "what lasts: network, roles, buckets, balancer"},

		{"s3", "GetObject", sidReleases, "the fence of a stage; whether a bundle is there"},
		{"s3", "PutObject", sidReleases, "bundles, and the fence of a stage"},
		{"s3", "DeleteObject", sidReleases, "bundles that no version has any more"},
		{"s3", "ListBucket", sidReleases, "without it a bundle that is not there looks like one that is forbidden"},

		{"elasticbeanstalk", "CreateApplicationVersion", sidEnvironments, "the bundle of a rollout"},
		{"elasticbeanstalk", "DescribeApplicationVersions", sidEnvironments, "old ones are pruned"},
		{"elasticbeanstalk", "DeleteApplicationVersion", sidEnvironments, "old ones are pruned"},
		{"elasticbeanstalk", "DescribeAccountAttributes", sidEnvironments, "quotas"},
		{"elasticbeanstalk", "ListPlatformVersions", sidEnvironments, "the platform of today"},
		{"elasticbeanstalk", "CheckDNSAvailability", sidEnvironments, "the stage's name among all of Elastic Beanstalk's"},
		{"elasticbeanstalk", "CreateEnvironment", sidEnvironments, "start"},
		{"elasticbeanstalk", "AddTags", sidEnvironments, "a new environment is tagged"},
		{"elasticbeanstalk", "DescribeEnvironments", sidEnvironments, "list, and every wait"},
		{"elasticbeanstalk", "DescribeEnvironmentResources", sidEnvironments, "the instances of a rollout"},
		{"elasticbeanstalk", "DescribeEvents", sidEnvironments, "why something failed"},
		{"elasticbeanstalk", "ListTagsForResource", sidEnvironments, "which rollout an environment is"},
		{"elasticbeanstalk", "TerminateEnvironment", sidEnvironments, "stop"},
		{"elasticbeanstalk", "SwapEnvironmentCNAMEs", sidEnvironments, "shift, where each environment has a balancer of its own"},

		{"elasticloadbalancing", "DescribeRules", sidTraffic, "who has traffic"},
		{"elasticloadbalancing", "DescribeTags", sidTraffic, "which rule is whose"},
		{"elasticloadbalancing", "CreateRule", sidTraffic, "the rules of a stage and of its rollouts"},
		{"elasticloadbalancing", "AddTags", sidTraffic, "a new rule is tagged"},
		{"elasticloadbalancing", "ModifyRule", sidTraffic, "shift"},
		{"elasticloadbalancing", "DeleteRule", sidTraffic, "stop"},

		{"ssm", "SendCommand", sidInstances, "health of services, draining, tasks"},
		{"ssm", "GetCommandInvocation", sidInstances, "what a command has said"},
		{"ssm", "CancelCommand", sidInstances, "a task that was given up"},

		{"secretsmanager", "DescribeSecret", sidSecrets, "whether a secret of the engine's own is there"},
		{"secretsmanager", "CreateSecret", sidSecrets, "the lock of a private stage, the address of its database"},
		{"secretsmanager", "TagResource", sidSecrets, "a new secret is tagged"},
		{"secretsmanager", "GetSecretValue", sidSecrets, "the password of the database"},
		{"secretsmanager", "PutSecretValue", sidSecrets, "a new password"},

		{"logs", "FilterLogEvents", sidLogs, "lotse logs; what was asked for, by endpoint"},
		{"logs", "DescribeLogGroups", sidLogs, "logs of environments that are gone"},
		{"logs", "DeleteLogGroup", sidLogs, "the same, when they are older than they may be"},

		{"rds", "DescribeDBInstances", sidDatabase, "whether the database is available, and its version"},
		{"rds", "CreateDBSnapshot", sidDatabase, "a snapshot"},
		{"rds", "AddTagsToResource", sidDatabase, "a snapshot and a scratch instance are tagged, and how a drill ended"},
		{"rds", "DescribeDBSnapshots", sidDatabase, "which snapshots there are"},
		{"rds", "DeleteDBSnapshot", sidDatabase, "snapshots that no rule keeps"},
		{"rds", "RestoreDBInstanceFromDBSnapshot", sidDatabase, "the scratch instance of a drill"},
		{"rds", "DeleteDBInstance", sidDatabase, "the same, when the drill is over"},
	}
	slices.SortFunc(all, func(a, b Action) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// sidOf is the statement that grants an action, or "".
func sidOf(service, name string) string {
	for _, a := range Actions() {
		if a.Service == service && a.Name == name {
			return a.Sid
		}
	}
	return ""
}
