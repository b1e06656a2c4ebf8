package plane

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	balancerTTL = time.Minute // of the names of load balancers, as on AWS
	longestWalk = 8           // CNAMEs and aliases in a row
)

// Record is a set of DNS records with one name and type. An alias is of Type A with Alias set: it is answered with the
// addresses and the TTL of what it points to, as Route 53 does.
type Record struct {
	Name   string
	Type   string   // "A" or "CNAME"
	Values []string // addresses that balancers have, or one name
	Alias  string
	TTL    time.Duration
}

// Names is the DNS: what the zones say now. Clients see it through the cache of their Dialer.
type Names struct {
	clock func() time.Time

	mu      sync.Mutex
	records map[string]Record // by name; one type a name is enough for A and CNAME, which may not stand together
	doors   map[string]string // address:port in the Plane -> address on loopback
	last    int
}

func newNames(clock func() time.Time) *Names {
	return &Names{clock: clock, records: map[string]Record{}, doors: map[string]string{}}
}

// Set writes a record over the one of the same name and type. A name with records of the other type is ErrConflict.
func (n *Names) Set(r Record) error {
	r.Name = canonical(r.Name)
	r.Values = slices.Clone(r.Values)
	if err := r.check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, there := n.records[r.Name]; there && old.Type != r.Type {
		return fmt.Errorf("set %s %s: %w", r.Type, r.Name, ErrConflict)
	}
	n.records[r.Name] = r
	return nil
}

func (r Record) check() error {
	switch {
	case r.Type != "A" && r.Type != "CNAME":
		return fmt.Errorf("set %s: records of type %q are not known here", r.Name, r.Type)
	case r.Alias != "" && (r.Type != "A" || len(r.Values) > 0):
		return fmt.Errorf("set %s: an alias is of type A and has no values", r.Name)
	case r.Alias == "" && len(r.Values) == 0, r.Type == "CNAME" && len(r.Values) > 1:
		return fmt.Errorf("set %s: %d values for type %s", r.Name, len(r.Values), r.Type)
	}
	return nil
}

// Delete removes the records of a name and says whether there were any.
func (n *Names) Delete(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, there := n.records[canonical(name)]
	delete(n.records, canonical(name))
	return there
}

// List returns every record, by name.
func (n *Names) List() []Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.records), func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
}

// create is Set for a name that nobody has; else ErrTaken.
func (n *Names) create(r Record) error {
	n.mu.Lock()
	_, taken := n.records[canonical(r.Name)]
	n.mu.Unlock()
	if taken {
		return fmt.Errorf("%s: %w", r.Name, ErrTaken)
	}
	return n.Set(r)
}

// Swap exchanges what two names say, at once.
func (n *Names) Swap(a, b string) error {
	a, b = canonical(a), canonical(b)
	n.mu.Lock()
	defer n.mu.Unlock()
	ra, okA := n.records[a]
	rb, okB := n.records[b]
	if !okA || !okB {
		return fmt.Errorf("swap %s with %s: no such name", a, b)
	}
	ra.Name, rb.Name = b, a
	n.records[a], n.records[b] = rb, ra
	return nil
}

// ask is what the zone answers now; an alias is answered in full.
func (n *Names) ask(name string) (Record, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.records[canonical(name)]
	for range longestWalk {
		if !ok || r.Alias == "" {
			return r, ok
		}
		r, ok = n.records[canonical(r.Alias)]
	}
	return Record{}, false
}

// attach gives a balancer an address, which no one else ever has. 198.18.0.0/15 is for tests (RFC 2544).
func (n *Names) attach() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	return fmt.Sprintf("198.18.%d.%d", n.last/250, n.last%250+1)
}

func (n *Names) open(address, loopback string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doors[address] = loopback
}

func (n *Names) shut(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.doors, address)
}

func (n *Names) door(address string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	loopback, ok := n.doors[address]
	return loopback, ok
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// DialFunc is the form that net/http, websocket clients and package load take.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer returns a client of the internet. It has a DNS cache of its own, which keeps every answer for its TTL and no longer.
// It reaches hosts of the Plane's DNS and, unchanged, addresses on loopback.
func (p *Plane) Dialer() DialFunc {
	c := &client{names: p.names, kept: map[string]keptAnswer{}}
	return c.dial
}

type client struct {
	names *Names
	mu    sync.Mutex
	kept  map[string]keptAnswer
}

type keptAnswer struct {
	Record
	until time.Time
}

func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return d.DialContext(ctx, network, address)
	}
	found, err := c.resolve(host)
	if err != nil {
		return nil, err
	}
	loopback, ok := c.names.door(net.JoinHostPort(found, port))
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: nothing listens there any more", host)}
	}
	return d.DialContext(ctx, network, loopback)
}

// resolve walks from the name to an address. Every link is kept for its own TTL.
func (c *client) resolve(host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	name := host
	for range longestWalk {
		r, ok := c.answer(canonical(name))
		switch {
		case !ok:
			return "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		case r.Type == "A":
			return r.Values[0], nil
		}
		name = r.Values[0]
	}
	return "", &net.DNSError{Err: "too many names in a row", Name: host}
}

func (c *client) answer(name string) (Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.names.clock()
	if a, ok := c.kept[name]; ok && now.Before(a.until) {
		return a.Record, true
	}
	r, ok := c.names.ask(name)
	if ok {
		c.kept[name] = keptAnswer{r, now.Add(r.TTL)}
	}
	return r, ok
}
