package deploy

import (
	"path"
	"slices"
	"strings"
	"time"
)

func (c *checker) steps() {
	names := map[string]bool{}
	for _, s := range c.app.Pipeline {
		at := []string{"pipeline", s.Name}
		c.label(at, s.Name)
		if names[s.Name] {
			c.report(at, "", "is there twice")
		}
		names[s.Name] = true
		c.command(field(at, "run"), s.Run)
		c.inCheckout(field(at, "in"), ".", s.In)
		in := s.In
		if outside(in) {
			in = "." // said once
		}
		for i, r := range s.Reads {
			c.inCheckout(item(at, "reads", i), in, r)
		}
		for i, m := range s.Makes {
			c.inCheckout(item(at, "makes", i), in, m)
			if m == "." {
				c.report(item(at, "makes", i), "name the folders and files that it makes", "must not be the whole folder, which holds the sources")
			}
		}
		for i, name := range s.Public {
			if rest, hint := VariableProblem(name); rest != "" {
				c.report(item(at, "public", i), hint, "%s", rest)
			}
			if slices.Contains(c.app.Secrets, name) {
				c.report(item(at, "public", i), "everybody can read it in what the step makes; is it secret, the browser must not have it", "is %s, which is among secrets", name)
			}
		}
		c.between(field(at, "timeout"), s.Timeout, time.Second, 24*time.Hour)
	}
	c.makes()
	c.needs()
}

// makes finds outputs that two steps make, or one step twice: which bytes a release has would depend on which step was last.
func (c *checker) makes() {
	type output struct{ step, path string }
	var before []output
	for _, s := range c.app.Pipeline {
		for i, m := range s.Makes {
			made := output{s.Name, path.Join(s.In, m)}
			for _, other := range before {
				if overlap(made.path, other.path) && m != "." {
					c.report(item([]string{"pipeline", s.Name}, "makes", i), "every output has one step that makes it",
						"is %s, and step %q makes %s", made.path, other.step, other.path)
					break
				}
			}
			before = append(before, made)
		}
	}
}

func (c *checker) needs() {
	var names []string
	for _, s := range c.app.Pipeline {
		names = append(names, s.Name)
	}
	for _, s := range c.app.Pipeline {
		for i, n := range s.Needs {
			at := item([]string{"pipeline", s.Name}, "needs", i)
			switch {
			case n == s.Name:
				c.report(at, "", "must not be the step itself")
			case !slices.Contains(names, n):
				c.report(at, suggestion(n, names, ""), "is %q, which is not a step", n)
			case slices.Contains(s.Needs[:i], n):
				c.report(at, "", "is there twice")
			}
		}
	}
	if circle := c.circle(); circle != nil {
		at := []string{"pipeline", circle[0], "needs"}
		c.report(at, "take one of these needs away", "go in a circle: %s", strings.Join(circle, " → "))
	}
}

// circle returns the first circle of needs, with its first step also at its end. A step that needs itself is told apart.
func (c *checker) circle() []string {
	needs := map[string][]string{}
	for _, s := range c.app.Pipeline {
		needs[s.Name] = s.Needs
	}
	done := map[string]bool{}
	var walk func(trail []string, name string) []string
	walk = func(trail []string, name string) []string {
		if i := slices.Index(trail, name); i >= 0 {
			return append(slices.Clone(trail[i:]), name)
		}
		if done[name] {
			return nil
		}
		done[name] = true
		for _, next := range needs[name] {
			if next == name {
				continue
			}
			if found := walk(append(trail, name), next); found != nil {
				return found
			}
		}
		return nil
	}
	for _, s := range c.app.Pipeline {
		if found := walk(nil, s.Name); found != nil {
			return found
		}
	}
	return nil
}
