# Roles and policies. No role may make or change a role, so a permissions boundary would bound nothing. Instances of a stage have a role of
# their own.
[[if not .Static]]
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
[[documents .ServicePolicy]]
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

[[documents .InstancePolicy]]
}

resource "aws_iam_instance_profile" "instance" {
  for_each = local.stages

  name = "lotse-${local.app}-instance-${each.key}"
  role = aws_iam_role.instance[each.key].name
}
[[end]]
# What whoever deploys may do. Attach it to your people's role; GitHub's has it already, if there is one.
resource "aws_iam_policy" "deploy" {
  name        = "lotse-${local.app}-deploy"
  description = "What Lotse calls to deploy ${local.app}"
  policy      = data.aws_iam_policy_document.deploy.json
}

data "aws_iam_policy_document" "deploy" {
[[documents .LotsePolicy]]
}
[[if .Databases]]
# What Lotse calls for databases: a policy has an end, and this part of it has nothing to do with the rest.
resource "aws_iam_policy" "deploy_databases" {
  name        = "lotse-${local.app}-deploy-databases"
  description = "What Lotse calls to keep the databases of ${local.app}"
  policy      = data.aws_iam_policy_document.deploy_databases.json
}

data "aws_iam_policy_document" "deploy_databases" {
[[documents .DatabasesPolicy]]
}
[[end]]
[[- if not .Static]]
# What Elastic Beanstalk does in the name of whoever deploys: it makes the parts of an environment with their rights, not with its own.
resource "aws_iam_policy" "deploy_parts" {
  name        = "lotse-${local.app}-deploy-parts"
  description = "What Elastic Beanstalk does in the name of whoever deploys ${local.app}"
  policy      = data.aws_iam_policy_document.deploy_parts.json
}

data "aws_iam_policy_document" "deploy_parts" {
[[documents .PartsPolicy]]
}
[[end]]
[[- if .AWS.Repository]]
# Workflows of GitHub come in with a token that GitHub signs for one run: there is no key that lasts.
resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_provider == "" ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "deploy" {
  name                 = "lotse-${local.app}-deploy"
  description          = "Workflows of [[.AWS.Repository]] deploy ${local.app}"
  max_session_duration = 7200
  assume_role_policy   = data.aws_iam_policy_document.deploy_trust.json
}

data "aws_iam_policy_document" "deploy_trust" {
  statement {
    sid     = "WorkflowsOfTheRepository"
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.github_provider == "" ? one(aws_iam_openid_connect_provider.github[*].arn) : var.github_provider]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values = [
[[- range .Subjects]]
        "[[.]]",
[[- end]]
      ]
    }
  }
}

resource "aws_iam_role_policy_attachment" "deploy" {
  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.deploy.arn
}
[[if .Databases]]
resource "aws_iam_role_policy_attachment" "deploy_databases" {
  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.deploy_databases.arn
}
[[end]]
[[- if not .Static]]
resource "aws_iam_role_policy_attachment" "deploy_parts" {
  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.deploy_parts.arn
}
[[end]]
[[- end]]
