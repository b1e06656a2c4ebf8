package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// raw sends bytes as a client that net/http would not let us be, and returns the answers until the connection ends.
func (h *harbour) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.cfg.Authority.Pool(), ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }()
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// However a request is framed, an instance sees exactly the requests that we saw.
func TestNothingIsSmuggled(t *testing.T) {
	var requests, smuggled atomic.Int64
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/" || r.Header.Get("Transfer-Encoding") != "" {
			smuggled.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})))
	const inner = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		head, body string
		most       int64
	}{
		"length and chunks":  {fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\nConnection: close", len(inner)+5), "0\r\n\r\n" + inner, 1},
		"two lengths":        {"Content-Length: 0\r\nContent-Length: 30", inner, 0},
		"odd coding":         {"Transfer-Encoding: xchunked", "0\r\n\r\n" + inner, 0},
		"space before colon": {"Transfer-Encoding : chunked", "0\r\n\r\n" + inner, 0},
		"signed length":      {"Content-Length: +3", inner, 0},
		"line feed in value": {"X: a\nGET /admin HTTP/1.1: b\r\nConnection: close\r\nContent-Length: 0", "", 1},
	} {
		requests.Store(0)
		h.raw(t, "POST / HTTP/1.1\r\nHost: "+host+"\r\n"+c.head+"\r\n\r\n"+c.body)
		if n := requests.Load(); n > c.most {
			t.Errorf("%s: the instance saw %d requests", name, n)
		}
	}
	mustBe(t, "smuggled", smuggled.Load(), int64(0))
}

func TestHeadersAreBounded(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("never"))))
	answer := h.raw(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\nX: "+strings.Repeat("x", 2*headerBytes)+"\r\n\r\n")
	mustSay(t, "answer", answer[:min(40, len(answer))], "431")
	f := h.server.newFront()
	for _, s := range []*http.Server{f.h1, f.h2, f.plain} {
		mustBe(t, "a limit for slow headers", s.ReadHeaderTimeout, headerTimeout)
		mustBe(t, "no limit for slow bodies", s.ReadTimeout+s.WriteTimeout, 0*headerTimeout)
	}
}

// An instance may not hand the client's connection over to a protocol that the client did not ask for.
func TestUnaskedUpgradeIsRefused(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	})))
	bothProtocols(t, func(t *testing.T, protocol string) {
		resp, _ := h.get(h.client(protocol), "https://"+host+"/")
		mustBe(t, "status", resp.StatusCode, http.StatusBadGateway)
	})
}

// Without a certificate for a name there is no handshake, and no answer for another name's sake.
func TestNamesWithoutCertificate(t *testing.T) {
	h := newHarbour(t)
	if _, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, ServerName: "example.org"}); err == nil {
		t.Error("a handshake for a foreign name")
	}
}
