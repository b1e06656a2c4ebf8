package infra

import (
	"strings"
	"testing"
)

// sitesKeepToThemselves: CloudFront is kept from what Lotse keeps in the bucket of a site, also where it may read all else; and the files
// are encrypted with AES256: with a key of KMS an ETag would not say what bytes a file has, and a shift would have to ask for each.
func sitesKeepToThemselves(template map[string]any) (wrong []string) {
	each(template, "AWS::S3::Bucket", func(name string, r map[string]any) {
		if !strings.HasSuffix(name, "Site") {
			return
		}
		if !is(r, "AES256", "Properties", "BucketEncryption", "ServerSideEncryptionConfiguration", "0", "ServerSideEncryptionByDefault", "SSEAlgorithm") {
			wrong = append(wrong, name+" is not encrypted with AES256")
		}
		statements, _ := at(template["Resources"], name+"Policy", "Properties", "PolicyDocument", "Statement").([]any)
		for _, s := range statements {
			if is(s, "Deny", "Effect") && is(s, "s3:GetObject", "Action") && is(s, "cloudfront.amazonaws.com", "Principal", "Service") && at(s, "Condition") == nil &&
				is(s, "${"+name+".Arn}/.lotse/*", "Resource", "Fn::Sub") {
				return
			}
		}
		wrong = append(wrong, name+" lets CloudFront serve what Lotse keeps there for itself")
	})
	return wrong
}

// Terraform says the same.
func TestSitesKeepToThemselvesInTerraform(t *testing.T) {
	files, err := Terraform(shape(t, "static"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name, "storage.tf") {
			_, rest, _ := strings.Cut(f.Content, `sid       = "DistributionKeepsOut"`)
			statement, _, _ := strings.Cut(rest, "\n  }\n")
			for _, must := range []string{`"Deny"`, `["s3:GetObject"]`, `["${aws_s3_bucket.site[each.key].arn}/.lotse/*"]`, `["cloudfront.amazonaws.com"]`} {
				if !strings.Contains(statement, must) {
					t.Errorf("the policy of a site does not say %s:\n%s", must, statement)
				}
			}
			return
		}
	}
	t.Error("there is no storage.tf")
}
