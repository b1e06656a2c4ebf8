package plane

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Weighted is a target group's part in a forward action.
type Weighted struct {
	Group  *Group
	Weight int // 0 to 999
}

// GroupOptions of a target group.
type GroupOptions struct {
	Name     string // unique in the Plane
	Protocol string // to the targets: "HTTPS" (default) or "HTTP"
	Health   HealthCheck
	Delay    time.Duration // deregistration delay, default 300 s; negative: none
}

// TargetHealth is what Elastic Load Balancing says of a target.
type TargetHealth struct {
	ID          string
	State       string // initial, healthy, unhealthy, draining, unused
	Reason      string // a code such as Target.Timeout; empty for a healthy target
	Description string
	InFlight    int
}

// Group is a target group. Its targets are checked while a listener's rule forwards to it, and are "unused" otherwise.
type Group struct {
	name, protocol string
	life           context.Context

	mu       sync.Mutex
	health   HealthCheck
	delay    time.Duration
	members  []*member // in the order of their registration; those that drain stay until their delay is over
	released map[string]chan struct{}
	uses     int
	balancer *Balancer
	next     int
}

// member is one registration of a target.
type member struct {
	target    Target
	transport *http.Transport
	life      context.Context // until the deregistration delay is over
	end       context.CancelCauseFunc
	released  chan struct{} // closed when nothing goes to the target any more
	wake      chan struct{}
	stopCheck context.CancelFunc

	// under the group's mu
	state    string
	verdict  verdict
	good     int
	bad      int
	inFlight int
}

const (
	initial   = "initial"
	healthy   = "healthy"
	unhealthy = "unhealthy"
	draining  = "draining"
	unused    = "unused"
)

// NewGroup makes a target group without targets.
func (p *Plane) NewGroup(o GroupOptions) *Group {
	life, end := context.WithCancel(context.Background())
	g := &Group{name: o.Name, protocol: cmp.Or(o.Protocol, "HTTPS"), life: life, health: o.Health.withDefaults(),
		delay: cmp.Or(o.Delay, 300*time.Second), released: map[string]chan struct{}{}}
	p.onClose(end)
	return g
}

// Name is what was given.
func (g *Group) Name() string { return g.name }

// SetHealth changes how targets are asked, from the next check on.
func (g *Group) SetHealth(h HealthCheck) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health = h.withDefaults()
}

// SetDelay changes the deregistration delay of what is deregistered from now on.
func (g *Group) SetDelay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = d
}

// Register adds a target. One that is registered stays as it is; one that drains is taken back as a new one.
func (g *Group) Register(t Target) error {
	if g.life.Err() != nil {
		return fmt.Errorf("register %s: the target group %s is gone", t.ID(), g.name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.find(t.ID()) != nil {
		return nil
	}
	life, end := context.WithCancelCause(g.life)
	checks, stop := context.WithCancel(life)
	m := &member{target: t, life: life, end: end, stopCheck: stop, released: make(chan struct{}), wake: make(chan struct{}, 1), state: unused}
	m.transport = transportTo(t, func(c net.Conn) net.Conn { return &idleConn{Conn: c, timeout: g.idle()} })
	if g.uses > 0 {
		m.state = initial
	}
	g.members = append(g.members, m)
	g.released[t.ID()] = m.released
	go g.watch(checks, m)
	return nil
}

// Deregister takes new requests away from a target at once. What is in flight goes on until it ends or the delay is over.
// It says whether the target was registered.
func (g *Group) Deregister(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.find(id)
	if m == nil {
		return false
	}
	m.state, m.verdict = draining, verdict{"Target.DeregistrationInProgress", "Target deregistration is in progress"}
	m.stopCheck()
	if m.inFlight == 0 {
		m.release()
	}
	time.AfterFunc(max(g.delay, 0), func() { g.drop(m) })
	return true
}

// Released is closed when no request is in flight to the target and none will be: its deregistration is complete.
// It is closed for a target that was never registered.
func (g *Group) Released(id string) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if released, ok := g.released[id]; ok {
		return released
	}
	never := make(chan struct{})
	close(never)
	return never
}

// Health says how every target is, those that drain too (until their delay is over, as on AWS).
func (g *Group) Health() []TargetHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]TargetHealth, 0, len(g.members))
	for _, m := range g.members {
		h := TargetHealth{m.target.ID(), m.state, m.verdict.reason, m.verdict.description, m.inFlight}
		switch m.state {
		case initial:
			h.Reason, h.Description = "Elb.InitialHealthChecking", "Initial health checks in progress"
		case unused:
			h.Reason, h.Description = "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"
		}
		all = append(all, h)
	}
	return all
}

// find returns the registration of a target that does not drain.
func (g *Group) find(id string) *member {
	for _, m := range g.members {
		if m.target.ID() == id && m.state != draining {
			return m
		}
	}
	return nil
}

// release says that nothing goes to the target any more.
func (m *member) release() {
	select {
	case <-m.released:
	default:
		close(m.released)
		m.transport.CloseIdleConnections()
	}
}

func (g *Group) drop(m *member) {
	m.end(errDelayOver)
	g.mu.Lock()
	defer g.mu.Unlock()
	m.release()
	g.members = slices.DeleteFunc(g.members, func(other *member) bool { return other == m })
}

// use counts the rules that forward to the group; a group serves one load balancer only.
func (g *Group) use(b *Balancer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.uses > 0 && g.balancer != b {
		return fmt.Errorf("target group %s: %w", g.name, ErrInUse)
	}
	g.balancer = b
	g.uses++
	if g.uses == 1 {
		g.restate(unused, initial)
	}
	return nil
}

func (g *Group) unuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uses--
	if g.uses == 0 {
		g.restate("", unused)
	}
}

// restate moves members from a state (any, if empty) to another and has them checked now.
func (g *Group) restate(from, to string) {
	for _, m := range g.members {
		if m.state != draining && (from == "" || m.state == from) {
			m.state, m.good, m.bad = to, 0, 0
		}
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (g *Group) idle() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.balancer == nil {
		return defaultIdle
	}
	return g.balancer.idle()
}

// watch checks a member until it is deregistered.
func (g *Group) watch(ctx context.Context, m *member) {
	for {
		g.mu.Lock()
		check, used := g.health, g.uses > 0
		g.mu.Unlock()
		if used {
			g.judge(m, check, check.ask(ctx, m.target))
		}
		timer := time.NewTimer(check.Interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// judge counts an answer. A new target needs one good answer, one that was unhealthy needs several.
func (g *Group) judge(m *member, check HealthCheck, v verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.state == draining || m.state == unused {
		return
	}
	if v.good() {
		m.good, m.bad = m.good+1, 0
		if m.state == initial || m.good >= check.Healthy {
			m.state, m.verdict = healthy, v
		}
		return
	}
	m.good, m.bad = 0, m.bad+1
	if m.bad >= check.Unhealthy {
		m.state, m.verdict = unhealthy, v
	}
}

// take picks the target of a request: the healthy ones in turn; all of them where all are unhealthy (it fails open). The
// request counts as in flight until done is called. nil means that there is none.
func (g *Group) take() (m *member, done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var well, ill, registered []*member
	for _, m := range g.members {
		switch m.state {
		case draining:
			continue
		case healthy:
			well = append(well, m)
		case unhealthy:
			ill = append(ill, m)
		}
		registered = append(registered, m)
	}
	from := well
	if len(well) == 0 && len(ill) == len(registered) {
		from = ill
	}
	if len(from) == 0 {
		return nil, nil
	}
	g.next++
	m = from[g.next%len(from)]
	m.inFlight++
	return m, func() { g.done(m) }
}

func (g *Group) done(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.inFlight--
	if m.inFlight == 0 && m.state == draining {
		m.release()
	}
}
