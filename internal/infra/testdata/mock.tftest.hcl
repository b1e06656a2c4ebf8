# The provider makes everything up, so this proves that the module hangs together, and nothing about AWS. What is an ARN must look like one.
mock_provider "aws" {
  override_during = plan

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_acm_certificate" {
    defaults = { arn = "arn:aws:acm:eu-central-1:123456789012:certificate/x", domain_validation_options = [RECORDS] }
  }
  mock_resource "aws_acm_certificate_validation" {
    defaults = { certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/x" }
  }
ARNS
}
EDGE
run "plan" {
  command = plan

  assert {
    condition     = join(" ", sort(keys(local.outputs))) == "OUTPUTS"
    error_message = "the stack has other outputs: ${join(" ", sort(keys(local.outputs)))}"
  }
ASSERTS}
