package notify

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/secret"
)

// key is the part of every address that opens it: it must appear nowhere.
const key = "T0/B0/k3yThatOpensTheDoor"

// port is a ledger, and what a controller knows, on which one Teller after another works.
type port struct {
	t      *testing.T
	book   *ledger.Ledger
	config Config

	mu       sync.Mutex
	app      deploy.App
	settings deploy.Settings
	rollouts map[string]deploy.Rollout
	log      bytes.Buffer
	mute     bool // told events cannot be written
}

func newPort(t *testing.T, transport http.RoundTripper, notices ...deploy.Notice) *port {
	t.Helper()
	p := &port{t: t, rollouts: map[string]deploy.Rollout{}, app: deploy.App{Name: "shop", Notify: notices, Stages: []deploy.Stage{{Name: "dev"}, {Name: "prod"}}}}
	book, err := ledger.Open(context.Background(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close() })
	p.book = book
	p.config = Config{Ledger: p, Rollouts: p, Log: slog.New(slog.NewTextHandler(lockedWriter{p}, nil)), Transport: transport,
		Names: func(context.Context) []string { return []string{"Ada Lovelace"} }}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if strings.Contains(p.log.String(), key) || strings.Contains(p.log.String(), "127.0.0.1") {
			t.Errorf("the log tells the address:\n%s", p.log.String())
		}
	})
	return p
}

type lockedWriter struct{ p *port }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.log.Write(b)
}

// address gives a notice an address.
func (p *port) address(name, base string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings.Values = append(slices.DeleteFunc(slices.Clone(p.settings.Values), func(s deploy.Setting) bool { return s.Name == name }),
		deploy.Setting{Name: name, Value: secret.New(base + "/services/" + key)})
}

// end writes a rollout that ended.
func (p *port) end(id, stage string, kind string, turned *deploy.Turned) {
	p.t.Helper()
	e, err := p.book.Append(context.Background(), deploy.Event{Kind: kind, App: "shop", Stage: stage, Rollout: id})
	if err != nil {
		p.t.Fatal(err)
	}
	r := deploy.Rollout{ID: id, Stage: deploy.StageRef{App: "shop", Stage: stage}, Verb: deploy.Deployed, Commit: "1a2b3c4d5e6f7081", Actor: "p-opaque",
		URL: "https://" + stage + ".shop.localhost:8443", Began: e.At.Add(-72 * time.Second), Ended: e.At, Outcome: deploy.Settled, Turned: turned,
		Release: "sha256:3f2a9c1b77de0123456789abcdef0123456789abcdef0123456789abcdef0123"}
	switch kind {
	case deploy.KindReverted:
		r.Outcome = deploy.Reverted
	case deploy.KindUnchanged:
		r.Outcome = deploy.Unchanged
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rollouts[id] = r
}

func (p *port) settled(id string) { p.end(id, "dev", deploy.KindSettled, nil) }
func (p *port) reverted(id string) {
	p.end(id, "dev", deploy.KindReverted, &deploy.Turned{Step: "health", Why: "no"})
}

func (p *port) Rollout(_ context.Context, id string) (deploy.Rollout, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.rollouts[id]
	if !ok {
		return r, deploy.ErrNotFound
	}
	return r, nil
}

func (p *port) Described(context.Context, deploy.Rollout) (deploy.App, deploy.Settings, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.app, p.settings, nil
}

func (p *port) Draft(_ context.Context, dir, stage string) (deploy.App, deploy.Settings, error) {
	if dir != "/app" {
		return deploy.App{}, deploy.Settings{}, deploy.ErrNotFound
	}
	return p.Described(context.Background(), deploy.Rollout{})
}

// Append is the ledger's, unless told events cannot be written.
func (p *port) Append(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	p.mu.Lock()
	mute := p.mute
	p.mu.Unlock()
	if mute && e.Kind == deploy.KindTold {
		return deploy.Event{}, deploy.ErrUnavailable
	}
	return p.book.Append(ctx, e)
}

func (p *port) Events(ctx context.Context, q deploy.EventQuery) ([]deploy.Event, error) {
	return p.book.Events(ctx, q)
}
func (p *port) Wait(ctx context.Context, seq int64) (int64, error) { return p.book.Wait(ctx, seq) }
func (p *port) Acquire(context.Context, deploy.StageRef, string, time.Duration, func(string) bool) (deploy.Lease, error) {
	return deploy.Lease{}, deploy.ErrUnsupported
}
func (p *port) Renew(context.Context, deploy.Lease, time.Duration) error {
	return deploy.ErrUnsupported
}
func (p *port) Release(context.Context, deploy.Lease) error { return deploy.ErrUnsupported }
func (p *port) Person(context.Context, string, string) (string, error) {
	return "", deploy.ErrUnsupported
}

// run starts a Teller; stop ends it and waits.
func (p *port) run() (stop func()) {
	p.t.Helper()
	teller, err := Open(context.Background(), p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- teller.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("the Teller ended with %v", err)
		}
	})
}

// told are the events of that kind: "rollout notice", and why not.
func (p *port) told() (all []string) {
	p.t.Helper()
	events, err := p.book.Events(context.Background(), deploy.EventQuery{Kinds: []string{deploy.KindTold}})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range events {
		var d deploy.Told
		if err := json.Unmarshal(e.Data, &d); err != nil {
			p.t.Fatal(err)
		}
		if strings.Contains(string(e.Data), key) {
			p.t.Errorf("an event tells the address: %s", e.Data)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Rollout, d.Notice, d.Failed)))
	}
	return all
}

// eventually waits until so many told events are there.
func (p *port) eventually(n int) []string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for seen := int64(0); ; {
		told := p.told()
		if len(told) >= n {
			return told
		}
		newest, err := p.book.Wait(ctx, seen)
		if err != nil {
			p.t.Fatalf("%d were told, not %d: %v", len(told), n, told)
		}
		seen = newest
	}
}

// endpoint is a TLS server that writes down what it hears.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	heard []heard
	news  chan struct{}
}

type heard struct {
	id, idempotency, query string
	body                   []byte
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	e := &endpoint{news: make(chan struct{}, 100)}
	e.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.heard = append(e.heard, heard{r.Header.Get("Lotse-Id"), r.Header.Get("Idempotency-Key"), r.URL.RawQuery, body})
		e.mu.Unlock()
		e.news <- struct{}{}
		answer(w, r)
	}))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ids() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		ids = append(ids, h.id)
	}
	return ids
}

// trusting is the transport of the house, with the certificates of these endpoints.
func trusting(all ...*endpoint) http.RoundTripper {
	roots := x509.NewCertPool()
	for _, e := range all {
		roots.AddCert(e.Certificate())
	}
	return newTransport(roots)
}

func slackSays(status int, word string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			status, word = http.StatusBadRequest, "invalid_payload"
		}
		w.WriteHeader(status)
		fmt.Fprint(w, word)
	}
}

// discordAccepts answers as Discord does: at once with 204, or with the message when it is to wait.
func discordAccepts(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("wait") != "true" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	fmt.Fprint(w, `{"id": "1", "type": 0}`)
}

// answers is a transport in memory: each function answers one request, the last all others.
type answers struct {
	mu    sync.Mutex
	given []func(*http.Request) (*http.Response, error)
	at    []time.Time
	ids   []string
	hosts []string
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.at, a.ids, a.hosts = append(a.at, time.Now()), append(a.ids, r.Header.Get("Lotse-Id")), append(a.hosts, r.URL.Host)
	next := a.given[0]
	if len(a.given) > 1 {
		a.given = a.given[1:]
	}
	a.mu.Unlock()
	return next(r)
}

func (a *answers) times() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at)
}

func says(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func team(kind string) deploy.Notice { return deploy.Notice{Name: "team", Kind: kind, URL: "TEAM"} }

// counting counts how often the ledger is waited for, and can fail.
type counting struct {
	*port
	waits atomic.Int64
	fails atomic.Bool
}

func (c *counting) Wait(ctx context.Context, seq int64) (int64, error) {
	c.waits.Add(1)
	return c.port.Wait(ctx, seq)
}

func (c *counting) Events(ctx context.Context, q deploy.EventQuery) ([]deploy.Event, error) {
	if c.fails.Load() {
		return nil, deploy.ErrUnavailable
	}
	return c.port.Events(ctx, q)
}
