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
      "arn:aws:cloudformation:${local.region}:${local.account}:stack/lotse-leaflet/*",
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
      "arn:aws:s3:::lotse-leaflet-releases-${local.account}/*",
    ]
  }

  statement {
    sid = "ReleasesList"
    actions = [
      "s3:ListBucket",
    ]
    resources = [
      "arn:aws:s3:::lotse-leaflet-releases-${local.account}",
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse-people/lotse-leaflet-releases-${local.account}-??????",
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
      "arn:aws:s3:::lotse-leaflet-prod-site-${local.account}/*",
    ]
  }

  statement {
    sid = "SiteList"
    actions = [
      "s3:ListBucket",
    ]
    resources = [
      "arn:aws:s3:::lotse-leaflet-prod-site-${local.account}",
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
      values   = ["leaflet"]
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/leaflet/*",
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
      "arn:aws:secretsmanager:${local.region}:${local.account}:secret:lotse/leaflet/*",
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
