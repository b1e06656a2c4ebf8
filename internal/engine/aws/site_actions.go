package aws

// SiteActions are all that a Site asks AWS for, in the words of IAM, in the order of their names.
func SiteActions() []Action {
	const sid, list, invalidation = "Site", "SiteList", "SiteInvalidation"
	return []Action{
		{"cloudformation", "DescribeStacks", sidStack, "what lasts: the bucket and the distribution"},
		{"cloudfront", "CreateInvalidation", invalidation, "shift"},
		{"cloudfront", "GetInvalidation", invalidation, "whether CloudFront has taken a shift in"},
		{"s3", "DeleteObject", sid, "files that no release needs any more"},
		{"s3", "GetObject", sid, "manifests, and the copies of a shift"},
		{"s3", "ListBucket", list, "which files are there"},
		{"s3", "PutObject", sid, "files, manifests, and the copies of a shift"},
		{"sts", "GetCallerIdentity", sidAccount, "whose credentials they are"},
	}
}
