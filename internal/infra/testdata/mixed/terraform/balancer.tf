# Renewed by AWS for as long as the records by which it is proven are there.
resource "aws_acm_certificate" "main" {
  domain_name               = local.hosts[0]
  subject_alternative_names = slice(local.hosts, 1, length(local.hosts))
  validation_method         = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

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
  certificate_arn         = aws_acm_certificate.main.arn
  validation_record_fqdns = [for r in aws_route53_record.validation : r.fqdn]
}

# One balancer for all stages. What each host leads to is decided by rules, which Lotse makes and changes: a shift takes seconds. It has no
# access log, which would have the IP addresses of visitors: Lotse's front logs every request without them.
resource "aws_lb" "main" {
  name                       = "lotse-${local.app}"
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = aws_subnet.balancer[*].id
  security_groups            = [aws_security_group.balancer.id]
  enable_deletion_protection = false # it holds no data, and what does has prevent_destroy
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "defensive"
  idle_timeout               = 120 # event streams and websockets may be silent for a while

  depends_on = [aws_internet_gateway.main]
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06" # TLS 1.3 and 1.2
  certificate_arn   = aws_acm_certificate_validation.main.certificate_arn

  # For hosts that are nobody's.
  default_action {
    type = "fixed-response"

    fixed_response {
      status_code  = "404"
      content_type = "text/plain"
      message_body = "there is nothing here\n"
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.main.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

# Hosts that are sent to their stage's, with path and query. The numbers are far behind those of Lotse's own rules.
resource "aws_lb_listener_rule" "redirect" {
  for_each = merge([for stage in local.stages : { for host in stage.redirects : host => stage.host }]...)

  listener_arn = aws_lb_listener.https.arn
  priority     = 40001 + index(local.hosts, each.key)

  condition {
    host_header {
      values = [each.key]
    }
  }

  action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      host        = each.value
      status_code = "HTTP_301"
    }
  }
}
