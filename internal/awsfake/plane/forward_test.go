package plane_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
	"github.com/lotse-eu/lotse/internal/load"
)

func TestHeaders(t *testing.T) {
	p := open(t, plane.Options{})
	g := group(t, p, "g", serve(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Seen-Host", r.Host)
		r.Header.Set("Seen-URI", r.RequestURI)
		r.Header.Set("Seen-Proto", r.Proto)
		_ = json.NewEncoder(w).Encode(r.Header)
	})))
	balanced(t, p, only(g))
	healthy(t, g)
	_, body, answer := get(t, client(t, p), "https://"+host+"/a%2Fb?x=1;y=2", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "gopher", "X-Forwarded-Host", "h")
	var seen http.Header
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Seen-Host": host, "Seen-Uri": "/a%2Fb?x=1;y=2", "Seen-Proto": "HTTP/1.1", "X-Forwarded-For": "192.0.2.1, 127.0.0.1", "X-Forwarded-Proto": "https",
		"X-Forwarded-Port": "443", "X-Forwarded-Host": "h",
	} {
		if got := seen.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if answer.ProtoMajor != 2 {
		t.Errorf("the client speaks %s", answer.Proto)
	}
	if !strings.HasPrefix(seen.Get("X-Amzn-Trace-Id"), "Root=1-") {
		t.Errorf("trace is %q", seen.Get("X-Amzn-Trace-Id"))
	}
}

// A host that no certificate has is not trusted: a listener does not make one up.
func TestCertificates(t *testing.T) {
	p := open(t, plane.Options{})
	balanced(t, p, plane.Fixed(200, "well"))
	for _, name := range []string{"elsewhere.org", "a.b.example.com"} {
		if err := p.Names().Set(plane.Record{Name: name, Type: "CNAME", Values: []string{host}}); err != nil {
			t.Fatal(err)
		}
		if _, body, _ := get(t, client(t, p), "https://"+name); !strings.Contains(body, "certificate is valid for") {
			t.Errorf("%s: %s", name, body)
		}
	}
	tr := &http.Transport{DialContext: p.Dialer(), TLSClientConfig: &tls.Config{}}
	t.Cleanup(tr.CloseIdleConnections)
	if _, body, _ := get(t, &http.Client{Transport: tr}, "https://"+host); !strings.Contains(body, "unknown authority") {
		t.Errorf("the machine's roots trust it: %s", body)
	}
}

// A target that hangs up is a 502, and the request is not sent again: also not on a connection that was kept.
func TestTargetThatHangsUp(t *testing.T) {
	p := open(t, plane.Options{})
	var hits atomic.Int64
	s := serve(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			hits.Add(1)
			panic(http.ErrAbortHandler)
		}
	}))
	g := group(t, p, "g", s)
	balanced(t, p, only(g))
	healthy(t, g)
	c := client(t, p)
	if code, _, _ := get(t, c, "https://"+host); code != 200 {
		t.Fatal(code)
	}
	code, _, answer := get(t, c, "https://"+host+"/bad")
	if code != 502 || answer.Header.Get("Server") != "awselb/2.0" {
		t.Errorf("%d", code)
	}
	if hits.Load() != 1 {
		t.Errorf("the request was sent %d times", hits.Load())
	}
}

// A target that says nothing for the idle timeout is a 504; a stream that says something now and then goes on.
func TestIdleTimeout(t *testing.T) {
	p := open(t, plane.Options{})
	b, err := p.NewBalancer(plane.BalancerOptions{Name: "alb.elb.amazonaws.com", Idle: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	g := group(t, p, "g", serve(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/stream":
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 10 {
				<-tick.C
				fmt.Fprint(w, "x")
				_ = http.NewResponseController(w).Flush()
			}
		}
	})))
	if _, err := b.Listen(plane.ListenerOptions{Port: 443, Certificates: []plane.Certificate{{b.Name()}}, Default: only(g)}); err != nil {
		t.Fatal(err)
	}
	healthy(t, g)
	c := client(t, p)
	if code, _, _ := get(t, c, "https://"+b.Name()+"/silent"); code != 504 {
		t.Errorf("silence is %d", code)
	}
	if code, body, _ := get(t, c, "https://"+b.Name()+"/stream"); code != 200 || body != "xxxxxxxxxx" {
		t.Errorf("a stream is %d %q", code, body)
	}
}

// A websocket goes through, and ends when its target's deregistration delay is over.
func TestWebsocket(t *testing.T) {
	p := open(t, plane.Options{})
	i := launch(t, p, options(t, "i-1", nil))
	g := group(t, p, "g", i)
	balanced(t, p, only(g))
	healthy(t, g)
	dial := client(t, p)
	dial.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	dial.Timeout = 0 // a websocket outlives it
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, answer, err := websocket.Dial(ctx, "wss://"+host+"/socket", &websocket.DialOptions{HTTPClient: dial})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body != nil {
		answer.Body.Close()
	}
	defer c.CloseNow()
	echo := func() error {
		if err := c.Write(ctx, websocket.MessageText, []byte("moin")); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err == nil && string(got) != "moin" {
			t.Errorf("echo is %q", got)
		}
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	g.SetDelay(300 * time.Millisecond)
	g.Deregister("i-1")
	if err := echo(); err != nil {
		t.Errorf("within the delay: %v", err)
	}
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the delay: %v", err)
	}
}

func plan(p *plane.Plane) load.Plan {
	return load.Plan{URL: "https://" + host, Dial: p.Dialer(), TLS: p.TLS(), Gets: 2, Fresh: 2, Uploads: 1, Downloads: 1, Sockets: 1, Streams: 1,
		UploadBytes: 100_000, DownloadBytes: 50_000, DownloadTime: 300 * time.Millisecond, Timeout: 10 * time.Second}
}

// Every kind of client goes on while traffic shifts from one instance to another and the old one drains and ends.
func TestHammerThroughAShift(t *testing.T) {
	p := open(t, plane.Options{Propagation: 100 * time.Millisecond})
	old, fresh := launch(t, p, options(t, "i-old", nil)), launch(t, p, options(t, "i-new", nil))
	a, b := group(t, p, "old", old), group(t, p, "new", fresh)
	l := balanced(t, p, plane.Forward(plane.Weighted{Group: a, Weight: 1}, plane.Weighted{Group: b, Weight: 0}))
	healthy(t, a)
	healthy(t, b)
	h := load.Start(t.Context(), plan(p))
	await := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := h.Await(ctx, 200); err != nil {
			t.Fatal(err)
		}
	}
	await()
	if err := l.SetDefault(plane.Forward(plane.Weighted{Group: a, Weight: 1}, plane.Weighted{Group: b, Weight: 1})); err != nil {
		t.Fatal(err)
	}
	await()
	if err := l.SetDefault(plane.Forward(plane.Weighted{Group: a, Weight: 0}, plane.Weighted{Group: b, Weight: 1})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // sockets and streams hold on to the old one for as long as they live
	defer cancel()
	<-ctx.Done()
	old.Stop(t.Context())
	await()
	r := h.Stop()
	if r.Failed != 0 || r.Requests < 600 {
		t.Error(r.Summary())
	}
}

// What is not drained fails: the same hammer turns red.
func TestHammerSeesAnInstanceThatEndsTooSoon(t *testing.T) {
	p := open(t, plane.Options{Propagation: 300 * time.Millisecond})
	old, fresh := launch(t, p, options(t, "i-old", nil)), launch(t, p, options(t, "i-new", nil))
	a, b := group(t, p, "old", old), group(t, p, "new", fresh)
	l := balanced(t, p, plane.Forward(plane.Weighted{Group: a, Weight: 1}, plane.Weighted{Group: b, Weight: 0}))
	healthy(t, a)
	healthy(t, b)
	h := load.Start(t.Context(), plan(p))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Await(ctx, 200); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDefault(only(b)); err != nil {
		t.Fatal(err)
	}
	old.Stop(t.Context()) // before the rules hold
	if err := h.Await(ctx, 200); err != nil {
		t.Fatal(err)
	}
	if r := h.Stop(); r.Failed == 0 {
		t.Error("nothing failed")
	}
}
