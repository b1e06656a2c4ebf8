package infra

import (
	"strings"
	"testing"
)

func TestTemplatesKeepTheRules(t *testing.T) {
	for name := range shapes {
		files, err := Cloudformation(shape(t, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			template := parsed(t, f.Content)
			for rule, judge := range rules {
				for _, wrong := range judge(template) {
					t.Errorf("%s %s, rule %s: %s", name, f.Name, rule, wrong)
				}
			}
		}
	}
}

// Each is a mistake that somebody could make in a template, and the rule that must see it.
var faults = []struct{ rule, shape, old, new string }{
	{"buckets", "mixed", "RestrictPublicBuckets: true", "RestrictPublicBuckets: false"},
	{"buckets", "mixed", "BucketOwnerEnforced", "ObjectWriter"},
	{"buckets", "mixed", `SSEAlgorithm: "aws:kms"`, "SSEAlgorithm: AES256"},
	{"buckets", "mixed", `"aws:SecureTransport": "false"`, `"aws:SecureTransport": "true"`},
	{"buckets", "mixed", `!Sub "${Releases.Arn}/*"`, "!GetAtt Releases.Arn"},
	{"buckets", "static", "ExpirationInDays: 30, ", ""},
	{"buckets", "static", "VersioningConfiguration: { Status: Enabled }", "VersioningConfiguration: { Status: Suspended }"},
	{"policies", "mixed", "s3:GetObject, s3:PutObject", "s3:Get*, s3:PutObject"},
	{"policies", "mixed", `Condition: { StringEquals: { "ec2:CreateAction": ["RunInstances", "CreateLaunchTemplate"] } }`, ""},
	{"policies", "mixed", `ArnEquals: { "ec2:Vpc"`, `ArnEquals: { "ec2:Region"`},
	{"policies", "mixed", "Sid: Bundles\n", "Sid: Health\n"},
	{"policies", "mixed", "Principal: { Service: ec2.amazonaws.com }", `Principal: "*"`},
	{"policies", "mixed", "Action: [elasticbeanstalk:ListPlatformVersions", "Action: [s3:PutObject, elasticbeanstalk:ListPlatformVersions"},
	{"data", "mixed", "DevDatabase:\n    Type: AWS::RDS::DBInstance\n    DeletionPolicy: RetainExceptOnCreate", "DevDatabase:\n    Type: AWS::RDS::DBInstance\n    DeletionPolicy: Snapshot"},
	{"data", "mixed", "UpdateReplacePolicy: Retain", "UpdateReplacePolicy: Delete"},
	{"logs", "mixed", "RetentionInDays: 30", ""},
	{"databases", "mixed", "PubliclyAccessible: false", "PubliclyAccessible: true"},
	{"databases", "mixed", "StorageEncrypted: true", "StorageEncrypted: false"},
	{"databases", "mixed", `rds.force_ssl: "1"`, `rds.force_ssl: "0"`},
	{"databases", "own-balancer", "DeletionProtection: true", "DeletionProtection: false"},
	{"databases", "own-balancer", "BackupRetentionPeriod: 7", "BackupRetentionPeriod: 0"},
	{"databases", "mixed", `MasterUserPassword: !Sub "{{resolve:secretsmanager:${DevDatabaseSecret}:SecretString:password}}"`, "MasterUserPassword: letmein"},
	{"databases", "mixed", "      DBName: app\n", "      DBName: app\n      DBInstanceIdentifier: shop-dev\n"},
	{"databases", "mixed", "      GenerateSecretString:", "      Name: lotse/shop/dev/engine/database\n      GenerateSecretString:"},
	{"groups", "mixed", "SourceSecurityGroupId: !Ref DevInstanceSecurityGroup", "CidrIp: 0.0.0.0/0"},
	{"groups", "mixed", "FromPort: 80, ToPort: 80", "FromPort: 22, ToPort: 22"},
	{"groups", "mixed", "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true"},
	{"balancer", "mixed", "ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-2016-08"},
	{"balancer", "mixed", `{ Key: deletion_protection.enabled, Value: "false" }`, `{ Key: deletion_protection.enabled, Value: "true" }`},
	{"balancer", "mixed", `{ Key: access_logs.s3.enabled, Value: "false" }`, `{ Key: access_logs.s3.enabled, Value: "true" }`},
	{"balancer", "mixed", `{ Key: routing.http.drop_invalid_header_fields.enabled, Value: "true" }`, `{ Key: routing.http.drop_invalid_header_fields.enabled, Value: "false" }`},
	{"balancer", "mixed", "Protocol: HTTPS, Port: \"443\", StatusCode", "Protocol: HTTP, Port: \"443\", StatusCode"},
	{"edge", "static", "CookieBehavior: none", "CookieBehavior: all"},
	{"edge", "static", "QueryStringBehavior: none", "QueryStringBehavior: all"},
	{"edge", "static", "TLSv1.2_2021", "TLSv1"},
	{"edge", "static", "OriginAccessControlId: !Ref OriginAccess", "OriginPath: /"},
	{"edge", "static", "AllowedMethods: [GET, HEAD]", "AllowedMethods: [GET, HEAD, OPTIONS, PUT, POST, PATCH, DELETE]"},
	{"edge", "static", "        - time\n", "        - time\n        - c-ip\n"},
	{"volumes", "mixed", "      Encrypted: true", "      Encrypted: false"},
	{"volumes", "mixed", `Effect: Deny
            Principal: { AWS: "*" }`, `Effect: Allow
            Principal: { AWS: "*" }`},
	{"tags", "mixed", `Tags: [{ Key: "lotse:app", Value: "whatsgonow" }]`, "Tags: []"},
	{"keys", "mixed", "EnableKeyRotation: true", "EnableKeyRotation: false"},
	{"keys", "mixed", "KmsMasterKeyId: !GetAtt Key.Arn", ""},
	{"github", "mixed", "repo:whatsgonow/app:environment:dev", "repo:whatsgonow/app:*"},
	{"github", "mixed", "repo:whatsgonow/app:environment:dev", "repo:whatsgonow/app:ref:refs/heads/main"},
	{"github", "mixed", `"token.actions.githubusercontent.com:aud": sts.amazonaws.com`, `"token.actions.githubusercontent.com:iss": github`},
	{"stages", "mixed", "Roles: [!Ref ProdInstanceRole]", "Roles: [!Ref DevInstanceRole]"},
	{"stages", "mixed", "RoleName: \"lotse-whatsgonow-instance-prod\"", "RoleName: \"lotse-whatsgonow-instance-dev\""},
	{"stages", "mixed", "ProdInstanceProfile: { Value: !Ref ProdInstanceProfile }", "ProdInstanceProfile: { Value: !Ref DevInstanceProfile }"},
	{"stages", "mixed", "ProdInstanceSecurityGroup: { Value: !GetAtt ProdInstanceSecurityGroup.GroupId }", "ProdInstanceSecurityGroup: { Value: !GetAtt DevInstanceSecurityGroup.GroupId }"},
	{"stages", "mixed", "secret:lotse/whatsgonow/dev/*", "secret:lotse/whatsgonow/prod/*"},
	{"stages", "mixed", "secret:lotse/whatsgonow/dev/*", "secret:lotse/whatsgonow/*"},
	{"stages", "mixed", "secret:lotse/whatsgonow/dev/*", "secret:lotse/whatsgonow/d*"},
	{"stages", "mixed", "secret:lotse/whatsgonow/dev/*", "secret:lotse/whatsgonow/staging/engine/*"},
	{"stages", "mixed", "secret:lotse/whatsgonow/dev/*", "secret:lotse/whatsgonow/none/*"},
	{"stages", "mixed", "log-group:/lotse/whatsgonow/dev:*", "log-group:/lotse/whatsgonow/*"},
	{"stages", "mixed", "whatsgonow-dev-??????????/*", "whatsgonow-*/*"},
	{"stages", "mixed", "secretsmanager.eu-central-1.amazonaws.com", "rds.eu-central-1.amazonaws.com"},
	{"stages", "mixed", "VPCSecurityGroups: [!Ref ProdDatabaseSecurityGroup]", "VPCSecurityGroups: [!Ref DevDatabaseSecurityGroup]"},
	{"stages", "mixed", "VPCSecurityGroups: [!Ref ProdDatabaseSecurityGroup]", "VPCSecurityGroups: [!Ref ProdDatabaseSecurityGroup, !Ref DevDatabaseSecurityGroup]"},
	{"stages", "mixed", "FromPort: 5432\n          ToPort: 5432\n          SourceSecurityGroupId: !Ref ProdInstanceSecurityGroup", "FromPort: 5432\n          ToPort: 5432\n          SourceSecurityGroupId: !Ref DevInstanceSecurityGroup"},
	{"stages", "mixed", "SecurityGroups: [!Ref ProdVolumeSecurityGroup]", "SecurityGroups: [!Ref DevVolumeSecurityGroup]"},
	{"stages", "mixed", "FromPort: 2049\n          ToPort: 2049\n          SourceSecurityGroupId: !Ref ProdInstanceSecurityGroup", "FromPort: 2049\n          ToPort: 2049\n          SourceSecurityGroupId: !Ref StagingInstanceSecurityGroup"},
	{"stages", "mixed", "role/lotse-whatsgonow-instance-prod", "role/lotse-whatsgonow-*"},
	{"stages", "own-balancer", "role/lotse-rides-instance-prod\"", "role/lotse-rides-instance-pro\""},
	{"sites", "static", "Site.Arn}/.lotse/*", "Site.Arn}/.lotse"},
	{"sites", "static", "Sid: DistributionKeepsOut\n            Effect: Deny", "Sid: DistributionKeepsOut\n            Effect: Allow"},
	{"sites", "static", "ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: AES256 } }]", "ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: \"aws:kms\" } }]"},
	{"region", "mixed", "Assert: !Equals", "Assert: !Not"},
}

func TestRulesSeePlantedFaults(t *testing.T) {
	tried := map[string]bool{}
	for _, fault := range faults {
		tried[fault.rule] = true
		files, err := Cloudformation(shape(t, fault.shape), Options{})
		if err != nil {
			t.Fatal(err)
		}
		planted, seen := false, false
		for _, f := range files {
			bad := strings.Replace(f.Content, fault.old, fault.new, 1)
			if bad == f.Content {
				continue
			}
			planted = true
			seen = seen || len(rules[fault.rule](parsed(t, bad))) > 0
		}
		if !planted || !seen {
			t.Errorf("rule %s, fault %q: planted %v, seen %v", fault.rule, fault.new, planted, seen)
		}
	}
	for rule := range rules {
		if !tried[rule] {
			t.Errorf("the rule %s was never shown a fault", rule)
		}
	}
}
