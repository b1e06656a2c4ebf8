package plane_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

func only(g *plane.Group) plane.Action { return plane.Forward(plane.Weighted{Group: g, Weight: 1}) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ailing is well as long as it is told so.
type ailing struct {
	text string
	ill  atomic.Bool
	seen atomic.Int64
}

func (a *ailing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/.lotse/health" {
		if a.ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return
	}
	a.seen.Add(1)
	fmt.Fprint(w, a.text)
}

func TestTargetsThatAreIllGetNothing(t *testing.T) {
	p := open(t, plane.Options{})
	a, b := &ailing{text: "a"}, &ailing{text: "b"}
	g := group(t, p, "g", serve(t, "a", a), serve(t, "b", b))
	balanced(t, p, only(g))
	healthy(t, g)
	c, count := client(t, p), map[string]int{}
	for range 10 {
		_, body, _ := get(t, c, "https://"+host)
		count[body]++
	}
	if count["a"] != 5 || count["b"] != 5 {
		t.Errorf("not in turn: %v", count)
	}
	a.ill.Store(true)
	eventually(t, "a is unhealthy", func() bool { return g.Health()[0].State == "unhealthy" })
	if h := g.Health()[0]; h.Reason != "Target.ResponseCodeMismatch" || h.Description != "Health checks failed with these codes: [500]" {
		t.Errorf("%+v", h)
	}
	before := a.seen.Load()
	for range 10 {
		if _, body, _ := get(t, c, "https://"+host); body != "b" {
			t.Errorf("%q answered", body)
		}
	}
	if a.seen.Load() != before {
		t.Error("an unhealthy target got requests")
	}
	b.ill.Store(true)
	eventually(t, "b is unhealthy", func() bool { return g.Health()[1].State == "unhealthy" })
	count = map[string]int{}
	for range 10 {
		code, body, _ := get(t, c, "https://"+host)
		count[fmt.Sprint(code, body)]++
	}
	if count["200a"] != 5 || count["200b"] != 5 {
		t.Errorf("all are unhealthy, it fails open: %v", count)
	}
	a.ill.Store(false)
	eventually(t, "a is healthy", func() bool { return g.Health()[0].State == "healthy" })
}

// A target that has not passed a check gets nothing, and a group without targets answers 503.
func TestTargetsThatAreNew(t *testing.T) {
	p := open(t, plane.Options{})
	g := p.NewGroup(plane.GroupOptions{Name: "g", Health: plane.HealthCheck{Path: "/.lotse/health", Interval: time.Hour, Timeout: 20 * time.Second}})
	l := balanced(t, p, plane.Fixed(404, ""))
	wait := make(chan struct{})
	slow := serve(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-wait }))
	if err := g.Register(slow); err != nil {
		t.Fatal(err)
	}
	if h := g.Health()[0]; h.State != "unused" {
		t.Errorf("no rule forwards to it: %+v", h)
	}
	if err := l.SetDefault(only(g)); err != nil {
		t.Fatal(err)
	}
	if h := g.Health()[0]; h.State != "initial" || h.Reason != "Elb.InitialHealthChecking" {
		t.Errorf("%+v", h)
	}
	c := client(t, p)
	if code, _, _ := get(t, c, "https://"+host); code != 503 {
		t.Errorf("a new target: %d", code)
	}
	close(wait)
	healthy(t, g)
	if code, _, _ := get(t, c, "https://"+host); code != 200 {
		t.Errorf("after one good check: %d", code)
	}
	g.Deregister("s")
	if code, _, _ := get(t, c, "https://"+host); code != 503 {
		t.Errorf("no target: %d", code)
	}
}

// holding answers when it is let.
func holding(started chan<- struct{}, let <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			started <- struct{}{}
			select {
			case <-let:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "done")
	})
}

func TestDeregistration(t *testing.T) {
	p := open(t, plane.Options{})
	started, let := make(chan struct{}), make(chan struct{}, 1)
	defer close(let)
	first, second := serve(t, "first", holding(started, let)), serve(t, "second", says("second"))
	g := group(t, p, "g", first)
	balanced(t, p, only(g))
	healthy(t, g)
	c := client(t, p)
	answers := make(chan string, 2)
	ask := func() {
		code, body, _ := get(t, c, "https://"+host+"/hold")
		answers <- fmt.Sprint(code, " ", body)
	}
	go ask()
	<-started
	if err := g.Register(second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second is healthy", func() bool { return g.Health()[1].State == "healthy" })
	g.Deregister("first")
	if h := g.Health()[0]; h.State != "draining" || h.InFlight != 1 || h.Reason != "Target.DeregistrationInProgress" {
		t.Errorf("%+v", h)
	}
	for range 4 {
		if _, body, _ := get(t, c, "https://"+host); body != "second" {
			t.Errorf("a target that drains got a new request: %q", body)
		}
	}
	if closed(g.Released("first")) {
		t.Error("released while a request was in flight")
	}
	let <- struct{}{}
	if got := <-answers; got != "200 done" {
		t.Errorf("the request in flight got %q", got)
	}
	<-g.Released("first")

	g.Deregister("second")
	if !closed(g.Released("second")) {
		t.Error("nothing was in flight, and the target is not let go at once")
	}
	if h := g.Health()[1]; h.State != "draining" {
		t.Errorf("until the delay is over it is shown: %+v", h)
	}

	g.SetDelay(200 * time.Millisecond)
	if err := g.Register(first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "first is back", func() bool {
		for _, h := range g.Health() {
			if h.ID == "first" && h.State == "healthy" {
				return true
			}
		}
		return false
	})
	go ask()
	<-started
	g.Deregister("first")
	if got := <-answers; got[:4] != "502 " {
		t.Errorf("when the delay was over the request got %q", got)
	}
	<-g.Released("first")
	if g.Deregister("nobody") || !closed(g.Released("nobody")) {
		t.Error("a target that never was")
	}
}

// Checks end with the registration and with the plane.
func TestChecksEnd(t *testing.T) {
	p := open(t, plane.Options{})
	var asked atomic.Int64
	s := serve(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == "ELB-HealthChecker/2.0" {
			asked.Add(1)
		}
	}))
	g := group(t, p, "g", s)
	l := balanced(t, p, only(g))
	healthy(t, g)
	if err := l.SetDefault(plane.Fixed(404, "")); err != nil {
		t.Fatal(err)
	}
	quiet := func(when string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond) // what was under way
		defer cancel()
		<-ctx.Done()
		n := asked.Load()
		ctx, cancel = context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		if asked.Load() != n {
			t.Errorf("%s: it is still asked", when)
		}
	}
	quiet("no rule forwards to it")
	if err := l.SetDefault(only(g)); err != nil {
		t.Fatal(err)
	}
	healthy(t, g)
	g.Deregister("s")
	quiet("it was deregistered")
}
