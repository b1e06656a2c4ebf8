package awsfake

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// resourceKind is what the fake knows of a type of resource.
type resourceKind struct {
	replaces []string // properties whose change replaces it
	perhaps  []string // properties whose change may
	named    string   // the property that names it, if a template may; its value is Ref
	id       string   // how Ref looks where nothing names it: a prefix, or a word that idOf knows
}

func split(names string) []string { return strings.Fields(names) }

// resourceKinds are the types that a template may have. What replaces is createOnlyProperties and conditionalCreateOnlyProperties
// of the CloudFormation resource schemas (region eu-central-1).
var resourceKinds = map[string]resourceKind{
	"AWS::Budgets::Budget":                             {replaces: split("NotificationsWithSubscribers"), id: "name"},
	"AWS::CertificateManager::Certificate":             {replaces: split("SubjectAlternativeNames DomainValidationOptions ValidationMethod KeyAlgorithm DomainName CertificateAuthorityArn"), id: "arn:acm:certificate/"},
	"AWS::CloudFormation::WaitConditionHandle":         {id: "name"},
	"AWS::CloudFront::CachePolicy":                     {id: "uuid"},
	"AWS::CloudFront::Distribution":                    {id: "E"},
	"AWS::CloudFront::Function":                        {replaces: split("Name"), id: "arn:cloudfront:function/"},
	"AWS::CloudFront::OriginAccessControl":             {id: "E"},
	"AWS::CloudFront::OriginRequestPolicy":             {id: "uuid"},
	"AWS::CloudFront::ResponseHeadersPolicy":           {id: "uuid"},
	"AWS::CloudWatch::Alarm":                           {replaces: split("AlarmName"), named: "AlarmName", id: "name"},
	"AWS::CloudWatch::Dashboard":                       {replaces: split("DashboardName"), named: "DashboardName", id: "name"},
	"AWS::CodeBuild::Project":                          {replaces: split("Name"), named: "Name", id: "name"},
	"AWS::CodePipeline::Pipeline":                      {replaces: split("Name"), named: "Name", id: "name"},
	"AWS::CodeStarConnections::Connection":             {replaces: split("ConnectionName ProviderType HostArn"), id: "arn:codestar-connections:connection/"},
	"AWS::CodeConnections::Connection":                 {replaces: split("ConnectionName ProviderType HostArn"), id: "arn:codeconnections:connection/"},
	"AWS::EC2::EIP":                                    {replaces: split("NetworkBorderGroup TransferAddress IpamPoolId Address"), id: "address"},
	"AWS::EC2::FlowLog":                                {replaces: split("DeliverCrossAccountRole DeliverLogsPermissionArn LogGroupName LogDestination ResourceId TrafficType LogDestinationType ResourceType LogFormat MaxAggregationInterval DestinationOptions"), id: "fl-"},
	"AWS::EC2::InternetGateway":                        {id: "igw-"},
	"AWS::EC2::NatGateway":                             {replaces: split("VpcId SubnetId ConnectivityType AllocationId PrivateIpAddress AvailabilityMode"), id: "nat-"},
	"AWS::EC2::NetworkAcl":                             {replaces: split("VpcId"), id: "acl-"},
	"AWS::EC2::NetworkAclEntry":                        {replaces: split("NetworkAclId RuleNumber Egress"), id: "name"},
	"AWS::EC2::Route":                                  {replaces: split("RouteTableId DestinationCidrBlock DestinationIpv6CidrBlock DestinationPrefixListId"), id: "name"},
	"AWS::EC2::RouteTable":                             {replaces: split("VpcId"), id: "rtb-"},
	"AWS::EC2::SecurityGroup":                          {replaces: split("GroupDescription GroupName VpcId"), id: "sg-"},
	"AWS::EC2::SecurityGroupEgress":                    {replaces: split("IpProtocol DestinationSecurityGroupId ToPort CidrIp FromPort GroupId CidrIpv6 DestinationPrefixListId"), id: "sgr-"},
	"AWS::EC2::SecurityGroupIngress":                   {replaces: split("GroupName IpProtocol SourceSecurityGroupId SourcePrefixListId ToPort CidrIp SourceSecurityGroupName SourceSecurityGroupOwnerId FromPort GroupId CidrIpv6"), id: "sgr-"},
	"AWS::EC2::Subnet":                                 {replaces: split("VpcId AvailabilityZone AvailabilityZoneId CidrBlock OutpostArn Ipv6Native Ipv4IpamPoolId Ipv4NetmaskLength Ipv6IpamPoolId Ipv6NetmaskLength"), perhaps: split("Ipv6CidrBlock"), id: "subnet-"},
	"AWS::EC2::SubnetRouteTableAssociation":            {replaces: split("SubnetId RouteTableId"), id: "rtbassoc-"},
	"AWS::EC2::VPC":                                    {replaces: split("CidrBlock Ipv4IpamPoolId Ipv4NetmaskLength"), perhaps: split("InstanceTenancy"), id: "vpc-"},
	"AWS::EC2::VPCEndpoint":                            {replaces: split("ServiceName VpcEndpointType VpcId ServiceNetworkArn ResourceConfigurationArn ServiceRegion"), id: "vpce-"},
	"AWS::EC2::VPCGatewayAttachment":                   {replaces: split("VpcId"), id: "name"},
	"AWS::EFS::AccessPoint":                            {replaces: split("FileSystemId ClientToken PosixUser RootDirectory"), id: "fsap-"},
	"AWS::EFS::FileSystem":                             {replaces: split("AvailabilityZoneName Encrypted KmsKeyId PerformanceMode"), id: "fs-"},
	"AWS::EFS::MountTarget":                            {replaces: split("IpAddress Ipv6Address IpAddressType SubnetId FileSystemId"), id: "fsmt-"},
	"AWS::ElasticBeanstalk::Application":               {replaces: split("ApplicationName"), named: "ApplicationName", id: "name"},
	"AWS::ElasticLoadBalancingV2::Listener":            {replaces: split("LoadBalancerArn"), id: "arn:elasticloadbalancing:listener/app/"},
	"AWS::ElasticLoadBalancingV2::ListenerCertificate": {replaces: split("ListenerArn"), id: "name"},
	"AWS::ElasticLoadBalancingV2::ListenerRule":        {replaces: split("ListenerArn"), id: "arn:elasticloadbalancing:listener-rule/app/"},
	"AWS::ElasticLoadBalancingV2::LoadBalancer":        {replaces: split("Name Type Scheme"), id: "arn:elasticloadbalancing:loadbalancer/app/"},
	"AWS::ElasticLoadBalancingV2::TargetGroup":         {replaces: split("TargetType ProtocolVersion Port Name VpcId Protocol IpAddressType"), id: "arn:elasticloadbalancing:targetgroup/"},
	"AWS::Events::Rule":                                {replaces: split("Name"), perhaps: split("EventBusName"), named: "Name", id: "name"},
	"AWS::IAM::InstanceProfile":                        {replaces: split("InstanceProfileName Path"), named: "InstanceProfileName", id: "name"},
	"AWS::IAM::ManagedPolicy":                          {replaces: split("ManagedPolicyName Description Path"), id: "arn:iam:policy/"},
	"AWS::IAM::OIDCProvider":                           {replaces: split("Url"), id: "arn:iam:oidc-provider/"},
	"AWS::IAM::Policy":                                 {id: "name"},
	"AWS::IAM::Role":                                   {replaces: split("Path RoleName"), named: "RoleName", id: "name"},
	"AWS::IAM::RolePolicy":                             {replaces: split("PolicyName RoleName"), named: "PolicyName", id: "name"},
	"AWS::KMS::Alias":                                  {replaces: split("AliasName"), named: "AliasName", id: "name"},
	"AWS::KMS::Key":                                    {id: "uuid"},
	"AWS::Logs::Delivery":                              {replaces: split("DeliverySourceName DeliveryDestinationArn"), id: "uuid"},
	"AWS::Logs::DeliveryDestination":                   {replaces: split("Name OutputFormat DestinationResourceArn DeliveryDestinationType"), named: "Name", id: "name"},
	"AWS::Logs::DeliverySource":                        {replaces: split("Name"), named: "Name", id: "name"},
	"AWS::Logs::LogGroup":                              {replaces: split("LogGroupName"), named: "LogGroupName", id: "name"},
	"AWS::Logs::MetricFilter":                          {replaces: split("FilterName LogGroupName"), named: "FilterName", id: "name"},
	"AWS::Logs::ResourcePolicy":                        {replaces: split("PolicyName"), named: "PolicyName", id: "name"},
	"AWS::RDS::DBInstance": {replaces: split("BackupTarget CharacterSetName CustomIAMInstanceProfile DBClusterIdentifier DBInstanceIdentifier DBName DBSubnetGroupName DBSystemId KmsKeyId MasterUsername NcharCharacterSetName SourceRegion StorageEncrypted Timezone"),
		perhaps: split("AutoMinorVersionUpgrade AvailabilityZone BackupRetentionPeriod DBClusterSnapshotIdentifier DBParameterGroupName DBSnapshotIdentifier Engine MultiAZ PerformanceInsightsKMSKeyId PreferredMaintenanceWindow RestoreTime SourceDBClusterIdentifier SourceDBInstanceAutomatedBackupsArn SourceDBInstanceIdentifier SourceDbiResourceId StorageType UseLatestRestorableTime"),
		named:   "DBInstanceIdentifier", id: "name"},
	"AWS::RDS::DBParameterGroup":                  {replaces: split("DBParameterGroupName Description Family"), named: "DBParameterGroupName", id: "name"},
	"AWS::RDS::DBSubnetGroup":                     {replaces: split("DBSubnetGroupName"), named: "DBSubnetGroupName", id: "name"},
	"AWS::Route53::RecordSet":                     {replaces: split("HostedZoneName Name HostedZoneId"), named: "Name", id: "name"},
	"AWS::S3::Bucket":                             {replaces: split("BucketName BucketNamePrefix BucketNamespace"), named: "BucketName", id: "name"},
	"AWS::S3::BucketPolicy":                       {replaces: split("Bucket"), id: "name"},
	"AWS::SNS::Subscription":                      {replaces: split("Endpoint Protocol TopicArn"), perhaps: split("Region"), id: "arn:sns:"},
	"AWS::SNS::Topic":                             {replaces: split("TopicName FifoTopic"), id: "arn:sns:"},
	"AWS::SNS::TopicPolicy":                       {id: "name"},
	"AWS::SSM::Parameter":                         {replaces: split("Name"), named: "Name", id: "name"},
	"AWS::SecretsManager::ResourcePolicy":         {replaces: split("SecretId"), id: "name"},
	"AWS::SecretsManager::Secret":                 {replaces: split("Name"), id: "arn:secretsmanager:secret:"},
	"AWS::SecretsManager::SecretTargetAttachment": {replaces: split("SecretId"), id: "secret"},
	"AWS::WAFv2::WebACL":                          {replaces: split("Name Scope"), id: "uuid"},
}

// withoutDrift are types whose state CloudFormation does not compare.
var withoutDrift = []string{"AWS::IAM::Policy", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SecretsManager::SecretTargetAttachment", "AWS::EC2::VPCGatewayAttachment"}

// idOf makes up what a resource is called, which is what Ref gives.
func (s *stack) idOf(w *World, id, kind string, properties map[string]any) string {
	k := resourceKinds[kind]
	if name := str(properties[k.named]); k.named != "" && name != "" {
		return name
	}
	made := s.name + "-" + id + "-" + strings.ToUpper(newID(12))
	switch {
	case k.id == "name" && kind == "AWS::S3::Bucket", k.id == "name" && strings.HasPrefix(kind, "AWS::RDS::"):
		return strings.ToLower(made)
	case k.id == "name":
		return made
	case k.id == "uuid":
		return newUUID()
	case k.id == "E":
		return "E" + strings.ToUpper(newHex(13))
	case k.id == "address":
		return "203.0.113." + fmt.Sprint(1+len(newHex(1))) // for documents (RFC 5737)
	case k.id == "secret":
		return str(properties["SecretId"])
	case strings.HasPrefix(k.id, "arn:"):
		return s.arnOf(w, id, kind, k.id, properties)
	default:
		return k.id + newHex(17)
	}
}

// arnOf is an ARN of the shape that the pattern arn:service:path says, with a name of the template's where it gives one.
func (s *stack) arnOf(w *World, id, kind, pattern string, properties map[string]any) string {
	_, pattern, _ = strings.Cut(pattern, ":")
	service, path, _ := strings.Cut(pattern, ":")
	name := s.name + "-" + id
	for _, property := range []string{"Name", "TopicName", "ManagedPolicyName"} {
		if given := str(properties[property]); given != "" {
			name = given
		}
	}
	region := s.region
	if service == "iam" || service == "cloudfront" {
		region = ""
	}
	switch kind {
	case "AWS::CertificateManager::Certificate":
		name = newUUID()
	case "AWS::IAM::OIDCProvider":
		name = strings.TrimPrefix(str(properties["Url"]), "https://")
	case "AWS::SecretsManager::Secret":
		name += "-" + newID(6)
	case "AWS::SNS::Subscription":
		name = newUUID()
	case "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::ListenerRule", "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ElasticLoadBalancingV2::TargetGroup":
		name = name[max(0, len(name)-20):] + "/" + newHex(16)
	}
	return "arn:aws:" + service + ":" + region + ":" + w.options.Account + ":" + path + name
}

// attributeOf makes up what Fn::GetAtt gives. It is the same for as long as the resource is not replaced.
func (s *stack) attributeOf(w *World, r *stackResource, attribute string) string {
	name := r.physical
	switch r.kind + " " + attribute {
	case "AWS::S3::Bucket Arn":
		return "arn:aws:s3:::" + name
	case "AWS::S3::Bucket DomainName":
		return name + ".s3.amazonaws.com"
	case "AWS::S3::Bucket RegionalDomainName":
		return name + ".s3." + s.region + ".amazonaws.com"
	case "AWS::RDS::DBInstance Endpoint.Address":
		return name + ".fake." + s.region + ".rds.amazonaws.com"
	case "AWS::RDS::DBInstance Endpoint.Port":
		return "5432"
	case "AWS::RDS::DBInstance MasterUserSecret.SecretArn":
		return s.globalArn(w, "secretsmanager", "secret:rds!db-"+name)
	case "AWS::CloudFront::Distribution DomainName":
		return strings.ToLower(name) + ".cloudfront.net"
	case "AWS::ElasticLoadBalancingV2::LoadBalancer DNSName":
		return cmp.Or(s.balancerName(w, r), strings.ToLower(r.id)+"-1."+s.region+".elb.amazonaws.com")
	case "AWS::ElasticLoadBalancingV2::LoadBalancer CanonicalHostedZoneID":
		return "Z215JYRZR1TBD5"
	case "AWS::EC2::EIP AllocationId":
		return "eipalloc-" + r.suffix
	case "AWS::IAM::Role Arn":
		return "arn:aws:iam::" + w.options.Account + ":role/" + name
	case "AWS::IAM::InstanceProfile Arn":
		return "arn:aws:iam::" + w.options.Account + ":instance-profile/" + name
	case "AWS::KMS::Key Arn":
		return s.globalArn(w, "kms", "key/"+name)
	case "AWS::Logs::LogGroup Arn":
		return s.globalArn(w, "logs", "log-group:"+name+":*")
	case "AWS::EFS::FileSystem Arn":
		return s.globalArn(w, "elasticfilesystem", "file-system/"+name)
	case "AWS::RDS::DBInstance DBInstanceArn":
		return s.globalArn(w, "rds", "db:"+name)
	}
	return s.commonAttribute(w, r, attribute)
}

// commonAttribute is for the many whose attribute is what they are called, or a name with it at the end.
func (s *stack) commonAttribute(w *World, r *stackResource, attribute string) string {
	if slices.Contains([]string{"Id", "GroupId", "VpcId", "SubnetId", "KeyId", "FileSystemId", "AccessPointId", "NatGatewayId", "RouteTableId", "DistributionId", "TopicArn", "ListenerArn", "LoadBalancerArn", "TargetGroupArn", "RuleArn", "PolicyArn", "FunctionARN", "InternetGatewayId"}, attribute) {
		return r.physical
	}
	if attribute == "Arn" {
		if strings.HasPrefix(r.physical, "arn:") {
			return r.physical
		}
		service := strings.ToLower(strings.Split(r.kind, "::")[1])
		return s.globalArn(w, service, r.physical)
	}
	if _, after, full := strings.Cut(r.physical, "loadbalancer/"); full && attribute == "LoadBalancerFullName" {
		return after
	}
	if value, there := r.properties[attribute]; there {
		return str(value)
	}
	return r.id + "." + attribute + "." + r.suffix
}

func (s *stack) globalArn(w *World, service, rest string) string {
	return "arn:aws:" + service + ":" + s.region + ":" + w.options.Account + ":" + rest
}
