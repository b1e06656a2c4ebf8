package share_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/share"
)

const bucketName = "releases"

// cloud is what all runners share: AWS (a fake), a platform in memory, and a repository that every runner has a checkout of.
type cloud struct {
	t     *testing.T
	aws   *awsfake.World
	world *memory.World
	repo  string
	app   deploy.App
	key   string // of people
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, aws: awsfake.Open(t, awsfake.Options{}), world: memory.NewWorld(), repo: folder(t), key: "a key of people that is long enough"}
	t.Cleanup(c.world.Close)
	c.aws.Bucket(bucketName)
	c.app = deploy.App{Name: "shop",
		Pipeline: []deploy.StepSpec{{Name: "site", Run: "mkdir -p dist && cp page dist/index.html && printf '%s' \"$VITE_API\" > dist/api.txt", Reads: []string{"page"}, Makes: []string{"dist"}, Public: []string{"VITE_API"}}},
		Services: []deploy.Service{{Name: "web", Static: "dist", Path: "/", Start: 10 * time.Second}},
		Stages:   []deploy.Stage{stage("dev"), stage("staging")}}
	c.git("init", "-q", "-b", "main")
	c.commit("first")
	return c
}

func stage(name string) deploy.Stage {
	return deploy.Stage{Name: name, URL: "https://" + name + ".shop.example", Watch: 100 * time.Millisecond, Warm: time.Hour, Stable: 10 * time.Millisecond, Drain: time.Second}
}

// folder is one of the test that every user may enter: steps run as another.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (c *cloud) git(args ...string) {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = c.repo
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.repo, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada Lovelace", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada Lovelace", "GIT_COMMITTER_EMAIL=ada@example.org"}
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (c *cloud) commit(page string) {
	c.t.Helper()
	for name, content := range map[string]string{"page": "<!doctype html>" + page, "lotse.yaml": "app: shop\n"} {
		if err := os.WriteFile(filepath.Join(c.repo, name), []byte(content), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	c.git("add", "-A")
	c.git("commit", "-q", "-m", page)
}

// checkout is a clone of its own, as every CI job has one.
func (c *cloud) checkout() string {
	c.t.Helper()
	dir := filepath.Join(folder(c.t), "checkout")
	c.git("clone", "-q", c.repo, dir)
	return dir
}

// runner is a machine with an empty disk and one controller.
type runner struct {
	*deploy.Controller
	c       *cloud
	dir     string
	here    string
	net     *network
	share   *share.Share
	book    *ledger.Ledger
	shared  *share.Ledger
	store   *depot.Depot
	works   *pipeline.Pipeline
	build   *share.Builder
	expiry  time.Duration
	wait    time.Duration
	clock   func() time.Time
	onEvent func(deploy.Event)

	ctx    context.Context
	cancel context.CancelFunc
	done   chan error // of the controller
	dead   atomic.Bool
	ended  sync.Once
}

func (c *cloud) runner() *runner {
	c.t.Helper()
	return &runner{c: c, dir: folder(c.t), here: c.checkout(), net: &network{}, expiry: 3 * time.Second, wait: 20 * time.Second}
}

// open takes the shared history, as far as that works.
func (r *runner) open() error {
	t := r.c.t
	t.Helper()
	cfg := r.c.aws.Config("")
	r.net.HTTPClient, cfg.HTTPClient = cfg.HTTPClient, r.net
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("runner", filepath.Base(filepath.Dir(r.dir)))
	var err error
	r.share, err = share.Open(t.Context(), share.Config{AWS: cfg, Bucket: bucketName, Who: "job " + r.dir[len(r.dir)-3:], People: secret.New(r.c.key), Expiry: r.expiry, Wait: r.wait, Clock: r.clock, Log: log})
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = r.share.Close(context.Background()) })
	if r.book == nil {
		r.book, err = ledger.Open(t.Context(), filepath.Join(r.dir, "ledger.db"), ledger.Config{Now: r.share.Now, PersonID: r.share.PersonID})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.book.Close() })
		r.store, err = depot.Open(filepath.Join(r.dir, "depot"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.store.Close() })
		pc := pipeline.Config{Depot: r.store, Dir: filepath.Join(r.dir, "pipeline"), Reserve: 1, Log: slog.New(slog.DiscardHandler)}
		if os.Geteuid() == 0 {
			pc.User = &process.User{UID: 61234, GID: 61234}
		}
		if r.works, err = pipeline.New(pc); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.works.Close() })
	}
	if r.build, err = r.share.Builder(r.works, r.store); err != nil {
		t.Fatal(err)
	}
	r.shared, err = r.share.Ledger(t.Context(), r.book)
	return err
}

// boot opens the shared history and runs a controller.
func (r *runner) boot() *runner {
	t := r.c.t
	t.Helper()
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.Controller = deploy.New(deploy.Config{Ledger: heard{r.shared, r}, Places: share.Places(r.book, r.here), Builder: r.build,
		Read:     func(string, []byte) (deploy.App, error) { return r.c.app, nil },
		Settings: settings, Address: func(s deploy.Stage) string { return s.URL }, Owner: r.dir, Log: slog.New(slog.DiscardHandler),
		Engine: func(app string, s deploy.Stage) (deploy.Engine, error) {
			return &mortal{memory.Open(r.c.world, app, s.Name), r}, nil
		}})
	r.done = make(chan error, 1)
	go func() { r.done <- r.Controller.Run(r.ctx) }()
	go func() {
		if r.share.Run(r.ctx) != nil { // as `lotse serve` does
			r.cancel()
		}
	}()
	<-r.Ready()
	t.Cleanup(r.stop)
	return r
}

func settings(_ context.Context, _, _ string, s deploy.Stage) (deploy.Settings, error) {
	return deploy.Settings{Values: []deploy.Setting{{Name: "VITE_API", Value: secret.New("https://api." + s.Name)}}, Version: "1"}, nil
}

// stop is `lotse down`.
func (r *runner) stop() {
	r.ended.Do(func() {
		r.cancel()
		<-r.done
		if err := r.share.Close(context.Background()); err != nil && !r.net.cut() {
			r.c.t.Error(err)
		}
	})
}

// kill is kill -9 of the machine: nothing that it still does reaches anybody.
func (r *runner) kill() {
	r.dead.Store(true)
	r.net.cutOff()
	r.cancel()
}

func (r *runner) deploy(rev string) deploy.Rollout {
	r.c.t.Helper()
	id, err := r.Deploy(r.c.t.Context(), deploy.Request{Dir: r.here, Rev: rev})
	if err != nil {
		r.c.t.Fatalf("deploy: %v", err)
	}
	return r.follow(id)
}

func (r *runner) promote() deploy.Rollout {
	r.c.t.Helper()
	id, err := r.Promote(r.c.t.Context(), deploy.Move{Stage: "staging"})
	if err != nil {
		r.c.t.Fatalf("promote: %v", err)
	}
	return r.follow(id)
}

func (r *runner) follow(id string) (last deploy.Rollout) {
	r.c.t.Helper()
	err := r.Follow(r.c.t.Context(), id, func(u deploy.Update) error {
		if u.Rollout != nil {
			last = *u.Rollout
		}
		return nil
	})
	if err != nil {
		r.c.t.Fatalf("following %s: %v", id, err)
	}
	return last
}

// serves is the rollout that has all traffic of a stage; the test fails where that is not exactly one.
func (c *cloud) serves(stageName string) (rollout string) {
	c.t.Helper()
	running, err := memory.Open(c.world, "shop", stageName).List(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range running {
		switch {
		case r.Share == 100 && rollout == "":
			rollout = r.Rollout
		case r.Share != 0:
			c.t.Errorf("%s: %s has %d %% of the traffic beside %q", stageName, r.Rollout, r.Share, rollout)
		}
	}
	return rollout
}

// settled fails the test where a rollout did not settle.
func (c *cloud) settled(r deploy.Rollout) {
	c.t.Helper()
	if r.Outcome != deploy.Settled {
		c.t.Fatalf("rollout %s of %s is %s: %+v", r.ID, r.Stage, r.Outcome, r.Turned)
	}
}

// heard is a ledger that tells the test of every event.
type heard struct {
	*share.Ledger
	r *runner
}

func (h heard) Append(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	written, err := h.Ledger.Append(ctx, e)
	if err == nil && h.r.onEvent != nil {
		h.r.onEvent(written)
	}
	return written, err
}

// mortal is an engine that does nothing any more when its machine is dead.
type mortal struct {
	deploy.Engine
	r *runner
}

var errDead = errors.New("this machine is dead")

func (m *mortal) Start(ctx context.Context, f deploy.Fence, o deploy.Order) error {
	if m.r.dead.Load() {
		return errDead
	}
	return m.Engine.Start(ctx, f, o)
}

func (m *mortal) Shift(ctx context.Context, f deploy.Fence, rollout string, to int) error {
	if m.r.dead.Load() {
		return errDead
	}
	return m.Engine.Shift(ctx, f, rollout, to)
}

func (m *mortal) Stop(ctx context.Context, f deploy.Fence, rollout string, drain time.Duration) error {
	if m.r.dead.Load() {
		return errDead
	}
	return m.Engine.Stop(ctx, f, rollout, drain)
}

// network is what a runner's requests go through: it can be cut, and it can be slow for some requests.
type network struct {
	aws.HTTPClient
	mu   sync.Mutex
	dead bool
	gate chan struct{} // requests whose path holds gated wait for it, and then go out whatever became of who sent them
	only string
	held chan struct{} // told when one waits
}

func (n *network) cutOff() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = false
}

func (n *network) cut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// hold makes PUTs of keys that hold some text wait until release is called. waits is told of each.
func (n *network) hold(only string) (waits <-chan struct{}, release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gate, n.held, n.only = make(chan struct{}), make(chan struct{}, 100), only
	gate := n.gate
	return n.held, sync.OnceFunc(func() { close(gate) })
}

func (n *network) Do(req *http.Request) (*http.Response, error) {
	n.mu.Lock()
	dead, gate, held, only := n.dead, n.gate, n.held, n.only
	n.mu.Unlock()
	if dead {
		return nil, errors.New("the network is down")
	}
	if gate != nil && req.Method == http.MethodPut && strings.Contains(req.URL.Path, only) {
		held <- struct{}{}
		<-gate
		req = req.WithContext(context.WithoutCancel(req.Context()))
	}
	return n.HTTPClient.Do(req)
}
