package infra

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// plan is what there is to write down. The templates read it.
type plan struct {
	App       string
	AWS       deploy.AWS
	Instance  string // EC2 instance type
	Static    bool   // files alone: S3 and CloudFront carry them
	Shared    bool   // one balancer for all stages
	Databases bool   // some stage has one
	Volumes   bool
	Told      bool // there is something to tell people: alarms or a budget
	Redirects bool // some host is sent to another
	Stages    []stage
	Hosts     []string // of the certificate
	Subjects  []string // of tokens of GitHub that may deploy

	StackName, EdgeName, EdgeLogsName string

	Network       string
	Zones         []string // letters
	Subnets       []subnets
	AccessDays    int
	LogFields     []string
	BeanstalkZone string // hosted zone of elasticbeanstalk.com in the region

	ServicePolicy, InstancePolicy, LotsePolicy, DatabasesPolicy, PartsPolicy []Statement

	Outputs []output
}

type stage struct {
	Name, Camel   string
	Host          string
	Hosts         []string // Host, and what is sent to it
	Redirects     []redirect
	Records       []record
	Postgres      int
	PagesFunction string // what CloudFront does with a request

	InstancePolicy []Statement
}

// redirect is a host that is sent to the stage's.
type redirect struct {
	Name     string // in CloudFormation
	Host     string
	Priority int // of its rule
}

type record struct {
	Logical, Host, Type string
}

// subnets are of one kind, one for each zone. Route tables have the same name.
type subnets struct {
	Name   string
	Blocks []string
}

// output is one output, in the words of each writer.
type output struct{ Name, CloudFormation, Terraform string }

// maxHosts is how many names a certificate has before a quota must be raised (ACM quotas: 10 domain names).
const maxHosts = 10

// firstRedirect is the priority of the first rule that redirects: far behind those that Lotse and Beanstalk make, of 50,000.
const firstRedirect = 40_001

// accessDays is how long CloudFront's access log is kept. It has no addresses. The balancer's would have them, and there is none.
const accessDays = 30

// beanstalkZones are the hosted zones of elasticbeanstalk.com (docs.aws.amazon.com/general/latest/gr/elasticbeanstalk.html).
var beanstalkZones = map[string]string{
	"eu-central-1": "Z1FRNW7UH4DEZJ", "eu-north-1": "Z23GO28BZ5AETM", "eu-south-1": "Z10VDYYOA2JFKM",
	"eu-south-2": "Z23GO28BZ5AETM", "eu-west-1": "Z2NYPWQ7DFZAZH", "eu-west-3": "Z5WN6GAYWG5OB",
}

// planOf says what the app's stages on AWS need, or why that cannot be had.
func planOf(app deploy.App, o Options) (plan, error) {
	p := plan{App: app.Name, Static: app.Static(), StackName: StackName(app), EdgeName: StackName(app) + "-edge", EdgeLogsName: StackName(app) + "-edge-logs",
		Network: "10.40.0.0/16", Zones: []string{"A", "B"}}
	for _, s := range app.Stages {
		if s.Engine == "aws" {
			p.AWS = s.AWS
			p.Stages = append(p.Stages, stageOf(s, app.Services))
		}
	}
	if err := p.possible(app); err != nil {
		return plan{}, err
	}
	p.Shared = !p.Static && p.AWS.Balancer != deploy.AWSOwn
	p.Volumes = !p.Static && len(app.Volumes) > 0
	p.Databases = slices.ContainsFunc(p.Stages, func(s stage) bool { return s.Postgres > 0 })
	p.Told = !p.Static || p.AWS.Budget > 0
	p.Redirects = slices.ContainsFunc(p.Stages, func(s stage) bool { return len(s.Redirects) > 0 })
	p.Instance = cmp.Or(p.AWS.Instance, smallest(o.Machine))
	p.BeanstalkZone = beanstalkZones[p.AWS.Region]
	if p.Static {
		p.AccessDays, p.LogFields = accessDays, logFields()
	}
	p.name()
	p.network()
	p.subjects(app)
	p.ServicePolicy, p.InstancePolicy, p.LotsePolicy, p.PartsPolicy = servicePolicy(p), instancePolicy(p, anyStage), lotsePolicy(p), partsPolicy(p)
	p.DatabasesPolicy = databasesPolicy(p)
	for i, s := range p.Stages {
		p.Stages[i].InstancePolicy = instancePolicy(p, s.Name)
	}
	p.Outputs = outputsOf(p)
	return p, nil
}

// smallest is the smallest instance type that runs an app with some services: 2 GiB (aws.amazon.com/ec2/instance-types).
func smallest(machine string) string {
	if machine == "arm64" {
		return "t4g.small"
	}
	return "t3.small"
}

func stageOf(s deploy.Stage, services []deploy.Service) stage {
	st := stage{Name: s.Name, Camel: camel(s.Name), Host: hostOf(s.URL), Postgres: s.Database.Postgres}
	st.Hosts = []string{st.Host}
	for i, r := range s.Redirects {
		st.Redirects = append(st.Redirects, redirect{Name: fmt.Sprintf("%sRedirect%d", st.Camel, i+1), Host: hostOf(r)})
		st.Hosts = append(st.Hosts, hostOf(r))
	}
	st.PagesFunction = pagesFunction(st.Host, services)
	return st
}

func hostOf(address string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(address, "https://"), ":")
	return strings.TrimSuffix(host, "/")
}

// possible says why this app cannot be written down for AWS. deploy.App.Problems has said what is wrong with the file before.
func (p *plan) possible(app deploy.App) error {
	if len(p.Stages) == 0 {
		return deploy.Hint(fmt.Errorf("%w: no stage of %s has the engine aws", deploy.ErrBadInput, app.Name), "write engine: aws to a stage")
	}
	names := map[string]string{}
	for _, s := range p.Stages {
		if other := names[s.Camel]; other != "" {
			return deploy.Hint(fmt.Errorf("%w: the stages %s and %s are both %s in CloudFormation, where names have no hyphens", deploy.ErrBadInput, other, s.Name, s.Camel), "rename one of them")
		}
		names[s.Camel] = s.Name
		p.Hosts = append(p.Hosts, s.Hosts...)
		if p.Static && s.Postgres > 0 {
			return deploy.Hint(fmt.Errorf("%w: %s has a database, and no service with a command that could ask it", deploy.ErrUnsupported, s.Name), "take postgres out of it, or add the service")
		}
	}
	if len(p.Hosts) > maxHosts {
		return deploy.Hint(fmt.Errorf("%w: the stages have %d hosts, and a certificate has %d", deploy.ErrUnsupported, len(p.Hosts), maxHosts), "give some of the stages another app")
	}
	if _, ok := beanstalkZones[p.AWS.Region]; !ok && p.AWS.Balancer == deploy.AWSOwn && slices.Contains(p.Hosts, p.AWS.Zone) {
		return deploy.Hint(fmt.Errorf("%w: the top of the zone %s cannot lead to an environment in %s", deploy.ErrUnsupported, p.AWS.Zone, p.AWS.Region), "use the shared balancer, or a host below the zone")
	}
	for _, s := range app.Stages {
		if p.Static && s.Engine == "aws" && s.Private {
			return deploy.Hint(fmt.Errorf("%w: %s is private, and CloudFront asks nobody for a password", deploy.ErrUnsupported, s.Name), "write access: open, or give the app a service with a command")
		}
	}
	return nil
}

// name gives records and rules their names and numbers.
func (p *plan) name() {
	priority := firstRedirect
	for i := range p.Stages {
		s := &p.Stages[i]
		for j := range s.Redirects {
			s.Redirects[j].Priority = priority
			priority++
		}
		if p.AWS.Zone == "" {
			continue
		}
		for j, host := range s.Hosts {
			s.Records = append(s.Records, p.records(fmt.Sprintf("%sRecord%d", s.Camel, j+1), host)...)
		}
	}
}

// records of one host: CloudFront also speaks IPv6; a name of Beanstalk is followed by CNAME, but for the top of a zone.
func (p *plan) records(name, host string) []record {
	switch {
	case p.Static:
		return []record{{name, host, "A"}, {name + "IPv6", host, "AAAA"}}
	case !p.Static && p.AWS.Balancer == deploy.AWSOwn && host != p.AWS.Zone:
		return []record{{name, host, "CNAME"}}
	}
	return []record{{name, host, "A"}}
}

func (p *plan) network() {
	p.Subnets = []subnets{{"Balancer", []string{"10.40.0.0/24", "10.40.1.0/24"}}, {"Instance", []string{"10.40.16.0/20", "10.40.32.0/20"}}}
	if p.Databases {
		p.Subnets = append(p.Subnets, subnets{"Database", []string{"10.40.2.0/24", "10.40.3.0/24"}})
	}
}

// subjects are whom a token of GitHub may speak for: a workflow of this repository that runs in the environment of a stage, which may
// want a person's yes. A branch alone is not enough: nobody would be asked (docs.github.com/actions/concepts/security/openid-connect).
func (p *plan) subjects(app deploy.App) {
	for _, s := range app.Stages {
		if s.Engine != "aws" || p.AWS.Repository == "" {
			continue
		}
		p.Subjects = append(p.Subjects, "repo:"+p.AWS.Repository+":environment:"+s.Name)
	}
}

// logFields are the fields of CloudFront's log that are no personal data: no address (c-ip, x-forwarded-for), no cs(User-Agent), cs(Referer),
// cs(Cookie), cs-uri-query (docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html).
func logFields() []string {
	return []string{"date", "time", "x-edge-location", "sc-bytes", "cs-method", "x-host-header", "cs-uri-stem", "sc-status", "x-edge-result-type", "cs-protocol", "time-taken",
		"ssl-protocol", "x-edge-response-result-type", "cs-protocol-version", "time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type"}
}

// pagesFunction is the program that CloudFront runs on each request.
func pagesFunction(host string, services []deploy.Service) string {
	type site struct {
		Path     string `json:"path"`
		Fallback string `json:"fallback,omitempty"`
	}
	var sites []site
	for _, s := range services {
		if s.Static == "" {
			continue
		}
		at := site{Path: "/" + strings.Trim(s.Path, "/")}
		if s.Fallback != "" {
			at.Fallback = strings.TrimSuffix(at.Path, "/") + "/" + s.Fallback
		}
		sites = append(sites, at)
	}
	slices.SortStableFunc(sites, func(a, b site) int { return len(b.Path) - len(a.Path) })
	list, err := json.Marshal(sites)
	if err != nil {
		return ""
	}
	text, _ := fill("pages.js", map[string]string{"Host": host, "ServicesJSON": string(list)})
	return text
}
