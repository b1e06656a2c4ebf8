package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// said is what a command on one instance has said.
type said struct {
	code      int
	out, errs string
	err       error // it did not run, or did not end in time
}

// lotseThere is the lotse of a release on its instances.
const lotseThere = current + "/.lotse/bin/lotse"

// machinesOf are the ids of an environment's instances, in their order: the number of an instance is its place.
func (e *Engine) machinesOf(ctx context.Context, v environment) ([]string, error) {
	out, err := e.api.eb.DescribeEnvironmentResources(ctx, &eb.DescribeEnvironmentResourcesInput{EnvironmentId: &v.id})
	if says(err, "No Environment found") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	if out.EnvironmentResources != nil {
		for _, i := range out.EnvironmentResources.Instances {
			ids = append(ids, sdk.ToString(i.Id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// order runs a script on instances and returns what each has said within limit. Only AWS itself not answering is an error.
func (e *Engine) order(ctx context.Context, ids []string, script string, limit time.Duration) (map[string]said, error) {
	all := map[string]said{}
	if len(ids) == 0 {
		return all, nil
	}
	command, err := e.send(ctx, ids, script, limit)
	if coded(err, "InvalidInstanceId") && len(ids) > 1 { // one of them is not there (yet); the others may be
		for _, id := range ids {
			one, err := e.order(ctx, []string{id}, script, limit)
			if err != nil {
				return nil, err
			}
			all[id] = one[id]
		}
		return all, nil
	}
	if coded(err, "InvalidInstanceId") {
		all[ids[0]] = said{err: fmt.Errorf("%w: the instance is not there for commands", deploy.ErrUnavailable)}
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	err = e.awaitAt(ctx, e.Timing.Poll/6, limit, "the end of a command", func(ctx context.Context) (bool, error) {
		for _, id := range ids {
			if _, has := all[id]; has {
				continue
			}
			s, ended, err := e.hear(ctx, command, id)
			if err != nil {
				return false, err
			}
			if ended {
				all[id] = s
			}
		}
		return len(all) == len(ids), nil
	})
	for _, id := range ids {
		if _, has := all[id]; !has && err != nil {
			all[id] = said{err: fmt.Errorf("%w: the instance did not answer within %s", deploy.ErrUnavailable, limit)}
			e.giveUp(ctx, command, id)
		}
	}
	return all, ctx.Err()
}

func (e *Engine) send(ctx context.Context, ids []string, script string, limit time.Duration) (string, error) {
	seconds := max(int(limit.Seconds()), 30) // no less may be said
	out, err := e.api.ssm.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: sdk.String("AWS-RunShellScript"), InstanceIds: ids,
		Comment: sdk.String("lotse " + e.key()), TimeoutSeconds: sdk.Int32(int32(min(seconds, 2592000))),
		Parameters: map[string][]string{"commands": {script}, "executionTimeout": {fmt.Sprint(min(seconds, 172800))}}})
	if err != nil {
		return "", err
	}
	return sdk.ToString(out.Command.CommandId), nil
}

// hear asks whether a command has ended on an instance, and how.
func (e *Engine) hear(ctx context.Context, command, id string) (said, bool, error) {
	out, err := e.api.ssm.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &command, InstanceId: &id})
	if coded(err, "InvocationDoesNotExist") {
		return said{}, false, nil // it has not got there yet
	}
	if err != nil {
		return said{}, false, err
	}
	s := said{code: int(out.ResponseCode), out: sdk.ToString(out.StandardOutputContent), errs: sdk.ToString(out.StandardErrorContent)}
	switch out.Status {
	case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress, types.CommandInvocationStatusDelayed, types.CommandInvocationStatusCancelling:
		return s, false, nil
	case types.CommandInvocationStatusTimedOut, types.CommandInvocationStatusCancelled:
		s.err = fmt.Errorf("%w: the command on the instance did not end in time", deploy.ErrUnavailable)
	default: // it ran to its end, and its code says how
	}
	return s, true, nil
}

// giveUp ends a command that nobody waits for any more, as well as that can be done.
func (e *Engine) giveUp(ctx context.Context, command, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Timing.Command)
	defer cancel()
	_, _ = e.api.ssm.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &command, InstanceIds: []string{id}}) // else its own time limit ends it
}

// answered is how the front of one instance is.
type answered struct {
	frontStatus
	err error // it did not say
}

// statuses asks every front of an environment how its services are, in the order of the instances' numbers.
func (e *Engine) statuses(ctx context.Context, v environment) ([]answered, error) {
	ids, err := e.machinesOf(ctx, v)
	if err != nil {
		return nil, err
	}
	heard, err := e.order(ctx, ids, lotseThere+" front status", e.Timing.Command)
	if err != nil {
		return nil, err
	}
	all := make([]answered, len(ids))
	for i, id := range ids {
		all[i] = heard[id].status()
	}
	return all, nil
}

func (s said) status() (a answered) {
	switch {
	case s.err != nil:
		a.err = s.err
	case s.code != 0:
		text, _, _ := strings.Cut(strings.TrimSpace(s.errs), "\n")
		a.err = fmt.Errorf("the front does not answer: %s", clean(text))
	default:
		if err := json.Unmarshal([]byte(s.out), &a.frontStatus); err != nil {
			a.err = fmt.Errorf("the front answers something that is no status")
		}
	}
	return a
}

// wrong is what is not well about an environment, nil where all is.
type wrong struct {
	service  string
	instance int
	cause    string
	restarts int
	silent   bool // no front has said it
}

func (w wrong) check() *deploy.CheckError {
	return &deploy.CheckError{Service: w.service, Instance: w.instance, Cause: w.cause}
}

// sick looks for the first thing that is not well.
func sick(l labels, all []answered) *wrong {
	want, first := 1, l.first()
	for _, s := range l.services("") {
		want = max(want, len(s.Instances))
	}
	for i, a := range all {
		if a.err != nil {
			return &wrong{service: first, instance: i, cause: a.err.Error(), silent: true}
		}
		for _, s := range a.Services {
			if !s.Healthy {
				return &wrong{service: s.Name, instance: i, cause: s.Cause, restarts: s.Restarts}
			}
		}
	}
	if len(all) < want {
		return &wrong{service: first, instance: len(all), cause: fmt.Sprintf("%d of %d machines are there", len(all), want), silent: true}
	}
	return nil
}

// tail is the last of what a service of an instance has said, or the front where it has said nothing.
func (e *Engine) tail(ctx context.Context, v environment, w wrong) []string {
	ids, err := e.machinesOf(ctx, v)
	if err != nil || w.instance >= len(ids) {
		return nil
	}
	id := ids[w.instance]
	heard, err := e.order(ctx, []string{id}, "tail -n 200 "+frontOutput, e.Timing.Command)
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(heard[id].out) {
		service, text, ok := readLine(strings.TrimRight(line, "\n"))
		if ok && (service == w.service || service == "" && w.silent) {
			lines = append(lines, text)
		}
	}
	const most = 20
	return lines[max(len(lines)-most, 0):]
}

// stamped is what the platform's logging puts before a line: time, host, process. "Nov 23 10:15:00 ip-10-0-1-2 web[2345]: ".
var stamped = regexp.MustCompile(`^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \S+\[\d+\]: `)

// readLine takes apart one line of the front's output: of a service; or of nobody (service is empty), when the front itself says
// something that is no JSON. Lines of the access log are none.
func readLine(line string) (service, text string, ok bool) {
	if m := stamped.FindString(line); m != "" {
		line = line[len(m):]
	}
	var l frontLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return "", line, line != ""
	}
	if l.Text == nil {
		return "", "", false
	}
	return l.Service, *l.Text, true
}
