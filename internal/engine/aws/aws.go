package aws

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Config is what an Engine needs from its neighbours.
type Config struct {
	App   string
	Stage deploy.Stage
	AWS   sdk.Config // credentials, and the region where it says one; Open adds retries where it has none of its own
	// Files returns the files of a release, by the paths of its manifest.
	Files func(ctx context.Context, r deploy.Release) (fs.FS, error)
	Lotse string // path of a lotse that is linked statically, for the instances' machine
	Dir   string // scratch for bundles while they are made; created
	// Machine is the architecture of the instances in Go's words: the one that the release was built on. Empty: this one.
	Machine string
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // how hosts are reached; nil: as usual
	TLS     *tls.Config                                                          // whom to trust there; nil: as usual
	Now     func() time.Time                                                     // nil: the clock
	Log     *slog.Logger                                                         // nil logs nothing
	Timing  Timing
	// PasswordCost is what a look at the password of a private stage costs, as bcrypt counts; 0: as the proxy thinks right.
	PasswordCost int
}

// Timing is how long things take on the platform. Zero fields are filled in with what Amazon's take.
type Timing struct {
	Poll    time.Duration // first pause between two looks, 3 s; later ones are longer, up to five times
	Launch  time.Duration // until an environment is ready or has failed, 9 min: commands on it end after 5
	Gone    time.Duration // until a terminated environment is gone, 9 min
	Settle  time.Duration // for what follows the readiness: health, rules, names; 2 min
	Switch  time.Duration // after a change of a rule until no node of the balancer follows the old one, 10 s
	DNS     time.Duration // after a swap of names until nobody uses the old one, 150 s: records live 60 s, connections to a balancer as long again
	Command time.Duration // for one question to the instances, 20 s
	Undo    time.Duration // for what a failed or cancelled start has begun, before the rest is left to Stop; 2 min
	Answer  time.Duration // for one try of a call, 30 s: what AWS does at once it answers in seconds
	Copy    time.Duration // until RDS has taken a snapshot, made an instance of one or deleted that, and until all rows were read, 4 h
	Counted time.Duration // after a snapshot's moment until PostgreSQL has counted what was written before it, 70 s
	Quiet   time.Duration // how long AWS may not answer at all, while something is awaited, before that is given up; 90 s
}

func (t Timing) filled() Timing {
	t.Poll, t.Launch, t.Gone = cmp.Or(t.Poll, 3*time.Second), cmp.Or(t.Launch, 9*time.Minute), cmp.Or(t.Gone, 9*time.Minute)
	t.Settle, t.Switch, t.DNS = cmp.Or(t.Settle, 2*time.Minute), cmp.Or(t.Switch, 10*time.Second), cmp.Or(t.DNS, 150*time.Second)
	t.Undo, t.Answer = cmp.Or(t.Undo, 2*time.Minute), cmp.Or(t.Answer, 30*time.Second)
	t.Copy, t.Counted = cmp.Or(t.Copy, 4*time.Hour), cmp.Or(t.Counted, 70*time.Second)
	t.Command, t.Quiet = cmp.Or(t.Command, 20*time.Second), cmp.Or(t.Quiet, 90*time.Second)
	return t
}

// Engine runs one stage of one app on AWS. It implements deploy.Engine, deploy.Tasks, deploy.Logs, deploy.Sampler, deploy.Databases,
// deploy.Migrates, deploy.TakesSnapshots and deploy.Instead.
type Engine struct {
	Config
	api    clients
	host   string
	others []string // hosts that are sent to it
	lb     balancer
	most   int64 // bytes that a bundle may have

	rollouts locks // one verb of a rollout at a time
	site     sync.Mutex
	stackMu  sync.Mutex
	stack    *stack // nil until it was read

	mu       sync.Mutex
	starting map[string][]context.CancelCauseFunc // ends Starts that are under way
	labels   map[string]labels                    // tags by the id of the environment; they never change
	rules    map[string]labels                    // tags by the ARN of the rule
}

var (
	_ deploy.Engine    = (*Engine)(nil)
	_ deploy.Tasks     = (*Engine)(nil)
	_ deploy.Logs      = (*Engine)(nil)
	_ deploy.Sampler   = (*Engine)(nil)
	_ deploy.Databases = (*Engine)(nil)
	_ deploy.Migrates  = (*Engine)(nil)
)

// Open returns the engine of a stage. It asks AWS nothing: the stack is read when it is needed first.
func Open(c Config) (*Engine, error) {
	e := &Engine{Config: c, most: bundleMost, rollouts: locks{held: map[string]chan struct{}{}}, starting: map[string][]context.CancelCauseFunc{},
		labels: map[string]labels{}, rules: map[string]labels{}}
	if err := e.fillIn(); err != nil {
		return nil, fmt.Errorf("open %s: %w", e.key(), err)
	}
	e.api = newClients(e.AWS, e.Timing.Answer)
	e.lb = sharedBalancer{e}
	if e.Stage.AWS.Balancer == deploy.AWSOwn {
		e.lb = ownBalancer{e}
	}
	return e, nil
}

func (e *Engine) fillIn() error {
	region := cmp.Or(e.Stage.AWS.Region, "eu-central-1")
	if e.AWS.Region != "" && e.AWS.Region != region {
		return deploy.Hint(fmt.Errorf("%w: AWS is set to the region %s, and the app is in %s", deploy.ErrBadInput, e.AWS.Region, region),
			"take AWS_REGION out of the environment, or write aws: region in lotse.yaml")
	}
	e.AWS.Region = region
	u, err := url.Parse(e.Stage.URL)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%w: the stage's address %q", deploy.ErrBadInput, e.Stage.URL)
	}
	e.host = u.Hostname()
	for _, r := range e.Stage.Redirects {
		if u, err := url.Parse(r); err == nil && u.Hostname() != e.host {
			e.others = append(e.others, u.Hostname())
		}
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Dial == nil {
		e.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	e.Machine = cmp.Or(e.Machine, runtime.GOARCH)
	e.Timing = e.Timing.filled()
	return nil
}

// Facts implements deploy.Engine.
func (e *Engine) Facts() deploy.Facts { return e.lb.facts() }

func (e *Engine) key() string { return e.App + "/" + e.Stage.Name }

// failed says what was tried, and turns what AWS said into the sentinels of deploy. A call that ended because ctx did says so.
func (e *Engine) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	err = translate(err)
	if ctx.Err() != nil && deploy.CodeOf(err) != "cannot-start" && deploy.CodeOf(err) != "migration" {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s on %s: %w", what, e.key(), err)
}

// locks is one lock for each name, which a context can end the waiting for.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		free, taken := l.held[name]
		if !taken {
			free = make(chan struct{})
			l.held[name] = free
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, name)
				close(free)
			}, ctx.Err()
		}
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return func() {}, context.Cause(ctx)
		}
	}
}

// commands are the services of a release that have a program.
func commands(services []deploy.Service) []deploy.Service {
	return slices.DeleteFunc(slices.Clone(services), func(s deploy.Service) bool { return s.Command == "" })
}

// startMost is the longest that a service of a release may take to become healthy.
func startMost(services []deploy.Service) time.Duration {
	most := time.Duration(0)
	for _, s := range commands(services) {
		most = max(most, cmp.Or(s.Start, time.Minute))
	}
	return most
}
