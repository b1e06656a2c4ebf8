# Roles and policies. No role may make or change a role, so a permissions boundary would bound nothing. Instances of a stage have a role of
# their own.

# What Elastic Beanstalk itself does: look at instances and say how they are. Not more; it makes no updates by itself.
resource "aws_iam_role" "service" {
  name               = "lotse-${local.app}-service"
  description        = "Elastic Beanstalk looks after the environments of ${local.app}"
  assume_role_policy = data.aws_iam_policy_document.service_trust.json
}

data "aws_iam_policy_document" "service_trust" {
  statement {
    sid     = "Beanstalk"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["elasticbeanstalk.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = ["elasticbeanstalk"]
    }
  }
}

resource "aws_iam_role_policy" "service" {
  name   = "service"
  role   = aws_iam_role.service.id
  policy = data.aws_iam_policy_document.service.json
}

data "aws_iam_policy_document" "service" {
  statement {
    sid = "HealthOfEnvironments"
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeNotificationConfigurations",
      "autoscaling:DescribeScalingActivities",
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeSecurityGroups",
      "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = [
      "*",
    ]
  }
}

resource "aws_iam_role" "instance" {
  for_each = local.stages

  name               = "lotse-${local.app}-instance-${each.key}"
  description        = "Instances of ${local.app} ${each.key}"
  assume_role_policy = data.aws_iam_policy_document.instance_trust.json
  tags               = { "lotse:stage" = each.key }
}

data "aws_iam_policy_document" "instance_trust" {
  statement {
    sid     = "Instances"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "instance" {
  for_each = local.stages

  name   = "instance"
  role   = aws_iam_role.instance[each.key].id
  policy = data.aws_iam_policy_document.instance[each.key].json
}

data "aws_iam_policy_document" "instance" {
  for_each = local.stages

  statement {
    sid = "RunCommand"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssm:ListInstanceAssociations",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
      "ec2messages:AcknowledgeMessage",
      "ec2messages:DeleteMessage",
      "ec2messages:FailMessage",
      "ec2messages:GetEndpoint",
      "ec2messages:GetMessages",
      "ec2messages:SendReply",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "Health"
    actions = [
      "elasticbeanstalk:PutInstanceStatistics",
    ]
    resources = [
      "arn:aws:elasticbeanstalk:${local.region}:${local.account}:application/matching",
      "arn:aws:elasticbeanstalk:${local.region}:${local.account}:environment/matching/matching-${each.key}-??????????",
    ]
  }

  statement {
    sid = "Bundles"
    actions = [
      "s3:GetObject",
    ]
    resources = [
      "arn:aws:s3:::lotse-matching-releases-${local.account}/bundles/*",
    ]
  }

  statement {
    sid = "BundlesAsBeanstalkKeepsThem"
    actions = [
      "s3:GetObject",
      "s3:GetObjectVersion",
    ]
    resources = [
      "arn:aws:s3:::elasticbeanstalk-${local.region}-${local.account}/resources/environments/e-*",
    ]
  }

  statement {
    sid = "LogsAsBeanstalkAsksForThem"
    actions = [
      "s3:PutObject",
    ]
    resources = [
      "arn:aws:s3:::elasticbeanstalk-${local.region}-${local.account}/resources/environments/logs/*",
    ]
  }

  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogStream",
      "logs:PutLogEvents",
      "logs:DescribeLogStreams",
    ]
    resources = [
      "arn:aws:logs:${local.region}:${local.account}:log-group:/lotse/matching/${each.key}",
      "arn:aws:logs:${local.region}:${local.account}:log-group:/lotse/matching/${each.key}:*",
      "arn:aws:logs:${local.region}:${local.account}:log-group:/aws/elasticbeanstalk/matching-${each.key}-??????????/*",
    ]
  }

  statement {
    sid = "SecretsOfTheStage"
    actions = [
      "secretsmanager:GetSecretValue",
    ]
    resources = [
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/matching/${each.key}/*",
    ]
  }

  statement {
    sid = "KeyOfWhatTheseServicesGive"
    actions = [
      "kms:Decrypt",
    ]
    resources = [
      aws_kms_key.main.arn,
    ]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com", "secretsmanager.${local.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_instance_profile" "instance" {
  for_each = local.stages

  name = "lotse-${local.app}-instance-${each.key}"
  role = aws_iam_role.instance[each.key].name
}

# What whoever deploys may do. Attach it to your people's role; GitHub's has it already, if there is one.
resource "aws_iam_policy" "deploy" {
  name        = "lotse-${local.app}-deploy"
  description = "What Lotse calls to deploy ${local.app}"
  policy      = data.aws_iam_policy_document.deploy.json
}

data "aws_iam_policy_document" "deploy" {
  statement {
    sid = "Account"
    actions = [
      "sts:GetCallerIdentity",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "Stack"
    actions = [
      "cloudformation:DescribeStacks",
    ]
    resources = [
      "arn:aws:cloudformation:${local.region}:${local.account}:stack/lotse-matching/*",
    ]
  }

  statement {
    sid = "Releases"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
    ]
    resources = [
      "arn:aws:s3:::lotse-matching-releases-${local.account}/*",
    ]
  }

  statement {
    sid = "ReleasesList"
    actions = [
      "s3:ListBucket",
    ]
    resources = [
      "arn:aws:s3:::lotse-matching-releases-${local.account}",
    ]
  }

  statement {
    sid = "ReleasesKey"
    actions = [
      "kms:Decrypt",
      "kms:GenerateDataKey",
    ]
    resources = [
      aws_kms_key.main.arn,
    ]
  }

  statement {
    sid = "People"
    actions = [
      "secretsmanager:CreateSecret",
      "secretsmanager:GetSecretValue",
    ]
    resources = [
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse-people/lotse-matching-releases-${local.account}-??????",
    ]
  }

  statement {
    sid = "Environments"
    actions = [
      "elasticbeanstalk:CreateApplicationVersion",
      "elasticbeanstalk:DescribeApplicationVersions",
      "elasticbeanstalk:DeleteApplicationVersion",
      "elasticbeanstalk:CreateEnvironment",
      "elasticbeanstalk:DescribeEnvironments",
      "elasticbeanstalk:DescribeEnvironmentResources",
      "elasticbeanstalk:DescribeEvents",
      "elasticbeanstalk:AddTags",
      "elasticbeanstalk:ListTagsForResource",
      "elasticbeanstalk:TerminateEnvironment",
    ]
    resources = [
      "arn:aws:elasticbeanstalk:${local.region}:${local.account}:application/matching",
      "arn:aws:elasticbeanstalk:${local.region}:${local.account}:applicationversion/matching/*",
      "arn:aws:elasticbeanstalk:${local.region}:${local.account}:environment/matching/*",
      "arn:aws:elasticbeanstalk:${local.region}::platform/*",
      "arn:aws:elasticbeanstalk:${local.region}::solutionstack/*",
    ]
  }

  statement {
    sid = "EnvironmentsPlatforms"
    actions = [
      "elasticbeanstalk:ListPlatformVersions",
      "elasticbeanstalk:CheckDNSAvailability",
      "elasticbeanstalk:DescribeAccountAttributes",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "EnvironmentsRoles"
    actions = [
      "iam:PassRole",
    ]
    resources = [
      "arn:aws:iam::${local.account}:role/lotse-matching-service",
      "arn:aws:iam::${local.account}:role/lotse-matching-instance-prod",
    ]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["elasticbeanstalk.amazonaws.com", "ec2.amazonaws.com"]
    }
  }

  statement {
    sid = "EnvironmentsServiceRoles"
    actions = [
      "iam:CreateServiceLinkedRole",
    ]
    resources = [
      "arn:aws:iam::${local.account}:role/aws-service-role/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["autoscaling.amazonaws.com", "elasticbeanstalk.amazonaws.com", "elasticloadbalancing.amazonaws.com"]
    }
  }

  statement {
    sid = "Traffic"
    actions = [
      "elasticloadbalancing:CreateRule",
      "elasticloadbalancing:ModifyRule",
      "elasticloadbalancing:DeleteRule",
      "elasticloadbalancing:AddTags",
    ]
    resources = [
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:listener/app/lotse-matching/*",
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:listener-rule/app/lotse-matching/*",
    ]
  }

  statement {
    sid = "TrafficRead"
    actions = [
      "elasticloadbalancing:DescribeRules",
      "elasticloadbalancing:DescribeTags",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "Instances"
    actions = [
      "ssm:SendCommand",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:instance/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/lotse:app"
      values   = ["matching"]
    }
  }

  statement {
    sid = "InstancesDocument"
    actions = [
      "ssm:SendCommand",
    ]
    resources = [
      "arn:aws:ssm:${local.region}::document/AWS-RunShellScript",
    ]
  }

  statement {
    sid = "InstancesAnswers"
    actions = [
      "ssm:GetCommandInvocation",
      "ssm:CancelCommand",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "Logs"
    actions = [
      "logs:FilterLogEvents",
      "logs:DeleteLogGroup",
    ]
    resources = [
      "arn:aws:logs:${local.region}:${local.account}:log-group:/lotse/matching/*",
      "arn:aws:logs:${local.region}:${local.account}:log-group:/aws/elasticbeanstalk/matching-*",
    ]
  }

  statement {
    sid = "LogsList"
    actions = [
      "logs:DescribeLogGroups",
    ]
    resources = [
      "arn:aws:logs:${local.region}:${local.account}:log-group:*",
    ]
  }

  statement {
    sid = "Secrets"
    actions = [
      "secretsmanager:DescribeSecret",
      "secretsmanager:CreateSecret",
      "secretsmanager:TagResource",
      "secretsmanager:GetSecretValue",
      "secretsmanager:PutSecretValue",
    ]
    resources = [
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/matching/*",
    ]
  }

  statement {
    sid = "SecretsOfPeople"
    actions = [
      "secretsmanager:DeleteSecret",
      "secretsmanager:RestoreSecret",
      "secretsmanager:UpdateSecretVersionStage",
    ]
    resources = [
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/matching/*",
    ]
  }

  statement {
    sid = "SecretsList"
    actions = [
      "secretsmanager:BatchGetSecretValue",
      "secretsmanager:ListSecrets",
    ]
    resources = [
      "*",
    ]
  }
}

# What Elastic Beanstalk does in the name of whoever deploys: it makes the parts of an environment with their rights, not with its own.
resource "aws_iam_policy" "deploy_parts" {
  name        = "lotse-${local.app}-deploy-parts"
  description = "What Elastic Beanstalk does in the name of whoever deploys ${local.app}"
  policy      = data.aws_iam_policy_document.deploy_parts.json
}

data "aws_iam_policy_document" "deploy_parts" {
  statement {
    sid = "PartsRead"
    actions = [
      "acm:DescribeCertificate",
      "acm:ListCertificates",
      "autoscaling:DescribeAccountLimits",
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribePolicies",
      "autoscaling:DescribeScalingActivities",
      "cloudwatch:DescribeAlarms",
      "ec2:DescribeAccountAttributes",
      "ec2:DescribeAvailabilityZones",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeKeyPairs",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSubnets",
      "ec2:DescribeVpcs",
      "elasticloadbalancing:DescribeListeners",
      "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeRules",
      "elasticloadbalancing:DescribeTargetGroups",
      "elasticloadbalancing:DescribeTargetGroupAttributes",
      "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = [
      "*",
    ]
  }

  statement {
    sid = "PartsStacks"
    actions = [
      "cloudformation:CancelUpdateStack",
      "cloudformation:CreateStack",
      "cloudformation:DeleteStack",
      "cloudformation:DescribeStackEvents",
      "cloudformation:DescribeStackResource",
      "cloudformation:DescribeStackResources",
      "cloudformation:DescribeStacks",
      "cloudformation:GetTemplate",
      "cloudformation:ListStackResources",
      "cloudformation:TagResource",
      "cloudformation:UpdateStack",
    ]
    resources = [
      "arn:aws:cloudformation:${local.region}:${local.account}:stack/awseb-*",
    ]
  }

  statement {
    sid = "PartsGroups"
    actions = [
      "autoscaling:AttachLoadBalancerTargetGroups",
      "autoscaling:CreateAutoScalingGroup",
      "autoscaling:CreateOrUpdateTags",
      "autoscaling:DeleteAutoScalingGroup",
      "autoscaling:DeletePolicy",
      "autoscaling:PutNotificationConfiguration",
      "autoscaling:PutScalingPolicy",
      "autoscaling:ResumeProcesses",
      "autoscaling:SetDesiredCapacity",
      "autoscaling:SuspendProcesses",
      "autoscaling:TerminateInstanceInAutoScalingGroup",
      "autoscaling:UpdateAutoScalingGroup",
    ]
    resources = [
      "arn:aws:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/awseb-*",
    ]
  }

  statement {
    sid = "PartsTemplates"
    actions = [
      "ec2:CreateLaunchTemplate",
      "ec2:CreateLaunchTemplateVersion",
      "ec2:DeleteLaunchTemplate",
      "ec2:DeleteLaunchTemplateVersions",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:launch-template/*",
    ]
  }

  statement {
    sid = "PartsTags"
    actions = [
      "ec2:CreateTags",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:launch-template/*",
      "arn:aws:ec2:${local.region}:${local.account}:instance/*",
      "arn:aws:ec2:${local.region}:${local.account}:volume/*",
      "arn:aws:ec2:${local.region}:${local.account}:network-interface/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances", "CreateLaunchTemplate"]
    }
  }

  statement {
    sid = "PartsSecurityGroups"
    actions = [
      "ec2:CreateSecurityGroup",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:security-group/*",
      "arn:aws:ec2:${local.region}:${local.account}:vpc/${aws_vpc.main.id}",
    ]
  }

  statement {
    sid = "PartsSecurityGroupsOfTheNetwork"
    actions = [
      "ec2:AuthorizeSecurityGroupEgress",
      "ec2:AuthorizeSecurityGroupIngress",
      "ec2:CreateTags",
      "ec2:DeleteSecurityGroup",
      "ec2:RevokeSecurityGroupEgress",
      "ec2:RevokeSecurityGroupIngress",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:security-group/*",
    ]
    condition {
      test     = "ArnEquals"
      variable = "ec2:Vpc"
      values   = ["arn:aws:ec2:${local.region}:${local.account}:vpc/${aws_vpc.main.id}"]
    }
  }

  statement {
    sid = "PartsInstances"
    actions = [
      "ec2:RunInstances",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:*/*",
      "arn:aws:ec2:${local.region}::image/*",
    ]
    condition {
      test     = "ArnLike"
      variable = "ec2:LaunchTemplate"
      values   = ["arn:aws:ec2:${local.region}:${local.account}:launch-template/*"]
    }
  }

  statement {
    sid = "PartsInstancesEnd"
    actions = [
      "ec2:TerminateInstances",
    ]
    resources = [
      "arn:aws:ec2:${local.region}:${local.account}:instance/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/lotse:app"
      values   = ["matching"]
    }
  }

  statement {
    sid = "PartsAlarms"
    actions = [
      "cloudwatch:DeleteAlarms",
      "cloudwatch:PutMetricAlarm",
    ]
    resources = [
      "arn:aws:cloudwatch:${local.region}:${local.account}:alarm:awseb-*",
    ]
  }

  statement {
    sid = "PartsLogs"
    actions = [
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
    ]
    resources = [
      "arn:aws:logs:${local.region}:${local.account}:log-group:/aws/elasticbeanstalk/matching-*",
    ]
  }

  statement {
    sid = "PartsBucket"
    actions = [
      "s3:CreateBucket",
      "s3:GetBucketAcl",
      "s3:GetBucketLocation",
      "s3:GetBucketPolicy",
      "s3:ListBucket",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
    ]
    resources = [
      "arn:aws:s3:::elasticbeanstalk-${local.region}-${local.account}",
    ]
  }

  statement {
    sid = "PartsBucketObjects"
    actions = [
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:GetObjectAcl",
      "s3:PutObject",
    ]
    resources = [
      "arn:aws:s3:::elasticbeanstalk-${local.region}-${local.account}/*",
    ]
  }

  statement {
    sid = "PartsTraffic"
    actions = [
      "elasticloadbalancing:AddTags",
      "elasticloadbalancing:CreateTargetGroup",
      "elasticloadbalancing:DeleteTargetGroup",
      "elasticloadbalancing:DeregisterTargets",
      "elasticloadbalancing:ModifyTargetGroup",
      "elasticloadbalancing:ModifyTargetGroupAttributes",
      "elasticloadbalancing:RegisterTargets",
      "elasticloadbalancing:RemoveTags",
      "elasticloadbalancing:CreateRule",
      "elasticloadbalancing:DeleteRule",
      "elasticloadbalancing:ModifyRule",
      "elasticloadbalancing:SetRulePriorities",
      "elasticloadbalancing:SetSecurityGroups",
    ]
    resources = [
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:targetgroup/awseb-*",
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:loadbalancer/app/lotse-matching/*",
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:listener/app/lotse-matching/*",
      "arn:aws:elasticloadbalancing:${local.region}:${local.account}:listener-rule/app/lotse-matching/*",
    ]
  }
}
