package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/proxy"
)

// What anybody can see from outside: plain HTTP is sent to HTTPS, the certificate is the local authority's and names the
// host, and the access log tells no more than it says it does.
func TestHouse(t *testing.T) {
	m := newMachine(t)
	m.deployed(1)
	t.Run("redirect", func(t *testing.T) { m.redirects(t) })
	t.Run("certificate", func(t *testing.T) { m.certificate(t) })
	t.Run("access log", func(t *testing.T) { m.accessLog(t) })
}

func (m *machine) redirects(t *testing.T) {
	resp, err := m.client().Get(fmt.Sprintf("http://%s:%d/get?word=a", host, m.http)) //nolint:nosprintfhostport // a name, never an IPv6 address
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, want := resp.Header.Get("Location"), m.url(host)+"/get?word=a"; resp.StatusCode/100 != 3 || got != want {
		t.Errorf("%d to %q, want a redirect to %q", resp.StatusCode, got, want)
	}
}

func (m *machine) certificate(t *testing.T) {
	resp, err := m.client().Get(m.url(host) + "/get?word=a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s over %s, want 200 over HTTP/2", resp.Status, resp.Proto)
	}
	if err := resp.TLS.PeerCertificates[0].VerifyHostname(host); err != nil {
		t.Error(err)
	}
	stranger := &http.Client{Transport: &http.Transport{DialContext: proxy.DialLocalhost(nil)}}
	if resp, err := stranger.Get(m.url(host)); err == nil {
		resp.Body.Close()
		t.Error("a client that does not trust the local authority was served")
	}
}

var mayBeAddress = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|\[?[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F]*\]?`)

func (m *machine) accessLog(t *testing.T) {
	const secret = "zebra" // stands for what is nobody's business
	for _, h2 := range []bool{false, true} {
		c := &http.Client{Transport: &http.Transport{DialContext: proxy.DialLocalhost(nil), ForceAttemptHTTP2: h2,
			TLSClientConfig: &tls.Config{RootCAs: m.roots()}}}
		resp, err := c.Get(m.url(host) + "/some/get?word=" + secret)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != secret+"\n" {
			t.Fatalf("%q, %v", body, err)
		}
		resp.Body.Close()
		c.CloseIdleConnections()
	}
	conn, _, err := websocket.Dial(t.Context(), m.url(host)+"/socket?token="+secret, &websocket.DialOptions{HTTPClient: m.client()})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(secret)); err != nil {
		t.Fatal(err)
	}
	if _, echo, err := conn.Read(t.Context()); err != nil || string(echo) != secret {
		t.Fatalf("%q, %v", echo, err)
	}
	_ = conn.Close(websocket.StatusNormalClosure, secret)

	var log string
	m.await("the three requests are in the access log", 30*time.Second, func() bool {
		raw, err := os.ReadFile(filepath.Join(m.state, "proxy", "access.log"))
		log = string(raw)
		return err == nil && strings.Count(log, `"/some/get"`) == 2 && strings.Contains(log, `"/socket"`)
	})
	t.Logf("a line: %s", log[:strings.Index(log, "\n")])
	for _, protocol := range []string{`"HTTP/1.1"`, `"HTTP/2.0"`} {
		if !strings.Contains(log, protocol) {
			t.Errorf("no request over %s is in the log", protocol)
		}
	}
	m.tellsNothing(t, "access.log", log, secret)
	m.tellsNothing(t, "the controller's log", m.said(), secret)
}

func (m *machine) tellsNothing(t *testing.T, name, text, secret string) {
	if strings.Contains(text, secret) {
		t.Errorf("%s holds a query or a payload", name)
	}
	for _, found := range mayBeAddress.FindAllString(text, -1) {
		if _, err := netip.ParseAddr(strings.Trim(found, "[]")); err == nil {
			t.Errorf("%s holds the address %s", name, found)
		}
	}
}

// The further addresses of a stage are sent to its own, with their path and query.
func TestRedirectedHosts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.repository(map[string]string{"dist/index.html": "<!doctype html>", "lotse.yaml": `app: shop
services: { site: { static: dist } }
stages: { dev: { url: https://www.shop.localhost, access: open, redirects: [https://shop.localhost], stable: 100ms, watch: 100ms } }
`})
	m.must(dir, "deploy")
	client := m.client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := client.Get(m.url("shop.localhost") + "/find?from=Kiel")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if to := answer.Header.Get("Location"); answer.StatusCode != http.StatusPermanentRedirect || to != m.url("www.shop.localhost")+"/find?from=Kiel" {
		t.Errorf("it answers %s to %q", answer.Status, to)
	}
}

// A host that Lotse has no certificate for is refused before anything is built.
func TestHostWithoutACertificate(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.repository(map[string]string{"dist/index.html": "<!doctype html>", "lotse.yaml": `app: shop
services: { site: { static: dist } }
stages: { prod: { url: https://www.example.org } }
`})
	r := m.lotse(dir, "deploy")
	if r.code == 0 || !strings.Contains(r.err, "*.localhost") {
		t.Errorf("exit code %d, saying %q", r.code, r.err)
	}
}
