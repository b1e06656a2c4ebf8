# Two availability zones, because a load balancer and a group of database subnets want two. Public: the balancer and the NAT gateway. Private:
# instances, which call out through the gateway. Closed: databases, which call nobody. There are no flow logs: they would be IP addresses.

resource "aws_vpc" "main" {
  cidr_block           = "10.40.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.app }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = local.app }
}

resource "aws_subnet" "balancer" {
  count = 2

  vpc_id                  = aws_vpc.main.id
  cidr_block              = ["10.40.0.0/24", "10.40.1.0/24"][count.index]
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${local.app}-balancer-${count.index + 1}" }
}

resource "aws_subnet" "instance" {
  count = 2

  vpc_id                  = aws_vpc.main.id
  cidr_block              = ["10.40.16.0/20", "10.40.32.0/20"][count.index]
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${local.app}-instance-${count.index + 1}" }
}

# One NAT gateway for both zones: a second one costs as much again (docs/aws.md) and helps only when a zone fails. Then instances of the other
# zone cannot call out until it is back; requests from the internet come in all the same, by the balancer.
resource "aws_eip" "nat" {
  domain     = "vpc"
  tags       = { Name = "${local.app}-nat" }
  depends_on = [aws_internet_gateway.main]
}

resource "aws_nat_gateway" "main" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.balancer[0].id
  tags          = { Name = local.app }
}

resource "aws_route_table" "balancer" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.app}-balancer" }
}

resource "aws_route" "balancer_out" {
  route_table_id         = aws_route_table.balancer.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table" "instance" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.app}-instance" }
}

resource "aws_route" "instance_out" {
  route_table_id         = aws_route_table.instance.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main.id
}

resource "aws_route_table_association" "balancer" {
  count = 2

  subnet_id      = aws_subnet.balancer[count.index].id
  route_table_id = aws_route_table.balancer.id
}

resource "aws_route_table_association" "instance" {
  count = 2

  subnet_id      = aws_subnet.instance[count.index].id
  route_table_id = aws_route_table.instance.id
}

# Bundles, platform packages and logs go to S3 without passing (and paying) the NAT gateway.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${local.region}.s3"
  route_table_ids   = [aws_route_table.instance.id]
  tags              = { Name = "${local.app}-s3" }
}

# ---- Who may talk to whom: internet -> balancer -> instances of a stage -> database and volumes of that stage; nothing else. No stage reaches
# another's.

resource "aws_security_group" "balancer" {
  name_prefix = "${local.app}-balancer-"
  description = "Balancer of ${local.app}: from the internet"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.app}-balancer" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = { https = 443, http = 80 } # HTTP only to be sent to HTTPS

  security_group_id = aws_security_group.balancer.id
  description       = "everybody"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  for_each = local.stages

  security_group_id            = aws_security_group.balancer.id
  description                  = "to the instances of ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
  referenced_security_group_id = aws_security_group.instance[each.key].id
}

resource "aws_security_group" "instance" {
  for_each = local.stages

  name_prefix = "${local.app}-${each.key}-instance-"
  description = "Instances of ${local.app} ${each.key}: from the balancer"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.app}-${each.key}-instance", "lotse:stage" = each.key }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "instance" {
  for_each = local.stages

  security_group_id            = aws_security_group.instance[each.key].id
  description                  = "the front, by TLS, from the balancer alone"
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
  referenced_security_group_id = aws_security_group.balancer.id
}

# Whom the app calls (payment, maps, mail, Supabase) is not known here. Narrow it when you know.
resource "aws_vpc_security_group_egress_rule" "instance" {
  for_each = local.stages

  security_group_id = aws_security_group.instance[each.key].id
  description       = "whomever the app calls, through the NAT gateway"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}
