package infra

import "github.com/lotse-eu/lotse/internal/deploy"

// Line is one thing and what is to be said of it.
type Line struct{ What, Says string }

// Residency says what of the app is stored or processed where, one line for each kind of thing that it has, for the plan and for docs. It is
// nil for an app without a stage on AWS. What would take personal data out of the European Union is not here but refused: a region outside
// by deploy.App.Problems unless the file says why it is lawful; requests over CloudFront by what is written, which gives it files alone.
func Residency(app deploy.App) []Line {
	p, err := planOf(app, Options{})
	if err != nil {
		return nil
	}
	region := p.AWS.Region
	lines := []Line{{"releases", "S3 in " + region + ", encrypted with the app's key"}}
	if p.Static {
		lines = append(lines, cloudFrontResidency(region)...)
	} else {
		lines = append(lines, runningResidency(p)...)
	}
	if p.Told {
		lines = append(lines, Line{"alarms", "SNS in " + region + ", encrypted; nobody's address is in a file of ours"})
	}
	if p.AWS.Repository != "" {
		lines = append(lines, Line{"who deploys", "workflows of " + p.AWS.Repository + " on GitHub, in the environments of the stages, by one role for all stages: whoever may run one of them reaches every stage"})
	}
	lines = append(lines, Line{"control planes", "IAM, Route 53 and budgets are of all regions: roles, host names and sums of money; no personal data of the app's users"})
	if p.AWS.OutsideEU != "" {
		lines = append([]Line{{"outside the EU", region + ", because the file says: " + p.AWS.OutsideEU}}, lines...)
	}
	return lines
}

func runningResidency(p plan) []Line {
	region := p.AWS.Region
	lines := []Line{
		{"requests", "balancer and instances in " + region + "; TLS from the browser to the balancer, and again from there to the instance"},
		{"services", "EC2 in " + region + ", in private subnets; their root disks are encrypted where the account says so (EBS encryption by default)"},
		{"logs", "CloudWatch in " + region + ", 30 days, encrypted with the app's key; without addresses"},
		{"secrets", "Secrets Manager in " + region + ", encrypted"},
	}
	if p.Databases {
		lines = append(lines, Line{"database", "RDS in " + region + ", encrypted, by TLS only, in subnets without a way out; backups of 7 days in the same region"})
	} else {
		lines = append(lines, Line{"database", "none of AWS; where yours is (Supabase: its project settings) is for you to see to"})
	}
	if p.Volumes {
		lines = append(lines, Line{"volumes", "EFS in " + region + ", encrypted, by TLS only; backups of 35 days in the same region, which outlive an erasure by as long"})
	}
	return append(lines, Line{"certificate", "ACM in " + region + "; host names"})
}

func cloudFrontResidency(region string) []Line {
	return []Line{
		{"files", "S3 in " + region + "; everybody may see them"},
		{"CloudFront", "carries files alone, without cookies, queries, forms or an API behind it; its edge locations are also outside the EU (price class 100: North America, Europe, Israel): the one that answers sees the visitor's IP address, and AWS does not promise which one that is"},
		{"access log", "S3 in " + region + ", 30 days, and a day more as an old version; without IP address, browser, referrer, cookie and query"},
		{"certificate", "ACM in " + EdgeRegion + ", the one exception: CloudFront takes it from there alone. Host names, no personal data"},
		{"log delivery", "its settings are in " + EdgeRegion + ", as CloudFront is steered from there; no personal data"},
	}
}
