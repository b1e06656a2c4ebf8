package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// stack is what `lotse infra apply` has made for the app, as its outputs say.
type stack struct {
	account, application, serviceRole, vpc          string
	instanceSubnets, balancerSubnets, balancerGroup string
	certificate, balancer, listener, releases       string
	profile, instanceGroup                          string // of this stage
	databaseHost, databaseSecret, volumes, logs     string // of this stage; empty where it has none
	site, distribution                              string // the same, of an app of files alone
}

func (e *Engine) stackName() string { return "lotse-" + e.App }

// outputs returns the stack, which it reads once. What a person can put right is an error with a hint.
func (e *Engine) outputs(ctx context.Context) (*stack, error) {
	e.stackMu.Lock()
	defer e.stackMu.Unlock()
	if e.stack != nil {
		return e.stack, nil
	}
	account, err := e.account(ctx)
	if err != nil {
		return nil, err
	}
	out, err := e.api.stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: sdk.String(e.stackName())})
	if err != nil && (says(err, "does not exist") || coded(err, "StackNotFoundException")) || err == nil && (len(out.Stacks) == 0 || out.Stacks[0].StackStatus == types.StackStatusDeleteComplete) {
		return nil, deploy.Hint(fmt.Errorf("%w: there is no stack %s in %s", deploy.ErrNotFound, e.stackName(), e.AWS.Region), "`lotse infra apply` makes it")
	}
	if err != nil {
		return nil, err
	}
	if err := e.usable(out.Stacks[0].StackStatus); err != nil {
		return nil, err
	}
	s, err := e.parse(out.Stacks[0].Outputs)
	if err != nil {
		return nil, err
	}
	s.account = account
	e.stack = s
	return s, nil
}

// forgetStack makes the next look read the stack again: it may have been changed since.
func (e *Engine) forgetStack() {
	e.stackMu.Lock()
	defer e.stackMu.Unlock()
	e.stack = nil
}

// account is whose the credentials are, which must be whom lotse.yaml names.
func (e *Engine) account(ctx context.Context) (string, error) {
	who, err := e.api.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	account, want := sdk.ToString(who.Account), e.Stage.AWS.Account
	if want != "" && account != want {
		return "", deploy.Hint(fmt.Errorf("%w: the credentials are of the account %s, and lotse.yaml names %s", deploy.ErrBadInput, account, want),
			"choose the other one with AWS_PROFILE, or write its number in lotse.yaml under aws: account")
	}
	return account, nil
}

// usable reports whether a stack in this state has what environments need.
func (e *Engine) usable(state types.StackStatus) error {
	in := fmt.Sprintf("the stack %s is in %s", e.stackName(), state)
	switch {
	case slices.Contains([]types.StackStatus{types.StackStatusRollbackComplete, types.StackStatusRollbackFailed, types.StackStatusCreateFailed,
		types.StackStatusDeleteFailed}, state):
		return deploy.Hint(fmt.Errorf("%w: %s: it was not made", deploy.ErrRefused, in), "look at its events for what failed, delete it, and `lotse infra apply` again")
	case state == types.StackStatusDeleteInProgress:
		return deploy.Hint(fmt.Errorf("%w: %s", deploy.ErrRefused, in), "somebody is deleting it; `lotse infra apply` makes it again")
	case state == types.StackStatusCreateInProgress || state == types.StackStatusReviewInProgress || state == types.StackStatusRollbackInProgress:
		return deploy.Hint(fmt.Errorf("%w: %s", deploy.ErrBusy, in), "wait until `lotse infra apply` has ended")
	}
	return nil
}

// parse reads the outputs. One that is missing is of a template that was changed, or of an older Lotse.
func (e *Engine) parse(outputs []types.Output) (*stack, error) {
	of := map[string]string{}
	for _, o := range outputs {
		of[sdk.ToString(o.OutputKey)] = sdk.ToString(o.OutputValue)
	}
	mine := camel(e.Stage.Name)
	s := &stack{application: of["Application"], serviceRole: of["ServiceRole"], profile: of[mine+"InstanceProfile"], vpc: of["Vpc"],
		instanceSubnets: of["InstanceSubnets"], balancerSubnets: of["BalancerSubnets"], instanceGroup: of[mine+"InstanceSecurityGroup"],
		balancerGroup: of["BalancerSecurityGroup"], certificate: of["Certificate"], balancer: of["Balancer"], listener: of["Listener"],
		releases: of["Releases"], databaseHost: of[mine+"DatabaseHost"], databaseSecret: of[mine+"DatabaseSecret"], volumes: of[mine+"Volumes"],
		logs: of[mine+"Logs"], site: of[mine+"Site"], distribution: of[mine+"Distribution"]}
	need := []string{"Application", "ServiceRole", mine + "InstanceProfile", "Vpc", "InstanceSubnets", "BalancerSubnets", mine + "InstanceSecurityGroup",
		"BalancerSecurityGroup", "Certificate", "Releases"}
	if e.Stage.AWS.Balancer != deploy.AWSOwn {
		need = append(need, "Balancer", "Listener")
	}
	if e.Stage.Database.Own() {
		need = append(need, mine+"DatabaseHost", mine+"DatabaseSecret")
	}
	if e.Stage.AWS.Static {
		need = []string{mine + "Site", mine + "Distribution"}
	}
	missing := slices.DeleteFunc(need, func(key string) bool { return of[key] != "" })
	if len(missing) > 0 {
		return nil, deploy.Hint(fmt.Errorf("%w: the stack %s has no output %s", deploy.ErrMissing, e.stackName(), strings.Join(missing, ", ")),
			"`lotse infra apply` brings it up to date with lotse.yaml")
	}
	return s, nil
}
