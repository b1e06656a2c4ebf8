package plane

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Rule sends what meets every condition to its action. Of several the one with the smallest priority is taken.
type Rule struct {
	Priority   int
	Conditions []Condition
	Action     Action
}

// Condition is met when one of its values matches. "*" stands for any characters and "?" for one.
type Condition struct {
	Field  string   // host-header, path-pattern, http-header, http-request-method
	Header string   // of http-header: which one
	Values []string // letter case counts in paths and methods only
}

// Action is one of forward, fixed response and redirect.
type Action struct {
	Forward  []Weighted
	Sticky   time.Duration // of the target group: for how long a client stays; 0: not sticky
	Fixed    *FixedResponse
	Redirect *Redirect
}

// FixedResponse is an answer of the balancer itself.
type FixedResponse struct {
	Code        int
	ContentType string // default text/plain
	Body        string
}

// Redirect leads elsewhere. An empty field keeps what the request has; #{protocol}, #{host}, #{port}, #{path}, #{query} stand
// for parts of the request in any field.
type Redirect struct {
	Code                              int // 301 or 302
	Protocol, Host, Port, Path, Query string
}

// Forward is the action that sends requests to target groups by weight.
func Forward(groups ...Weighted) Action { return Action{Forward: groups} }

// Fixed is the action that answers by itself.
func Fixed(code int, body string) Action {
	return Action{Fixed: &FixedResponse{Code: code, Body: body}}
}

const mostGroups = 5 // in one action, a quota of Elastic Load Balancing

func (a Action) check() error {
	kinds := 0
	for _, is := range []bool{len(a.Forward) > 0, a.Fixed != nil, a.Redirect != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("an action is one of forward, fixed response and redirect")
	}
	if len(a.Forward) > mostGroups {
		return fmt.Errorf("%d target groups in one action, the most are %d", len(a.Forward), mostGroups)
	}
	for _, w := range a.Forward {
		if w.Group == nil || w.Weight < 0 || w.Weight > 999 {
			return fmt.Errorf("weight %d of a target group is not within 0 and 999, or there is no group", w.Weight)
		}
	}
	return nil
}

// groups are those that the action forwards to.
func (a Action) groups() []*Group {
	var all []*Group
	for _, w := range a.Forward {
		all = append(all, w.Group)
	}
	return all
}

// compiled is a rule whose patterns are ready.
type compiled struct {
	Rule
	conditions []func(*http.Request) bool
}

func compile(rules []Rule, last Action) ([]compiled, error) {
	all := make([]compiled, 0, len(rules)+1)
	for _, r := range rules {
		c := compiled{Rule: r}
		if err := r.Action.check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.Priority, err)
		}
		for _, condition := range r.Conditions {
			met, err := condition.compile()
			if err != nil {
				return nil, fmt.Errorf("rule %d: %w", r.Priority, err)
			}
			c.conditions = append(c.conditions, met)
		}
		if slices.ContainsFunc(all, func(other compiled) bool { return other.Priority == r.Priority }) {
			return nil, fmt.Errorf("rule %d: the priority is in use", r.Priority)
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b compiled) int { return cmp.Compare(a.Priority, b.Priority) })
	if err := last.check(); err != nil {
		return nil, fmt.Errorf("default rule: %w", err)
	}
	return append(all, compiled{Rule: Rule{Action: last}}), nil
}

func (c Condition) compile() (func(*http.Request) bool, error) {
	var patterns []*regexp.Regexp
	for _, v := range c.Values {
		patterns = append(patterns, wildcard(v, c.Field == "path-pattern" || c.Field == "http-request-method"))
	}
	matches := func(text string) bool {
		return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(text) })
	}
	if len(patterns) == 0 {
		return nil, fmt.Errorf("condition %s has no values", c.Field)
	}
	switch c.Field {
	case "host-header":
		return func(r *http.Request) bool { return matches(hostOf(r.Host)) }, nil
	case "path-pattern":
		return func(r *http.Request) bool { return matches(r.URL.EscapedPath()) }, nil
	case "http-request-method":
		return func(r *http.Request) bool { return matches(r.Method) }, nil
	case "http-header":
		return func(r *http.Request) bool { return slices.ContainsFunc(r.Header.Values(c.Header), matches) }, nil
	}
	return nil, fmt.Errorf("conditions on %q are not known here", c.Field)
}

func wildcard(pattern string, letterCase bool) *regexp.Regexp {
	text := regexp.QuoteMeta(pattern)
	text = strings.ReplaceAll(strings.ReplaceAll(text, `\*`, `.*`), `\?`, `.`)
	if !letterCase {
		text = "(?i)" + text
	}
	return regexp.MustCompile("(?s)^(?:" + text + ")$")
}

func (c compiled) takes(r *http.Request) bool {
	for _, met := range c.conditions {
		if !met(r) {
			return false
		}
	}
	return true
}
