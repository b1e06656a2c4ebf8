package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/lotse-eu/lotse/internal/proxy"
)

// childArgument makes this program one of its own children, so that each has a process whose CPU time can be read.
const childArgument = "child"

// childPlan is what a child is told on its standard input. It serves until that is closed.
type childPlan struct {
	Certificate string // PEM files
	Key         string
	Upstream    string // host:port
	Folder      string // of static files
	State       string // folder of Lotse's proxy
	Control     string // its socket
	AccessLog   string // file
	Snapshot    snapshotPlan
}

// child prints the address that it listens on, serves, and returns when stdin ends.
func child(kind string, stdin io.Reader, stdout io.Writer) error {
	decoder := json.NewDecoder(stdin)
	var plan childPlan
	if err := decoder.Decode(&plan); err != nil {
		return err
	}
	if kind == "snapshot" {
		return snapshotChild(plan.Snapshot)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // its end is all that matters
	}()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, listener.Addr())
	switch kind {
	case "upstream":
		return serve(ctx, upstream(), func(s *http.Server) error { return s.Serve(listener) })
	case "s3":
		return serve(ctx, objectStore(), func(s *http.Server) error { return s.Serve(listener) })
	case "bare":
		return serveBare(ctx, listener, plan)
	case "lotse":
		return serveLotse(ctx, listener, plan)
	}
	return fmt.Errorf("no child is called %q", kind)
}

// serve ends the server with ctx. The bench has had all its answers by then.
func serve(ctx context.Context, handler http.Handler, run func(*http.Server) error) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := run(server); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// upstream answers /bytes/N with N bytes.
func upstream() http.Handler {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < 0 || n > len(payload) {
			http.Error(w, "no such number", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(payload[:n]) // the client sees what is missing
	})
	return mux
}

// serveBare is the least that Go's standard library needs for the same: the floor under any proxy written in Go. It counts
// nothing, logs nothing, knows one target.
func serveBare(ctx context.Context, listener net.Listener, plan childPlan) error {
	target := &url.URL{Scheme: "http", Host: plan.Upstream}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	mux := http.NewServeMux()
	mux.Handle("/", forward)
	mux.Handle("/static/", http.StripPrefix("/static/", http.FileServer(http.Dir(plan.Folder))))
	return serve(ctx, mux, func(s *http.Server) error { return s.ServeTLS(listener, plan.Certificate, plan.Key) })
}

// serveLotse is Lotse's proxy as it runs in production: table, counters, access log, pseudonyms.
func serveLotse(ctx context.Context, listener net.Listener, plan childPlan) error {
	certificate, err := tls.LoadX509KeyPair(plan.Certificate, plan.Key)
	if err != nil {
		return err
	}
	access, err := os.Create(plan.AccessLog)
	if err != nil {
		return err
	}
	server, err := proxy.New(proxy.Config{
		StateDir:       plan.State,
		Listeners:      []net.Listener{listener},
		Control:        plan.Control,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
		AccessLog:      access,
		Pseudonym:      pseudonyms(),
		Drain:          time.Second,
	})
	if err != nil {
		return err
	}
	return errors.Join(server.Run(ctx), access.Close())
}

// pseudonyms stands in for the rule of the product: a keyed hash of a truncated address.
func pseudonyms() func(netip.Addr) string {
	salt := []byte(rand.Text())
	return func(client netip.Addr) string {
		prefix, err := client.Prefix(24)
		if err != nil {
			return ""
		}
		mac := hmac.New(sha256.New, salt)
		mac.Write(prefix.Addr().AsSlice())
		return hex.EncodeToString(mac.Sum(nil)[:8])
	}
}
