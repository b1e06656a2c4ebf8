package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
)

// DialLocalhost returns a dial function that takes localhost and *.localhost to the loopback addresses itself (RFC 6761
// §6.3), which the resolvers of Go, Node and glibc do not do for subdomains. Other names go to base; nil is a zero Dialer.
func DialLocalhost(base *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	if base == nil {
		base = &net.Dialer{}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || !isLocalhost(hostOnly(host)) {
			return base.DialContext(ctx, network, address)
		}
		conn, err := base.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		conn, err6 := base.DialContext(ctx, network, net.JoinHostPort("::1", port))
		if err6 != nil {
			return nil, errors.Join(err, err6)
		}
		return conn, nil
	}
}

func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
