package plane_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
	"github.com/lotse-eu/lotse/internal/load"
)

// environment is one of one or more instances that say their environment's name as their release.
func environment(t *testing.T, name string, ids ...string) plane.EnvironmentOptions {
	o := options(t, "", nil)
	o.Environment["RELEASE"] = name
	return plane.EnvironmentOptions{Name: name, CNAME: name + ".elasticbeanstalk.com", TTL: time.Second, IDs: ids, Instance: o,
		Group: plane.GroupOptions{Name: name, Health: quick(), Delay: 5 * time.Second}, Certificates: []plane.Certificate{{host}}}
}

func start(t *testing.T, p *plane.Plane, o plane.EnvironmentOptions) *plane.Environment {
	t.Helper()
	e, err := p.LaunchEnvironment(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func well(t *testing.T, e *plane.Environment) {
	t.Helper()
	eventually(t, e.Name()+" is well", func() bool { return e.Health().Status == "Ok" })
	healthy(t, e.Group())
}

func TestEnvironmentHealth(t *testing.T) {
	p := open(t, plane.Options{})
	e := start(t, p, environment(t, "blue", "i-1", "i-2"))
	well(t, e)
	is := func(status, color string) func() bool {
		return func() bool { h := e.Health(); return h.Status == status && h.Color == color }
	}
	e.Instances()[0].Break()
	eventually(t, "degraded", is("Degraded", "Red"))
	if h := e.Health(); len(h.Causes) != 1 || !strings.Contains(h.Causes[0], "Target.FailedHealthChecks") || len(h.Instances) != 2 {
		t.Errorf("%+v", h)
	}
	e.Instances()[1].Break()
	eventually(t, "severe", is("Severe", "Red"))
	e.Instances()[0].Mend()
	e.Instances()[1].Mend()
	eventually(t, "ok", is("Ok", "Green"))
	e.Terminate(t.Context())
	if h := e.Health(); h.Status != "NoData" || h.Color != "Grey" {
		t.Errorf("%+v", h)
	}
	e.Terminate(t.Context())
}

// A deployment that fails leaves the environment as it is, Red, as Beanstalk does; terminating it frees its name.
func TestEnvironmentThatFails(t *testing.T) {
	p := open(t, plane.Options{})
	o := environment(t, "blue", "i-1", "i-2")
	o.Instance.Bundle = bundle(t, files{".platform/hooks/predeploy/01_x": "#!/bin/sh\necho no database; exit 1\n"})
	e, err := p.LaunchEnvironment(t.Context(), o)
	var failed *plane.LaunchError
	if !errors.As(err, &failed) || e == nil {
		t.Fatalf("%v", err)
	}
	if h := e.Health(); h.Status != "Severe" || h.Color != "Red" || !strings.Contains(h.Causes[0], "no database") {
		t.Errorf("%+v", h)
	}
	if _, err := p.LaunchEnvironment(t.Context(), plane.EnvironmentOptions{Name: "other", CNAME: "BLUE.elasticbeanstalk.com"}); !errors.Is(err, plane.ErrTaken) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := p.Dialer()(t.Context(), "tcp", "awseb--other.elb.amazonaws.com:80"); err == nil {
		t.Error("what could not be launched left its balancer")
	}
	folder := e.Instances()[0].Folder()
	e.Terminate(t.Context())
	if len(running(t, folder)) > 0 {
		t.Error("processes are left")
	}
	for _, r := range p.Names().List() {
		t.Errorf("the record %s is left", r.Name)
	}
}

// A shared balancer reaches the environment by the rules of the caller, and outlives it.
func TestEnvironmentBehindASharedBalancer(t *testing.T) {
	p := open(t, plane.Options{})
	l := balanced(t, p, plane.Fixed(404, ""))
	alb, err := p.NewBalancer(plane.BalancerOptions{Name: "shared.elb.amazonaws.com"})
	if err != nil {
		t.Fatal(err)
	}
	o := environment(t, "blue", "i-1")
	o.Shared = alb
	e := start(t, p, o)
	if h := e.Group().Health()[0]; h.State != "unused" {
		t.Errorf("%+v", h)
	}
	if err := l.SetRules([]plane.Rule{{Priority: 1, Conditions: []plane.Condition{when("host-header", host)}, Action: only(e.Group())}}); err != nil {
		t.Fatal(err)
	}
	well(t, e)
	if code, body, _ := get(t, client(t, p), "https://"+host+"/get?word=moin"); code != 200 || body != "moin\n" {
		t.Errorf("%d %q", code, body)
	}
	e.Terminate(t.Context())
	if code, _, _ := get(t, client(t, p), "https://"+host); code != 503 {
		t.Errorf("%d", code)
	}
	if !hasName(p, "shared.elb.amazonaws.com") || hasName(p, "blue.elasticbeanstalk.com") {
		t.Error("the shared balancer is gone, or the CNAME is left")
	}
}

func hasName(p *plane.Plane, name string) bool {
	for _, r := range p.Names().List() {
		if r.Name == name {
			return true
		}
	}
	return false
}

// swap hammers a host while its environment is swapped for another, and ends the old one after the given time.
func swap(t *testing.T, after, keep time.Duration) load.Report {
	t.Helper()
	p := open(t, plane.Options{})
	old := environment(t, "blue", "i-1")
	old.Keep = keep
	blue, green := start(t, p, old), start(t, p, environment(t, "green", "i-2"))
	set(t, p, plane.Record{Name: host, Type: "CNAME", Values: []string{"blue.elasticbeanstalk.com"}, TTL: time.Second})
	well(t, blue)
	well(t, green)
	if err := p.SwapCNAMEs(blue, blue); err == nil {
		t.Error("an environment was swapped with itself")
	}
	o := plan(p)
	o.Downloads, o.Sockets, o.Streams = 0, 0, 0
	h := load.Start(t.Context(), o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Await(ctx, 50); err != nil {
		t.Fatal(err)
	}
	if err := p.SwapCNAMEs(blue, green); err != nil {
		t.Fatal(err)
	}
	if blue.CNAME() != "green.elasticbeanstalk.com" || green.CNAME() != "blue.elasticbeanstalk.com" {
		t.Errorf("names are %s and %s", blue.CNAME(), green.CNAME())
	}
	wait, done := context.WithTimeout(t.Context(), after)
	defer done()
	<-wait.Done()
	blue.Terminate(t.Context())
	if err := h.Await(ctx, 100); err != nil {
		t.Fatal(err)
	}
	return h.Stop()
}

// After a swap clients go on to the old environment until their answer has run out and their connection is closed.
func TestSwapOfCNAMEs(t *testing.T) {
	r := swap(t, 1500*time.Millisecond, 200*time.Millisecond)
	if r.Failed != 0 {
		t.Error(r.Summary())
	}
	if r.Served["blue"] == 0 || r.Served["green"] == 0 {
		t.Errorf("served by %v", r.Served)
	}
}

// Who ends the old environment before the TTL is over fails requests, and so does who forgets that connections are kept.
func TestSwapThatIsTooQuick(t *testing.T) {
	if r := swap(t, 0, 200*time.Millisecond); r.Failed == 0 {
		t.Error("within the TTL: nothing failed")
	}
	if r := swap(t, 1500*time.Millisecond, time.Hour); r.Failed == 0 {
		t.Error("with connections that are kept: nothing failed")
	}
}

// Terminate lets requests in flight end, unless it is abrupt.
func TestTerminateDrains(t *testing.T) {
	for _, abrupt := range []bool{false, true} {
		p := open(t, plane.Options{})
		o := environment(t, "blue", "i-1")
		o.Abrupt, o.Instance.Grace = abrupt, 10*time.Millisecond
		e := start(t, p, o)
		set(t, p, plane.Record{Name: host, Type: "CNAME", Values: []string{e.CNAME()}})
		well(t, e)
		answers := make(chan int)
		go func() {
			code, _, _ := get(t, client(t, p), "https://"+host+"/slow?bytes=1000&for=1s")
			answers <- code
		}()
		eventually(t, "in flight", func() bool { return e.Group().Health()[0].InFlight == 1 })
		e.Terminate(t.Context())
		if code := <-answers; (code == 200) == abrupt {
			t.Errorf("abrupt %v: the request in flight got %d", abrupt, code)
		}
	}
}

// Close leaves no process, however an instance was left.
func TestCloseLeavesNothing(t *testing.T) {
	p, err := plane.Open(plane.Options{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for id, leave := range map[string]func(*plane.Instance){
		"i-frozen": (*plane.Instance).Freeze, "i-broken": (*plane.Instance).Break, "i-away": (*plane.Instance).Leave, "i-well": func(*plane.Instance) {},
	} {
		i := launch(t, p, options(t, id, nil))
		leave(i)
		folders = append(folders, i.Folder())
	}
	p.Close()
	for _, folder := range folders {
		if left := running(t, folder); len(left) > 0 {
			t.Errorf("%s: %d processes are left", folder, len(left))
		}
	}
	if _, err := p.Launch(t.Context(), options(t, "i-late", nil)); err == nil {
		t.Error("a closed plane launches")
	}
	if _, err := plane.Open(plane.Options{Folder: "/nowhere"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
