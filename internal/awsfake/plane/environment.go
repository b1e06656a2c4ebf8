package plane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// EnvironmentOptions of an environment.
type EnvironmentOptions struct {
	Name         string
	CNAME        string          // in full, as app.eu-central-1.elasticbeanstalk.com; ErrTaken when somebody has it
	TTL          time.Duration   // of the CNAME, default 60 s as on AWS
	IDs          []string        // of the instances, one each
	Instance     InstanceOptions // of every instance; its ID is not looked at
	Group        GroupOptions    // of the target group
	Shared       *Balancer       // the balancer that the CNAME points to; its rules are the caller's. nil: one of its own
	Certificates []Certificate   // of the own balancer's port 443; none: port 80 only
	Idle, Keep   time.Duration   // of the own balancer
	Abrupt       bool            // Terminate does not wait for the deregistration
}

// Environment is a set of instances behind a target group.
type Environment struct {
	plane    *Plane
	o        EnvironmentOptions
	group    *Group
	balancer *Balancer

	mu        sync.Mutex
	cname     string
	instances []*Instance
}

// LaunchEnvironment makes the target group, the CNAME, the own balancer where there is none shared, and the instances, which
// are registered before anything is deployed on them, as on the platform. It returns when every deployment is over; it does
// not wait for health. Where a deployment failed, the environment is returned beside the joined *LaunchErrors and goes on to
// exist; any other error comes without an environment and leaves nothing running.
func (p *Plane) LaunchEnvironment(ctx context.Context, o EnvironmentOptions) (*Environment, error) {
	e := &Environment{plane: p, o: o, cname: canonical(o.CNAME), group: p.NewGroup(o.Group), balancer: o.Shared}
	if err := e.prepare(); err != nil {
		e.drop(ctx)
		return nil, fmt.Errorf("launch environment %s: %w", o.Name, err)
	}
	failed := make([]error, len(e.instances))
	var all sync.WaitGroup
	for at, i := range e.instances {
		all.Go(func() { failed[at] = i.launch(ctx) })
	}
	all.Wait()
	return e, errors.Join(failed...)
}

func (e *Environment) prepare() error {
	if e.balancer == nil {
		if err := e.ownBalancer(); err != nil {
			return err
		}
	}
	if err := e.plane.names.create(Record{Name: e.cname, Type: "CNAME", Values: []string{e.balancer.name}, TTL: cmp.Or(e.o.TTL, time.Minute)}); err != nil {
		e.cname = "" // not ours to delete
		return err
	}
	for _, id := range e.o.IDs {
		o := e.o.Instance
		o.ID = id
		i, err := e.plane.newInstance(o)
		if err != nil {
			return err
		}
		e.instances = append(e.instances, i)
		if err := e.group.Register(i); err != nil {
			return err
		}
	}
	return nil
}

// ownBalancer makes the balancer that Beanstalk makes: everything goes to the one target group.
func (e *Environment) ownBalancer() error {
	b, err := e.plane.NewBalancer(BalancerOptions{Name: "awseb--" + canonical(e.o.Name) + ".elb.amazonaws.com", TTL: e.o.TTL, Idle: e.o.Idle, Keep: e.o.Keep})
	if err != nil {
		return err
	}
	e.balancer = b
	to := Forward(Weighted{Group: e.group, Weight: 1})
	_, err = b.Listen(ListenerOptions{Port: 80, Default: to})
	if err == nil && len(e.o.Certificates) > 0 {
		_, err = b.Listen(ListenerOptions{Port: 443, Certificates: e.o.Certificates, Default: to})
	}
	return err
}

// Name is what was given.
func (e *Environment) Name() string { return e.o.Name }

// Group is the environment's target group, for rules on a shared balancer.
func (e *Environment) Group() *Group { return e.group }

// Balancer is the environment's own balancer, or the shared one.
func (e *Environment) Balancer() *Balancer { return e.balancer }

// CNAME is the name that leads to the environment now.
func (e *Environment) CNAME() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cname
}

// Instances are the environment's instances.
func (e *Environment) Instances() []*Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.instances)
}

// SwapCNAMEs exchanges the names of two environments at once. Clients that have asked before go on to the old one until the
// TTL is over.
func (p *Plane) SwapCNAMEs(a, b *Environment) error {
	if a == b {
		return errors.New("swap: it is one environment")
	}
	nameA, nameB := a.CNAME(), b.CNAME()
	if err := p.names.Swap(nameA, nameB); err != nil {
		return err
	}
	a.rename(nameB)
	b.rename(nameA)
	return nil
}

func (e *Environment) rename(cname string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cname = cname
}

// Terminate deregisters the instances, waits until what is in flight has ended or the deregistration delay is over (not with
// Abrupt), ends the instances and the own balancer, and frees the CNAME for anyone. When ctx ends it goes on at once, and
// nothing is left in any case. Twice is fine.
func (e *Environment) Terminate(ctx context.Context) {
	for _, i := range e.Instances() {
		e.group.Deregister(i.ID())
	}
	for _, i := range e.Instances() {
		if e.o.Abrupt {
			break
		}
		select {
		case <-e.group.Released(i.ID()):
		case <-ctx.Done():
		}
	}
	e.drop(ctx)
}

// drop ends everything that there is of the environment.
func (e *Environment) drop(ctx context.Context) {
	var all sync.WaitGroup
	for _, i := range e.Instances() {
		all.Go(func() { i.Stop(ctx) })
	}
	all.Wait()
	if e.o.Shared == nil && e.balancer != nil {
		e.balancer.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cname != "" {
		e.plane.names.Delete(e.cname)
	}
	e.cname, e.instances = "", nil
}

// EnvironmentHealth is what enhanced health says of an environment.
type EnvironmentHealth struct {
	Status    string // Pending, Ok, Degraded, Severe, NoData
	Color     string // Grey, Green, Red
	Causes    []string
	Instances []InstanceHealth
}

// Health sums up the instances: Severe when none is well, Degraded when some are not, Pending while some are being started.
// Where rules forward to the target group, its view counts too.
func (e *Environment) Health() EnvironmentHealth {
	var h EnvironmentHealth
	count := map[string]int{}
	for _, i := range e.Instances() {
		one := i.Health()
		h.Instances = append(h.Instances, one)
		count[one.Status]++
		if one.Status != "Ok" {
			h.Causes = append(h.Causes, one.Causes...)
		}
	}
	ill, all := count["Severe"]+count["NoData"], len(h.Instances)
	switch {
	case all == 0:
		h.Status, h.Color, h.Causes = "NoData", "Grey", []string{"There are no instances."}
	case ill == all:
		h.Status, h.Color = "Severe", "Red"
	case ill > 0:
		h.Status, h.Color = "Degraded", "Red"
	case count["Pending"] > 0:
		h.Status, h.Color = "Pending", "Grey"
	case e.group.failing():
		h.Status, h.Color, h.Causes = "Severe", "Red", []string{"ELB health is failing or not available for all instances."}
	default:
		h.Status, h.Color = "Ok", "Green"
	}
	return h
}

// failing says whether the group is used and every target in it is unhealthy.
func (g *Group) failing() bool {
	all := g.Health()
	for _, t := range all {
		if t.State != unhealthy {
			return false
		}
	}
	return len(all) > 0
}
