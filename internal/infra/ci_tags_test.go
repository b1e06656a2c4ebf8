package infra

import (
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// taggedShape is mixed, with what starts its stages.
func taggedShape(t *testing.T, dev, staging, prod string) deploy.App {
	t.Helper()
	app := shape(t, "mixed")
	for i, tag := range []string{dev, staging, prod} {
		if tag != "" {
			app.Stages[i].On = deploy.Push{Tag: tag}
		}
	}
	return app
}

// A tag starts the jobs of the stages that the file says and of those behind them; pushes start the others.
func TestWorkflowOfTags(t *testing.T) {
	for _, c := range []struct {
		dev, staging, prod string
		on                 string
		jobs               map[string]string // name: needs, or the condition
	}{
		{"", "", "v*", "main v*", map[string]string{"dev": "github.ref_type == 'branch'", "staging": "dev", "prod": "github.ref_type == 'tag'"}},
		{"", "v*", "", "main v*", map[string]string{"dev": "github.ref_type == 'branch'", "staging": "github.ref_type == 'tag'", "prod": "staging"}},
		{"release/*", "", "", "release/*", map[string]string{"dev": "", "staging": "dev", "prod": "staging"}},
	} {
		files, err := GitHubActions(taggedShape(t, c.dev, c.staging, c.prod), Options{Version: "v1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		content := files[0].Content
		if said := lintWorkflow(t, byTag(content)); said != "" {
			t.Errorf("%+v: %s", c, said)
		}
		if broken := rulesOf(t, content); len(broken) > 0 {
			t.Errorf("%+v: it %s", c, strings.Join(broken, "; it "))
		}
		var w struct {
			On struct {
				Push struct {
					Branches, Tags []string
				}
			}
			Jobs map[string]struct{ Needs, If string }
		}
		if err := yaml.Unmarshal([]byte(content), &w); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(append(w.On.Push.Branches, w.On.Push.Tags...), " "); got != c.on {
			t.Errorf("%+v: it starts on %s", c, got)
		}
		for name, want := range c.jobs {
			if got := w.Jobs[name].Needs + w.Jobs[name].If; got != want {
				t.Errorf("%+v: %s has %q, want %q", c, name, got, want)
			}
		}
	}
}

// CodePipeline is started by tags where the first stage is, and a mixture is refused, as is what would mean something else there.
func TestPipelineOfTags(t *testing.T) {
	files, err := CodePipeline(taggedShape(t, "v*", "", ""), Options{Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	content := files[0].Content
	if !strings.Contains(content, `Push: [{ Tags: { Includes: ["v*"] } }]`) || !strings.Contains(content, `DetectChanges: "false"`) {
		t.Errorf("it is\n%s", content)
	}
	if out, ok := lint(t, write(t, []File{{"pipeline.yaml", content}}), "pipeline.yaml"); !ok {
		t.Error(out)
	}
}

func TestTagsThatCIDoesNotHave(t *testing.T) {
	for _, c := range []struct {
		write              writer
		dev, staging, prod string
		want               error
		says               string
	}{
		{CodePipeline, "", "", "v*", deploy.ErrUnsupported, "not by both"},
		{GitHubActions, "", "rc*", "v*", deploy.ErrUnsupported, "stages.prod.on: a workflow has one pattern of tags"},
		{GitHubActions, "", "", "v*+build", deploy.ErrBadInput, "cannot be written into a file for CI"},
		{GitHubActions, "", "", "!v*", deploy.ErrBadInput, "cannot be written into a file for CI"},
	} {
		if _, err := c.write(taggedShape(t, c.dev, c.staging, c.prod), Options{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
