package infra

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// parsed is a template as JSON has it.
func parsed(t *testing.T, content string) map[string]any {
	t.Helper()
	text, err := Compact(content)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// at goes down into maps and lists; nil where there is nothing.
func at(v any, path ...string) any {
	for _, p := range path {
		switch in := v.(type) {
		case map[string]any:
			v = in[p]
		case []any:
			v = nil
			for i, one := range in {
				if fmt.Sprint(i) == p {
					v = one
				}
			}
		default:
			return nil
		}
	}
	return v
}

func is(v any, want string, path ...string) bool { return fmt.Sprint(at(v, path...)) == want }

// each gives the resources of a type in the order of their names.
func each(template map[string]any, kind string, see func(name string, r map[string]any)) {
	all, _ := template["Resources"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r, _ := all[name].(map[string]any); r["Type"] == kind || kind == "" {
			see(name, r)
		}
	}
}

// text is a value as JSON, to look for something in it wherever it stands.
func text(v any) string {
	var b strings.Builder
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	_ = to.Encode(v)
	return b.String()
}

// rules are what must be true of every template. Each says what is wrong, nothing where nothing is.
var rules = map[string]func(template map[string]any) []string{
	"buckets":   bucketsArePrivate,
	"policies":  policiesAreNarrow,
	"data":      dataIsRetained,
	"logs":      logsEnd,
	"databases": databasesAreClosed,
	"groups":    groupsAreNarrow,
	"balancer":  balancerIsStrict,
	"edge":      edgeCarriesFiles,
	"volumes":   volumesAreClosed,
	"tags":      everythingIsTagged,
	"keys":      keysTurn,
	"github":    githubIsNarrow,
	"region":    regionIsGuarded,
	"stages":    stagesAreApart,
	"sites":     sitesKeepToThemselves,
}

func bucketsArePrivate(template map[string]any) (wrong []string) {
	each(template, "AWS::S3::Bucket", func(name string, r map[string]any) {
		p := r["Properties"]
		for _, closed := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if !is(p, "true", "PublicAccessBlockConfiguration", closed) {
				wrong = append(wrong, name+" has no "+closed)
			}
		}
		if !is(p, "BucketOwnerEnforced", "OwnershipControls", "Rules", "0", "ObjectOwnership") || !is(p, "Enabled", "VersioningConfiguration", "Status") {
			wrong = append(wrong, name+" has lists of access, or no versions")
		}
		algorithm := at(p, "BucketEncryption", "ServerSideEncryptionConfiguration", "0", "ServerSideEncryptionByDefault", "SSEAlgorithm")
		if algorithm != "AES256" && algorithm != "aws:kms" || name == "Releases" && algorithm != "aws:kms" {
			wrong = append(wrong, name+" is not encrypted")
		}
		if at(p, "LifecycleConfiguration", "Rules", "0", "NoncurrentVersionExpiration", "NoncurrentDays") == nil {
			wrong = append(wrong, name+" keeps old versions for ever")
		}
		if name == "AccessLog" && at(p, "LifecycleConfiguration", "Rules", "0", "ExpirationInDays") == nil {
			wrong = append(wrong, name+" keeps logs for ever")
		}
		policy := text(at(template["Resources"], name+"Policy", "Properties", "PolicyDocument", "Statement", "0"))
		for _, must := range []string{`"Effect":"Deny"`, `"aws:SecureTransport":"false"`, `"Principal":"*"`, `"Action":"s3:*"`, `"Fn::GetAtt":["` + name + `","Arn"]`, "${" + name + ".Arn}/*"} {
			if !strings.Contains(policy, must) {
				wrong = append(wrong, name+" answers without TLS: its policy lacks "+must)
			}
		}
	})
	return wrong
}

// policiesAreNarrow looks at what identities may do: roles and managed policies.
func policiesAreNarrow(template map[string]any) (wrong []string) {
	judge := func(name string, document any) {
		sids := map[string]bool{}
		statements, _ := at(document, "Statement").([]any)
		for _, s := range statements {
			sid := fmt.Sprint(at(s, "Sid"))
			if at(s, "Sid") == nil || sids[sid] {
				wrong = append(wrong, name+" has a statement that does not say what for, or two that say the same: "+sid)
			}
			sids[sid] = true
			actions, _ := at(s, "Action").([]any)
			for _, a := range actions {
				if strings.Contains(fmt.Sprint(a), "*") {
					wrong = append(wrong, fmt.Sprintf("%s allows %s, which is more than one action", name, a))
				}
				if narrowable(fmt.Sprint(a)) && is(s, "*", "Resource") {
					wrong = append(wrong, fmt.Sprintf("%s allows %s on everything", name, a))
				}
				if bounded := text(at(s, "Condition")); changesWhatIsThere(fmt.Sprint(a)) && !strings.Contains(bounded, "ec2:CreateAction") && !strings.Contains(bounded, "ec2:Vpc") && !strings.Contains(bounded, "aws:ResourceTag") {
					wrong = append(wrong, fmt.Sprintf("%s allows %s on what is not the app's", name, a))
				}
			}
			if len(actions) == 0 || at(s, "NotAction") != nil || at(s, "NotResource") != nil {
				wrong = append(wrong, name+" has a statement that is not a list of actions")
			}
		}
	}
	each(template, "AWS::IAM::Role", func(name string, r map[string]any) {
		policies, _ := at(r, "Properties", "Policies").([]any)
		for _, p := range policies {
			judge(name, at(p, "PolicyDocument"))
		}
		if strings.Contains(text(at(r, "Properties", "AssumeRolePolicyDocument")), `"*"`) {
			wrong = append(wrong, "anybody may become "+name)
		}
	})
	each(template, "AWS::IAM::ManagedPolicy", func(name string, r map[string]any) { judge(name, at(r, "Properties", "PolicyDocument")) })
	return wrong
}

// changesWhatIsThere are actions on things in EC2 that have no name of ours. Who may give them a tag can get past every condition on tags.
func changesWhatIsThere(action string) bool {
	return action == "ec2:CreateTags" || action == "ec2:TerminateInstances" || strings.HasPrefix(action, "ec2:") && strings.Contains(action, "SecurityGroup") &&
		!strings.HasPrefix(action, "ec2:Create") && !strings.HasPrefix(action, "ec2:Describe")
}

// narrowable reports whether an action changes or reveals something, and so must name on what. Describing, listing, a batch of
// secrets (each of which wants GetSecretValue) and what an agent on an instance says to its service cannot be narrowed in IAM.
func narrowable(action string) bool {
	service, verb, _ := strings.Cut(action, ":")
	for _, free := range []string{"Describe", "List", "BatchGetSecretValue", "CheckDNSAvailability", "GetCallerIdentity", "GetCommandInvocation", "CancelCommand", "UpdateInstanceInformation"} {
		if strings.HasPrefix(verb, free) {
			return false
		}
	}
	return service != "ssmmessages" && service != "ec2messages"
}

func dataIsRetained(template map[string]any) (wrong []string) {
	data := []string{"AWS::S3::Bucket", "AWS::RDS::DBInstance", "AWS::EFS::FileSystem", "AWS::KMS::Key", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
	each(template, "", func(name string, r map[string]any) {
		kept := []string{"Retain", "RetainExceptOnCreate"}
		if slices.Contains(data, fmt.Sprint(r["Type"])) && (!slices.Contains(kept, fmt.Sprint(r["DeletionPolicy"])) || !slices.Contains(kept, fmt.Sprint(r["UpdateReplacePolicy"]))) {
			wrong = append(wrong, name+" goes with its data")
		}
	})
	return wrong
}

func logsEnd(template map[string]any) (wrong []string) {
	each(template, "AWS::Logs::LogGroup", func(name string, r map[string]any) {
		if !is(r, "30", "Properties", "RetentionInDays") || at(r, "Properties", "KmsKeyId") == nil {
			wrong = append(wrong, name+" is kept for ever, or not encrypted")
		}
	})
	return wrong
}

func databasesAreClosed(template map[string]any) (wrong []string) {
	each(template, "AWS::RDS::DBInstance", func(name string, r map[string]any) {
		p := r["Properties"]
		for property, want := range map[string]string{"PubliclyAccessible": "false", "StorageEncrypted": "true", "DeletionProtection": "true", "BackupRetentionPeriod": "7",
			"CopyTagsToSnapshot": "true", "AutoMinorVersionUpgrade": "true", "EnablePerformanceInsights": "false", "DBSubnetGroupName": "map[Ref:DatabaseSubnets]",
			"VPCSecurityGroups": "[map[Ref:" + name + "SecurityGroup]]"} {
			if !is(p, want, property) {
				wrong = append(wrong, fmt.Sprintf("%s has %s %v", name, property, at(p, property)))
			}
		}
		parameters := fmt.Sprint(at(p, "DBParameterGroupName", "Ref"))
		if !is(template, "1", "Resources", parameters, "Properties", "Parameters", "rds.force_ssl") {
			wrong = append(wrong, name+" answers without TLS")
		}
		if !strings.Contains(text(at(p, "MasterUserPassword")), "{{resolve:secretsmanager:") {
			wrong = append(wrong, name+" has a password in the template")
		}
		// What has a name of ours CloudFormation cannot replace; and a secret that was kept is in the way of one of the same name.
		if at(p, "DBInstanceIdentifier") != nil || at(template, "Resources", name+"Secret", "Properties", "Name") != nil {
			wrong = append(wrong, name+", or its secret, has a fixed name")
		}
	})
	if strings.Contains(text(at(template, "Resources", "DatabaseRouteOut")), "Type") {
		wrong = append(wrong, "databases have a way out")
	}
	return wrong
}

func groupsAreNarrow(template map[string]any) (wrong []string) {
	each(template, "AWS::EC2::SecurityGroup", func(name string, r map[string]any) {
		rules, _ := at(r, "Properties", "SecurityGroupIngress").([]any)
		for _, rule := range rules {
			port := fmt.Sprint(at(rule, "FromPort"))
			open := at(rule, "SourceSecurityGroupId") == nil
			from := fmt.Sprint(at(rule, "SourceSecurityGroupId", "Ref"))
			want := ""
			for kind, who := range map[string]string{"InstanceSecurityGroup": "5000 Balancer", "DatabaseSecurityGroup": "5432 STAGEInstance", "VolumeSecurityGroup": "2049 STAGEInstance"} {
				if stage, is := strings.CutSuffix(name, kind); is {
					want = strings.Replace(who, "STAGE", stage, 1) + "SecurityGroup"
				}
			}
			switch {
			case name == "BalancerSecurityGroup" && open && (port == "443" || port == "80"):
			case open || want != port+" "+from || !is(rule, port, "ToPort"):
				wrong = append(wrong, fmt.Sprintf("%s is open at %s to %s", name, port, from))
			}
		}
		if len(rules) == 0 || at(r, "Properties", "SecurityGroupEgress") == nil {
			wrong = append(wrong, name+" has no rules of its own")
		}
	})
	each(template, "AWS::EC2::Subnet", func(name string, r map[string]any) {
		if !is(r, "false", "Properties", "MapPublicIpOnLaunch") {
			wrong = append(wrong, name+" gives out public addresses")
		}
	})
	return wrong
}

func balancerIsStrict(template map[string]any) (wrong []string) {
	each(template, "AWS::ElasticLoadBalancingV2::LoadBalancer", func(name string, r map[string]any) {
		attributes := text(at(r, "Properties", "LoadBalancerAttributes"))
		if !strings.Contains(attributes, `{"Key":"routing.http.drop_invalid_header_fields.enabled","Value":"true"}`) {
			wrong = append(wrong, name+" lets invalid headers through")
		}
		if !strings.Contains(attributes, `{"Key":"access_logs.s3.enabled","Value":"false"}`) {
			wrong = append(wrong, name+" writes down the IP addresses of visitors")
		}
		if !strings.Contains(attributes, `{"Key":"deletion_protection.enabled","Value":"false"}`) {
			wrong = append(wrong, name+" could not be taken away when making the stack fails")
		}
	})
	each(template, "AWS::ElasticLoadBalancingV2::Listener", func(name string, r map[string]any) {
		p, action := r["Properties"], at(r, "Properties", "DefaultActions", "0")
		switch {
		case is(p, "443", "Port"):
			if !strings.HasPrefix(fmt.Sprint(at(p, "SslPolicy")), "ELBSecurityPolicy-TLS13-1-2-") || !is(action, "404", "FixedResponseConfig", "StatusCode") {
				wrong = append(wrong, name+" speaks old TLS, or answers for hosts that are nobody's")
			}
		case !is(action, "HTTPS", "RedirectConfig", "Protocol") || !is(action, "redirect", "Type"):
			wrong = append(wrong, name+" answers without TLS")
		}
	})
	return wrong
}

func edgeCarriesFiles(template map[string]any) (wrong []string) {
	each(template, "AWS::CloudFront::Distribution", func(name string, r map[string]any) {
		c := at(r, "Properties", "DistributionConfig")
		for _, must := range []struct {
			want string
			path []string
		}{
			{"TLSv1.2_2021", []string{"ViewerCertificate", "MinimumProtocolVersion"}},
			{"redirect-to-https", []string{"DefaultCacheBehavior", "ViewerProtocolPolicy"}},
			{"[GET HEAD]", []string{"DefaultCacheBehavior", "AllowedMethods"}},
			{"PriceClass_100", []string{"PriceClass"}},
			{"map[Ref:OriginAccess]", []string{"Origins", "0", "OriginAccessControlId"}},
			{"map[Ref:CachePolicy]", []string{"DefaultCacheBehavior", "CachePolicyId"}},
			{"map[Ref:HeadersPolicy]", []string{"DefaultCacheBehavior", "ResponseHeadersPolicyId"}},
			{"<nil>", []string{"Logging"}},
			{"<nil>", []string{"CacheBehaviors"}},
			{"<nil>", []string{"Origins", "1"}},
			{"<nil>", []string{"DefaultCacheBehavior", "OriginRequestPolicyId"}},
		} {
			if !is(c, must.want, must.path...) {
				wrong = append(wrong, fmt.Sprintf("%s has %v at %s", name, at(c, must.path...), strings.Join(must.path, ".")))
			}
		}
	})
	each(template, "AWS::CloudFront::CachePolicy", func(name string, r map[string]any) {
		forwarded := at(r, "Properties", "CachePolicyConfig", "ParametersInCacheKeyAndForwardedToOrigin")
		if !is(forwarded, "none", "CookiesConfig", "CookieBehavior") || !is(forwarded, "none", "QueryStringsConfig", "QueryStringBehavior") || !is(forwarded, "none", "HeadersConfig", "HeaderBehavior") {
			wrong = append(wrong, name+" lets through what may be personal data")
		}
	})
	each(template, "AWS::Logs::Delivery", func(name string, r map[string]any) {
		fields := text(at(r, "Properties", "RecordFields"))
		for _, personal := range []string{"c-ip", "forwarded", "User-Agent", "Referer", "Cookie", "query", "c-port", "asn", "c-country"} {
			if strings.Contains(fields, personal) {
				wrong = append(wrong, name+" writes down "+personal)
			}
		}
		if fields == "null\n" {
			wrong = append(wrong, name+" writes down everything")
		}
	})
	return wrong
}

func volumesAreClosed(template map[string]any) (wrong []string) {
	each(template, "AWS::EFS::FileSystem", func(name string, r map[string]any) {
		p := r["Properties"]
		if !is(p, "true", "Encrypted") || at(p, "KmsKeyId") == nil || !is(p, "ENABLED", "BackupPolicy", "Status") {
			wrong = append(wrong, name+" is not encrypted or not copied")
		}
		if !is(p, "Deny", "FileSystemPolicy", "Statement", "0", "Effect") || !is(p, "false", "FileSystemPolicy", "Statement", "0", "Condition", "Bool", "aws:SecureTransport") {
			wrong = append(wrong, name+" is mounted without TLS")
		}
		if !is(p, "true", "FileSystemPolicy", "Statement", "1", "Condition", "Bool", "elasticfilesystem:AccessedViaMountTarget") {
			wrong = append(wrong, name+" is open to other networks")
		}
	})
	return wrong
}

func everythingIsTagged(template map[string]any) (wrong []string) {
	untaggable := []string{"AWS::KMS::Alias", "AWS::EC2::VPCGatewayAttachment", "AWS::EC2::Route", "AWS::EC2::SubnetRouteTableAssociation", "AWS::IAM::InstanceProfile",
		"AWS::IAM::ManagedPolicy", "AWS::S3::BucketPolicy", "AWS::ElasticBeanstalk::Application", "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::ListenerRule",
		"AWS::EFS::MountTarget", "AWS::Route53::RecordSet", "AWS::SNS::TopicPolicy", "AWS::CloudFront::CachePolicy", "AWS::CloudFront::ResponseHeadersPolicy",
		"AWS::CloudFront::OriginAccessControl", "AWS::CloudFront::Function", "AWS::Budgets::Budget"}
	each(template, "", func(name string, r map[string]any) {
		p := r["Properties"]
		tags := text(at(p, "Tags")) + text(at(p, "FileSystemTags"))
		if !slices.Contains(untaggable, fmt.Sprint(r["Type"])) && !strings.Contains(tags, `"Key":"lotse:app"`) {
			wrong = append(wrong, name+" is not tagged with its app")
		}
	})
	return wrong
}

func keysTurn(template map[string]any) (wrong []string) {
	each(template, "AWS::KMS::Key", func(name string, r map[string]any) {
		if !is(r, "true", "Properties", "EnableKeyRotation") {
			wrong = append(wrong, name+" is never renewed")
		}
		statements, _ := at(r, "Properties", "KeyPolicy", "Statement").([]any)
		for _, s := range statements {
			if at(s, "Principal", "Service") != nil && (at(s, "Condition") == nil || strings.Contains(text(at(s, "Action")), "*")) {
				wrong = append(wrong, name+" may be used by a service for anybody: "+fmt.Sprint(at(s, "Sid")))
			}
		}
	})
	each(template, "AWS::SNS::Topic", func(name string, r map[string]any) {
		if at(r, "Properties", "KmsMasterKeyId") == nil {
			wrong = append(wrong, name+" is not encrypted")
		}
	})
	each(template, "AWS::SNS::Subscription", func(name string, _ map[string]any) { wrong = append(wrong, name+" has somebody's address in a file") })
	return wrong
}

func githubIsNarrow(template map[string]any) (wrong []string) {
	trust := at(template, "Resources", "DeployRole", "Properties", "AssumeRolePolicyDocument", "Statement", "0", "Condition")
	if at(template, "Resources", "DeployRole") == nil {
		return nil
	}
	if !is(trust, "sts.amazonaws.com", "StringEquals", "token.actions.githubusercontent.com:aud") || at(trust, "StringLike") != nil {
		wrong = append(wrong, "a token for somebody else will do")
	}
	subjects, _ := at(trust, "StringEquals", "token.actions.githubusercontent.com:sub").([]any)
	for _, s := range subjects {
		if strings.Contains(fmt.Sprint(s), "*") || !strings.Contains(fmt.Sprint(s), ":environment:") {
			wrong = append(wrong, fmt.Sprintf("a run for which nobody's yes is asked may deploy: %v", s))
		}
	}
	if len(subjects) == 0 {
		wrong = append(wrong, "any repository of GitHub may deploy")
	}
	return wrong
}

func regionIsGuarded(template map[string]any) (wrong []string) {
	if at(template, "Rules", "Region", "Assertions", "0", "Assert", "Fn::Equals") == nil {
		wrong = append(wrong, "the template does not refuse another region")
	}
	return wrong
}
