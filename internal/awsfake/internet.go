package awsfake

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// Dialer is a client of the internet: a resolver with a cache of its own, which keeps records for their TTL, and connections
// to the balancers that names lead to. Each call makes a new client. Without Options.Plane it reaches nothing.
func (w *World) Dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if p := w.Plane(); p != nil {
		return p.Dialer()
	}
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("this fake of AWS has no plane: nothing can be reached")
	}
}

// TLS trusts the certificates of the balancers of this World, and no others. Each call makes a new value.
func (w *World) TLS() *tls.Config {
	if p := w.Plane(); p != nil {
		return p.TLS()
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}

// Record makes name a CNAME of target with the TTL of Options, as Route 53 has it for a stage's host; "" takes it away.
func (w *World) Record(name, target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backing.record(name, target, w.options.RecordTTL)
}
