package plane_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

// alb makes a balancer that says its own name over HTTP.
func alb(t *testing.T, p *plane.Plane, name string) *plane.Balancer {
	t.Helper()
	b, err := p.NewBalancer(plane.BalancerOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(plane.ListenerOptions{Port: 80, Default: plane.Fixed(200, name)}); err != nil {
		t.Fatal(err)
	}
	return b
}

func set(t *testing.T, p *plane.Plane, r plane.Record) {
	t.Helper()
	if err := p.Names().Set(r); err != nil {
		t.Fatal(err)
	}
}

// where says which balancer a dialer is led to by a name, over a new connection.
func where(t *testing.T, dial plane.DialFunc, name string) string {
	t.Helper()
	c, err := dial(t.Context(), "tcp", name+":80")
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 4096)
	n := 0
	for err == nil {
		var more int
		more, err = c.Read(raw[n:])
		n += more
	}
	text := string(raw[:n])
	return text[strings.LastIndex(text, "\n")+1:]
}

// An answer is kept for its TTL by the client that asked, and by no other.
func TestResolverKeepsAnswersForTheirTTL(t *testing.T) {
	now := time.Now()
	p := open(t, plane.Options{Clock: func() time.Time { return now }})
	alb(t, p, "blue.aws")
	alb(t, p, "green.aws")
	set(t, p, plane.Record{Name: "App.example.com.", Type: "CNAME", Values: []string{"blue.aws"}, TTL: time.Minute})
	early := p.Dialer()
	if got := where(t, early, "app.example.com"); got != "blue.aws" {
		t.Fatal(got)
	}
	set(t, p, plane.Record{Name: "app.example.com", Type: "CNAME", Values: []string{"green.aws"}, TTL: time.Minute})
	now = now.Add(59 * time.Second)
	if got := where(t, early, "APP.example.com"); got != "blue.aws" {
		t.Errorf("within the TTL: %s", got)
	}
	if got := where(t, p.Dialer(), "app.example.com"); got != "green.aws" {
		t.Errorf("a client that asks first now: %s", got)
	}
	now = now.Add(2 * time.Second)
	if got := where(t, early, "app.example.com"); got != "green.aws" {
		t.Errorf("after the TTL: %s", got)
	}
}

// Every link of a chain is kept for its own time.
func TestLinksHaveTheirOwnTTL(t *testing.T) {
	now := time.Now()
	p := open(t, plane.Options{Clock: func() time.Time { return now }})
	alb(t, p, "blue.aws")
	alb(t, p, "green.aws")
	set(t, p, plane.Record{Name: "www", Type: "CNAME", Values: []string{"env"}, TTL: time.Hour})
	set(t, p, plane.Record{Name: "env", Type: "CNAME", Values: []string{"blue.aws"}, TTL: time.Second})
	set(t, p, plane.Record{Name: "alias", Type: "A", Alias: "blue.aws"})
	dial := p.Dialer()
	if got := where(t, dial, "www") + where(t, dial, "alias"); got != "blue.awsblue.aws" {
		t.Fatal(got)
	}
	set(t, p, plane.Record{Name: "www", Type: "CNAME", Values: []string{"nowhere"}})
	set(t, p, plane.Record{Name: "env", Type: "CNAME", Values: []string{"green.aws"}})
	set(t, p, plane.Record{Name: "alias", Type: "A", Alias: "green.aws"})
	now = now.Add(2 * time.Second)
	if got := where(t, dial, "www"); got != "green.aws" {
		t.Errorf("the second link is kept too long, or the first too short: %s", got)
	}
	if got := where(t, dial, "alias"); got != "blue.aws" {
		t.Errorf("an alias has the TTL of the balancer's name: %s", got)
	}
	now = now.Add(time.Minute)
	if got := where(t, dial, "alias"); got != "green.aws" {
		t.Error(got)
	}
}

func TestNamesThatLeadNowhere(t *testing.T) {
	p := open(t, plane.Options{})
	b := alb(t, p, "blue.aws")
	set(t, p, plane.Record{Name: "round", Type: "CNAME", Values: []string{"round"}})
	set(t, p, plane.Record{Name: "alias", Type: "A", Alias: "alias"})
	dial := p.Dialer()
	var dns *net.DNSError
	for _, name := range []string{"unknown", "alias"} {
		if _, err := dial(t.Context(), "tcp", name+":80"); !errors.As(err, &dns) || !dns.IsNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dial(t.Context(), "tcp", "round:80"); !errors.As(err, &dns) {
		t.Errorf("a circle: %v", err)
	}
	if got := where(t, dial, "blue.aws"); got != "blue.aws" {
		t.Error(got)
	}
	if _, err := dial(t.Context(), "tcp", "blue.aws:443"); err == nil {
		t.Error("a port without a listener takes a connection")
	}
	b.Close()
	b.Close()
	if _, err := dial(t.Context(), "tcp", "blue.aws:80"); err == nil || errors.As(err, &dns) && dns.IsNotFound {
		t.Errorf("a kept answer leads to a closed balancer: %v", err)
	}
	if _, err := p.Dialer()(t.Context(), "tcp", "blue.aws:80"); !errors.As(err, &dns) {
		t.Errorf("the name of a closed balancer: %v", err)
	}
	if _, err := b.Listen(plane.ListenerOptions{Port: 81, Default: plane.Fixed(200, "")}); err == nil {
		t.Error("a closed balancer listens")
	}
}

func TestRecordsThatAreRefused(t *testing.T) {
	p := open(t, plane.Options{})
	set(t, p, plane.Record{Name: "a", Type: "A", Values: []string{"198.18.0.9"}})
	set(t, p, plane.Record{Name: "c", Type: "CNAME", Values: []string{"a"}})
	for _, r := range []plane.Record{
		{Name: "x", Type: "MX", Values: []string{"a"}}, {Name: "x", Type: "A"}, {Name: "x", Type: "CNAME", Values: []string{"a", "b"}},
		{Name: "x", Type: "CNAME", Alias: "a"}, {Name: "x", Type: "A", Alias: "a", Values: []string{"198.18.0.9"}},
		{Name: "a", Type: "CNAME", Values: []string{"c"}}, {Name: "c", Type: "A", Alias: "a"},
	} {
		if err := p.Names().Set(r); err == nil || (r.Name != "x") != errors.Is(err, plane.ErrConflict) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if n := len(p.Names().List()); n != 2 {
		t.Errorf("%d records", n)
	}
	if !p.Names().Delete("A.") || p.Names().Delete("a") {
		t.Error("delete")
	}
}

// A dialer reaches what listens on loopback, such as the control plane.
func TestDialerReachesLoopback(t *testing.T) {
	p := open(t, plane.Options{})
	s := serve(t, "s", says("s"))
	c, err := s.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c, err = p.Dialer()(t.Context(), "tcp", c.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
