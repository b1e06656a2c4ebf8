[[define "validation"]]
[[- if .AWS.Zone]]
resource "aws_route53_record" "validation" {
  for_each = toset(local.hosts)

  zone_id         = data.aws_route53_zone.main.zone_id
  name            = one([for o in aws_acm_certificate.main.domain_validation_options : o.resource_record_name if o.domain_name == each.value])
  type            = one([for o in aws_acm_certificate.main.domain_validation_options : o.resource_record_type if o.domain_name == each.value])
  records         = [one([for o in aws_acm_certificate.main.domain_validation_options : o.resource_record_value if o.domain_name == each.value])]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "main" {
[[- if .Static]]
  provider = aws.edge
[[end]]
  certificate_arn         = aws_acm_certificate.main.arn
  validation_record_fqdns = [for r in aws_route53_record.validation : r.fqdn]
}
[[else]]
# Without a zone you make the records yourself: they are in the output `certificate_records`. Until they are there, what needs the certificate fails.
output "certificate_records" {
  value = [for o in aws_acm_certificate.main.domain_validation_options : "${o.resource_record_name} ${o.resource_record_type} ${o.resource_record_value}"]
}
[[end]]
[[- end]]
