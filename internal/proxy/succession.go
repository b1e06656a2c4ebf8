package proxy

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// How one proxy takes the place of another, on listeners that both have.
//
//	successor                                      predecessor
//	Succeed            ── succeed ──▶              its table stands still from here on
//	New                   reads the state
//	Run                   takes the name of the control socket, accepts
//	                   ── ready ──▶                says go, or has come back to life meanwhile
//	                   ◀── go ──                   accepts no more; finishes what is in flight within the drain
//	                   ── every change ──▶         for what waits there
//	                   ◀── what it has counted ──  ends
//
// Until it has said go the predecessor loses nothing: when the connection ends, it goes on as if nothing had been.

const (
	succession   = "lotse-succession" // the protocol that the connection is upgraded to
	wordReady    = "ready\n"
	wordGo       = "go\n"
	readyTime    = 15 * time.Second // for the successor to become ready: changes wait so long
	announceTime = time.Second
)

// Predecessor is the proxy whose place a Server takes. It stands still until Run, or until Close.
type Predecessor struct {
	conn net.Conn
	in   *bufio.Reader
	gone chan struct{} // it has ended
}

// Succeed asks the proxy that listens on a control socket to make way. Nil when there is none. ErrNoSuccession: it is too old to know how.
func Succeed(ctx context.Context, control string) (*Predecessor, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", control)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the proxy before this one: %w", err)
	}
	p := &Predecessor{conn: conn, in: bufio.NewReader(conn), gone: make(chan struct{})}
	_ = conn.SetDeadline(time.Now().Add(readyTime))
	_, err = fmt.Fprintf(conn, "POST /succeed HTTP/1.1\r\nHost: proxy\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", succession)
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(p.in, nil); err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			resp.Body.Close()
			err = fmt.Errorf("%w: it answers %d", ErrNoSuccession, resp.StatusCode)
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the proxy before this one does not make way: %w", err)
	}
	return p, nil
}

// Close lets the predecessor go on, unless it has made way.
func (p *Predecessor) Close() {
	if p != nil {
		p.conn.Close()
	}
}

// takeOver is when the successor can do everything.
func (p *Predecessor) takeOver() error {
	_, err := fmt.Fprint(p.conn, wordReady)
	if err == nil {
		var said string
		if said, err = p.in.ReadString('\n'); err == nil && said != wordGo {
			err = fmt.Errorf("it says %q", said)
		}
	}
	if err != nil {
		p.conn.Close()
		return fmt.Errorf("the proxy before this one goes on: %w", err)
	}
	_ = p.conn.SetDeadline(time.Time{})
	return nil
}

// change is what the predecessor is told, for requests that wait there.
type change struct {
	Site    Site    `json:"site"`
	Closure Closure `json:"closure"`
}

// tell passes a change on. A predecessor that does not listen has its drain, and no more. Under Server.mu.
func (s *Server) tell(key string) {
	p := s.cfg.Predecessor
	if p == nil {
		return
	}
	select {
	case <-p.gone:
		return
	default:
	}
	site := Site{Key: key}
	if live := s.table.Load().sites[key]; live != nil {
		site = live.Site
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(announceTime))
	_ = json.NewEncoder(p.conn).Encode(change{site, s.state.Closures[key]})
}

// inherit waits for the end of the predecessor and goes on counting where it was.
func (s *Server) inherit(ctx context.Context, p *Predecessor) {
	defer p.conn.Close()
	defer close(p.gone)
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	var left legacy
	if err := json.NewDecoder(p.in).Decode(&left); err != nil {
		s.log.Warn("what the proxy before this one has counted is lost", "cause", cause(err))
		return
	}
	s.counts.absorb(left, s.cfg.Clock())
	s.noteMu.Lock()
	s.since = left.Since
	s.noteMu.Unlock()
}

// afterPredecessor waits until a predecessor has nothing in flight any more.
func (s *Server) afterPredecessor(ctx context.Context, timeout time.Duration) {
	if s.cfg.Predecessor == nil {
		return
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.cfg.Predecessor.gone:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// succeeded is the predecessor's side.
func (s *Server) succeeded(c *control, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != succession {
		reply(w, nil, fmt.Errorf("%w: no successor asks", ErrInvalid))
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if !s.makeWay(conn, rw) {
		conn.Close()
		s.log.Warn("a successor did not become ready, this proxy goes on")
		if err := c.renew(); err != nil {
			s.log.Error("the control socket is lost", "cause", cause(err))
		}
		return
	}
	s.log.Info("a successor has taken over")
	in := json.NewDecoder(rw)
	for {
		var next change
		if in.Decode(&next) != nil {
			return // it has ended, too
		}
		s.follow(next)
	}
}

// makeWay stands still until the successor is ready, and reports whether it is.
func (s *Server) makeWay(conn net.Conn, rw *bufio.ReadWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() || s.heir != nil {
		return false
	}
	_ = conn.SetDeadline(time.Now().Add(cmp.Or(s.readyTime, readyTime)))
	_, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", succession)
	if err != nil {
		return false
	}
	said, err := rw.ReadString('\n')
	if err != nil || said != wordReady {
		return false
	}
	if _, err := fmt.Fprint(conn, wordGo); err != nil {
		return false
	}
	_ = conn.SetDeadline(time.Time{})
	s.heir = conn
	close(s.succeed)
	return true
}

// follow does what the successor has done, in memory.
func (s *Server) follow(next change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.draft(next.Site, true)
	if err != nil {
		return
	}
	s.take(d)
	d.live.common.close(next.Closure)
	s.swap(next.Site.Key, d.live)
}

// bequeath is the last that a predecessor does.
func (s *Server) bequeath() {
	s.mu.Lock()
	heir := s.heir
	s.mu.Unlock()
	if heir == nil {
		return
	}
	defer heir.Close()
	_ = heir.SetWriteDeadline(time.Now().Add(readyTime))
	_ = json.NewEncoder(heir).Encode(s.counts.legacy(s.stats().Since))
}

// legacy is everything that was counted.
type legacy struct {
	Since    time.Time       `json:"since"`
	Services []serviceLegacy `json:"services"`
}

type serviceLegacy struct {
	ServiceStats

	Samples map[string][]slotLegacy `json:"samples"`
}

type slotLegacy struct {
	Number   int64          `json:"number"`
	Requests uint64         `json:"requests"`
	Errors   uint64         `json:"errors"`
	Latency  map[int]uint64 `json:"latency"`
}

func (c *counts) legacy(since time.Time) legacy {
	l := legacy{Since: since}
	for _, count := range c.every() {
		l.Services = append(l.Services, serviceLegacy{count.read(), count.samples.legacy()})
	}
	return l
}

func (c *counts) every() (all []*count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, services := range c.all {
		for _, count := range services {
			all = append(all, count)
		}
	}
	for _, count := range c.gates {
		all = append(all, count)
	}
	return all
}

func (c *counts) absorb(l legacy, now time.Time) {
	for _, s := range l.Services {
		to := c.gate(s.Site)
		if s.Release != "" {
			to = c.of(&flight{site: s.Site, id: s.Release, label: s.Label}, s.Service)
		}
		to.requests.Add(s.Requests)
		to.status4x.Add(s.Status4x)
		to.status5x.Add(s.Status5x)
		to.aborted.Add(s.Aborted)
		to.bytesIn.Add(s.BytesIn)
		to.bytesOut.Add(s.BytesOut)
		for i, n := range s.Latency[:min(len(s.Latency), len(to.latency))] {
			to.latency[i].Add(n)
		}
		to.samples.absorb(s.Samples, now)
	}
}

func (t *Tally) legacy() map[string][]slotLegacy {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := map[string][]slotLegacy{}
	for name, s := range t.all {
		s.mu.Lock()
		for _, a := range s.slots {
			l := slotLegacy{a.number, a.requests, a.errors, map[int]uint64{}}
			for _, b := range a.latency {
				l.Latency[int(b.bucket)] = uint64(b.n)
			}
			all[name] = append(all[name], l)
		}
		s.mu.Unlock()
	}
	return all
}

func (t *Tally) absorb(all map[string][]slotLegacy, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*series{}
	}
	for name, slots := range all {
		s := t.all[name]
		if s == nil {
			s = &series{}
			t.all[name] = s
		}
		s.mu.Lock()
		for _, l := range slots {
			a := s.at(l.Number)
			a.requests += l.Requests
			a.errors += l.Errors
			for bucket, n := range l.Latency {
				a.count(bucket, uint32(n))
			}
		}
		s.forget(slotOf(now))
		s.mu.Unlock()
	}
}
