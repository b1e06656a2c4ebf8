package awsfake

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

// operation of an environment: what happens after a request was accepted. Each runs in the background and takes mu for
// what it changes, never while it waits or while processes start.

// launch lets a new environment come up. The caller holds mu.
func (w *World) launch(r *region, e *environment) {
	w.operate(r, e, w.options.Launch, func(ctx context.Context, stage func(part float64, do func()) bool) error {
		if !stage(0.25, func() { w.tellResources(r, e) }) {
			return ctx.Err()
		}
		if err := w.hangUp(ctx, r, e); err != nil {
			return err
		}
		if !stage(0.5, func() {
			w.tell(r, e, "", "Environment health has transitioned to Pending. Initialization in progress (running for 5 seconds). There are no instances.")
		}) {
			return ctx.Err()
		}
		if err := w.deploy(ctx, r, e); err != nil {
			return err
		}
		if !stage(0.25, func() {}) {
			return ctx.Err()
		}
		w.locked(func() {
			w.tell(r, e, "", fmt.Sprintf("Application available at %s.", e.cname))
		})
		return nil
	}, func(err error) {
		if err == nil {
			w.tell(r, e, "", "Successfully launched environment: "+e.name)
			return
		}
		w.tell(r, e, types.EventSeverityError, "Create environment operation is complete, but with errors. For more information, see troubleshooting documentation.")
		w.tell(r, e, types.EventSeverityWarn, "Launched environment: "+e.name+". However, there were issues during launch. See event log for details.")
	})
}

func (w *World) locked(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// tellResources are the events of what Beanstalk makes for an environment.
func (w *World) tellResources(r *region, e *environment) {
	w.tell(r, e, "", fmt.Sprintf("Using elasticbeanstalk-%s-%s as Amazon S3 storage bucket for environment data.", r.name, w.options.Account))
	w.tell(r, e, "", "Created security group named: sg-"+newHex(17))
	w.storage("elasticbeanstalk-" + r.name + "-" + w.options.Account)
}

// operate runs do, which goes through its stages in d altogether, and leaves e Ready; say tells the outcome. Without an
// error e is Green, else Red. The caller holds mu.
func (w *World) operate(r *region, e *environment, d time.Duration, do func(ctx context.Context, stage func(part float64, do func()) bool) error, say func(error)) {
	trouble, _ := w.troubled(e.name, func(t *Trouble) bool { return t.Slower > 0 })
	_, isStuck := w.troubled(e.name, func(t *Trouble) bool { return t.Stuck })
	d += trouble.Slower
	ctx, cancel := context.WithCancel(w.ctx)
	if e.status == types.EnvironmentStatusUpdating {
		e.abort = cancel
	}
	stage := func(part float64, do func()) bool {
		if !wait(ctx, time.Duration(float64(d)*part)) {
			return false
		}
		w.locked(func() { do(); e.touch() })
		return true
	}
	healed := w.healed
	w.later(func(context.Context) {
		defer cancel()
		err := do(ctx, stage)
		if isStuck && err == nil {
			select {
			case <-healed:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if w.ctx.Err() != nil {
			return
		}
		w.locked(func() { w.settle(r, e, err, say) })
	})
}

// settle ends an operation: status, colour, events. The caller holds mu.
func (w *World) settle(r *region, e *environment, err error, say func(error)) {
	e.abort = nil
	e.status = types.EnvironmentStatusReady
	_, red := w.troubled(e.name, func(t *Trouble) bool { return t.Red })
	if err != nil || red {
		e.color, e.health = types.EnvironmentHealthRed, types.EnvironmentHealthStatusSevere
		e.causes = []string{"100.0 % of the requests are failing with HTTP 5xx."}
		if err != nil {
			e.causes = []string{"Incorrect application version found on all instances. Expected version \"" + e.version + "\" (deployment " + strconv.FormatInt(e.deployments, 10) + ")."}
		}
	} else {
		e.color, e.health, e.causes = types.EnvironmentHealthGreen, types.EnvironmentHealthStatusOk, nil
		e.refresh()
	}
	say(err)
	if red {
		w.tell(r, e, types.EventSeverityWarn, "Environment health has transitioned from Pending to Severe. 100.0 % of the requests are failing with HTTP 5xx.")
	} else if err == nil {
		w.tell(r, e, "", "Environment health has transitioned from Pending to Ok. Initialization completed 12 seconds ago and took 2 minutes.")
	}
	e.touch()
}

var errDeploy = errors.New("failed to deploy application")

// deploy puts the environment's version on fresh instances and takes the old ones away.
func (w *World) deploy(ctx context.Context, r *region, e *environment) error {
	var fails bool
	var spec launchSpec
	var specErr error
	w.locked(func() {
		_, fails = w.troubled(e.name, func(t *Trouble) bool { return t.LaunchFails })
		spec, specErr = w.specOf(r, e)
	})
	if specErr != nil {
		w.failDeploy(r, e, specErr.Error())
		return specErr
	}
	if fails {
		w.failDeploy(r, e, "Instance deployment failed. For details, see 'eb-engine.log'.")
		return errDeploy
	}
	fresh, err := w.launchAll(ctx, spec)
	if err != nil {
		w.swapInstances(e, fresh)
		w.failDeploy(r, e, "Instance deployment failed. For details, see 'eb-engine.log'.")
		return fmt.Errorf("%w: %w", errDeploy, err)
	}
	w.swapInstances(e, fresh)
	w.locked(func() {
		e.deployments++
		e.deployedAt = *now()
		w.tell(r, e, "", "Added instance "+listIDs(fresh)+" to your environment.")
		w.tell(r, e, "", "Instance deployment completed successfully.")
	})
	return w.awaitHealth(ctx, e)
}

// launchAll starts all instances at once; those that came into being are returned, also where another failed.
func (w *World) launchAll(ctx context.Context, spec launchSpec) (made []instance, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for range max(1, spec.count) {
		all.Go(func() {
			i, failed := w.backing.launch(ctx, spec)
			mu.Lock()
			defer mu.Unlock()
			if i != nil {
				made = append(made, i)
			}
			err = errors.Join(err, failed)
		})
	}
	all.Wait()
	return made, err
}

func listIDs(instances []instance) string {
	var ids []string
	for _, i := range instances {
		ids = append(ids, i.id())
	}
	return "[" + strings.Join(ids, ", ") + "]"
}

func (w *World) failDeploy(r *region, e *environment, reason string) {
	w.locked(func() {
		w.tell(r, e, types.EventSeverityError, reason)
		w.tell(r, e, types.EventSeverityError, "Unsuccessful command execution on instance id(s) '"+strings.Trim(listIDs(e.instances), "[]")+"'. Aborting the operation.")
		w.tell(r, e, types.EventSeverityError, "Failed to deploy application.")
	})
}

// awaitHealth waits until every instance passes its checks, for as long as Options.HealthTimeout.
func (w *World) awaitHealth(ctx context.Context, e *environment) error {
	deadline := time.Now().Add(w.options.HealthTimeout)
	for {
		well := true
		w.locked(func() {
			for _, i := range e.instances {
				well = well && i.healthy()
			}
		})
		if well {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: instances did not get well", errDeploy)
		}
		if !wait(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// swapInstances puts fresh instances into the target group and takes the old ones away.
func (w *World) swapInstances(e *environment, fresh []instance) {
	var old []instance
	w.locked(func() {
		old, e.instances = e.instances, fresh
		if e.group != nil {
			for _, i := range fresh {
				w.register(e.group, i)
			}
			for _, i := range old {
				w.deregister(e.group, i)
			}
		}
	})
	var all sync.WaitGroup
	for _, i := range old {
		all.Go(func() { i.stop(w.ctx) })
	}
	all.Wait()
}

// terminate ends an environment. Its name and CNAME are free once it is Terminated. The caller holds mu.
func (w *World) terminate(r *region, e *environment) {
	e.status, e.color, e.health = types.EnvironmentStatusTerminating, types.EnvironmentHealthGrey, types.EnvironmentHealthStatusSuspended
	e.touch()
	w.tell(r, e, "", "terminateEnvironment is starting.")
	trouble, _ := w.troubled(e.name, func(t *Trouble) bool { return t.Slower > 0 })
	_, fails := w.troubled(e.name, func(t *Trouble) bool { return t.TerminateFails })
	d := w.options.Terminate + trouble.Slower
	w.later(func(ctx context.Context) {
		if !wait(ctx, d) {
			return
		}
		if fails {
			w.locked(func() {
				e.status, e.color, e.health = types.EnvironmentStatusReady, types.EnvironmentHealthGreen, types.EnvironmentHealthStatusOk
				w.tell(r, e, types.EventSeverityError, "Failed to terminate environment: "+e.name+". Deleting the stack failed.") // words ours
				e.touch()
			})
			return
		}
		w.dismantle(r, e)
	})
}

func (w *World) dismantle(r *region, e *environment) {
	w.swapInstances(e, nil)
	w.locked(func() {
		w.takeDown(r, e)
		e.status, e.ended = types.EnvironmentStatusTerminated, time.Now()
		w.tell(r, e, "", "terminateEnvironment completed successfully.")
		e.touch()
		delete(r.beanstalk.tags, e.arn)
	})
}
