package memory

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// front is the way in: an HTTP server on connections that are pipes in memory. What goes through it is real HTTP, with
// streams and upgrades, and no port is opened.
type front struct {
	server *http.Server
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// pipe is one connection; reach says to which rollout it leads, whoever has traffic.
type pipe struct {
	net.Conn
	reach *rollout
}

type reachKey struct{}

func (f *front) listen(w *World) {
	f.queue, f.closed = make(chan net.Conn), make(chan struct{})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	f.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*pipe); ok && p.reach != nil {
				return context.WithValue(ctx, reachKey{}, p.reach)
			}
			return ctx
		}}
	go func() { _ = f.server.Serve(f) }()
}

func (f *front) close() {
	f.once.Do(func() { close(f.closed) })
	_ = f.server.Close()
}

// Accept implements net.Listener.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.queue:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *front) Close() error { f.once.Do(func() { close(f.closed) }); return nil }

// Addr implements net.Listener.
func (f *front) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (f *front) dial(ctx context.Context, reach *rollout) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case f.queue <- &pipe{server, reach}:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Dial leads to the stages' real hosts, over plain HTTP (1.1, or 2 with prior knowledge). It has the form of net.Dialer.DialContext.
func (w *World) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return w.front.dial(ctx, nil)
}

// ServeHTTP answers a request for the real host of a stage.
func (w *World) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	reach, _ := req.Context().Value(reachKey{}).(*rollout)
	if reach == nil && !w.passes(rw, req) {
		return
	}
	r, i, status := w.enter(req, reach)
	if r == nil {
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, http.StatusText(status), status)
		return
	}
	defer w.leave(r)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(r.alive, cancel)() // what is cut is cut in the middle
	rw.Header().Set("Lotse-Release", r.release.ID.Short())
	answer := &counted{ResponseWriter: rw, status: http.StatusOK}
	if reach == nil {
		defer w.count(r, i.service, req, answer, w.now())
	}
	i.handler.ServeHTTP(answer, req.WithContext(ctx))
	if r.alive.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// enter finds the instance for a request and counts it as in flight, at once under the lock, so that a drain sees it.
func (w *World) enter(req *http.Request, r *rollout) (*rollout, *instance, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stageOf(req.Host)
	if r == nil && s == nil {
		return nil, nil, http.StatusMisdirectedRequest
	}
	if r == nil {
		s.turn++
		r = s.draw()
	}
	if r == nil {
		return nil, nil, http.StatusServiceUnavailable
	}
	r.turn++
	service, i, status := r.route(req.URL.Path, r.turn)
	if i == nil {
		if service != "" && req.Context().Value(reachKey{}) == nil {
			r.tally(service).Add(w.now(), req.Method, req.URL.Path, status, false, 0)
		}
		return nil, nil, status
	}
	r.inFlight++
	return r, i, 0
}

func (w *World) leave(r *rollout) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.inFlight--
	if r.leaving && r.inFlight == 0 {
		close(r.idle)
		r.leaving = false
	}
}

func (w *World) stageOf(host string) *stage {
	host, _, _ = strings.Cut(host, ":")
	for _, s := range w.stages {
		if s.host == host {
			return s
		}
	}
	return nil
}

// draw takes the rollout whose turn it is. Within any 100 requests in a row each gets exactly its share, well mixed.
func (s *stage) draw() *rollout {
	at := s.turn * 61 % 100
	for _, id := range sortedIDs(s.rollouts) {
		if at -= s.shares[id]; at < 0 {
			return s.rollouts[id]
		}
	}
	return nil
}

// route takes the instance for a path: the longest prefix, then those that answer, by turns.
func (r *rollout) route(path string, turn int) (service string, take *instance, status int) {
	longest := -1
	status = http.StatusNotFound
	var able []*instance
	for _, i := range r.instances {
		if i.worker || !within(path, i.path) || len(i.path) < longest {
			continue
		}
		if len(i.path) > longest {
			longest, able, status, service = len(i.path), nil, http.StatusServiceUnavailable, i.service
		}
		if i.broken == "" {
			able = append(able, i)
		}
	}
	if len(able) == 0 {
		return service, nil, status
	}
	return service, able[turn%len(able)], 0
}

// within reports whether path is at or below prefix, by whole segments.
func within(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// reacher is a transport to one rollout. It speaks plain HTTP to the front for https URLs, too.
type reacher struct {
	world   *World
	stage   *stage
	rollout *rollout
	http.Transport
}

func (e *Engine) reacher(s *stage, r *rollout) *reacher {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.world.front.dial(ctx, r) }
	t := &reacher{world: e.world, stage: s, rollout: r}
	t.DialContext, t.DialTLSContext, t.DisableKeepAlives = dial, dial, true
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *reacher) RoundTrip(req *http.Request) (*http.Response, error) {
	t.world.mu.Lock()
	there := t.stage.rollouts[t.rollout.id] == t.rollout
	t.world.mu.Unlock()
	if !there {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errors.Join(deploy.ErrUnknown)
	}
	return t.Transport.RoundTrip(req)
}
