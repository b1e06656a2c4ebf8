// Package enginetest proves the contract of deploy.Engine, clause by clause, on any engine.
//
// An engine's own tests call Run with a Bench, which says how to make releases that misbehave on that platform and how
// clients get in. A clause that a platform cannot answer is printed as NOT RUN with the reason. That every clause turns red
// when an engine breaks it is proven in this package's own tests, with one broken engine per clause.
package enginetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

// T is what the suite needs of a *testing.T, so that it can be driven by a recorder that expects failures.
type T interface {
	Helper()
	Name() string
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
	Failed() bool
}

// Kind is a way in which a release behaves.
type Kind string

// The kinds of release that a Bench makes. Each prints at least one line before it misbehaves.
const (
	Good      Kind = "good"      // answers as load.App
	Rude      Kind = "rude"      // answers as well, and ends at once when it is told to, whatever it is at; where there are processes
	Crash     Kind = "crash"     // ends at once with an exit code
	Hang      Kind = "hang"      // runs and never answers
	WrongPort Kind = "wrongport" // listens somewhere else than it was told
	Unhealthy Kind = "unhealthy" // answers its health path with 500
	Tell      Kind = "tell"      // prints the settings whose names begin with SECRET, then answers
	TellCrash Kind = "tellcrash" // prints them, then ends with an exit code
)

// App is the name of the app on every Bench.
const App = "shop"

// Bench is a platform to try an engine on: an empty one each time.
type Bench struct {
	// Stages are two stages of App, with different hosts.
	Stages [2]deploy.Stage
	// Open returns an engine of the stage as a fresh process of the controller would: knowing what the platform holds, nothing else.
	Open func(t T, stage deploy.Stage) deploy.Engine
	// Release makes a release with one service "web" at "/", in so many instances. Each tag is a release of its own.
	Release func(t T, kind Kind, tag string, instances int) deploy.Release
	// Plan says how clients get to the stage's real host.
	Plan func(stage deploy.Stage) load.Plan
	// Break makes an instance stop answering, without an end of its process; heal makes it answer again.
	Break func(t T, stage deploy.Stage, rollout, service string, instance int) (heal func())
	// Outage takes from the engine what it works with, so that nothing can be changed; end gives it back.
	Outage func(t T, stage deploy.Stage) (end func())
	// Previous puts on the stage what the previous version of Lotse wrote for a running rollout, and returns what List must say.
	Previous func(t T, stage deploy.Stage) deploy.Running
	// Leftovers lists what is on the platform and is not in List: processes, folders, ports, routes. Empty when all is clean.
	Leftovers func(t T, stage deploy.Stage, running []deploy.Running) []string
	// Written returns everything that the engine has logged, labelled or left in files, without the app's own data.
	Written func(t T) string
	// Start is the start time of every service, the deadline of a release that cannot run.
	Start time.Duration
	// Slack is what an engine may take beyond a deadline on this platform.
	Slack time.Duration
	// Static says that releases are files alone: they have no instances and answer nothing but GET, /get with the short name of the
	// release and /about as load.App. Crash is then one that the platform refuses, Hang one that it never takes in. Break takes away a
	// file.
	Static bool
	// NotRun names clauses that this platform cannot answer, and why.
	NotRun map[int]string
}

// Clause is one clause of the contract.
type Clause struct {
	Number int
	Name   string
	prove  func(t T, b *bench)
}

// Clauses are the contract, in order.
func Clauses() []Clause {
	return []Clause{
		{1, "start twice is one set of instances", startTwice},
		{2, "a cancelled start leaves nothing", cancelledStart},
		{3, "a release that cannot run says why and leaves nothing", cannotRun},
		{4, "check names what did not answer", checkNames},
		{5, "shift fails no request and is idempotent", shiftUnderLoad},
		{6, "shift is refused without a trace", shiftRefused},
		{7, "stop drains", stopDrains},
		{8, "list from a fresh process is exactly ours", listFresh},
		{9, "two stages never see each other", twoStages},
		{10, "no secret is told", noSecret},
		{11, "errors answer", errorsAnswer},
		{12, "ten callers at once", tenCallers},
		{13, "samples agree with what clients asked", samplesAgree},
		{14, "a hold keeps requests, and ends", holdKeeps},
	}
}

// Run proves every clause on a Bench of its own.
func Run(t *testing.T, open func(t *testing.T) Bench) {
	for _, c := range Clauses() {
		t.Run(fmt.Sprintf("%d %s", c.Number, c.Name), func(t *testing.T) {
			b := open(t)
			if why := b.NotRun[c.Number]; why != "" {
				t.Skipf("NOT RUN: %s", why)
			}
			c.Prove(t, b)
		})
	}
}

// Prove proves one clause.
func (c Clause) Prove(t T, b Bench) { c.prove(t, &bench{Bench: b}) }

// bench adds to a Bench what clauses do again and again.
type bench struct{ Bench }

// copies is how many tell themselves apart of a release that is to have two instances.
func (b *bench) copies() int {
	if b.Static {
		return 1
	}
	return 2
}

// listed is how many instances List has of it.
func (b *bench) listed(n int) int {
	if b.Static {
		return 0
	}
	return n
}

// patience bounds every wait of the suite that ought to end by itself. It is for the slowest platform, on a busy machine.
const patience = time.Minute

func within(t T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// order is a rollout of a release on a stage, with two settings, one of them a secret.
func (b *bench) order(stage int, id string, r deploy.Release) deploy.Order {
	return deploy.Order{Rollout: id, Release: r, Stage: b.Stages[stage], Settings: settings()}
}

// aSecret has characters that encoders change.
const aSecret = `s3cr3t/p4ss"word&more+x`

func settings() []deploy.Setting {
	return []deploy.Setting{
		{Name: "GREETING", Value: secret.New("hello from the settings")},
		{Name: "SECRET_TOKEN", Value: secret.New(aSecret)},
	}
}

// start brings a good release up on the first stage, or ends the clause.
func (b *bench) start(t T, e deploy.Engine, fence deploy.Fence, id string, instances int) deploy.Release {
	t.Helper()
	return b.startKind(t, e, fence, id, Good, instances)
}

func (b *bench) startKind(t T, e deploy.Engine, fence deploy.Fence, id string, kind Kind, instances int) deploy.Release {
	t.Helper()
	r := b.Release(t, kind, id, instances)
	if err := e.Start(within(t, patience), fence, b.order(0, id, r)); err != nil {
		t.Fatalf("start %s: %v", id, err)
	}
	return r
}

func (b *bench) shift(t T, e deploy.Engine, fence deploy.Fence, id string, share int) {
	t.Helper()
	if err := e.Shift(within(t, patience), fence, id, share); err != nil {
		t.Fatalf("shift %s to %d %%: %v", id, share, err)
	}
}

func (b *bench) stop(t T, e deploy.Engine, fence deploy.Fence, id string, drain time.Duration) {
	t.Helper()
	if err := e.Stop(within(t, patience+drain), fence, id, drain); err != nil {
		t.Fatalf("stop %s: %v", id, err)
	}
}

// list returns what runs, by rollout.
func (b *bench) list(t T, e deploy.Engine) map[string]deploy.Running {
	t.Helper()
	all, err := e.List(within(t, patience))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	byID := map[string]deploy.Running{}
	for _, r := range all {
		if _, twice := byID[r.Rollout]; twice {
			t.Errorf("%s is listed twice", r.Rollout)
		}
		byID[r.Rollout] = r
	}
	return byID
}

// shares is list without what a clause about traffic does not look at.
func (b *bench) shares(t T, e deploy.Engine) map[string]int {
	t.Helper()
	shares := map[string]int{}
	for id, r := range b.list(t, e) {
		shares[id] = r.Share
	}
	return shares
}

// clean fails unless nothing but these rollouts is on the stage.
func (b *bench) clean(t T, e deploy.Engine, stage int, want ...string) {
	t.Helper()
	there, err := e.List(within(t, patience))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var ids []string
	for _, r := range there {
		ids = append(ids, r.Rollout)
	}
	if !sameStrings(ids, want) {
		t.Errorf("the stage has %v, want %v", ids, want)
	}
	if left := b.Leftovers(t, b.Stages[stage], there); len(left) > 0 {
		t.Errorf("left over: %s", strings.Join(left, ", "))
	}
}

// get asks the stage's real host, as a client of the internet, on a new connection.
func (b *bench) get(t T, stage int, path string) (int, string) {
	t.Helper()
	client, url := b.client(stage)
	return fetch(t, client.Transport, url+path)
}

// reach asks a rollout, whether or not it has traffic.
func (b *bench) reach(t T, e deploy.Engine, stage int, id, path string) (int, string) {
	t.Helper()
	rt, err := e.Reach(within(t, patience), id)
	if err != nil {
		t.Fatalf("reach %s: %v", id, err)
	}
	return fetch(t, rt, b.Stages[stage].URL+path)
}

func fetch(t T, rt http.RoundTripper, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return resp.StatusCode, string(body)
}

// tag is a rollout id that no other run uses.
func tag(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:8]) }

func sameStrings(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
