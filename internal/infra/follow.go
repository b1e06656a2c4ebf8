package infra

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// follow tells the events of an operation until it ends. nil: the stack is what it should be.
func (w *work) follow(ctx context.Context, st *stack, token string) error {
	told := map[string]bool{}
	pace := w.pace()
	for {
		events, err := w.ofOperation(ctx, st, token)
		if err != nil {
			return w.adrift(st, w.explain(ctx, err, "cloudformation:DescribeStackEvents", st.Region))
		}
		for _, e := range events {
			if id := aws.ToString(e.EventId); !told[id] {
				told[id] = true
				pace.hurry()
				w.tellEvent(st, e)
			}
		}
		if n := len(events); n > 0 && ends(st, events[n-1]) {
			return w.concluded(st, events)
		}
		if err := pace.wait(ctx); err != nil {
			return w.adrift(st, err)
		}
	}
}

// ofOperation are the events with the operation's token, the oldest first. Right after it began there may be none.
func (w *work) ofOperation(ctx context.Context, st *stack, token string) ([]types.StackEvent, error) {
	events, err := w.events(ctx, st, func(e types.StackEvent) bool { return begins(st, e) })
	if err != nil || len(events) == 0 || aws.ToString(events[0].ClientRequestToken) != token {
		return nil, err
	}
	return events, nil
}

// adrift is an error from the middle: what AWS is at goes on without us.
func (w *work) adrift(st *stack, err error) error {
	hint := "AWS goes on with the stack " + st.Name + " without Lotse; the same command follows it"
	if before := deploy.HintOf(err); before != "" {
		hint = before + ". " + hint
	}
	return deploy.Hint(err, hint)
}

func ends(st *stack, e types.StackEvent) bool {
	return ofStack(st, e) && !strings.HasSuffix(string(e.ResourceStatus), "_IN_PROGRESS")
}

func ofStack(st *stack, e types.StackEvent) bool {
	return aws.ToString(e.LogicalResourceId) == st.Name && ofKind(e, "AWS::CloudFormation::Stack")
}

// verbs are how an event's status is told.
var verbs = map[types.ResourceStatus]string{
	types.ResourceStatusCreateInProgress: "is being made",
	types.ResourceStatusCreateComplete:   "is made",
	types.ResourceStatusCreateFailed:     "could not be made",
	types.ResourceStatusUpdateInProgress: "is being changed",
	types.ResourceStatusUpdateComplete:   "is changed",
	types.ResourceStatusUpdateFailed:     "could not be changed",
	types.ResourceStatusDeleteInProgress: "is being deleted",
	types.ResourceStatusDeleteComplete:   "is deleted",
	types.ResourceStatusDeleteFailed:     "could not be deleted, and is left",
	types.ResourceStatusDeleteSkipped:    "is kept, outside of the stack, and costs on",
}

// validation is how CloudFormation says which record makes a certificate valid.
var validation = regexp.MustCompile(`Content of DNS Record is: \{Name: ([^,]+),\s*Type: ([^,]+),\s*Value: ([^}]+)\}`)

// tellEvent says what became of a resource. A certificate waits until a record is in DNS, which nobody but a person may be able to make.
func (w *work) tellEvent(st *stack, e types.StackEvent) {
	name, reason := aws.ToString(e.LogicalResourceId), reasonOf(e)
	verb, known := verbs[e.ResourceStatus]
	switch {
	case ofStack(st, e):
		if strings.Contains(string(e.ResourceStatus), "ROLLBACK_IN_PROGRESS") {
			w.say(fmt.Sprintf("stack %s goes back: %s", st.Name, reason))
		}
	case !known || reason == "Resource creation Initiated":
	case validation.MatchString(aws.ToString(e.ResourceStatusReason)):
		found := validation.FindStringSubmatch(aws.ToString(e.ResourceStatusReason))
		w.say(fmt.Sprintf("%s waits for the record %s %s %s; where Route 53 does not have the zone, make it now", name, found[1], found[2], found[3]))
	case strings.HasSuffix(string(e.ResourceStatus), "_FAILED"):
		w.say(fmt.Sprintf("%s %s: %s", name, verb, reason))
	case e.ResourceStatus == types.ResourceStatusDeleteSkipped:
		w.say(fmt.Sprintf("%s (%s) %s", name, aws.ToString(e.PhysicalResourceId), verb))
	default:
		w.say(fmt.Sprintf("%s (%s) %s", name, aws.ToString(e.ResourceType), verb))
	}
}

func reasonOf(e types.StackEvent) string {
	if reason := aws.ToString(e.ResourceStatusReason); reason != "" {
		return scrubbed(reason)
	}
	return "AWS says no reason"
}

// firstFailure is what made an operation fail: what failed after it was only called off.
func firstFailure(events []types.StackEvent) *types.StackEvent {
	for i, e := range events {
		reason := aws.ToString(e.ResourceStatusReason)
		if strings.HasSuffix(string(e.ResourceStatus), "_FAILED") && !ofKind(e, "AWS::CloudFormation::Stack") &&
			!strings.Contains(reason, "Resource creation cancelled") && !strings.Contains(reason, "Resource update cancelled") {
			return &events[i]
		}
	}
	return nil
}

// concluded is nil for a good end.
func (w *work) concluded(st *stack, events []types.StackEvent) error {
	last := events[len(events)-1]
	if slices.Contains([]types.ResourceStatus{types.ResourceStatusCreateComplete, types.ResourceStatusUpdateComplete, types.ResourceStatusDeleteComplete}, last.ResourceStatus) {
		return nil
	}
	what := fmt.Sprintf("the stack %s in %s ended in %s", st.Name, st.Region, last.ResourceStatus)
	failed := firstFailure(events)
	what += left(events)
	if failed == nil {
		return deploy.Hint(fmt.Errorf("%w: %s: %s", deploy.ErrRefused, what, reasonOf(last)), w.goOn(st, events))
	}
	err := fmt.Errorf("%w: %s (%s) %s: %s; %s", deploy.ErrRefused, aws.ToString(failed.LogicalResourceId), aws.ToString(failed.ResourceType), verbs[failed.ResourceStatus], reasonOf(*failed), what)
	hint := w.goOn(st, events)
	if found := refused.FindStringSubmatch(aws.ToString(failed.ResourceStatusReason)); found != nil {
		resource := "*"
		if strings.HasPrefix(found[2], "arn:") {
			resource = found[2]
		}
		err = fmt.Errorf("%w: %s (%s) %s: %s may not %s; %s", deploy.ErrRefused, aws.ToString(failed.LogicalResourceId), aws.ToString(failed.ResourceType), verbs[failed.ResourceStatus], w.whom(), found[1], what)
		hint = grant(found[1], resource) + ". " + hint
	}
	return deploy.Hint(err, hint)
}

// left says what a way back could not take away, and why. A database is protected from the moment that it is made.
func left(events []types.StackEvent) string {
	var names []string
	for _, e := range events {
		if e.ResourceStatus == types.ResourceStatusDeleteFailed && !ofKind(e, "AWS::CloudFormation::Stack") {
			names = append(names, fmt.Sprintf("%s (%s): %s", aws.ToString(e.LogicalResourceId), aws.ToString(e.PhysicalResourceId), reasonOf(e)))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; what is left: " + strings.Join(names, "; ")
}

func ofKind(e types.StackEvent, kind string) bool { return aws.ToString(e.ResourceType) == kind }

// unprotect is what comes before a stack with a protected database can be deleted.
func unprotect(events []types.StackEvent, region string) string {
	var commands []string
	for _, e := range events {
		if e.ResourceStatus == types.ResourceStatusDeleteFailed && ofKind(e, "AWS::RDS::DBInstance") {
			commands = append(commands, "aws rds modify-db-instance --no-deletion-protection --db-instance-identifier "+aws.ToString(e.PhysicalResourceId)+" --region "+region+" && ")
		}
	}
	return strings.Join(commands, "")
}

// goOn says how to go on from the end of an operation that failed.
func (w *work) goOn(st *stack, events []types.StackEvent) string {
	protected := &stack{Stack: st.Stack, there: &types.Stack{EnableTerminationProtection: aws.Bool(true)}}
	switch events[len(events)-1].ResourceStatus {
	case "ROLLBACK_COMPLETE":
		return "it holds nothing. Put right what failed, delete it, and apply again: " + deleteStackCommand(protected)
	case "DELETE_FAILED":
		return "take away what stands in the way, and destroy again"
	case "ROLLBACK_FAILED":
		return "something of it could not be taken away. Put right what failed, delete the stack, and apply again: " + unprotect(events, st.Region) + deleteStackCommand(protected)
	case "UPDATE_ROLLBACK_COMPLETE":
		return "the stack is what it was before. Put right what failed, and apply again"
	case "UPDATE_ROLLBACK_FAILED":
		return fmt.Sprintf("put right what stands in the way, then: aws cloudformation continue-update-rollback --stack-name %s --region %s, and apply again", st.Name, st.Region)
	default:
		return "look at its events: aws cloudformation describe-stack-events --stack-name " + st.Name + " --region " + st.Region
	}
}
