# Lotse watches the stages by itself; this is what still speaks when Lotse does not. Nobody is subscribed: an address is personal data and has no
# place in a file. Subscribe in the console (SNS, lotse-shop) or by `aws sns subscribe`.

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

# CloudFront's figures are in us-east-1 alone, and an alarm can tell only a topic beside it: there is none.

# Of the whole account, whatever else is in it: one by the tag lotse:app would count nothing until somebody activates that tag for cost allocation.
resource "aws_budgets_budget" "main" {
  name         = "lotse-${local.app}"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = "20"
  limit_unit   = "USD"

  notification {
    notification_type         = "ACTUAL"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }

  notification {
    notification_type         = "FORECASTED"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }
}
