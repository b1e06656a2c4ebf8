package infra

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// tool is a program that judges files; without it the test proves nothing and says so.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT RUN: %s is not on the PATH, so nobody but us has judged what is written", name)
	}
	return path
}

// runs starts a program in dir and returns what it said and whether it was content.
func runs(t *testing.T, dir, program string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %s took too long", program, strings.Join(args, " "))
	}
	return string(out), err == nil
}

// E3062 and W3691 know instance classes and versions of databases from an old list.
func lint(t *testing.T, dir string, files ...string) (string, bool) {
	args := append([]string{"--ignore-checks=E3062", "--ignore-checks=W3691", "--format=parseable", "--"}, files...)
	return runs(t, dir, tool(t, "cfn-lint"), args...)
}

// One call for all: it takes seconds to start. What goes into a call of CloudFormation (Compact, seeds) is judged as well.
func TestTemplatesAreCleanForCfnLint(t *testing.T) {
	tool(t, "cfn-lint")
	var all []File
	var names []string
	for name := range shapes {
		files, err := Cloudformation(shape(t, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			all = append(all, File{name + "-" + f.Name, f.Content})
		}
	}
	text, err := Compact(all[0].Content)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, File{"compact.json", text})
	for _, name := range []string{"mixed", "static"} {
		content, _ := mainTemplate(t, shape(t, name))
		seed, err := seedOf(content)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, File{"seed-" + name + ".json", seed})
	}
	for _, f := range all {
		names = append(names, f.Name)
	}
	if out, ok := lint(t, write(t, all), names...); !ok {
		t.Error(out)
	}
}

// spoiltFile is a file with mistakes that somebody could make, and the rules by which cfn-lint must see them.
type spoiltFile struct {
	good   string
	faults []struct{ old, new, rule string }
}

// mustBeSeen lints all spoilt files in one call: it takes seconds to start.
func mustBeSeen(t *testing.T, spoilt ...spoiltFile) {
	t.Helper()
	var bad []File
	var names []string
	for i, s := range spoilt {
		text := s.good
		for _, f := range s.faults {
			if !strings.Contains(text, f.old) {
				t.Fatalf("there is no %q to make a fault of", f.old)
			}
			text = strings.Replace(text, f.old, f.new, 1)
		}
		names = append(names, fmt.Sprintf("spoilt-%d.yaml", i))
		bad = append(bad, File{names[i], text})
	}
	out, ok := lint(t, write(t, bad), names...)
	for i, s := range spoilt {
		for _, f := range s.faults {
			if ok || !regexp.MustCompile(`(?m)^`+names[i]+`:.*:`+f.rule+`\d*:`).MatchString(out) {
				t.Errorf("%s was not seen (%s): %s", f.new, f.rule, out)
			}
		}
	}
}

func TestCfnLintSeesPlantedFaults(t *testing.T) {
	files, err := Cloudformation(shape(t, "mixed"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustBeSeen(t, spoiltFile{files[0].Content, []struct{ old, new, rule string }{
		{"EnableKeyRotation: true", "EnableKeyRotations: true", "E3002"},
		{"Status: Enabled }", "Status: On }", "E3030"},
		{"VpcId: !Ref Vpc", "VpcId: !Ref Vcp", "E1020"},
		{"Type: AWS::EFS::MountTarget", "Type: AWS::EFS::MountPoint", "E3006"},
	}})
}

// plugins is the folder with the provider: there may be no registry to have it from.
func plugins(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("LOTSE_TF_PLUGINS"), "/opt/tf-plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "registry.terraform.io/hashicorp/aws/5.*/*/terraform-provider-aws*")); dir != "" && len(found) > 0 {
			return dir
		}
	}
	t.Skip("NOT RUN: the AWS provider of Terraform is in no plugin folder (LOTSE_TF_PLUGINS), so nobody has judged what is written for Terraform")
	return ""
}

// module writes the files for Terraform and gets it ready.
func module(t *testing.T, files []File) (terraform, dir string) {
	t.Helper()
	terraform, folder := tool(t, "terraform"), plugins(t)
	dir = filepath.Join(write(t, files), "terraform")
	if out, ok := runs(t, dir, terraform, "init", "-backend=false", "-plugin-dir="+folder, "-no-color"); !ok {
		t.Fatal(out)
	}
	return terraform, dir
}

// groupsOf gives the groups of stages ids that a plan knows.
func groupsOf(stages ...string) string {
	var b strings.Builder
	for _, kind := range []string{"instance", "database", "volumes"} {
		for _, s := range stages {
			fmt.Fprintf(&b, "  override_resource {\n    target          = aws_security_group.%s[%q]\n    override_during = plan\n    values          = { id = \"sg-%s-%s\" }\n  }\n", kind, s, kind, s)
		}
	}
	return b.String()
}

// planned is what the plan of a module must say, in Terraform's words. Those without an entry are made of the same files, and are for make
// prove: each takes twenty seconds.
var planned = map[string]string{
	"mixed": groupsOf("dev", "staging", "prod") + `
  assert {
    condition     = length(aws_db_instance.stage) == 3 && alltrue([for d in aws_db_instance.stage : d.storage_encrypted && d.deletion_protection && !d.publicly_accessible])
    error_message = "a database is open, not encrypted or not protected"
  }
  assert {
    condition     = length(aws_efs_mount_target.stage) == 6
    error_message = "a volume is not in both zones"
  }
  assert {
    condition     = aws_lb_listener_rule.redirect["whatsgonow.com"].priority > 40000
    error_message = "the redirect is in the way of the stages' rules"
  }
  assert {
    condition     = length(distinct([for p in aws_iam_instance_profile.instance : p.role])) == 3 && length(distinct([for g in aws_security_group.instance : g.id])) == 3
    error_message = "two stages share a role or a group"
  }
  assert {
    condition     = alltrue(flatten([for stage, d in data.aws_iam_policy_document.instance : [for s in d.statement : [for r in s.resources : !strcontains(r, ":secret:") || endswith(r, ":secret:lotse/whatsgonow/${stage}/*")]]]))
    error_message = "a role reads another stage's secrets"
  }
  assert {
    condition     = alltrue([for stage, d in aws_db_instance.stage : d.vpc_security_group_ids == toset([aws_security_group.database[stage].id])])
    error_message = "a database has another stage's group"
  }
  assert {
    condition     = alltrue([for key, m in aws_efs_mount_target.stage : m.security_groups == toset([aws_security_group.volumes[split("-", key)[0]].id])])
    error_message = "a volume has another stage's group"
  }
  assert {
    condition     = alltrue([for stage, r in aws_vpc_security_group_ingress_rule.database : r.security_group_id == aws_security_group.database[stage].id && r.referenced_security_group_id == aws_security_group.instance[stage].id])
    error_message = "a database admits another stage"
  }
  assert {
    condition     = alltrue([for stage, r in aws_vpc_security_group_ingress_rule.volumes : r.security_group_id == aws_security_group.volumes[stage].id && r.referenced_security_group_id == aws_security_group.instance[stage].id])
    error_message = "a volume admits another stage"
  }
  assert {
    condition     = alltrue([for stage, r in aws_vpc_security_group_egress_rule.balancer : r.referenced_security_group_id == aws_security_group.instance[stage].id]) && length(aws_vpc_security_group_egress_rule.balancer) == 3
    error_message = "the balancer does not reach every stage"
  }
`,
	"static": `
  assert {
    condition     = alltrue([for d in aws_cloudfront_distribution.site : d.viewer_certificate[0].minimum_protocol_version == "TLSv1.2_2021"])
    error_message = "an old TLS is spoken"
  }
  assert {
    condition     = length(aws_s3_bucket_public_access_block.all) == 4 && length(aws_route53_record.redirect) == 2
    error_message = "a bucket may be opened, or a host has no record"
  }
`,
	"own-balancer": `
  assert {
    condition     = aws_route53_record.host["www.rides.eu"].type == "CNAME" && aws_route53_record.top["rides.eu"].type == "A"
    error_message = "the top of the zone cannot be a CNAME"
  }
`,
}

func TestModulesAreCleanForTerraform(t *testing.T) {
	for name := range shapes {
		t.Run(name, func(t *testing.T) {
			if planned[name] == "" && os.Getenv("LOTSE_PROVE") == "" {
				t.Skip("NOT RUN: it takes twenty seconds, `make prove` runs it; Terraform was not asked about this shape")
			}
			files, err := Terraform(shape(t, name), Options{})
			if err != nil {
				t.Fatal(err)
			}
			terraform, dir := module(t, files)
			if out, ok := runs(t, dir, terraform, "fmt", "-check", "-diff", "-no-color"); !ok {
				t.Error(out)
			}
			if out, ok := runs(t, dir, terraform, "validate", "-no-color"); !ok {
				t.Error(out)
			}
			withoutEphemeral(t, dir)
			p, err := planOf(shape(t, name), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "lotse.tftest.hcl"), mocked(t, shape(t, name), p.Hosts, planned[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			out, ok := runs(t, dir, terraform, "test", "-no-color")
			if !ok {
				t.Error(out)
			}
		})
	}
}

// mocked is a test of Terraform with a provider that makes everything up: the module is planned, and the stack that the engine reads is
// looked at. Such a provider makes up no records of a certificate, and no ephemeral resources at all: withoutEphemeral.
func mocked(t *testing.T, app deploy.App, hosts []string, asserts string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/mock.tftest.hcl")
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	for _, h := range hosts {
		records = append(records, fmt.Sprintf("{ domain_name = %q, resource_record_name = \"_x.%s\", resource_record_type = \"CNAME\", resource_record_value = \"y\" }", h, h))
	}
	outputs := slices.Clone(Outputs(app))
	slices.Sort(outputs)
	var arns strings.Builder
	for _, kind := range []string{"aws_lb", "aws_lb_listener", "aws_kms_key", "aws_iam_role", "aws_iam_policy", "aws_sns_topic", "aws_s3_bucket", "aws_secretsmanager_secret",
		"aws_cloudfront_distribution", "aws_cloudfront_function", "aws_efs_file_system", "aws_iam_openid_connect_provider", "aws_cloudwatch_log_delivery_destination"} {
		fmt.Fprintf(&arns, "  mock_resource %q {\n    defaults = { arn = \"arn:aws:some:eu-central-1:123456789012:thing/x\" }\n  }\n", kind)
	}
	edge := ""
	if app.Static() {
		edge = "mock_provider \"aws\" {\n  alias           = \"edge\"\n  override_during = plan\n  mock_resource \"aws_acm_certificate\" {\n    defaults = { arn = \"arn:aws:acm:us-east-1:123456789012:certificate/x\", domain_validation_options = [RECORDS] }\n  }\n" +
			"  mock_resource \"aws_acm_certificate_validation\" {\n    defaults = { certificate_arn = \"arn:aws:acm:us-east-1:123456789012:certificate/x\" }\n  }\n" + arns.String() + "}\n"
	}
	fill := strings.NewReplacer("ARNS", arns.String(), "EDGE", edge, "OUTPUTS", strings.Join(outputs, " "), "ASSERTS", asserts)
	return []byte(strings.ReplaceAll(fill.Replace(string(text)), "RECORDS", strings.Join(records, ", ")))
}

var ephemeral = regexp.MustCompile(`(?ms)^ephemeral .*?^}\n|jsondecode\(ephemeral[^)]*\)\.password|ephemeral\.[a-z_.]+\[each\.key\]\.random_password`)

// withoutEphemeral puts a constant where a password would be: mocked providers have no ephemeral resources (Terraform 1.11).
func withoutEphemeral(t *testing.T, dir string) {
	t.Helper()
	at := filepath.Join(dir, "database.tf")
	text, err := os.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	out := ephemeral.ReplaceAllStringFunc(string(text), func(found string) string {
		if strings.HasPrefix(found, "ephemeral \"") {
			return ""
		}
		return `"made up"`
	})
	if strings.Contains(out, "ephemeral") {
		t.Fatalf("something ephemeral is left:\n%s", out)
	}
	if err := os.WriteFile(at, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
}

// plannable is the module of the example app with its test, ready to be spoilt.
func plannable(t *testing.T) (terraform, dir string) {
	t.Helper()
	app := shape(t, "mixed")
	files, err := Terraform(app, Options{})
	if err != nil {
		t.Fatal(err)
	}
	terraform, dir = module(t, files)
	withoutEphemeral(t, dir)
	p, err := planOf(app, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lotse.tftest.hcl"), mocked(t, app, p.Hosts, planned["mixed"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return terraform, dir
}

func TestTerraformSeesPlantedFaults(t *testing.T) {
	terraform, dir := plannable(t)
	file := filepath.Join(dir, "database.tf")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []struct{ old, new, by, says string }{
		{"storage_encrypted   ", "storage_is_encrypted", "validate", "storage_is_encrypted"},
		{"aws_db_subnet_group.main.name", "aws_db_subnet_group.mine.name", "validate", "undeclared resource"},
		{"  engine ", " engine ", "fmt", "database.tf"},
		{"deletion_protection             = true", "deletion_protection             = false", "test", "not protected"},
	} {
		bad := strings.Replace(string(good), fault.old, fault.new, 1)
		if bad == string(good) {
			t.Fatalf("there is no %q to plant a fault in", fault.old)
		}
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		args := map[string][]string{"validate": {"validate", "-no-color"}, "fmt": {"fmt", "-check", "-no-color"}, "test": {"test", "-no-color"}}[fault.by]
		if out, ok := runs(t, dir, terraform, args...); ok || !strings.Contains(out, fault.says) {
			t.Errorf("terraform %s did not see %q: %s", fault.by, fault.new, out)
		}
	}
}
