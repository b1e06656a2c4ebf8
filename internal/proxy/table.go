package proxy

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// table is what requests go by. It is never changed: Put builds another and swaps the pointer.
//
// Why no request is lost between a swap and a drain. A request does, in this order:
//
//	(1) t := table.Load()   (2) flight.refs.Add(1)   (3) table.Load() == t, else refs.Add(-1) and again from (1)
//
// and whoever drains does
//
//	(a) table.Store(t')     (b) until flight.refs.Load() == 0
//
// Go's atomics are sequentially consistent: there is one order of all six. If (3) saw t, then (3) came before (a), hence
// (2) before (b), and (b) sees the reference until the request gives it back. If (3) saw t', the request never used what
// it took. A later table cannot be taken for t by its address, since the request holds t. So once (b) has seen zero after
// (a), no request uses the flight and none ever will; a passing reference of a request that will see t' at (3) is harmless.
type table struct {
	hosts map[string]*entry
	sites map[string]*liveSite
}

// entry is what one host name leads to: a site, or a redirect.
type entry struct {
	site     *liveSite
	host     string
	redirect string
}

type liveSite struct {
	Site
	releases []*liveRelease
	common   *siteCommon
	gate     *gate  // nil: open
	atGate   *count // what the gate answers; nil: open
}

// siteCommon is what all tables of one site share.
type siteCommon struct {
	turn    atomic.Uint32
	waiting atomic.Int64
	barrier atomic.Pointer[barrier] // nil: open
	held    held
}

type liveRelease struct {
	*flight
	share  int
	served bool
	until  time.Time   // zero: it is there
	routes []liveRoute // longest prefix first
}

type liveRoute struct {
	prefix, service string
	backend         *backend // or
	files           *files
	count           *count
}

// pick returns the release for the next request, nil when none has a share. Shares are kept exactly over every hundred
// requests, and evenly within them, since 61 and 100 have no common divisor.
func (s *liveSite) pick() *liveRelease {
	if len(s.releases) == 1 && s.releases[0].share == 100 {
		return s.releases[0]
	}
	return s.at(s.turn())
}

// turn returns the next place.
func (s *liveSite) turn() int { return int(s.common.turn.Add(1) % places * 61 % places) }

// at returns the release that has a place, nil when none has. The order of releases is that of the site, so that of two the one whose
// share grows keeps its places.
func (s *liveSite) at(place int) *liveRelease {
	for _, r := range s.releases {
		if place -= r.share; place < 0 {
			return r
		}
	}
	return nil
}

// named returns the release that a client asks for in Lotse-For, as Lotse-Release or the command line call it, nil when it is not there
// or has never served: nobody but who steers may look at what is yet to come.
func (s *liveSite) named(name string) *liveRelease {
	const least = 6
	if name = strings.TrimPrefix(name, "sha256:"); len(name) < least {
		return nil
	}
	for _, r := range s.releases {
		if (r.share > 0 || r.served) && r.until.IsZero() && (strings.HasPrefix(r.label, name) || strings.HasPrefix(name, r.label) && len(r.label) >= least) {
			return r
		}
	}
	return nil
}

// match returns the route with the longest prefix of path on whole segments, nil when there is none.
func (r *liveRelease) match(path string) *liveRoute {
	for i := range r.routes {
		if under(path, r.routes[i].prefix) {
			return &r.routes[i]
		}
	}
	return nil
}

func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

// with returns a table in which site stands instead of the one with its key; nil takes key out.
func (t *table) with(key string, site *liveSite) *table {
	next := &table{hosts: map[string]*entry{}, sites: map[string]*liveSite{}}
	for k, s := range t.sites {
		if k != key {
			next.sites[k] = s
		}
	}
	if site != nil {
		next.sites[key] = site
	}
	for _, s := range next.sites {
		for _, h := range s.Hosts {
			next.hosts[h] = &entry{site: s, host: h}
		}
		for h, to := range s.Redirects {
			next.hosts[h] = &entry{site: s, host: h, redirect: to}
		}
	}
	return next
}

// flight is what of one release is in the air. It outlives tables: all tables with the release share it.
type flight struct {
	site, id, label string
	refs            atomic.Int64

	life     context.Context // ends when the release is gone: probes stop
	end      context.CancelFunc
	backends map[string]*backend // guarded by Server.mu
	roots    map[Static]*files   // guarded by Server.mu

	mu  sync.Mutex
	air map[*exchange]struct{}
}

func newFlight(site string, r Release) *flight {
	f := &flight{site: site, id: r.ID, label: r.Label, air: map[*exchange]struct{}{},
		backends: map[string]*backend{}, roots: map[Static]*files{}}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

func (f *flight) enter(x *exchange) {
	f.mu.Lock()
	f.air[x] = struct{}{}
	f.mu.Unlock()
}

func (f *flight) leave(x *exchange) {
	f.mu.Lock()
	delete(f.air, x)
	f.mu.Unlock()
	f.refs.Add(-1)
}

// aloft returns the exchanges in the air for which want holds.
func (f *flight) aloft(want func(*exchange) bool) []*exchange {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []*exchange
	for x := range f.air {
		if want(x) {
			found = append(found, x)
		}
	}
	return found
}

// retire lets go of what the flight holds. Only when it is in no table and refs is 0.
func (f *flight) retire() {
	f.end()
	for _, b := range f.backends {
		b.replace(nil)
	}
	for _, files := range f.roots {
		files.root.Close()
	}
}

// draft is a live site that does not serve yet. Nothing that serves was changed for it.
type draft struct {
	live  *liveSite
	fresh map[flightKey]*flight
	apply []func() // gives backends their targets
}

type flightKey struct{ site, release string }

// draft builds a live site that shares with what flies already. Under Server.mu.
func (s *Server) draft(site Site, restoring bool) (*draft, error) {
	common := s.commons[site.Key]
	if common == nil {
		common = &siteCommon{}
	}
	d := &draft{live: &liveSite{Site: site, common: common}, fresh: map[flightKey]*flight{}}
	if d.live.gate = s.gateOf(site); d.live.gate != nil {
		d.live.atGate = s.counts.gate(site.Key)
	}
	for _, r := range site.Releases {
		key := flightKey{site.Key, r.ID}
		f := s.flights[key]
		if f == nil {
			f = newFlight(site.Key, r)
			d.fresh[key] = f
		}
		live := &liveRelease{flight: f, share: r.Share, served: r.Served, until: r.Until}
		for _, route := range r.Routes {
			l := liveRoute{prefix: route.Prefix, service: route.Service, count: s.counts.of(f, route.Service)}
			if err := s.fill(d, &l, f, site, route, restoring || !r.Until.IsZero()); err != nil {
				d.drop()
				return nil, err
			}
			live.routes = append(live.routes, l)
		}
		slices.SortStableFunc(live.routes, func(a, b liveRoute) int { return len(b.prefix) - len(a.prefix) })
		d.live.releases = append(d.live.releases, live)
	}
	return d, nil
}

// fill gives the route its backend or its files. Files that are gone are an error when a site is put, but not when it is restored, where
// that route alone answers 503, nor those of a release that has ended.
func (s *Server) fill(d *draft, l *liveRoute, f *flight, site Site, route Route, lenient bool) error {
	if route.Static == nil {
		key := route.Prefix + "\x00" + route.Service
		if l.backend = f.backends[key]; l.backend == nil {
			l.backend = newBackend(f, s.log)
			f.backends[key] = l.backend
		}
		d.apply = append(d.apply, func() { l.backend.configure(site.Hosts, route) })
		return nil
	}
	if l.files = f.roots[*route.Static]; l.files != nil {
		return nil
	}
	files, err := openFiles(*route.Static)
	if err != nil && lenient {
		s.note("the files of %s in %s cannot be read, their route answers 503: %v", route.Service, site.Key, err)
		return nil
	}
	if err != nil {
		return err
	}
	l.files, f.roots[*route.Static] = files, files
	return nil
}

// take makes the draft's parts known and hands out its targets. What is left is the swap.
func (s *Server) take(d *draft) {
	s.commons[d.live.Key] = d.live.common
	maps.Copy(s.flights, d.fresh)
	for _, apply := range d.apply {
		apply()
	}
}

func (d *draft) drop() {
	for _, f := range d.fresh {
		f.retire()
	}
}

// sweep lets go of flights that no table has and nobody uses. Under Server.mu.
func (s *Server) sweep() {
	listed := map[*flight]bool{}
	for _, site := range s.table.Load().sites {
		for _, r := range site.releases {
			listed[r.flight] = true
		}
	}
	for key, f := range s.flights {
		if !listed[f] && f.refs.Load() == 0 {
			delete(s.flights, key)
			f.retire()
		}
	}
}
