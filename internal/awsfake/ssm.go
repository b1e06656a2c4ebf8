package awsfake

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// commands are those that Run Command was given, by id.
type commands map[string]*command

type command struct {
	types.Command
	invocations []*invocation
}

type invocation struct {
	instance       string
	status         types.CommandInvocationStatus
	stdout, stderr string
	code           int32
	start, end     time.Time
}

// mostOutput is what GetCommandInvocation and ListCommandInvocations hand out of an output (API reference): 24,000 and
// 2,500 characters.
const (
	mostOutput  = 24000
	mostListing = 2500
)

func ssmService() *service {
	s := newService("ssm", "", ssmSpelling)
	add(s, "SendCommand", sendCommand, "DocumentName")
	add(s, "GetCommandInvocation", getInvocation, "CommandId", "InstanceId")
	add(s, "ListCommandInvocations", listInvocations)
	add(s, "CancelCommand", cancelCommand, "CommandId")
	add(s, "DescribeInstanceInformation", instanceInformation)
	return s
}

func sendCommand(c *request, in *ssm.SendCommandInput) (*ssm.SendCommandOutput, error) {
	if *in.DocumentName != "AWS-RunShellScript" {
		return nil, refuse("InvalidDocument", "The fake knows the document AWS-RunShellScript only.")
	}
	script := strings.Join(in.Parameters["commands"], "\n")
	if script == "" {
		return nil, refuse("InvalidParameters", "commands must be given")
	}
	targets := slices.Clone(in.InstanceIds)
	for _, target := range in.Targets {
		targets = append(targets, c.targetsOf(target)...)
	}
	for _, id := range in.InstanceIds {
		if c.region.instance(id) == nil {
			return nil, refuse("InvalidInstanceId", "Instances [[%s]] not in a valid state for account %s", id, c.w.options.Account)
		}
	}
	cmd := &command{Command: types.Command{
		CommandId: aws.String(newUUID()), DocumentName: in.DocumentName, InstanceIds: targets, Parameters: in.Parameters, Comment: in.Comment,
		RequestedDateTime: now(), Status: types.CommandStatusPending, TargetCount: int32(len(targets)), Targets: in.Targets,
	}}
	c.region.commands[*cmd.CommandId] = cmd
	limit := time.Hour
	for _, given := range in.Parameters["executionTimeout"] {
		if d, err := time.ParseDuration(given + "s"); err == nil {
			limit = d
		}
	}
	for _, id := range targets {
		c.runOn(cmd, id, script, limit)
	}
	shown := cmd.Command
	return &ssm.SendCommandOutput{Command: &shown}, nil
}

// targetsOf resolves tag:elasticbeanstalk:environment-name and InstanceIds.
func (c *request) targetsOf(target types.Target) (ids []string) {
	for _, e := range c.region.beanstalk.environments {
		for _, i := range e.instances {
			switch aws.ToString(target.Key) {
			case "tag:elasticbeanstalk:environment-name":
				if slices.Contains(target.Values, e.name) {
					ids = append(ids, i.id())
				}
			case "InstanceIds":
				if slices.Contains(target.Values, i.id()) {
					ids = append(ids, i.id())
				}
			}
		}
	}
	return ids
}

func (c *request) runOn(cmd *command, id, script string, limit time.Duration) {
	i, w := c.region.instance(id), c.w
	script = strings.NewReplacer(w.elsewhere...).Replace(script)
	one := &invocation{instance: id, status: types.CommandInvocationStatusPending, code: -1}
	cmd.invocations = append(cmd.invocations, one)
	w.later(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		w.locked(func() { one.status, one.start = types.CommandInvocationStatusInProgress, time.Now() })
		stdout, stderr, code := i.exec(ctx, script)
		w.locked(func() {
			one.stdout, one.stderr, one.code, one.end = stdout, stderr, int32(code), time.Now()
			switch {
			case one.status == types.CommandInvocationStatusCancelled:
			case ctx.Err() != nil:
				one.status = types.CommandInvocationStatusTimedOut
			case code != 0:
				one.status = types.CommandInvocationStatusFailed
			default:
				one.status = types.CommandInvocationStatusSuccess
			}
		})
	})
}

func cut(s string, most int) *string {
	if len(s) > most {
		s = s[:most]
	}
	return &s
}

// statusDetails is the status in words, as the console has it.
func statusDetails(status types.CommandInvocationStatus) *string {
	switch status {
	case types.CommandInvocationStatusInProgress:
		return aws.String("In Progress")
	case types.CommandInvocationStatusTimedOut:
		return aws.String("Execution Timed Out")
	default:
		return aws.String(string(status))
	}
}

func getInvocation(c *request, in *ssm.GetCommandInvocationInput) (*ssm.GetCommandInvocationOutput, error) {
	cmd, there := c.region.commands[*in.CommandId]
	if !there {
		return nil, refuse("InvalidCommandId", "")
	}
	for _, one := range cmd.invocations {
		if one.instance != *in.InstanceId {
			continue
		}
		return &ssm.GetCommandInvocationOutput{
			CommandId: in.CommandId, InstanceId: in.InstanceId, DocumentName: cmd.DocumentName, ResponseCode: one.code, Status: one.status,
			StatusDetails: statusDetails(one.status), StandardOutputContent: cut(one.stdout, mostOutput), StandardErrorContent: cut(one.stderr, mostOutput), PluginName: aws.String("aws:runShellScript"),
		}, nil
	}
	return nil, refuse("InvocationDoesNotExist", "")
}

func listInvocations(c *request, in *ssm.ListCommandInvocationsInput) (*ssm.ListCommandInvocationsOutput, error) {
	found := []types.CommandInvocation{}
	for id, cmd := range c.region.commands {
		if in.CommandId != nil && *in.CommandId != id {
			continue
		}
		for _, one := range cmd.invocations {
			if in.InstanceId != nil && *in.InstanceId != one.instance {
				continue
			}
			d := types.CommandInvocation{
				CommandId: aws.String(id), InstanceId: aws.String(one.instance), DocumentName: cmd.DocumentName, Comment: cmd.Comment,
				Status: one.status, StatusDetails: statusDetails(one.status), RequestedDateTime: cmd.RequestedDateTime,
			}
			if in.Details {
				d.CommandPlugins = []types.CommandPlugin{{Name: aws.String("aws:runShellScript"), Output: cut(one.stdout, mostListing), ResponseCode: one.code, Status: types.CommandPluginStatus(one.status)}}
			}
			found = append(found, d)
		}
	}
	page, next, err := paged(found, in.MaxResults, in.NextToken)
	return &ssm.ListCommandInvocationsOutput{CommandInvocations: page, NextToken: next}, err
}

func cancelCommand(c *request, in *ssm.CancelCommandInput) (*ssm.CancelCommandOutput, error) {
	cmd, there := c.region.commands[*in.CommandId]
	if !there {
		return nil, refuse("InvalidCommandId", "")
	}
	for _, one := range cmd.invocations {
		if one.end.IsZero() {
			one.status = types.CommandInvocationStatusCancelled
		}
	}
	return &ssm.CancelCommandOutput{}, nil
}

func instanceInformation(c *request, in *ssm.DescribeInstanceInformationInput) (*ssm.DescribeInstanceInformationOutput, error) {
	found := []types.InstanceInformation{}
	for _, e := range c.region.beanstalk.environments {
		for _, i := range e.instances {
			found = append(found, types.InstanceInformation{InstanceId: aws.String(i.id()), PingStatus: types.PingStatusOnline, PlatformType: types.PlatformTypeLinux, LastPingDateTime: now()})
		}
	}
	page, next, err := paged(found, in.MaxResults, in.NextToken)
	return &ssm.DescribeInstanceInformationOutput{InstanceInformationList: page, NextToken: next}, err
}

// Commands are the scripts that instances were given, in no order.
func (w *World) Commands() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all strings.Builder
	for _, r := range w.regions {
		for _, cmd := range r.commands {
			all.WriteString(strings.Join(cmd.Parameters["commands"], "\n") + "\n")
		}
	}
	return all.String()
}
