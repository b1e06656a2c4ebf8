package deploy

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

const (
	fewest           = 20               // requests to one address, so that one that fails is not over a limit of 5 % yet
	syntheticTimeout = 10 * time.Second // of one request; longer is an error
	syntheticBytes   = 8 << 20          // of one answer that are read
)

// ask makes at least n requests to the addresses of a service, through the real host name, whoever has the traffic. Its error is that
// the release cannot be asked at all.
func (w *walk) ask(ctx context.Context, service Service, n int) (asked []Sample, err error) {
	transport, err := w.engine.Reach(ctx, w.instances())
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport, Timeout: syntheticTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	paths := service.asked()
	each := max(fewest, (n+len(paths)-1)/len(paths))
	for _, path := range paths {
		s := newSample(service.Name, path)
		for range each {
			if hopeless(s, each, w.stage.Limits.Errors) {
				break
			}
			begun := time.Now()
			good := answers(ctx, client, w.stage.URL+path)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			s.Requests++
			s.Latency[latency.Bucket(time.Since(begun))]++
			if !good {
				s.Errors++
			}
		}
		asked = append(asked, s)
	}
	return asked, nil
}

// asked are the addresses of a service that a GET may go to at any time: its health, and the page or the path that it answers.
func (s Service) asked() (paths []string) {
	for _, path := range []string{s.Health, s.Path} {
		if path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// hopeless reports whether so many failed already that the rest cannot bring them under the limit: each may take its whole time.
func hopeless(s Sample, planned int, limit float64) bool {
	return limit > 0 && float64(s.Errors) > math.Ceil(limit/100*float64(planned))
}

// answers reports whether a GET is answered to its end, by anything but 5xx.
func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, syntheticBytes)
	return (err == nil || errors.Is(err, io.EOF)) && resp.StatusCode < 500
}
