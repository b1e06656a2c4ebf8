package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

const onAWS = `
app: parcels
services: { api: { command: bin/parcels, path: / } }
secrets: [PROD_URL]
database: { postgres: 16 }
stages:
  dev:  { url: https://dev.parcels.eu, engine: aws }
  prod: { url: https://www.parcels.eu, engine: aws }
`

// account is a folder with a lotse.yaml, and an account of AWS, which is a fake: what is shown here is not shown of AWS.
type account struct {
	t     *testing.T
	bin   binaries
	world *awsfake.World
	dir   string
	env   []string // besides what every command gets, which it counts more than
}

func newAccount(t *testing.T) *account {
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return &account{t: t, bin: bin, world: awsfake.Open(t, awsfake.Options{}), dir: t.TempDir()}
}

func (a *account) write(file string) {
	if err := os.WriteFile(filepath.Join(a.dir, "lotse.yaml"), []byte(file), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// lotse runs a command with credentials of the account, and none of this machine's.
func (a *account) lotse(args ...string) result {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, a.bin.lotse, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = a.dir, &out, &errs
	cmd.Env = []string{"HOME=" + a.dir, "PATH=" + os.Getenv("PATH"), "AWS_ENDPOINT_URL=" + a.world.Endpoint(), "AWS_ACCESS_KEY_ID=fake", "AWS_SECRET_ACCESS_KEY=fake",
		"AWS_EC2_METADATA_DISABLED=true"}
	cmd.Env = append(cmd.Env, a.env...)
	err := cmd.Run()
	if cmd.ProcessState == nil {
		a.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// says wants an exit code and lines that match, in what is said on either side.
func (a *account) says(r result, code int, patterns ...string) {
	a.t.Helper()
	if r.code != code {
		a.t.Fatalf("exit code %d, want %d\n%s\n%s", r.code, code, r.out, r.err)
	}
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(r.out + r.err) {
			a.t.Errorf("nothing matches %q:\n%s\n%s", p, r.out, r.err)
		}
	}
}

// The infrastructure of an app, from nothing to the end of a database: planned, made, found as it is, changed by hand, and not given up
// without a name.
func TestInfrastructure(t *testing.T) {
	t.Parallel()
	const region, stack = "eu-central-1", "lotse-parcels"
	a := newAccount(t)
	a.write(onAWS)
	a.says(a.lotse("infra", "plan"), 0, `^stack lotse-parcels in eu-central-1, account 123456789012: is not there yet$`, `^  add +ProdDatabase +AWS::RDS::DBInstance`, `^where it is:$`, `^about \d+ to \d+ USD`)
	a.says(a.lotse("infra", "apply", "--yes"), 0, `^ProdDatabase \(AWS::RDS::DBInstance\) is made$`, `^stack lotse-parcels in eu-central-1 is as it is written down$`)
	r := a.lotse("infra", "plan")
	a.says(r, 0, `account 123456789012: is as it is written down$`)
	if strings.Contains(r.out, "changed by hand") {
		t.Errorf("nobody has changed anything by hand:\n%s", r.out)
	}

	a.world.ByHand(region, stack, "ProdDatabase", "BackupRetentionPeriod", "0")
	a.says(a.lotse("infra", "plan"), 0, `^changed by hand:$`, `^  ProdDatabase +BackupRetentionPeriod is 0, and 7 is written down$`)

	before := a.world.Physical(region, stack, "ProdDatabase")
	a.write(strings.Replace(onAWS, "https://www.parcels.eu, engine: aws", "https://www.parcels.eu, engine: aws, database: { url: PROD_URL }", 1))
	a.says(a.lotse("infra", "plan"), 0, `^  remove +ProdDatabase +AWS::RDS::DBInstance .*its data is lost to the app; refused without --replace ProdDatabase$`)
	a.says(a.lotse("infra", "apply", "--yes"), 1, `ProdDatabase \(AWS::RDS::DBInstance\) would be removed`, `--replace ProdDatabase`)
	if before == "" || a.world.Physical(region, stack, "ProdDatabase") != before {
		t.Fatal("the database was touched")
	}
	a.says(a.lotse("infra", "apply", "--yes", "--replace", "ProdDatabase", "--replace", "ProdDatabaseSecret"), 0, `^stack lotse-parcels in eu-central-1 is as it is written down$`)
	if a.world.Physical(region, stack, "ProdDatabase") != "" {
		t.Error("the database is still in the stack")
	}
	a.says(a.lotse("infra", "plan", "--json"), 0, `"state": "is as it is written down"`, `"drift": \[\]`)
	a.says(a.lotse("infra", "destroy", "--yes-destroy", "parcels"), 0, `^DevDatabase \(lotse-parcels-.*\) is kept, outside of the stack, and costs on$`, `^stack lotse-parcels is deleted$`)
}

func TestInfrastructureBadInput(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.says(a.lotse("infra", "plan"), 5, `there is no lotse.yaml`)
	a.write("app: shop\nservices: { web: { command: bin/web, path: / } }\nstages: { dev: { url: https://dev.shop.localhost } }\n")
	a.says(a.lotse("infra", "apply", "--yes"), 2, `no stage of shop has the engine aws`)
	a.write(onAWS + "aws: { account: \"999999999999\" }\n")
	a.says(a.lotse("infra", "plan"), 2, `the credentials are of account 123456789012, and aws.account of lotse.yaml says 999999999999`, `AWS_PROFILE`)
	a.write(onAWS)
	a.world.Deny("cloudformation", "CreateChangeSet")
	a.says(a.lotse("infra", "plan"), 1, `user/lotse may not cloudformation:CreateChangeSet`, `"Action": "cloudformation:CreateChangeSet"`)
	a.says(a.lotse("infra", "apply"), 2, `nobody is there to say yes; nothing was changed`, `--yes`)
	a.says(a.lotse("infra", "destroy", "--yes-destroy", "shop"), 2, `the app of lotse.yaml is parcels, and not shop`)
	a.env = []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}
	r := a.lotse("infra", "plan")
	a.says(r, 1, `there are no credentials for AWS`, `aws sso login`) // as `deploy` and `secrets` say it
	if strings.Contains(r.err, "SDK") || strings.Contains(r.err, "WARN") {
		t.Errorf("the library speaks for itself: %s", r.err)
	}
}
