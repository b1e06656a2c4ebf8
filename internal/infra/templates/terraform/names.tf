[[if .Static -]]
# CloudFront speaks IPv4 and IPv6.
resource "aws_route53_record" "host" {
  for_each = { for pair in setproduct(keys(local.stages), ["A", "AAAA"]) : "${pair[0]}-${pair[1]}" => pair }

  zone_id = data.aws_route53_zone.main.zone_id
  name    = local.stages[each.value[0]].host
  type    = each.value[1]

  alias {
    name                   = aws_cloudfront_distribution.site[each.value[0]].domain_name
    zone_id                = aws_cloudfront_distribution.site[each.value[0]].hosted_zone_id
    evaluate_target_health = false
  }
}
[[if .Redirects]]
resource "aws_route53_record" "redirect" {
  for_each = merge([for stage, s in local.stages : { for pair in setproduct(s.redirects, ["A", "AAAA"]) : "${pair[0]}-${pair[1]}" => [stage, pair[0], pair[1]] }]...)

  zone_id = data.aws_route53_zone.main.zone_id
  name    = each.value[1]
  type    = each.value[2]

  alias {
    name                   = aws_cloudfront_distribution.site[each.value[0]].domain_name
    zone_id                = aws_cloudfront_distribution.site[each.value[0]].hosted_zone_id
    evaluate_target_health = false
  }
}
[[end]]
[[- else if .Shared -]]
resource "aws_route53_record" "host" {
  for_each = toset(local.hosts)

  zone_id = data.aws_route53_zone.main.zone_id
  name    = each.value
  type    = "A"

  alias {
    name                   = aws_lb.main.dns_name
    zone_id                = aws_lb.main.zone_id
    evaluate_target_health = false
  }
}
[[- else -]]
locals {
  # Whose environment a host leads to: the one that has the name <app>-<stage> at the moment.
  environments = merge([for stage, s in local.stages : { for host in concat([s.host], s.redirects) : host => "${local.app}-${stage}.${local.region}.elasticbeanstalk.com" }]...)
}

resource "aws_route53_record" "host" {
  for_each = { for host, environment in local.environments : host => environment if host != "[[.AWS.Zone]]" }

  zone_id = data.aws_route53_zone.main.zone_id
  name    = each.key
  type    = "CNAME"
  ttl     = 60 # a swap takes as long as this
  records = [each.value]
}

# The top of a zone cannot be a CNAME.
resource "aws_route53_record" "top" {
  for_each = { for host, environment in local.environments : host => environment if host == "[[.AWS.Zone]]" }

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
[[- end]]
