package infra

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// ci is what the files for a CI service are filled from.
type ci struct {
	App, Branch, Region, Repository string
	Tag                             string // pattern of the tags that start the first of the stages that tags start; empty: none
	Version, Module                 string // of Lotse
	Static, Databases               bool
	Stages                          []ciStage
	Projects                        []string // of CodeBuild

	// Machines like those that the app runs on, since programs are built there.
	Runner, Container, Image string
}

type ciStage struct {
	Name, URL         string
	Before, BeforeURL string // empty for the first
	Tagged            bool   // a tag starts it, or the stage before in the same run
	Alone             bool   // nothing before it is in its run
}

// First is the stage that takes commits.
func (c ci) First() ciStage { return c.Stages[0] }

// ByBranch reports whether a push to the branch starts anything.
func (c ci) ByBranch() bool { return !c.Stages[0].Tagged }

// Rest are the stages after it.
func (c ci) Rest() []ciStage { return c.Stages[1:] }

// installed is the program that a job installs.
const installed = "github.com/lotse-eu/lotse/cmd/lotse"

// released are versions that `go install` can be asked for.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// unquotable is what has a meaning in the files where a name or an address is put.
const unquotable = "\"'`\\$[]{}\n\r\t "

// ciOf says what a CI service has to do, or why it cannot.
func ciOf(app deploy.App, o Options) (ci, error) {
	if len(app.Stages) == 0 {
		return ci{}, fmt.Errorf("%w: stages: there is none", deploy.ErrBadInput)
	}
	c := ci{App: app.Name, Branch: cmp.Or(app.Stages[0].On.Branch, "main"), Version: "latest", Module: installed, Static: app.Static(), Databases: slices.ContainsFunc(app.Stages, func(s deploy.Stage) bool { return s.Database.Own() }), Projects: []string{"Deploy"},
		Runner: "ubuntu-24.04", Container: "LINUX_CONTAINER", Image: "aws/codebuild/amazonlinux-x86_64-standard:5.0"}
	if released.MatchString(o.Version) {
		c.Version = o.Version
	}
	if o.Machine == "arm64" {
		c.Runner, c.Container, c.Image = "ubuntu-24.04-arm", "ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"
	}
	for i, s := range app.Stages {
		if s.Engine != "aws" {
			return ci{}, deploy.Hint(fmt.Errorf("%w: stages.%s.engine is %s: a CI job ends after minutes, and what it started on its machine with it", deploy.ErrUnsupported,
				s.Name, cmp.Or(s.Engine, "local")), "give every stage the engine aws; stages of this machine are deployed to by a push (docs/push.md)")
		}
		st := ciStage{Name: s.Name, URL: s.URL}
		st.Tagged, st.Alone = s.On.Tag != "", i == 0
		if i > 0 {
			st.Before, st.BeforeURL = app.Stages[i-1].Name, app.Stages[i-1].URL
			st.Alone = st.Tagged && !c.Stages[i-1].Tagged
			st.Tagged = st.Tagged || c.Stages[i-1].Tagged
		}
		if s.On.Tag != "" && c.Tag != "" && s.On.Tag != c.Tag {
			return ci{}, deploy.Hint(fmt.Errorf("%w: stages.%s.on: a workflow has one pattern of tags, and %s has another", deploy.ErrUnsupported, s.Name, c.Tag),
				"give both stages the same pattern")
		}
		c.Tag = cmp.Or(c.Tag, s.On.Tag)
		c.Stages = append(c.Stages, st)
	}
	if len(c.Stages) > 1 {
		c.Projects = append(c.Projects, "Promote")
	}
	c.Region, c.Repository = app.Stages[0].AWS.Region, app.Stages[0].AWS.Repository
	return c, c.writable()
}

// writable refuses what would mean something else in a file. `config` lets none of it in.
func (c ci) writable() error {
	words := []string{c.App, c.Branch, c.Tag, c.Region, c.Repository}
	for _, s := range c.Stages {
		words = append(words, s.Name, s.URL)
	}
	for _, w := range words {
		if strings.ContainsAny(w, unquotable) || w == c.Tag && strings.ContainsAny(w, "+!") { // which a filter of GitHub reads otherwise
			return fmt.Errorf("%w: %q cannot be written into a file for CI", deploy.ErrBadInput, w)
		}
	}
	return nil
}

func (c ci) write(name string) (string, error) {
	text, err := fillWith("ci/"+name, c, template.FuncMap{"lower": strings.ToLower})
	return tidy(text), err
}
