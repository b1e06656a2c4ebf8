# [[.App]] on AWS, as its lotse.yaml asks for it: everything that lasts. Written by `lotse infra render terraform`; it is yours from then on.
# Environments of Elastic Beanstalk are not here: each rollout has one of its own, which Lotse makes and removes.
#
# What holds data cannot be destroyed by a plan (prevent_destroy). To let go of it, take the line away, and say so in the commit.

terraform {
  required_version = ">= 1.11" # for passwords that are written and never kept in the state

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The state names everything, so keep it private, encrypted, versioned and in the region, for example:
  # backend "s3" {
  #   bucket       = "…"
  #   key          = "[[.App]].tfstate"
  #   region       = "[[.AWS.Region]]"
  #   encrypt      = true
  #   use_lockfile = true
  # }
}

provider "aws" {
  region = local.region
[[- if .AWS.Account]]

  allowed_account_ids = ["[[.AWS.Account]]"]
[[- end]]

  default_tags {
    tags = { "lotse:app" = local.app }
  }
}
[[if .Static]]
# CloudFront is steered from there, and takes certificates from there alone. Nothing in it is personal data.
provider "aws" {
  alias  = "edge"
  region = "us-east-1"
[[- if .AWS.Account]]

  allowed_account_ids = ["[[.AWS.Account]]"]
[[- end]]

  default_tags {
    tags = { "lotse:app" = local.app }
  }
}
[[end]]
data "aws_caller_identity" "current" {}
[[if not .Static]]
data "aws_availability_zones" "available" {
  state = "available"
}
[[end]]
[[- if .AWS.Zone]]
data "aws_route53_zone" "main" {
  name = "[[.AWS.Zone]]."
}
[[end]]
locals {
  app     = "[[.App]]"
  region  = "[[.AWS.Region]]"
  account = data.aws_caller_identity.current.account_id
[[- if not .Static]]
  zones   = slice(data.aws_availability_zones.available.names, 0, 2)
[[- end]]

  # In the order of promotion. redirects are hosts that are sent to host.
  stages = {
[[- range .Stages]]
    [[stageKey .Name]] = { host = "[[.Host]]", redirects = [[redirects .]] }
[[- end]]
  }
[[- if .Databases]]

  # Major versions of PostgreSQL.
  databases = {
[[- range .Stages]][[if .Postgres]]
    [[databaseKey .Name]] = "[[.Postgres]]"
[[- end]][[end]]
  }
[[- end]]

  hosts = flatten([for stage in local.stages : concat([stage.host], stage.redirects)])
}

# One key of our own, so that who may read what is seen in one place and AWS renews it each year.
resource "aws_kms_key" "main" {
  description             = "What ${local.app} stores"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "main" {
  name          = "alias/lotse-${local.app}"
  target_key_id = aws_kms_key.main.key_id
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "AccountDecidesByItsPolicies"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${local.account}:root"]
    }
  }
[[- if not .Static]]

  statement {
    sid       = "LogGroupsOfTheApp"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${local.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:aws:logs:${local.region}:${local.account}:log-group:/lotse/${local.app}/*"]
    }
  }
[[- end]]
[[if .Told]]
  statement {
    sid       = "AlarmsAndBudgetsToTheTopic"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:aws:sns:topicArn"
      values   = ["arn:aws:sns:${local.region}:${local.account}:lotse-${local.app}"]
    }
  }
[[- end]]
}
