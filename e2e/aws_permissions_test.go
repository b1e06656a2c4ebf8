package e2e_test

import (
	"bytes"
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/infra"
)

// iamNames are the permissions of S3 whose names are not those of the calls (Service Authorization Reference, Amazon S3).
var iamNames = map[string]string{"HeadObject": "GetObject", "ListObjectsV2": "ListBucket", "HeadBucket": "ListBucket", "DeleteObjects": "DeleteObject",
	"CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject"}

// permission is what IAM is asked about a call, with the resource as an ARN where the fake knows it; else "".
type permission struct{ action, resource string }

func permissionOf(c awsfake.Call) permission {
	p := permission{action: c.Service + ":" + c.Action, resource: c.Resource}
	switch {
	case c.Service == "s3":
		p.action, p.resource = "s3:"+cmp.Or(iamNames[c.Action], c.Action), "arn:aws:s3:::"+c.Resource
	case c.Service == "secretsmanager" && !strings.HasPrefix(c.Resource, "arn:") && c.Resource != "":
		p.resource = "arn:aws:secretsmanager:" + c.Region + ":123456789012:secret:" + c.Resource + "-a1B2c3" // as its ARN ends
	case c.Service == "rds" && !strings.HasPrefix(c.Resource, "arn:") && c.Resource != "":
		kind := "db"
		if c.Action == "DeleteDBSnapshot" {
			kind = "snapshot"
		}
		p.resource = "arn:aws:rds:" + c.Region + ":123456789012:" + kind + ":" + c.Resource
	}
	if !strings.HasPrefix(p.resource, "arn:") {
		p.resource = "" // an id; or nothing that IAM could narrow
	}
	return p
}

// allows reports whether a statement allows it. What the fake knows no ARN of is judged by its action alone.
func allows(s infra.Statement, p permission) bool {
	if !slices.Contains(s.Actions, p.action) {
		return false
	}
	return p.resource == "" || slices.ContainsFunc(s.Resources, func(pattern string) bool {
		pattern = strings.NewReplacer("{region}", "eu-central-1", "{account}", "123456789012").Replace(pattern)
		return regexp.MustCompile("^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern)) + "$").MatchString(p.resource)
	})
}

// TestDeployerMayDoWhatIsAsked lets everything happen that asks AWS for something in an app with programs, and holds what was asked against
// the policy of whoever deploys: nothing is missing there, and nothing is spare.
func TestDeployerMayDoWhatIsAsked(t *testing.T) {
	t.Parallel()
	provesOnly(t, "the deployer's policy beside what a whole life asks of AWS")
	c := newCloud(t)
	file := onAWSNow(c.roadFile("database: { postgres: 15 }\nsecrets: [TOKEN]\nvolumes: { kept: {} }\n"), "road")
	file = strings.Replace(strings.ReplaceAll(file, "instances: 2", "instances: 1, volumes: { kept: kept }"), "access: open", "access: private", 1)
	c.env = append(c.env, "LOTSE_SHARED=lotse-road-releases-"+c.world.Account())
	c.world.Zone("road.example")
	repo := c.repository(map[string]string{"lotse.yaml": file, "release.txt": "0\n", ".gitignore": "bin/\n"})
	c.must(repo, "infra", "apply", "--yes")
	infraCalls := c.asks()
	c.world.ForgetCalls()
	c.serve()

	for _, value := range []string{"one", "two"} {
		c.told(repo, value, "secrets", "set", "TOKEN", "--stage", "dev")
	}
	c.must(repo, "secrets", "list", "--stage", "dev")
	c.must(repo, "deploy")
	c.must(repo, "secrets", "rm", "TOKEN", "--stage", "dev")
	c.told(repo, "three", "secrets", "set", "TOKEN", "--stage", "dev")
	c.commit(repo, map[string]string{"release.txt": "1\n"})
	c.must(repo, "deploy")
	c.must(repo, "logs", "--stage", "dev")
	c.commit(repo, map[string]string{"lotse.yaml": strings.Replace(file, "bin/app good", "bin/app crash", 1)})
	if r := c.lotse(repo, "deploy"); r.code != 1 || !strings.Contains(r.err, "cannot find the module that it needs") {
		t.Errorf("a release that cannot run: exit code %d, %s", r.code, r.err)
	}
	c.must(repo, "end", "dev", "--yes-end", "road/dev")
	c.must(repo, "down")
	asked := c.asks()

	app, err := config.Read("lotse.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range asked {
		if p.action != "sts:GetCallerIdentity" && !slices.ContainsFunc(infra.Policy(app), func(s infra.Statement) bool { return s.For != infra.ForBeanstalk && allows(s, p) }) {
			t.Errorf("%s of %q is asked, and the deployer's policy does not allow it", p.action, p.resource)
		}
	}
	spare(t, app, asked)
	applying(t, infraCalls)
}

// spare wants a reason for what is allowed and was not asked.
func spare(t *testing.T, app deploy.App, asked []permission) {
	reasons := map[string]string{ // what calls of other services ask for
		"kms:Decrypt": "reading an encrypted object", "kms:GenerateDataKey": "writing one", "kms:CreateGrant": "RestoreDBInstanceFromDBSnapshot", "kms:DescribeKey": "the same", "iam:PassRole": "CreateEnvironment",
	}
	for _, a := range aws.Actions() {
		reasons[a.String()] = a.Why
	}
	for _, s := range infra.Policy(app) {
		for _, action := range s.Actions {
			if s.For != infra.ForBeanstalk && reasons[action] == "" && !slices.ContainsFunc(asked, func(p permission) bool { return p.action == action }) {
				t.Errorf("%s is allowed by the statement %s, and nothing asks for it", action, s.Sid)
			}
		}
	}
}

// applying wants that whoever applies the infrastructure asks for the stack, and for what is planted in what it made: all else
// CloudFormation does in their name.
func applying(t *testing.T, asked []permission) {
	known := []string{"CreateChangeSet", "DescribeChangeSet", "DescribeStackEvents", "DescribeStacks", "ExecuteChangeSet", "GetStackPolicy", "GetTemplate", "ListChangeSets",
		"SetStackPolicy", "UpdateTerminationProtection"}
	for _, p := range asked {
		service, action, _ := strings.Cut(p.action, ":")
		switch {
		case service == "cloudformation" && slices.Contains(known, action), p.action == "route53:ListHostedZonesByName", p.action == "sts:GetCallerIdentity":
		case slices.Contains([]string{"s3:PutObject", "s3:DeleteObject"}, p.action) && // a template that is too long for a call
			strings.HasPrefix(p.resource, "arn:aws:s3:::lotse-road-releases-123456789012/infra/"):
		default:
			t.Errorf("lotse infra apply asks for %s of %q", p.action, p.resource)
		}
	}
}

// asks are all permissions that were asked for, each once.
func (c *cloud) asks() []permission {
	all := map[permission]bool{}
	for _, call := range c.world.Calls() {
		all[permissionOf(call)] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b permission) int {
		return cmp.Or(cmp.Compare(a.action, b.action), cmp.Compare(a.resource, b.resource))
	})
}

// told is must for a command that reads a value.
func (c *cloud) told(dir, value string, args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.bin.lotse, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(value)
	cmd.Env = append(append(os.Environ(), c.env...), "LOTSE_STATE="+filepath.Clean(c.state))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("lotse %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}
