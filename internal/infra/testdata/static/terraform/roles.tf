# Roles and policies. No role may make or change a role, so a permissions boundary would bound nothing. Instances of a stage have a role of
# their own.

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
      "arn:aws:cloudformation:${local.region}:${local.account}:stack/lotse-shop/*",
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
      "arn:aws:s3:::lotse-shop-releases-${local.account}/*",
    ]
  }

  statement {
    sid = "ReleasesList"
    actions = [
      "s3:ListBucket",
    ]
    resources = [
      "arn:aws:s3:::lotse-shop-releases-${local.account}",
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse-people/lotse-shop-releases-${local.account}-??????",
    ]
  }

  statement {
    sid = "Site"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
    ]
    resources = [
      "arn:aws:s3:::lotse-shop-pre-prod-site-${local.account}/*",
      "arn:aws:s3:::lotse-shop-prod-site-${local.account}/*",
    ]
  }

  statement {
    sid = "SiteList"
    actions = [
      "s3:ListBucket",
    ]
    resources = [
      "arn:aws:s3:::lotse-shop-pre-prod-site-${local.account}",
      "arn:aws:s3:::lotse-shop-prod-site-${local.account}",
    ]
  }

  statement {
    sid = "SiteInvalidation"
    actions = [
      "cloudfront:CreateInvalidation",
      "cloudfront:GetInvalidation",
    ]
    resources = [
      "arn:aws:cloudfront::${local.account}:distribution/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/lotse:app"
      values   = ["shop"]
    }
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/shop/*",
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/shop/*",
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

# Workflows of GitHub come in with a token that GitHub signs for one run: there is no key that lasts.
resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_provider == "" ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "deploy" {
  name                 = "lotse-${local.app}-deploy"
  description          = "Workflows of shop/site deploy ${local.app}"
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
        "repo:shop/site:environment:pre-prod",
        "repo:shop/site:environment:prod",
      ]
    }
  }
}

resource "aws_iam_role_policy_attachment" "deploy" {
  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.deploy.arn
}
