package plane

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// EdgeOptions of a content network's edge.
type EdgeOptions struct {
	Name    string        // its DNS name, which Names answers from now on
	Hosts   []string      // of its certificate, beside Name
	TTL     time.Duration // of that name; default one minute
	Handler http.Handler
}

// NewEdge serves HTTPS on an address of its own until its close is called, or that of the Plane.
func (p *Plane) NewEdge(o EdgeOptions) (end func(), err error) {
	address := p.names.attach()
	if err := p.names.Set(Record{Name: o.Name, Type: "A", Values: []string{address}, TTL: cmp.Or(o.TTL, balancerTTL)}); err != nil {
		return nil, err
	}
	cert, err := p.authority.sign(append([]string{o.Name}, o.Hosts...))
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: o.Handler, ReadHeaderTimeout: defaultIdle, IdleTimeout: defaultIdle, ErrorLog: slog.NewLogLogger(p.o.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}}
	door := net.JoinHostPort(address, strconv.Itoa(443))
	p.names.open(door, inner.Addr().String())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeTLS(inner, "", "") // ends by Close
	}()
	end = func() {
		p.names.shut(door)
		p.names.Delete(o.Name)
		server.Close()
		<-served
	}
	p.onClose(end)
	return end, nil
}
