# One database per stage, outside of every environment, so that no rollout can take its data along. One zone each: AWS restores it in the other one,
# by hand, within the hour, from at most 5 minutes before. multi_az = true does that by itself within two minutes, for twice the price.

resource "aws_db_subnet_group" "main" {
  name        = "lotse-${local.app}"
  description = "Closed subnets of ${local.app}"
  subnet_ids  = aws_subnet.database[*].id
}

# Made anew for each run, and written once: it is in neither the plan nor the state.
ephemeral "aws_secretsmanager_random_password" "database" {
  for_each = local.databases

  password_length     = 40
  exclude_punctuation = true
}

# Lotse reads it and hands an address to the environment. A name is free again 30 days after its secret was deleted at the earliest, so each gets
# one of its own.
resource "aws_secretsmanager_secret" "database" {
  for_each = local.databases

  name_prefix = "${replace(title(replace(each.key, "-", " ")), " ", "")}DatabaseSecret-"
  description = "Database of ${local.app} ${each.key}: name and password of its owner"
  kms_key_id  = aws_kms_key.main.arn
  tags        = { "lotse:stage" = each.key }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_secretsmanager_secret_version" "database" {
  for_each = local.databases

  secret_id                = aws_secretsmanager_secret.database[each.key].id
  secret_string_wo_version = 1 # raise it here and below to change the password
  secret_string_wo = jsonencode({
    username = "lotse"
    password = ephemeral.aws_secretsmanager_random_password.database[each.key].random_password
  })
}

# What was written, so that secret and database have the same one whichever run makes them.
ephemeral "aws_secretsmanager_secret_version" "database" {
  for_each = local.databases

  secret_id  = aws_secretsmanager_secret_version.database[each.key].secret_id
  version_id = aws_secretsmanager_secret_version.database[each.key].version_id
}

resource "aws_db_parameter_group" "stage" {
  for_each = local.databases

  name_prefix = "lotse-${local.app}-${each.key}-"
  family      = "postgres${each.value}"
  description = "${local.app} ${each.key}: by TLS only"
  tags        = { "lotse:stage" = each.key }

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "stage" {
  for_each = local.databases

  identifier_prefix               = "lotse-${local.app}-${each.key}-" # a new one can be made beside the old
  db_name                         = "app"
  engine                          = "postgres"
  engine_version                  = each.value
  engine_lifecycle_support        = "open-source-rds-extended-support-disabled" # it costs; be on a newer version by then
  instance_class                  = "db.t4g.micro"
  storage_type                    = "gp3"
  allocated_storage               = 20
  max_allocated_storage           = 100
  storage_encrypted               = true
  kms_key_id                      = aws_kms_key.main.arn
  multi_az                        = false
  publicly_accessible             = false
  db_subnet_group_name            = aws_db_subnet_group.main.name
  vpc_security_group_ids          = [aws_security_group.database[each.key].id]
  parameter_group_name            = aws_db_parameter_group.stage[each.key].name
  ca_cert_identifier              = "rds-ca-rsa2048-g1"
  username                        = "lotse"
  password_wo                     = jsondecode(ephemeral.aws_secretsmanager_secret_version.database[each.key].secret_string).password
  password_wo_version             = aws_secretsmanager_secret_version.database[each.key].secret_string_wo_version
  backup_retention_period         = 7
  backup_window                   = "01:00-02:00"
  maintenance_window              = "sun:02:30-sun:03:30"
  copy_tags_to_snapshot           = true
  delete_automated_backups        = false
  skip_final_snapshot             = false
  final_snapshot_identifier       = "lotse-${local.app}-${each.key}-final"
  deletion_protection             = true
  allow_major_version_upgrade     = false
  auto_minor_version_upgrade      = true
  performance_insights_enabled    = false # it would keep the text of statements, which may hold personal data
  enabled_cloudwatch_logs_exports = []
  tags                            = { "lotse:stage" = each.key }

  lifecycle {
    prevent_destroy = true
  }
}
