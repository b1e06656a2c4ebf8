package local

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Certificate implements deploy.Certifies: it looks at what the proxy shows to clients. Who trusts the local authority is up to them.
func (e *Engine) Certificate(ctx context.Context, host string) (deploy.Certificate, error) {
	dialer := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host,
		InsecureSkipVerify: true}} //nolint:gosec // what is asked is what is shown; the name is compared below
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(cmp.Or(e.Port, 443))))
	if err != nil {
		return deploy.Certificate{}, e.failed("ask for the certificate", fmt.Errorf("%w: %w", deploy.ErrUnavailable, err))
	}
	defer conn.Close()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0] // as documented at tls.Dialer
	if err := shown.VerifyHostname(host); err != nil {
		return deploy.Certificate{}, e.failed("ask for the certificate", fmt.Errorf("%w: %w", deploy.ErrBadInput, err))
	}
	return deploy.Certificate{Until: shown.NotAfter, Issuer: shown.Issuer.CommonName}, nil
}
