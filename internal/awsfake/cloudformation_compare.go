package awsfake

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// prepared is what an update would do, before anything is made: what will be made has no name yet.
type prepared struct {
	w       *World
	stack   *stack
	next    stackState
	planned map[string]*planned
}

// planned is what would become of one resource.
type planned struct {
	id, kind    string
	before      *stackResource
	action      cf.ChangeAction // "" is nothing
	replacement cf.Replacement
	details     []cf.ResourceChangeDetail
	keeps       string // the policy for what is removed or replaced
}

// unmade stands where the name of something will be that is not made yet.
const unmade = "\x00unmade:"

func (w *World) prepare(s *stack, next stackState) (*prepared, error) {
	p := &prepared{w: w, stack: s, next: next, planned: map[string]*planned{}}
	scope := s.scopeOf(w, next, p.nameOf)
	ids, err := scope.there()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		d := next.template.resources[id]
		value, err := scope.resolve(d.properties)
		if err != nil {
			return nil, err
		}
		if err := p.judge(id, d, object(value)); err != nil {
			return nil, err
		}
	}
	for id, before := range s.resources {
		if !slices.Contains(ids, id) {
			p.planned[id] = &planned{id: id, kind: before.kind, before: before, action: cf.ChangeActionRemove, keeps: before.deletion}
		}
	}
	_, err = scope.outputs()
	return p, err
}

// scopeOf is what functions of a state's template are worked out with; name knows resources.
func (s *stack) scopeOf(w *World, next stackState, name func(id, attribute string) (string, bool)) *scope {
	return &scope{template: next.template, parameters: next.parameters, resource: name, pseudo: map[string]string{
		"AWS::Region": s.region, "AWS::AccountId": w.options.Account, "AWS::StackName": s.name, "AWS::StackId": s.id,
		"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
	}}
}

func (p *prepared) nameOf(id, attribute string) (string, bool) {
	planned, there := p.planned[id]
	if !there {
		return "", false
	}
	if planned.before == nil || planned.replacement == cf.ReplacementTrue {
		return unmade + id + "." + attribute, true
	}
	return p.stack.nameOf(p.w, planned.before, attribute), true
}

func (s *stack) nameOf(w *World, r *stackResource, attribute string) string {
	if attribute == "" {
		return r.physical
	}
	return s.attributeOf(w, r, attribute)
}

func (p *prepared) judge(id string, d declared, properties map[string]any) error {
	before := p.stack.resources[id]
	change := &planned{id: id, kind: d.kind, before: before, keeps: d.replace}
	p.planned[id] = change
	if before == nil {
		change.action = cf.ChangeActionAdd
		return nil
	}
	if before.kind != d.kind {
		return refuse("ValidationError", "Update of resource type is not permitted. The new template modifies resource type of the following resources: [%s]", id)
	}
	names := map[string]bool{}
	for name := range before.properties {
		names[name] = true
	}
	for name := range properties {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		change.details = append(change.details, p.detailsOf(d, name, before.properties[name], properties[name])...)
	}
	for attribute, pair := range map[cf.ResourceAttribute][2]string{cf.ResourceAttributeDeletionPolicy: {before.deletion, d.deletion}, cf.ResourceAttributeUpdateReplacePolicy: {before.replace, d.replace}} {
		if pair[0] != pair[1] {
			change.details = append(change.details, detail(cf.ChangeSourceDirectModification, "", attribute, "", cf.RequiresRecreationNever, cf.EvaluationTypeStatic))
		}
	}
	if len(change.details) > 0 {
		change.action, change.replacement = cf.ChangeActionModify, worst(change.details)
	}
	return nil
}

// detailsOf says why a property changes, or may: what it refers to is replaced, or is changed and so may give another
// attribute. Which of those CloudFormation cannot know before is Dynamic, as it says itself.
func (p *prepared) detailsOf(d declared, name string, before, after any) (all []cf.ResourceChangeDetail) {
	attribute, property := cf.ResourceAttributeProperties, name
	if name == "Tags" {
		attribute, property = cf.ResourceAttributeTags, ""
	}
	recreation := recreationOf(d.kind, name)
	changed, explained := !same(before, after), false
	references(d.properties[name], func(id, att string) {
		other, there := p.planned[id]
		switch {
		case !there:
			if changed && p.stack.parameters[id] != p.next.parameters[id] {
				all, explained = append(all, detail(cf.ChangeSourceParameterReference, id, attribute, property, recreation, cf.EvaluationTypeStatic)), true
			}
		case other.replacement == cf.ReplacementTrue || other.replacement == cf.ReplacementConditional || att != "" && other.action == cf.ChangeActionModify,
			changed && other.action == cf.ChangeActionAdd:
			source, entity := cf.ChangeSourceResourceReference, id
			if att != "" {
				source, entity = cf.ChangeSourceResourceAttribute, id+"."+att
			}
			all = append(all, detail(source, entity, attribute, property, recreation, cf.EvaluationTypeDynamic))
			explained = explained || strings.Contains(flat(after), unmade+id)
		}
	})
	if changed && !explained {
		all = append(all, detail(cf.ChangeSourceDirectModification, "", attribute, property, recreation, cf.EvaluationTypeStatic))
	}
	return all
}

// flat is a tree's text, to look for a name in it.
func flat(tree any) string {
	b := &strings.Builder{}
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			b.WriteString(flat(item) + "\n")
		}
	case map[string]any:
		for _, item := range tree {
			b.WriteString(flat(item) + "\n")
		}
	default:
		b.WriteString(str(tree))
	}
	return b.String()
}

func detail(source cf.ChangeSource, entity string, attribute cf.ResourceAttribute, property string, recreation cf.RequiresRecreation, evaluation cf.EvaluationType) cf.ResourceChangeDetail {
	d := cf.ResourceChangeDetail{ChangeSource: source, Evaluation: evaluation, Target: &cf.ResourceTargetDefinition{Attribute: attribute, RequiresRecreation: recreation}}
	if entity != "" {
		d.CausingEntity = aws.String(entity)
	}
	if property != "" {
		d.Target.Name = aws.String(property)
	}
	return d
}

func recreationOf(kind, property string) cf.RequiresRecreation {
	switch k := resourceKinds[kind]; {
	case slices.Contains(k.replaces, property):
		return cf.RequiresRecreationAlways
	case slices.Contains(k.perhaps, property):
		return cf.RequiresRecreationConditionally
	default:
		return cf.RequiresRecreationNever
	}
}

// worst is the replacement that details make: Always is True where the value is known, and Conditional where it is not.
func worst(details []cf.ResourceChangeDetail) cf.Replacement {
	found := cf.ReplacementFalse
	for _, d := range details {
		switch {
		case d.Target.RequiresRecreation == cf.RequiresRecreationAlways && d.Evaluation == cf.EvaluationTypeStatic:
			return cf.ReplacementTrue
		case d.Target.RequiresRecreation != cf.RequiresRecreationNever:
			found = cf.ReplacementConditional
		}
	}
	return found
}

// told is a change as DescribeChangeSet tells it.
func (p *planned) told() *cf.ResourceChange {
	change := &cf.ResourceChange{Action: p.action, LogicalResourceId: &p.id, ResourceType: &p.kind, Details: append([]cf.ResourceChangeDetail{}, p.details...), Scope: []cf.ResourceAttribute{}}
	if p.before != nil {
		change.PhysicalResourceId = &p.before.physical
	}
	if p.action == cf.ChangeActionModify {
		change.Replacement = p.replacement
	}
	for _, d := range p.details {
		if !slices.Contains(change.Scope, d.Target.Attribute) {
			change.Scope = append(change.Scope, d.Target.Attribute)
		}
	}
	ends := map[string]cf.PolicyAction{"Retain": cf.PolicyActionRetain, "RetainExceptOnCreate": cf.PolicyActionRetain, "Snapshot": cf.PolicyActionSnapshot, "Delete": cf.PolicyActionDelete, "": cf.PolicyActionDelete}
	switch {
	case p.action == cf.ChangeActionRemove:
		change.PolicyAction = ends[p.keeps]
	case p.replacement == cf.ReplacementTrue:
		change.PolicyAction = "ReplaceAnd" + ends[p.keeps]
	}
	return change
}
