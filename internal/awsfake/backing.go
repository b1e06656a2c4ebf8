package awsfake

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"time"
)

// backing is what stands behind environments and balancers: nothing (stateOnly), or package plane.
type backing interface {
	launch(ctx context.Context, spec launchSpec) (instance, error) // blocks until its programs run, or failed; may return both

	openBalancer(b *balancer)
	closeBalancer(b *balancer)
	openListener(l *listener)
	closeListener(l *listener)
	setRules(l *listener)
	openGroup(g *targetGroup)
	register(g *targetGroup, i instance)
	deregister(g *targetGroup, i instance)
	targetHealth(g *targetGroup, i instance) (state, reason string) // as DescribeTargetHealth says it

	record(name, target string, ttl time.Duration) // CNAME; an empty target takes it away
	swap(a, b string)
	close()
}

// instance is one machine of an environment.
type instance interface {
	id() string
	healthy() bool
	exec(ctx context.Context, command string) (stdout, stderr string, code int)
	tail() string
	stop(ctx context.Context)
}

// launchSpec is what an instance is started with.
type launchSpec struct {
	region, environment string
	bundle              []byte // the ZIP
	env                 map[string]string
	count               int
	health, protocol    string // path, and whether the balancer speaks HTTP or HTTPS to instances
	matcher             string // good codes
	streams             bool   // logs go to CloudWatch Logs
}

// specOf reads what instances of e run. It fails where a secret or the bundle is not there. The caller holds mu.
func (w *World) specOf(r *region, e *environment) (launchSpec, error) {
	spec := launchSpec{region: r.name, environment: e.name, env: maps.Clone(e.options.inNamespace(nsEnvironment))}
	spec.count, _ = strconv.Atoi(e.options.get("aws:autoscaling:asg", "MinSize"))
	process := nsProcess + "default"
	spec.health, spec.protocol, spec.matcher = e.options.get(process, "HealthCheckPath"), strings.ToUpper(e.options.get(process, "Protocol")), e.options.get(process, "MatcherHTTPCode")
	spec.streams = e.options.get("aws:elasticbeanstalk:cloudwatch:logs", "StreamLogs") == "true"
	for name, arn := range e.options.inNamespace(nsSecrets) {
		value, err := r.secretFor(arn)
		if err != nil {
			return spec, refuse("SecretFetchFailed", "Instance deployment failed to get the secret of the environment variable %s.", name) // words ours
		}
		spec.env[name] = value
	}
	for name, value := range spec.env {
		spec.env[name] = strings.NewReplacer(w.elsewhere...).Replace(value)
	}
	if app, err := r.beanstalk.app(&e.app); err == nil && e.version != "" {
		if v, err := app.version(&e.version); err == nil {
			spec.bundle = w.objects.bytes(*v.SourceBundle.S3Bucket, *v.SourceBundle.S3Key)
		}
	}
	return spec, nil
}

// stateOnly stands behind a World without a plane: instances are names that are well and run nothing.
type stateOnly struct {
	answer func(script string) (out string, code int) // nil: nothing is said
}

func (s stateOnly) launch(context.Context, launchSpec) (instance, error) {
	return &emptyInstance{"i-" + newHex(17), s.answer}, nil
}
func (stateOnly) openBalancer(*balancer)                               {}
func (stateOnly) closeBalancer(*balancer)                              {}
func (stateOnly) openListener(*listener)                               {}
func (stateOnly) closeListener(*listener)                              {}
func (stateOnly) setRules(*listener)                                   {}
func (stateOnly) openGroup(*targetGroup)                               {}
func (stateOnly) register(*targetGroup, instance)                      {}
func (stateOnly) deregister(*targetGroup, instance)                    {}
func (stateOnly) targetHealth(*targetGroup, instance) (string, string) { return "healthy", "" }
func (stateOnly) record(string, string, time.Duration)                 {}
func (stateOnly) swap(string, string)                                  {}
func (stateOnly) close()                                               {}

type emptyInstance struct {
	name   string
	answer func(script string) (out string, code int)
}

func (i *emptyInstance) id() string           { return i.name }
func (i *emptyInstance) healthy() bool        { return true }
func (i *emptyInstance) tail() string         { return "" }
func (i *emptyInstance) stop(context.Context) {}
func (i *emptyInstance) exec(_ context.Context, script string) (string, string, int) {
	if i.answer == nil {
		return "", "", 0
	}
	out, code := i.answer(script)
	return out, "", code
}
