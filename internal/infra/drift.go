package infra

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
)

// drift asks what was changed behind the stack's back: properties that the template sets and that are otherwise, resources that are gone,
// and the two guards that Apply puts on a stack. What CloudFormation cannot compare is not among them.
func (s *session) drift(ctx context.Context, st *stack) ([]Drift, error) {
	if st.there == nil {
		return nil, nil
	}
	all, err := s.unguarded(ctx, st)
	if err != nil {
		return nil, err
	}
	found, err := s.detect(ctx, st)
	return append(all, found...), err
}

// unguarded says which of the guards is off.
func (s *session) unguarded(ctx context.Context, st *stack) (all []Drift, err error) {
	if !aws.ToBool(st.there.EnableTerminationProtection) {
		all = append(all, Drift{st.Name, "termination protection is off; an apply switches it on"})
	}
	out, err := st.api.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: aws.String(st.Name)})
	if err != nil {
		return nil, s.explain(ctx, err, "cloudformation:GetStackPolicy", st.Region)
	}
	if holds := data(st.before); len(holds) > 0 && aws.ToString(out.StackPolicyBody) != guard(holds, nil) {
		all = append(all, Drift{st.Name, "its policy does not hold what holds data; an apply puts it back"})
	}
	return all, nil
}

func (s *session) detect(ctx context.Context, st *stack) ([]Drift, error) {
	id, err := s.beginDetection(ctx, st)
	if err != nil {
		return nil, err
	}
	pace := s.pace()
	for {
		out, err := st.api.DescribeStackDriftDetectionStatus(ctx, &cloudformation.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: &id})
		if err != nil {
			return nil, s.explain(ctx, err, "cloudformation:DescribeStackDriftDetectionStatus", st.Region)
		}
		switch out.DetectionStatus {
		case types.StackDriftDetectionStatusDetectionComplete:
			return s.drifted(ctx, st)
		case types.StackDriftDetectionStatusDetectionFailed:
			found, err := s.drifted(ctx, st)
			return append(found, Drift{st.Name, "not everything could be compared: " + scrubbed(aws.ToString(out.DetectionStatusReason))}), err
		default: // not yet
			if err := pace.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// beginDetection waits for one that somebody else has begun: there is one at a time.
func (s *session) beginDetection(ctx context.Context, st *stack) (string, error) {
	pace := s.pace()
	for {
		out, err := st.api.DetectStackDrift(ctx, &cloudformation.DetectStackDriftInput{StackName: aws.String(st.Name)})
		var refusal smithy.APIError
		if errors.As(err, &refusal) && strings.Contains(refusal.ErrorMessage(), "already in progress") {
			if err := pace.wait(ctx); err != nil {
				return "", err
			}
			continue
		}
		if err != nil {
			return "", s.explain(ctx, err, "cloudformation:DetectStackDrift", st.Region)
		}
		return aws.ToString(out.StackDriftDetectionId), nil
	}
}

func (s *session) drifted(ctx context.Context, st *stack) (all []Drift, err error) {
	pages := cloudformation.NewDescribeStackResourceDriftsPaginator(st.api, &cloudformation.DescribeStackResourceDriftsInput{StackName: aws.String(st.Name),
		StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified, types.StackResourceDriftStatusDeleted}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.explain(ctx, err, "cloudformation:DescribeStackResourceDrifts", st.Region)
		}
		for _, d := range page.StackResourceDrifts {
			name := aws.ToString(d.LogicalResourceId)
			if d.StackResourceDriftStatus == types.StackResourceDriftStatusDeleted {
				all = append(all, Drift{name, "is gone: somebody has deleted it"})
			}
			for _, p := range d.PropertyDifferences {
				all = append(all, Drift{name, difference(p)})
			}
		}
	}
	return all, nil
}

// secretly are properties whose values nobody is shown, whatever they are.
var secretly = regexp.MustCompile(`(?i)password|secret|token|credential`)

// maxShown is how many letters of a value are shown.
const maxShown = 60

func difference(p types.PropertyDifference) string {
	path := strings.ReplaceAll(strings.TrimPrefix(aws.ToString(p.PropertyPath), "/"), "/", ".")
	if secretly.MatchString(path) {
		return path + " is not what is written down"
	}
	actual, expected := shown(aws.ToString(p.ActualValue)), shown(aws.ToString(p.ExpectedValue))
	switch p.DifferenceType {
	case types.DifferenceTypeAdd:
		return fmt.Sprintf("%s has %s, which is not written down", path, actual)
	case types.DifferenceTypeRemove:
		return fmt.Sprintf("%s lacks %s, which is written down", path, expected)
	default:
		return fmt.Sprintf("%s is %s, and %s is written down", path, actual, expected)
	}
}

func shown(value string) string {
	if letters := []rune(value); len(letters) > maxShown {
		return string(letters[:maxShown]) + "…"
	}
	return value
}
