package plane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HealthCheck says how a target is asked. The zero value of each field is AWS's default, which is too slow for most tests.
type HealthCheck struct {
	Protocol  string        // "HTTPS" or "HTTP"; default HTTPS here, since that is what the targets of Lotse speak
	Path      string        // default /
	Matcher   string        // good codes: "200", "200-299", "200,302"; default 200
	Interval  time.Duration // default 30 s
	Timeout   time.Duration // default 5 s
	Healthy   int           // good answers in a row of an unhealthy target, default 5
	Unhealthy int           // bad ones in a row, default 2
}

func (h HealthCheck) withDefaults() HealthCheck {
	return HealthCheck{
		Protocol: cmp.Or(strings.ToUpper(h.Protocol), "HTTPS"), Path: cmp.Or(h.Path, "/"), Matcher: cmp.Or(h.Matcher, "200"),
		Interval: cmp.Or(h.Interval, 30*time.Second), Timeout: cmp.Or(h.Timeout, 5*time.Second),
		Healthy: cmp.Or(h.Healthy, 5), Unhealthy: cmp.Or(h.Unhealthy, 2),
	}
}

// Target is what requests can be sent to: an Instance, or something of a test.
type Target interface {
	ID() string
	Dial(ctx context.Context) (net.Conn, error)
}

// verdict is one answer to a check; the reason is one of Elastic Load Balancing's codes, empty for a good answer.
type verdict struct {
	reason, description string
}

func (v verdict) good() bool { return v.reason == "" }

// ask sends one request over a connection of its own. No certificate is checked, as a load balancer checks none of its targets.
func (h HealthCheck) ask(ctx context.Context, t Target) verdict {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	transport := transportTo(t, func(c net.Conn) net.Conn { return c })
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.ToLower(h.Protocol)+"://"+anyTarget+h.Path, nil)
	if err != nil {
		return verdict{"Target.FailedHealthChecks", "Health checks failed"}
	}
	r.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	answer, err := transport.RoundTrip(r)
	switch {
	case timedOut(err):
		return verdict{"Target.Timeout", "Request timed out"}
	case err != nil:
		return verdict{"Target.FailedHealthChecks", "Health checks failed"}
	}
	answer.Body.Close()
	if !matches(h.Matcher, answer.StatusCode) {
		return verdict{"Target.ResponseCodeMismatch", fmt.Sprintf("Health checks failed with these codes: [%d]", answer.StatusCode)}
	}
	return verdict{}
}

// anyTarget is the host in URLs to targets. It is an address, so that no name goes into the TLS handshake: load balancers
// send none to their targets.
const anyTarget = "127.0.0.1:5000"

// transportTo makes a transport that reaches one target and checks none of its certificates.
func transportTo(t Target, wrap func(net.Conn) net.Conn) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := t.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return wrap(c), nil
		},
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as a load balancer
		TLSHandshakeTimeout: connectWithin,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// matches says whether a code is in a matcher like "200,300-399".
func matches(matcher string, code int) bool {
	return slices.ContainsFunc(strings.Split(matcher, ","), func(part string) bool {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, err := strconv.Atoi(low)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(high)
		}
		return err == nil && from <= code && code <= to
	})
}
