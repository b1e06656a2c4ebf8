package config

import (
	"regexp"
	"strconv"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

type gates struct {
	Smoke    entries[expectation] `json:"smoke" jsonschema_description:"Smoke tests, by name: what is asked of a release before it gets traffic. docs/gates.md has more."`
	PageLoad pageLoad             `json:"page_load" jsonschema_description:"Time within which pages must be there in a real browser, or off. Or a mapping of limit, pages, network and cpu. Where nothing is said, / is loaded once where there is a browser, and nothing is refused."`
}

type expectation struct {
	Get      text     `json:"get" jsonschema:"pattern=^/,example=/api/health" jsonschema_description:"Path below the stage's URL that is asked for. Not together with run."`
	Status   count    `json:"status" jsonschema:"minimum=200,maximum=599,example=200" jsonschema_description:"Status that must be answered. Without it: any from 200 to 299. Redirects are answers like others."`
	Contains text     `json:"contains" jsonschema:"minLength=1,example=ok" jsonschema_description:"Text that the answer must hold."`
	Run      text     `json:"run" jsonschema:"minLength=1,example=node smoke.js" jsonschema_description:"Command of the release that must end with 0. It has the release's folder and the stage's variables; where it runs on this machine, LOTSE_URL leads to the release. Not together with get."`
	Timeout  duration `json:"timeout" jsonschema_description:"Time after which the test is ended and has failed."`
}

// pageLoad may be written as its limit alone.
type pageLoad struct {
	Limit   limit `json:"limit" jsonschema_description:"Time within which the load event and the largest content of every page must be there; off: no page is loaded."`
	Pages   list  `json:"pages" jsonschema_description:"Paths of the pages. Without it: / alone."`
	Network text  `json:"network" jsonschema:"enum=4g,enum=slow 4g,enum=3g,enum=none,example=slow 4g" jsonschema_description:"Connection that the browser is given. Without it: 4g, 10 Mbit/s and 40 ms."`
	CPU     times `json:"cpu" jsonschema_description:"How many times slower than this machine the browser is made. Without it: 1x."`
}

func (p *pageLoad) short() scalar { return &p.Limit }

// JSONSchemaExtend says that the limit may stand alone.
func (pageLoad) JSONSchemaExtend(s *jsonschema.Schema) {
	either(s, limit(0).JSONSchema())
	s.Examples = []any{"1.5s"}
}

// limit is a duration, or off.
type limit time.Duration

// noLimit stands for off.
const noLimit limit = -1

func (l *limit) set(n *yaml.Node) (expected, hint string) {
	if n.Value == "off" {
		*l = noLimit
		return "", ""
	}
	expected, hint = (*duration)(l).set(n)
	if expected != "" {
		expected += ", or off"
	}
	return expected, hint
}

// JSONSchema says how limits are written.
func (limit) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: durationPattern + "|^off$", Examples: []any{"1.5s", "off"}}
}

// times is a factor, as in 4x.
type times float64

const timesPattern = `^[0-9]+(\.[0-9]+)?x$`

func (f *times) set(n *yaml.Node) (expected, hint string) {
	if n.Tag != "!!str" || !regexp.MustCompile(timesPattern).MatchString(n.Value) {
		return "a number and x", "for example 4x, four times slower"
	}
	parsed, err := strconv.ParseFloat(n.Value[:len(n.Value)-1], 64)
	if *f = times(parsed); err != nil || parsed < 1 || parsed > 20 {
		return "between 1x and 20x", ""
	}
	return "", ""
}

// JSONSchema says how factors are written.
func (times) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: timesPattern, Examples: []any{"4x"}}
}

func (g *gates) gates() deploy.Gates {
	var all deploy.Gates
	for _, e := range g.Smoke {
		x := e.value
		all.Smoke = append(all.Smoke, deploy.Expectation{Name: e.name, Get: string(x.Get), Status: int(x.Status), Contains: string(x.Contains),
			Run: string(x.Run), Timeout: time.Duration(x.Timeout)})
	}
	p := g.PageLoad
	all.PageLoad = deploy.PageLoad{Off: p.Limit == noLimit, Limit: max(0, time.Duration(p.Limit)), Pages: p.Pages.strings(), Network: string(p.Network), CPU: float64(p.CPU)}
	return all
}
