package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Start implements deploy.Engine.
func (e *Engine) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	err := order.Validate()
	if err == nil {
		err = e.start(ctx, fence, order)
	}
	err = e.failed(ctx, "start "+order.Rollout, err)
	if a, ok := errors.AsType[*answer](err); ok { // AWS repeats what it does not like
		a.text = process.NewMask(order.Hidden()).String(a.text)
	}
	return err
}

func (e *Engine) start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	count, err := e.possible(order)
	if err != nil {
		return err
	}
	e.forgetStack()
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	ctx, end := e.abortable(ctx, order.Rollout)
	defer end()
	unlock, err := e.rollouts.lock(ctx, order.Rollout)
	defer unlock()
	if err != nil {
		return err
	}
	there, isUp, err := e.there(ctx, order)
	if err != nil || isUp {
		return err
	}
	created := there != nil
	if err := e.bringUp(ctx, fence, order, count, there, &created); err != nil {
		// Whatever became of ctx: nothing may be left.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Timing.Undo)
		defer cancel()
		if left := e.remove(undo, fence, order.Rollout, created); left != nil {
			e.Log.Warn("a start that failed could not be undone yet", "app", e.App, "stage", e.Stage.Name, "rollout", order.Rollout, "err", translate(left))
		}
		return because(ctx, err)
	}
	e.Log.Info("release is up", "app", e.App, "stage", e.Stage.Name, "rollout", order.Rollout, "release", order.Release.ID.Short())
	return nil
}

// because is err, or why ctx has ended where err only follows from that.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, deploy.ErrCannotStart) && !errors.Is(err, deploy.ErrMigration) {
		return context.Cause(ctx)
	}
	return err
}

// abortable lets Stop end a Start that is under way.
func (e *Engine) abortable(ctx context.Context, rollout string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.starting[rollout] = append(e.starting[rollout], cancel)
	return ctx, func() { cancel(nil) }
}

func (e *Engine) abort(rollout string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, cancel := range e.starting[rollout] {
		cancel(fmt.Errorf("%w: it was stopped while it started", deploy.ErrAborted))
	}
	delete(e.starting, rollout)
}

// possible says what this platform cannot do with an order, before anything is asked or done.
func (e *Engine) possible(o deploy.Order) (machinesNeeded int, err error) {
	services := o.Release.Manifest.Services
	if !Carries(services) {
		return 0, fmt.Errorf("%w: the release has files alone; they are served from a bucket", deploy.ErrUnsupported)
	}
	if err := fits(e.variablesOf(o)); err != nil {
		return 0, err
	}
	if _, err := os.Stat(e.Lotse); err != nil {
		return 0, fmt.Errorf("%w: the lotse for the instances is not there", deploy.ErrNotFound)
	}
	return machines(services)
}

// variablesOf are the settings of an order as the environment gets them.
func (e *Engine) variablesOf(o deploy.Order) []deploy.Setting {
	all := slices.DeleteFunc(slices.Clone(o.Settings), func(s deploy.Setting) bool { return s.Name == "PORT" })
	return append(all, deploy.Setting{Name: "PORT", Value: secret.New(frontPort)}) // the platform would say another
}

// there looks whether the rollout is on the platform already, and whether its start has succeeded before. What is there and not up goes
// on where somebody was killed.
func (e *Engine) there(ctx context.Context, o deploy.Order) (v *environment, isUp bool, err error) {
	v, err = e.find(ctx, o.Rollout)
	if err != nil || v == nil {
		return nil, false, err
	}
	if v.going() { // an earlier try, or an earlier Stop
		return nil, false, e.terminate(ctx, *v)
	}
	if v.labels[tagRelease] != string(o.Release.ID) {
		return nil, false, fmt.Errorf("%w: %s runs the release %s", deploy.ErrBadInput, o.Rollout, v.label())
	}
	s, _, err := e.readState(ctx)
	if err != nil || !v.ready() || !slices.Contains(s.Up, o.Rollout) {
		return v, false, err
	}
	return v, true, e.lb.prepare(ctx, *v)
}

// bringUp does what a Start does. created is set as soon as there may be an environment.
func (e *Engine) bringUp(ctx context.Context, fence deploy.Fence, o deploy.Order, count int, there *environment, created *bool) error {
	v := there
	if v == nil {
		var err error
		if v, err = e.launch(ctx, o, count, created); err != nil {
			return err
		}
	}
	if err := e.awaitReady(ctx, *v, o); err != nil {
		return err
	}
	if err := e.awaitHealth(ctx, *v, o); err != nil {
		return err
	}
	now, err := e.must(ctx, o.Rollout) // with the name that it has now
	if err != nil {
		return err
	}
	if err := e.lb.prepare(ctx, now); err != nil {
		return err
	}
	if err := e.awaitReach(ctx, now); err != nil {
		return err
	}
	return e.up(ctx, fence, o.Rollout, true)
}

// launch makes the bundle, the version and the environment.
func (e *Engine) launch(ctx context.Context, o deploy.Order, count int, created *bool) (*environment, error) {
	s, err := e.outputs(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.wanted(o, s); err != nil {
		return nil, err
	}
	if err := e.makeRoom(ctx, s, e.lb.launches()); err != nil {
		return nil, err
	}
	all := e.variablesOf(o)
	if o.Stage.Private {
		lock, err := e.lockReference(ctx, o.Password)
		if err != nil {
			return nil, err
		}
		all = append(all, lock)
	}
	if err := e.forgetLogs(ctx); err != nil {
		e.Log.Warn("old logs stay", "app", e.App, "stage", e.Stage.Name, "err", translate(err))
	}
	if err := e.lb.begin(ctx); err != nil {
		return nil, err
	}
	options := append(e.options(s, count, drainOf(o)), variables(all)...)
	if *created, err = e.create(ctx, s, o, e.environmentName(o.Rollout), "", options, e.labelsOf(o)); err != nil {
		return nil, err
	}
	e.Log.Info("environment is being launched", "app", e.App, "stage", e.Stage.Name, "rollout", o.Rollout, "environment", e.environmentName(o.Rollout), "machines", count)
	return e.appear(ctx, o.Rollout, e.Timing.Settle)
}

// create makes the version and the environment of an order, or finds that an earlier try has. prefix is of its name; empty: any. It
// reports whether there may be an environment: a call without an answer may have been carried out.
func (e *Engine) create(ctx context.Context, s *stack, o deploy.Order, name, prefix string, options settings, l labels) (may bool, err error) {
	platform, err := e.platform(ctx, language(o.Release.Manifest.Services))
	if err != nil {
		return false, err
	}
	if err := e.publish(ctx, o, s); err != nil {
		return false, err
	}
	in := &eb.CreateEnvironmentInput{ApplicationName: &s.application, EnvironmentName: &name, VersionLabel: sdk.String(e.versionLabel(o.Rollout)),
		PlatformArn: &platform, OptionSettings: options, Tags: beanstalkTags(l), Description: sdk.String("Lotse: " + e.key() + " " + o.Rollout)}
	if prefix != "" {
		in.CNAMEPrefix = &prefix
	}
	_, err = e.api.eb.CreateEnvironment(ctx, in)
	if says(err, "already exists") { // the answer to an earlier try was lost
		return true, nil
	}
	_, refused := errors.AsType[smithy.APIError](err)
	return !refused, err
}

// wanted is what the release needs of the stack.
func (e *Engine) wanted(o deploy.Order, s *stack) error {
	if len(volumesOf(o.Release.Manifest)) > 0 && s.volumes == "" {
		return deploy.Hint(fmt.Errorf("%w: the release has volumes, and the stack %s no file system for %s", deploy.ErrMissing, e.stackName(), e.Stage.Name), "`lotse infra apply` makes it")
	}
	return nil
}

// appear returns the environment of a rollout as soon as descriptions show it: they may lag behind.
func (e *Engine) appear(ctx context.Context, rollout string, limit time.Duration) (v *environment, err error) {
	err = e.await(ctx, limit, "the environment", func(ctx context.Context) (bool, error) {
		v, err = e.find(ctx, rollout)
		return v != nil, err
	})
	return v, err
}

// awaitReady waits until the platform has ended the launch, one way or the other.
func (e *Engine) awaitReady(ctx context.Context, v environment, o deploy.Order) error {
	return e.await(ctx, e.Timing.Launch, "the environment's launch", func(ctx context.Context) (bool, error) {
		now, err := e.describe(ctx, v)
		if err != nil {
			return false, err
		}
		if now == nil || now.going() {
			return false, e.cannotStart(ctx, v, o, wrong{cause: "was removed while it was launched", silent: true})
		}
		return now.ready(), nil
	})
}

// awaitHealth waits until the platform and every front say that all is well. That the platform is ready says nothing: Ready and Red is
// a release that cannot run.
func (e *Engine) awaitHealth(ctx context.Context, v environment, o deploy.Order) error {
	limit := startMost(o.Release.Manifest.Services)
	begun := time.Now()
	return e.await(ctx, limit+e.Timing.Settle, "health", func(ctx context.Context) (bool, error) {
		now, err := e.describe(ctx, v)
		if err != nil {
			return false, err
		}
		if now == nil || now.going() {
			return false, e.cannotStart(ctx, v, o, wrong{cause: "was removed while it was launched", silent: true})
		}
		all, err := e.statuses(ctx, v)
		if err != nil {
			return false, err
		}
		bad := sick(v.labels, all)
		late := time.Since(begun) > limit
		switch {
		case bad == nil && now.green():
			return true, nil
		case bad == nil && late:
			return false, e.cannotStart(ctx, v, o, wrong{cause: fmt.Sprintf("Elastic Beanstalk says %s within %s", cmp.Or(string(now.health), "nothing"), limit), silent: true})
		case bad == nil:
			return false, nil
		case late, bad.restarts >= crashesMost, bad.silent && e.deployFailed(ctx, *now):
			return false, e.cannotStart(ctx, v, o, *bad)
		}
		return false, nil
	})
}

// crashesMost is how often in a row a service may end before its start is given up.
const crashesMost = 3

// deployFailed reports whether the platform has given up: it is red, and said why.
func (e *Engine) deployFailed(ctx context.Context, v environment) bool {
	return !v.green() && len(e.complaints(ctx, v, types.EventSeverityError)) > 0
}

// cannotStart is a *deploy.StartError with all that the platform and the release have said.
func (e *Engine) cannotStart(ctx context.Context, v environment, o deploy.Order, w wrong) error {
	mask := process.NewMask(o.Hidden())
	if o.Stage.Database.Migrations != "" && e.MigratesInStart(o.Stage.Database) {
		if said := e.migrationFailed(ctx, v); said != "" {
			return fmt.Errorf("%w: %s", deploy.ErrMigration, mask.String(said))
		}
	}
	if w.service == "" {
		w.service = commands(o.Release.Manifest.Services)[0].Name
	}
	cause := w.cause
	if all := e.complaints(ctx, v, types.EventSeverityError); w.silent && len(all) > 0 {
		cause = strings.Join(all, " ") + " (" + cause + ")"
	}
	var tail []string
	for _, line := range e.tail(ctx, v, w) {
		tail = append(tail, mask.String(line))
	}
	return &deploy.StartError{Service: w.service, Instance: w.instance, Cause: mask.String(cause), Tail: tail}
}

// migrationFailed is what the migration has said that ended the launch, "" where none did.
func (e *Engine) migrationFailed(ctx context.Context, v environment) string {
	ids, err := e.machinesOf(ctx, v)
	if err != nil {
		return ""
	}
	heard, err := e.order(ctx, ids, "tail -c 4000 "+migrateFailed+" 2>/dev/null || true", e.Timing.Command)
	if err != nil {
		return ""
	}
	for _, id := range ids {
		if text := strings.TrimSpace(heard[id].out); text != "" {
			return clean(text)
		}
	}
	return ""
}

// remove takes away all of a rollout: how it is reached, its environment, its version. uncertain says that there may be an environment
// that descriptions do not show yet.
func (e *Engine) remove(ctx context.Context, fence deploy.Fence, rollout string, uncertain bool) error {
	v, err := e.find(ctx, rollout)
	if err != nil {
		return err
	}
	if v == nil && uncertain {
		v, _ = e.appear(ctx, rollout, min(e.Timing.Settle, 10*e.Timing.Poll)) // it is not there after all, or AWS is away
	}
	if err := e.lb.forget(ctx, rollout); err != nil {
		return err
	}
	if v != nil {
		if err := e.terminate(ctx, *v); err != nil {
			return err
		}
	}
	s, err := e.outputs(ctx)
	if err != nil {
		return err
	}
	if err := e.dropVersion(ctx, s, e.versionLabel(rollout)); err != nil {
		return err
	}
	return e.up(ctx, fence, rollout, false)
}
