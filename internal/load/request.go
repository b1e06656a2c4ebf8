package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// getter asks for small answers. Each carries a number that must come back, so that an answer to somebody else's request is
// noticed.
func (h *Hammer) getter(t *http.Transport, kind string) func(going, alive context.Context) {
	var n int
	return func(_, alive context.Context) {
		n++
		a := h.tally.begin(kind)
		if len(h.plan.Paths) > 0 {
			a.end(h.any(alive, a, t, h.plan.Paths[n%len(h.plan.Paths)]))
			return
		}
		word := strconv.Itoa(n)
		got, f := h.ask(alive, a, t, http.MethodGet, "/get?word="+word, nil, h.plan.Timeout)
		if f != nil {
			a.end(f)
			return
		}
		defer got.close()
		body, f := got.readAll()
		if f == nil && string(body) != word+"\n" {
			f = &failure{"wrong body", clip(string(body))}
		}
		a.end(f)
	}
}

// any is right when it is 2xx or 3xx and whole.
func (h *Hammer) any(ctx context.Context, a *attempt, t *http.Transport, path string) *failure {
	got, f := h.ask(ctx, a, t, http.MethodGet, path, nil, h.plan.Timeout)
	if f != nil {
		return f
	}
	defer got.close()
	_, f = got.readAll()
	return f
}

func (h *Hammer) uploader(t *http.Transport, kind string) func(going, alive context.Context) {
	sum := sha256.New()
	_, _ = io.Copy(sum, newPattern(h.plan.UploadBytes))
	want := hex.EncodeToString(sum.Sum(nil))
	return func(_, alive context.Context) {
		a := h.tally.begin(kind)
		body := func() io.Reader { return newPattern(h.plan.UploadBytes) }
		got, f := h.ask(alive, a, t, http.MethodPost, "/echo", body, h.plan.Timeout)
		if f != nil {
			a.end(f)
			return
		}
		defer got.close()
		sum, f := got.readAll()
		if f == nil && string(sum) != want+"\n" {
			f = &failure{"wrong digest", clip(string(sum))}
		}
		a.end(f)
	}
}

func (h *Hammer) downloader(t *http.Transport, kind string) func(going, alive context.Context) {
	q := url.Values{"bytes": {strconv.FormatInt(h.plan.DownloadBytes, 10)}, "for": {h.plan.DownloadTime.String()}}
	sum := sha256.New()
	_, _ = io.Copy(sum, newPattern(h.plan.DownloadBytes))
	want := hex.EncodeToString(sum.Sum(nil))
	return func(_, alive context.Context) {
		a := h.tally.begin(kind)
		got, f := h.ask(alive, a, t, http.MethodGet, "/slow?"+q.Encode(), nil, h.plan.DownloadTime+h.plan.Timeout)
		if f != nil {
			a.end(f)
			return
		}
		defer got.close()
		sum := sha256.New()
		n, err := io.Copy(sum, got.Body)
		switch {
		case err != nil:
			f = broken(err, "cut")
			f.example = fmt.Sprintf("%s after %d of %d bytes", f.example, n, h.plan.DownloadBytes)
		case hex.EncodeToString(sum.Sum(nil)) != want:
			f = &failure{"wrong digest", fmt.Sprintf("%d of %d bytes", n, h.plan.DownloadBytes)}
		}
		a.end(f)
	}
}

// ask sends a request and returns the head of its answer, after at most the one retry that RFC 9110 §9.2.2 allows. The
// transport retries too, so what counts is how often the request was really sent. The caller closes the answer.
func (h *Hammer) ask(ctx context.Context, a *attempt, t http.RoundTripper, method, path string, body func() io.Reader, timeout time.Duration, headers ...string) (*answer, *failure) {
	var sent atomic.Int32
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Add(1) }, GotConn: a.over}
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		req, err := h.request(httptrace.WithClientTrace(ctx, trace), method, path, body, headers)
		if err != nil {
			cancel()
			return nil, &failure{"bad plan", err.Error()}
		}
		resp, err := t.RoundTrip(req)
		a.retried = max(int(sent.Load()), try) - 1
		if err == nil && sent.Load() <= 2 {
			if f := refused(resp); f != nil {
				resp.Body.Close()
				cancel()
				return nil, f
			}
			a.served(resp.Header.Get(ReleaseHeader))
			return &answer{resp, cancel}, nil
		}
		if err == nil {
			resp.Body.Close()
			cancel()
			return nil, &failure{"sent too often", fmt.Sprintf("sent %d times", sent.Load())}
		}
		late := ctx.Err() != nil
		cancel()
		if late || method != http.MethodGet || try > 1 || sent.Load() > 1 {
			return nil, broken(err, "no answer")
		}
	}
}

func (h *Hammer) request(ctx context.Context, method, path string, body func() io.Reader, headers []string) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		r = body()
	}
	req, err := http.NewRequestWithContext(ctx, method, h.plan.URL+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = h.plan.UploadBytes
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	}
	maps.Copy(req.Header, h.plan.Header)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req, nil
}

// refused is a failure for every status that is not an answer to what was asked.
func refused(resp *http.Response) *failure {
	if resp.StatusCode >= 200 && resp.StatusCode < 400 || resp.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	return &failure{fmt.Sprintf("status %d", resp.StatusCode), clip(string(body))}
}

// answer is one that has begun well.
type answer struct {
	*http.Response
	cancel context.CancelFunc
}

// close frees the connection. What was not read is lost.
func (a *answer) close() {
	a.Body.Close()
	a.cancel()
}

func (a *answer) readAll() ([]byte, *failure) {
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return nil, broken(err, "cut")
	}
	return body, nil
}

// pattern is a stream of bytes that both sides can compute. No two kilobytes of it are alike, so a lost or doubled piece shows.
type pattern struct{ at, end int64 }

func newPattern(size int64) *pattern { return &pattern{end: size} }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.end {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.end-p.at))
	for i := range n {
		v := uint64(p.at>>3) * 0x9e3779b97f4a7c15
		b[i] = byte(v >> (56 - 8*(p.at&7)))
		p.at++
	}
	return n, nil
}
