package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"
)

// BenchmarkBesideTheStandardLibrary measures the same requests through this proxy, with routes, counters and access log,
// and through a bare httputil.ReverseProxy with a transport tuned alike, in turn within one run, so that the machine's
// moods meet both. "ratio" is our time divided by theirs: below 1 is faster.
func BenchmarkBesideTheStandardLibrary(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			b.Run(fmt.Sprintf("%s/%dB", protocol, size), func(b *testing.B) { besides(b, protocol, size) })
		}
	}
}

func besides(b *testing.B, protocol string, size int) {
	payload := bytes.Repeat([]byte("x"), size)
	addr := instance(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(payload)
	})
	h := newHarbour(b, func(c *Config) { c.Log, c.AccessLog = slog.New(slog.DiscardHandler), io.Discard })
	h.put(site(1, "a", addr))
	other := *h
	other.addr = standardProxy(b, h, addr)
	ours, theirs := h.client(protocol), other.client(protocol)
	times := map[*http.Client][]time.Duration{}
	ask := func(c *http.Client) {
		begin := time.Now()
		resp, err := c.Get("https://" + host + "/some/path")
		if err != nil {
			b.Fatal(err)
		}
		if n, _ := io.Copy(io.Discard, resp.Body); n != int64(size) {
			b.Fatal("short answer")
		}
		resp.Body.Close()
		times[c] = append(times[c], time.Since(begin))
	}
	for range 50 {
		ask(ours)
		ask(theirs)
	}
	clear(times)
	b.ReportAllocs()
	for b.Loop() {
		ask(ours)
		ask(theirs)
	}
	median := func(c *http.Client) float64 {
		slices.Sort(times[c])
		return float64(times[c][len(times[c])/2])
	}
	b.ReportMetric(median(ours), "ours-median-ns")
	b.ReportMetric(median(theirs), "theirs-median-ns")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
}

func standardProxy(b *testing.B, h *harbour, addr string) string {
	rp := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.SetXForwarded()
		},
		Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext, MaxIdleConnsPerHost: upstreamPool, DisableCompression: true},
	}
	l := listen(b)
	srv := &http.Server{Handler: rp, TLSConfig: &tls.Config{GetCertificate: h.cfg.Authority.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// BenchmarkHandlerAlone leaves TLS and the client out: what a request costs within the handler, beside the standard one.
func BenchmarkHandlerAlone(b *testing.B) {
	addr := instance(b, says("hello"))
	h := newHarbour(b, func(c *Config) { c.AccessLog = io.Discard })
	h.put(site(1, "a", addr))
	std := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: addr}); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: upstreamPool, DisableCompression: true},
	}
	for name, handler := range map[string]http.Handler{"ours": h.server, "theirs": std} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+host+"/", http.NoBody)
				r.RemoteAddr, r.RequestURI = "127.0.0.1:1", "/"
				handler.ServeHTTP(&sink{header: http.Header{}}, r)
			}
		})
	}
}

type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}
