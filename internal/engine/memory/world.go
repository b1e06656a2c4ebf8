// Package memory is the engine that runs nothing: it answers requests in process and has a knob for every failure. Tests of
// the story and dry runs use it.
//
// A World is the platform: it holds what survives a crash of the controller. Engines opened over one World see the same
// stages. It is deterministic: shares and instances take turns in a fixed order, and no clock but World.Clock is asked.
package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// World is a platform in memory. Set its fields before the first Open; its methods are safe for concurrent use.
type World struct {
	// Serve makes what one instance answers with. Nil: it answers 200 with the name of the release on every path.
	Serve func(Instance) http.Handler
	// Command runs a task. Nil: every task succeeds at once, and its command becomes a line of the log.
	Command func(ctx context.Context, rollout, name, command string) error
	// Clock is asked for Running.Since and log lines. Nil: time.Now.
	Clock func() time.Time

	mu        sync.Mutex
	stages    map[string]*stage
	behaviour map[deploy.Digest]Behaviour
	faults    map[Verb]Fault
	noShares  bool
	crashes   int           // how often the controller died; an Engine of an earlier life is dead
	logged    chan struct{} // closed, and made anew, at every line of output
	front     front
}

// Instance says for which instance World.Serve makes a handler.
type Instance struct {
	App, Stage, Rollout, Service string
	Number                       int
	Release                      deploy.Release
	Settings                     []deploy.Setting
	Stopping                     <-chan struct{} // closed when the instance should end what it holds open
}

// Behaviour is how a release behaves when it is started. The zero Behaviour is a good one.
type Behaviour struct {
	Service string        // which service misbehaves; empty: the first with a command
	Cause   string        // it cannot start, and this is why
	Hang    bool          // it never answers, so that Start ends at the service's start time
	Takes   time.Duration // before it answers, or fails with Cause
	Prints  []string      // lines of output; "$NAME" is replaced by the setting's value and then masked, as it would be
}

// NewWorld returns an empty platform.
func NewWorld() *World {
	w := &World{stages: map[string]*stage{}, behaviour: map[deploy.Digest]Behaviour{}, faults: map[Verb]Fault{}, logged: make(chan struct{})}
	w.front.listen(w)
	return w
}

// Close ends all instances and connections. Nothing may be used afterwards.
func (w *World) Close() {
	w.mu.Lock()
	for _, s := range w.stages {
		for _, r := range s.rollouts {
			r.stopping()
			r.abandon()
		}
	}
	w.mu.Unlock()
	w.front.close()
}

// Behave says how a release behaves from now on.
func (w *World) Behave(release deploy.Digest, b Behaviour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behaviour[release] = b
}

// Break makes an instance stop answering, for this reason; an empty one heals it. An instance that is not there is an error,
// so that a test cannot break nothing.
func (w *World) Break(app, stage, rollout, service string, instance int, cause string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.stage(app, stage).instances(rollout) {
		if i.service == service && i.number == instance {
			i.broken = cause
			return nil
		}
	}
	return fmt.Errorf("%w: %s of %s", deploy.ErrUnknown, service, rollout)
}

// Crash ends the life of every Engine opened so far: what they were doing stops where it is, and they answer
// ErrUnavailable. What the World holds is there for the next Open.
func (w *World) Crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashes++
	for _, s := range w.stages {
		for _, r := range s.rollouts {
			if !r.ready && r.claimed {
				r.claimed = false
				close(r.freed)
			}
		}
	}
}

// Lose removes a rollout behind the engine's back, as a machine that was wiped would.
func (w *World) Lose(app, stage, rollout string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(w.stage(app, stage), rollout)
}

// Plant puts a note on a stage as an earlier version of Lotse has written it, with instances that answer.
func (w *World) Plant(app, stage string, written []byte) error {
	var n note
	if err := json.Unmarshal(written, &n); err != nil {
		return fmt.Errorf("read a note: %w", err)
	}
	if n.Format != 1 {
		return fmt.Errorf("%w: a note of format %d", deploy.ErrUnsupported, n.Format)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := newRollout(n.Rollout, n.Since)
	r.release = deploy.Release{ID: n.Release, Manifest: deploy.Manifest{Services: n.Services}}
	r.ready = true
	s := w.stage(app, stage)
	s.rollouts[n.Rollout] = r
	w.fill(s, r, deploy.Order{Rollout: n.Rollout, Release: r.release})
	if n.Share > 0 {
		s.shares = map[string]int{n.Rollout: n.Share}
	}
	return nil
}

// note is a rollout as it is written down.
type note struct {
	Format   int              `json:"format"`
	Rollout  string           `json:"rollout"`
	Release  deploy.Digest    `json:"release"`
	Services []deploy.Service `json:"services"`
	Since    time.Time        `json:"since"`
	Share    int              `json:"share"`
}

// stage is what a platform holds of one stage. World.mu guards it and everything below.
type stage struct {
	app, name string
	host      string
	fence     deploy.Fence
	rollouts  map[string]*rollout
	shares    map[string]int
	last      string // who had traffic before whoever has it now
	turn      int    // counts requests
	barrier   barrier
	data      sets
}

type rollout struct {
	id        string
	release   deploy.Release
	since     time.Time
	instances []*instance
	mask      []secret.Text
	ready     bool // every instance has answered once
	claimed   bool // an Engine is starting it
	freed     chan struct{}
	leaving   bool // Stop has begun
	inFlight  int
	turn      int           // counts requests
	idle      chan struct{} // closed when inFlight comes to 0 while leaving
	going     chan struct{} // closed when instances should end
	alive     context.Context
	abandon   context.CancelFunc
	lines     []deploy.LogLine
	tallies   map[string]*proxy.Tally // by service
}

type instance struct {
	service string
	number  int
	path    string
	worker  bool
	broken  string
	handler http.Handler
}

func newRollout(id string, since time.Time) *rollout {
	r := &rollout{id: id, since: since, going: make(chan struct{}), freed: make(chan struct{}), idle: make(chan struct{}),
		tallies: map[string]*proxy.Tally{}}
	r.alive, r.abandon = context.WithCancel(context.Background())
	return r
}

func (r *rollout) stopping() {
	select {
	case <-r.going:
	default:
		close(r.going)
	}
}

// sick returns the first instance that does not answer.
func (r *rollout) sick() *instance {
	for _, i := range r.instances {
		if i.broken != "" {
			return i
		}
	}
	return nil
}

func (w *World) stage(app, name string) *stage {
	key := app + "/" + name
	if w.stages[key] == nil {
		w.stages[key] = &stage{app: app, name: name, rollouts: map[string]*rollout{}, shares: map[string]int{},
			barrier: barrier{lifted: make(chan struct{})}}
	}
	return w.stages[key]
}

func (s *stage) instances(rollout string) []*instance {
	if r := s.rollouts[rollout]; r != nil {
		return r.instances
	}
	return nil
}

// remove takes a rollout away, whatever it is doing.
func (w *World) remove(s *stage, id string) {
	r := s.rollouts[id]
	if r == nil {
		return
	}
	r.stopping()
	r.abandon()
	delete(s.rollouts, id)
	delete(s.shares, id)
	if s.last == id {
		s.last = ""
	}
	w.news()
}

// fill makes the instances of a rollout.
func (w *World) fill(s *stage, r *rollout, order deploy.Order) {
	for _, setting := range order.Settings {
		r.mask = append(r.mask, setting.Value)
	}
	for _, svc := range r.release.Manifest.Services {
		n := max(1, svc.Instances)
		for number := range n {
			at := Instance{App: s.app, Stage: s.name, Rollout: r.id, Service: svc.Name, Number: number, Release: r.release,
				Settings: order.Settings, Stopping: r.going}
			r.instances = append(r.instances, &instance{service: svc.Name, number: number, path: cmp.Or(svc.Path, "/"),
				worker: svc.Worker(), handler: w.handler(at)})
		}
	}
}

func (w *World) handler(at Instance) http.Handler {
	if w.Serve != nil {
		return w.Serve(at)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, at.Release.ID)
	})
}

func (w *World) now() time.Time {
	if w.Clock != nil {
		return w.Clock()
	}
	return time.Now()
}

// log adds masked lines to the output of an instance.
func (w *World) log(r *rollout, service string, number int, lines ...string) {
	for _, text := range lines {
		r.lines = append(r.lines, deploy.LogLine{At: w.now(), Rollout: r.id, Service: service, Instance: number, Text: r.masked(text)})
	}
	w.news()
}

// news wakes those who follow logs.
func (w *World) news() {
	close(w.logged)
	w.logged = make(chan struct{})
}

func (r *rollout) masked(text string) string {
	for _, v := range r.mask {
		if !v.Empty() {
			text = strings.ReplaceAll(text, v.Reveal(), secret.Shown)
		}
	}
	return text
}

// expand is what a line of Behaviour.Prints would be.
func expand(line string, settings []deploy.Setting) string {
	for _, s := range settings {
		line = strings.ReplaceAll(line, "$"+s.Name, s.Value.Reveal())
	}
	return line
}

func sortedIDs(m map[string]*rollout) []string {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
