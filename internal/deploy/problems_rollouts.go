package deploy

import (
	"slices"
	"time"
)

// Bounds of what a stage says of its rollouts.
const (
	longestBake  = 24 * time.Hour
	longestP95   = 10 * time.Minute
	mostRequests = 1000 // that Lotse would make by itself at each step
)

func (c *checker) strategy(at []string, s Stage) {
	if !slices.Contains([]Strategy{"", BlueGreen, Canary, Recreate}, s.Strategy) {
		c.report(field(at, "strategy"), "without it: blue-green", "must be blue-green, canary or recreate")
	}
	if len(s.Canary) > 0 && s.Strategy != Canary {
		c.report(field(at, "canary"), "add strategy: canary", "must not stand where the strategy is not canary")
	}
	before := 0
	for i, step := range s.Canary {
		here := item(at, "canary", i)
		switch {
		case step.Share < 1 || step.Share > 99:
			c.report(here, "all traffic comes by itself after the last step", "must have a share from 1%% to 99%%")
		case step.Share <= before:
			c.report(here, "", "must have a greater share than the step before, which has %d%%", before)
		}
		before = step.Share
		c.between(here, step.Bake, time.Second, longestBake)
	}
	if s.AWS != (AWS{}) {
		c.strategyOnAWS(field(at, "strategy"), s)
	}
}

// strategyOnAWS says early what Facts would say at the rollout.
func (c *checker) strategyOnAWS(at []string, s Stage) {
	switch {
	case s.Strategy == Canary && s.AWS.Static:
		c.report(at, "leave it out: blue-green", "must not be canary for an app of files alone on AWS: CloudFront gives everybody the same files")
	case s.Strategy == Canary && s.AWS.Balancer == AWSOwn:
		c.report(at, "write balancer: shared under aws, or leave strategy out", "must not be canary where each environment has a load balancer of its own: DNS gives all requests to one release")
	case s.Strategy == Recreate:
		c.report(at, "leave it out: blue-green", "must not be recreate on AWS: an environment takes minutes to start, and nothing would answer meanwhile")
	}
}

// limits wants what is given to be usable; zeros are left for whoever makes an App without a file.
func (c *checker) limits(at []string, l Limits) {
	if l == (Limits{}) {
		return
	}
	if l.Errors <= 0 || l.Errors > 100 {
		c.report(field(at, "errors"), "100% is no limit", "must be more than 0%% and at most 100%%")
	}
	if l.P95 != 0 {
		c.between(field(at, "p95"), l.P95, time.Millisecond, longestP95)
	}
	if l.Requests < 1 || l.Requests > mostRequests {
		c.report(field(at, "requests"), "", "must be from 1 to %d", mostRequests)
	}
}
