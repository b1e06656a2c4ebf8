// Package local runs one stage of an app on this machine: services as processes on loopback ports under keepers, requests
// through Lotse's proxy.
//
// Everything it knows stands below Config.Dir, written aside, synced and renamed, so that any process may go on where another
// was killed:
//
//	stage.json                   greatest fence, host names, who had traffic before, the lock of the stage's password
//	rollouts/<rollout>.json      what was started: release, services, ports; starting ─► up ─► stopping ─► gone
//	old/<rollout>.json           whose files stay for open tabs, until when, though the rollout is gone
//	releases/<digest>/           the release's files, filled once from the depot, shared by its rollouts, with links to volumes
//	instances/<rollout>.<service>.<n>/   the keeper's folder: state and output of one instance
//	homes/<rollout>.<service>.<n>/       HOME of the instance, its own
//	volumes/<name>/              data that outlives releases
//	postgres/                    the stage's database, where it has one; see the package postgres
//	database/                    the database's keeper: state and output
//	tasks/<rollout>/<name>.log   output of tasks
//	locks/                       one file per rollout, release and the site; the kernel frees them when a process dies
//
// Settings are never written. A keeper has them in memory; after the death of a controller, its successor gives them back
// (Adopt). Who has traffic stands in the proxy, which lives on its own; stage.json keeps a copy for the case that it lost its.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Config is what an Engine needs from its neighbours.
type Config struct {
	App, Stage string
	Dir        string // of this stage alone; created. As root, every folder above it must let others through (o+x)
	// Registry is where stages of one machine agree on user ids and ports: the same folder for all of them. Default: two
	// folders above Dir.
	Registry string
	Depot    *depot.Depot
	Proxy    *proxy.Client
	Keepers  *process.Keepers
	UIDBase  uint32        // first of 4,336 user ids for stages, default 61184; they are used where Lotse runs as root
	Port     int           // of the proxy's https listener, for redirects; 0: 443
	Timeout  time.Duration // for one question about health, default 5 s
	Log      *slog.Logger  // nil logs nothing
	// PasswordCost is what a look at the password of a private stage costs, as bcrypt counts; 0: as the proxy thinks right.
	PasswordCost int
	Clock        func() time.Time
}

const (
	firstUID = 61184 // as systemd's dynamic users: nobody else is given these
	uidCount = 65519 - firstUID + 1
	// abortGrace is what the instances of a failed or cancelled start get between SIGTERM and SIGKILL.
	abortGrace = time.Second
)

// Engine runs one stage of one app on this machine. It implements deploy.Engine, deploy.Adopter, deploy.Tasks, deploy.Logs,
// deploy.Databases, deploy.Sampler, deploy.Holder and deploy.Certifies.
// Several Engines, also in several processes, may work on one folder; locks on files order them.
type Engine struct {
	Config
	user *process.User // nil: instances run as we do

	mu       sync.Mutex
	orders   map[string]deploy.Order              // what runs, with its settings: what a keeper's death is repaired from
	database deploy.Database                      // what is to run; zero: none that somebody has asked for
	starting map[string][]context.CancelCauseFunc // ends Starts that are under way
	changed  chan struct{}                        // wakes those who follow logs; nil while nobody does
}

var (
	_ deploy.Engine     = (*Engine)(nil)
	_ deploy.Adopter    = (*Engine)(nil)
	_ deploy.Tasks      = (*Engine)(nil)
	_ deploy.TasksAhead = (*Engine)(nil)
	_ deploy.Beside     = (*Engine)(nil)
	_ deploy.Instead    = (*Engine)(nil)
	_ deploy.Logs       = (*Engine)(nil)
	_ deploy.Databases  = (*Engine)(nil)
	_ deploy.Sampler    = (*Engine)(nil)
	_ deploy.Holder     = (*Engine)(nil)
	_ deploy.Certifies  = (*Engine)(nil)
)

// Open makes the stage's folders where they are not there and returns its engine. It starts and repairs nothing: see Adopt and Run.
func Open(c Config) (*Engine, error) {
	e := &Engine{Config: c, orders: map[string]deploy.Order{}, starting: map[string][]context.CancelCauseFunc{}}
	if err := e.fillIn(); err != nil {
		return nil, e.failed("open", err)
	}
	if err := e.makeFolders(); err != nil {
		return nil, e.failed("open", err)
	}
	if os.Geteuid() == 0 {
		uid, err := e.claimUID()
		if err != nil {
			return nil, e.failed("open", err)
		}
		e.user = &process.User{UID: uid, GID: uid}
		if err := e.letThrough(); err != nil {
			return nil, e.failed("open", err)
		}
	}
	if err := e.dropStaleClaims(); err != nil {
		return nil, e.failed("open", err)
	}
	return e, nil
}

func (e *Engine) fillIn() error {
	dir, err := filepath.Abs(e.Dir)
	if err != nil {
		return err
	}
	e.Dir = dir
	if e.Registry == "" {
		e.Registry = filepath.Dir(filepath.Dir(dir))
	}
	if e.UIDBase == 0 {
		e.UIDBase = firstUID
	}
	if e.Timeout == 0 {
		e.Timeout = 5 * time.Second
	}
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Clock == nil {
		e.Clock = time.Now
	}
	return nil
}

func (e *Engine) makeFolders() error {
	for name, mode := range map[string]os.FileMode{"": 0o711, "rollouts": 0o700, "releases": 0o750, "instances": 0o700, "homes": 0o711,
		"volumes": 0o711, "tasks": 0o700, "locks": 0o700, "old": 0o700} {
		if err := os.MkdirAll(e.at(name), 0o711); err != nil {
			return err
		}
		if err := os.Chmod(e.at(name), mode); err != nil {
			return err
		}
	}
	for _, name := range []string{"ports", "uids"} {
		if err := os.MkdirAll(filepath.Join(e.Registry, name), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// letThrough gives the stage's user the way to its release, and to no other stage's.
func (e *Engine) letThrough() error {
	if err := os.Chown(e.at("releases"), 0, int(e.user.GID)); err != nil {
		return err
	}
	for dir := e.Dir; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return deploy.Hint(fmt.Errorf("%w: the state folder lies below %s, which only its owner may enter", deploy.ErrBadInput, dir),
				"let others through with chmod o+x, or put the state folder elsewhere")
		}
	}
	return nil
}

// Facts implements deploy.Engine.
func (e *Engine) Facts() deploy.Facts {
	return deploy.Facts{Engine: "local", Carries: "lotse proxy", Shares: true, Sticky: true, TasksHere: true, Sampling: proxy.SampleSlot}
}

func (e *Engine) at(elem ...string) string {
	return filepath.Join(append([]string{e.Dir}, elem...)...)
}

func (e *Engine) key() string { return e.App + "/" + e.Stage }

// failed says what was tried and turns the sentinels of the rooms below into those of deploy.
func (e *Engine) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s on %s: %w", what, e.key(), translate(err))
}

func translate(err error) error {
	for _, pair := range []struct{ from, to error }{
		{proxy.ErrFenced, deploy.ErrFenced}, {proxy.ErrNoProxy, deploy.ErrUnavailable}, {proxy.ErrInvalid, deploy.ErrBadInput},
		{proxy.ErrHostTaken, deploy.ErrBadInput}, {depot.ErrNotFound, deploy.ErrNotFound}, {depot.ErrDamaged, deploy.ErrDamaged},
		{depot.ErrNoSpace, deploy.ErrNoSpace}, {process.ErrNotEnded, deploy.ErrUnavailable}, {proxy.ErrServing, deploy.ErrBusy}, {proxy.ErrUnknown, deploy.ErrUnknown},
		{postgres.ErrVersion, deploy.ErrBadInput}, {postgres.ErrOwner, deploy.ErrBadInput}, {postgres.ErrFolder, deploy.ErrBadInput},
		{postgres.ErrNotInstalled, deploy.ErrUnsupported}, {postgres.ErrNoUser, deploy.ErrUnsupported}, {postgres.ErrPortTaken, deploy.ErrUnavailable},
		{postgres.ErrNoTwin, deploy.ErrUnsupported}, {postgres.ErrNoDatabase, deploy.ErrNotFound}, {postgres.ErrNotRunning, deploy.ErrUnavailable}, {postgres.ErrNotReady, deploy.ErrUnavailable}, {syscall.ENOSPC, deploy.ErrNoSpace},
	} {
		if errors.Is(err, pair.from) {
			return fmt.Errorf("%w: %w", pair.to, err)
		}
	}
	return err
}

// hexOf is a digest as the name of a folder.
func hexOf(d deploy.Digest) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex
}
