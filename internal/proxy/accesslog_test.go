package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// written is a line as it is documented.
type written struct {
	Time     string  `json:"time"`
	Site     string  `json:"site"`
	Release  string  `json:"release"`
	Service  string  `json:"service"`
	Host     string  `json:"host"`
	Method   string  `json:"method"`
	Endpoint string  `json:"endpoint"`
	Status   int     `json:"status"`
	Millis   float64 `json:"ms"`
	In       int64   `json:"in"`
	Out      int64   `json:"out"`
	Protocol string  `json:"protocol"`
	Client   string  `json:"client"`
	Aborted  bool    `json:"aborted"`
}

func TestAccessLogSaysWhatMayBeSaid(t *testing.T) {
	addresses := make(chan netip.Addr, 10)
	h := newHarbour(t, func(c *Config) {
		c.Pseudonym = func(a netip.Addr) string {
			addresses <- a
			return "somebody"
		}
	})
	h.put(site(1, "a", instance(t, says("hello"))))
	c := h.client("HTTP/2.0")
	resp, err := c.Post("https://"+host+"/users/4711?token=SECRET&mail=anna@example.org", "text/plain", strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, _ = h.get(c, "https://unknown.localhost/anna@example.org")
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(h.access.String()), "\n")
	mustBe(t, "lines", len(lines), 2)
	var l written
	if err := json.Unmarshal([]byte(lines[0]), &l); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, l.Time); err != nil {
		t.Error(err)
	}
	l.Time, l.Millis = "", 0
	mustBe(t, "line", l, written{Site: "shop/dev", Release: "label-a", Service: "web", Host: host, Method: "POST",
		Endpoint: "/users/{id}", Status: 200, In: 5, Out: 5, Protocol: "HTTP/2.0", Client: "somebody"})
	mustBe(t, "address", receive(t, "the address", addresses), netip.MustParseAddr("127.0.0.1"))
	for _, text := range []string{h.access.String(), h.logs.String()} {
		for _, secret := range []string{"SECRET", "anna", "4711", "token", "127.0.0.1", "unknown.localhost"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

// No address gets into the diagnostics either, whatever goes wrong.
func TestDiagnosticsHaveNoAddresses(t *testing.T) {
	h := newHarbour(t)
	dead := listen(t)
	dead.Close()
	s := site(1, "a", dead.Addr().String(), instance(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	h.put(s)
	for range 3 {
		_, _, _ = h.tryGet(h.client("HTTP/1.1"), "https://"+host+"/")
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + h.addr + "/") // not TLS
	if err == nil {
		resp.Body.Close()
	}
	eventually(t, "the handshake has failed", func() bool { return strings.Contains(h.logs.String(), "handshake failed") })
	w := withoutAddresses{h.server}
	fmt.Fprint(w, "http: TLS handshake error from 192.0.2.7:4711: EOF, [2001:db8::1]:80: and 192.0.2.8")
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, "log", h.logs.String(), "an instance does not answer")
	for _, secret := range []string{"127.0.0.1", "192.0.2", "2001:db8"} {
		if strings.Contains(h.logs.String(), secret) {
			t.Errorf("%q is in %s", secret, h.logs)
		}
	}
}

// slow is a disk that stands still until it is released.
type slow struct {
	syncBuffer
	gate chan struct{}
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.gate
	return s.syncBuffer.Write(p)
}

// A disk that stands still costs log lines, counted ones, and no request.
func TestSlowDiskStopsNoRequest(t *testing.T) {
	disk := &slow{gate: make(chan struct{})}
	a := newAccessLog(Config{AccessLog: disk}, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.run()
	}()
	const extra = 500
	for range 2*logQueue + extra {
		a.put(line{method: "GET", path: "/"})
	}
	dropped := a.dropped.Load()
	mustBe(t, "some were dropped", dropped > 0, true)
	close(disk.gate)
	a.close()
	a.put(line{}) // a straggler
	<-done
	written := strings.Count(disk.String(), "\n")
	mustBe(t, "written and dropped", uint64(written)+dropped, uint64(2*logQueue+extra))
	mustBe(t, "the straggler is counted", a.dropped.Load(), dropped+1)
}

// Run does not return before everything is written, however slow the disk.
func TestEndOfTheProxyLosesNoLine(t *testing.T) {
	disk := &slow{gate: make(chan struct{})}
	h := newHarbour(t, func(c *Config) { c.AccessLog = disk })
	h.put(site(1, "a", instance(t, says("a"))))
	c := h.client("HTTP/2.0")
	for range 20 {
		h.get(c, "https://"+host+"/")
	}
	ended := make(chan error, 1)
	go func() { ended <- h.stop() }()
	receive(t, "the log to be closed", h.server.access.done)
	for range 100_000 {
		runtime.Gosched() // enough for a Run that does not wait
	}
	mustBe(t, "Run has returned", len(ended), 0)
	close(disk.gate)
	mustErr(t, "Run", receive(t, "Run", ended), nil)
	mustBe(t, "lines", strings.Count(disk.String(), "\n"), 20)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Whatever stands in a line, it is one line of JSON that says the same.
func FuzzAccessLogLine(f *testing.F) {
	f.Add("GET", "/a", "site", int64(5), false)
	f.Add("A\"B", "/\n{\"", "l\\\x00\xff", int64(-1), true)
	f.Fuzz(func(t *testing.T, m, path, site string, out int64, aborted bool) {
		a := newAccessLog(Config{}, nil)
		text := string(a.append(nil, line{method: m, path: path, site: site, out: out, aborted: aborted}))
		var w written
		if err := json.Unmarshal([]byte(text), &w); err != nil || strings.Index(text, "\n") != len(text)-1 {
			t.Fatalf("%q: %v", text, err)
		}
		mustBe(t, "site", w.Site, string([]rune(site)))
		mustBe(t, "endpoint", w.Endpoint, endpoint(path))
		mustBe(t, "out", w.Out, out)
		mustBe(t, "aborted", w.Aborted, aborted)
	})
}

func TestFullDiskIsCounted(t *testing.T) {
	a := newAccessLog(Config{AccessLog: full{}}, slog.New(slog.DiscardHandler))
	for range 3 {
		a.put(line{})
	}
	a.close()
	a.run()
	mustBe(t, "dropped", a.dropped.Load(), uint64(3))
}

func TestStatsCount(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.URL.Path[1:], &status)
		w.WriteHeader(status)
	})))
	for _, status := range []int{200, 201, 404, 404, 500} {
		h.get(h.client("HTTP/2.0"), fmt.Sprintf("https://%s/%d", host, status))
	}
	eventually(t, "all are counted", func() bool { return h.stats(t, "a").Requests == 5 })
	s := h.stats(t, "a")
	mustBe(t, "4xx", s.Status4x, uint64(2))
	mustBe(t, "5xx", s.Status5x, uint64(1))
	mustBe(t, "in flight", s.InFlight, int64(0))
	n := uint64(0)
	for _, c := range s.Latency {
		n += c
	}
	mustBe(t, "latencies", n, uint64(5))
	for i := range 2 * keptReleases {
		h.put(site(1, fmt.Sprintf("r%02d", i), "127.0.0.1:1"))
	}
	st, err := h.steer.Stats(t.Context())
	mustErr(t, "Stats", err, nil)
	mustBe(t, "releases kept", len(st.Services), keptReleases)
	mustBe(t, "sorted", slices.IsSortedFunc(st.Services, func(a, b ServiceStats) int { return strings.Compare(a.Release, b.Release) }), true)
}
