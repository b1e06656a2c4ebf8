# Where everything is. Lotse reads the outputs of the stack [[.StackName]], whoever made it; this one holds nothing but them.

locals {
  outputs = {
[[- range .Outputs]]
    [[outputKey .Name]] = [[.Terraform]]
[[- end]]
  }
}

resource "aws_cloudformation_stack" "outputs" {
  name = "[[.StackName]]"
  tags = { "lotse:app" = "${local.app} by Terraform" } # so that `lotse infra apply` keeps off: it would make everything a second time

  template_body = jsonencode({
    Description = "Where [[.App]] is, for Lotse; made by Terraform"
    Resources   = { Nothing = { Type = "AWS::CloudFormation::WaitConditionHandle" } } # a stack must have a resource
    Outputs     = { for name, value in local.outputs : name => { Value = value } }
  })
}

output "lotse" {
  description = "The same, for people."
  value       = local.outputs
}
