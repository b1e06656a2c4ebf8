package config

import (
	"regexp"
	"strconv"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// limits are what no release of a stage may go beyond.
type limits struct {
	Errors   percent  `json:"errors" jsonschema_description:"Most answers of a service that may be errors (5xx, or none)."`
	P95      duration `json:"p95" jsonschema_description:"Longest that 95 of 100 requests to a service may take. Without it: no limit."`
	Requests count    `json:"requests" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Requests of clients to each service that the watch wants. Where there are fewer, Lotse makes its own."`
}

func (l limits) limits() deploy.Limits {
	return deploy.Limits{Errors: float64(l.Errors), P95: time.Duration(l.P95), Requests: int(l.Requests)}
}

// strategy is how a stage goes from one release to the next.
type strategy string

func (s *strategy) set(n *yaml.Node) (expected, hint string) {
	switch deploy.Strategy(n.Value) {
	case deploy.BlueGreen, deploy.Canary, deploy.Recreate:
		*s = strategy(n.Value)
		return "", ""
	}
	return "blue-green, canary or recreate", "without it: blue-green"
}

// JSONSchema says which words there are.
func (strategy) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Enum: []any{"blue-green", "canary", "recreate"}, Examples: []any{"canary"}}
}

// canary is the steps of one, in their order.
type canary []canaryStep

func (c *canary) grow() any {
	*c = append(*c, canaryStep{})
	return &(*c)[len(*c)-1]
}

// steps are those of the file, or what stands where the strategy is canary and the file says nothing of steps.
func (c canary) steps(s strategy) (all []deploy.CanaryStep) {
	if len(c) == 0 && deploy.Strategy(s) == deploy.Canary {
		return []deploy.CanaryStep{{Share: 5, Bake: 2 * time.Minute}, {Share: 25, Bake: 2 * time.Minute}}
	}
	for _, step := range c {
		all = append(all, deploy.CanaryStep(step))
	}
	return all
}

// JSONSchema says how steps are written.
func (canary) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", MinItems: new(uint64(1)), Items: &jsonschema.Schema{Type: "string", Pattern: canaryPattern}, Examples: []any{"[5% for 2m, 25% for 10m]"}}
}

// canaryStep is "5% for 2m".
type canaryStep deploy.CanaryStep

const canaryPattern = `^([0-9]{1,3})% for (\S+)$`

func (c *canaryStep) set(n *yaml.Node) (expected, hint string) {
	found := regexp.MustCompile(canaryPattern).FindStringSubmatch(n.Value)
	if found == nil || n.Tag != "!!str" {
		return "a share and a time", "for example 5% for 2m"
	}
	var bake duration
	if expected, hint := bake.set(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: found[2]}); expected != "" {
		return "a share and a time, and " + found[2] + " is not " + expected, hint
	}
	c.Share, _ = strconv.Atoi(found[1]) // three digits at most
	c.Bake = time.Duration(bake)
	return "", ""
}

// percent is a part of a hundred.
type percent float64

const percentPattern = `^([0-9]{1,3}(?:\.[0-9]{1,3})?)%$`

func (p *percent) set(n *yaml.Node) (expected, hint string) {
	found := regexp.MustCompile(percentPattern).FindStringSubmatch(n.Value)
	if found == nil || n.Tag != "!!str" {
		*p = 1
		return "a percentage with its sign", "for example 5% or 0.5%"
	}
	f, _ := strconv.ParseFloat(found[1], 64) // digits and a dot
	*p = percent(f)
	return "", ""
}

// JSONSchema says how percentages are written.
func (percent) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: percentPattern, Examples: []any{"5%", "0.5%"}}
}
