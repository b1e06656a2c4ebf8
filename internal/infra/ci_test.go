package infra

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

var ciShapes = []string{"mixed", "static", "no-zone"}

func TestGoldenCI(t *testing.T) {
	for _, name := range ciShapes {
		for form, write := range map[string]writer{"github": GitHubActions, "codepipeline": CodePipeline} {
			t.Run(name+"/"+form, func(t *testing.T) {
				files, err := write(shape(t, name), Options{Version: "v1.2.3"})
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(name, "ci"), files)
			})
		}
	}
}

func workflow(t *testing.T, shapeName string) string {
	t.Helper()
	files, err := GitHubActions(shape(t, shapeName), Options{})
	if err != nil || len(files) != 1 || files[0].Name != ".github/workflows/lotse.yml" {
		t.Fatalf("%v, %v", files, err)
	}
	return files[0].Content
}

// actionlint is the program: the one on the PATH, or one that is built once and kept in the user's cache. It cannot be a library here, since it needs
// another version of the module that reads YAML than Lotse does.
var actionlint = sync.OnceValues(func() (string, error) {
	if path, err := exec.LookPath("actionlint"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "lotse-test", "actionlint-1.7.12")
	built := filepath.Join(dir, "actionlint")
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "install", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return built, nil
})

// lintWorkflow is what actionlint says, with shellcheck where that is.
func lintWorkflow(t *testing.T, content string) string {
	t.Helper()
	program, err := actionlint()
	if err != nil {
		t.Skipf("NOT RUN: actionlint is not on the PATH and cannot be built, so nobody but us has judged the workflow: %v", err)
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Log("NOT RUN: shellcheck is not on the PATH, so nobody has judged the scripts in the workflow")
	}
	dir := write(t, []File{{".github/workflows/lotse.yml", content}})
	out, ok := runs(t, dir, program, "-no-color", "-oneline", ".github/workflows/lotse.yml")
	if ok != (out == "") {
		t.Fatalf("actionlint ended with %v and said %q", ok, out)
	}
	return out
}

// byTag names actions by a tag whose inputs actionlint knows, instead of by a commit.
func byTag(content string) string {
	return regexp.MustCompile(`@[0-9a-f]{40} # v\d+\S*`).ReplaceAllString(content, "@v6")
}

func TestWorkflowIsCleanForActionlint(t *testing.T) {
	for _, name := range ciShapes {
		content := workflow(t, name)
		for _, c := range []string{content, byTag(content)} {
			if said := lintWorkflow(t, c); said != "" {
				t.Errorf("%s: %s", name, said)
			}
		}
	}
}

// Each is a mistake that somebody could make, and actionlint must see it.
func TestActionlintSeesPlantedFaults(t *testing.T) {
	for _, fault := range []struct{ old, new, says string }{
		{"needs: dev", "needs: development", "does not exist"},
		{"id-token: write", "id-tokens: write", "unknown permission"},
		{"persist-credentials: false", "persist-credential: false", "persist-credential"},
		{"${{ github.run_id }}", "${{ github.run_idd }}", "run_idd"},
		{"cancel-in-progress", "cancel-in-progres", "cancel-in-progres"},
		{"role-to-assume:", "role-to-asume:", "role-to-asume"},
	} {
		content := byTag(workflow(t, "mixed"))
		if !strings.Contains(content, fault.old) {
			t.Fatalf("there is no %q to make a fault of", fault.old)
		}
		if said := lintWorkflow(t, strings.Replace(content, fault.old, fault.new, 1)); !strings.Contains(said, fault.says) {
			t.Errorf("%s was not seen: %s", fault.new, said)
		}
	}
}

// job is what of a workflow's job our own rules look at.
type job struct {
	Needs       string            `yaml:"needs"`
	Timeout     int               `yaml:"timeout-minutes"`
	Permissions map[string]string `yaml:"permissions"`
	Environment struct {
		Name string `yaml:"name"`
	} `yaml:"environment"`
	Concurrency struct {
		Group  string `yaml:"group"`
		Cancel *bool  `yaml:"cancel-in-progress"`
	} `yaml:"concurrency"`
	Steps []struct {
		Uses string            `yaml:"uses"`
		Run  string            `yaml:"run"`
		If   string            `yaml:"if"`
		With map[string]string `yaml:"with"`
	} `yaml:"steps"`
}

// rulesOf are our own rules over a workflow; each sentence is one that it breaks.
func rulesOf(t *testing.T, content string) (broken []string) {
	t.Helper()
	var w struct {
		On          map[string]any    `yaml:"on"`
		Permissions map[string]string `yaml:"permissions"`
		Jobs        map[string]job    `yaml:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(content), &w); err != nil {
		t.Fatal(err)
	}
	rule := func(holds bool, sentence string) {
		if !holds {
			broken = append(broken, sentence)
		}
	}
	rule(len(w.On) == 1 && w.On["push"] != nil, "starts on something else than a push")
	rule(w.Permissions != nil && len(w.Permissions) == 0, "has permissions at the top")
	rule(!strings.Contains(content, "pull_request"), "is started by pull requests")
	rule(!strings.Contains(content, "secrets."), "reads a secret")
	for name, j := range w.Jobs {
		rule(cmp.Equal(j.Permissions, map[string]string{"contents": "read", "id-token": "write"}), name+" has other permissions")
		rule(j.Timeout > 0 && j.Timeout < 120, name+" has no time limit within that of the credentials")
		rule(j.Environment.Name == name, name+" has no environment")
		rule(j.Concurrency.Group != "" && j.Concurrency.Cancel != nil && !*j.Concurrency.Cancel, name+" can be ended in the middle")
		for _, s := range j.Steps {
			rule(s.Uses == "" || regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`).MatchString(s.Uses), name+" uses "+s.Uses+", which is not pinned by a commit")
			rule(!strings.Contains(s.Run, "${{"), name+" puts an expression into a script")
			if strings.HasPrefix(s.Uses, "actions/checkout@") {
				rule(s.With["persist-credentials"] == "false" && s.With["fetch-depth"] == "0", name+" checks out otherwise")
			}
		}
		last := j.Steps[len(j.Steps)-1]
		rule(last.Run == "lotse down" && last.If == "always()", name+" does not end the controller whatever happens")
	}
	return broken
}

func TestWorkflowKeepsOurRules(t *testing.T) {
	for _, name := range ciShapes {
		if broken := rulesOf(t, workflow(t, name)); len(broken) > 0 {
			t.Errorf("%s: it %s", name, strings.Join(broken, "; it "))
		}
	}
	for _, fault := range []struct{ old, new string }{
		{"@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7"},
		{"permissions: {}", "permissions: { contents: write }"},
		{"contents: read", "contents: write"},
		{"cancel-in-progress: false", "cancel-in-progress: true"},
		{"persist-credentials: false", "persist-credentials: true"},
		{"on:\n  push:", "on:\n  pull_request_target:\n  push:"},
		{"${{ vars.LOTSE_ROLE }}", "${{ secrets.LOTSE_ROLE }}"},
		{"timeout-minutes: 100", "timeout-minutes: 360"},
		{"if: always()", "if: success()"},
	} {
		content := workflow(t, "mixed")
		if broken := rulesOf(t, strings.Replace(content, fault.old, fault.new, 1)); len(broken) == 0 || !strings.Contains(content, fault.old) {
			t.Errorf("%s breaks no rule", fault.new)
		}
	}
}

// The jobs stand in the order of promotion, and call Lotse as they should. The scripts really run, with a lotse and a go that write down what
// they are asked.
func TestWorkflowCallsLotse(t *testing.T) {
	var w struct {
		Jobs map[string]job `yaml:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(workflow(t, "mixed")), &w); err != nil {
		t.Fatal(err)
	}
	if len(w.Jobs) != 3 || w.Jobs["dev"].Needs != "" || w.Jobs["staging"].Needs != "dev" || w.Jobs["prod"].Needs != "staging" {
		t.Errorf("the jobs are %+v", w.Jobs)
	}
	scripts := func(j job) (all []string) {
		for _, s := range j.Steps {
			if s.Run != "" {
				all = append(all, s.Run)
			}
		}
		return all
	}
	env := []string{"LOTSE_VERSION=v1.2.3", "LOTSE_SHARED=bucket", "GITHUB_SHA=1a2b3c"}
	install := "CGO_ENABLED= go install github.com/lotse-eu/lotse/cmd/lotse@v1.2.3"
	for name, c := range map[string]struct {
		serves string
		want   []string
		ok     bool
	}{
		"dev":     {"", []string{install, "lotse serve --detach --shared bucket", "lotse deploy", "lotse down"}, true},
		"staging": {"1a2b3c", []string{install, "lotse serve --detach --shared bucket", "lotse status --json", "lotse promote staging", "lotse down"}, true},
		"prod":    {"another", []string{install, "lotse serve --detach --shared bucket", "lotse status --json"}, false},
	} {
		before := map[string]string{"staging": "dev", "prod": "staging"}[name]
		s := newSandbox(t, before, c.serves)
		ok := true
		for _, script := range scripts(w.Jobs[name]) {
			if ok = s.run("bash -e", script, env...); !ok {
				break
			}
		}
		if got := s.asked(); ok != c.ok || !slices.Equal(got, c.want) {
			t.Errorf("%s (%v): %s", name, ok, cmp.Diff(c.want, got))
		}
	}
}

// sandbox is a folder in which commands run with stand-ins for lotse and go.
type sandbox struct {
	t   *testing.T
	dir string
}

// newSandbox makes one whose lotse says that the stage before serves a commit.
func newSandbox(t *testing.T, before, serves string) *sandbox {
	t.Helper()
	s := &sandbox{t, t.TempDir()}
	status := `{"stages":[{"stage":{"app":"other","stage":"` + before + `"},"serves":{"commit":"wrong"}},{"stage":{"app":"whatsgonow","stage":"` + before + `"},"serves":{"commit":"` + serves + `"}}]}`
	for name, script := range map[string]string{
		"lotse": `echo "lotse $*" >> "$ASKED"; if [ "$1" = status ]; then echo '` + status + `'; fi; if [ "$1" = "$FAILS" ]; then exit 1; fi`,
		"go":    `if [ "$1" = env ]; then echo /nowhere; else echo "CGO_ENABLED=$CGO_ENABLED go $*" >> "$ASKED"; fi`,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *sandbox) run(shell, script string, env ...string) bool {
	s.t.Helper()
	args := append(strings.Fields(shell), "-c", script)
	cmd := exec.CommandContext(s.t.Context(), args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + s.dir + ":/usr/bin:/bin", "HOME=" + s.dir, "ASKED=" + filepath.Join(s.dir, "asked"), "RUNNER_TEMP=" + s.dir, "GITHUB_ENV=" + filepath.Join(s.dir, "env")}, env...)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		s.t.Fatal(err)
	}
	if err != nil {
		s.t.Logf("%s", out)
	}
	return err == nil
}

func (s *sandbox) asked() []string {
	data, err := os.ReadFile(filepath.Join(s.dir, "asked"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}
