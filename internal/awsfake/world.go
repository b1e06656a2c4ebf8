package awsfake

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Options of a World. Every zero value has a default fit for tests.
type Options struct {
	Region  string // where Stack and Balancer put things; eu-central-1
	Account string // twelve digits; 123456789012
	Caller  string // ARN that STS tells; a user of the account

	// How long things take. Defaults are a few tens of milliseconds.
	Launch         time.Duration // CreateEnvironment until Ready
	Update         time.Duration // UpdateEnvironment, RebuildEnvironment until Ready
	Swap           time.Duration // SwapEnvironmentCNAMEs until both are Ready and the names have moved
	Terminate      time.Duration // TerminateEnvironment until Terminated
	Deregistration time.Duration // a target that leaves a target group is draining for as long as this
	HealthTimeout  time.Duration // how long a deployment waits for instances to get well
	Checks         time.Duration // between two health checks of a target or an instance
	Grace          time.Duration // between SIGTERM and SIGKILL of an instance that ends
	RecordTTL      time.Duration // how long a resolver of the plane keeps a CNAME; AWS has 60 s
	KeepAlive      time.Duration // how long a balancer keeps a client's connection (client_keep_alive.seconds); 1 h as on AWS

	Database time.Duration // until a snapshot of a database is taken, an instance of one is there, or is gone

	Invalidation time.Duration // CreateInvalidation until all edges have forgotten

	Stack time.Duration // each resource of a stack, and each change set; 1 ms

	// Lag is how far what describes answer lies behind what was done (eventual consistency); 0 is none. SetLag changes it.
	Lag time.Duration

	// Quotas are lower limits than AWS's, by their name in service quotas ("ApplicationVersions", "Environments",
	// "Rules"); "BundleBytes" is the size of a bundle.
	Quotas map[string]int

	NoBundles bool // application versions need no object in S3, for replays of documented examples

	Stacks []string // names of further solution stacks, as documented examples have them

	// Plane makes environments run: real processes from the bundle's Procfile behind real balancers.
	Plane bool

	// Answer is what instances say to a command where there is no Plane, which run nothing: its output and its exit code.
	Answer func(script string) (out string, code int)

	Downloads map[string][]byte // what curl and wget of a bundle's hooks get, by URL; nothing else is reached

	Log *slog.Logger // what the fake does, for a test that is being debugged; discarded where nil
}

func (o Options) withDefaults() Options {
	fill := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if o.Region == "" {
		o.Region = "eu-central-1"
	}
	if o.Account == "" {
		o.Account = "123456789012"
	}
	if o.Caller == "" {
		o.Caller = "arn:aws:iam::" + o.Account + ":user/lotse"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	fill(&o.Stack, time.Millisecond)
	fill(&o.Invalidation, 30*time.Millisecond)
	fill(&o.Database, 30*time.Millisecond)
	fill(&o.Launch, 40*time.Millisecond)
	fill(&o.Update, 40*time.Millisecond)
	fill(&o.Swap, 30*time.Millisecond)
	fill(&o.Terminate, 30*time.Millisecond)
	fill(&o.Deregistration, 20*time.Millisecond)
	fill(&o.HealthTimeout, 5*time.Second)
	fill(&o.Checks, 50*time.Millisecond)
	fill(&o.Grace, 10*time.Second)
	fill(&o.RecordTTL, 100*time.Millisecond)
	return o
}

// World is one AWS account as far as the fake knows it. Safe for concurrent use. It ends with its test: background lives
// are cancelled and waited for, what the plane started is stopped.
type World struct {
	t       testing.TB
	options Options
	server  *httptest.Server
	s3      http.Handler
	objects *objects

	ctx  context.Context // ends with the test
	ends context.CancelFunc
	life sync.WaitGroup

	services map[string]*service

	mu        sync.Mutex // guards all below, and all that regions hold
	regions   map[string]*region
	faults    []*standingFault
	troubles  []*Trouble
	calls     []*Call
	lag       time.Duration
	foreign   map[string]bool // buckets of other accounts
	elsewhere []string        // pairs of addresses, see Elsewhere
	healed    chan struct{}   // closed and renewed by Heal
	backing   backing

	formation     formation
	distributions map[string]*Distribution
}

// region is what an account has in one region. Guarded by World.mu.
type region struct {
	name      string
	beanstalk beanstalk
	balancing balancing
	commands  commands
	secrets   secretStore
	databases databases
	logs      logStore
	stacks    map[string]*stack
	metrics   []metric
}

// Open starts a World that ends with t.
func Open(t testing.TB, options Options) *World {
	t.Helper()
	ctx, ends := context.WithCancel(context.Background())
	w := &World{t: t, options: options.withDefaults(), ctx: ctx, ends: ends, regions: map[string]*region{}, foreign: map[string]bool{}, healed: make(chan struct{}), backing: stateOnly{options.Answer}}
	w.lag = w.options.Lag
	w.services = w.allServices()
	w.openS3()
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // dropped connections are on purpose
	w.server.Start()
	if w.options.Plane {
		w.openPlane() // before the clean-up is told of: its folders go after its processes
	}
	t.Cleanup(w.close)
	return w
}

func (w *World) close() {
	w.ends()
	w.server.CloseClientConnections()
	w.server.Close() // from here on nothing new begins
	w.life.Wait()
	w.backing.close()
}

// Endpoint is the address of the control plane for clients that are not the SDK: http://127.0.0.1:port.
func (w *World) Endpoint() string { return w.server.URL }

// Region is the region of Options.
func (w *World) Region() string { return w.options.Region }

// Account is the account's number.
func (w *World) Account() string { return w.options.Account }

// Config is an SDK configuration for this World in region ("" for Options.Region): fake credentials, three attempts
// within some milliseconds of each other, a connection of its own.
func (w *World) Config(region string) aws.Config {
	if region == "" {
		region = w.options.Region
	}
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext}
	w.t.Cleanup(transport.CloseIdleConnections)
	return aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(w.server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDFAKE", "fake", ""),
		HTTPClient:   bodyKeeper{&http.Client{Transport: transport}},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = 3
				o.MaxBackoff = 5 * time.Millisecond
			})
		},
	}
}

// bodyKeeper sends requests with bodies of their own. The SDK closes the body as soon as the answer's head is there, and
// net/http takes it ill when it is still about to look whether there is more: the connection breaks and the call is made
// twice. Over a network that never happens; on loopback it does, once in a hundred calls.
type bodyKeeper struct{ *http.Client }

func (k bodyKeeper) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(raw))
	}
	return k.Client.Do(r) //nolint:gosec // where it goes is up to the SDK, whose endpoint is this World
}

// quota is a limit of the account, AWS's where Options say nothing.
func (w *World) quota(name string, usual int) int {
	if limit, set := w.options.Quotas[name]; set {
		return limit
	}
	return usual
}

// SetLag changes how far describes lie behind, from now on.
func (w *World) SetLag(lag time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lag = lag
}

// in finds or makes a region. The caller holds mu.
func (w *World) in(name string) *region {
	r, there := w.regions[name]
	if !there {
		r = newRegion(name)
		w.regions[name] = r
	}
	return r
}

func newRegion(name string) *region {
	return &region{
		name:      name,
		beanstalk: newBeanstalk(),
		balancing: newBalancing(),
		commands:  commands{},
		secrets:   secretStore{},
		logs:      logStore{},
		stacks:    map[string]*stack{},
	}
}

// later runs do in the background of the World; do ends with ctx.
func (w *World) later(do func(ctx context.Context)) {
	w.life.Go(func() { do(w.ctx) })
}

// wait is false when the World ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

const idLetters = "abcdefghijkmnpqrstuvwxyz23456789"

// newID is n random letters and digits.
func newID(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw)
	for i := range raw {
		raw[i] = idLetters[int(raw[i])%len(idLetters)]
	}
	return string(raw)
}

// newHex is n random hexadecimal digits, as EC2 and load balancers name things.
func newHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw)
	for i := range raw {
		raw[i] = "0123456789abcdef"[raw[i]%16]
	}
	return string(raw)
}

func newUUID() string {
	return newHex(8) + "-" + newHex(4) + "-4" + newHex(3) + "-a" + newHex(3) + "-" + newHex(12)
}
