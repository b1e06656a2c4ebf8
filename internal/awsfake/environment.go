package awsfake

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
)

// environment is one Beanstalk environment.
//
//	CreateEnvironment -> Launching -> Ready <-> Updating -> Ready
//	                                    \-> Terminating -> Terminated (shown for an hour)
type environment struct {
	name, id, arn, app, version, description, template string
	platform                                           *platform
	cname, endpoint, role                              string
	tier                                               types.EnvironmentTier
	status                                             types.EnvironmentStatus
	color                                              types.EnvironmentHealth
	health                                             types.EnvironmentHealthStatus
	causes                                             []string
	created, updated, ended                            time.Time
	options                                            optionSet
	requestID                                          string

	deployments  int64
	deployedAt   time.Time
	instances    []instance
	group        *targetGroup // target group of the default process; nil where there is no balancer
	rules        []*rule      // on shared listeners
	balancer     *balancer
	ownsBalancer bool

	abort   context.CancelFunc // ends the operation that runs; nil where none may be aborted
	history []snapshot
}

// snapshot is what a describe that lags behind still answers.
type snapshot struct {
	at    time.Time
	shown types.EnvironmentDescription
}

// pattern of environment names and CNAME prefixes.
var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

// touch notes a change: the time of it, and what describes show from now on.
func (e *environment) touch() {
	e.updated = *now()
	e.history = append(e.history, snapshot{time.Now(), e.describe()})
}

func (e *environment) alive() bool { return e.status != types.EnvironmentStatusTerminated }

func (e *environment) describe() types.EnvironmentDescription {
	tier := e.tier
	d := types.EnvironmentDescription{
		EnvironmentName: aws.String(e.name), EnvironmentId: aws.String(e.id), EnvironmentArn: aws.String(e.arn), ApplicationName: aws.String(e.app),
		VersionLabel: text(e.version), Description: text(e.description), TemplateName: text(e.template), CNAME: text(e.cname), EndpointURL: text(e.endpoint),
		SolutionStackName: aws.String(e.platform.stack), PlatformArn: aws.String(e.platform.arn), OperationsRole: text(e.role),
		DateCreated: aws.Time(e.created), DateUpdated: aws.Time(e.updated), Status: e.status, Health: e.color, HealthStatus: e.health,
		AbortableOperationInProgress: aws.Bool(e.abort != nil), Tier: &tier, EnvironmentLinks: []types.EnvironmentLink{},
	}
	return d
}

// text is nil for an empty string: AWS leaves members out that are not set.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// seen is what a describe shows of e when it lags behind; nil when e was not there yet.
func (e *environment) seen(lag time.Duration) *types.EnvironmentDescription {
	if lag <= 0 {
		e.refresh()
		d := e.describe()
		return &d
	}
	for _, s := range slices.Backward(e.history) {
		if !s.at.After(time.Now().Add(-lag)) {
			return &s.shown
		}
	}
	return nil
}

// refresh takes over what instances say of their health, while the environment is Ready.
func (e *environment) refresh() {
	if e.status != types.EnvironmentStatusReady || len(e.instances) == 0 {
		return
	}
	sick := 0
	for _, i := range e.instances {
		if !i.healthy() {
			sick++
		}
	}
	switch {
	case e.causes != nil && e.color == types.EnvironmentHealthRed && sick == 0:
		return // red for a reason of its own: the deployment
	case sick == 0:
		e.color, e.health, e.causes = types.EnvironmentHealthGreen, types.EnvironmentHealthStatusOk, nil
	case sick < len(e.instances):
		e.color, e.health = types.EnvironmentHealthYellow, types.EnvironmentHealthStatusDegraded
	default:
		e.color, e.health = types.EnvironmentHealthRed, types.EnvironmentHealthStatusSevere
	}
}

// live finds the environment that a request names by id or name and that is not terminated.
func (b *beanstalk) live(id, name *string) (*environment, error) {
	if id == nil && name == nil {
		return nil, refuse("MissingParameter", "Either EnvironmentName or EnvironmentId must be specified.") // ours
	}
	for _, e := range b.environments {
		if e.alive() && (id == nil || *id == e.id) && (name == nil || *name == e.name) {
			return e, nil
		}
	}
	if name != nil {
		return nil, invalid("No Environment found for EnvironmentName = '%s'.", *name)
	}
	return nil, invalid("No Environment found for EnvironmentId = '%s'.", *id)
}

// ready finds an environment and refuses where it is busy.
func (b *beanstalk) ready(id, name *string) (*environment, error) {
	e, err := b.live(id, name)
	if err == nil && e.status != types.EnvironmentStatusReady {
		return nil, invalid("Environment named %s is in an invalid state for this operation. Must be Ready.", e.name)
	}
	return e, err
}

func (b *beanstalk) holds(cname string) bool {
	return slices.ContainsFunc(b.environments, func(e *environment) bool { return e.alive() && e.cname == cname })
}

// events

type event struct {
	at                                          time.Time
	application, environment, id, version, tmpl string
	message                                     string
	severity                                    types.EventSeverity
	requestID                                   string
}

// say writes an event of a request.
func (c *request) say(ev event) { c.w.say(c.region, ev) }

// say writes an event, unless a trouble keeps it back. The caller holds mu.
func (w *World) say(r *region, ev event) {
	if ev.severity == "" {
		ev.severity = types.EventSeverityInfo
	}
	if _, kept := w.troubled(ev.environment, func(t *Trouble) bool { return t.NoEvent != "" && contains(ev.message, t.NoEvent) }); kept {
		return
	}
	ev.at = *now()
	r.beanstalk.events = append(r.beanstalk.events, ev)
}

// tell writes an event of an environment. The caller holds mu.
func (w *World) tell(r *region, e *environment, severity types.EventSeverity, message string) {
	w.say(r, event{application: e.app, environment: e.name, id: e.id, version: e.version, message: message, severity: severity, requestID: e.requestID})
}
