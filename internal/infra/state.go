package infra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// tagOfApp is on every stack of ours, and so on what it makes.
const tagOfApp = "lotse:app"

// look finds out how a stack is, and refuses one that is not ours or that cannot be worked with. A stack at work is *busyError.
func (s *session) look(ctx context.Context, st *stack) error {
	found, err := s.describe(ctx, st.api, st.Name)
	if err != nil {
		return s.explain(ctx, err, "cloudformation:DescribeStacks", st.Region)
	}
	st.there, st.shell, st.before = found, false, nil
	switch {
	case found == nil:
		return s.elsewhere(ctx, st)
	case found.StackStatus == types.StackStatusReviewInProgress:
		st.there, st.shell = nil, true
		return s.shellIsOurs(ctx, st)
	}
	if err := s.ours(st); err != nil {
		return err
	}
	if err := s.workable(ctx, st); err != nil {
		return err
	}
	return s.remember(ctx, st)
}

// describe is nil for a stack that is not there.
func (s *session) describe(ctx context.Context, api *cloudformation.Client, name string) (*types.Stack, error) {
	out, err := api.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)})
	var refusal smithy.APIError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode() == "ValidationError" && strings.Contains(refusal.ErrorMessage(), "does not exist"):
		return nil, nil
	case err != nil:
		return nil, err
	case len(out.Stacks) == 0:
		return nil, nil
	}
	return &out.Stacks[0], nil
}

func (s *session) ours(st *stack) error {
	for _, t := range st.there.Tags {
		if aws.ToString(t.Key) == tagOfApp && aws.ToString(t.Value) == s.app.Name {
			return nil
		}
	}
	return deploy.Hint(fmt.Errorf("%w: the stack %s in %s is not this app's: it has no tag %s with the value %s", deploy.ErrRefused, st.Name, st.Region, tagOfApp, s.app.Name),
		"give the app another name in lotse.yaml, or that stack. It was not touched")
}

// shellIsOurs: a stack in REVIEW_IN_PROGRESS holds nothing but change sets.
func (s *session) shellIsOurs(ctx context.Context, st *stack) error {
	sets, err := s.changeSets(ctx, st)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if !strings.HasPrefix(aws.ToString(set.ChangeSetName), setPrefix) {
			return deploy.Hint(fmt.Errorf("%w: somebody is about to make a stack %s in %s: it waits for the change set %s", deploy.ErrRefused, st.Name, st.Region, aws.ToString(set.ChangeSetName)),
				"give the app another name in lotse.yaml, or delete that stack: "+deleteStackCommand(st))
		}
	}
	return nil
}

// elsewhere: a stack that is missing here, and is in another region of the European Union, was left behind by a change of aws.region. Its
// data does not move by itself. Whoever may not look there is not told.
func (s *session) elsewhere(ctx context.Context, st *stack) error {
	if st.Region == EdgeRegion && st.Name != StackName(s.app) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, region := range slices.Sorted(maps.Keys(beanstalkZones)) {
		cfg, err := s.config(ctx, region)
		if err != nil || region == st.Region {
			continue
		}
		api := cloudformation.NewFromConfig(cfg, func(o *cloudformation.Options) { o.RetryMaxAttempts = 1 })
		found, err := s.describe(ctx, api, st.Name)
		if err != nil || found == nil {
			continue
		}
		if other := (&stack{Stack: st.Stack, there: found}); s.ours(other) == nil {
			return deploy.Hint(fmt.Errorf("%w: the stack %s of this app is in %s, and aws.region of lotse.yaml says %s", deploy.ErrRefused, st.Name, region, st.Region),
				"write aws.region: "+region+". Data does not move by itself: to go to another region, make the app there under another name, and copy")
		}
	}
	return nil
}

// busyError is a stack that somebody's operation changes now. It is ErrBusy.
type busyError struct {
	error
	token string
}

func (b *busyError) Unwrap() error { return b.error }

// workable refuses states in which CloudFormation takes no update.
func (s *session) workable(ctx context.Context, st *stack) error {
	status := st.there.StackStatus
	if strings.HasSuffix(string(status), "_IN_PROGRESS") {
		return s.busy(ctx, st)
	}
	words, dead := dead[status]
	if !dead {
		return nil
	}
	events := s.operation(ctx, st)
	because := ""
	if failed := firstFailure(events); failed != nil {
		because = fmt.Sprintf(". What had failed first: %s: %s", aws.ToString(failed.LogicalResourceId), reasonOf(*failed))
	}
	where := fmt.Sprintf("--stack-name %s --region %s", st.Name, st.Region)
	hint := strings.NewReplacer("{delete}", unprotect(events, st.Region)+deleteStackCommand(st), "{where}", where).Replace(words.hint)
	return deploy.Hint(fmt.Errorf("%w: the stack %s in %s is in %s: %s%s%s", deploy.ErrRefused, st.Name, st.Region, status, words.says, because, left(events)), hint)
}

// dead are the states in which a stack takes no update until a person has done something.
var dead = map[types.StackStatus]struct{ says, hint string }{
	types.StackStatusRollbackComplete: {"making it had failed, and it holds nothing", "delete it, and apply again: {delete}"},
	types.StackStatusRollbackFailed:   {"making it had failed, and something of it could not be taken away", lookAtLeft},
	types.StackStatusCreateFailed:     {"making it had failed, and it was left as it was then", lookAtLeft},
	types.StackStatusDeleteFailed:     {"something of it could not be deleted", lookAtLeft},
	types.StackStatusUpdateRollbackFailed: {"an update failed, and so did the way back",
		"put right what stands in the way, then: aws cloudformation continue-update-rollback {where} (with --resources-to-skip for what cannot be put right), and apply again"},
	types.StackStatusUpdateFailed: {"an update without a way back has failed", "let it go back: aws cloudformation rollback-stack {where}, and apply again"},
}

const lookAtLeft = "look whether what is left holds data that you want. Then take away what stands in the way, delete the stack, and apply again: {delete}"

// deleteStackCommand takes the protection away first where there is one.
func deleteStackCommand(st *stack) string {
	where := fmt.Sprintf("--stack-name %s --region %s", st.Name, st.Region)
	command := "aws cloudformation delete-stack " + where
	if st.there != nil && aws.ToBool(st.there.EnableTerminationProtection) {
		command = "aws cloudformation update-termination-protection --no-enable-termination-protection " + where + " && " + command
	}
	return command
}

// operation are the events of the last operation on a stack, none where they are not to be had.
func (s *session) operation(ctx context.Context, st *stack) []types.StackEvent {
	events, err := s.events(ctx, st, func(e types.StackEvent) bool { return begins(st, e) })
	if err != nil {
		return nil
	}
	return events
}

// begins reports whether an event is the first one of an operation on the stack.
func begins(st *stack, e types.StackEvent) bool {
	return ofStack(st, e) && aws.ToString(e.ResourceStatusReason) == "User Initiated"
}

// busy says who is at work, as far as that is known: an operation that Lotse began has its name in a token.
func (s *session) busy(ctx context.Context, st *stack) error {
	events, err := s.events(ctx, st, func(e types.StackEvent) bool { return begins(st, e) })
	if err != nil {
		return s.explain(ctx, err, "cloudformation:DescribeStackEvents", st.Region)
	}
	who, since, token := "somebody", "", ""
	if len(events) > 0 {
		first := events[0]
		token = aws.ToString(first.ClientRequestToken)
		who, since = worker(token), ", since "+aws.ToTime(first.Timestamp).UTC().Format("15:04 UTC")
	}
	return &busyError{token: token, error: deploy.Hint(fmt.Errorf("%w: %s changes the stack %s in %s (%s%s)", deploy.ErrBusy, who, st.Name, st.Region, st.there.StackStatus, since),
		"wait until that is done, and apply again")}
}

// worker is who a token of an operation says that it is of.
func worker(token string) string {
	parts := strings.SplitN(token, "-", 4)
	switch {
	case len(parts) == 4 && parts[0] == "lotse":
		return "an apply of " + strings.Replace(parts[3], "-", "/", 1)
	case strings.HasPrefix(token, "Console-"):
		return "somebody in the console"
	case strings.HasPrefix(token, "terraform-"):
		return "Terraform"
	default:
		return "somebody"
	}
}

// remember reads what the stack was made of, to see what would be kept no longer.
func (s *session) remember(ctx context.Context, st *stack) error {
	out, err := st.api.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String(st.Name), TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return s.explain(ctx, err, "cloudformation:GetTemplate", st.Region)
	}
	if st.before, err = outlineOf(aws.ToString(out.TemplateBody)); err != nil {
		return err
	}
	for _, r := range st.before {
		if r.Kind != nothing {
			return nil
		}
	}
	return deploy.Hint(fmt.Errorf("%w: the stack %s in %s has outputs alone: what they lead to was made by Terraform", deploy.ErrRefused, st.Name, st.Region),
		"go on with Terraform: lotse infra render terraform, terraform plan")
}

// nothing is the kind of resource of a stack that only has outputs, as the one is that Terraform makes for the engine.
const nothing = "AWS::CloudFormation::WaitConditionHandle"

// events are those of a stack back to the first one for which last holds, the oldest first.
func (s *session) events(ctx context.Context, st *stack, last func(types.StackEvent) bool) ([]types.StackEvent, error) {
	var all []types.StackEvent
	pages := cloudformation.NewDescribeStackEventsPaginator(st.api, &cloudformation.DescribeStackEventsInput{StackName: aws.String(st.id())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range page.StackEvents {
			all = append(all, e)
			if last(e) {
				slices.Reverse(all)
				return all, nil
			}
		}
	}
	slices.Reverse(all)
	return all, nil
}

// id is the stack's ARN where it is known: a deleted one has no name any more.
func (st *stack) id() string {
	if st.there != nil {
		return aws.ToString(st.there.StackId)
	}
	return st.Name
}
