package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The first bytes of an upload reach the instance before the client has sent the last, and nothing piles up on the way.
func TestUploadsStream(t *testing.T) {
	size := int64(256 << 20)
	switch {
	case os.Getenv("LOTSE_PROVE") != "":
		size = 1 << 30
	case testing.Short():
		size = 128 << 20
	}
	bothProtocols(t, func(t *testing.T, protocol string) {
		runtime.GC() // what earlier tests left behind is not ours
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		first := make(chan struct{})
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 10))
			close(first)
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n+10, " ", err)
		})))
		body := &generated{left: size - 10, gate: first, peak: new(atomic.Uint64)}
		req, _ := http.NewRequest(http.MethodPost, "https://"+host+"/", io.MultiReader(strings.NewReader("0123456789"), body))
		resp, err := h.client(protocol).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		mustBe(t, "upload", string(text), fmt.Sprint(size, " <nil>"))
		grown := int64(body.peak.Load()) - int64(before.HeapInuse)
		t.Logf("the heap grew by %d MiB while %d MiB went through", grown>>20, size>>20)
		if grown > size/4 {
			t.Errorf("the heap grew by %d MiB while %d MiB went through", grown>>20, size>>20)
		}
		eventually(t, "the bytes are counted", func() bool { return h.stats(t, "a").BytesIn == uint64(size) })
	})
}

// generated is a body that is nowhere whole. It waits at its gate for the first bytes to have arrived.
type generated struct {
	left  int64
	gate  <-chan struct{}
	reads int
	peak  *atomic.Uint64
}

func (g *generated) Read(p []byte) (int, error) {
	select {
	case <-g.gate:
	case <-time.After(20 * time.Second):
		return 0, errors.New("the first bytes did not arrive before the last were sent")
	}
	if g.left == 0 {
		return 0, io.EOF
	}
	if g.reads++; g.reads%1024 == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		g.peak.Store(max(g.peak.Load(), m.HeapInuse))
	}
	n := int(min(g.left, int64(len(p))))
	g.left -= int64(n)
	return n, nil
}

// An instance that answers before the upload is over is heard: HTTP/1.1 in net/http would read it all first.
func TestEarlyAnswerToAnUpload(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			w.(http.Flusher).Flush()
		})))
		pr, pw := io.Pipe()
		defer pw.Close()
		go func() { _, _ = pw.Write(make([]byte, 1000)) }()
		req, _ := http.NewRequest(http.MethodPost, "https://"+host+"/", pr)
		resp, err := h.client(protocol).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, "status", resp.StatusCode, http.StatusRequestEntityTooLarge)
		resp.Body.Close()
	})
}
