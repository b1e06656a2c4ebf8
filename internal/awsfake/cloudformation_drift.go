package awsfake

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// detection is one look at what is really there. Guarded by World.mu.
type detection struct {
	id      string
	status  cf.StackDriftDetectionStatus
	drifted int32
	at      time.Time
}

// ByHand changes a property of a resource as a person in the console would, behind the stack's back. It has to be one that the
// template sets, for CloudFormation compares no others.
func (w *World) ByHand(region, stackName, id, property, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, there := w.in(region).stacks[stackName]
	if !there || s.resources[id] == nil {
		w.t.Errorf("awsfake: stack %s in %s has no resource %s", stackName, region, id)
		return
	}
	r := s.resources[id]
	r.byHand = maps.Clone(r.byHand)
	if r.byHand == nil {
		r.byHand = map[string]any{}
	}
	r.byHand[property] = value
}

// RemoveByHand deletes a resource behind the stack's back.
func (w *World) RemoveByHand(region, stackName, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, there := w.in(region).stacks[stackName]; there && s.resources[id] != nil {
		s.resources[id].removed = true
	}
}

func detectStackDrift(c *request, in *cloudformation.DetectStackDriftInput) (*cloudformation.DetectStackDriftOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	if !s.settled() && s.status != cf.StackStatusUpdateRollbackFailed {
		return nil, refuse("ValidationError", "Stack [%s] is in [%s] state and drift cannot be detected on it.", s.name, s.status) // ours
	}
	if n := len(s.detections); n > 0 && s.detections[n-1].status == cf.StackDriftDetectionStatusDetectionInProgress {
		return nil, refuse("ValidationError", "Drift detection is already in progress for stack [%s]", s.id)
	}
	d := &detection{id: newUUID(), status: cf.StackDriftDetectionStatusDetectionInProgress, at: time.Now()}
	s.detections = append(s.detections, d)
	c.w.later(func(ctx context.Context) {
		if !wait(ctx, c.w.options.Stack) {
			return
		}
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		s.look(d)
	})
	return &cloudformation.DetectStackDriftOutput{StackDriftDetectionId: &d.id}, nil
}

func (s *stack) look(d *detection) {
	d.status, s.drift = cf.StackDriftDetectionStatusDetectionComplete, cf.StackDriftStatusInSync
	for _, r := range s.resources {
		if r.driftStatus() != cf.StackResourceDriftStatusInSync && !slices.Contains(withoutDrift, r.kind) {
			d.drifted, s.drift = d.drifted+1, cf.StackDriftStatusDrifted
		}
	}
}

func (r *stackResource) driftStatus() cf.StackResourceDriftStatus {
	switch {
	case r.removed:
		return cf.StackResourceDriftStatusDeleted
	case len(r.differences()) > 0:
		return cf.StackResourceDriftStatusModified
	default:
		return cf.StackResourceDriftStatusInSync
	}
}

func describeDetection(c *request, in *cloudformation.DescribeStackDriftDetectionStatusInput) (*cloudformation.DescribeStackDriftDetectionStatusOutput, error) {
	for _, s := range c.region.stacks {
		for _, d := range s.detections {
			if d.id != *in.StackDriftDetectionId {
				continue
			}
			out := &cloudformation.DescribeStackDriftDetectionStatusOutput{DetectionStatus: d.status, StackDriftDetectionId: &d.id, StackId: &s.id, Timestamp: &d.at}
			if d.status == cf.StackDriftDetectionStatusDetectionComplete {
				out.StackDriftStatus, out.DriftedStackResourceCount = s.drift, &d.drifted
			}
			return out, nil
		}
	}
	return nil, refuse("ValidationError", "Drift detection [%s] does not exist", *in.StackDriftDetectionId) // ours
}

// differences are between what the template sets and what is there.
func (r *stackResource) differences() (all []cf.PropertyDifference) {
	for _, name := range slices.Sorted(maps.Keys(r.byHand)) {
		expected, set := r.properties[name]
		if !set || same(expected, r.byHand[name]) {
			continue
		}
		all = append(all, cf.PropertyDifference{PropertyPath: aws.String("/" + name), DifferenceType: cf.DifferenceTypeNotEqual,
			ExpectedValue: aws.String(jsonOf(expected)), ActualValue: aws.String(jsonOf(r.byHand[name]))})
	}
	return all
}

// jsonOf is how drift tells values: text as it is, the rest as JSON.
func jsonOf(tree any) string {
	if text, ok := tree.(string); ok {
		return text
	}
	raw, _ := json.Marshal(tree)
	return string(raw)
}

func describeDrifts(c *request, in *cloudformation.DescribeStackResourceDriftsInput) (*cloudformation.DescribeStackResourceDriftsOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	all := []cf.StackResourceDrift{}
	for _, r := range s.sorted() {
		status := r.driftStatus()
		if slices.Contains(withoutDrift, r.kind) || len(in.StackResourceDriftStatusFilters) > 0 && !slices.Contains(in.StackResourceDriftStatusFilters, status) {
			continue
		}
		drift := cf.StackResourceDrift{LogicalResourceId: &r.id, PhysicalResourceId: &r.physical, ResourceType: &r.kind, StackId: &s.id, StackResourceDriftStatus: status, Timestamp: &r.at}
		if status == cf.StackResourceDriftStatusModified {
			actual := maps.Clone(r.properties)
			maps.Copy(actual, r.byHand)
			drift.PropertyDifferences, drift.ExpectedProperties, drift.ActualProperties = r.differences(), aws.String(jsonOf(r.properties)), aws.String(jsonOf(actual))
		}
		all = append(all, drift)
	}
	size := 100
	if in.MaxResults != nil {
		size = int(*in.MaxResults)
	}
	page, next, err := stackPage(all, in.NextToken, size)
	return &cloudformation.DescribeStackResourceDriftsOutput{StackResourceDrifts: page, NextToken: next}, err
}
