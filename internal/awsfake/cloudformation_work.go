package awsfake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// StackTrouble befalls resources of stacks. It meets those whose stack's name holds Stack, and whose logical id is Resource ("" is
// any).
type StackTrouble struct {
	Stack, Resource string
	Times           int // so many times; 0 is one, a negative number is always

	Reason   string          // it cannot be made or changed, for this reason
	NoReturn string          // nor can a change of it be taken back, for this reason: the stack ends in UPDATE_ROLLBACK_FAILED
	Hold     <-chan struct{} // it is at work until this is closed
}

// StackTrouble lets trouble stand from now on.
func (w *World) StackTrouble(trouble StackTrouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if trouble.Times == 0 {
		trouble.Times = 1
	}
	w.formation.troubles = append(w.formation.troubles, &trouble)
}

// HealStacks takes the troubles of all stacks away.
func (w *World) HealStacks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.formation.troubles = nil
}

// Kept are the names of what stacks have let go of without deleting it, in the order of that.
func (w *World) Kept() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.formation.kept)
}

// Physical is what a resource of a stack in the region is called ("" where there is none), which changes when it is replaced.
func (w *World) Physical(region, stackName, id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, there := w.in(region).stacks[stackName]; there && s.resources[id] != nil {
		return s.resources[id].physical
	}
	return ""
}

// troubling is the trouble of a resource, with one of its times taken.
func (w *World) troubling(s *stack, id string) *StackTrouble {
	for _, trouble := range w.formation.troubles {
		if trouble.Times != 0 && strings.Contains(s.name, trouble.Stack) && (trouble.Resource == "" || trouble.Resource == id) {
			if trouble.Times > 0 {
				trouble.Times--
			}
			return trouble
		}
	}
	return nil
}

// stackWork is one operation on a stack: a creation, an update or a deletion.
type stackWork struct {
	w            *World
	stack        *stack
	next         stackState
	capabilities []cf.Capability
	policy       string // in place of the stack's

	retainsExceptOnCreate, disableRollback bool

	creates bool
	made    []*stackResource // by this operation, in its order
	leaves  []*stackResource // what is replaced
	changed []string         // logical ids, of what was changed in place
}

// begin sets an operation to work in the background. The caller holds mu.
func (w *World) begin(o *stackWork, token string) {
	s := o.stack
	o.w, o.creates, s.token = w, s.status == cf.StackStatusReviewInProgress, token
	if o.policy == "" {
		o.policy = s.policy
	}
	s.capabilities = o.capabilities
	if o.creates {
		w.stackEvent(s, "CREATE_IN_PROGRESS", "User Initiated")
	} else {
		s.updated = time.Now()
		w.stackEvent(s, "UPDATE_IN_PROGRESS", "User Initiated")
	}
	w.later(func(ctx context.Context) {
		w.mu.Lock()
		defer w.mu.Unlock()
		o.run(ctx)
	})
}

// pause lets others have the World for as long as a resource takes. False: the World ends.
func (o *stackWork) pause(ctx context.Context, hold <-chan struct{}) bool {
	o.w.mu.Unlock()
	defer o.w.mu.Lock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	return wait(ctx, o.w.options.Stack)
}

func (o *stackWork) run(ctx context.Context) {
	before := o.stack.stackState
	o.next.resources = map[string]*stackResource{}
	if o.creates {
		o.stack.stackState = o.next
	}
	failed := o.build(ctx, before)
	switch {
	case ctx.Err() != nil:
	case failed == "" && o.creates:
		o.stack.stackState = o.next
		o.w.stackEvent(o.stack, "CREATE_COMPLETE", "")
	case failed == "":
		o.stack.stackState = o.next
		o.cleanUp(ctx, before)
	case o.creates:
		o.undoCreation(ctx, failed)
	default:
		o.undoUpdate(ctx, failed)
	}
}

// build makes and changes resources in their order. It says which failed, or "".
func (o *stackWork) build(ctx context.Context, before stackState) (failed string) {
	scope := o.stack.scopeOf(o.w, o.next, func(id, attribute string) (string, bool) {
		r, there := o.next.resources[id]
		if !there {
			return "", false
		}
		return o.stack.nameOf(o.w, r, attribute), true
	})
	ids, err := scope.there()
	for _, id := range ids {
		var value any
		if value, err = scope.resolve(o.next.template.resources[id].properties); err != nil {
			break
		}
		if !o.step(ctx, id, before.resources[id], object(value)) {
			return id
		}
	}
	if err == nil {
		o.next.outputs, err = scope.outputs()
	}
	if err != nil {
		o.stack.reason = err.Error()
		return "Outputs"
	}
	return o.removable(before)
}

// step brings one resource to where the template wants it.
func (o *stackWork) step(ctx context.Context, id string, before *stackResource, properties map[string]any) bool {
	d := o.next.template.resources[id]
	r := &stackResource{id: id, kind: d.kind, properties: properties, deletion: d.deletion, replace: d.replace, suffix: newHex(17)}
	switch {
	case before == nil:
		return o.make(ctx, r, "CREATE", "")
	case same(before.properties, properties):
		r.physical, r.suffix, r.status, r.at, r.byHand, r.removed = before.physical, before.suffix, before.status, before.at, before.byHand, before.removed
		o.next.resources[id] = r
		return true
	case replacesReally(before, properties):
		return o.replace(ctx, before, r)
	default:
		return o.change(ctx, before, r)
	}
}

// replacesReally decides what a change set may have called conditional.
func replacesReally(before *stackResource, properties map[string]any) bool {
	always := append(split("Engine AvailabilityZone DBSnapshotIdentifier InstanceTenancy Ipv6CidrBlock"), resourceKinds[before.kind].replaces...)
	return slices.ContainsFunc(always, func(name string) bool { return !same(before.properties[name], properties[name]) })
}

func (o *stackWork) make(ctx context.Context, r *stackResource, verb, why string) bool {
	o.next.resources[r.id] = r
	o.w.stackEventOf(o.stack, r, cf.ResourceStatus(verb+"_IN_PROGRESS"), why)
	trouble := cmp.Or(o.w.troubling(o.stack, r.id), &StackTrouble{})
	if !o.pause(ctx, trouble.Hold) {
		return false
	}
	reason := trouble.Reason
	if reason == "" {
		r.physical = o.stack.idOf(o.w, r.id, r.kind, r.properties)
		reason = o.w.comeToBe(o.stack, r)
	}
	if reason != "" {
		o.w.stackEventOf(o.stack, r, cf.ResourceStatus(verb+"_FAILED"), reason)
		return false
	}
	o.made = append(o.made, r)
	if r.kind == "AWS::CertificateManager::Certificate" {
		o.w.stackEventOf(o.stack, r, cf.ResourceStatus(verb+"_IN_PROGRESS"), "Content of DNS Record is: {Name: _fake."+str(r.properties["DomainName"])+".,Type: CNAME,Value: _fake.acm-validations.aws.}")
	}
	o.w.stackEventOf(o.stack, r, cf.ResourceStatus(verb+"_IN_PROGRESS"), "Resource creation Initiated")
	o.w.stackEventOf(o.stack, r, cf.ResourceStatus(verb+"_COMPLETE"), "")
	return true
}

func (o *stackWork) replace(ctx context.Context, before, r *stackResource) bool {
	if !o.allowed("Update:Replace", before) {
		return false
	}
	named := resourceKinds[r.kind].named
	if name := str(r.properties[named]); named != "" && name != "" && name == before.physical {
		o.w.stackEventOf(o.stack, before, "UPDATE_FAILED", fmt.Sprintf("CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", name))
		return false
	}
	o.leaves = append(o.leaves, before)
	return o.make(ctx, r, "UPDATE", "Requested update requires the creation of a new physical resource; hence creating one.")
}

func (o *stackWork) change(ctx context.Context, before, r *stackResource) bool {
	r.physical, r.suffix = before.physical, before.suffix
	if !o.allowed("Update:Modify", before) {
		return false
	}
	o.w.stackEventOf(o.stack, r, "UPDATE_IN_PROGRESS", "")
	trouble := cmp.Or(o.w.troubling(o.stack, r.id), &StackTrouble{})
	if !o.pause(ctx, trouble.Hold) {
		return false
	}
	if trouble.Reason != "" {
		o.w.stackEventOf(o.stack, r, "UPDATE_FAILED", trouble.Reason)
		if trouble.NoReturn != "" {
			o.changed = append(o.changed, r.id)
			o.w.formation.troubles = append(o.w.formation.troubles, &StackTrouble{Stack: o.stack.name, Resource: r.id, Times: -1, NoReturn: trouble.NoReturn})
		}
		return false
	}
	o.next.resources[r.id] = r
	o.changed = append(o.changed, r.id)
	o.w.stackEventOf(o.stack, r, "UPDATE_COMPLETE", "")
	return true
}

// removable is "" when the policy lets go of all that the template does not have any more, or else which it holds.
func (o *stackWork) removable(before stackState) string {
	for _, id := range slices.Sorted(maps.Keys(before.resources)) {
		if _, stays := o.next.resources[id]; !stays && !o.allowed("Update:Delete", before.resources[id]) {
			return id
		}
	}
	return ""
}

func (o *stackWork) allowed(action string, r *stackResource) bool {
	policy, err := readPolicy(o.policy)
	if err == nil && policy.allows(action, r) {
		return true
	}
	o.w.stackEventOf(o.stack, r, "UPDATE_FAILED", fmt.Sprintf("Action denied by stack policy: Statement [#1] does not allow [%s] for resource [LogicalResourceId/%s]", action, r.id))
	return false
}

// outputs are worked out, in the order of their names.
func (s *scope) outputs() (all []cf.Output, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.template.outputs)) {
		o := object(s.template.outputs[name])
		if condition := str(o["Condition"]); condition != "" {
			if yes, err := s.holds(condition); err != nil || !yes {
				continue
			}
		}
		value, err := s.resolve(o["Value"])
		if err != nil {
			return nil, err
		}
		output := cf.Output{OutputKey: aws.String(name), OutputValue: aws.String(str(value))}
		if description := str(o["Description"]); description != "" {
			output.Description = aws.String(description)
		}
		all = append(all, output)
	}
	return all, nil
}
