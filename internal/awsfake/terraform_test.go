package awsfake_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

const terraformConfig = `
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "endpoint" {}
variable "greeting" {}
variable "release" {}
provider "aws" {
  region                  = "eu-central-1"
  access_key              = "AKIDFAKE"
  secret_key              = "fake"
  skip_metadata_api_check = true
  s3_use_path_style       = true
  endpoints {
    elasticbeanstalk = var.endpoint
    s3               = var.endpoint
    sts              = var.endpoint
    iam              = var.endpoint
  }
}
resource "aws_s3_object" "bundle" {
  bucket  = "releases"
  key     = "bundles/${var.release}.zip"
  content = "a bundle: ${var.release}"
}
resource "aws_elastic_beanstalk_application" "shop" {
  name        = "shop"
  description = "made by Terraform"
  tags        = { team = "shop" }
}
resource "aws_elastic_beanstalk_application_version" "release" {
  name        = var.release
  application = aws_elastic_beanstalk_application.shop.name
  bucket      = aws_s3_object.bundle.bucket
  key         = aws_s3_object.bundle.key
  tags        = { "lotse:release" = var.release }
  lifecycle { create_before_destroy = true }
}
resource "aws_elastic_beanstalk_environment" "prod" {
  name                = "shop-prod"
  application         = aws_elastic_beanstalk_application.shop.name
  cname_prefix        = "shop-prod"
  solution_stack_name = "` + node + `"
  version_label       = aws_elastic_beanstalk_application_version.release.name
  poll_interval       = "10s"
  tags                = { "lotse:stage" = "prod" }
  setting {
    namespace = "aws:elasticbeanstalk:application:environment"
    name      = "GREETING"
    value     = var.greeting
  }
  setting {
    namespace = "aws:elasticbeanstalk:environment"
    name      = "LoadBalancerType"
    value     = "application"
  }
}
output "cname" { value = aws_elastic_beanstalk_environment.prod.cname }
`

// pluginFolder finds a folder of Terraform plugins with the AWS provider.
func pluginFolder() string {
	home, _ := os.UserHomeDir()
	places := []string{os.Getenv("LOTSE_TF_PLUGINS"), filepath.Join(home, ".terraform.d", "plugins"), "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"}
	optional, _ := filepath.Glob("/opt/*")
	for _, place := range append(places, optional...) {
		if found, _ := filepath.Glob(filepath.Join(place, "registry.terraform.io", "hashicorp", "aws", "*")); place != "" && len(found) > 0 {
			return place
		}
	}
	return ""
}

type terraform struct {
	t    *testing.T
	dir  string
	vars []string
	w    *awsfake.World
}

func (tf terraform) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(tf.t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "terraform", args...)
	cmd.Dir = tf.dir
	cmd.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_VAR_endpoint="+tf.w.Endpoint(), "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	cmd.Env = append(cmd.Env, tf.vars...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (tf terraform) must(args ...string) string {
	tf.t.Helper()
	began := time.Now()
	out, err := tf.run(args...)
	if err != nil {
		tf.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	tf.t.Logf("terraform %s: %.1f s", args[0], time.Since(began).Seconds())
	return out
}

// The Terraform provider was written against AWS and not by us: it creates, sees no difference, changes and destroys.
func TestTerraformProviderDrivesTheFake(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: the Terraform provider takes minutes; asked for by LOTSE_PROVE=1 (make prove)")
	}
	plugins := pluginFolder()
	if _, err := exec.LookPath("terraform"); err != nil || plugins == "" {
		t.Skip("NOT RUN: terraform, or a plugin folder with hashicorp/aws (LOTSE_TF_PLUGINS), is not there")
	}
	w := awsfake.Open(t, awsfake.Options{})
	w.Bucket("releases")
	tf := terraform{t: t, dir: t.TempDir(), w: w, vars: []string{"TF_VAR_greeting=hello", "TF_VAR_release=v1"}}
	if err := os.WriteFile(filepath.Join(tf.dir, "main.tf"), []byte(terraformConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	tf.must("init", "-no-color", "-plugin-dir="+plugins)
	if out := tf.must("apply", "-no-color", "-auto-approve", "-input=false"); !strings.Contains(out, `cname = "shop-prod.eu-central-1.elasticbeanstalk.com"`) {
		t.Errorf("apply: %s", out)
	}
	tf.must("plan", "-no-color", "-detailed-exitcode", "-input=false") // exit 2 where there is a difference

	tf.vars = []string{"TF_VAR_greeting=good evening", "TF_VAR_release=v2"}
	tf.must("apply", "-no-color", "-auto-approve", "-input=false")
	c := eb.NewFromConfig(w.Config(""))
	out, err := c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentNames: []string{"shop-prod"}})
	if err != nil || len(out.Environments) != 1 || aws.ToString(out.Environments[0].VersionLabel) != "v2" {
		t.Errorf("after the change: %+v, %v", out, err)
	}

	tf.must("destroy", "-no-color", "-auto-approve", "-input=false")
	out, err = c.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{})
	if err != nil || len(out.Environments) != 1 || out.Environments[0].Status != types.EnvironmentStatusTerminated {
		t.Errorf("after destroy: %+v, %v", out, err)
	}
	apps, err := c.DescribeApplications(t.Context(), &eb.DescribeApplicationsInput{})
	if err != nil || len(apps.Applications) != 0 {
		t.Errorf("after destroy: %+v, %v", apps, err)
	}
	actions := map[string]bool{}
	for _, call := range w.Calls() {
		actions[call.Service+":"+call.Action] = true
		if strings.HasPrefix(call.Service, "elasticbeanstalk") && call.Err != "" {
			t.Logf("refused: %+v", call)
		}
	}
	t.Logf("the provider made %d calls of %d kinds", len(w.Calls()), len(actions))
}
