package infra

import (
	"fmt"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// PricesKnown is when the prices were known that Costs reckons with. They are list prices of eu-central-1, in US dollars without tax, and
// not looked up since: rough, and good for a class. The sources say what is true today.
const PricesKnown = "2026-11"

// CostLine is what one thing costs a month, in US dollars: from Low, where next to nobody comes, to High, where a small product is used.
// Both are 0 where the price is not known here.
type CostLine struct {
	What   string
	Stage  string // empty: of the whole app
	Low    int
	High   int
	Basis  string // how it was reckoned
	Source string // URL of the price list
}

// Class is the line's cost in words.
func (c CostLine) Class() string {
	switch {
	case c.High == 0:
		return "price not known here"
	case c.Low == c.High:
		return fmt.Sprintf("about %d USD", c.Low)
	}
	return fmt.Sprintf("%d to %d USD", c.Low, c.High)
}

// Monthly adds lines up. known is false where one of them has no price.
func Monthly(lines []CostLine) (low, high int, known bool) {
	known = true
	for _, c := range lines {
		low, high, known = low+c.Low, high+c.High, known && c.High > 0
	}
	return low, high, known
}

// hours are those of a month: 365 days by 12.
const hours = 730

const pricing = "https://aws.amazon.com/"

// Costs is what the app costs a month on AWS, by resource, with its stages running all the time. It is nil for an app without a stage on
// AWS. A rollout has twice the instances for as long as both releases are up: hours, not worth a line.
func Costs(app deploy.App, o Options) []CostLine {
	p, err := planOf(app, o)
	if err != nil {
		return nil
	}
	lines := []CostLine{
		{"key", "", 1, 2, "1 key, and calls", pricing + "kms/pricing/"},
		{"releases", "", 1, 2, "some GB at 0.0245", pricing + "s3/pricing/"},
	}
	if p.Static {
		for _, s := range p.Stages {
			lines = append(lines, CostLine{"site", s.Name, 1, 5, "bucket; CloudFront's first TB a month is free", pricing + "cloudfront/pricing/"})
		}
		return lines
	}
	lines = append(lines, CostLine{"NAT gateway", "", 42, 60, "1, 730 h at 0.052; its address, 730 h at 0.005; 0.052 a GB", pricing + "vpc/pricing/"})
	if p.Shared {
		lines = append(lines, balancerCost("", 1))
	}
	machines := machines(app.Services)
	for _, s := range p.Stages {
		lines = append(lines, p.stageCosts(s, machines)...)
	}
	stages := len(p.Stages)
	return append(lines, CostLine{"logs, metrics and alarms", "", 2 + stages, 15 + 2*stages, "0.63 a GB taken in; 3 metrics a stage at 0.30; 0.10 an alarm", pricing + "cloudwatch/pricing/"})
}

func (p plan) stageCosts(s stage, machines int) []CostLine {
	lines := []CostLine{priced("instances", s.Name, p.Instance, machines, instancePrices, 1, pricing+"ec2/pricing/on-demand/")}
	if !p.Shared {
		lines = append(lines, balancerCost(s.Name, 1))
	}
	if s.Postgres > 0 {
		lines = append(lines, priced("database", s.Name, p.AWS.Database, 1, databasePrices, 3, pricing+"rds/postgresql/pricing/"),
			CostLine{"snapshots", s.Name, 1, 5, "copies beyond the size of the databases, 0.10 a GB; a drill a week, some hours at 0.019, and disk", pricing + "rds/postgresql/pricing/"},
			CostLine{"secret", s.Name, 1, 1, "0.40 each", pricing + "secrets-manager/pricing/"})
	}
	if p.Volumes {
		lines = append(lines, CostLine{"volumes", s.Name, 1, 10, "0.36 a GB used, and its backup", pricing + "efs/pricing/"})
	}
	return lines
}

func balancerCost(stage string, n int) CostLine {
	return CostLine{"balancer", stage, 27 * n, 40 * n, "730 h at 0.027; two addresses, 730 h at 0.005; 0.008 an hour for each unit of load", pricing + "elasticloadbalancing/pricing/"}
}

// instancePrices and databasePrices are USD an hour in Frankfurt, Linux and PostgreSQL in one zone.
var instancePrices = map[string]float64{
	"t3.micro": 0.012, "t3.small": 0.024, "t3.medium": 0.048, "t3.large": 0.096,
	"t4g.micro": 0.0096, "t4g.small": 0.0192, "t4g.medium": 0.0384, "t4g.large": 0.0768,
}

var databasePrices = map[string]float64{
	"db.t4g.micro": 0.019, "db.t4g.small": 0.038, "db.t4g.medium": 0.077, "db.t4g.large": 0.153,
	"db.t3.micro": 0.021, "db.t3.small": 0.042, "db.t3.medium": 0.084,
}

// priced is a line of things that are paid by the hour, with disk USD a month for the disk of each.
func priced(what, stage, kind string, n int, prices map[string]float64, disk float64, source string) CostLine {
	hourly, known := prices[kind]
	if !known {
		return CostLine{What: what, Stage: stage, Basis: fmt.Sprintf("%d %s", n, kind), Source: source}
	}
	month := (hourly*hours + disk) * float64(n)
	return CostLine{what, stage, int(month + 0.5), int(month*1.2 + 1), fmt.Sprintf("%d %s, 730 h at %s, and disk", n, kind, strings.TrimRight(fmt.Sprintf("%.4f", hourly), "0")), source}
}

// machines is how many instances of EC2 a release has: the most that all its services can be spread over evenly.
func machines(services []deploy.Service) int {
	count := 0
	for _, s := range services {
		if s.Command == "" {
			continue
		}
		n := max(s.Instances, 1)
		for n != 0 {
			count, n = n, count%n
		}
	}
	return max(count, 1)
}
