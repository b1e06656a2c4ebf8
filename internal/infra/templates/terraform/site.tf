# CloudFront carries files that everybody may see, and nothing else: no cookie and no query goes further than its edge, there are no forms and no
# API behind it. Its edge locations are also outside the European Union (docs/aws.md); PriceClass_100 keeps to Europe, Israel and North America.

# Renewed by AWS for as long as the records by which it is proven are there.
resource "aws_acm_certificate" "main" {
  provider = aws.edge

  domain_name               = local.hosts[0]
  subject_alternative_names = slice(local.hosts, 1, length(local.hosts))
  validation_method         = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}
[[template "validation" .]]
# The files say for how long they may be kept (Cache-Control); what says nothing is asked for again after a minute.
resource "aws_cloudfront_cache_policy" "site" {
  name        = "lotse-${local.app}"
  min_ttl     = 0
  default_ttl = 60
  max_ttl     = 31536000

  parameters_in_cache_key_and_forwarded_to_origin {
    enable_accept_encoding_brotli = true
    enable_accept_encoding_gzip   = true

    cookies_config {
      cookie_behavior = "none"
    }

    headers_config {
      header_behavior = "none"
    }

    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

resource "aws_cloudfront_response_headers_policy" "site" {
  name = "lotse-${local.app}"

  security_headers_config {
    strict_transport_security {
      access_control_max_age_sec = 31536000
      include_subdomains         = false
      preload                    = false
      override                   = true
    }

    content_type_options {
      override = true
    }

    frame_options {
      frame_option = "SAMEORIGIN"
      override     = false
    }

    referrer_policy {
      referrer_policy = "strict-origin-when-cross-origin"
      override        = false
    }
  }
}

# Signs what CloudFront asks of the buckets, so that they answer nobody else.
resource "aws_cloudfront_origin_access_control" "site" {
  name                              = "lotse-${local.app}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_function" "pages" {
  for_each = local.stages

  name    = "lotse-${local.app}-${each.key}"
  comment = "hosts and pages of ${each.key}"
  runtime = "cloudfront-js-2.0"
  publish = true
  code    = file("${path.module}/pages-${each.key}.js")
}

resource "aws_cloudfront_distribution" "site" {
  for_each = local.stages

  comment             = "${local.app} ${each.key}"
  enabled             = true
  aliases             = concat([each.value.host], each.value.redirects)
  http_version        = "http2and3"
  is_ipv6_enabled     = true
  price_class         = "PriceClass_100"
  default_root_object = "index.html"
  tags                = { "lotse:stage" = each.key }

  origin {
    origin_id                = "site"
    domain_name              = aws_s3_bucket.site[each.key].bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.site.id
  }

  default_cache_behavior {
    target_origin_id           = "site"
    viewer_protocol_policy     = "redirect-to-https"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = true
    cache_policy_id            = aws_cloudfront_cache_policy.site.id
    response_headers_policy_id = aws_cloudfront_response_headers_policy.site.id

    function_association {
      event_type   = "viewer-request"
      function_arn = aws_cloudfront_function.pages[each.key].arn
    }
  }

  viewer_certificate {
    acm_certificate_arn      = [[certificate]]
    ssl_support_method       = "sni-only"
    minimum_protocol_version = "TLSv1.2_2021"
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }
}

# What is written down of requests, and where: settings alone, which AWS wants in us-east-1. The log is in the bucket in ${local.region}. Fields that
# are or hold personal data are left out: the address of the client, its browser, where it came from, cookies, the query.
resource "aws_cloudwatch_log_delivery_destination" "site" {
  provider = aws.edge

  name          = "lotse-${local.app}"
  output_format = "json"

  delivery_destination_configuration {
    destination_resource_arn = aws_s3_bucket.access_log.arn
  }
}

resource "aws_cloudwatch_log_delivery_source" "site" {
  provider = aws.edge
  for_each = local.stages

  name         = "lotse-${local.app}-${each.key}"
  log_type     = "ACCESS_LOGS"
  resource_arn = aws_cloudfront_distribution.site[each.key].arn
  tags         = { "lotse:stage" = each.key }
}

resource "aws_cloudwatch_log_delivery" "site" {
  provider = aws.edge
  for_each = local.stages

  delivery_source_name     = aws_cloudwatch_log_delivery_source.site[each.key].name
  delivery_destination_arn = aws_cloudwatch_log_delivery_destination.site.arn
  tags                     = { "lotse:stage" = each.key }

  s3_delivery_configuration = [{
    suffix_path                 = "${each.key}/{yyyy}/{MM}/{dd}"
    enable_hive_compatible_path = false
  }]

  record_fields = [
[[- range .LogFields]]
    "[[.]]",
[[- end]]
  ]

  depends_on = [aws_s3_bucket_policy.access_log]
}
