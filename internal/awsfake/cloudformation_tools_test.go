package awsfake

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell is a folder in which a program of others is run against a World.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func shellFor(t *testing.T, w *World) shell {
	dir := t.TempDir()
	return shell{t, dir, append(os.Environ(), "AWS_ACCESS_KEY_ID=fake", "AWS_SECRET_ACCESS_KEY=fake", "AWS_DEFAULT_REGION=eu-central-1", "AWS_ENDPOINT_URL="+w.Endpoint(),
		"AWS_CONFIG_FILE="+filepath.Join(dir, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(dir, "none"), "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")}
}

func (s shell) write(name, text string) {
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s shell) try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// does runs a program and wants it to say something.
func (s shell) does(says, program string, args ...string) {
	s.t.Helper()
	began := time.Now()
	out, err := s.try(program, args...)
	s.t.Logf("%5.1f s: %s %s", time.Since(began).Seconds(), filepath.Base(program), strings.Join(args, " "))
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	if !strings.Contains(out, says) {
		s.t.Errorf("%s %s does not say %q:\n%s", program, strings.Join(args, " "), says, out)
	}
}

// aws-cli, which is not ours, makes, changes, compares and deletes a stack.
func TestAwsCliAndStacks(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("NOT RUN: aws-cli is not installed, so that only the SDK has spoken to the fake of CloudFormation")
	}
	w := Open(t, Options{Stack: 1})
	s := shellFor(t, w)
	s.write("shop.yaml", shop)
	deploy := []string{"cloudformation", "deploy", "--stack-name", "shop", "--template-file", "shop.yaml", "--capabilities", "CAPABILITY_NAMED_IAM", "--no-fail-on-empty-changeset"}
	s.does("Successfully created/updated stack - shop", "aws", deploy...)
	s.does("No changes to deploy", "aws", deploy...)
	s.does("shop-files-123456789012", "aws", "cloudformation", "describe-stacks", "--stack-name", "shop", "--query", "Stacks[0].Outputs", "--output", "text")
	s.does("", "aws", "cloudformation", "wait", "stack-create-complete", "--stack-name", "shop")
	s.does("Database", "aws", "cloudformation", "list-stack-resources", "--stack-name", "shop")
	w.ByHand("eu-central-1", "shop", "Database", "BackupRetentionPeriod", "0")
	s.does("StackDriftDetectionId", "aws", "cloudformation", "detect-stack-drift", "--stack-name", "shop")
	s.does("/BackupRetentionPeriod", "aws", "cloudformation", "describe-stack-resource-drifts", "--stack-name", "shop", "--output", "json")
	s.write("shop.yaml", strings.Replace(shop, "BackupRetentionPeriod: 7", "BackupRetentionPeriod: 14", 1))
	s.does("Successfully created/updated stack - shop", "aws", deploy...)
	s.does("UPDATE_COMPLETE", "aws", "cloudformation", "describe-stack-events", "--stack-name", "shop", "--output", "text")
	s.does("", "aws", "cloudformation", "delete-stack", "--stack-name", "shop")
	s.does("", "aws", "cloudformation", "wait", "stack-delete-complete", "--stack-name", "shop")
	if out, err := s.try("aws", "cloudformation", "describe-stacks", "--stack-name", "shop"); err == nil || !strings.Contains(out, "does not exist") {
		t.Errorf("the deleted stack is still told: %s", out)
	}
}

const shopTf = `
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "fake"
  secret_key                  = "fake"
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  skip_credentials_validation = true
}
resource "aws_cloudformation_stack" "shop" {
  name          = "shop"
  template_body = file("shop.yaml")
  capabilities  = ["CAPABILITY_NAMED_IAM"]
  tags          = { "lotse:app" = "shop" }
}
output "where" { value = aws_cloudformation_stack.shop.outputs["Where"] }
`

// terraformPlugins is the folder with the provider: there may be no registry to have it from.
func terraformPlugins(t *testing.T) string {
	for _, dir := range []string{os.Getenv("LOTSE_TF_PLUGINS"), "/opt/tf-plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "registry.terraform.io/hashicorp/aws/5.*/*/terraform-provider-aws*")); dir != "" && len(found) > 0 {
			return dir
		}
	}
	t.Skip("NOT RUN: the AWS provider of Terraform is in no plugin folder (LOTSE_TF_PLUGINS)")
	return ""
}

// Terraform's provider makes a stack, finds it as it is, changes and destroys it.
func TestTerraformAndStacks(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("NOT RUN: Terraform is not installed, so that its provider for AWS has not spoken to the fake of CloudFormation")
	}
	plugins := terraformPlugins(t)
	if os.Getenv("LOTSE_PROVE") != "1" {
		t.Skip("NOT RUN: Terraform takes a minute; asked for by LOTSE_PROVE=1 (make prove)")
	}
	w := Open(t, Options{})
	s := shellFor(t, w)
	s.env = append(s.env, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	s.write("main.tf", shopTf)
	s.write("shop.yaml", shop)
	s.does("successfully initialized", terraform, "init", "-no-color", "-plugin-dir", plugins)
	s.does("eu-central-1/shop-files-123456789012", terraform, "apply", "-no-color", "-auto-approve")
	s.does("No changes", terraform, "plan", "-no-color", "-detailed-exitcode")
	s.write("shop.yaml", strings.Replace(shop, "BackupRetentionPeriod: 7", "BackupRetentionPeriod: 14", 1))
	s.does("1 changed", terraform, "apply", "-no-color", "-auto-approve")
	s.does("No changes", terraform, "plan", "-no-color", "-detailed-exitcode")
	s.does("1 destroyed", terraform, "destroy", "-no-color", "-auto-approve")
}
