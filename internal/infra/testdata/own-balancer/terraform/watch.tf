# Lotse watches the stages by itself; this is what still speaks when Lotse does not. Nobody is subscribed: an address is personal data and has no
# place in a file. Subscribe in the console (SNS, lotse-rides) or by `aws sns subscribe`.

resource "aws_sns_topic" "alarms" {
  name              = "lotse-${local.app}"
  kms_master_key_id = aws_kms_key.main.arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "AlarmsAndBudgets"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# Each environment has a balancer of its own, so it is asked of all environments in this account and region: 15 is Warning, 20 Degraded, 25 Severe.
resource "aws_cloudwatch_metric_alarm" "health" {
  alarm_name          = "lotse-${local.app}-health"
  alarm_description   = "${local.app}: an environment has been degraded for 15 minutes"
  evaluation_periods  = 15
  threshold           = 20
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "health"
    expression  = "SELECT MAX(EnvironmentHealth) FROM SCHEMA(\"AWS/ElasticBeanstalk\", EnvironmentName)"
    period      = 60
    return_data = true
  }
}

# As Lotse's front counts on the instances, whichever release serves: also what the balancer does not see, and by stage.
resource "aws_cloudwatch_metric_alarm" "stage_errors" {
  for_each = local.stages

  alarm_name          = "lotse-${local.app}-${each.key}-errors"
  alarm_description   = "${local.app} ${each.key}: 10 requests or more have failed in each of 3 minutes"
  namespace           = "Lotse"
  metric_name         = "Errors"
  dimensions          = { App = local.app, Stage = each.key }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 10
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = { "lotse:stage" = each.key }
}

resource "aws_cloudwatch_metric_alarm" "database_space" {
  for_each = local.databases

  alarm_name          = "lotse-${local.app}-${each.key}-database-space"
  alarm_description   = "${local.app} ${each.key}: the database has less than 2 GiB left"
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.stage[each.key].identifier }
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 3
  threshold           = 2147483648
  comparison_operator = "LessThanThreshold"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = { "lotse:stage" = each.key }
}

resource "aws_cloudwatch_metric_alarm" "database_load" {
  for_each = local.databases

  alarm_name          = "lotse-${local.app}-${each.key}-database-load"
  alarm_description   = "${local.app} ${each.key}: the processor of the database has been over 80 % for 15 minutes"
  namespace           = "AWS/RDS"
  metric_name         = "CPUUtilization"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.stage[each.key].identifier }
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 3
  threshold           = 80
  comparison_operator = "GreaterThanThreshold"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = { "lotse:stage" = each.key }
}
