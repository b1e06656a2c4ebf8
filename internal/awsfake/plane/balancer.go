package plane

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultIdle   = time.Minute
	connectWithin = 10 * time.Second // to a target, TCP and TLS each
	defaultKeep   = time.Hour        // of a client's connection
)

// BalancerOptions of a load balancer.
type BalancerOptions struct {
	Name string        // its DNS name, which Names answers from now on with a TTL of one minute
	TTL  time.Duration // of that name, for tests that cannot wait
	Idle time.Duration // default 60 s: a request without a byte in either direction ends, a connection to a target is closed
	Keep time.Duration // client_keep_alive.seconds, default 1 h: the first request after it is the last of its connection
}

// Balancer is an application load balancer with an address of its own.
type Balancer struct {
	plane   *Plane
	name    string
	address string
	idleFor atomic.Int64
	keepFor atomic.Int64

	mu        sync.Mutex
	closed    bool
	listeners []*Listener
}

// NewBalancer makes a balancer without listeners.
func (p *Plane) NewBalancer(o BalancerOptions) (*Balancer, error) {
	b := &Balancer{plane: p, name: o.Name, address: p.names.attach()}
	b.SetIdle(cmp.Or(o.Idle, defaultIdle))
	b.SetKeep(cmp.Or(o.Keep, defaultKeep))
	if err := p.names.Set(Record{Name: o.Name, Type: "A", Values: []string{b.address}, TTL: cmp.Or(o.TTL, balancerTTL)}); err != nil {
		return nil, err
	}
	p.onClose(b.Close)
	return b, nil
}

// Name is the balancer's DNS name.
func (b *Balancer) Name() string { return b.name }

// SetIdle changes the idle timeout of connections that are made from now on.
func (b *Balancer) SetIdle(d time.Duration) { b.idleFor.Store(int64(d)) }

// SetKeep changes for how long clients' connections are kept, those that are there too.
func (b *Balancer) SetKeep(d time.Duration) { b.keepFor.Store(int64(d)) }

func (b *Balancer) idle() time.Duration { return time.Duration(b.idleFor.Load()) }

// Close ends the balancer, its name and every connection through it, as its deletion does. Twice is fine.
func (b *Balancer) Close() {
	b.mu.Lock()
	listeners := b.listeners
	b.closed, b.listeners = true, nil
	b.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	b.plane.names.Delete(b.name)
}

// Certificate is the hosts of one certificate, "*.example.com" for every host with one more label.
type Certificate []string

// ListenerOptions of a listener.
type ListenerOptions struct {
	Port         int           // as clients dial it
	Certificates []Certificate // the first is for clients that name no known host; none: plain HTTP
	Default      Action
}

// Listener is a port of a balancer with a table of rules.
type Listener struct {
	balancer *Balancer
	port     int
	secure   bool
	server   *http.Server
	served   chan struct{}
	table    atomic.Pointer[[]compiled]

	mu      sync.Mutex
	rules   []Rule
	last    Action
	given   int // how many tables were set
	applied int // the newest that is in force
	closed  bool
}

// Listen opens a port.
func (b *Balancer) Listen(o ListenerOptions) (*Listener, error) {
	l := &Listener{balancer: b, port: o.Port, secure: len(o.Certificates) > 0, last: o.Default, served: make(chan struct{})}
	if err := l.set(nil, o.Default, 0); err != nil {
		return nil, err
	}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: b.idle(), IdleTimeout: b.idle(), ConnContext: bornNow,
		ErrorLog: slog.NewLogLogger(b.plane.o.Log.Handler(), slog.LevelDebug)}
	var certs []*tls.Certificate
	for _, hosts := range o.Certificates {
		c, err := b.plane.authority.sign(hosts)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if l.secure {
		l.server.TLSConfig = &tls.Config{GetCertificate: chooser(certs), MinVersion: tls.VersionTLS12}
	}
	return l, l.open()
}

func (l *Listener) open() error {
	b := l.balancer
	door := net.JoinHostPort(b.address, strconv.Itoa(l.port))
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.plane.names.door(door); taken || b.closed {
		return fmt.Errorf("listen on port %d of %s: the port is taken, or the balancer is closed", l.port, b.name)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.listeners = append(b.listeners, l)
	b.plane.names.open(door, inner.Addr().String())
	go func() {
		defer close(l.served)
		if l.secure {
			_ = l.server.ServeTLS(inner, "", "") // ends by Close
		} else {
			_ = l.server.Serve(inner)
		}
	}()
	return nil
}

// Close ends the listener and its connections.
func (l *Listener) Close() {
	l.balancer.plane.names.shut(net.JoinHostPort(l.balancer.address, strconv.Itoa(l.port)))
	l.server.Close()
	<-l.served
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.unuse(*l.table.Load())
}

// SetRules replaces all rules but the default one. They are checked now and hold after Options.Propagation; until then
// requests go by the rules before.
func (l *Listener) SetRules(rules []Rule) error {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	return l.set(rules, last, l.balancer.plane.o.Propagation)
}

// SetDefault replaces the action of the default rule, in the same way.
func (l *Listener) SetDefault(a Action) error {
	l.mu.Lock()
	rules := l.rules
	l.mu.Unlock()
	return l.set(rules, a, l.balancer.plane.o.Propagation)
}

func (l *Listener) set(rules []Rule, last Action, after time.Duration) error {
	table, err := compile(rules, last)
	if err != nil {
		return err
	}
	if err := l.use(table); err != nil {
		return err
	}
	l.mu.Lock()
	l.rules, l.last = rules, last
	l.given++
	number := l.given
	l.mu.Unlock()
	if after <= 0 {
		l.apply(number, table)
		return nil
	}
	time.AfterFunc(after, func() { l.apply(number, table) })
	return nil
}

// apply puts a table in force, unless a newer one is.
func (l *Listener) apply(number int, table []compiled) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || number < l.applied {
		l.unuse(table)
		return
	}
	l.applied = number
	if old := l.table.Swap(&table); old != nil {
		l.unuse(*old)
	}
}

// use marks the groups of a table as used, all or none.
func (l *Listener) use(table []compiled) error {
	var used []*Group
	for _, r := range table {
		for _, g := range r.Action.groups() {
			if err := g.use(l.balancer); err != nil {
				for _, u := range used {
					u.unuse()
				}
				return err
			}
			used = append(used, g)
		}
	}
	return nil
}

func (l *Listener) unuse(table []compiled) {
	for _, r := range table {
		for _, g := range r.Action.groups() {
			g.unuse()
		}
	}
}
