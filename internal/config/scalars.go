package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// scalar is a field that is one word of YAML. set says what is expected instead, after "must be", or "".
type scalar interface {
	set(n *yaml.Node) (expected, hint string)
}

// text is what stands there. Words that YAML takes for something else must be quoted, so that nobody wonders.
type text string

func (t *text) set(n *yaml.Node) (expected, hint string) {
	*t = text(n.Value)
	if n.Tag != "!!str" {
		return "text", "put it in quotes: " + strconv.Quote(n.Value)
	}
	return "", ""
}

// value is any single word, letter by letter: 1.10 stays 1.10, 012 stays 012, yes stays yes.
type value string

func (v *value) set(n *yaml.Node) (expected, hint string) {
	*v = value(n.Value)
	switch n.Tag {
	case "!!null":
		return "a value", `write "" for an empty one`
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
		return "", ""
	}
	return "text", "put it in quotes"
}

// JSONSchema tells editors that quotes may be left out.
func (value) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
}

// push is what starts a rollout: "push main", "push main at 0 6 * * 1-5", "tag v*", "schedule 0 6 * * 1-5".
type push deploy.Push

func (p *push) set(n *yaml.Node) (expected, hint string) {
	const wants = "push and the name of a branch, tag and a pattern of tags, or schedule and its times"
	const example = "for example push main, push main at 0 6 * * 1-5, tag v*, or at a later stage schedule 0 6 * * 1-5"
	if times, is := strings.CutPrefix(n.Value, "schedule "); is && n.Tag == "!!str" {
		p.Schedule = times
		return "", ""
	}
	if pattern, is := strings.CutPrefix(n.Value, "tag "); is && n.Tag == "!!str" && pattern != "" {
		p.Tag = pattern
		return "", ""
	}
	rest, is := strings.CutPrefix(n.Value, "push ")
	branch, times, timed := strings.Cut(rest, " at ")
	if n.Tag != "!!str" || !is || timed && times == "" || !regexp.MustCompile(branchPattern).MatchString(branch) {
		return wants, example
	}
	p.Branch, p.Schedule = branch, times
	return "", ""
}

const branchPattern = `^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$`

// JSONSchema says how a push is written.
func (push) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^(push \S+( at \S.*)?|tag \S+|schedule \S.*)$`, Examples: []any{"push main", "push main at 0 6 * * 1-5", "tag v*"}}
}

// access is open or private, or nothing.
type access string

func (a *access) set(n *yaml.Node) (expected, hint string) {
	if n.Value != "open" && n.Value != "private" {
		return "open or private", "without it, prod and production are open, and every other stage is private"
	}
	*a = access(n.Value)
	return "", ""
}

// JSONSchema says which words there are.
func (access) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Enum: []any{"open", "private"}, Examples: []any{"open"}}
}

type count int

func (c *count) set(n *yaml.Node) (expected, hint string) {
	i, err := strconv.Atoi(n.Value)
	if *c = count(i); n.Tag != "!!int" || err != nil || strconv.Itoa(i) != n.Value {
		*c = 1
		return "a whole number", "for example 2"
	}
	return "", ""
}

// dollars are a sum at which people are told: none is not written down as 0.
type dollars int

func (d *dollars) set(n *yaml.Node) (expected, hint string) {
	var c count
	expected, hint = c.set(n)
	if *d = dollars(c); expected == "" && c == 0 {
		return "1 or more", "leave it out for none"
	}
	return expected, hint
}

type cores float64

func (c *cores) set(n *yaml.Node) (expected, hint string) {
	f, err := strconv.ParseFloat(n.Value, 64)
	if n.Tag != "!!int" && n.Tag != "!!float" || err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "a number", "for example 0.5, half a core"
	}
	*c = cores(f)
	return "", ""
}

// JSONSchema says what deploy.App.Problems says.
func (cores) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "number", Minimum: "0.01", Maximum: "1024", Examples: []any{0.5}}
}

type duration time.Duration

func (d *duration) set(n *yaml.Node) (expected, hint string) {
	parsed, err := time.ParseDuration(n.Value)
	switch {
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "a duration with its unit", "for example " + strings.TrimLeft(n.Value, "-+") + "s"
	case strings.HasSuffix(n.Value, "d"):
		return "a duration", "days are not known; for example 48h"
	case n.Tag != "!!str" || err != nil:
		return "a duration", "for example 500ms, 30s, 10m or 1h30m"
	case parsed < 0:
		return "a duration that is not negative", ""
	}
	*d = duration(parsed)
	return "", ""
}

const durationPattern = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`

// JSONSchema says how durations are written.
func (duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: durationPattern, Examples: []any{"30s", "10m", "1h30m"}}
}

// size is in bytes.
type size int64

const sizePattern = `^([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|GB|KiB|MiB|GiB)$`

func (s *size) set(n *yaml.Node) (expected, hint string) {
	found := regexp.MustCompile(sizePattern).FindStringSubmatch(n.Value)
	if found == nil || n.Tag != "!!str" {
		return "a size with its unit", "for example 256MiB or 1.5GiB"
	}
	units := map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	number, err := strconv.ParseFloat(found[1], 64)
	bytes := number * units[found[2]]
	if err != nil || bytes > 1<<50 {
		return "a size that a machine may have", "for example 256MiB or 1.5GiB"
	}
	if *s = size(bytes); *s == 0 {
		return "more than nothing", "leave it out for no limit"
	}
	return "", ""
}

// JSONSchema says how sizes are written.
func (size) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: sizePattern, Examples: []any{"256MiB", "1.5GiB"}}
}

// list is a list of texts.
type list []text

func (l *list) grow() any {
	*l = append(*l, "")
	return &(*l)[len(*l)-1]
}

func (l list) strings() (all []string) {
	for _, t := range l {
		all = append(all, string(t))
	}
	return all
}

// JSONSchema says that lists have no empty entries.
func (list) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}}
}
