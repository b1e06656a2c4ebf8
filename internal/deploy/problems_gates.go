package deploy

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// gates checks what the app asks, and what stages ask in place of it.
func (c *checker) gates() {
	c.gatesAt([]string{"gates"}, c.app.Gates, false)
	for _, s := range c.app.Stages {
		own := s.Gates
		if reflect.DeepEqual(own.Smoke, c.app.Gates.Smoke) && !s.AWS.Static {
			own.Smoke = nil
		}
		if reflect.DeepEqual(own.PageLoad, c.app.Gates.PageLoad) {
			own.PageLoad = PageLoad{}
		}
		c.gatesAt([]string{"stages", s.Name, "gates"}, own, s.AWS.Static)
	}
}

// gatesAt checks gates; on a platform for files alone nothing can be run.
func (c *checker) gatesAt(at []string, g Gates, static bool) {
	for i, x := range g.Smoke {
		here := field(at, "smoke", x.Name)
		c.label(here, x.Name)
		if slices.ContainsFunc(g.Smoke[:i], func(o Expectation) bool { return o.Name == x.Name }) {
			c.report(here, "", "is there twice")
		}
		c.expectation(here, x, static)
	}
	c.pageLoad(field(at, "page_load"), g.PageLoad)
}

func (c *checker) expectation(at []string, x Expectation, static bool) {
	switch {
	case x.Get == "" && x.Run == "":
		c.report(at, "get: a path that is asked for; run: a command of the release", "must have either get or run")
	case x.Get != "" && x.Run != "":
		c.report(at, "make two smoke tests of it", "must have either get or run, not both")
	case x.Get != "":
		c.pagePath(field(at, "get"), x.Get)
	default:
		c.command(field(at, "run"), x.Run)
		if static {
			c.report(field(at, "run"), "ask with get", "needs a machine, and this stage has files alone")
		}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"status", x.Status != 0}, {"contains", x.Contains != ""}} {
		if f.set && x.Get == "" && x.Run != "" {
			c.report(field(at, f.name), "a command says by its exit code whether all is well", "is only for a smoke test with get")
		}
	}
	if x.Status != 0 && (x.Status < 200 || x.Status > 599) {
		c.report(field(at, "status"), "for example 200", "must be between 200 and 599")
	}
	c.between(field(at, "timeout"), x.Timeout, 100*time.Millisecond, time.Hour)
}

// mostPages bounds how long a gate takes: every page is loaded five times.
const mostPages = 10

func (c *checker) pageLoad(at []string, p PageLoad) {
	if p.Limit != 0 {
		c.between(at, p.Limit, 100*time.Millisecond, time.Minute)
	}
	if len(p.Pages) > mostPages {
		c.report(field(at, "pages"), "name those that matter most", "must not be more than %d", mostPages)
	}
	for i, page := range p.Pages {
		c.pagePath(item(at, "pages", i), page)
		if slices.Contains(p.Pages[:i], page) {
			c.report(item(at, "pages", i), "", "is there twice")
		}
	}
	if p.Network != "" && !slices.Contains(networkNames(), p.Network) {
		c.report(field(at, "network"), suggestion(p.Network, networkNames(), ""), "is not a network that Lotse knows")
	}
	if p.CPU != 0 && (p.CPU < 1 || p.CPU > 20) {
		c.report(field(at, "cpu"), "for example 4x", "must be between 1x and 20x")
	}
}

// pagePath checks a path of the stage, with its query.
func (c *checker) pagePath(at []string, p string) {
	u, err := url.Parse(p)
	switch {
	case !strings.HasPrefix(p, "/"):
		c.report(at, "write it from the / on; the host is the stage's", `must begin with "/"`)
	case err != nil || strings.HasPrefix(p, "//") || strings.ContainsAny(p, " \\") || hasControl(p):
		c.report(at, "for example /login?from=start", "must be the path of a URL")
	case u.Fragment != "" || strings.Contains(p, "#"):
		c.report(at, "", "must end before the #, which no server sees")
	}
}
