variable "github_provider" {
  description = "ARN of the OpenID Connect provider of GitHub, where this account has one already (there can be only one); empty to make it."
  type        = string
  default     = ""
}
