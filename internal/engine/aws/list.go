package aws

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Check implements deploy.Engine.
func (e *Engine) Check(ctx context.Context, rollout string) error {
	v, err := e.must(ctx, rollout)
	if err == nil {
		err = e.check(ctx, v)
	}
	return e.failed(ctx, "check "+rollout, err)
}

// check is nil when the platform and every front say that all is well.
func (e *Engine) check(ctx context.Context, v environment) error {
	if want := e.versionLabel(v.rollout()); v.version != want {
		return deploy.Hint(&deploy.CheckError{Cause: fmt.Sprintf("somebody has changed the environment %s by hand: it has the version %s and not %s", v.name, v.version, want)},
			"deploy again, and let nobody change environments but Lotse")
	}
	if !v.ready() {
		return &deploy.CheckError{Cause: "is not ready: the environment is " + string(v.status)}
	}
	all, err := e.statuses(ctx, v)
	if err != nil {
		return err
	}
	if bad := sick(v.labels, all); bad != nil {
		return bad.check()
	}
	if v.red() && !e.answers(ctx, v) { // the services are well, and what stands before them is not
		return &deploy.CheckError{Service: v.labels.first(), Cause: "Elastic Beanstalk says Red: " + e.causes(ctx, v)}
	}
	return nil
}

// answers reports whether the rollout answers through its balancer, as itself. The platform's own view lags behind by minutes.
func (e *Engine) answers(ctx context.Context, v environment) bool {
	rt, err := e.reach(ctx, v)
	if err != nil {
		return false
	}
	got, err := e.askRelease(ctx, rt)
	return err == nil && got == v.label()
}

// causes is what Elastic Beanstalk has said last that may be why an environment is not well.
func (e *Engine) causes(ctx context.Context, v environment) string {
	all := e.complaints(ctx, v, types.EventSeverityWarn)
	if len(all) == 0 {
		return "it does not say why"
	}
	return all[len(all)-1]
}

// List implements deploy.Engine. An environment that somebody has begun to make and nobody goes on with is listed too: Stop removes it.
func (e *Engine) List(ctx context.Context) ([]deploy.Running, error) {
	all, err := e.list(ctx)
	return all, e.failed(ctx, "list", err)
}

func (e *Engine) list(ctx context.Context) ([]deploy.Running, error) {
	// Who cannot read the state can start and stop nothing: said here, a rollout ends before it begins anything that must be undone.
	if _, _, err := e.readState(ctx); err != nil {
		return nil, err
	}
	all, err := e.environments(ctx)
	if err != nil {
		return nil, err
	}
	shares, err := e.lb.shares(ctx, all)
	if err != nil {
		return nil, err
	}
	var out []deploy.Running
	var asked sync.WaitGroup
	for _, v := range all {
		if v.parking() {
			continue
		}
		out = append(out, deploy.Running{Rollout: v.rollout(), Release: deploy.Digest(v.labels[tagRelease]), Share: shares[v.rollout()], Since: v.since.UTC()})
	}
	i := 0
	for _, v := range all {
		if v.parking() {
			continue
		}
		r := &out[i]
		i++
		asked.Go(func() { r.Services = e.servicesOf(ctx, v) })
	}
	asked.Wait()
	return out, ctx.Err()
}

// servicesOf are the services of a rollout, as its fronts say they are.
func (e *Engine) servicesOf(ctx context.Context, v environment) []deploy.RunningService {
	if !v.ready() {
		return v.labels.services("the environment is " + string(v.status))
	}
	services := v.labels.services("there is no machine")
	fronts, err := e.statuses(ctx, v)
	if err != nil {
		return v.labels.services("AWS does not say how it is")
	}
	for s := range services {
		for i := range services[s].Instances {
			if i < len(fronts) {
				services[s].Instances[i] = fronts[i].instance(services[s].Name, i)
			}
		}
	}
	return services
}

// instance is how a service of one machine is.
func (a answered) instance(service string, number int) deploy.RunningInstance {
	r := deploy.RunningInstance{Number: number}
	if a.err != nil {
		r.Note = a.err.Error()
		return r
	}
	r.Note = "the front does not know it"
	for _, s := range a.Services {
		if s.Name != service {
			continue
		}
		r.Healthy, r.Restarts, r.Note = s.Healthy, s.Restarts, ""
		if !s.Healthy {
			r.Note = cmp.Or(s.Cause, "does not answer")
		}
	}
	return r
}
