package aws_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
)

// leftovers is what of a stage is on the platform and belongs to no rollout that runs.
func (c *cloud) leftovers(t enginetest.T, s deploy.Stage, running []deploy.Running) []string {
	e := c.open(t, s)
	names, labels, rollouts := map[string]bool{}, map[string]bool{}, map[string]bool{"": true}
	for _, r := range running {
		names[aws.EnvironmentName(e, r.Rollout)], labels[s.Name+"-"+r.Rollout], rollouts[r.Rollout] = true, true, true
	}
	var left []string
	client := eb.NewFromConfig(c.account)
	envs, err := client.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{IncludeDeleted: sdk.Bool(false)})
	if err != nil {
		t.Fatalf("leftovers: %v", err)
	}
	for _, v := range envs.Environments {
		if mine := strings.HasPrefix(*v.EnvironmentName, "shop-"+s.Name+"-"); mine && !names[*v.EnvironmentName] && !strings.HasSuffix(*v.EnvironmentName, "-parking") {
			left = append(left, "environment "+*v.EnvironmentName+" "+string(v.Status))
		}
	}
	versions, err := client.DescribeApplicationVersions(t.Context(), &eb.DescribeApplicationVersionsInput{})
	if err != nil {
		t.Fatalf("leftovers: %v", err)
	}
	for _, v := range versions.ApplicationVersions {
		if strings.HasPrefix(*v.VersionLabel, s.Name+"-") && !labels[*v.VersionLabel] && *v.VersionLabel != s.Name+"-parking." {
			left = append(left, "version "+*v.VersionLabel)
		}
	}
	if scratch, err := os.ReadDir(filepath.Join(c.dir, "scratch")); err == nil {
		for _, f := range scratch {
			left = append(left, "scratch "+f.Name())
		}
	}
	return append(left, c.rulesLeft(t, s, rollouts)...)
}

func (c *cloud) rulesLeft(t enginetest.T, s deploy.Stage, rollouts map[string]bool) (left []string) {
	client := elb.NewFromConfig(c.account)
	balancers, err := client.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{})
	if err != nil {
		t.Fatalf("leftovers: %v", err)
	}
	for _, b := range balancers.LoadBalancers {
		listeners, err := client.DescribeListeners(t.Context(), &elb.DescribeListenersInput{LoadBalancerArn: b.LoadBalancerArn})
		if err != nil {
			continue // one of an environment that goes
		}
		for _, l := range listeners.Listeners {
			rules, err := client.DescribeRules(t.Context(), &elb.DescribeRulesInput{ListenerArn: l.ListenerArn})
			if err != nil {
				continue
			}
			for _, r := range rules.Rules {
				tags, err := client.DescribeTags(t.Context(), &elb.DescribeTagsInput{ResourceArns: []string{*r.RuleArn}})
				if err != nil {
					continue
				}
				of := map[string]string{}
				for _, d := range tags.TagDescriptions {
					for _, tag := range d.Tags {
						of[*tag.Key] = *tag.Value
					}
				}
				if of["lotse:stage"] == s.Name && !rollouts[of["lotse:rollout"]] {
					left = append(left, "rule of "+of["lotse:rollout"])
				}
			}
		}
	}
	return left
}

// written is all that the engine has written anywhere but the app's own variables: logs, tags, options, events, objects, what was logged.
func (c *cloud) written(t enginetest.T) string {
	var all strings.Builder
	all.WriteString(c.log.String())
	client := eb.NewFromConfig(c.account)
	envs, err := client.DescribeEnvironments(t.Context(), &eb.DescribeEnvironmentsInput{})
	if err != nil {
		t.Fatalf("written: %v", err)
	}
	for _, v := range envs.Environments {
		fmt.Fprintf(&all, "%+v\n", show(v))
		if s, err := client.DescribeConfigurationSettings(t.Context(), &eb.DescribeConfigurationSettingsInput{ApplicationName: v.ApplicationName, EnvironmentName: v.EnvironmentName}); err == nil {
			fmt.Fprintln(&all, show(s.ConfigurationSettings))
		}
	}
	if events, err := client.DescribeEvents(t.Context(), &eb.DescribeEventsInput{}); err == nil {
		fmt.Fprintln(&all, show(events.Events))
	}
	logs := cloudwatchlogs.NewFromConfig(c.account)
	if groups, err := logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{}); err == nil {
		for _, g := range groups.LogGroups {
			if lines, err := logs.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: g.LogGroupName}); err == nil {
				fmt.Fprintln(&all, show(lines.Events))
			}
		}
	}
	fmt.Fprintf(&all, "%s\n", c.w.Object(bucket, "stages/dev/fence.json"))
	return all.String()
}

func show(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
