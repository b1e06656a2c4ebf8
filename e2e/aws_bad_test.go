package e2e_test

import (
	"slices"
	"strings"
	"testing"

	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

// badAWS is something about an account or a file that somebody has to put right. The app has the name of the case.
type badAWS struct {
	name       string
	command    []string // nil: deploy
	file       func(string) string
	world      func(*awsfake.World)
	env        []string // of commands and controller
	stack      bool     // infra apply comes first
	code       int
	says, hint string
}

func badOnes() []badAWS {
	change := func(from, to string) func(string) string {
		return func(file string) string { return strings.Replace(file, from, to, 1) }
	}
	return []badAWS{
		{name: "credentials", env: []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, code: 1, says: "there are no credentials for AWS", hint: "AWS_PROFILE"},
		{name: "account", file: change("aws: { ", `aws: { account: "999999999999", `), code: 2,
			says: "the credentials are of the account 123456789012, and account/dev is in 999999999999", hint: "AWS_PROFILE"},
		{name: "nostack", code: 1, says: "there is no stack lotse-nostack in eu-central-1", hint: "`lotse infra apply` makes it"},
		{name: "rolledback", world: func(w *awsfake.World) {
			w.SetStack(w.Region(), "lotse-rolledback", cf.StackStatusRollbackComplete, nil)
		}, code: 1, says: "ROLLBACK_COMPLETE", hint: "`lotse infra apply` again"},
		{name: "outside", command: []string{"check"}, file: change("aws: { ", "aws: { region: us-east-1, "), code: 2, says: "must be in the European Union", hint: "outside_eu"},
		{name: "outsidedeploy", file: change("aws: { ", "aws: { region: us-east-1, "), code: 2, says: "must be in the European Union", hint: "outside_eu"},
		{name: "zone", command: []string{"check"}, file: change("https://dev.zone.example", "https://dev.elsewhere.example"), code: 2,
			says: "dev.elsewhere.example, which is not in the zone zone.example", hint: "aws.zone"},
		{name: "variables", command: []string{"check"}, file: change("env: { ", "env: { LARGE: "+strings.Repeat("x", 5000)+", "), code: 2,
			says: "stages.dev.env has 5019 bytes, and an environment of Elastic Beanstalk takes 4096", hint: "make the largest a secret"},
		{name: "permission", stack: true, world: func(w *awsfake.World) { w.Deny("elasticbeanstalk", "CreateEnvironment") }, code: 1,
			says: "elasticbeanstalk:CreateEnvironment: these credentials have no permission for it", hint: "the statement Environments of the deployer's policy"},
		{name: "bucket", stack: true, world: func(w *awsfake.World) { w.ForeignBucket("lotse-bucket-releases-" + w.Account()) }, code: 1,
			says: "or the bucket is not ours", hint: "the statement Releases of the deployer's policy"},
	}
}

// What has to be put right is said in words, with what to do, by the exit code that scripts know, and nothing is made in the account.
func TestBadInputOnAWS(t *testing.T) {
	t.Parallel()
	for _, bad := range badOnes() {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			cloudOf(t, awsfake.Options{}).refused(bad)
		})
	}
}

func (c *cloud) refused(bad badAWS) {
	c.t.Helper()
	file := onAWSNow(strings.ReplaceAll(strings.Replace(c.roadFile(""), "app: road", "app: "+bad.name, 1), ".road.localhost", "."+bad.name+".localhost"), bad.name)
	if bad.file != nil {
		changed := bad.file(file)
		if changed == file {
			c.t.Fatal("the file is as it was")
		}
		file = changed
	}
	repo := c.repository(map[string]string{"lotse.yaml": file, "release.txt": "0\n"})
	if bad.stack {
		c.world.Zone(bad.name + ".example")
		c.must(repo, "infra", "apply", "--yes")
	}
	if bad.world != nil {
		bad.world(c.world)
	}
	c.env = append(c.env, bad.env...)
	if bad.command == nil {
		bad.command = []string{"deploy"}
		c.serve()
	}
	c.world.ForgetCalls()
	r := c.lotse(repo, bad.command...)
	if r.code != bad.code || !strings.Contains(r.out+r.err, bad.says) || !strings.Contains(r.out+r.err, bad.hint) {
		c.t.Errorf("exit code %d, want %d, with %q and %q:\n%s%s", r.code, bad.code, bad.says, bad.hint, r.out, r.err)
	}
	if made := c.made(); len(made) > 0 {
		c.t.Errorf("in the account there was made: %v", made)
	}
	if c.world.Heal(); bad.stack {
		if have := c.holdings("lotse-" + bad.name); !slices.Equal(have, []string{"target groups: 0"}) {
			c.t.Errorf("the account holds %v", have)
		}
	}
}

// made is what calls have made that stays: all that was made and not ended again. The number of the stage is kept from the first try on, and
// the stage has its rule, which says that nothing is served.
func (c *cloud) made() (all []string) {
	ends := map[string]int{}
	for _, call := range c.world.Calls() {
		bucket, key, _ := strings.Cut(call.Resource, "/")
		if call.Err != "" || call.Action == "CreateRule" || call.Service == "s3" && (strings.HasPrefix(key, "stages/") || c.world.Object(bucket, key) == nil) {
			continue
		}
		for _, verb := range []string{"Create", "Put", "Modify", "Swap", "Send"} {
			if what, is := strings.CutPrefix(call.Action, verb); is {
				ends[call.Service+":"+what]++
			}
		}
		for _, verb := range []string{"Delete", "Terminate"} {
			if what, is := strings.CutPrefix(call.Action, verb); is {
				ends[call.Service+":"+what]--
			}
		}
	}
	for what, n := range ends {
		if n > 0 {
			all = append(all, what)
		}
	}
	slices.Sort(all)
	return all
}
