package front

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Config is what a front needs. Dir, Env and Out are required.
type Config struct {
	Dir   string               // folder of the release
	Env   []string             // name=value, as os.Environ; the package comment says what is read
	Out   io.Writer            // one JSON object a line
	Log   *slog.Logger         // nil logs nothing
	Clock func() time.Time     // nil: time.Now
	Ready func(address string) // told once it listens; nil: nobody is

	// Tell writes to a log what was counted in the span of time that began at at: lines that are JSON objects. What it fails to take is
	// told again with the next. nil: nobody is told.
	Tell func(ctx context.Context, to Log, at time.Time, lines []string) error
}

// Front runs the services of one release on one instance.
type Front struct {
	spec     Spec
	dir      string
	env      environment
	folder   folder
	mask     *process.Mask
	lock     *proxy.Private
	out      *lines
	log      *slog.Logger
	clock    func() time.Time
	services []*service
	counted  *counted // nil: nobody is told
	proxy    *proxy.Server
	listener net.Listener
	ending   atomic.Bool
	ports    sync.Mutex // one change of the table at a time
	tasks    sync.WaitGroup
}

// Run runs the release in c.Dir until ctx ends. Then it stops accepting, gives what is in flight its time (Spec.Drain: websockets are
// closed with 1001, event streams between two events), ends the services and returns nil. An error says why it could not begin, or
// that its listener failed.
func Run(ctx context.Context, c Config) error {
	f, leave, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer leave()
	return f.run(ctx, c.Ready)
}

// open does what can fail before anything runs.
func open(ctx context.Context, c Config) (f *Front, leave func(), err error) {
	f = &Front{dir: c.Dir, env: c.Env, out: &lines{to: c.Out}, log: c.Log, clock: c.Clock}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.clock == nil {
		f.clock = time.Now
	}
	if f.dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, nil, err
	}
	if f.spec, err = Read(f.dir); err != nil {
		return nil, nil, err
	}
	if f.lock, err = lockOf(f.spec, f.env); err != nil {
		return nil, nil, err
	}
	if err := mount(f.dir, f.spec, f.env); err != nil {
		return nil, nil, err
	}
	f.mask = process.NewMask(f.env.secrets(f.spec.Settings))
	folder, unlock, err := settle(f.dir, f.env)
	if err != nil {
		return nil, nil, err
	}
	f.folder = folder
	if err := f.listen(ctx); err != nil {
		unlock()
		return nil, nil, err
	}
	f.counted = f.counting(c.Tell)
	if ended, err := process.Sweep(ctx); ended > 0 || err != nil {
		f.log.Warn("something was left of a front that had died", "processes", ended, "error", err)
	}
	return f, unlock, nil
}

// listen opens the port and makes the proxy, which does not accept yet.
func (f *Front) listen(ctx context.Context) error {
	host := cmp.Or(f.env.get("LOTSE_FRONT_HOST"), "0.0.0.0")
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, cmp.Or(f.env.get("PORT"), "5000")))
	if err != nil {
		return fmt.Errorf("%w: listening on PORT: %w", deploy.ErrUnavailable, err)
	}
	f.listener = l
	certificate, err := selfMade(hostOf(f.spec.Host), f.clock())
	if err == nil {
		names := &privacy.Pseudonyms{Now: f.clock}
		f.proxy, err = proxy.New(proxy.Config{StateDir: f.folder.at("table"), Listeners: []net.Listener{l}, PublicPort: 443,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
			Balancers:      balancers(host), Health: f, Log: f.log, AccessLog: f.out, Pseudonym: names.Of, Unsampled: reachHeader, Drain: f.spec.drain(), Clock: f.clock})
	}
	if err == nil {
		for _, s := range f.spec.Services {
			f.services = append(f.services, newService(f, s))
		}
		err = f.proxy.Put(f.site())
	}
	if err != nil {
		l.Close()
		return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	return nil
}

// reachHeader is what a balancer before the front tells requests by that are for one rollout, whatever its share. A client of the
// internet that sends it keeps its own requests out of the samples, and nothing else.
const reachHeader = "Lotse-Reach"

// balancers are whose word about the client is believed. A balancer has an address of the private network that it shares with the
// instance (RFC 1918, RFC 4193); nobody on the internet can connect from one. Where the front listens on loopback alone, whatever
// stands before it is on this machine.
func balancers(host string) []netip.Prefix {
	all := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7")}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		all = append(all, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	}
	return all
}

// run carries requests until ctx ends; the services live until the last of them is answered.
func (f *Front) run(ctx context.Context, ready func(address string)) error {
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	steer, err := f.listenControl(alive)
	if err != nil {
		f.listener.Close()
		return err
	}
	defer steer.Close()
	f.log.Info("the front listens", "app", f.spec.App, "stage", f.spec.Stage, "rollout", f.spec.Rollout, "release", f.spec.Release.Short())
	if ready != nil {
		ready(f.listener.Addr().String())
	}
	stop := context.AfterFunc(ctx, func() {
		f.ending.Store(true)
		f.log.Info("the front takes leave", "drain", f.spec.drain())
	})
	defer stop()
	var all sync.WaitGroup
	for _, s := range f.services {
		if s.Command == "" {
			s.answered(0, nil) // files are there
			continue
		}
		all.Go(func() { s.keep(alive) })
		all.Go(func() { s.watch(alive) })
	}
	if f.counted != nil {
		all.Go(func() { f.counted.keep(alive) })
	}
	err = f.proxy.Run(ctx)
	end()
	all.Wait()
	f.tasks.Wait()
	if f.counted != nil {
		f.counted.last(context.WithoutCancel(ctx))
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// site is the proxy's whole table: one release, which has all the traffic.
func (f *Front) site() proxy.Site {
	release := proxy.Release{ID: f.spec.Rollout, Label: f.spec.Release.Short(), Share: 100}
	for _, s := range f.services {
		r := proxy.Route{Prefix: cmp.Or(s.Path, "/"), Service: s.Name, Health: s.Health}
		switch {
		case s.Worker():
			continue
		case s.Static != "":
			r.Health = ""
			r.Static = &proxy.Static{Root: filepath.Join(f.dir, s.Static), Index: filepath.Join(f.dir, ".lotse/static", s.Name+".json"), Fallback: s.Fallback}
		case s.port.Load() != 0:
			r.Targets = []string{s.address()}
		}
		release.Routes = append(release.Routes, r)
	}
	host := strings.ToLower(hostOf(f.spec.Host))
	site := proxy.Site{Key: f.spec.key(), Hosts: []string{host}, Redirects: map[string]string{}, Releases: []proxy.Release{release}, Private: f.lock, Drain: f.spec.drain()}
	for _, r := range f.spec.Redirects {
		if from := strings.ToLower(hostOf(r)); from != host {
			site.Redirects[from] = "https://" + host
		}
	}
	return site
}

// settlePort gives a service a port that it can have: the one before, or another, which the proxy is told.
func (f *Front) settlePort(s *service) error {
	f.ports.Lock()
	defer f.ports.Unlock()
	if port := int(s.port.Load()); port != 0 && isFree(port) {
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	s.port.Store(int64(port))
	return f.proxy.Put(f.site())
}

// process says how one command of the release is run.
func (f *Front) process(name string, command []string, home, port string) process.Spec {
	return process.Spec{Name: strings.Join([]string{f.spec.App, f.spec.Stage, f.spec.Rollout, name}, "-"), Command: command, Dir: f.dir,
		Env: f.env.of(f.spec, name, home, port), Mask: f.env.secrets(f.spec.Settings)}
}
