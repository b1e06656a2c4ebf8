package infra

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// buildspec is the file of CodeBuild, as far as it is documented for version 0.2 (docs.aws.amazon.com/codebuild/latest/userguide/
// build-spec-ref.html).
type buildspec struct {
	Version string `yaml:"version"`
	RunAs   string `yaml:"run-as"`
	Env     struct {
		Shell                string            `yaml:"shell"`
		Variables            map[string]string `yaml:"variables"`
		ParameterStore       map[string]string `yaml:"parameter-store"`
		SecretsManager       map[string]string `yaml:"secrets-manager"`
		ExportedVariables    []string          `yaml:"exported-variables"`
		GitCredentialsHelper string            `yaml:"git-credential-helper"`
	} `yaml:"env"`
	Proxy struct {
		UploadArtifacts string `yaml:"upload-artifacts"`
		Logs            string `yaml:"logs"`
	} `yaml:"proxy"`
	Phases struct {
		Install   phase `yaml:"install"`
		PreBuild  phase `yaml:"pre_build"`
		Build     phase `yaml:"build"`
		PostBuild phase `yaml:"post_build"`
	} `yaml:"phases"`
	Reports   map[string]any `yaml:"reports"`
	Artifacts map[string]any `yaml:"artifacts"`
	Cache     map[string]any `yaml:"cache"`
}

type phase struct {
	RunAs           string            `yaml:"run-as"`
	OnFailure       string            `yaml:"on-failure"`
	RuntimeVersions map[string]string `yaml:"runtime-versions"`
	Commands        []string          `yaml:"commands"`
	Finally         []string          `yaml:"finally"`
}

// readBuildspec refuses fields that are not documented.
func readBuildspec(content string) (b buildspec, err error) {
	decoder := yaml.NewDecoder(strings.NewReader(content))
	decoder.KnownFields(true)
	err = decoder.Decode(&b)
	if err == nil && b.Version != "0.2" {
		err = errors.New("version: another than 0.2")
	}
	for _, p := range []phase{b.Phases.Install, b.Phases.PreBuild, b.Phases.Build, b.Phases.PostBuild} {
		if err == nil && !slices.Contains([]string{"", "ABORT", "CONTINUE"}, p.OnFailure) {
			err = errors.New("on-failure: " + p.OnFailure)
		}
	}
	return b, err
}

// build runs a buildspec as CodeBuild does: the commands of a phase one after the other, those under finally whatever happened, and no
// further phase after one that failed and says ABORT. All commands share one shell: what is exported stays.
func (s *sandbox) build(b buildspec, env ...string) bool {
	exported := ""
	for _, p := range []phase{b.Phases.Install, b.Phases.PreBuild, b.Phases.Build, b.Phases.PostBuild} {
		ok := s.run("sh -e", exported+strings.Join(p.Commands, "\n"), env...)
		for _, c := range p.Finally {
			ok = s.run("sh -e", exported+c, env...) && ok
		}
		for _, c := range p.Commands {
			if strings.HasPrefix(c, "export ") {
				exported += c + "\n"
			}
		}
		if !ok && p.OnFailure == "ABORT" {
			return false
		}
	}
	return true
}

func codePipeline(t *testing.T, shapeName string) map[string]string {
	t.Helper()
	files, err := CodePipeline(shape(t, shapeName), Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		all[strings.TrimPrefix(f.Name, "codepipeline/")] = f.Content
	}
	return all
}

func TestBuildspecsRun(t *testing.T) {
	files := codePipeline(t, "mixed")
	env := []string{"LOTSE_VERSION=v1.2.3", "LOTSE_SHARED=bucket", "LOTSE_STAGE=staging", "LOTSE_BEFORE=dev", "CODEBUILD_RESOLVED_SOURCE_VERSION=1a2b3c"}
	install, serve := "CGO_ENABLED=0 go install github.com/lotse-eu/lotse/cmd/lotse@v1.2.3", "lotse serve --detach --shared bucket"
	for name, c := range map[string]struct {
		file, serves, fails string
		want                []string
		ok                  bool
	}{
		"deploy":                 {"buildspec-deploy.yml", "", "", []string{install, serve, "lotse deploy", "lotse down"}, true},
		"a deploy that misses":   {"buildspec-deploy.yml", "", "deploy", []string{install, serve, "lotse deploy", "lotse down"}, false},
		"no controller":          {"buildspec-deploy.yml", "", "serve", []string{install, serve, "lotse down"}, false},
		"promote":                {"buildspec-promote.yml", "1a2b3c", "", []string{install, serve, "lotse status --json", "lotse promote staging", "lotse down"}, true},
		"promote of what is not": {"buildspec-promote.yml", "another", "", []string{install, serve, "lotse status --json", "lotse down"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := readBuildspec(files[c.file])
			if err != nil {
				t.Fatal(err)
			}
			s := newSandbox(t, "dev", c.serves)
			ok := s.build(b, append(env, "FAILS="+c.fails)...)
			if got := s.asked(); ok != c.ok || !slices.Equal(got, c.want) {
				t.Errorf("it ended with %v: %s", ok, cmp.Diff(c.want, got))
			}
		})
	}
}

func TestBuildspecIsReadStrictly(t *testing.T) {
	content := codePipeline(t, "mixed")["buildspec-deploy.yml"]
	for _, fault := range []struct{ old, new string }{{"on-failure: ABORT", "on-failures: ABORT"}, {"  build:", "  built:"}, {"version: 0.2", "version: 0.3"}, {"on-failure: ABORT", "on-failure: STOP"}} {
		if _, err := readBuildspec(strings.Replace(content, fault.old, fault.new, 1)); err == nil || !strings.Contains(content, fault.old) {
			t.Errorf("%s was read", fault.new)
		}
	}
}

func TestPipelineIsCleanForCfnLint(t *testing.T) {
	tool(t, "cfn-lint")
	var all []File
	var names []string
	for _, name := range ciShapes {
		names = append(names, name+".yaml")
		all = append(all, File{name + ".yaml", codePipeline(t, name)["pipeline.yaml"]})
	}
	if out, ok := lint(t, write(t, all), names...); !ok {
		t.Error(out)
	}
}

// E3700 to E3703 are cfn-lint's rules over pipelines.
func TestCfnLintSeesPlantedFaultsInThePipeline(t *testing.T) {
	content := codePipeline(t, "mixed")["pipeline.yaml"]
	mustBeSeen(t, spoiltFile{content, []struct{ old, new, rule string }{
		{"Category: Source,", "Category: Build,", "E370"},
		{"PipelineType: V2", "PipelineTypes: V2", "E3002"},
		{"RetentionInDays: 30", "RetentionInDays: 31", "E3030"},
		{"!GetAtt BuildRole.Arn", "!GetAtt BuildersRole.Arn", "E1010"},
	}}, spoiltFile{content, []struct{ old, new, rule string }{
		{"InputArtifacts: [{ Name: repository }]", "InputArtifacts: [{ Name: nothing }]", "E370"},
	}})
}

// Every action of the pipeline's roles is on a named resource, every bucket is private, and every stage but the first is approved.
func TestPipelineKeepsOurRules(t *testing.T) {
	template := parsed(t, codePipeline(t, "mixed")["pipeline.yaml"])
	resources := template["Resources"].(map[string]any)
	for _, name := range []string{"PipelineRole", "BuildRole"} {
		properties := resources[name].(map[string]any)["Properties"].(map[string]any)
		for _, p := range properties["Policies"].([]any) {
			for _, s := range p.(map[string]any)["PolicyDocument"].(map[string]any)["Statement"].([]any) {
				statement := s.(map[string]any)
				if statement["Resource"] == "*" || reflect.DeepEqual(statement["Action"], "*") {
					t.Errorf("%s: the statement %s is about everything", name, statement["Sid"])
				}
			}
		}
	}
	stages := resources["Pipeline"].(map[string]any)["Properties"].(map[string]any)["Stages"].([]any)
	var order []string
	for _, s := range stages {
		for _, a := range s.(map[string]any)["Actions"].([]any) {
			order = append(order, s.(map[string]any)["Name"].(string)+"/"+a.(map[string]any)["Name"].(string))
		}
	}
	if want := []string{"source/push", "dev/deploy", "staging/approve", "staging/promote", "prod/approve", "prod/promote"}; !slices.Equal(order, want) {
		t.Error(cmp.Diff(want, order))
	}
}

// An app that a CI job cannot deploy is refused with the field.
func TestCIRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		app  deploy.App
		says string
	}{
		"a local stage":             {shape(t, "supabase"), "stages.dev.engine is local"},
		"no stages":                 {deploy.App{Name: "shop"}, "stages"},
		"a branch that is a script": {deploy.App{Name: "shop", Stages: []deploy.Stage{{Name: "dev", Engine: "aws", On: deploy.Push{Branch: "$(id)"}}}}, "cannot be written"},
	} {
		for _, write := range []writer{GitHubActions, CodePipeline} {
			files, err := write(c.app, Options{})
			if err == nil || files != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The branch, the machine and the version are those of the app and its builder.
func TestCIFollowsTheApp(t *testing.T) {
	app := shape(t, "mixed")
	app.Stages[0].On.Branch = "trunk"
	files, err := GitHubActions(app, Options{Machine: "arm64", Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`branches: ["trunk"]`, "runs-on: ubuntu-24.04-arm", `LOTSE_VERSION: "v1.2.3"`} {
		if !strings.Contains(files[0].Content, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// With a limit CodeBuild refuses what is too much; without one, it waits (CodeBuild User Guide, "Build concurrency").
func TestBuildsAreNotLimited(t *testing.T) {
	files, err := CodePipeline(shape(t, "mixed"), Options{Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(f.Content, "ConcurrentBuildLimit") {
			t.Errorf("%s limits builds, so the second of two is refused", f.Name)
		}
	}
}
