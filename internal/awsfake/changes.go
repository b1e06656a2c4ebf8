package awsfake

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

func addChanges(s *service) {
	add(s, "UpdateEnvironment", updateEnvironment)
	add(s, "AbortEnvironmentUpdate", abortUpdate)
	add(s, "SwapEnvironmentCNAMEs", swapCNAMEs)
	add(s, "RebuildEnvironment", rebuild)
	add(s, "RestartAppServer", restart)
	add(s, "AssociateEnvironmentOperationsRole", associateRole, "EnvironmentName", "OperationsRole")
	add(s, "DisassociateEnvironmentOperationsRole", disassociateRole, "EnvironmentName")
}

func updateEnvironment(c *request, in *eb.UpdateEnvironmentInput) (*eb.UpdateEnvironmentOutput, error) {
	b := &c.region.beanstalk
	e, err := b.ready(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	next, err := c.updated(e, in)
	if err != nil {
		return nil, err
	}
	before := *e
	e.version, e.platform, e.options, e.template, e.tier, e.requestID = next.version, next.platform, next.options, next.template, next.tier, newUUID()
	if in.Description != nil {
		e.description = *in.Description
	}
	e.status, e.color, e.health = types.EnvironmentStatusUpdating, types.EnvironmentHealthGrey, types.EnvironmentHealthStatusInfo
	e.touch()
	c.w.tell(c.region, e, "", "Environment update is starting.")
	c.w.update(c.region, e, before, e.version != before.version || in.OptionSettings != nil || in.OptionsToRemove != nil || e.platform.arn != before.platform.arn)
	out := &eb.UpdateEnvironmentOutput{}
	copyFields(out, e.describe())
	return out, nil
}

// updated is what e would be after the request, or the refusal.
func (c *request) updated(e *environment, in *eb.UpdateEnvironmentInput) (environment, error) {
	next := *e
	app, err := c.region.beanstalk.app(&e.app)
	if err != nil {
		return next, err
	}
	settings := in.OptionSettings
	if in.VersionLabel != nil {
		if _, err := app.version(in.VersionLabel); err != nil {
			return next, err
		}
		next.version = *in.VersionLabel
	}
	if in.TemplateName != nil {
		template, err := app.templateNamed(in.TemplateName)
		if err != nil {
			return next, err
		}
		next.template = *in.TemplateName
		settings = append(withValues(template.OptionSettings), settings...)
	}
	if in.SolutionStackName != nil || in.PlatformArn != nil {
		if next.platform, err = c.findPlatform(in.SolutionStackName, in.PlatformArn); err != nil {
			return next, err
		}
	}
	if in.Tier != nil {
		next.tier = *in.Tier
	}
	next.options, err = e.options.with(settings, in.OptionsToRemove)
	return next, err
}

// update brings an environment to what it now is; where it fails or is aborted, the version that ran before comes back.
// The caller holds mu.
func (w *World) update(r *region, e *environment, before environment, fresh bool) {
	w.operate(r, e, w.options.Update, func(ctx context.Context, stage func(float64, func()) bool) error {
		if !stage(0.5, func() {}) {
			return ctx.Err()
		}
		if fresh {
			w.locked(func() { w.tell(r, e, "", "Deploying new version to instance(s).") })
			if err := w.deploy(ctx, r, e); err != nil {
				return err
			}
			w.locked(func() { w.tell(r, e, "", "New application version was deployed to running EC2 instances.") })
		}
		if !stage(0.5, func() {}) {
			return ctx.Err()
		}
		return nil
	}, func(err error) {
		switch {
		case errors.Is(err, context.Canceled):
			e.version, e.options, e.platform = before.version, before.options, before.platform
			e.color, e.health, e.causes = types.EnvironmentHealthGreen, types.EnvironmentHealthStatusOk, nil
			w.tell(r, e, "", "The environment update was aborted.") // ours
		case err != nil:
			w.tell(r, e, types.EventSeverityError, "During an aborted deployment, some instances may have deployed the new application version. To ensure all instances are running the same version, re-deploy the appropriate application version.")
		default:
			w.tell(r, e, "", "Environment update completed successfully.")
		}
	})
}

func abortUpdate(c *request, in *eb.AbortEnvironmentUpdateInput) (*eb.AbortEnvironmentUpdateOutput, error) {
	e, err := c.region.beanstalk.live(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	if e.abort == nil {
		return nil, invalid("Environment named %s is in an invalid state for this operation. Must be pending deployment.", e.name)
	}
	e.status = types.EnvironmentStatusAborting
	e.touch()
	c.w.tell(c.region, e, "", "Environment update is aborting.") // ours
	e.abort()
	return &eb.AbortEnvironmentUpdateOutput{}, nil
}

// swapPair finds the two environments that a swap names, both by name or both by id.
func (c *request) swapPair(in *eb.SwapEnvironmentCNAMEsInput) (from, to *environment, err error) {
	byIDs := in.SourceEnvironmentId != nil && in.DestinationEnvironmentId != nil
	byNames := in.SourceEnvironmentName != nil && in.DestinationEnvironmentName != nil
	if !byIDs && !byNames {
		return nil, nil, refuse("InvalidParameterCombination", "Both the source and the destination must be specified, by EnvironmentId or by EnvironmentName.") // words ours
	}
	if from, err = c.region.beanstalk.ready(in.SourceEnvironmentId, in.SourceEnvironmentName); err != nil {
		return nil, nil, err
	}
	if to, err = c.region.beanstalk.ready(in.DestinationEnvironmentId, in.DestinationEnvironmentName); err != nil {
		return nil, nil, err
	}
	if from == to {
		return nil, nil, invalid("The source and the destination are the same environment.") // ours
	}
	return from, to, nil
}

func swapCNAMEs(c *request, in *eb.SwapEnvironmentCNAMEsInput) (*eb.SwapEnvironmentCNAMEsOutput, error) {
	from, to, err := c.swapPair(in)
	if err != nil {
		return nil, err
	}
	w, r := c.w, c.region
	trouble, _ := w.troubled(from.name, func(t *Trouble) bool { return t.Slower > 0 })
	_, fails := w.troubled(from.name, func(t *Trouble) bool { return t.SwapFails })
	both := []*environment{from, to}
	for _, e := range both {
		e.status, e.requestID = types.EnvironmentStatusUpdating, newUUID()
		e.touch()
		w.tell(r, e, "", "swapEnvironmentCNAMEs is starting.") // ours
	}
	w.later(func(ctx context.Context) {
		if wait(ctx, w.options.Swap+trouble.Slower) {
			w.locked(func() { w.finishSwap(r, from, to, fails) })
		}
	})
	return &eb.SwapEnvironmentCNAMEsOutput{}, nil
}

func (w *World) finishSwap(r *region, from, to *environment, fails bool) {
	severity, message := types.EventSeverityInfo, fmt.Sprintf("Completed swapping CNAMEs for environments '%s' and '%s'.", from.name, to.name)
	if fails {
		severity, message = types.EventSeverityError, fmt.Sprintf("Failed to swap CNAMEs for environments '%s' and '%s'.", from.name, to.name) // words ours
	} else {
		w.backing.swap(from.cname, to.cname)
		from.cname, to.cname = to.cname, from.cname
	}
	for _, e := range []*environment{from, to} {
		e.status = types.EnvironmentStatusReady
		w.tell(r, e, severity, message)
		e.touch()
	}
}

func rebuild(c *request, in *eb.RebuildEnvironmentInput) (*eb.RebuildEnvironmentOutput, error) {
	e, err := c.region.beanstalk.ready(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	e.status, e.color, e.health = types.EnvironmentStatusUpdating, types.EnvironmentHealthGrey, types.EnvironmentHealthStatusPending
	e.touch()
	c.w.tell(c.region, e, "", "rebuildEnvironment is starting.")
	c.w.update(c.region, e, *e, true)
	return &eb.RebuildEnvironmentOutput{}, nil
}

func restart(c *request, in *eb.RestartAppServerInput) (*eb.RestartAppServerOutput, error) {
	e, err := c.region.beanstalk.ready(in.EnvironmentId, in.EnvironmentName)
	if err != nil {
		return nil, err
	}
	e.status = types.EnvironmentStatusUpdating
	e.touch()
	c.w.tell(c.region, e, "", "restartAppServer is starting.")
	c.w.update(c.region, e, *e, true)
	return &eb.RestartAppServerOutput{}, nil
}

func associateRole(c *request, in *eb.AssociateEnvironmentOperationsRoleInput) (*eb.AssociateEnvironmentOperationsRoleOutput, error) {
	e, err := c.region.beanstalk.live(nil, in.EnvironmentName)
	if err == nil {
		e.role = aws.ToString(in.OperationsRole)
		e.touch()
	}
	return &eb.AssociateEnvironmentOperationsRoleOutput{}, err
}

func disassociateRole(c *request, in *eb.DisassociateEnvironmentOperationsRoleInput) (*eb.DisassociateEnvironmentOperationsRoleOutput, error) {
	e, err := c.region.beanstalk.live(nil, in.EnvironmentName)
	if err == nil {
		e.role = ""
		e.touch()
	}
	return &eb.DisassociateEnvironmentOperationsRoleOutput{}, err
}
