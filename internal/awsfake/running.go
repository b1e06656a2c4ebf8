package awsfake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

// running stands behind a World with Options.Plane: what runs, and how it is reached, is package plane. One plane serves all
// regions. Its calls come with World.mu held, except launch and what instances do.
type running struct {
	w       *World
	plane   *plane.Plane
	bundles string // folder

	mu    sync.Mutex
	lines []heldLine // of logs, not yet taken over into CloudWatch Logs
}

type heldLine struct {
	region, group, stream string
	at                    time.Time
	text                  string
}

func (w *World) openPlane() {
	folder := w.t.TempDir()
	p, err := plane.Open(plane.Options{Folder: folder, Log: w.options.Log})
	if err != nil {
		w.t.Fatalf("awsfake: %v", err)
	}
	w.backing = &running{w: w, plane: p, bundles: w.t.TempDir()}
}

func (r *running) close() { r.plane.Close() }

// check is how targets and instances are asked: as the options say, but as often as Options.Checks.
func (r *running) check(path, protocol, matcher string) plane.HealthCheck {
	return plane.HealthCheck{Protocol: protocol, Path: path, Matcher: matcher, Interval: r.w.options.Checks, Timeout: time.Second, Healthy: 2, Unhealthy: 3}
}

func (r *running) launch(ctx context.Context, spec launchSpec) (instance, error) {
	id := "i-" + newHex(17)
	file, err := r.bundle(id, spec.bundle)
	if err != nil {
		return nil, err
	}
	options := plane.InstanceOptions{
		ID: id, Bundle: file, Environment: r.withRights(spec.env), Health: r.check(spec.health, spec.protocol, spec.matcher), BareExec: true,
		Patience: r.w.options.HealthTimeout, Grace: r.w.options.Grace, Downloads: r.w.options.Downloads,
		StandIns: map[string]string{"mount": fmt.Sprintf(mountShared, filepath.Join(r.bundles, "efs"))},
	}
	if spec.streams {
		options.OnLine = func(l plane.Line) {
			r.keep(heldLine{spec.region, "/aws/elasticbeanstalk/" + spec.environment + "/var/log/" + l.File, id, l.Time, l.String()})
		}
	}
	i, err := r.plane.Launch(ctx, options)
	if i == nil {
		return nil, err
	}
	return &machine{Instance: i}, err
}

// instanceKey is of the credentials that instances have.
const instanceKey = "AKIDINSTANCE"

// withRights adds what an SDK finds out otherwise on a real instance: the credentials of its profile, which its metadata service tells, and
// where AWS is.
func (r *running) withRights(env map[string]string) map[string]string {
	all := map[string]string{"AWS_ENDPOINT_URL": r.w.server.URL, "AWS_ACCESS_KEY_ID": instanceKey, "AWS_SECRET_ACCESS_KEY": "fake-of-instances", "AWS_EC2_METADATA_DISABLED": "true"}
	maps.Copy(all, env)
	return all
}

// mountShared is mount on the instances: a file system is a folder that all of them share, and a mount of it a link there.
const mountShared = `from= last=; for word; do from=$last last=$word; done; echo "$last" >> "$here/mounted"
shared=%s/$(printf %%s "$from" | tr -c 'a-zA-Z0-9-' _); mkdir -p "$shared" && rmdir "$last" && ln -s "$shared" "$last"`

// bundle is the file of a bundle. The instances of an environment are launched at once, and none may find another's half written.
func (r *running) bundle(id string, zip []byte) (string, error) {
	file := filepath.Join(r.bundles, fmt.Sprintf("%x.zip", sha256.Sum256(zip)))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	mine := filepath.Join(r.bundles, id)
	if err := os.WriteFile(mine, zip, 0o600); err != nil {
		return "", err
	}
	return file, os.Rename(mine, file)
}

func (r *running) keep(l heldLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, l)
}

// takeLines hands over what instances wrote since the last time.
func (r *running) takeLines() []heldLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *running) failed(what string, err error) {
	if err != nil {
		r.w.t.Logf("awsfake: plane: %s: %v", what, err)
	}
}

func (r *running) openBalancer(b *balancer) {
	made, err := r.plane.NewBalancer(plane.BalancerOptions{Name: b.dns, TTL: r.w.options.RecordTTL, Keep: r.w.options.KeepAlive})
	r.failed("balancer", err)
	b.back = made
}

func (r *running) closeBalancer(b *balancer) {
	if made, ok := b.back.(*plane.Balancer); ok {
		r.w.later(func(context.Context) { made.Close() })
	}
}

func (r *running) openListener(l *listener) {
	made, ok := l.of.back.(*plane.Balancer)
	if !ok {
		return
	}
	options := plane.ListenerOptions{Port: int(*l.Port), Default: r.action(l.DefaultActions)}
	for _, hosts := range l.hosts {
		if len(hosts) > 0 {
			options.Certificates = append(options.Certificates, plane.Certificate(hosts))
		}
	}
	if l.Protocol == types.ProtocolEnumHttps && len(options.Certificates) == 0 {
		options.Certificates = []plane.Certificate{{l.of.dns}}
	}
	door, err := made.Listen(options)
	r.failed("listener", err)
	l.back = door
}

func (r *running) closeListener(l *listener) {
	if door, ok := l.back.(*plane.Listener); ok {
		r.w.later(func(context.Context) { door.Close() })
	}
}

func (r *running) setRules(l *listener) {
	door, ok := l.back.(*plane.Listener)
	if !ok {
		return
	}
	var rules []plane.Rule
	for _, one := range l.rules {
		made := plane.Rule{Priority: one.priority, Action: r.action(one.actions)}
		for _, c := range one.conditions {
			condition := plane.Condition{Field: aws.ToString(c.Field), Values: conditionValues(c)}
			if c.HttpHeaderConfig != nil {
				condition.Header = aws.ToString(c.HttpHeaderConfig.HttpHeaderName)
			}
			made.Conditions = append(made.Conditions, condition)
		}
		rules = append(rules, made)
	}
	r.failed("default action", door.SetDefault(r.action(l.DefaultActions)))
	r.failed("rules", door.SetRules(rules))
}

// action turns a list of one action into what the plane does.
func (r *running) action(actions []types.Action) plane.Action {
	a := actions[0]
	switch a.Type {
	case types.ActionTypeEnumFixedResponse:
		var code int
		_, _ = fmt.Sscan(aws.ToString(a.FixedResponseConfig.StatusCode), &code)
		return plane.Action{Fixed: &plane.FixedResponse{Code: code, ContentType: aws.ToString(a.FixedResponseConfig.ContentType), Body: aws.ToString(a.FixedResponseConfig.MessageBody)}}
	case types.ActionTypeEnumRedirect:
		c := a.RedirectConfig
		code := 302
		if c.StatusCode == types.RedirectActionStatusCodeEnumHttp301 {
			code = 301
		}
		return plane.Action{Redirect: &plane.Redirect{Code: code, Protocol: aws.ToString(c.Protocol), Host: aws.ToString(c.Host), Port: aws.ToString(c.Port), Path: aws.ToString(c.Path), Query: aws.ToString(c.Query)}}
	default: // forward, below: checkActions has refused all others
	}
	made := plane.Action{}
	for _, tuple := range weights(a) {
		for _, region := range r.w.regions {
			if g, err := region.group(aws.ToString(tuple.TargetGroupArn)); err == nil {
				made.Forward = append(made.Forward, plane.Weighted{Group: g.back.(*plane.Group), Weight: int(aws.ToInt32(tuple.Weight))})
			}
		}
	}
	if sticky := a.ForwardConfig.TargetGroupStickinessConfig; sticky != nil && aws.ToBool(sticky.Enabled) {
		made.Sticky = time.Duration(aws.ToInt32(sticky.DurationSeconds)) * time.Second
	}
	return made
}

func (r *running) openGroup(g *targetGroup) {
	protocol := cmp.Or(string(g.Protocol), "HTTP")
	matcher := ""
	if g.Matcher != nil {
		matcher = aws.ToString(g.Matcher.HttpCode)
	}
	g.back = r.plane.NewGroup(plane.GroupOptions{
		Name: aws.ToString(g.TargetGroupName), Protocol: protocol, Delay: r.w.options.Deregistration,
		Health: r.check(aws.ToString(g.HealthCheckPath), protocol, matcher),
	})
}

func (r *running) register(g *targetGroup, i instance) {
	if m, ok := i.(*machine); ok {
		r.failed("register", g.back.(*plane.Group).Register(m.Instance))
	}
}

func (r *running) deregister(g *targetGroup, i instance) {
	group := g.back.(*plane.Group)
	group.Deregister(i.id())
	if m, ok := i.(*machine); ok {
		m.leave(group.Released(i.id()))
	}
}

func (r *running) targetHealth(g *targetGroup, i instance) (state, reason string) {
	for _, h := range g.back.(*plane.Group).Health() {
		if h.ID == i.id() {
			return h.State, h.Reason
		}
	}
	return string(types.TargetHealthStateEnumUnused), string(types.TargetHealthReasonEnumNotRegistered)
}

func (r *running) record(name, target string, ttl time.Duration) {
	if target == "" {
		r.plane.Names().Delete(name)
		return
	}
	r.failed("record", r.plane.Names().Set(plane.Record{Name: name, Type: "CNAME", Values: []string{target}, TTL: ttl}))
}

func (r *running) swap(a, b string) { r.failed("swap", r.plane.Names().Swap(a, b)) }

// machine is an instance that runs.
type machine struct {
	*plane.Instance

	mu   sync.Mutex
	left []<-chan struct{} // closed as target groups let go of it
}

func (m *machine) id() string    { return m.ID() }
func (m *machine) healthy() bool { return m.Health().Status == "Ok" }

func (m *machine) exec(ctx context.Context, command string) (stdout, stderr string, code int) {
	out, err := m.Exec(ctx, command)
	if err != nil {
		return out.Stdout, out.Stderr + err.Error(), -1
	}
	return out.Stdout, out.Stderr, out.Code
}

func (m *machine) tail() string {
	lines := m.Lines()
	var b strings.Builder
	for _, l := range lines[max(0, len(lines)-100):] {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

func (m *machine) leave(released <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = append(m.left, released)
}

// stop waits until the balancers let go, then ends the machine.
func (m *machine) stop(ctx context.Context) {
	m.mu.Lock()
	left := m.left
	m.mu.Unlock()
	for _, released := range left {
		select {
		case <-released:
		case <-ctx.Done():
		}
	}
	m.Stop(ctx)
}

// Instance is one machine of an environment, for tests that break one.
type Instance = plane.Instance

// Instances are the machines behind an environment of Options.Region that is not terminated; none without Options.Plane.
func (w *World) Instances(environment string) []*Instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, err := w.in(w.options.Region).beanstalk.live(nil, &environment)
	if err != nil {
		return nil
	}
	var found []*Instance
	for _, i := range e.instances {
		if m, ok := i.(*machine); ok {
			found = append(found, m.Instance)
		}
	}
	return found
}

// Plane is what stands behind environments, nil without Options.Plane.
func (w *World) Plane() *plane.Plane {
	if r, ok := w.backing.(*running); ok {
		return r.plane
	}
	return nil
}
