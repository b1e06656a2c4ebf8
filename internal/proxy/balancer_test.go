package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
)

// behindBalancer makes the harbour one whose clients are a balancer.
func behindBalancer(c *Config) { c.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// headers adds lines, also several of one name.
func headers(lines ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, line := range lines {
			k, v, _ := strings.Cut(line, ": ")
			r.Header[k] = append(r.Header[k], v)
		}
	}
}

// What a client says of itself is never believed, and of what a balancer says only the entry that it has added.
func TestWhoAsks(t *testing.T) {
	addresses := make(chan netip.Addr, 1)
	h := newHarbour(t, behindBalancer, func(c *Config) {
		c.Pseudonym = func(a netip.Addr) string { addresses <- a; return "somebody" }
	})
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["X-Forwarded-For"], r.Header["Forwarded"], r.Header["X-Forwarded-Host"], r.Header["X-Real-Ip"], r.Header["Lotse-Reach"])
	})))
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{nil, "127.0.0.1"},
		{[]string{"X-Forwarded-For: 203.0.113.9"}, "203.0.113.9"},
		{[]string{"X-Forwarded-For: 203.0.113.9:4711"}, "203.0.113.9"},
		{[]string{"X-Forwarded-For: 2001:db8::7"}, "2001:db8::7"},
		{[]string{"X-Forwarded-For: [2001:db8::7]:4711"}, "2001:db8::7"},
		{[]string{"X-Forwarded-For: ::ffff:203.0.113.9"}, "203.0.113.9"},
		{[]string{"X-Forwarded-For: 198.51.100.1, 10.0.0.1, 203.0.113.9"}, "203.0.113.9"}, // the client has sent the first two
		{[]string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.9"}, "203.0.113.9"},
		{[]string{"X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.1,"}, "127.0.0.1"}, // not what a balancer appends
		{[]string{"X-Forwarded-For: 203.0.113.9, unknown"}, "127.0.0.1"},
		{[]string{"X-Forwarded-For: "}, "127.0.0.1"},
		{[]string{"X-Real-Ip: 198.51.100.1", "Forwarded: for=198.51.100.1", "X-Forwarded-Host: evil", "Lotse-Reach: token"}, "127.0.0.1"},
	} {
		_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/", headers(c.lines...))
		mustBe(t, fmt.Sprint("logged of ", c.lines), receive(t, "the logged address", addresses).String(), c.want)
		who := "for=" + c.want
		if strings.Contains(c.want, ":") {
			who = `for="[` + c.want + `]"`
		}
		mustBe(t, fmt.Sprint(c.lines), body, fmt.Sprintf(`[%s] [%s;host="%s";proto=https] [%s] [] []`, c.want, who, host, host))
	}
}

// Without a balancer before it the proxy believes nobody: TestRequestsArriveOnBothProtocols has that. Nor somebody from elsewhere.
func TestOnlyBalancersAreBelieved(t *testing.T) {
	h := newHarbour(t, func(c *Config) { c.Balancers = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header["X-Forwarded-For"]) })))
	resp, body := h.get(h.client("HTTP/2.0"), "https://"+host+"/", headers("X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: http"))
	mustBe(t, "the client", body, "[127.0.0.1]")
	mustBe(t, "status", resp.StatusCode, 200)
}

func TestPlainHTTPAtTheBalancerIsRedirected(t *testing.T) {
	h := newHarbour(t, behindBalancer, func(c *Config) { c.PublicPort = 443 })
	h.put(site(1, "a", instance(t, says("served"))))
	for proto, want := range map[string]int{"http": 308, "HTTP": 308, "https, http": 308, "https": 200, "http, https": 200, "": 200} {
		resp, _ := h.get(h.client("HTTP/1.1"), "https://"+host+"/a?b=c", headers("X-Forwarded-Proto: "+proto))
		mustBe(t, proto, resp.StatusCode, want)
		if want == 308 {
			mustBe(t, "location", resp.Header.Get("Location"), "https://"+host+"/a?b=c")
		}
	}
}

// Who guesses passwords is shut out as who they are, whatever they pretend to be, and nobody else with them.
func TestGuessingBehindABalancer(t *testing.T) {
	h := newHarbour(t, behindBalancer)
	closed(t, h)
	guess := func(password, forwarded string) int {
		resp, _, _ := h.signIn(h.client("HTTP/1.1"), url.Values{"password": {password}}, headers("X-Forwarded-For: "+forwarded))
		return resp.StatusCode
	}
	for i := range attemptsMost {
		mustBe(t, "a guess", guess("wrong", fmt.Sprintf("198.51.%d.1, 203.0.113.9", i)), 401)
	}
	mustBe(t, "one more", guess(password, "192.0.2.77, 203.0.113.9"), 429)
	mustBe(t, "somebody else", guess(password, "203.0.114.9"), 303)
}

func TestHealthOfTheMachine(t *testing.T) {
	h := newHarbour(t, behindBalancer, func(c *Config) {
		c.Health = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	closed(t, h) // a private site
	before := len(h.server.Stats().Services)
	for _, name := range []string{host, "unknown.localhost"} {
		resp, _ := h.get(h.client("HTTP/1.1"), "https://"+name+"/.lotse/health?x", headers("X-Forwarded-Proto: http"))
		mustBe(t, name, resp.StatusCode, http.StatusTeapot)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "access log", h.access.String(), "")
	for _, s := range h.server.Stats().Services {
		mustBe(t, "counted", s.Requests, uint64(0))
	}
	mustBe(t, "services", len(h.server.Stats().Services), before)
}

// Without Config.Health the path is like any other of the app.
func TestHealthPathOfTheApp(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("the app's"))))
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/.lotse/health")
	mustBe(t, "body", body, "the app's")
}

// letGo begins to let go of the only release.
func (h *harbour) letGo(timeout time.Duration) <-chan Drained {
	result := make(chan Drained, 1)
	go func() {
		d, err := h.server.LetGo(h.t.Context(), "shop/dev", "a", timeout)
		if err != nil {
			h.t.Error(err)
		}
		result <- d
	}()
	eventually(h.t, "the drain has begun", func() bool { return h.server.Stats().Draining == 1 })
	return result
}

// Streams part, a download finishes, new requests are answered, and it is over when nothing is in flight.
func TestLetGoOfAReleaseThatServes(t *testing.T) {
	ends, begun, goOn := make(chan int, 2), make(chan struct{}), make(chan struct{})
	sockets := echo(t, ends)
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			sockets(w, r)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/download":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "12345")
			w.(http.Flusher).Flush()
			close(begun)
			<-goOn
			fmt.Fprint(w, "67890")
		default:
			fmt.Fprint(w, "hello")
		}
	})))
	conn := h.dialWebsocket("/ws")
	stream, err := h.client("HTTP/2.0").Get("https://" + host + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	events.Scan()
	downloaded := make(chan string, 1)
	go func() {
		_, body, err := h.tryGet(h.client("HTTP/1.1"), "https://"+host+"/download")
		downloaded <- fmt.Sprint(body, err)
	}()
	receive(t, "the download to begin", begun)
	done := h.letGo(4 * time.Second)
	if _, _, err := conn.ReadMessage(); !gorilla.IsCloseError(err, gorilla.CloseGoingAway) {
		t.Errorf("the websocket ended with %v, want 1001", err)
	}
	for events.Scan() {
	}
	mustErr(t, "the end of the event stream", events.Err(), nil)
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "a new request", body, "hello")
	mustBe(t, "done before the download", len(done), 0)
	close(goOn)
	mustBe(t, "the download", receive(t, "the download", downloaded), "1234567890<nil>")
	mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 3})
	_, body = h.get(h.client("HTTP/2.0"), "https://"+host+"/")
	mustBe(t, "a request after it", body, "hello")
}

// What was in flight from the beginning is cut at the end of the time; what came meanwhile is not.
func TestLetGoCutsWhatWasThere(t *testing.T) {
	begun, goOn := make(chan string, 2), make(chan struct{})
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- r.URL.Path
		select {
		case <-goOn:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "whole")
	})))
	ask := func(path string) <-chan string {
		said := make(chan string, 1)
		go func() {
			resp, body, err := h.tryGet(h.client("HTTP/2.0"), "https://"+host+path)
			if err == nil && resp.StatusCode != http.StatusOK {
				body = resp.Status
			}
			said <- fmt.Sprint(body, err)
		}()
		receive(t, path, begun)
		return said
	}
	old := ask("/old")
	done := h.letGo(500 * time.Millisecond)
	fresh := ask("/new")
	mustBe(t, "drained", receive(t, "the drain", done), Drained{Cut: 1})
	mustBe(t, "what was there", receive(t, "the old", old), "503 Service Unavailable<nil>")
	close(goOn)
	mustBe(t, "what came meanwhile", receive(t, "the new", fresh), "whole<nil>")
}

func TestLetGoOfNothing(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("a"))))
	for _, release := range []string{"a", "unknown"} {
		d, err := h.server.LetGo(t.Context(), "shop/dev", release, time.Hour)
		mustErr(t, release, err, nil)
		mustBe(t, release, d, Drained{})
	}
}

// A proxy that is ended in the instant in which it begins ends, and its listeners with it. It is the race detector that sees the fault.
func TestEndAtTheBeginning(t *testing.T) {
	for range 50 {
		l := listen(t)
		s, err := New(Config{StateDir: t.TempDir(), Listeners: []net.Listener{l}})
		mustErr(t, "New", err, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		mustErr(t, "Run", s.Run(ctx), nil)
		if _, err := l.Accept(); err == nil {
			t.Error("the listener is open")
		}
	}
}
