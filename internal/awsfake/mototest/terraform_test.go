package mototest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/infra"
)

// onMoto are the resources of the rendered module that moto can make in a way that Terraform's provider believes: certificates with their
// records, alarms, secrets, logs, buckets, the network, roles. Not: Elastic Beanstalk, budgets, backups of EFS, and databases, for whose end
// of creation the provider waits in vain (TestRenderedOnMoto makes one without it).
var onMoto = []string{"aws_acm_certificate_validation.main", "aws_route53_record.validation", "aws_cloudwatch_metric_alarm.stage_errors", "aws_secretsmanager_secret_version.database",
	"aws_cloudwatch_log_group.stage", "aws_s3_bucket_public_access_block.all", "aws_iam_role_policy.instance", "aws_security_group.instance"}

// Terraform makes these of the rendered module, and sees no difference afterwards.
func TestTerraformOnMoto(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: Terraform on moto takes a minute; asked for by LOTSE_PROVE=1 (make prove)")
	}
	places, _ := filepath.Glob("/opt/*/registry.terraform.io/hashicorp/aws") // a bad pattern alone is an error
	plugins := os.Getenv("LOTSE_TF_PLUGINS")
	if plugins == "" && len(places) > 0 {
		plugins = filepath.Dir(filepath.Dir(filepath.Dir(places[0])))
	}
	terraform, err := exec.LookPath("terraform")
	if err != nil || plugins == "" {
		t.Skip("NOT RUN: terraform, or a plugin folder with hashicorp/aws (LOTSE_TF_PLUGINS), is not there: nothing rendered was made on moto by it")
	}
	cfg := mototest.Start(t, region, "nothing rendered was made by Terraform on services that others wrote")
	if _, err := route53.NewFromConfig(cfg).CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("example.org"), CallerReference: aws.String("x")}); err != nil {
		t.Fatal(err)
	}
	app, err := config.Read("lotse.yaml", []byte(policed))
	if err != nil {
		t.Fatal(err)
	}
	files, err := infra.Terraform(app, infra.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		text := strings.Replace(f.Content, "provider \"aws\" {\n", "provider \"aws\" {\n  s3_use_path_style = true\n", 1)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, terraform, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "AWS_ENDPOINT_URL="+*cfg.BaseEndpoint, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_EC2_METADATA_DISABLED=true",
			"CHECKPOINT_DISABLE=1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
		}
	}
	var targets []string
	for _, r := range onMoto {
		targets = append(targets, "-target="+r)
	}
	run("init", "-no-color", "-plugin-dir="+plugins)
	run(append([]string{"apply", "-no-color", "-auto-approve", "-input=false"}, targets...)...)
	run(append([]string{"plan", "-no-color", "-detailed-exitcode", "-input=false"}, targets...)...) // exit code 2 where there is a difference
}
