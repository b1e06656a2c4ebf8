package awsfake_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

// allOperations is how many Elastic Beanstalk has (service model of 2010-12-01).
const allOperations = 47

// cliScript is one life of an application, in the words of aws-cli. A line that begins with "until" waits for an environment
// to be in a status; $NAME is filled in. After "|" stands what the answer must hold.
const cliScript = `
check-dns-availability --cname-prefix shop-blue | "Available": true
create-storage-location | elasticbeanstalk-eu-central-1-
create-application --application-name shop --description first --tags Key=team,Value=shop | "ApplicationName": "shop"
describe-applications --application-names shop | "Description": "first"
update-application --application-name shop --description second | "Description": "second"
update-application-resource-lifecycle --application-name shop --resource-lifecycle-config {"ServiceRole":"arn:aws:iam::123456789012:role/service","VersionLifecycleConfig":{"MaxCountRule":{"Enabled":true,"MaxCount":100,"DeleteSourceFromS3":false}}} | "MaxCount": 100
create-application-version --application-name shop --version-label v1 --description one --process | "VersionLabel": "v1"
create-application-version --application-name shop --version-label v2 | "VersionLabel": "v2"
update-application-version --application-name shop --version-label v1 --description uno | "Description": "uno"
describe-application-versions --application-name shop --version-labels v1 | "Status": "Processed"
list-available-solution-stacks | running Node.js 24
list-platform-branches --filters [{"Attribute":"LifecycleState","Operator":"=","Values":["Supported"]}] | "BranchName": "Go 1 running on 64bit Amazon Linux 2023"
list-platform-versions --filters Type=PlatformName,Operator=contains,Values=Docker | "PlatformCategory": "Docker"
describe-platform-version --platform-arn $PLATFORM | "PlatformStatus": "Ready"
create-configuration-template --application-name shop --template-name base --solution-stack-name $NODE | "TemplateName": "base"
update-configuration-template --application-name shop --template-name base --option-settings Namespace=aws:autoscaling:asg,OptionName=MinSize,Value=2 | "TemplateName": "base"
validate-configuration-settings --application-name shop --option-settings Namespace=aws:autoscaling:asg,OptionName=Nonsense,Value=2 | Unknown configuration setting
describe-configuration-options --solution-stack-name $NODE --options Namespace=aws:autoscaling:asg,OptionName=MinSize | "DefaultValue": "1"
create-environment --application-name shop --environment-name shop-blue --cname-prefix shop-blue --version-label v1 --template-name base --tags Key=lotse:stage,Value=prod | "Status": "Launching"
create-environment --application-name shop --environment-name shop-green --version-label v2 --solution-stack-name $NODE | "Status": "Launching"
until shop-blue Ready
until shop-green Ready
describe-environments --environment-names shop-blue | "Health": "Green"
describe-events --environment-name shop-blue --severity INFO | Successfully launched environment: shop-blue
describe-environment-resources --environment-name shop-blue | i-
describe-environment-health --environment-name shop-blue --attribute-names All | "HealthStatus": "Ok"
describe-instances-health --environment-name shop-blue --attribute-names All | "InstanceHealthList"
describe-configuration-settings --application-name shop --environment-name shop-blue | "DeploymentStatus": "deployed"
describe-account-attributes | "Maximum": 1000
request-environment-info --environment-name shop-blue --info-type tail |
retrieve-environment-info --environment-name shop-blue --info-type tail | "InfoType": "tail"
list-tags-for-resource --resource-arn $BLUE | "lotse:stage"
update-tags-for-resource --resource-arn $BLUE --tags-to-add Key=more,Value=yes --tags-to-remove lotse:stage |
associate-environment-operations-role --environment-name shop-blue --operations-role arn:aws:iam::123456789012:role/operations |
disassociate-environment-operations-role --environment-name shop-blue |
describe-environment-managed-actions --environment-name shop-blue | "ManagedActions": []
describe-environment-managed-action-history --environment-name shop-blue | "ManagedActionHistoryItems": []
! apply-environment-managed-action --environment-name shop-blue --action-id none | ManagedActionInvalidStateException
swap-environment-cnames --source-environment-name shop-blue --destination-environment-name shop-green |
until shop-blue Ready
describe-events --environment-name shop-green --max-items 5 | Completed swapping CNAMEs for environments
restart-app-server --environment-name shop-blue |
until shop-blue Ready
rebuild-environment --environment-name shop-blue |
until shop-blue Ready
slow shop-blue
update-environment --environment-name shop-blue --version-label v2 | "Status": "Updating"
abort-environment-update --environment-name shop-blue |
until shop-blue Ready
describe-environments --environment-names shop-blue | "VersionLabel": "v1"
delete-environment-configuration --application-name shop --environment-name shop-blue |
terminate-environment --environment-name shop-blue | "Status": "Terminating"
until shop-blue Terminated
delete-configuration-template --application-name shop --template-name base |
delete-application-version --application-name shop --version-label v1 |
! delete-application --application-name shop | Unable to delete application
delete-application --application-name shop --terminate-env-by-force |
`

type cli struct {
	t    *testing.T
	w    *awsfake.World
	vars *strings.Replacer
	in   *json.Encoder
	out  *json.Decoder
}

// cliHost runs aws-cli's own main for each line of arguments. Starting Python anew for each would take a second.
const cliHost = `
import contextlib, io, json, sys
import awscli.clidriver
driver = awscli.clidriver.create_clidriver()
for line in sys.stdin:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = driver.main(json.loads(line))
        except SystemExit as e:
            code = e.code
    print(json.dumps({"Code": code or 0, "Out": out.getvalue()}), flush=True)
`

// startCLI starts aws-cli where Python has it; NOT RUN elsewhere.
func startCLI(t *testing.T, w *awsfake.World) *cli {
	t.Helper()
	if err := exec.Command("python3", "-c", "import awscli.clidriver").Run(); err != nil {
		t.Skip("NOT RUN: aws-cli (v1, as a package of python3) is not there")
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", cliHost)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDFAKE", "AWS_SECRET_ACCESS_KEY=fake", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &cli{t: t, w: w, in: json.NewEncoder(in), out: json.NewDecoder(out)}
}

// run is one call of aws-cli: what it printed and its exit code.
func (c *cli) run(service string, words ...string) (string, int) {
	c.t.Helper()
	var answer struct {
		Code int
		Out  string
	}
	args := append([]string{"--endpoint-url", c.w.Endpoint(), "--region", c.w.Region(), "--output", "json", service}, words...)
	if err := errors.Join(c.in.Encode(args), c.out.Decode(&answer)); err != nil {
		c.t.Fatalf("aws-cli: %v", err)
	}
	return answer.Out, answer.Code
}

// line runs one line of the script.
func (c *cli) line(line string) (operation string) {
	c.t.Helper()
	command, wanted, _ := strings.Cut(line, " |")
	command, fails := strings.CutPrefix(command, "! ")
	var words []string
	for word := range strings.FieldsSeq(command) {
		words = append(words, c.vars.Replace(word))
	}
	out, code := c.run("elasticbeanstalk", words...)
	if (code != 0) != fails {
		c.t.Errorf("aws elasticbeanstalk %s: exit code %d\n%s", command, code, out)
	}
	if wanted = strings.TrimSpace(wanted); !strings.Contains(out, wanted) {
		c.t.Errorf("aws elasticbeanstalk %s: no %s in the answer:\n%s", command, wanted, out)
	}
	if wanted == "" && strings.TrimSpace(out) != "" && !json.Valid([]byte(out)) {
		c.t.Errorf("aws elasticbeanstalk %s: %s", command, out)
	}
	return words[0]
}

// aws-cli, which checks answers against AWS's own models, drives every Elastic Beanstalk operation that the fake has.
func TestAWSCLIDrivesEveryOperation(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{NoBundles: true})
	client := eb.NewFromConfig(w.Config(""))
	c := startCLI(t, w)
	c.vars = strings.NewReplacer("$NODE", node, "$BLUE", "arn:aws:elasticbeanstalk:eu-central-1:123456789012:environment/shop/shop-blue",
		"$PLATFORM", "arn:aws:elasticbeanstalk:eu-central-1::platform/Go 1 running on 64bit Amazon Linux 2023/4.5.1")
	driven := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(cliScript)) {
		words := strings.Fields(line)
		switch words[0] {
		case "until":
			out, err := client.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{EnvironmentNames: words[1:2]})
			if err != nil || len(out.Environments) == 0 {
				t.Fatalf("%s is not there: %v", words[1], err)
			}
			await(t, client, *out.Environments[0].EnvironmentId, types.EnvironmentStatus(words[2]))
		case "slow":
			w.Trouble(awsfake.Trouble{Environment: words[1], Slower: time.Minute})
		default:
			driven[c.line(strings.TrimSpace(line))] = true
		}
	}
	actions := map[string]bool{}
	for _, call := range w.Calls() {
		actions[call.Action] = true
	}
	t.Logf("aws-cli drove %d of Elastic Beanstalk's %d operations", len(driven), allOperations)
	for _, action := range awsfake.BeanstalkActions() {
		if !actions[action] {
			t.Errorf("aws-cli did not drive %s", action)
		}
	}
}

// The other services, with aws-cli: one life of each thing.
func TestAWSCLIDrivesOtherServices(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.Stack("lotse-shop", map[string]string{"Application": "shop"})
	_, listener := w.Balancer("shop", w.Certificate("shop.example"))
	c := startCLI(t, w)
	for _, one := range []struct{ service, command, wanted string }{
		{"sts", "get-caller-identity", `"Account": "123456789012"`},
		{"cloudformation", "describe-stacks --stack-name lotse-shop", `"OutputValue": "shop"`},
		{"secretsmanager", "create-secret --name shop/key --secret-string first --tags Key=lotse:app,Value=shop", `"Name": "shop/key"`},
		{"secretsmanager", "put-secret-value --secret-id shop/key --secret-string second", "AWSCURRENT"},
		{"secretsmanager", "get-secret-value --secret-id shop/key --version-stage AWSPREVIOUS", `"SecretString": "first"`},
		{"secretsmanager", "list-secrets --filters Key=tag-key,Values=lotse:app", `"Name": "shop/key"`},
		{"secretsmanager", "batch-get-secret-value --secret-id-list shop/key none", `"ErrorCode": "ResourceNotFoundException"`},
		{"secretsmanager", "delete-secret --secret-id shop/key --force-delete-without-recovery", `"Name": "shop/key"`},
		{"elbv2", "describe-rules --listener-arn " + listener, `"Priority": "default"`},
		{"elbv2", "create-target-group --name blue --protocol HTTPS --port 5000 --vpc-id vpc-1", `"TargetGroupName": "blue"`},
		{"logs", "create-log-group --log-group-name /shop", ""},
		{"logs", "put-retention-policy --log-group-name /shop --retention-in-days 30", ""},
		{"logs", "describe-log-groups --log-group-name-prefix /sh", `"retentionInDays": 30`},
		{"service-quotas", "list-service-quotas --service-code elasticbeanstalk", `"QuotaName": "Environments"`},
		{"cloudwatch", "put-metric-data --namespace Shop --metric-name Orders --value 3", ""},
		{"cloudwatch", `get-metric-data --start-time 2020-01-01T00:00:00Z --end-time 2100-01-01T00:00:00Z --metric-data-queries [{"Id":"a","MetricStat":{"Metric":{"Namespace":"Shop","MetricName":"Orders"},"Period":60,"Stat":"Sum"}}]`, `"Values": [`},
		{"s3api", "create-bucket --bucket releases --create-bucket-configuration LocationConstraint=eu-central-1", ""},
		{"s3api", "put-object --bucket releases --key fence.json --if-none-match *", "ETag"},
		{"ssm", "list-command-invocations", `"CommandInvocations": []`},
	} {
		if out, code := c.run(one.service, strings.Fields(one.command)...); code != 0 || !strings.Contains(out, one.wanted) {
			t.Errorf("aws %s %s: exit code %d\n%s", one.service, one.command, code, out)
		}
	}
	if out, code := c.run("s3api", "put-object", "--bucket", "releases", "--key", "fence.json", "--if-none-match", "*"); code == 0 || !strings.Contains(out, "PreconditionFailed") {
		t.Errorf("a second conditional PUT: %d %s", code, out)
	}
}
