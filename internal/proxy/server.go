package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a Server needs. Only StateDir is required.
type Config struct {
	StateDir string // the table, in two copies; created with mode 0700

	// Listeners: even places speak HTTPS, odd places redirect to it ({https, http} or {v4 https, v4 http, v6 https, …}).
	// The Server closes them when Run ends.
	Listeners  []net.Listener
	PublicPort int // in redirects to HTTPS; 0: the port of the first listener

	// Balancers are the addresses of load balancers before this proxy: what they say in X-Forwarded-For (its last entry) and
	// X-Forwarded-Proto is believed, so that the log, the limits and the instances know the client. Empty: nobody is believed.
	Balancers []netip.Prefix
	// Health answers /.lotse/health on every host, private ones too, instead of the app; nil: that path is the app's. It is asked by
	// many at once.
	Health http.Handler

	Control        string                                               // path of the unix socket, at most 100 bytes; "": not steered
	Authority      *Authority                                           // certificates for localhost and *.localhost; nil: none
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // for all other names; nil: none

	Log *slog.Logger // nil: discarded
	// Predecessor is the proxy whose place this one takes when Run begins; nil: there is none. Ready is called when it has; nil: nobody.
	Predecessor *Predecessor
	Ready       func()

	AccessLog io.Writer                      // one JSON line per request, written in batches from one goroutine; nil: none
	Pseudonym func(client netip.Addr) string // what the access log says instead of an address; nil: nothing

	// Unsampled is a header. Requests that have it, with whatever value, are in no samples: what stands before this proxy leads them to a
	// release whatever its share. Empty: there is no such header.
	Unsampled string

	Drain time.Duration    // what the end of Run gives requests in flight when their site says nothing; 0: 30 s
	Clock func() time.Time // wall clock of the statistics; nil: time.Now
}

const defaultDrain = 30 * time.Second

// Server carries requests. Use New, then Run once. Everything is safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	since   time.Time
	access  *accessLog
	buffers buffers
	counts  counts

	table   atomic.Pointer[table]
	swaps   broadcast
	closing atomic.Bool
	inPlace atomic.Bool   // it has taken over, or had nobody to take over from
	succeed chan struct{} // closed when a successor has taken over
	heir    net.Conn      // … and it listens here; guarded by mu
	ended   chan struct{} // requests that wait for an instance give up
	air     atomic.Int64  // exchanges that have not ended
	drains  atomic.Int64  // drains under way
	looks   chan struct{} // one look at a password at a time

	mu      sync.Mutex // one change of the table at a time
	store   *store
	state   state
	flights map[flightKey]*flight
	commons map[string]*siteCommon

	noteMu sync.Mutex
	notes  []string

	goodbyeTime time.Duration
	readyTime   time.Duration // 0: as it should be

	aimed   func() // for tests: called between the look at the table and the reference
	noDrain bool   // a planted fault: drains answer without waiting, for the test that proves that another test sees it
}

// New restores the table from cfg.StateDir. A damaged file is put aside, said in the log and in Stats.Notes, and its
// other copy used; when both are damaged New fails with ErrDamaged, since an empty table would also forget the fences.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Drain <= 0 {
		cfg.Drain = defaultDrain
	}
	s := &Server{cfg: cfg, log: cfg.Log, since: cfg.Clock(), access: newAccessLog(cfg, cfg.Log), ended: make(chan struct{}), succeed: make(chan struct{}), goodbyeTime: goodbyeTime,
		looks:   make(chan struct{}, 1),
		flights: map[flightKey]*flight{}, commons: map[string]*siteCommon{}}
	s.table.Store(&table{})
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("the proxy's state directory: %w", err)
	}
	s.store = &store{dir: cfg.StateDir}
	var err error
	if s.state, err = s.store.load(s.note); err != nil {
		return nil, err
	}
	s.restore()
	return s, nil
}

func (s *Server) restore() {
	for _, site := range s.state.sites() {
		d, err := s.draft(site, true)
		if err != nil {
			s.note("the table of %s cannot be restored: %v", site.Key, err)
			continue
		}
		s.take(d)
		d.live.common.close(s.state.Closures[site.Key])
		s.table.Store(s.table.Load().with(site.Key, d.live))
	}
}

// note keeps what the operator should know.
func (s *Server) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Warn(text) //nolint:sloglint // the operator reads the same sentence in the log and in the status
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	s.notes = append(s.notes, text)
}

// Put is Client.Put, for who has the Server in its own process.
func (s *Server) Put(site Site) error { return s.put(site) }

// Stats is Client.Stats, for who has the Server in its own process.
func (s *Server) Stats() Stats { return s.stats() }

// put replaces a site: on disk first, then in the table.
func (s *Server) put(site Site) error {
	site, err := site.normal()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(site); err != nil {
		return err
	}
	site.Releases = s.state.remembering(site)
	d, err := s.draft(site, false)
	if err != nil {
		return err
	}
	next := s.state.with(site)
	if err := s.store.save(next); err != nil {
		d.drop()
		return err
	}
	s.state = next
	s.take(d)
	s.swap(site.Key, d.live)
	s.tell(site.Key)
	return nil
}

// admit refuses old fences and hosts of others.
func (s *Server) admit(site Site) error {
	if err := s.admitFence(site.Key, site.Fence); err != nil {
		return err
	}
	hosts := s.table.Load().hosts
	for _, h := range site.names() {
		if e := hosts[h]; e != nil && e.site.Key != site.Key {
			return fmt.Errorf("%s belongs to %s: %w", h, e.site.Key, ErrHostTaken)
		}
	}
	return nil
}

func (s *Server) admitFence(key string, fence int64) error {
	if s.heir != nil {
		return errMoved
	}
	if last := s.state.Fences[key]; fence < last {
		return fmt.Errorf("%s: fence %d, the last was %d: %w", key, fence, last, ErrFenced)
	}
	return nil
}

// swap is the instant at which new requests go another way. Under mu.
func (s *Server) swap(key string, live *liveSite) {
	s.table.Store(s.table.Load().with(key, live))
	s.swaps.announce()
	s.sweep()
}

func (s *Server) pong() pong {
	if !s.inPlace.Load() {
		return pong{}
	}
	return pong{os.Getpid()}
}

func (s *Server) remove(key string, fence int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admitFence(key, fence); err != nil {
		return err
	}
	next := s.state.without(key, fence)
	if err := s.store.save(next); err != nil {
		return err
	}
	s.state = next
	s.swap(key, nil)
	if common := s.commons[key]; common != nil {
		common.close(Closure{})
	}
	s.tell(key)
	return nil
}

func (s *Server) get(key string) (Site, error) {
	if live := s.table.Load().sites[key]; live != nil {
		return live.Site, nil
	}
	return Site{}, fmt.Errorf("%s: %w", key, ErrUnknown)
}

func (s *Server) stats() Stats {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	st := Stats{Since: s.since, Services: s.counts.read(), LogDropped: s.access.dropped.Load(), Draining: s.drains.Load()}
	for _, site := range s.table.Load().sites {
		st.Waiting += site.common.waiting.Load()
	}
	st.Notes = append([]string(nil), s.notes...)
	return st
}

// Run serves until ctx ends or a successor has taken over, then takes leave: it stops accepting, says goodbye on kept connections (GOAWAY, Connection:
// close), gives what is in flight its time, cuts the rest, writes the access log to its end and returns nil. An error
// means that a listener or the control socket failed.
func (s *Server) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		s.access.run()
	}()
	defer func() {
		s.access.close()
		<-logged
	}()
	defer s.retireAll()
	control, err := s.listenControl()
	if err != nil {
		return err
	}
	front := s.newFront()
	group, failed := errgroup.WithContext(ctx)
	lost := front.begin(failed)
	group.Go(func() error { return control.serve(failed) })
	group.Go(func() error { return front.until(failed, lost) })
	group.Go(func() error { return s.takeOver(failed) })
	select {
	case <-failed.Done():
	case <-s.succeed:
		end()
	}
	s.leave(front)
	control.close()
	s.bequeath()
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// takeOver is when this proxy can do everything.
func (s *Server) takeOver(ctx context.Context) error {
	if p := s.cfg.Predecessor; p != nil {
		if err := p.takeOver(); err != nil {
			return err
		}
		go s.inherit(ctx, p)
	}
	s.inPlace.Store(true)
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	return nil
}

func (s *Server) retireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flights {
		f.retire()
	}
}
