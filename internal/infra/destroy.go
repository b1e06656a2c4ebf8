package infra

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	beanstalktypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Destroy deletes the app's stacks, the last one made first. What holds data stays, and what that needs: the template says so, and a stack
// whose template does not is ErrRefused, as is an app of which an environment runs. say hears what goes on, and of each thing that is kept.
// A stack that is gone already is no error, so a second Destroy goes on where the first one ended. A cancel does not stop AWS.
func (c Cloud) Destroy(ctx context.Context, app deploy.App, say func(line string)) error {
	s, err := c.open(ctx, app)
	if err != nil {
		return err
	}
	w := &work{session: s, say: say}
	if err := w.nothingRuns(ctx); err != nil {
		return err
	}
	for _, st := range w.stacks {
		if err := w.mayGo(ctx, st); err != nil {
			return err
		}
	}
	for _, st := range slices.Backward(w.stacks) {
		if err := w.demolish(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// nothingRuns refuses while there are environments: they stand in the network of the stack, and serve.
func (w *work) nothingRuns(ctx context.Context) error {
	if w.app.Static() {
		return nil
	}
	home := awsOf(w.app).Region
	cfg, err := w.config(ctx, home)
	if err != nil {
		return err
	}
	out, err := elasticbeanstalk.NewFromConfig(cfg).DescribeEnvironments(ctx, &elasticbeanstalk.DescribeEnvironmentsInput{ApplicationName: aws.String(w.app.Name)})
	if err != nil {
		return w.explain(ctx, err, "elasticbeanstalk:DescribeEnvironments", home)
	}
	var running []string
	for _, e := range out.Environments {
		if e.Status != beanstalktypes.EnvironmentStatusTerminated {
			running = append(running, aws.ToString(e.EnvironmentName))
		}
	}
	if len(running) == 0 {
		return nil
	}
	slices.Sort(running)
	return deploy.Hint(fmt.Errorf("%w: environments of %s still run, and nothing was deleted: %s", deploy.ErrRefused, w.app.Name, strings.Join(running, ", ")),
		"end every stage first: lotse end STAGE --yes-end "+w.app.Name+"/STAGE. What no stage knows of: aws elasticbeanstalk terminate-environment --region "+home+" --environment-name NAME")
}

// mayGo finds a stack and refuses one that is not ours, one that is at work, and one that would take data along. One that failed to be
// made, or to be deleted, may go.
func (w *work) mayGo(ctx context.Context, st *stack) error {
	found, err := w.describe(ctx, st.api, st.Name)
	if err != nil {
		return w.explain(ctx, err, "cloudformation:DescribeStacks", st.Region)
	}
	if st.there = found; found == nil {
		return nil
	}
	if err := w.ours(st); err != nil {
		return err
	}
	if status := string(found.StackStatus); strings.HasSuffix(status, "_IN_PROGRESS") && status != string(types.StackStatusReviewInProgress) {
		return w.busy(ctx, st)
	}
	if err := w.remember(ctx, st); err != nil {
		return err
	}
	var lost []string
	for _, name := range data(st.before) {
		if keeps(st.before[name].Deletion) < keeps("Retain") {
			lost = append(lost, name+" ("+st.before[name].Kind+")")
		}
	}
	if len(lost) > 0 {
		return deploy.Hint(fmt.Errorf("%w: the stack %s would take data along, and nothing was deleted: %s", deploy.ErrRefused, st.Name, strings.Join(lost, ", ")),
			"lotse infra apply writes down that they are kept; then again")
	}
	return nil
}

// demolish deletes one stack and follows that to its end.
func (w *work) demolish(ctx context.Context, st *stack) error {
	if st.there == nil {
		w.say(fmt.Sprintf("stack %s: there is none in %s", st.Name, st.Region))
		return nil
	}
	if err := w.protect(ctx, st, false); err != nil {
		return err
	}
	token := w.tokenPrefix(st) + w.Now().UTC().Format("20060102T150405Z") + "-" + wordOf(w.who)
	w.say(fmt.Sprintf("stack %s in %s is being deleted", st.Name, st.Region))
	// By its id: after the end, that alone leads to its events.
	if _, err := st.api.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: st.there.StackId, ClientRequestToken: aws.String(token)}); err != nil {
		return w.explain(ctx, err, "cloudformation:DeleteStack", st.Region)
	}
	if err := w.follow(ctx, st, token); err != nil {
		return err
	}
	w.say(fmt.Sprintf("stack %s is deleted", st.Name))
	return nil
}
