package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// What a load balancer before this proxy says of the client is believed when the connection comes from one of Config.Balancers, and
// of nobody else. Of X-Forwarded-For only the last entry counts: the balancer appends the address that connected to it
// (RFC 7239 §5.2 has the order; "append" is the default of AWS's), and whatever stands before was sent by the client.

// whoAsks fills in the client, and whether it spoke plain HTTP to the balancer.
func (x *exchange) whoAsks() {
	peer, err := netip.ParseAddrPort(x.r.RemoteAddr)
	if err != nil {
		return // over the control socket
	}
	x.client = peer.Addr().Unmap()
	if !x.server.believes(x.client) {
		return
	}
	if client, ok := lastForwarded(x.r.Header["X-Forwarded-For"]); ok {
		x.client = client
	}
	if proto := x.r.Header["X-Forwarded-Proto"]; len(proto) > 0 {
		x.insecure = strings.EqualFold(strings.TrimSpace(lastOf(proto)), "http")
	}
}

func (s *Server) believes(peer netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.Balancers, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// lastForwarded reads the entry that was appended last, with or without a port. One that is no address is nobody's.
func lastForwarded(lines []string) (netip.Addr, bool) {
	if len(lines) == 0 {
		return netip.Addr{}, false
	}
	entry := strings.TrimSpace(lastOf(lines))
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(entry)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

// lastOf is the last element of a header that is a list, over all its lines.
func lastOf(lines []string) string {
	line := lines[len(lines)-1]
	return line[strings.LastIndexByte(line, ',')+1:]
}

// secured reports whether the exchange came by TLS, or has sent it there.
func (x *exchange) secured() bool {
	if x.insecure {
		x.toHTTPS()
	}
	return !x.insecure
}

// healthPath is where Config.Health answers, on every host: a balancer asks by address.
const healthPath = "/" + ours + "/health"

// asksHealth answers for the machine itself. It is in nobody's statistics and in no access log, and needs no password.
func (s *Server) asksHealth(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.Health == nil || r.URL.Path != healthPath {
		return false
	}
	if s.closing.Load() {
		w.Header().Set("Connection", "close")
	}
	s.cfg.Health.ServeHTTP(w, r)
	return true
}
