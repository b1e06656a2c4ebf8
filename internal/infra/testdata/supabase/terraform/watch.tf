# Lotse watches the stages by itself; this is what still speaks when Lotse does not. Nobody is subscribed: an address is personal data and has no
# place in a file. Subscribe in the console (SNS, lotse-matching) or by `aws sns subscribe`.

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

resource "aws_cloudwatch_metric_alarm" "errors" {
  # Answers of the app, and of the balancer itself when nobody stands behind it.
  for_each = { errors = "HTTPCode_Target_5XX_Count", unreachable = "HTTPCode_ELB_5XX_Count" }

  alarm_name          = "lotse-${local.app}-${each.key}"
  alarm_description   = "${local.app}: 10 answers or more were 5xx in each of 3 minutes"
  namespace           = "AWS/ApplicationELB"
  metric_name         = each.value
  dimensions          = { LoadBalancer = aws_lb.main.arn_suffix }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 10
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# Target groups come and go with environments, so it is asked of all that hang on this balancer. 15 minutes: a release that starts beside the old
# one is not healthy from its first second, and should not wake anybody.
resource "aws_cloudwatch_metric_alarm" "health" {
  alarm_name          = "lotse-${local.app}-health"
  alarm_description   = "${local.app}: an instance has not been healthy for 15 minutes"
  evaluation_periods  = 15
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "unhealthy"
    expression  = "SELECT MAX(UnHealthyHostCount) FROM SCHEMA(\"AWS/ApplicationELB\", LoadBalancer, TargetGroup) WHERE LoadBalancer = '${aws_lb.main.arn_suffix}'"
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
