package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout   = 2 * time.Second
	probeInterval = 100 * time.Millisecond
	probeTimeout  = 5 * time.Second

	// An instance that closes an idle connection just while a request comes on it fails that request, unless it may be
	// sent again. The shortest keep-alive of the usual servers is 2 s (gunicorn); loopback dials cost nothing.
	upstreamIdle    = time.Second
	upstreamPool    = 1024
	upstreamHeaders = 256 << 10
)

// dialError wraps the error of a dial: not one byte of the request was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// errNone says that no target could be dialled. The request is untouched.
var errNone = errors.New("no instance answers")

// backend is one service of a release: its targets, of which some may be down.
type backend struct {
	flight *flight
	log    *slog.Logger
	probe  *http.Transport

	targets atomic.Pointer[[]*target]
	turn    atomic.Uint32

	mu      sync.Mutex
	health  string
	host    string // for probes: apps may refuse names that they do not know
	changed chan struct{}
}

// target is one instance.
type target struct {
	addr      string
	transport *http.Transport
	inFlight  atomic.Int64
	down      atomic.Bool
	life      context.Context
	end       context.CancelFunc
}

func newBackend(f *flight, log *slog.Logger) *backend {
	b := &backend{flight: f, log: log, changed: make(chan struct{}), probe: &http.Transport{DisableKeepAlives: true}}
	b.targets.Store(&[]*target{})
	return b
}

func newTarget(life context.Context, addr string) *target {
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &target{addr: addr, transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, dialError{err}
			}
			return conn, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    upstreamPool,
		IdleConnTimeout:        upstreamIdle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: upstreamHeaders,
	}}
	t.life, t.end = context.WithCancel(life)
	return t
}

// configure gives the backend the targets of route; those that it had keep their connections and their state.
func (b *backend) configure(hosts []string, route Route) {
	old := map[string]*target{}
	for _, t := range *b.targets.Load() {
		old[t.addr] = t
	}
	next := make([]*target, 0, len(route.Targets))
	for _, addr := range route.Targets {
		t := old[addr]
		if t == nil {
			t = newTarget(b.flight.life, addr)
		}
		next = append(next, t)
	}
	b.mu.Lock()
	b.health = route.Health
	if len(hosts) > 0 {
		b.host = hosts[0]
	}
	b.mu.Unlock()
	b.replace(next)
}

// replace swaps the targets. Requests on a target that is no longer there go on; only idle connections are closed.
func (b *backend) replace(next []*target) {
	kept := map[*target]bool{}
	for _, t := range next {
		kept[t] = true
	}
	for _, t := range *b.targets.Swap(&next) {
		if !kept[t] {
			t.end()
			t.transport.CloseIdleConnections()
		}
	}
	b.announce()
}

// watch returns a channel that is closed when a target comes up or targets are replaced. Take it before trying.
func (b *backend) watch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *backend) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// pick returns the target that is up with the fewest requests in flight, nil when none is up. Ties go round.
func (b *backend) pick() *target {
	targets := *b.targets.Load()
	if len(targets) == 1 {
		if t := targets[0]; !t.down.Load() {
			return t
		}
		return nil
	}
	var best *target
	least := int64(0)
	turn := int(b.turn.Add(1) & 0xffff)
	for i := range targets {
		t := targets[(turn+i)%len(targets)]
		if t.down.Load() {
			continue
		}
		if n := t.inFlight.Load(); best == nil || n < least {
			best, least = t, n
		}
	}
	return best
}

// send takes the request to one target. When it cannot be dialled, the next is tried; errNone when no target is left.
// The caller ends the flight on the target with done, which is nil when err is not.
func (b *backend) send(out *http.Request) (resp *http.Response, t *target, err error) {
	for range len(*b.targets.Load()) + 1 {
		t := b.pick()
		if t == nil {
			return nil, nil, errNone
		}
		out.URL.Host = t.addr
		t.inFlight.Add(1)
		resp, err := t.transport.RoundTrip(out)
		if err == nil {
			return resp, t, nil
		}
		t.inFlight.Add(-1)
		var dial dialError
		if !errors.As(err, &dial) || out.Context().Err() != nil {
			return nil, nil, err
		}
		b.markDown(t, dial)
	}
	return nil, nil, errNone
}

func (b *backend) markDown(t *target, why error) {
	if t.down.Swap(true) {
		return
	}
	b.log.Warn("an instance does not answer", "site", b.flight.site, "release", b.flight.label, "cause", cause(why))
	go b.revive(t)
}

// cause names an error without the addresses that net puts into it.
func cause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// revive asks a target that is down until it answers or is gone.
func (b *backend) revive(t *target) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-t.life.Done():
			return
		case <-tick.C:
		}
		if b.answers(t) {
			t.down.Store(false)
			b.announce()
			b.log.Info("an instance answers again", "site", b.flight.site, "release", b.flight.label)
			return
		}
	}
}

func (b *backend) answers(t *target) bool {
	ctx, cancel := context.WithTimeout(t.life, probeTimeout)
	defer cancel()
	b.mu.Lock()
	health, host := b.health, b.host
	b.mu.Unlock()
	if health == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.addr+health, nil)
	if err != nil {
		return false
	}
	req.Host = host
	req.Header.Set("User-Agent", "lotse")
	resp, err := b.probe.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode/100 == 2
}
