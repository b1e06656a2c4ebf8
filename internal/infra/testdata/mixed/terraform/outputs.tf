# Where everything is. Lotse reads the outputs of the stack lotse-whatsgonow, whoever made it; this one holds nothing but them.

locals {
  outputs = {
    Releases                     = aws_s3_bucket.releases.id
    Key                          = aws_kms_key.main.arn
    Application                  = aws_elastic_beanstalk_application.app.name
    ServiceRole                  = aws_iam_role.service.arn
    Vpc                          = aws_vpc.main.id
    InstanceSubnets              = join(",", aws_subnet.instance[*].id)
    BalancerSubnets              = join(",", aws_subnet.balancer[*].id)
    BalancerSecurityGroup        = aws_security_group.balancer.id
    Certificate                  = aws_acm_certificate_validation.main.certificate_arn
    Balancer                     = aws_lb.main.arn
    Listener                     = aws_lb_listener.https.arn
    Address                      = aws_lb.main.dns_name
    DevInstanceProfile           = aws_iam_instance_profile.instance["dev"].name
    DevInstanceSecurityGroup     = aws_security_group.instance["dev"].id
    DevDatabaseHost              = aws_db_instance.stage["dev"].address
    DevDatabaseSecret            = aws_secretsmanager_secret.database["dev"].arn
    DevVolumes                   = aws_efs_file_system.stage["dev"].id
    DevLogs                      = aws_cloudwatch_log_group.stage["dev"].name
    StagingInstanceProfile       = aws_iam_instance_profile.instance["staging"].name
    StagingInstanceSecurityGroup = aws_security_group.instance["staging"].id
    StagingDatabaseHost          = aws_db_instance.stage["staging"].address
    StagingDatabaseSecret        = aws_secretsmanager_secret.database["staging"].arn
    StagingVolumes               = aws_efs_file_system.stage["staging"].id
    StagingLogs                  = aws_cloudwatch_log_group.stage["staging"].name
    ProdInstanceProfile          = aws_iam_instance_profile.instance["prod"].name
    ProdInstanceSecurityGroup    = aws_security_group.instance["prod"].id
    ProdDatabaseHost             = aws_db_instance.stage["prod"].address
    ProdDatabaseSecret           = aws_secretsmanager_secret.database["prod"].arn
    ProdVolumes                  = aws_efs_file_system.stage["prod"].id
    ProdLogs                     = aws_cloudwatch_log_group.stage["prod"].name
  }
}

resource "aws_cloudformation_stack" "outputs" {
  name = "lotse-whatsgonow"
  tags = { "lotse:app" = "${local.app} by Terraform" } # so that `lotse infra apply` keeps off: it would make everything a second time

  template_body = jsonencode({
    Description = "Where whatsgonow is, for Lotse; made by Terraform"
    Resources   = { Nothing = { Type = "AWS::CloudFormation::WaitConditionHandle" } } # a stack must have a resource
    Outputs     = { for name, value in local.outputs : name => { Value = value } }
  })
}

output "lotse" {
  description = "The same, for people."
  value       = local.outputs
}
