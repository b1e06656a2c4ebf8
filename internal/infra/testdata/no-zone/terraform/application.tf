# No version lifecycle: it could remove a version that a stage still goes back to. Lotse removes those that nothing needs any more.
resource "aws_elastic_beanstalk_application" "app" {
  name        = local.app
  description = "${local.app}, deployed by Lotse"
}

# What the services of a stage and Lotse's front say, masked and without addresses.
resource "aws_cloudwatch_log_group" "stage" {
  for_each = local.stages

  name              = "/lotse/${local.app}/${each.key}"
  retention_in_days = 30
  kms_key_id        = aws_kms_key.main.arn
  tags              = { "lotse:stage" = each.key }

  lifecycle {
    prevent_destroy = true
  }
}
