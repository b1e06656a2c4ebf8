# Where everything is. Lotse reads the outputs of the stack lotse-leaflet, whoever made it; this one holds nothing but them.

locals {
  outputs = {
    Releases         = aws_s3_bucket.releases.id
    Key              = aws_kms_key.main.arn
    ProdSite         = aws_s3_bucket.site["prod"].id
    ProdDistribution = aws_cloudfront_distribution.site["prod"].id
    ProdAddress      = aws_cloudfront_distribution.site["prod"].domain_name
  }
}

resource "aws_cloudformation_stack" "outputs" {
  name = "lotse-leaflet"
  tags = { "lotse:app" = "${local.app} by Terraform" } # so that `lotse infra apply` keeps off: it would make everything a second time

  template_body = jsonencode({
    Description = "Where leaflet is, for Lotse; made by Terraform"
    Resources   = { Nothing = { Type = "AWS::CloudFormation::WaitConditionHandle" } } # a stack must have a resource
    Outputs     = { for name, value in local.outputs : name => { Value = value } }
  })
}

output "lotse" {
  description = "The same, for people."
  value       = local.outputs
}
