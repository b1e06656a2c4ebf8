# Where everything is. Lotse reads the outputs of the stack lotse-parcels, whoever made it; this one holds nothing but them.

locals {
  outputs = {
    Releases                  = aws_s3_bucket.releases.id
    Key                       = aws_kms_key.main.arn
    Application               = aws_elastic_beanstalk_application.app.name
    ServiceRole               = aws_iam_role.service.arn
    Vpc                       = aws_vpc.main.id
    InstanceSubnets           = join(",", aws_subnet.instance[*].id)
    BalancerSubnets           = join(",", aws_subnet.balancer[*].id)
    BalancerSecurityGroup     = aws_security_group.balancer.id
    Certificate               = aws_acm_certificate.main.arn
    Balancer                  = aws_lb.main.arn
    Listener                  = aws_lb_listener.https.arn
    Address                   = aws_lb.main.dns_name
    ProdInstanceProfile       = aws_iam_instance_profile.instance["prod"].name
    ProdInstanceSecurityGroup = aws_security_group.instance["prod"].id
    ProdLogs                  = aws_cloudwatch_log_group.stage["prod"].name
  }
}

resource "aws_cloudformation_stack" "outputs" {
  name = "lotse-parcels"
  tags = { "lotse:app" = "${local.app} by Terraform" } # so that `lotse infra apply` keeps off: it would make everything a second time

  template_body = jsonencode({
    Description = "Where parcels is, for Lotse; made by Terraform"
    Resources   = { Nothing = { Type = "AWS::CloudFormation::WaitConditionHandle" } } # a stack must have a resource
    Outputs     = { for name, value in local.outputs : name => { Value = value } }
  })
}

output "lotse" {
  description = "The same, for people."
  value       = local.outputs
}
