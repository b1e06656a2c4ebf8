package deploy

import (
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *checker) stages() {
	if len(c.app.Stages) == 0 {
		c.report([]string{"stages"}, "for example: stages: { dev: { url: https://dev.shop.localhost } }", "must have at least one stage")
	}
	names, hosts := map[string]bool{}, map[string]string{}
	for i, s := range c.app.Stages {
		at := []string{"stages", s.Name}
		c.label(at, s.Name)
		if wrong := s.On.Problem(); wrong != "" && s.On.Branch != "" {
			c.report(field(at, "on"), "for example push main", "%s", wrong)
		}
		if i > 0 && s.On.Branch != "" {
			c.report(field(at, "on"), "what reached the stage before comes here by `lotse promote "+s.Name+"`, or on: schedule and its times", "must stand at the first stage alone")
		}
		if names[s.Name] {
			c.report(at, "", "is there twice")
		}
		if s.On.Tag != "" && s.On.TagProblem() != "" {
			c.report(field(at, "on"), "for example tag v*", "%s", s.On.TagProblem())
		}
		if s.On.Schedule != "" {
			c.schedule(field(at, "on"), s.On.Schedule)
		}
		if i == 0 && s.On.Schedule != "" && s.On.Branch == "" {
			c.report(field(at, "on"), "for example push main at "+s.On.Schedule, "must say at the first stage which branch is meant")
		}
		names[s.Name] = true
		c.stage(at, s)
		c.rules(at, s, i)
		c.host(field(at, "url"), s.URL, s.Name, hosts)
		for i, r := range s.Redirects {
			c.host(item(at, "redirects", i), r, s.Name, hosts)
		}
	}
}

func (c *checker) stage(at []string, s Stage) {
	if s.Engine != "" && !validLabel(s.Engine) { // which engines there are is known where they are put together
		c.report(field(at, "engine"), "local or aws", "must be the name of an engine")
	}
	if strings.ContainsAny(s.EnvFile, "\\\x00") || outside(s.EnvFile) {
		c.report(field(at, "env_file"), "write .env for a file beside lotse.yaml, or an absolute path", "must be a path beside lotse.yaml or an absolute one")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		c.variable(field(at, "env", name), name, s.Env[name])
	}
	c.between(field(at, "watch"), s.Watch, 0, 24*time.Hour)
	c.between(field(at, "warm"), s.Warm, 0, 7*24*time.Hour)
	c.between(field(at, "stable"), s.Stable, 0, time.Hour)
	c.between(field(at, "drain"), s.Drain, 0, time.Hour)
	c.between(field(at, "old_files"), s.OldFiles, 0, 30*24*time.Hour)
	c.strategy(at, s)
	c.limits(field(at, "limits"), s.Limits)
}

var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// VariableProblem says what is wrong with the name of a variable of a stage: it goes on from the name. Empty: nothing.
func VariableProblem(name string) (rest, hint string) {
	switch {
	case !variablePattern.MatchString(name):
		return "must be a name of letters, digits and _ that does not begin with a digit", ""
	case name == "PORT" || name == "HOST" || strings.HasPrefix(name, "LOTSE_"):
		return "is set by Lotse itself", "take it away: a service listens on the HOST and PORT that it is given"
	}
	return "", ""
}

func (c *checker) variable(at []string, name, value string) {
	if rest, hint := VariableProblem(name); rest != "" {
		c.reportName(at, hint, "%s", rest)
	}
	if strings.Contains(value, "\x00") {
		c.report(at, "", "must not contain a NUL character")
	}
}

// host checks a URL of a stage and that no other URL of the app has its host.
func (c *checker) host(at []string, text, stage string, hosts map[string]string) {
	if text == "" {
		c.report(at, "for example https://dev.shop.localhost", "is missing")
		return
	}
	u, err := url.Parse(text)
	if err != nil {
		c.report(at, "for example https://dev.shop.localhost", "must be a URL")
		return
	}
	before := len(c.found)
	c.address(at, u)
	host := u.Hostname()
	if len(c.found) > before {
		return
	}
	if other, taken := hosts[host]; taken {
		c.report(at, "every host belongs to one stage, once", "has the host %s, which stage %q has already", host, other)
		return
	}
	hosts[host] = stage
}

func (c *checker) address(at []string, u *url.URL) {
	host := u.Hostname()
	switch _, notIP := netip.ParseAddr(host); {
	case u.Scheme != "https":
		c.report(at, "every connection is encrypted; on *.localhost Lotse makes the certificate", `must begin with "https://"`)
	case u.User != nil:
		c.report(at, "", "must not hold a user or a password")
	case host == "":
		c.report(at, "for example https://dev.shop.localhost", "must have a host")
	case notIP == nil:
		c.report(at, "certificates are for names; for this machine: https://dev.shop.localhost", "must have a host name, not an IP address")
	case !validHost(host):
		c.report(at, "small letters, digits and hyphens, with dots between; other letters as xn--…", "must have the name of a host")
	case u.Port() != "" && !validPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
		c.report(at, "", "must have a port between 1 and 65535, or none")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || u.Opaque != "":
		c.report(at, "write "+(&url.URL{Scheme: "https", Host: u.Host}).String(), "must end with the host: a stage has all paths of its host")
	}
}

func validHost(host string) bool {
	if len(host) > 253 {
		return false
	}
	for part := range strings.SplitSeq(host, ".") {
		if !validLabel(part) {
			return false
		}
	}
	return true
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535
}
