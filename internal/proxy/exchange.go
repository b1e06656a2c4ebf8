package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const statusClientGone = 499 // in the log only: the client went before there was an answer

const lastWords = time.Second // what an exchange that is cut has to tell its client so

var errCut = errors.New("cut: the drain time is over")

// parting is a stream that can be asked to end well.
type parting interface{ part() }

// exchange is one request on its way to its answer. It is an http.ResponseWriter that counts.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	start  time.Time
	host   string
	client netip.Addr
	body   body
	pin    *pin // it came over the control socket, for one release; nil: it goes by the shares

	insecure bool // the client spoke plain HTTP, to the balancer before us

	entry  *entry
	flight *flight
	route  *liveRoute
	gate   *gate // the one that was asked; nil: the site is open
	atGate bool  // the gate has answered
	ctx    context.Context
	cancel context.CancelCauseFunc

	status  int
	out     int64
	place   int // from 1: it was given to this page, and the browser is to keep it
	aborted bool
	stream  bool // a websocket or an event stream: its length is no latency

	heldFor   time.Duration // by a hold: no latency either
	waitedOut *barrier

	mu     sync.Mutex // guards what follows, and calls on w from others than the handler
	over   bool
	parts  parting
	asked  bool
	wasCut bool
	writer sync.Mutex // 1xx answers come from another goroutine
	begun  bool
}

func newExchange(s *Server, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{server: s, w: w, r: r, start: time.Now(), host: hostOnly(r.Host)}
	x.whoAsks()
	x.body.ReadCloser = r.Body
	return x
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.air.Add(1)
	defer s.air.Add(-1)
	if s.asksHealth(w, r) {
		return
	}
	x := newExchange(s, w, r)
	defer x.finish()
	if x.secured() {
		x.carry()
	}
}

// carry takes the exchange to whatever the table says now; when no instance can be dialled it waits, lets go of the
// release meanwhile, and looks at the table again.
func (x *exchange) carry() {
	var patience *patience
	defer func() { patience.end() }()
	for {
		swapped := x.server.swaps.watch()
		if !x.aim() {
			return
		}
		changed, err := x.attempt()
		if !errors.Is(err, errNone) {
			return
		}
		if patience == nil {
			patience = newPatience(x.entry.site.common)
		}
		if !patience.wait(x, swapped, changed) {
			if x.r.Context().Err() == nil {
				x.unavailable("no instance answers")
			}
			return
		}
	}
}

// attempt answers from the route's files or instances, and gives the release back.
func (x *exchange) attempt() (changed <-chan struct{}, err error) {
	defer x.land()
	if x.route.backend == nil {
		x.serveFile()
		return nil, nil
	}
	changed = x.route.backend.watch()
	return changed, x.forward(x.route.backend)
}

// aim takes a reference on exactly one release and finds the route, or answers. See table for why this loses nothing.
func (x *exchange) aim() bool {
	s := x.server
	for {
		t := s.table.Load()
		x.entry = x.lookUp(t)
		if x.entry == nil {
			x.plain(http.StatusNotFound, "no site answers for this host")
			return false
		}
		if x.entry.redirect != "" {
			x.redirect(strings.TrimSuffix(x.entry.redirect, "/") + x.r.URL.RequestURI())
			return false
		}
		if !x.enters() {
			return false
		}
		if on, again := x.passes(); !on {
			return false
		} else if again {
			continue
		}
		release := x.choose()
		if release == nil {
			x.unavailable("no release serves here now")
			return false
		}
		if s.aimed != nil {
			s.aimed()
		}
		release.refs.Add(1)
		if s.table.Load() != t {
			release.refs.Add(-1)
			continue
		}
		x.take(release)
		if x.route == nil {
			x.plain(http.StatusNotFound, "nothing answers for this path")
			x.land()
			return false
		}
		return true
	}
}

// lookUp and choose go by the host and the shares, or by the pin.
func (x *exchange) lookUp(t *table) *entry {
	if x.pin == nil {
		return t.hosts[x.host]
	}
	e := x.pin.entryOf(t, x.host)
	if e == nil {
		x.w.Header().Set(reachHeader, "unknown")
	}
	return e
}

func (x *exchange) choose() *liveRelease {
	if x.pin != nil {
		return x.entry.site.find(x.pin.release)
	}
	if name := x.r.Header[forHeader]; len(name) == 1 {
		if r := x.entry.site.named(name[0]); r != nil {
			return r
		}
	}
	if x.entry.site.shared() {
		return x.stay(x.entry.site)
	}
	return x.entry.site.pick()
}

func (x *exchange) take(r *liveRelease) {
	x.ctx, x.cancel = context.WithCancelCause(x.r.Context())
	x.flight = r.flight
	x.flight.enter(x)
	if x.route = r.match(x.r.URL.Path); x.route != nil {
		x.route.count.inFlight.Add(1)
	}
	x.w.Header()["Lotse-Release"] = []string{r.label}
}

// land gives back what take took. The last route stays known for the log.
func (x *exchange) land() {
	if x.route != nil {
		x.route.count.inFlight.Add(-1)
	}
	x.cancel(nil)
	x.flight.leave(x)
}

// finish counts and logs. It runs while a panic of http.ErrAbortHandler passes, too.
func (x *exchange) finish() {
	x.mu.Lock()
	x.over = true
	x.mu.Unlock()
	if x.pin != nil {
		return
	}
	if x.status == 0 {
		x.status = http.StatusOK
		if x.r.Context().Err() != nil {
			x.status = statusClientGone
		}
	}
	took := time.Since(x.start)
	switch {
	case x.atGate:
		x.entry.site.atGate.add(x, took)
	case x.route != nil:
		x.route.count.add(x, took)
		x.route.count.sample(x, took)
	}
	x.server.access.put(x.line(took))
}

// cut ends the exchange now: upstream through its context, a client that does not read through a deadline. It reports
// whether that broke something off, once.
func (x *exchange) cut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.wasCut {
		return false
	}
	x.wasCut = true
	x.cancel(errCut)
	if t, ok := x.parts.(*tunnel); ok {
		return t.cut()
	}
	control := http.NewResponseController(x.w)
	soon := time.Now().Add(lastWords)
	_ = control.SetReadDeadline(soon)
	_ = control.SetWriteDeadline(soon)
	return true
}

// part asks a stream to end well, once. It reports whether there was one to ask.
func (x *exchange) part() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.parts == nil || x.asked {
		return false
	}
	x.asked = true
	go x.parts.part() // may wait for a client that reads slowly
	return true
}

func (x *exchange) canPart() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.over && x.parts != nil && !x.asked
}

func (x *exchange) setParting(p parting) {
	x.mu.Lock()
	x.parts, x.stream = p, true
	x.mu.Unlock()
}

// Header, WriteHeader, Write and ReadFrom make the exchange a writer for answers that the proxy gives itself.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader remembers the status, and says goodbye when the proxy ends.
func (x *exchange) WriteHeader(status int) {
	x.status = status
	if x.entry != nil && x.entry.site.gate != nil {
		x.w.Header()[robotsHeader] = []string{noRobots}
	}
	if x.flight != nil && x.navigates() {
		x.w.Header().Add("Server-Timing", `lotse;desc="`+x.flight.label+`"`) // the one header of its own that a page can read
	}
	if x.place > 0 {
		x.keepPlace()
	}
	if x.server.closing.Load() {
		x.w.Header().Set("Connection", "close") // HTTP/2: net/http makes a GOAWAY of it
	}
	x.w.WriteHeader(status)
}

// forHeader names the release that a call was made for: an open tab goes on to speak with the API that it knows.
const forHeader = "Lotse-For"

// What every answer of a private site says to search engines, whatever the app says.
const (
	robotsHeader = "X-Robots-Tag"
	noRobots     = "noindex, nofollow, noarchive"
)

// Write counts.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.w.Write(p)
	x.out += int64(n)
	return n, err
}

// ReadFrom copies through a pooled buffer.
func (x *exchange) ReadFrom(r io.Reader) (int64, error) {
	buf := x.server.buffers.get()
	defer x.server.buffers.put(buf)
	return io.CopyBuffer(writeOnly{x}, r, *buf)
}

type writeOnly struct{ x *exchange }

func (w writeOnly) Write(p []byte) (int, error) { return w.x.Write(p) }

func (x *exchange) plain(status int, text string) {
	h := x.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	x.WriteHeader(status)
	_, _ = io.WriteString(x, text+"\n")
}

func (x *exchange) unavailable(text string) {
	x.Header().Set("Retry-After", "1")
	x.plain(http.StatusServiceUnavailable, text)
}

// redirect keeps method and body (RFC 9110 §15.4.9).
func (x *exchange) redirect(to string) {
	x.Header().Set("Location", to)
	x.plain(http.StatusPermanentRedirect, "moved")
}

// body counts what is read of a request's body. The server closes the body itself; a transport that failed must not,
// since the next target gets the same one.
type body struct {
	io.ReadCloser
	n       atomic.Int64
	touched atomic.Bool
}

// Read counts.
func (b *body) Read(p []byte) (int, error) {
	b.touched.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// Close leaves the body open.
func (b *body) Close() error { return nil }

// broadcast wakes everybody who watches.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) watch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// buffers is a pool of copy buffers.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, bufferSize)
	return &buf
}

func (b *buffers) put(buf *[]byte) { b.pool.Put(buf) }

// hostOnly takes the port and a last dot from the value of a Host field, and upper case.
func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
