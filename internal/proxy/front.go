package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	headerTimeout    = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	clientIdle       = 2 * time.Minute
	headerBytes      = 64 << 10
	streamsMost      = 250             // per HTTP/2 connection
	streamWindow     = 1 << 20         // what one HTTP/2 upload may have under way
	connWindow       = 4 << 20         // … and one connection
	goodbyeTime      = 5 * time.Second // kept HTTP/1.1 connections get this long for one more request
)

// front takes connections. HTTP/1.1 and HTTP/2 have a server each, because they part differently: HTTP/2 has GOAWAY at
// once; HTTP/1.1 has only the answer to the next request, for which its kept connections get goodbyeTime.
type front struct {
	s     *Server
	tls   *tls.Config
	h1    *http.Server
	h2    *http.Server
	plain *http.Server

	forH1, forH2 *handed
	accepting    sync.WaitGroup
	shaking      sync.WaitGroup
	running      sync.WaitGroup
	h1Open       atomic.Int64
	goodbyeTime  time.Duration
}

func (s *Server) newFront() *front {
	f := &front{s: s, forH1: newHanded(), forH2: newHanded(), goodbyeTime: min(s.goodbyeTime, s.cfg.Drain)}
	f.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: s.certificate}
	f.h1 = s.newHTTP(s)
	f.h1.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	f.h1.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			f.h1Open.Add(1)
		case http.StateActive, http.StateIdle: // still open
		case http.StateHijacked, http.StateClosed:
			f.h1Open.Add(-1)
		}
	}
	f.h2 = s.newHTTP(s)
	f.h2.TLSConfig = &tls.Config{NextProtos: []string{"h2"}}
	f.h2.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streamsMost, MaxReceiveBufferPerStream: streamWindow,
		MaxReceiveBufferPerConnection: connWindow}
	f.plain = s.newHTTP(http.HandlerFunc(s.toHTTPS))
	return f
}

func (s *Server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: clientIdle, MaxHeaderBytes: headerBytes,
		ErrorLog: log.New(withoutAddresses{s}, "", 0)}
}

// certificate asks the local authority for localhost and *.localhost, the configured source for all else.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	local := hello.ServerName == "" || isLocalhost(strings.ToLower(hello.ServerName))
	if s.cfg.Authority != nil && local {
		return s.cfg.Authority.GetCertificate(hello)
	}
	if s.cfg.GetCertificate != nil {
		return s.cfg.GetCertificate(hello)
	}
	return nil, errors.New("no certificate for this name")
}

// begin accepts. It is over before anybody says goodbye, which waits for the loops; what it returns tells of a listener that fails
// before ctx has ended.
func (f *front) begin(ctx context.Context) (failed <-chan error) {
	f.running.Go(func() { _ = f.h1.Serve(f.forH1) })
	f.running.Go(func() { _ = f.h2.Serve(f.forH2) })
	fails := make(chan error, len(f.s.cfg.Listeners))
	for i, l := range f.s.cfg.Listeners {
		loops, loop := &f.accepting, f.accept
		if i%2 == 1 {
			loops, loop = &f.running, f.plain.Serve
		}
		loops.Go(func() {
			err := loop(l)
			if ctx.Err() == nil {
				fails <- fmt.Errorf("a listener failed: %w", err)
			}
		})
	}
	return fails
}

// until returns when a listener has failed, or nil when ctx has ended.
func (f *front) until(ctx context.Context, failed <-chan error) error {
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (f *front) accept(l net.Listener) error {
	var pause time.Duration
	for {
		conn, err := l.Accept()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || isExhausted(err) {
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause) //nolint:forbidigo // out of file descriptors: accepting harder does not help
			continue
		}
		if err != nil {
			return err
		}
		pause = 0
		f.shaking.Add(1)
		go f.shake(conn)
	}
}

// shake finds out which protocol the client speaks and hands the connection to that server.
func (f *front) shake(conn net.Conn) {
	defer f.shaking.Done()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	secure := tls.Server(conn, f.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		f.s.log.Debug("a client's TLS handshake failed", "cause", cause(err))
		return
	}
	to := f.forH1
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		to = f.forH2
	}
	if !to.give(secure) {
		secure.Close()
	}
}

// goodbye stops accepting and sees every connection off. Connections whose handshake is under way are still served.
func (f *front) goodbye(ctx context.Context) {
	for _, l := range f.s.cfg.Listeners {
		l.Close()
	}
	f.accepting.Wait() // no more handshakes begin
	waitFor(ctx, f.shaking.Wait)
	var all sync.WaitGroup
	all.Go(func() { _ = f.h2.Shutdown(ctx) })
	all.Go(func() { _ = f.plain.Shutdown(ctx) })
	all.Go(func() {
		f.lastRequests(ctx)
		_ = f.h1.Shutdown(ctx)
	})
	all.Wait()
}

// lastRequests waits until every HTTP/1.1 connection has had an answer with Connection: close, at most goodbyeTime.
func (f *front) lastRequests(ctx context.Context) {
	timer := time.NewTimer(f.goodbyeTime)
	defer timer.Stop()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for f.h1Open.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-tick.C:
		}
	}
}

func waitFor(ctx context.Context, wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (f *front) close() {
	f.forH1.Close()
	f.forH2.Close()
	f.h1.Close()
	f.h2.Close()
	f.plain.Close()
	f.running.Wait()
}

// toHTTPS redirects, for hosts that are known.
func (s *Server) toHTTPS(w http.ResponseWriter, r *http.Request) {
	x := newExchange(s, w, r)
	defer x.finish()
	x.toHTTPS()
}

func (x *exchange) toHTTPS() {
	s := x.server
	x.entry = s.table.Load().hosts[x.host]
	if x.entry == nil {
		x.plain(http.StatusNotFound, "no site answers for this host")
		return
	}
	port := ""
	if p := s.publicPort(); p != 443 {
		port = ":" + strconv.Itoa(p)
	}
	x.redirect("https://" + x.host + port + x.r.URL.RequestURI())
}

func (s *Server) publicPort() int {
	if s.cfg.PublicPort != 0 {
		return s.cfg.PublicPort
	}
	if addr, ok := s.cfg.Listeners[0].Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 443
}

// handed is a listener whose connections are handed to it.
type handed struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newHanded() *handed { return &handed{conns: make(chan net.Conn), done: make(chan struct{})} }

func (h *handed) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept waits for a connection.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is nowhere.
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// withoutAddresses takes client addresses out of what net/http wants to say.
type withoutAddresses struct{ s *Server }

// Write logs one message.
func (w withoutAddresses) Write(p []byte) (int, error) {
	words := strings.Fields(string(p))
	for i, word := range words {
		bare := strings.TrimRight(word, ":,;")
		if _, err := netip.ParseAddrPort(bare); err == nil {
			words[i] = "a client"
		} else if _, err := netip.ParseAddr(bare); err == nil {
			words[i] = "a client"
		}
	}
	w.s.log.Debug(strings.Join(words, " ")) //nolint:sloglint // the sentence is of net/http
	return len(p), nil
}
