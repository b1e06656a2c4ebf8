package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestRequestsArriveOnBothProtocols(t *testing.T) {
	type seen struct {
		Method, Path, Query, Host, Body string
		Header                          http.Header
	}
	addr := instance(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-App", "yes")
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Host, string(body), r.Header})
	})
	h := newHarbour(t)
	h.put(site(1, "a", addr))
	bothProtocols(t, func(t *testing.T, protocol string) {
		req, _ := http.NewRequest(http.MethodPost, "https://"+host+":8443/a%2Fb//c?q=1;2&x", strings.NewReader("hello"))
		for k, v := range map[string]string{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "gopher", "Forwarded": "for=evil",
			"X-Real-Ip": "203.0.113.9", "Proxy-Authorization": "x", "X-Kept": "kept", "Te": "trailers"} {
			req.Header.Set(k, v)
		}
		if protocol == "HTTP/1.1" {
			req.Header.Set("Connection", "X-Hop")
			req.Header.Set("X-Hop", "for the proxy only")
		}
		resp, err := h.client(protocol).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var s seen
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			t.Fatal(err)
		}
		mustBe(t, "protocol", resp.Proto, protocol)
		mustBe(t, "request", fmt.Sprint(s.Method, s.Path, s.Query, s.Host, s.Body), "POST/a%2Fb//cq=1;2&x"+host+":8443hello")
		for k, want := range map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": host + ":8443",
			"Forwarded": `for=127.0.0.1;host="` + host + `:8443";proto=https`, "X-Real-Ip": "", "Proxy-Authorization": "", "X-Hop": "",
			"X-Kept": "kept", "Te": "trailers", "Accept-Encoding": ""} {
			mustBe(t, "upstream "+k, strings.Join(s.Header[k], ","), want)
		}
		for k, want := range map[string]string{"Lotse-Release": "label-a", "X-App": "yes", "Keep-Alive": "", "Strict-Transport-Security": ""} {
			mustBe(t, "downstream "+k, resp.Header.Get(k), want)
		}
	})
}

func TestTrailersAndEarlyHintsPass(t *testing.T) {
	addr := instance(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Got", r.Trailer.Get("X-Up"))
		fmt.Fprint(w, "body")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43")
	})
	h := newHarbour(t)
	h.put(site(1, "a", addr))
	bothProtocols(t, func(t *testing.T, protocol string) {
		req, _ := http.NewRequest(http.MethodPost, "https://"+host+"/", io.NopCloser(strings.NewReader("up")))
		req.Trailer = http.Header{"X-Up": {"7"}}
		hints := make(chan string, 1)
		req = req.WithContext(withHints(t.Context(), hints))
		resp, err := h.client(protocol).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		mustBe(t, "early hint", receive(t, "the hint", hints), "</a.css>; rel=preload")
		mustBe(t, "request trailer", resp.Header.Get("X-Got"), "7")
		mustBe(t, "trailer", resp.Trailer.Get("X-Sum"), "42")
		mustBe(t, "unannounced trailer", resp.Trailer.Get("X-Late"), "43")
		mustBe(t, "hint in the final header", resp.Header.Get("Link"), "")
	})
}

func TestPlainHTTPIsRedirected(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", "127.0.0.1:1"))
	_, port, _ := net.SplitHostPort(h.addr)
	transport := &http.Transport{}
	for _, c := range []struct {
		host, path string
		status     int
		location   string
	}{
		{host + ":80", "/x?y=1", 308, "https://" + host + ":" + port + "/x?y=1"},
		{"SHOP.localhost.", "/", 308, "https://" + host + ":" + port + "/"},
		{"other.localhost", "/", 404, ""},
	} {
		req, _ := http.NewRequest(http.MethodPost, "http://"+h.plain+c.path, nil)
		req.Host = c.host
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		mustBe(t, c.host+" status", resp.StatusCode, c.status)
		mustBe(t, c.host+" location", resp.Header.Get("Location"), c.location)
	}
	transport.CloseIdleConnections()
}

func TestRoutesByHostAndPath(t *testing.T) {
	h := newHarbour(t)
	s := Site{Key: "shop/dev", Hosts: []string{host, "Second.Localhost"},
		Redirects: map[string]string{"old.localhost": "https://" + host + ":8443/base"},
		Releases: []Release{{ID: "a", Label: "l", Share: 100, Routes: []Route{
			{Prefix: "/api", Service: "api", Targets: []string{instance(t, says("api"))}},
			{Prefix: "/", Service: "web", Targets: []string{instance(t, says("web"))}},
			{Prefix: "/api/deep", Service: "deep", Targets: []string{instance(t, says("deep"))}}}}}}
	h.put(s)
	h.put(Site{Key: "shop/prod", Hosts: []string{"prod.localhost"}, Releases: []Release{release("p", 100, instance(t, says("prod")))}})
	h.put(Site{Key: "shop/closed", Hosts: []string{"closed.localhost"}, Releases: []Release{release("p", 0, "127.0.0.1:1")}})
	c := h.client("HTTP/1.1")
	for url, want := range map[string]string{
		"https://" + host + "/":                  "200 web",
		"https://second.localhost/apis":          "200 web",
		"https://" + host + "/api":               "200 api",
		"https://" + host + "/api/x":             "200 api",
		"https://" + host + "/api/deep/y":        "200 deep",
		"https://" + host + "/api/deeper":        "200 api",
		"https://prod.localhost/api":             "200 prod",
		"https://closed.localhost/":              "503 no release serves here now\n",
		"https://nobody.localhost/":              "404 no site answers for this host\n",
		"https://old.localhost/p/q?r=1;s#ignore": "308 moved\n",
	} {
		resp, body := h.get(c, url)
		mustBe(t, url, fmt.Sprint(resp.StatusCode, " ", body), want)
		if resp.StatusCode == http.StatusServiceUnavailable {
			mustBe(t, "Retry-After", resp.Header.Get("Retry-After"), "1")
		}
		if resp.StatusCode == http.StatusPermanentRedirect {
			mustBe(t, "Location", resp.Header.Get("Location"), "https://"+host+":8443/base/p/q?r=1;s")
		}
	}
}

func TestSharesAreKept(t *testing.T) {
	h := newHarbour(t)
	s := site(1, "old", instance(t, says("old")))
	s.Releases[0].Share = 95
	s.Releases = append(s.Releases, release("new", 5, instance(t, says("new"))))
	h.put(s)
	c := h.client("HTTP/2.0")
	count := map[string]int{}
	for range 200 {
		resp, body := h.get(c, "https://"+host+"/")
		mustBe(t, "release header", resp.Header.Get("Lotse-Release"), "label-"+body)
		count[body]++
	}
	mustBe(t, "requests of the new release in 200", count["new"], 10)
}

func TestMethodsThatAreNotServed(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("never"))))
	for _, method := range []string{http.MethodTrace, http.MethodConnect} {
		req, _ := http.NewRequest(method, "https://"+host+"/", nil)
		resp, err := h.client("HTTP/1.1").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		mustBe(t, method, resp.StatusCode, http.StatusMethodNotAllowed)
	}
}

func TestTablesThatCannotBeServedAreRefused(t *testing.T) {
	h := newHarbour(t)
	good := site(1, "a", instance(t, says("good")))
	h.put(good)
	h.put(Site{Key: "other", Hosts: []string{"other.localhost"}})
	for name, c := range map[string]struct {
		edit func(*Site)
		want error
	}{
		"shares":      {func(s *Site) { s.Releases[0].Share = 99 }, ErrInvalid},
		"key":         {func(s *Site) { s.Key = "" }, ErrInvalid},
		"host":        {func(s *Site) { s.Hosts = []string{"a b"} }, ErrInvalid},
		"host twice":  {func(s *Site) { s.Hosts = append(s.Hosts, "other.localhost") }, ErrHostTaken},
		"release":     {func(s *Site) { s.Releases[0].ID = "" }, ErrInvalid},
		"label":       {func(s *Site) { s.Releases[0].Label = "a\r\nb" }, ErrInvalid},
		"prefix":      {func(s *Site) { s.Releases[0].Routes[0].Prefix = "/a/../b" }, ErrInvalid},
		"target":      {func(s *Site) { s.Releases[0].Routes[0].Targets = []string{"example.com:80"} }, ErrInvalid},
		"both":        {func(s *Site) { s.Releases[0].Routes[0].Static = &Static{Root: "/"} }, ErrInvalid},
		"no index":    {func(s *Site) { s.Releases[0].Routes[0] = Route{Prefix: "/", Static: &Static{Root: "/", Index: "/no"}} }, ErrInvalid},
		"redirect":    {func(s *Site) { s.Redirects = map[string]string{"x.localhost": "http://plain"} }, ErrInvalid},
		"health":      {func(s *Site) { s.Releases[0].Routes[0].Health = "up" }, ErrInvalid},
		"fence":       {func(s *Site) { s.Fence = 0 }, ErrFenced},
		"share below": {func(s *Site) { s.Releases = append(s.Releases, release("b", -1)) }, ErrInvalid},
	} {
		bad := site(1, "a", "127.0.0.1:1")
		c.edit(&bad)
		mustErr(t, name, h.steer.Put(t.Context(), bad), c.want)
	}
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "body after refusals", body, "good")
}

func TestControlSocketIsPrivate(t *testing.T) {
	h := newHarbour(t)
	info, err := os.Stat(h.cfg.Control)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "mode of the socket", info.Mode().Perm(), os.FileMode(0o600))
	mustBe(t, "Get of nothing", fmt.Sprint(h.steer.Remove(t.Context(), "nothing", 0)), "<nil>")
	_, err = h.steer.Get(t.Context(), "nothing")
	mustErr(t, "Get", err, ErrUnknown)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	mustErr(t, "Ping after the end", h.steer.Ping(t.Context()), ErrNoProxy)
}
