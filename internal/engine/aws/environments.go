package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// environment is one of this stage, as Elastic Beanstalk describes it.
type environment struct {
	id, name, arn, cname, version string
	status                        types.EnvironmentStatus
	health                        types.EnvironmentHealth
	since                         time.Time
	labels
}

func (v environment) rollout() string { return v.labels[tagRollout] }

func (v environment) parking() bool { return v.labels[tagKind] == "parking" }

func (v environment) ready() bool { return v.status == types.EnvironmentStatusReady }

// going reports whether it is being removed.
func (v environment) going() bool {
	return v.status == types.EnvironmentStatusTerminating || v.status == types.EnvironmentStatusTerminated
}

// green reports whether Elastic Beanstalk thinks that it is well.
func (v environment) green() bool { return v.health == types.EnvironmentHealthGreen }

func (v environment) red() bool { return v.health == types.EnvironmentHealthRed }

func (e *Engine) known(d types.EnvironmentDescription) environment {
	return environment{id: sdk.ToString(d.EnvironmentId), name: sdk.ToString(d.EnvironmentName), arn: sdk.ToString(d.EnvironmentArn),
		cname: strings.ToLower(sdk.ToString(d.CNAME)), version: sdk.ToString(d.VersionLabel), status: d.Status, health: d.Health, since: sdk.ToTime(d.DateCreated)}
}

// environments are those of this stage that are there and are not being removed, the parking one among them.
func (e *Engine) environments(ctx context.Context) ([]environment, error) {
	s, err := e.outputs(ctx)
	if err != nil {
		return nil, err
	}
	in := &eb.DescribeEnvironmentsInput{ApplicationName: &s.application, IncludeDeleted: sdk.Bool(false)}
	var all []environment
	for {
		out, err := e.api.eb.DescribeEnvironments(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, d := range out.Environments {
			v := e.known(d)
			if !e.mayBeOurs(v.name) || v.going() {
				continue
			}
			if v.labels, err = e.labelsOfEnvironment(ctx, v); err != nil {
				return nil, err
			}
			if v.labels.ours(e) {
				all = append(all, v)
			}
		}
		if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
			slices.SortFunc(all, func(a, b environment) int { return a.since.Compare(b.since) })
			return all, nil
		}
	}
}

// mayBeOurs spares the tags of environments of other stages. Their names may begin as ours do.
func (e *Engine) mayBeOurs(name string) bool {
	rest, ok := strings.CutPrefix(name, e.stem()+"-")
	return ok && !strings.Contains(rest, "-")
}

// labelsOfEnvironment are its tags. One that has just been made may not have them yet, and one that has just gone has none: then they
// are empty, and asked for again the next time.
func (e *Engine) labelsOfEnvironment(ctx context.Context, v environment) (labels, error) {
	e.mu.Lock()
	l, known := e.labels[v.id]
	e.mu.Unlock()
	if known {
		return l, nil
	}
	out, err := e.api.eb.ListTagsForResource(ctx, &eb.ListTagsForResourceInput{ResourceArn: &v.arn})
	if coded(err, "ResourceNotFoundException") {
		return labels{}, nil
	}
	if err != nil {
		return nil, err
	}
	l = labels{}
	for _, t := range out.ResourceTags {
		l[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
	}
	if l.ours(e) {
		e.mu.Lock()
		e.labels[v.id] = l
		e.mu.Unlock()
	}
	return l, nil
}

// find returns the environment of a rollout, nil where there is none. One that is being removed is found too.
func (e *Engine) find(ctx context.Context, rollout string) (*environment, error) {
	return e.named(ctx, e.environmentName(rollout), rollout)
}

// named returns the environment with a name, which must be ours and of this rollout.
func (e *Engine) named(ctx context.Context, name, rollout string) (*environment, error) {
	out, err := e.api.eb.DescribeEnvironments(ctx, &eb.DescribeEnvironmentsInput{EnvironmentNames: []string{name}, IncludeDeleted: sdk.Bool(false)})
	if err != nil {
		return nil, err
	}
	for _, d := range out.Environments {
		v := e.known(d)
		if v.status == types.EnvironmentStatusTerminated {
			continue
		}
		if v.labels, err = e.labelsOfEnvironment(ctx, v); err != nil {
			return nil, err
		}
		if v.going() {
			return &v, nil
		}
		if !v.labels.ours(e) || v.rollout() != rollout {
			return nil, deploy.Hint(fmt.Errorf("%w: there is an environment %s that is not ours, or has lost its tags", deploy.ErrRefused, name),
				"look at it in the console of Elastic Beanstalk; remove it, or give it back the tags "+tagApp+", "+tagStage+" and "+tagRollout)
		}
		return &v, nil
	}
	return nil, nil
}

// must is find for a rollout that the stage has to have.
func (e *Engine) must(ctx context.Context, rollout string) (environment, error) {
	v, err := e.find(ctx, rollout)
	if err == nil && (v == nil || v.going()) {
		err = fmt.Errorf("%w: %s", deploy.ErrUnknown, rollout)
	}
	if err != nil {
		return environment{}, err
	}
	return *v, nil
}

// describe looks at an environment again. It is nil when it is gone.
func (e *Engine) describe(ctx context.Context, v environment) (*environment, error) {
	out, err := e.api.eb.DescribeEnvironments(ctx, &eb.DescribeEnvironmentsInput{EnvironmentIds: []string{v.id}, IncludeDeleted: sdk.Bool(false)})
	if err != nil || len(out.Environments) == 0 {
		return nil, err
	}
	now := e.known(out.Environments[0])
	now.labels = v.labels
	if now.status == types.EnvironmentStatusTerminated {
		return nil, nil
	}
	return &now, nil
}

// complaints are what Elastic Beanstalk has said of an environment that is as bad as that or worse, oldest first.
func (e *Engine) complaints(ctx context.Context, v environment, severity types.EventSeverity) []string {
	out, err := e.api.eb.DescribeEvents(ctx, &eb.DescribeEventsInput{EnvironmentId: &v.id, Severity: severity, MaxRecords: sdk.Int32(20)})
	if err != nil {
		return nil // there is less to say
	}
	var all []string
	for _, ev := range slices.Backward(out.Events) {
		if text := clean(sdk.ToString(ev.Message)); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// terminate removes an environment, and returns when it is gone. One that is at something else is removed when that has ended.
func (e *Engine) terminate(ctx context.Context, v environment) error {
	return e.await(ctx, e.Timing.Launch+e.Timing.Gone, "the end of the environment "+v.name, func(ctx context.Context) (bool, error) {
		now, err := e.describe(ctx, v)
		if err != nil || now == nil {
			return err == nil, err
		}
		if !now.ready() {
			return false, nil
		}
		_, err = e.api.eb.TerminateEnvironment(ctx, &eb.TerminateEnvironmentInput{EnvironmentId: &v.id, TerminateResources: sdk.Bool(true)})
		if says(err, "No Environment found") {
			return true, nil
		}
		return false, err // busy is awaited
	})
}
