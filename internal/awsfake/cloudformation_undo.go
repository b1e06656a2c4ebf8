package awsfake

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// stackEvent writes an event of the stack itself, which has this status from now on.
func (w *World) stackEvent(s *stack, status cf.ResourceStatus, reason string) {
	s.status, s.reason = cf.StackStatus(status), reason
	w.writeStackEvent(s, cf.StackEvent{LogicalResourceId: &s.name, PhysicalResourceId: &s.id, ResourceType: aws.String("AWS::CloudFormation::Stack")}, status, reason)
}

// stackEventOf writes an event of a resource, which has this status from now on.
func (w *World) stackEventOf(s *stack, r *stackResource, status cf.ResourceStatus, reason string) {
	r.status, r.reason, r.at = status, reason, time.Now()
	properties, _ := json.Marshal(r.properties)
	w.writeStackEvent(s, cf.StackEvent{LogicalResourceId: &r.id, PhysicalResourceId: aws.String(r.physical), ResourceType: &r.kind, ResourceProperties: aws.String(string(properties))}, status, reason)
}

func (w *World) writeStackEvent(s *stack, e cf.StackEvent, status cf.ResourceStatus, reason string) {
	e.EventId, e.StackId, e.StackName, e.Timestamp, e.ResourceStatus = aws.String(newUUID()), &s.id, &s.name, aws.Time(time.Now()), status
	if reason != "" {
		e.ResourceStatusReason = &reason
	}
	if s.token != "" {
		e.ClientRequestToken = aws.String(s.token)
	}
	s.events = append(s.events, e)
}

// comeToBe does in the rest of the World what making a resource means there. It says why that cannot be, or "".
func (w *World) comeToBe(s *stack, r *stackResource) string {
	if r.kind != "AWS::S3::Bucket" {
		if err := w.real(s, r); err != nil {
			return err.Error()
		}
		return ""
	}
	if there, _ := w.objects.backend.BucketExists(r.physical); there || w.foreign[r.physical] {
		return r.physical + " already exists"
	}
	if err := w.objects.backend.CreateBucket(r.physical); err != nil {
		return err.Error()
	}
	return ""
}

// ceaseToBe is its opposite.
func (w *World) ceaseToBe(s *stack, r *stackResource) string {
	switch {
	case r.kind == "AWS::S3::Bucket":
		if err := w.objects.backend.DeleteBucket(r.physical); err != nil {
			return "The bucket you tried to delete is not empty"
		}
	case r.kind == "AWS::RDS::DBInstance" && str(r.properties["DeletionProtection"]) == "true":
		return "Cannot delete protected DB Instance, please disable deletion protection and try again."
	case r.kind == "AWS::ElasticLoadBalancingV2::LoadBalancer" && deletionProtected(r):
		return "OperationNotPermitted: Load balancer '" + r.physical + "' cannot be deleted because deletion protection is enabled"
	}
	if user := s.needs(r); user != "" {
		return "DependencyViolation: " + r.physical + " has a dependent object: " + user
	}
	if err := w.unreal(s, r); err != nil {
		return err.Error()
	}
	return ""
}

func deletionProtected(balancer *stackResource) bool {
	for _, a := range asList(balancer.properties["LoadBalancerAttributes"]) {
		if one, _ := a.(map[string]any); str(one["Key"]) == "deletion_protection.enabled" && str(one["Value"]) == "true" {
			return true
		}
	}
	return false
}

// shared are kinds that AWS does not delete while something is in them, or names them.
var shared = []string{"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::SecurityGroup", "AWS::RDS::DBSubnetGroup", "AWS::RDS::DBParameterGroup"}

// needs is a resource that the stack has kept and that has r in its properties, or "".
func (s *stack) needs(r *stackResource) string {
	if !slices.Contains(shared, r.kind) {
		return ""
	}
	for _, other := range s.resources {
		if properties, _ := json.Marshal(other.properties); other.status == "DELETE_SKIPPED" && strings.Contains(string(properties), `"`+r.physical+`"`) {
			return other.physical
		}
	}
	return ""
}

// remove deletes a resource, or keeps it where the policy says so. False: it could not be deleted.
func (o *stackWork) remove(ctx context.Context, r *stackResource, policy string) bool {
	if policy == "Retain" || policy == "RetainExceptOnCreate" {
		o.w.formation.kept = append(o.w.formation.kept, r.physical)
		o.w.stackEventOf(o.stack, r, "DELETE_SKIPPED", "")
		return true
	}
	o.w.stackEventOf(o.stack, r, "DELETE_IN_PROGRESS", "")
	if !o.pause(ctx, nil) {
		return false
	}
	if policy == "Snapshot" {
		o.w.formation.kept = append(o.w.formation.kept, "snapshot of "+r.physical)
	}
	if reason := o.w.ceaseToBe(o.stack, r); reason != "" {
		o.w.stackEventOf(o.stack, r, "DELETE_FAILED", reason)
		return false
	}
	o.w.stackEventOf(o.stack, r, "DELETE_COMPLETE", "")
	return true
}

func (o *stackWork) undoCreation(ctx context.Context, failed string) {
	if o.disableRollback {
		o.w.stackEvent(o.stack, "CREATE_FAILED", fmt.Sprintf("The following resource(s) failed to create: [%s]. ", failed))
		return
	}
	o.w.stackEvent(o.stack, "ROLLBACK_IN_PROGRESS", fmt.Sprintf("The following resource(s) failed to create: [%s]. Rollback requested by user.", failed))
	if o.removeAll(ctx, o.made, o.policyOnCreate) {
		o.stack.resources, o.stack.outputs = map[string]*stackResource{}, nil
		o.w.stackEvent(o.stack, "ROLLBACK_COMPLETE", "")
	} else {
		o.w.stackEvent(o.stack, "ROLLBACK_FAILED", "The following resource(s) failed to delete: ["+failed+"].")
	}
}

// policyOnCreate is what becomes of something that a failed operation had made.
func (o *stackWork) policyOnCreate(r *stackResource) string {
	if r.deletion == "RetainExceptOnCreate" || r.deletion == "Retain" && o.retainsExceptOnCreate || r.deletion == "Snapshot" {
		return "Delete"
	}
	return r.deletion
}

func (o *stackWork) removeAll(ctx context.Context, all []*stackResource, policy func(*stackResource) string) bool {
	ok := true
	for _, r := range slices.Backward(all) {
		ok = o.remove(ctx, r, policy(r)) && ok
		if ctx.Err() != nil {
			return false
		}
	}
	return ok
}

// undoUpdate goes back to what the stack was, which it still is on paper.
func (o *stackWork) undoUpdate(ctx context.Context, failed string) {
	if o.disableRollback {
		o.w.stackEvent(o.stack, "UPDATE_FAILED", fmt.Sprintf("The following resource(s) failed to update: [%s]. ", failed))
		return
	}
	o.w.stackEvent(o.stack, "UPDATE_ROLLBACK_IN_PROGRESS", fmt.Sprintf("The following resource(s) failed to update: [%s]. ", failed))
	o.goBack(ctx, nil)
}

func (o *stackWork) goBack(ctx context.Context, skip []string) {
	for _, id := range o.changed {
		r := o.stack.resources[id]
		if r == nil || slices.Contains(skip, id) {
			continue
		}
		o.w.stackEventOf(o.stack, r, "UPDATE_IN_PROGRESS", "")
		if trouble := o.w.troubling(o.stack, id); trouble != nil && trouble.NoReturn != "" {
			o.w.stackEventOf(o.stack, r, "UPDATE_FAILED", trouble.NoReturn)
			o.w.stackEvent(o.stack, "UPDATE_ROLLBACK_FAILED", fmt.Sprintf("The following resource(s) failed to update: [%s]. ", id))
			o.stack.stuck = o
			return
		}
		if !o.pause(ctx, nil) {
			return
		}
		o.w.stackEventOf(o.stack, r, "UPDATE_COMPLETE", "")
	}
	o.w.stackEvent(o.stack, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "")
	o.removeAll(ctx, o.made, o.policyOnCreate)
	if ctx.Err() == nil {
		o.stack.stuck = nil
		o.w.stackEvent(o.stack, "UPDATE_ROLLBACK_COMPLETE", "")
	}
}

// cleanUp takes away what the update has replaced or dropped. What cannot be deleted is left, and the update has succeeded.
func (o *stackWork) cleanUp(ctx context.Context, before stackState) {
	o.w.stackEvent(o.stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "")
	o.removeAll(ctx, o.leaves, func(r *stackResource) string { return o.next.resources[r.id].replace })
	var dropped []*stackResource
	for _, id := range before.template.orderOr(before.resources) {
		if r, was := before.resources[id]; was && o.next.resources[id] == nil {
			dropped = append(dropped, r)
		}
	}
	o.removeAll(ctx, dropped, func(r *stackResource) string { return r.deletion })
	if ctx.Err() == nil {
		o.w.stackEvent(o.stack, "UPDATE_COMPLETE", "")
	}
}

// orderOr is the template's order, or any where there is no template.
func (t *template) orderOr(resources map[string]*stackResource) []string {
	if t != nil {
		return t.order
	}
	return slices.Sorted(maps.Keys(resources))
}

func deleteStack(c *request, in *cloudformation.DeleteStackInput) (*cloudformation.DeleteStackOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil || s.status == cf.StackStatusDeleteComplete {
		return &cloudformation.DeleteStackOutput{}, nil //nolint:nilerr // to CloudFormation, deleting what is gone is no error
	}
	switch {
	case s.protected:
		return nil, refuse("ValidationError", "Stack [%s] cannot be deleted while TerminationProtection is enabled", s.name)
	case s.status == cf.StackStatusReviewInProgress:
		c.w.bury(s)
		return &cloudformation.DeleteStackOutput{}, nil
	case s.working() && s.status != cf.StackStatusCreateInProgress:
		return nil, refuse("ValidationError", "Stack [%s] cannot be deleted while in status %s", s.id, s.status)
	}
	o := &stackWork{w: c.w, stack: s}
	s.token = aws.ToString(in.ClientRequestToken)
	c.w.stackEvent(s, "DELETE_IN_PROGRESS", "User Initiated")
	c.w.later(func(ctx context.Context) {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		o.demolish(ctx, in.RetainResources)
	})
	return &cloudformation.DeleteStackOutput{}, nil
}

func (o *stackWork) demolish(ctx context.Context, keep []string) {
	var all []*stackResource
	for _, id := range o.stack.template.orderOr(o.stack.resources) {
		if r := o.stack.resources[id]; r != nil {
			all = append(all, r)
		}
	}
	ok := o.removeAll(ctx, all, func(r *stackResource) string {
		if slices.Contains(keep, r.id) {
			return "Retain"
		}
		return r.deletion
	})
	if ok {
		o.w.bury(o.stack)
	} else if ctx.Err() == nil {
		o.w.stackEvent(o.stack, "DELETE_FAILED", "The following resource(s) failed to delete.")
	}
}

// bury lets a stack be known by its id alone.
func (w *World) bury(s *stack) {
	w.stackEvent(s, "DELETE_COMPLETE", "")
	s.deleted, s.changeSets = time.Now(), nil
	delete(w.in(s.region).stacks, s.name)
	w.formation.deleted = append(w.formation.deleted, s)
}

func continueUpdateRollback(c *request, in *cloudformation.ContinueUpdateRollbackInput) (*cloudformation.ContinueUpdateRollbackOutput, error) {
	s, err := c.findStack(in.StackName)
	if err != nil {
		return nil, err
	}
	if s.status != cf.StackStatusUpdateRollbackFailed || s.stuck == nil {
		return nil, refuse("ValidationError", "Stack:%s is in %s state and can not continue update rollback.", s.id, s.status)
	}
	o := s.stuck
	s.token = aws.ToString(in.ClientRequestToken)
	c.w.stackEvent(s, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
	c.w.later(func(ctx context.Context) {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		o.goBack(ctx, in.ResourcesToSkip)
	})
	return &cloudformation.ContinueUpdateRollbackOutput{}, nil
}

// stackPolicy is what may be done to resources. Without one, everything.
type stackPolicy struct{ Statement []stackStatement }

type stackStatement struct {
	Effect, Principal string
	Action, Resource  any // a string or a list of them
	NotAction         any
	NotResource       any
	Condition         map[string]map[string]any
}

func readPolicy(text string) (stackPolicy, error) {
	p := stackPolicy{}
	if text == "" {
		return stackPolicy{Statement: []stackStatement{{Effect: "Allow", Action: "Update:*", Principal: "*", Resource: "*"}}}, nil
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, err
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || s.Principal != "*" || (s.Action == nil) == (s.NotAction == nil) || (s.Resource == nil) == (s.NotResource == nil) {
			return p, fmt.Errorf("a statement is not valid")
		}
	}
	return p, nil
}

// allows is so when a statement allows it and none denies it.
func (p stackPolicy) allows(action string, r *stackResource) bool {
	allowed := false
	for _, s := range p.Statement {
		if !s.concerns(action, r) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s stackStatement) concerns(action string, r *stackResource) bool {
	for _, want := range list(s.Condition["StringEquals"]["ResourceType"]) {
		if str(want) != r.kind && !slices.Contains(texts(asList(s.Condition["StringEquals"]["ResourceType"])), r.kind) {
			return false
		}
	}
	return matchesAny(s.Action, s.NotAction, action) && matchesAny(s.Resource, s.NotResource, "LogicalResourceId/"+r.id)
}

func matchesAny(these, not any, name string) bool {
	match := func(pattern any) bool {
		before, starred := strings.CutSuffix(str(pattern), "*")
		return str(pattern) == name || starred && strings.HasPrefix(name, before)
	}
	if these == nil {
		return !slices.ContainsFunc(list(not), match)
	}
	return slices.ContainsFunc(list(these), match)
}
