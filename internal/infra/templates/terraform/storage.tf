# Buckets: private, encrypted, versioned, by TLS only.

locals {
  buckets = merge(
    { releases = aws_s3_bucket.releases.id },
[[- if .Static]]
    { access = aws_s3_bucket.access_log.id },
[[- end]]
[[- if .Static]]
    { for stage, bucket in aws_s3_bucket.site : "site-${stage}" => bucket.id },
[[- end]]
  )
}

# What is to be deployed, and the few facts about a stage that a dead controller must find again.
resource "aws_s3_bucket" "releases" {
  bucket = "lotse-${local.app}-releases-${local.account}"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "releases" {
  bucket = aws_s3_bucket.releases.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.main.arn
    }
  }
}

resource "aws_s3_bucket_policy" "releases" {
  bucket = aws_s3_bucket.releases.id
  policy = data.aws_iam_policy_document.releases.json
}

data "aws_iam_policy_document" "releases" {
  statement {
    sid       = "ByTLSOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.releases.arn, "${aws_s3_bucket.releases.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}
[[if .Static]]
# The files of a stage, which everybody may see: they need no key of their own (AES256).
resource "aws_s3_bucket" "site" {
  for_each = local.stages

  bucket = "lotse-${local.app}-${each.key}-site-${local.account}"
  tags   = { "lotse:stage" = each.key }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_policy" "site" {
  for_each = local.stages

  bucket = aws_s3_bucket.site[each.key].id
  policy = data.aws_iam_policy_document.site[each.key].json
}

data "aws_iam_policy_document" "site" {
  for_each = local.stages

  statement {
    sid       = "ByTLSOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.site[each.key].arn, "${aws_s3_bucket.site[each.key].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "DistributionReads"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.site[each.key].arn}/*"]

    principals {
      type        = "Service"
      identifiers = ["cloudfront.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudfront_distribution.site[each.key].arn]
    }
  }

  # What Lotse keeps there for itself. S3 reads the name of the file as it is, however a browser has written it.
  statement {
    sid       = "DistributionKeepsOut"
    effect    = "Deny"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.site[each.key].arn}/.lotse/*"]

    principals {
      type        = "Service"
      identifiers = ["cloudfront.amazonaws.com"]
    }
  }

  # Without it, S3 says 403 of a file that is not there.
  statement {
    sid       = "DistributionKnowsWhatIsMissing"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.site[each.key].arn]

    principals {
      type        = "Service"
      identifiers = ["cloudfront.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudfront_distribution.site[each.key].arn]
    }
  }
}
[[end]]
[[- if .Static]]
# What CloudFront says of requests: which file, when, how it went. No IP address, no browser, no cookie (site.tf names the fields).
resource "aws_s3_bucket" "access_log" {
  bucket = "lotse-${local.app}-access-${local.account}"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_policy" "access_log" {
  bucket = aws_s3_bucket.access_log.id
  policy = data.aws_iam_policy_document.access_log.json
}

data "aws_iam_policy_document" "access_log" {
  statement {
    sid       = "ByTLSOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.access_log.arn, "${aws_s3_bucket.access_log.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "CloudFrontWrites"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.access_log.arn}/*"]

    principals {
      type        = "Service"
      identifiers = ["delivery.logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "s3:x-amz-acl"
      values   = ["bucket-owner-full-control"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:logs:us-east-1:${local.account}:delivery-source:*"]
    }
  }
}
[[end]]
# ---- What all buckets have

resource "aws_s3_bucket_public_access_block" "all" {
  for_each = local.buckets

  bucket                  = each.value
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "all" {
  for_each = local.buckets

  bucket = each.value

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "all" {
  for_each = local.buckets

  bucket = each.value

  versioning_configuration {
    status = "Enabled"
  }
}
[[if .Static]]
resource "aws_s3_bucket_server_side_encryption_configuration" "all" {
  for_each = { for name, bucket in local.buckets : name => bucket if name != "releases" }

  bucket = each.value

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}
[[end]]
resource "aws_s3_bucket_lifecycle_configuration" "all" {
  for_each = local.buckets

  bucket = each.value

  rule {
    id     = "versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = each.key == "access" ? 1 : 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
[[- if .Static]]

  dynamic "rule" {
    for_each = each.key == "access" ? ["retention"] : []

    content {
      id     = rule.value
      status = "Enabled"

      filter {}

      expiration {
        days = [[.AccessDays]]
      }
    }
  }
[[- end]]
}
