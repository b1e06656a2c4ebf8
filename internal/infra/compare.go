package infra

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	setPrefix = "lotse-"

	// stale is how old a change set of ours is that a killed process has left: none is looked at for longer.
	stale = time.Hour

	// tidying is how long cleaning up may take, also after a cancel.
	tidying = time.Minute
)

// changeSet is one that was made.
type changeSet struct {
	name  string
	empty bool // there is nothing to change
}

// compare makes a change set and reads what it would do. Whatever comes of it, discard takes it away again.
func (s *session) compare(ctx context.Context, st *stack) error {
	if err := s.sweep(ctx, st); err != nil {
		return err
	}
	if err := s.fill(ctx, st); err != nil {
		return err
	}
	long, err := s.wantsSeed(st)
	if err != nil {
		return err
	}
	if st.seedling = long; long {
		return s.compareSeedling(ctx, st)
	}
	return s.ask(ctx, st)
}

// ask has CloudFormation work out what would change.
func (s *session) ask(ctx context.Context, st *stack) error {
	name := make([]byte, 8)
	_, _ = rand.Read(name)
	st.set = &changeSet{name: setPrefix + hex.EncodeToString(name)}
	if err := s.create(ctx, st); err != nil {
		return err
	}
	changes, err := s.read(ctx, st)
	if err != nil {
		return err
	}
	st.changes = s.judge(st, changes)
	return nil
}

// sweep deletes what killed processes have left.
func (s *session) sweep(ctx context.Context, st *stack) error {
	if st.there == nil && !st.shell {
		return nil
	}
	sets, err := s.changeSets(ctx, st)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if name := aws.ToString(set.ChangeSetName); strings.HasPrefix(name, setPrefix) && s.Now().Sub(aws.ToTime(set.CreationTime)) > stale {
			if err := s.deleteSet(ctx, st, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) changeSets(ctx context.Context, st *stack) ([]types.ChangeSetSummary, error) {
	var all []types.ChangeSetSummary
	pages := cloudformation.NewListChangeSetsPaginator(st.api, &cloudformation.ListChangeSetsInput{StackName: aws.String(st.Name)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.explain(ctx, err, "cloudformation:ListChangeSets", st.Region)
		}
		all = append(all, page.Summaries...)
	}
	return all, nil
}

func (s *session) create(ctx context.Context, st *stack) error {
	in := &cloudformation.CreateChangeSetInput{
		StackName: aws.String(st.Name), ChangeSetName: aws.String(st.set.name), ClientToken: aws.String(st.set.name),
		ChangeSetType: types.ChangeSetTypeUpdate, Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam},
		Description: aws.String("of lotse infra; may be deleted"), Parameters: st.given,
		Tags: []types.Tag{{Key: aws.String(tagOfApp), Value: aws.String(s.app.Name)}},
	}
	if st.there == nil {
		in.ChangeSetType = types.ChangeSetTypeCreate
	}
	if err := s.body(ctx, st, in); err != nil {
		return err
	}
	_, err := st.api.CreateChangeSet(ctx, in)
	var refusal smithy.APIError
	if errors.As(err, &refusal) && refusal.ErrorCode() == "AlreadyExistsException" {
		return nil // the name is ours alone: an answer was lost, and the call came twice
	}
	if err != nil {
		return s.explain(ctx, err, "cloudformation:CreateChangeSet", st.Region)
	}
	return nil
}

// body hands the template over: in the call where it is short enough, else by way of the app's bucket.
func (s *session) body(ctx context.Context, st *stack, in *cloudformation.CreateChangeSetInput) error {
	if st.seed != "" {
		in.TemplateBody, in.Parameters = aws.String(st.seed), nil // a seed refers to none
		return nil
	}
	text, err := st.short()
	if err != nil {
		return err
	}
	if len(text) <= MaxTemplateBody {
		in.TemplateBody = aws.String(text)
		return nil
	}
	bucket, known := s.output(StackName(s.app), bucketOutput)
	if !known {
		return deploy.Hint(fmt.Errorf("%w: the template of %s has %d bytes, CloudFormation takes %d in a call, and the stack names no bucket from which it could read it", deploy.ErrUnsupported, st.Name, len(text), MaxTemplateBody),
			"apply it yourself, by way of a bucket of yours: lotse infra render cloudformation, aws cloudformation deploy --s3-bucket …")
	}
	in.TemplateURL, err = s.stage(ctx, st, bucket, text)
	return err
}

// read waits until the change set is worked out, and gives all of its changes.
func (s *session) read(ctx context.Context, st *stack) ([]types.ResourceChange, error) {
	in := &cloudformation.DescribeChangeSetInput{StackName: aws.String(st.Name), ChangeSetName: aws.String(st.set.name)}
	pace := s.pace()
	for {
		out, err := st.api.DescribeChangeSet(ctx, in)
		if err != nil {
			return nil, s.explain(ctx, err, "cloudformation:DescribeChangeSet", st.Region)
		}
		switch out.Status {
		case types.ChangeSetStatusFailed:
			return nil, s.failedSet(st, aws.ToString(out.StatusReason))
		case types.ChangeSetStatusCreateComplete:
			return s.pages(ctx, st, in, out)
		default: // not yet
			if err := pace.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

func (s *session) pages(ctx context.Context, st *stack, in *cloudformation.DescribeChangeSetInput, out *cloudformation.DescribeChangeSetOutput) (all []types.ResourceChange, err error) {
	for {
		for _, c := range out.Changes {
			if c.ResourceChange != nil {
				all = append(all, *c.ResourceChange)
			}
		}
		if in.NextToken = out.NextToken; out.NextToken == nil {
			return all, nil
		}
		if out, err = st.api.DescribeChangeSet(ctx, in); err != nil {
			return nil, s.explain(ctx, err, "cloudformation:DescribeChangeSet", st.Region)
		}
	}
}

// failedSet tells an empty change set from one that AWS could not make. Both have the status FAILED; the reason alone says which.
func (s *session) failedSet(st *stack, reason string) error {
	if strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed") {
		st.set.empty = true
		return nil
	}
	if found := refused.FindString(reason); found != "" {
		return s.denied(reason, "cloudformation:CreateChangeSet")
	}
	return deploy.Hint(fmt.Errorf("%w: CloudFormation does not take the template of %s: %s", deploy.ErrRefused, st.Name, scrubbed(reason)),
		"look at it with lotse infra render cloudformation")
}

// discard takes a change set away, the template in the bucket, and the empty stack that it brought about. It goes on after a cancel.
func (s *session) discard(ctx context.Context, st *stack) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
	defer cancel()
	err := s.unstage(ctx, st)
	if st.set == nil {
		return err
	}
	err = errors.Join(err, s.deleteSet(ctx, st, st.set.name))
	st.set = nil
	if st.there == nil {
		err = errors.Join(err, s.discardShell(ctx, st))
	}
	return err
}

func (s *session) deleteSet(ctx context.Context, st *stack, name string) error {
	_, err := st.api.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: aws.String(st.Name), ChangeSetName: aws.String(name)})
	var refusal smithy.APIError
	if errors.As(err, &refusal) && (refusal.ErrorCode() == "ChangeSetNotFound" || strings.Contains(refusal.ErrorMessage(), "does not exist")) {
		return nil
	}
	if err != nil {
		return s.explain(ctx, err, "cloudformation:DeleteChangeSet", st.Region)
	}
	return nil
}

// discardShell deletes a stack that was never made, unless somebody else is about to make it: that one has a change set, or is protected.
// By its id, so that no other one is meant.
func (s *session) discardShell(ctx context.Context, st *stack) error {
	found, err := s.describe(ctx, st.api, st.Name)
	if err != nil || found == nil || found.StackStatus != types.StackStatusReviewInProgress || aws.ToBool(found.EnableTerminationProtection) {
		return err
	}
	if sets, err := s.changeSets(ctx, st); err != nil || len(sets) > 0 {
		return err
	}
	if _, err := st.api.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: found.StackId}); err != nil {
		return s.explain(ctx, err, "cloudformation:DeleteStack", st.Region)
	}
	pace := s.pace()
	for {
		gone, err := s.describe(ctx, st.api, aws.ToString(found.StackId))
		if err != nil || gone == nil || gone.StackStatus == types.StackStatusDeleteComplete {
			return err
		}
		if err := pace.wait(ctx); err != nil {
			return err
		}
	}
}

// judge puts changes into words, and says which of them lose data.
func (s *session) judge(st *stack, all []types.ResourceChange) []Change {
	renamed, weak := renamed(all), weakened(st.before, st.written)
	var changes []Change
	for _, c := range all {
		told := tell(c, renamed)
		if why, is := weak[told.Resource]; is {
			told.Loses, told.Why = true, joined(told.Why, why)
			delete(weak, told.Resource)
		}
		changes = append(changes, told)
	}
	for resource, why := range weak {
		changes = append(changes, Change{Action: "change", Resource: resource, Kind: st.written[resource].Kind, Why: why, Loses: true})
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return strings.Compare(a.Resource, b.Resource) })
	return changes
}

// tell makes a Change of one of CloudFormation's. renamed are the resources that get another identity.
func tell(c types.ResourceChange, renamed map[string]bool) Change {
	told := Change{Action: "change", Resource: aws.ToString(c.LogicalResourceId), Kind: aws.ToString(c.ResourceType)}
	what, holds := holding[told.Kind]
	switch {
	case c.Action == types.ChangeActionAdd || c.Action == types.ChangeActionImport:
		told.Action = "add"
	case c.Action == types.ChangeActionRemove:
		told.Action, told.Loses, told.Why = "remove", holds, remains(c.PolicyAction, what)
	case !renamed[told.Resource]:
		told.Why = because(c, false)
	case c.Replacement == types.ReplacementTrue:
		told.Action, told.Loses, told.Why = "replace", holds, joined(because(c, true), remains(c.PolicyAction, what))
	default:
		told.Action, told.Loses, told.Why = "replace", holds, joined("perhaps: CloudFormation cannot tell before", because(c, true))
	}
	return told
}

// renamed are the resources that are replaced, or may be, or are new or gone.
func renamed(all []types.ResourceChange) map[string]bool {
	found := map[string]bool{}
	for _, c := range all {
		found[aws.ToString(c.LogicalResourceId)] = c.Action != types.ChangeActionModify || c.Replacement == types.ReplacementTrue || c.Replacement == types.ReplacementConditional
	}
	for settled := false; !settled; {
		settled = true
		for _, c := range all {
			if name := aws.ToString(c.LogicalResourceId); found[name] && c.Action == types.ChangeActionModify && keepsItsNames(c, found) {
				found[name], settled = false, false
			}
		}
	}
	return found
}

// keepsItsNames reports whether all that might replace c is the name of something that keeps it. CloudFormation speaks of a replacement of
// every resource that takes, say, the ARN of a key whose policy changes, though an ARN only changes when the key is replaced. Should it
// replace c all the same, the stack's policy denies that.
func keepsItsNames(c types.ResourceChange, renamed map[string]bool) bool {
	found := false
	for _, d := range c.Details {
		if d.Target == nil || d.Target.RequiresRecreation == types.RequiresRecreationNever || d.Target.RequiresRecreation == "" {
			continue
		}
		resource, attribute, _ := strings.Cut(aws.ToString(d.CausingEntity), ".")
		byName := d.ChangeSource == types.ChangeSourceResourceReference || d.ChangeSource == types.ChangeSourceResourceAttribute && isName(attribute)
		if d.Evaluation != types.EvaluationTypeDynamic || !byName || renamed[resource] {
			return false
		}
		found = true
	}
	return found
}

// isName reports whether an attribute only changes when what has it is replaced.
func isName(attribute string) bool {
	return strings.HasSuffix(attribute, "Arn") || strings.HasSuffix(attribute, "Id")
}

// because are the properties that change; where recreating is asked for, those that make it a replacement.
func because(c types.ResourceChange, recreating bool) string {
	var names []string
	for _, d := range c.Details {
		if d.Target == nil || recreating && d.Target.RequiresRecreation == types.RequiresRecreationNever {
			continue
		}
		name := aws.ToString(d.Target.Name)
		if name == "" {
			name = string(d.Target.Attribute)
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// remains says what AWS keeps of something that goes.
func remains(policy types.PolicyAction, what string) string {
	if what == "" {
		return ""
	}
	switch policy {
	case types.PolicyActionRetain, types.PolicyActionReplaceAndRetain:
		return what + " is kept, outside of the stack, and costs on"
	case types.PolicyActionSnapshot, types.PolicyActionReplaceAndSnapshot:
		return "a snapshot of " + what + " is kept"
	case types.PolicyActionDelete, types.PolicyActionReplaceAndDelete:
		return what + " is deleted"
	default:
		return ""
	}
}

func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}
