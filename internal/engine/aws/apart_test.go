package aws

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/infra"
)

const twoStages = `
app: shop
services: { web: { command: ./web, path: / } }
database: { postgres: 16 }
aws: { zone: shop.example, balancer: BALANCER }
stages:
  dev:   { url: https://dev.shop.example, engine: aws }
  dev-x: { url: https://x.shop.example, engine: aws }
`

func appWith(t *testing.T, balancer string) deploy.App {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(strings.Replace(twoStages, "BALANCER", balancer, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// Of the stack that infra writes, instances of a stage get that stage's profile and group.
func TestInstancesAreOfTheirStage(t *testing.T) {
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		app := appWith(t, balancer)
		var outputs []types.Output
		for _, name := range infra.Outputs(app) {
			outputs = append(outputs, types.Output{OutputKey: sdk.String(name), OutputValue: sdk.String("of " + name)})
		}
		for i, camel := range []string{"Dev", "DevX"} {
			e := &Engine{Config: Config{App: app.Name, Stage: app.Stages[i]}}
			e.lb = ownBalancer{e}
			s, err := e.parse(outputs)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, o := range e.options(s, 1, 0) {
				if sdk.ToString(o.Namespace) == nsLaunch {
					got[sdk.ToString(o.OptionName)] = sdk.ToString(o.Value)
				}
			}
			if got["IamInstanceProfile"] != "of "+camel+"InstanceProfile" || got["SecurityGroups"] != "of "+camel+"InstanceSecurityGroup" {
				t.Errorf("instances of %s get %v", app.Stages[i].Name, got)
			}
			for j, o := range outputs {
				name := sdk.ToString(o.OutputKey)
				if name != camel+"InstanceProfile" && name != camel+"InstanceSecurityGroup" {
					continue
				}
				without := append(append([]types.Output{}, outputs[:j]...), outputs[j+1:]...)
				if _, err := e.parse(without); !errors.Is(err, deploy.ErrMissing) || !strings.Contains(err.Error(), name) {
					t.Errorf("without %s: %v", name, err)
				}
			}
		}
	}
}

// The role of a stage may write the logs of its environments, as the engine calls those, and of no other's.
func TestLogsAreOfTheirStage(t *testing.T) {
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		app := appWith(t, balancer)
		files, err := infra.Cloudformation(app, infra.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, role, _ := strings.Cut(files[0].Content, "\n  DevInstanceRole:")
		role, _, _ = strings.Cut(role, "\n  DevInstanceProfile:")
		var patterns []string
		for _, found := range regexp.MustCompile(`log-group:(/aws/elasticbeanstalk/[^"/]+)/\*"`).FindAllStringSubmatch(role, -1) {
			patterns = append(patterns, found[1])
		}
		writes := func(group string) bool {
			for _, p := range patterns {
				if is, err := path.Match(p+"/var/log/web.stdout.log", group); err != nil || is {
					return true
				}
			}
			return false
		}
		// What fronts count goes into the stage's own group, as the template calls it.
		var groups []string
		for _, found := range regexp.MustCompile(`log-group:(/lotse/[^":]+)`).FindAllStringSubmatch(role, -1) {
			groups = append(groups, found[1])
		}
		if slices.Sort(groups); !slices.Equal(slices.Compact(groups), []string{"/lotse/shop/dev"}) || !strings.Contains(files[0].Content, `LogGroupName: "/lotse/shop/dev"`) {
			t.Errorf("%s: dev writes what is counted to %v", balancer, groups)
		}
		for _, action := range []string{"logs:CreateLogStream", "logs:PutLogEvents"} {
			if !strings.Contains(role, action) {
				t.Errorf("%s: the role of dev has no %s", balancer, action)
			}
		}
		dev, other := named("shop", "dev"), named("shop", "dev-x")
		if !writes(logGroup(dev.environmentName("r1"))) || balancer == deploy.AWSOwn && !writes(logGroup(dev.parkingName())) {
			t.Errorf("%s: dev cannot write its own logs: %v", balancer, patterns)
		}
		if writes(logGroup(other.environmentName("r1"))) || writes(logGroup(other.parkingName())) {
			t.Errorf("%s: dev may write the logs of dev-x: %v", balancer, patterns)
		}
	}
}
