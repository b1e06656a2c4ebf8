// Package load hammers one web origin and says, by the project's one definition, whether a request failed.
//
// A failed request is one without a complete, correct answer after at most the retry that RFC 9110 §9.2.2 allows a client:
// once, for an idempotent method, when the connection failed before an answer began. A websocket that was closed with 1001 or
// 1012 and an event stream that ended between two events have not failed. What was in flight in a process while the
// caller killed it is counted apart, and only where the caller says so (Hammer.Kill).
//
// The package also holds the app that is hammered (App), which knows how to answer so that wrong, cut and mixed-up answers
// are noticed: every answer can be computed by the client.
package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Plan says what to send where. The zero value of each number means none of that kind.
type Plan struct {
	URL  string                                                            // origin and prefix: https://host[:port][/prefix]; http:// where there is no TLS
	TLS  *tls.Config                                                       // roots to trust; nil: the system's
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the system's dialer

	Header http.Header // of every request; for a private stage Basic

	Paths []string // GET these of any app, 2xx and whole is right; empty: ask the App of this package and compare

	Gets      int // clients that GET over kept connections, every second one over HTTP/2
	Fresh     int // clients that GET over a new connection each time, every second one over HTTP/2
	Uploads   int // clients that POST UploadBytes and compare the digest that comes back
	Downloads int // clients that read DownloadBytes over DownloadTime and compare every byte
	Sockets   int // clients that hold a websocket and wait for each echo
	Streams   int // clients that hold an event stream and count its ids

	UploadBytes   int64         // default 1 MiB
	DownloadBytes int64         // default 1 MiB
	DownloadTime  time.Duration // default 10 s
	Pause         time.Duration // of a client between two requests, default 5 ms
	Rate          int           // requests a second in all, in place of Pause, begun on time as long as a client is free; 0: as Pause has it
	Timeout       time.Duration // for one whole answer beside DownloadTime, default 30 s

	Requests int           // stop after so many in all; 0: no such bound
	Time     time.Duration // stop after so long; 0: when Stop is called or the context ends
}

// Basic is the Header that a private stage takes.
func Basic(password secret.Text) http.Header {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth("load", password.Reveal())
	return r.Header
}

func (p Plan) withDefaults() Plan {
	p.UploadBytes = orElse(p.UploadBytes, 1<<20)
	p.DownloadBytes = orElse(p.DownloadBytes, 1<<20)
	p.DownloadTime = orElse(p.DownloadTime, 10*time.Second)
	p.Pause = orElse(p.Pause, 5*time.Millisecond)
	p.Timeout = orElse(p.Timeout, 30*time.Second)
	return p
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Run hammers until a bound of the plan is met or ctx ends, and reports. A plan without bounds needs a ctx that ends.
func Run(ctx context.Context, p Plan) Report {
	h := Start(ctx, p)
	select {
	case <-h.idle:
	case <-ctx.Done():
	}
	return h.Stop()
}

// Hammer is a running set of clients. Its methods are safe for concurrent use.
type Hammer struct {
	plan  Plan
	tally *tally
	enough,
	abandon context.CancelFunc // enough: begin nothing new; abandon: break off what is in flight
	going context.Context // ends with enough
	alive context.Context // ends with abandon
	idle  chan struct{}   // closed when every client has ended
	left  chan struct{}   // a token per request that may still begin; nil without a bound
	due   chan struct{}   // a token per request that is to begin now; nil without a rate
}

// Start sets the clients to work and returns at once. When ctx ends they stop as after Stop.
func Start(ctx context.Context, p Plan) *Hammer {
	h := &Hammer{plan: p.withDefaults(), tally: newTally(time.Now()), idle: make(chan struct{})}
	h.alive, h.abandon = context.WithCancel(context.WithoutCancel(ctx))
	if p.Time > 0 {
		h.going, h.enough = context.WithTimeout(ctx, p.Time)
	} else {
		h.going, h.enough = context.WithCancel(ctx)
	}
	if p.Requests > 0 {
		h.left = make(chan struct{}, p.Requests)
		for range p.Requests {
			h.left <- struct{}{}
		}
	}
	if p.Rate > 0 {
		h.due = make(chan struct{}, p.Rate*int(h.plan.Timeout/time.Second+1))
		go h.pace()
	}
	context.AfterFunc(h.going, h.tally.stop)
	var clients sync.WaitGroup
	for _, c := range h.clients() {
		clients.Go(func() { h.drive(c) })
	}
	go func() {
		clients.Wait()
		close(h.idle)
	}()
	return h
}

// Stop lets every request in flight finish, ends the clients and reports. What has no answer after the plan's Timeout (and
// DownloadTime) is a failed request like any other. Stopping again returns the same figures.
func (h *Hammer) Stop() Report {
	h.tally.stop()
	h.enough()
	<-h.idle
	h.abandon()
	return h.tally.report(time.Now())
}

// Kill runs kill, which ends a process of the server without warning. Requests that were in flight at any moment of it and
// then failed are reported as Killed instead of Failed.
func (h *Hammer) Kill(kill func()) {
	from := time.Now()
	h.tally.killing(from, time.Time{})
	kill()
	h.tally.killing(from, time.Now())
}

// Await returns when n more requests have been answered well, or with an error when ctx ends before. It is how a
// caller knows that the load is really on.
func (h *Hammer) Await(ctx context.Context, n int) error {
	until := h.tally.good() + n
	for h.tally.good() < until {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d more good answers: %w (%s)", n, ctx.Err(), h.tally.report(time.Now()).Summary())
		case <-h.idle:
			return fmt.Errorf("wait for %d more good answers: the clients have ended", n)
		case <-h.tally.moved():
		}
	}
	return nil
}

// client is one of the hammers: once does one request (or holds one connection) and tells the tally.
type client struct {
	once func(going, alive context.Context)
	end  func()
}

func (h *Hammer) drive(c client) {
	if c.end != nil {
		defer c.end()
	}
	for h.take() {
		c.once(h.going, h.alive)
		if h.due != nil {
			continue
		}
		select {
		case <-h.going.Done():
		case <-time.After(h.plan.Pause):
		}
	}
}

// pace says when requests are to begin. What no client was free for, begins later.
func (h *Hammer) pace() {
	ticker := time.NewTicker(max(time.Second/time.Duration(h.plan.Rate), time.Millisecond))
	defer ticker.Stop()
	begun, said := time.Now(), 0
	for {
		select {
		case <-h.going.Done():
			return
		case <-ticker.C:
		}
		for owed := int(time.Since(begun).Seconds() * float64(h.plan.Rate)); said < owed; said++ {
			select {
			case h.due <- struct{}{}:
			default: // nobody has begun anything for as long as an answer may take
			}
		}
	}
}

// take reports whether one more request may begin.
func (h *Hammer) take() bool {
	if h.due != nil {
		select {
		case <-h.due:
		case <-h.going.Done():
		}
	}
	if h.going.Err() != nil {
		return false
	}
	if h.left == nil {
		return true
	}
	select {
	case <-h.left:
		return true
	default:
		h.enough() // who holds a connection open takes leave, too
		return false
	}
}

func (h *Hammer) clients() []client {
	var all []client
	add := func(n int, kind string, fresh bool, once func(*http.Transport, string) func(going, alive context.Context)) {
		for i := range n {
			t := h.transport(i%2 == 1 && kind != "socket", fresh)
			all = append(all, client{once: once(t, kind), end: t.CloseIdleConnections})
		}
	}
	add(h.plan.Gets, "get", false, h.getter)
	add(h.plan.Fresh, "fresh", true, h.getter)
	add(h.plan.Uploads, "upload", false, h.uploader)
	add(h.plan.Downloads, "download", false, h.downloader)
	add(h.plan.Sockets, "socket", false, h.socketeer)
	add(h.plan.Streams, "stream", false, h.streamer)
	return all
}

// transport is a client's own, so that clients share no connection.
func (h *Hammer) transport(http2, fresh bool) *http.Transport {
	var protocols http.Protocols
	switch {
	case !http2:
		protocols.SetHTTP1(true)
	case h.plan.secure():
		protocols.SetHTTP2(true)
	default:
		protocols.SetUnencryptedHTTP2(true)
	}
	config := h.plan.TLS.Clone()
	return &http.Transport{
		DialContext: h.plan.Dial, TLSClientConfig: config, Protocols: &protocols,
		DisableKeepAlives: fresh, DisableCompression: true, MaxIdleConnsPerHost: 1,
	}
}

func (p Plan) secure() bool { return len(p.URL) > 6 && p.URL[:6] == "https:" }
