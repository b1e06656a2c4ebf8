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
