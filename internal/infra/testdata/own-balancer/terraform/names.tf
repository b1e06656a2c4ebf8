locals {
  # Whose environment a host leads to: the one that has the name <app>-<stage> at the moment.
  environments = merge([for stage, s in local.stages : { for host in concat([s.host], s.redirects) : host => "${local.app}-${stage}.${local.region}.elasticbeanstalk.com" }]...)
}

resource "aws_route53_record" "host" {
  for_each = { for host, environment in local.environments : host => environment if host != "rides.eu" }

  zone_id = data.aws_route53_zone.main.zone_id
  name    = each.key
  type    = "CNAME"
  ttl     = 60 # a swap takes as long as this
  records = [each.value]
}

# The top of a zone cannot be a CNAME.
resource "aws_route53_record" "top" {
  for_each = { for host, environment in local.environments : host => environment if host == "rides.eu" }

  zone_id = data.aws_route53_zone.main.zone_id
  name    = each.key
  type    = "A"

  alias {
    name                   = each.value
    zone_id                = data.aws_elastic_beanstalk_hosted_zone.current.id
    evaluate_target_health = false
  }
}

data "aws_elastic_beanstalk_hosted_zone" "current" {}
