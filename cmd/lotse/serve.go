package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/mask"
	"github.com/lotse-eu/lotse/internal/migrate"
	"github.com/lotse-eu/lotse/internal/notify"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/supabase"
	"github.com/lotse-eu/lotse/internal/vault"
	"github.com/lotse-eu/lotse/internal/watch"
)

// buildUser is who the steps of a pipeline run as where Lotse runs as root: a number of systemd's range for users without an
// entry in passwd (61184–65519, systemd.exec(5)). Stages have the numbers after it.
const buildUser = 61184

// serve is the body of `lotse serve`: it puts the controller together, and runs it until ctx ends. What it started lives on. With the name of
// a bucket, history and releases are shared there.
func serve(ctx context.Context, p place, asked ports, bucket string, log *slog.Logger, ready func(line string)) error {
	hider := &process.Hider{}
	log = hider.Logger(log)
	if err := p.make(); err != nil {
		return err
	}
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()

	shared, err := openSharing(ctx, bucket, log)
	if err != nil {
		return err
	}
	defer shared.close(ctx)
	book, err := ledger.Open(ctx, p.ledger(), shared.book(log))
	if err != nil {
		return err
	}
	defer book.Close()
	history, err := shared.history(ctx, book)
	if err != nil {
		return err
	}
	store, builder, err := openBuilder(p, shared, hider, log)
	if err != nil {
		return err
	}
	sources, err := openSources(p)
	if err != nil {
		return err
	}
	keepers, err := openKeepers(log)
	if err != nil {
		return err
	}
	at, err := p.settlePorts(ctx, keepers, asked)
	if err != nil {
		return err
	}
	traffic, err := startProxy(ctx, p, keepers, at)
	if err != nil {
		return err
	}
	settings, err := vault.Open(p.at("vault"), p.at("settings.key"), time.Now)
	if err != nil {
		return err
	}
	browser, err := openBrowser(p)
	if err != nil {
		return err
	}
	var controller *deploy.Controller
	settings = settings.With(vault.SecretsManager{Config: awsConfig}).Keeping(func(ctx context.Context, stage deploy.StageRef) ([]deploy.ValueVersions, error) {
		return controller.VersionsNeeded(ctx, stage)
	})

	group, ctx := errgroup.WithContext(ctx)
	engines := &engines{port: at.HTTPS, ctx: ctx, group: group, place: p, builder: builder, depot: store, proxy: traffic, keepers: keepers, log: log}
	with := wiring{p, shared, book, history, builder, sources, settings, browser, at, engines, hider, log}
	controller = deploy.New(dying(with.config(ctx)))
	teller, err := notify.Open(ctx, notify.Config{Ledger: history, Rollouts: controller, Names: namesIn(book), Log: log})
	if err != nil {
		return err
	}
	group.Go(func() error { return watchProxy(ctx, p, keepers, at, log) })
	group.Go(func() error { return controller.Run(ctx) })
	group.Go(func() error { return shared.run(ctx) })
	group.Go(func() error { examine(ctx, book, log); return nil })
	group.Go(once(ctx, controller, func() error { return teller.Run(shared.telling(ctx, history)) }))
	group.Go(once(ctx, controller, func() error {
		socket, err := api.Listen(p.socket())
		if err != nil {
			return err
		}
		ready(fmt.Sprintf("listening on %s, HTTPS on port %d, HTTP on port %d", p.socket(), at.HTTPS, at.HTTP))
		return api.NewServer(service{controller, variables{settings, history}, teller, book}, version(), log).Hiding(hider.String).ServeOn(ctx, socket)
	}))
	return unlessEnded(group.Wait())
}

// wiring is what a controller is put together from.
type wiring struct {
	place    place
	shared   *sharing
	book     *ledger.Ledger
	history  deploy.Ledger
	builder  deploy.Builder
	sources  deploy.Sources
	settings *vault.Vault
	browser  deploy.Browser
	at       ports
	engines  *engines
	hider    *process.Hider
	log      *slog.Logger
}

func (w wiring) config(ctx context.Context) deploy.Config {
	return deploy.Config{
		Ledger:      w.history,
		Places:      w.shared.places(w.book),
		Builder:     w.builder,
		Sources:     w.shared.sources(w.sources),
		Migrate:     migrate.New(migrate.Config{Log: w.log}),
		Snapshots:   w.place.snapshots(ctx, w.log),
		Masks:       mask.New(mask.Config{Log: w.log}),
		Read:        config.Read,
		Settings:    w.settings.Of,
		Earlier:     w.settings.Earlier,
		Engine:      w.engines.open,
		Judge:       watch.New,
		Whereabouts: whereabouts(supabase.Client{}),
		Browser:     w.browser,
		Space:       w.place.space,
		Address:     w.at.address,
		Owner:       owner(),
		Hider:       w.hider,
		Log:         w.log,
	}
}

// unlessEnded is err, unless it is the controller's own end.
func unlessEnded(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// once does something as soon as the controller has taken up what was unfinished.
func once(ctx context.Context, controller *deploy.Controller, do func() error) func() error {
	return func() error {
		if err := wait(ctx, controller.Ready()); err != nil {
			return nil //nolint:nilerr // the controller is being ended, which is no error
		}
		return do()
	}
}

// examine reads the whole ledger beside what goes on, which takes seconds where it is long: Open looks at its end alone. What
// runs is to keep running, so a damage is said and not acted on.
func examine(ctx context.Context, book *ledger.Ledger, log *slog.Logger) {
	if err := book.Verify(ctx); errors.Is(err, deploy.ErrDamaged) {
		log.Error("the ledger is damaged", "error", err, "hint", deploy.HintOf(err))
	}
}

// service is the controller, and beside it the variables of stages and the names of people.
type service struct {
	*deploy.Controller
	variables
	teller *notify.Teller
	people *ledger.Ledger
}

func (s service) Names(ctx context.Context, ids []string) map[string]string {
	return s.people.Names(ctx, ids)
}

func (s service) TestNotices(ctx context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error) {
	return s.teller.TestNotices(ctx, q)
}

// namesIn are the names of everybody that the ledger knows, for taking them out of what is told.
func namesIn(book *ledger.Ledger) func(context.Context) []string {
	return func(ctx context.Context) (names []string) {
		people, err := book.People(ctx)
		if err != nil {
			return nil // what is told is scrubbed by its form all the same
		}
		for _, p := range people {
			names = append(names, p.Name)
		}
		return names
	}
}

// owner names this controller in leases: no two controllers of one machine have the same.
func owner() string { return fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()) }

// openBuilder opens the depot, and what makes releases for it.
func openBuilder(p place, shared *sharing, hider *process.Hider, log *slog.Logger) (*depot.Depot, deploy.Builder, error) {
	store, err := depot.Open(p.at("depot"))
	if err != nil {
		return nil, nil, err
	}
	works, err := openPipeline(p, store, hider, log)
	if err != nil {
		return nil, nil, err
	}
	builder, err := shared.builder(works, store)
	return store, builder, err
}

func openPipeline(p place, store *depot.Depot, hider *process.Hider, log *slog.Logger) (*pipeline.Pipeline, error) {
	var user *process.User
	if os.Getuid() == 0 {
		user = &process.User{UID: buildUser, GID: buildUser}
	}
	return pipeline.New(pipeline.Config{Depot: store, Dir: p.at("pipeline"), User: user, Hider: hider, Log: log})
}

func openKeepers(log *slog.Logger) (*process.Keepers, error) {
	exe, err := self()
	return &process.Keepers{Command: []string{exe, "keep"}, Log: log}, err
}

// address is a stage's URL as it is reached, with the port of this machine's proxy where that serves it.
func (p ports) address(s deploy.Stage) string {
	u, err := url.Parse(s.URL)
	if err != nil || p.HTTPS == 443 || s.AWS != (deploy.AWS{}) {
		return s.URL
	}
	u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(p.HTTPS))
	return u.String()
}

// engines opens engines by name. This is the one place that knows which there are.
type engines struct {
	port    int // of HTTPS
	ctx     context.Context
	group   *errgroup.Group
	place   place
	builder deploy.Builder
	depot   *depot.Depot
	proxy   *proxy.Client
	keepers *process.Keepers
	log     *slog.Logger
	mu      sync.Mutex
}

func (e *engines) open(app string, stage deploy.Stage) (deploy.Engine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch stage.Engine {
	case "", "local":
		return e.local(app, stage)
	case "aws":
		return e.aws(app, stage)
	}
	return nil, deploy.Hint(fmt.Errorf("%w: engine %q", deploy.ErrUnsupported, stage.Engine), "this version of Lotse has the engines local and aws")
}

// aws opens the engine that drives AWS. Nothing is asked there yet.
func (e *engines) aws(app string, stage deploy.Stage) (deploy.Engine, error) {
	account, err := awsConfig(e.ctx, stage.AWS.Region)
	if err != nil {
		return nil, err
	}
	exe, err := self()
	if err != nil {
		return nil, err
	}
	c := aws.Config{App: app, Stage: stage, AWS: account, Files: e.builder.Files, Lotse: exe, Dir: e.place.at("aws", app, stage.Name),
		Dial: dial, Log: e.log, Timing: pace()}
	if stage.AWS.Static {
		return aws.OpenSite(c)
	}
	return aws.Open(c)
}

func (e *engines) local(app string, stage deploy.Stage) (deploy.Engine, error) {
	if err := certifiable(stage); err != nil {
		return nil, err
	}
	engine, err := local.Open(local.Config{App: app, Stage: stage.Name, Dir: e.place.at("local", app, stage.Name), Depot: e.depot,
		Proxy: e.proxy, Keepers: e.keepers, Port: e.port, Log: e.log})
	if err != nil {
		return nil, err
	}
	e.group.Go(func() error { return engine.Run(e.ctx) })
	return engine, nil
}

// certifiable refuses a stage for whose host this version has no certificate: it would settle, and nobody could open it.
func certifiable(stage deploy.Stage) error {
	for _, address := range append([]string{stage.URL}, stage.Redirects...) {
		u, err := url.Parse(address)
		if err != nil {
			return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		if host := u.Hostname(); host != "localhost" && !strings.HasSuffix(host, ".localhost") {
			return deploy.Hint(fmt.Errorf("%w: stage %s has the host %s, and this version has certificates for *.localhost alone",
				deploy.ErrUnsupported, stage.Name, host), "use a host such as https://"+stage.Name+".localhost")
		}
	}
	return nil
}
