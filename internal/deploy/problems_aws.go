package deploy

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// inTheEU are the regions of AWS whose machines stand in the European Union (docs.aws.amazon.com, Regions and Availability Zones). London
// and Zurich are lawful by decisions of the Commission (GDPR, Art. 45), which can be withdrawn: whoever goes there says so in the file.
func inTheEU() []string {
	return []string{"eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-3"}
}

// regions are all of AWS, without those of its clouds for governments, for China and for Europe, which have accounts of their own
// (docs.aws.amazon.com, Regions and Availability Zones, 2026-11).
func regions() []string {
	return append(inTheEU(), "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2",
		"ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-2", "eu-west-2", "il-central-1",
		"me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2")
}

// InTheEU reports whether a region, as AWS names it, is in the European Union.
func InTheEU(region string) bool { return slices.Contains(inTheEU(), region) }

var (
	accountPattern    = regexp.MustCompile(`^[0-9]{12}$`)
	instancePattern   = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`)
	databasePattern   = regexp.MustCompile(`^db\.[a-z0-9-]+\.[a-z0-9-]+$`)
	repositoryPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$`)
)

// aws checks what is said of the cloud, once: it is the same for all stages.
func (c *checker) aws() {
	i := slices.IndexFunc(c.app.Stages, func(s Stage) bool { return s.AWS != AWS{} })
	if i < 0 {
		return
	}
	a, at := c.app.Stages[i].AWS, []string{"aws"}
	switch {
	case strings.HasPrefix(a.Region, "eusc-"):
		c.report(field(at, "region"), "for example eu-central-1", "is of the European Sovereign Cloud of AWS, where Lotse cannot deploy yet")
	case !slices.Contains(regions(), a.Region):
		c.report(field(at, "region"), "for example eu-central-1", "must be a region of AWS; Lotse knows none of this name")
	case !InTheEU(a.Region) && a.OutsideEU == "":
		c.report(field(at, "region"), "one of "+strings.Join(inTheEU(), ", ")+"; what makes another one lawful for this app can be said with outside_eu",
			"must be in the European Union: personal data is stored and processed there (GDPR, Art. 44)")
	}
	if reason := strings.TrimSpace(a.OutsideEU); reason != "" && utf8.RuneCountInString(reason) < leastReason {
		c.report(field(at, "outside_eu"), "for example Art. 45 GDPR: decision 2021/1772 on the United Kingdom", "must say what makes the region lawful, in %d letters at least", leastReason)
	}
	if a.Budget < 0 || a.Budget > mostBudget {
		c.report(field(at, "budget"), "for example 150; leave it out for none", "must be between 1 and %d US dollars", mostBudget)
	}
	if a.Balancer != AWSShared && a.Balancer != AWSOwn {
		c.report(field(at, "balancer"), "", "must be shared or own")
	}
	c.matches(field(at, "account"), a.Account, accountPattern, "for example 123456789012, in quotes", "must be the twelve digits of an account")
	c.matches(field(at, "instance"), a.Instance, instancePattern, "for example t3.small", "must be an instance type of EC2")
	c.matches(field(at, "database"), a.Database, databasePattern, "for example db.t4g.micro", "must be an instance class of RDS")
	c.matches(field(at, "repository"), a.Repository, repositoryPattern, "for example whatsgonow/app", "must be owner/name on GitHub")
	if a.Zone != "" && !validHost(a.Zone) {
		c.report(field(at, "zone"), "for example whatsgonow.com", "must be the name of a hosted zone")
	}
	if c.app.Static() {
		for _, v := range c.app.Volumes {
			c.report([]string{"volumes", v}, "leave it out, or give the app a service with a command, which makes machines",
				"has no machine to be mounted on: on AWS an app of static files alone is served from a bucket")
		}
		for _, j := range c.app.Jobs {
			c.report([]string{"jobs", j.Name}, "leave it out, or give the app a service with a command, which makes machines",
				"has no machine to run on: on AWS an app of static files alone is served from a bucket")
		}
	}
	c.sameInstances()
	for _, s := range c.app.Stages {
		if s.AWS != (AWS{}) {
			c.stageOnAWS([]string{"stages", s.Name}, s)
		}
	}
}

// sameInstances wants as many of one service as of another: every machine runs one copy of each.
func (c *checker) sameInstances() {
	first := -1
	for i, s := range c.app.Services {
		switch {
		case s.Command == "":
		case first < 0:
			first = i
		case s.Instances != c.app.Services[first].Instances:
			c.report([]string{"services", s.Name, "instances"}, "give both the same number, or make them two apps",
				"must be %d, as %s has it: on AWS every machine runs one copy of each service", c.app.Services[first].Instances, c.app.Services[first].Name)
		}
	}
}

func (c *checker) matches(at []string, value string, pattern *regexp.Regexp, hint, rest string) {
	if value != "" && !pattern.MatchString(value) {
		c.report(at, hint, "%s", rest)
	}
}

const (
	leastReason = 10 // letters of aws.outside_eu
	mostBudget  = 1_000_000

	// Major versions of PostgreSQL that RDS makes without extended support, which costs (Amazon RDS for PostgreSQL release calendar, 2026-11).
	oldestRDS, newestRDS = 14, 18

	// VariablesOnAWS is how many bytes the plain variables of an environment may have together, as NAME=value (Elastic Beanstalk,
	// "Environment properties").
	VariablesOnAWS = 4096
)

// maxOnAWS is what the names of app and stage may have together: an environment is called app-stage-rollout, with 10 letters of the
// rollout, and has at most 40 (Elastic Beanstalk, CreateEnvironment).
const maxOnAWS = 28

// stageOnAWS wants hosts that the internet can know, and that the zone can have a record of.
func (c *checker) stageOnAWS(at []string, s Stage) {
	c.hostOnAWS(field(at, "url"), s.URL, s.AWS.Zone)
	for i, r := range s.Redirects {
		c.hostOnAWS(item(at, "redirects", i), r, s.AWS.Zone)
	}
	if n := len(c.app.Name) + len(s.Name); n > maxOnAWS {
		c.reportName(at, "names of environments have at most 40 letters, of which Lotse needs 12", "is, with the app's name, %d letters too long for AWS", n-maxOnAWS)
	}
	if bytes := variableBytes(s.Env); bytes > VariablesOnAWS && !c.app.Static() {
		c.report(field(at, "env"), "make the largest a secret, of which the reference alone counts: `lotse secrets set`", "has %d bytes, and an environment of Elastic Beanstalk takes %d",
			bytes, VariablesOnAWS)
	}
	if s.Private && c.app.Static() {
		c.report(field(at, "access"), "write access: open, or give the app a service with a command, which asks for the password",
			"must be open on AWS: an app of static files alone is served by CloudFront, which asks nobody for a password")
	}
}

func variableBytes(env map[string]string) (sum int) {
	for name, value := range env {
		sum += len(name) + len("=") + len(value)
	}
	return sum
}

// databaseOnAWS wants a version that RDS has, and a program that could ask the database.
func (c *checker) databaseOnAWS(at []string, s Stage) {
	if s.AWS != (AWS{}) && s.Database.Migrate != "" {
		c.report(field(at, "migrate"), "migrations: the folder of SQL files that your tool writes; those of Prisma, Drizzle and others run as they are", "must not be there on AWS, where a release has no place to run before it starts")
	}
	switch {
	case s.AWS == (AWS{}) || !s.Database.Own():
	case c.app.Static():
		c.report(field(at, "postgres"), "leave it out, or give the app a service with a command", "has no program that could ask it: on AWS an app of static files alone is served from a bucket")
	case s.Database.Postgres < oldestRDS || s.Database.Postgres > newestRDS:
		c.report(field(at, "postgres"), "for example 17", "must be between %d and %d on AWS, which RDS has", oldestRDS, newestRDS)
	}
}

// hostOnAWS says nothing of what is no address with https: that was told already.
func (c *checker) hostOnAWS(at []string, address, zone string) {
	rest, is := strings.CutPrefix(address, "https://")
	if !is {
		return
	}
	host, port, _ := strings.Cut(rest, ":")
	switch {
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		c.report(at, "a host that you own, for example https://www.whatsgonow.com", "must not be on this machine: the stage is on AWS")
	case port != "" && port != "443":
		c.report(at, "leave the port out", "must not have a port on AWS, where people come in by 443")
	case zone != "" && host != zone && !strings.HasSuffix(host, "."+zone):
		c.report(at, "take aws.zone out, and make the records yourself", "has the host %s, which is not in the zone %s", host, zone)
	}
}

// Static reports whether the app has nothing but files: then there is no program that could serve a request.
func (a App) Static() bool {
	return !slices.ContainsFunc(a.Services, func(s Service) bool { return s.Static == "" })
}
