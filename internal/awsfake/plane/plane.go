package plane

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Errors that the caller decides by.
var (
	ErrGone     = errors.New("the instance is gone")
	ErrBundle   = errors.New("the bundle cannot be used")
	ErrInUse    = errors.New("the target group is used by another load balancer")
	ErrConflict = errors.New("the record conflicts with another")
	ErrTaken    = errors.New("the name is taken")
)

// Options of a Plane.
type Options struct {
	Folder      string           // exists; what belongs to the instances lies below it
	Clock       func() time.Time // of DNS answers, cookies and lines; nil: time.Now. Checks and timeouts use the real clock
	Log         *slog.Logger     // nil: nothing is logged
	Propagation time.Duration    // from SetRules until a balancer goes by the new rules
}

// Plane is one region and the internet around it. The caller owns it and calls Close.
type Plane struct {
	o         Options
	names     *Names
	authority *authority

	mu     sync.Mutex
	closed bool
	closes []func()
}

// Open makes a Plane in which nothing runs.
func Open(o Options) (*Plane, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(o.Folder); err != nil {
		return nil, err
	}
	var err error
	if o.Folder, err = filepath.Abs(o.Folder); err != nil {
		return nil, err
	}
	a, err := newAuthority(o.Clock())
	if err != nil {
		return nil, err
	}
	return &Plane{o: o, names: newNames(o.Clock), authority: a}, nil
}

// Close ends every balancer, every check and every process of every instance, at once and without a grace.
func (p *Plane) Close() {
	p.mu.Lock()
	closes := p.closes
	p.closed, p.closes = true, nil
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, end := range closes {
		all.Go(end)
	}
	all.Wait()
}

// onClose has end called by Close; at once when Close was before.
func (p *Plane) onClose(end func()) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.closes = append(p.closes, end)
	}
	p.mu.Unlock()
	if closed {
		end()
	}
}

// Names is the DNS of the Plane.
func (p *Plane) Names() *Names { return p.names }

// TLS trusts the certificates of the Plane's balancers and nothing else. Each call returns a new value.
func (p *Plane) TLS() *tls.Config {
	return &tls.Config{RootCAs: p.authority.roots(), MinVersion: tls.VersionTLS12}
}

// AuthorityPEM is the certificate of the Plane's authority, for programs that read a file.
func (p *Plane) AuthorityPEM() []byte { return p.authority.pem() }
