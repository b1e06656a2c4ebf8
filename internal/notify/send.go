package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	attemptTimeout = 10 * time.Second
	maxAnswer      = 16 << 10 // bytes that are read of an answer
	maxRedirects   = 3
)

// missError is why a message was not accepted. It holds nothing of the address.
type missError struct {
	status int           // of HTTP; 0: no answer came
	says   string        // a sentence without its subject, or what was answered
	hint   string        // what to do
	again  bool          // the same message may be accepted later
	after  time.Duration // not before that; 0: nothing was said
}

func (e *missError) Error() string {
	if e.status == 0 {
		return e.says
	}
	return fmt.Sprintf("answered %d %s", e.status, e.says)
}

// newClient makes a client that sends to whoever it is told and to nobody whom that one names.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = newTransport(nil)
	}
	return &http.Client{Transport: transport, CheckRedirect: sameHost}
}

// newTransport makes one that verifies certificates, with the roots of the system where roots is nil. It keeps no connections: over a
// kept one that was closed, net/http sends a request with an Idempotency-Key a second time by itself (http.Transport's documentation).
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
}

// sameHost follows a redirect only where it keeps the method (307, 308: RFC 9110 §15.4.8), the host and the scheme.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || next.Method != first.Method || next.URL.Host != first.URL.Host || next.URL.Scheme != first.URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// send sends a message once, within 10 s. name is the setting that holds the address.
func (t *Teller) send(ctx context.Context, kind string, settings deploy.Settings, name string, m message) *missError {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	address, miss := t.address(settings, name)
	if miss != nil {
		return miss
	}
	if wait := t.held(address.Host); wait > 0 {
		return &missError{status: http.StatusTooManyRequests, says: "to another message, for all of them", again: true, after: wait}
	}
	request, err := newRequest(ctx, kind, address, m)
	if err != nil {
		return &missError{says: "the message cannot be written down: " + err.Error()}
	}
	response, err := t.client.Do(request)
	if err != nil {
		return &missError{says: unreached(err), again: true, hint: "is the endpoint up, and can this machine reach it?"}
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // the status has come; what it says of itself is for people
	if response.StatusCode/100 == 2 {
		return nil
	}
	miss, global := missed(kind, response, body)
	miss.hint = cmp.Or(miss.hint, "is the address in "+name+" the right one?")
	if global {
		t.hold(address.Host, miss.after)
	}
	return miss
}

func newRequest(ctx context.Context, kind string, address *url.URL, m message) (*http.Request, error) {
	var form any = m
	switch kind {
	case "slack":
		form = slackForm(m)
	case "discord":
		form = discordForm(m)
		query := address.Query()
		query.Set("wait", "true") // without it Discord answers before the message is kept, and says nothing when it is not
		address.RawQuery = query.Encode()
	}
	body, err := json.Marshal(form)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address is not one of HTTP") // the error quotes it
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "User-Agent": "Lotse", "Lotse-Id": m.ID, "Idempotency-Key": m.ID} {
		request.Header.Set(name, value)
	}
	return request, nil
}

// address finds where a notice goes to, in what its stage is given.
func (t *Teller) address(settings deploy.Settings, name string) (*url.URL, *missError) {
	i := slices.IndexFunc(settings.Values, func(s deploy.Setting) bool { return s.Name == name })
	if i < 0 || settings.Values[i].Value.Empty() {
		return nil, &missError{says: name + " is not set", again: true, hint: "`lotse secrets set " + name + "`, with --stage"}
	}
	address, err := url.Parse(strings.TrimSpace(settings.Values[i].Value.Reveal()))
	hint := "`lotse secrets set " + name + "`, with --stage, to what the endpoint gave you: it begins with https://"
	switch {
	case err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http":
		return nil, &missError{says: "what " + name + " holds is not the address of a webhook", hint: hint}
	case address.Scheme == "http" && !(t.Loopback && loopback(address.Hostname())):
		return nil, &missError{says: "the address in " + name + " begins with http://: it would be sent for everybody to read", hint: hint}
	}
	return address, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// missed reads an answer that is no yes. global: it is about every message to this host.
func missed(kind string, r *http.Response, body []byte) (miss *missError, global bool) {
	miss = &missError{status: r.StatusCode, says: http.StatusText(r.StatusCode), after: retryAfter(r.Header.Get("Retry-After"))}
	switch status := r.StatusCode; {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		miss.again = true
	case status/100 == 3:
		miss.says, miss.hint = "and sends on to somewhere else", "set the address to where it leads, if you trust that"
	}
	switch kind {
	case "slack": // one word: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
		if word := strings.TrimSpace(string(body)); slackReason.MatchString(word) {
			miss.says = word
		}
	case "discord": // https://docs.discord.com/developers/topics/rate-limits and /reference#error-messages
		var said struct {
			Message    string  `json:"message"`
			Code       int     `json:"code"`
			RetryAfter float64 `json:"retry_after"`
			Global     bool    `json:"global"`
		}
		if json.Unmarshal(body, &said) == nil {
			miss.after = max(miss.after, seconds(said.RetryAfter))
			global = said.Global || r.Header.Get("X-RateLimit-Global") == "true"
			if discordReason.MatchString(said.Message) {
				miss.says = fmt.Sprintf("%s (%d)", strings.TrimRight(said.Message, "."), said.Code)
			}
		}
	}
	return miss, global
}

// What an endpoint says is repeated where it has the form of a reason, and cannot be a part of the address.
var (
	slackReason   = regexp.MustCompile(`^[a-z]{1,20}(_[a-z]{1,20}){0,8}$`)
	discordReason = regexp.MustCompile(`^[A-Za-z]{1,20}([ ,'/-]{1,2}[A-Za-z]{1,20}){0,15}\.?$`)
)

// retryAfter reads the header: seconds, whole or as Discord has them, or a date (RFC 9110 §10.2.3).
func retryAfter(header string) time.Duration {
	if n, err := strconv.ParseFloat(header, 64); err == nil {
		return seconds(n)
	}
	if at, err := http.ParseTime(header); err == nil {
		return seconds(time.Until(at).Seconds())
	}
	return 0
}

// seconds is at least one, so that nobody is asked without a pause, and at most too long to wait for.
func seconds(n float64) time.Duration {
	switch {
	case math.IsNaN(n) || n <= 0:
		return 0
	case n > (tellWithin + time.Hour).Seconds():
		return tellWithin + time.Hour
	}
	return max(time.Second, time.Duration(math.Ceil(n*1000))*time.Millisecond)
}

// hold keeps every message from a host that wants none for a while.
func (t *Teller) hold(host string, pause time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := time.Now().Add(pause); until.After(t.holds[host]) {
		t.holds[host] = until
	}
}

func (t *Teller) held(host string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Until(t.holds[host])
}

// unreached says why no answer came, without the names and addresses that net's errors hold.
func unreached(err error) string {
	var certificate *tls.CertificateVerificationError
	var unknownHost *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &certificate):
		return "its certificate does not hold"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("did not answer within %s", attemptTimeout)
	case errors.As(err, &unknownHost):
		return "its host name is not known"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "ended the connection without an answer"
	}
	return "could not be reached"
}
