package awsfake

import (
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// formation is what CloudFormation has beside the stacks of the regions. Guarded by World.mu.
type formation struct {
	deleted  []*stack // describable by their ids
	troubles []*StackTrouble
	kept     []string // what stacks have let go of and not deleted, by their physical ids
	zones    []hostedZone
}

// stack is one stack. Guarded by World.mu.
type stack struct {
	id, name, region          string
	status                    cf.StackStatus
	reason                    string
	created, updated, deleted time.Time
	protected                 bool
	policy                    string
	capabilities              []cf.Capability
	drift                     cf.StackDriftStatus
	detections                []*detection

	stackState
	changeSets []*changeSet
	events     []cf.StackEvent // the oldest first
	token      string          // of the operation at work
	stuck      *stackWork      // whose rollback has failed
}

// stackState is what an update replaces as a whole, and what its rollback goes back to.
type stackState struct {
	template   *template
	parameters map[string]string
	tags       []cf.Tag
	resources  map[string]*stackResource
	outputs    []cf.Output
}

// stackResource is one resource as CloudFormation made it.
type stackResource struct {
	id, kind, physical string
	suffix             string // of attributes that are made up
	properties         map[string]any
	deletion, replace  string
	status             cf.ResourceStatus
	reason             string
	at                 time.Time
	byHand             map[string]any // properties that are not as the template says
	removed            bool           // by hand
}

func cloudformationService() *service {
	s := newService("cloudformation", "http://cloudformation.amazonaws.com/doc/2010-05-15/", nil)
	add(s, "CreateChangeSet", createChangeSet, "StackName", "ChangeSetName")
	add(s, "DescribeChangeSet", describeChangeSet, "ChangeSetName")
	add(s, "ExecuteChangeSet", executeChangeSet, "ChangeSetName")
	add(s, "DeleteChangeSet", deleteChangeSet, "ChangeSetName")
	add(s, "ListChangeSets", listChangeSets, "StackName")
	add(s, "CreateStack", createStack, "StackName")
	add(s, "UpdateStack", updateStack, "StackName")
	add(s, "DeleteStack", deleteStack, "StackName")
	add(s, "DescribeStacks", describeStacks)
	add(s, "ListStacks", listFormations)
	add(s, "DescribeStackEvents", describeStackEvents, "StackName")
	add(s, "DescribeStackResources", describeStackResources)
	add(s, "DescribeStackResource", describeStackResource, "StackName", "LogicalResourceId")
	add(s, "ListStackResources", listStackResources, "StackName")
	add(s, "GetTemplate", getTemplate)
	add(s, "GetTemplateSummary", getTemplateSummary)
	add(s, "ValidateTemplate", validateTemplate)
	add(s, "ContinueUpdateRollback", continueUpdateRollback, "StackName")
	add(s, "UpdateTerminationProtection", updateTerminationProtection, "StackName", "EnableTerminationProtection")
	add(s, "SetStackPolicy", setStackPolicy, "StackName")
	add(s, "GetStackPolicy", getStackPolicy, "StackName")
	add(s, "DetectStackDrift", detectStackDrift, "StackName")
	add(s, "DescribeStackDriftDetectionStatus", describeDetection, "StackDriftDetectionId")
	add(s, "DescribeStackResourceDrifts", describeDrifts, "StackName")
	return s
}

// Stack puts a stack with outputs into Options.Region, in the state CREATE_COMPLETE; one of the same name is replaced.
func (w *World) Stack(name string, outputs map[string]string) {
	w.StackIn(w.options.Region, name, outputs)
}

// StackIn is Stack in another region.
func (w *World) StackIn(region, name string, outputs map[string]string) {
	w.SetStack(region, name, cf.StackStatusCreateComplete, outputs)
}

// SetStack puts a stack into a region in any state, as ROLLBACK_COMPLETE. It has no template, no tags and no resources.
func (w *World) SetStack(region, name string, status cf.StackStatus, outputs map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.newStack(w.in(region), name)
	w.stackEvent(s, cf.ResourceStatus(status), "")
	for _, key := range slices.Sorted(maps.Keys(outputs)) {
		s.outputs = append(s.outputs, cf.Output{OutputKey: aws.String(key), OutputValue: aws.String(outputs[key])})
	}
}

// TagStack gives a stack a tag.
func (w *World) TagStack(region, name, key, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.in(region).stacks[name]
	s.tags = append(s.tags, cf.Tag{Key: &key, Value: &value})
}

func (w *World) newStack(r *region, name string) *stack {
	s := &stack{name: name, region: r.name, created: time.Now(), drift: cf.StackDriftStatusNotChecked, status: cf.StackStatusReviewInProgress}
	s.id = s.globalArn(w, "cloudformation", "stack/"+name+"/"+newUUID())
	s.resources = map[string]*stackResource{}
	r.stacks[name] = s
	return s
}
