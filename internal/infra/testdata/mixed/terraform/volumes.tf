# One file system per stage, mounted by its instances by TLS. AWS Backup copies it daily and keeps that for 35 days, in this region.
resource "aws_efs_file_system" "stage" {
  for_each = local.stages

  encrypted        = true
  kms_key_id       = aws_kms_key.main.arn
  performance_mode = "generalPurpose"
  throughput_mode  = "elastic"
  tags             = { "lotse:stage" = each.key }

  lifecycle_policy {
    transition_to_ia = "AFTER_30_DAYS"
  }

  lifecycle_policy {
    transition_to_primary_storage_class = "AFTER_1_ACCESS"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_efs_backup_policy" "stage" {
  for_each = local.stages

  file_system_id = aws_efs_file_system.stage[each.key].id

  backup_policy {
    status = "ENABLED"
  }
}

resource "aws_efs_file_system_policy" "stage" {
  for_each = local.stages

  file_system_id = aws_efs_file_system.stage[each.key].id
  policy         = data.aws_iam_policy_document.volumes[each.key].json
}

data "aws_iam_policy_document" "volumes" {
  for_each = local.stages

  statement {
    sid       = "ByTLSOnly"
    effect    = "Deny"
    actions   = ["*"]
    resources = [aws_efs_file_system.stage[each.key].arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Who reaches a mount target is decided by its security group.
  statement {
    sid       = "ThroughTheNetworkOnly"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite", "elasticfilesystem:ClientRootAccess"]
    resources = [aws_efs_file_system.stage[each.key].arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "elasticfilesystem:AccessedViaMountTarget"
      values   = ["true"]
    }
  }
}

resource "aws_efs_mount_target" "stage" {
  for_each = { for pair in setproduct(keys(local.stages), [0, 1]) : "${pair[0]}-${pair[1]}" => pair }

  file_system_id  = aws_efs_file_system.stage[each.value[0]].id
  subnet_id       = aws_subnet.instance[each.value[1]].id
  security_groups = [aws_security_group.volumes[each.value[0]].id]
}
