package deploy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func appOnAWS() deploy.App {
	a := soundApp()
	a.Stages = a.Stages[1:]
	a.Services[2].Instances = 2
	s := &a.Stages[0]
	s.Engine, s.URL, s.Redirects = "aws", "https://www.shop.example", []string{"https://shop.example"}
	s.AWS = deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSShared, Database: "db.t4g.micro", Zone: "shop.example", Account: "123456789012", Repository: "shop/app"}
	return a
}

func TestProblemsOnAWS(t *testing.T) {
	if problems := appOnAWS().Problems(); len(problems) > 0 {
		t.Fatalf("the sound app has problems: %v", problems)
	}
	for _, c := range []struct {
		name   string
		change func(a *deploy.App, s *deploy.Stage)
		want   string
		hint   string
	}{
		{"outside the EU", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Region = "us-east-1" }, "aws.region must be in the European Union: personal data is stored and processed there (GDPR, Art. 44)", "outside_eu"},
		{"London", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Region = "eu-west-2" }, "aws.region must be in the European Union: personal data is stored and processed there (GDPR, Art. 44)", "outside_eu"},
		{"London, with a reason", func(_ *deploy.App, s *deploy.Stage) {
			s.AWS.Region, s.AWS.OutsideEU = "eu-west-2", "Art. 45 GDPR: decision 2021/1772"
		}, "", ""},
		{"a command that migrates", func(_ *deploy.App, s *deploy.Stage) {
			s.Database = deploy.Database{URL: "DATABASE_URL", Migrate: "npx tool"}
		}, "stages.prod.database.migrate must not be there on AWS, where a release has no place to run before it starts", "the folder of SQL files that your tool writes"},
		{"a region that is none", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Region = "eu-frankfurt-1" }, "aws.region must be a region of AWS; Lotse knows none of this name", "eu-central-1"},
		{"a region that is none, with a reason", func(_ *deploy.App, s *deploy.Stage) {
			s.AWS.Region, s.AWS.OutsideEU = "eu-frankfurt-1", "Art. 45 GDPR: decision 2021/1772"
		}, "aws.region must be a region of AWS; Lotse knows none of this name", ""},
		{"the sovereign cloud", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Region = "eusc-de-east-1" },
			"aws.region is of the European Sovereign Cloud of AWS, where Lotse cannot deploy yet", "eu-central-1"},
		{"a reason that is none", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Region, s.AWS.OutsideEU = "eu-west-2", "x" },
			"aws.outside_eu must say what makes the region lawful, in 10 letters at least", "Art. 45"},
		{"a budget below nothing", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Budget = -3 }, "aws.budget must be between 1 and 1000000 US dollars", "150"},
		{"a budget beyond measure", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Budget = 1_000_001 }, "aws.budget must be between 1 and 1000000 US dollars", ""},
		{"a PostgreSQL to come", func(_ *deploy.App, s *deploy.Stage) { s.Database = deploy.Database{Postgres: 99} }, "stages.prod.database.postgres must be between 14 and 18 on AWS, which RDS has", "17"},
		{"a PostgreSQL that has gone", func(_ *deploy.App, s *deploy.Stage) { s.Database = deploy.Database{Postgres: 13} }, "stages.prod.database.postgres must be between 14 and 18 on AWS, which RDS has", ""},
		{"a PostgreSQL to come, of a stage here as well", func(a *deploy.App, s *deploy.Stage) {
			s.Database = deploy.Database{Postgres: 99}
			dev := soundApp().Stages[0]
			dev.Database = s.Database
			a.Stages = append([]deploy.Stage{dev}, a.Stages...)
		}, "database.postgres must be between 14 and 18 on AWS, which RDS has", ""},
		{"the newest PostgreSQL", func(_ *deploy.App, s *deploy.Stage) { s.Database = deploy.Database{Postgres: 18} }, "", ""},
		{"too many variables", func(_ *deploy.App, s *deploy.Stage) { s.Env = map[string]string{"LARGE": strings.Repeat("x", 4091)} },
			"stages.prod.env has 4097 bytes, and an environment of Elastic Beanstalk takes 4096", "secrets"},
		{"just enough variables", func(_ *deploy.App, s *deploy.Stage) { s.Env = map[string]string{"LARGE": strings.Repeat("x", 4090)} }, "", ""},
		{"an address without TLS", func(_ *deploy.App, s *deploy.Stage) { s.URL = "http://www.shop.example" }, `stages.prod.url must begin with "https://"`, "encrypted"},
		{"an engine in capitals", func(_ *deploy.App, s *deploy.Stage) { s.Engine = "AWS" }, "stages.prod.engine must be the name of an engine", "local or aws"},
		{"files with a database, a volume and a job", func(a *deploy.App, s *deploy.Stage) {
			a.Services, a.Volumes, a.Jobs[0].Volumes = a.Services[:1], []string{"uploads"}, nil
			s.Database = deploy.Database{Postgres: 16}
		}, "stages.prod.database.postgres has no program that could ask it: on AWS an app of static files alone is served from a bucket\n" +
			"volumes.uploads has no machine to be mounted on: on AWS an app of static files alone is served from a bucket\n" +
			"jobs.expire has no machine to run on: on AWS an app of static files alone is served from a bucket", ""},
		{"a balancer that is none", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Balancer = "nginx" }, "aws.balancer must be shared or own", ""},
		{"an account with a letter", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Account = "12345678901x" }, "aws.account must be the twelve digits of an account", "quotes"},
		{"an instance that is none", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Instance = "small" }, "aws.instance must be an instance type of EC2", "t3"},
		{"a repository that is an address", func(_ *deploy.App, s *deploy.Stage) { s.AWS.Repository = "https://github.com/a/b" }, "aws.repository must be owner/name on GitHub", ""},
		{"a host on this machine", func(_ *deploy.App, s *deploy.Stage) { s.URL = "https://www.shop.localhost" }, "stages.prod.url must not be on this machine: the stage is on AWS", "you own"},
		{"a port", func(_ *deploy.App, s *deploy.Stage) { s.URL = "https://www.shop.example:8443" }, "stages.prod.url must not have a port on AWS, where people come in by 443", ""},
		{"another zone", func(_ *deploy.App, s *deploy.Stage) { s.Redirects[0] = "https://myshop.example" },
			"stages.prod.redirects[0] has the host myshop.example, which is not in the zone shop.example", "aws.zone"},
		{"a long name", func(a *deploy.App, _ *deploy.Stage) { a.Name = strings.Repeat("a", 26) },
			"stages.prod is, with the app's name, 2 letters too long for AWS", "40"},
		{"fewer workers", func(a *deploy.App, _ *deploy.Stage) { a.Services[2].Instances = 1 },
			"services.worker.instances must be 2, as api has it: on AWS every machine runs one copy of each service", "two apps"},
		{"files for the team alone", func(a *deploy.App, s *deploy.Stage) {
			a.Services, a.Jobs, a.Volumes, s.Private = a.Services[:1], nil, nil, true
		}, "stages.prod.access must be open on AWS: an app of static files alone is served by CloudFront, which asks nobody for a password", "access: open"},
		{"files with a job", func(a *deploy.App, _ *deploy.Stage) {
			a.Services, a.Jobs[0].Volumes, a.Volumes = a.Services[:1], nil, nil
		}, "jobs.expire has no machine to run on: on AWS an app of static files alone is served from a bucket", "command"},
		{"an app for the team alone", func(_ *deploy.App, s *deploy.Stage) { s.Private = true }, "", ""},
	} {
		a := appOnAWS()
		c.change(&a, &a.Stages[0])
		var messages []string
		for _, p := range a.Problems() {
			messages = append(messages, p.Message)
		}
		if diff := cmp.Diff(c.want, strings.Join(messages, "\n")); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
		if found := a.Problems(); c.hint != "" && len(found) > 0 && !strings.Contains(found[0].Hint, c.hint) {
			t.Errorf("%s: the hint is %q", c.name, found[0].Hint)
		}
	}
}
