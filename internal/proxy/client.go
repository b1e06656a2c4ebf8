package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Client steers a Server over its control socket. It is safe for concurrent use and keeps no connection between calls.
// Errors answer errors.Is for this package's sentinels.
type Client struct{ http *http.Client }

// NewClient connects to nothing yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Put replaces the site with this key, or adds it. When it returns nil, every new request goes by the new table, and the
// table is on disk. Idempotent. ErrFenced, ErrInvalid, ErrHostTaken: nothing was changed. A cancel leaves it open whether
// it was done: Get tells.
func (c *Client) Put(ctx context.Context, s Site) error {
	return c.call(ctx, http.MethodPut, "/site", nil, s, nil)
}

// Get returns the site as it was put, or ErrUnknown.
func (c *Client) Get(ctx context.Context, key string) (Site, error) {
	var s Site
	err := c.call(ctx, http.MethodGet, "/site", url.Values{"key": {key}}, nil, &s)
	return s, err
}

// Sites returns all sites, sorted by key.
func (c *Client) Sites(ctx context.Context) ([]Site, error) {
	var sites []Site
	err := c.call(ctx, http.MethodGet, "/sites", nil, nil, &sites)
	return sites, err
}

// Remove takes the site out; its fence is remembered. An unknown site is fine.
func (c *Client) Remove(ctx context.Context, key string, fence int64) error {
	return c.call(ctx, http.MethodDelete, "/site", url.Values{"key": {key}, "fence": {strconv.FormatInt(fence, 10)}}, nil, nil)
}

// Hold keeps new requests of a site waiting, until h.For from now is over; nil lets them go on now. What is in flight is left alone. Another
// hold replaces one that goes on. ErrFenced, ErrInvalid, ErrUnknown: nothing was changed. It survives the proxy.
func (c *Client) Hold(ctx context.Context, key string, fence int64, h *Hold) error {
	return c.call(ctx, http.MethodPut, "/hold", url.Values{"key": {key}, "fence": {strconv.FormatInt(fence, 10)}}, h, nil)
}

// Maintain answers new requests of a site by a page, until it is called with nil. Errors and what survives are as with Hold.
func (c *Client) Maintain(ctx context.Context, key string, fence int64, m *Maintenance) error {
	return c.call(ctx, http.MethodPut, "/maintenance", url.Values{"key": {key}, "fence": {strconv.FormatInt(fence, 10)}}, m, nil)
}

// Closure returns what keeps requests from a site now, or ErrUnknown.
func (c *Client) Closure(ctx context.Context, key string) (Closure, error) {
	var now Closure
	err := c.call(ctx, http.MethodGet, "/closure", url.Values{"key": {key}}, nil, &now)
	return now, err
}

// Drain waits until nothing of the release is in flight. Websockets are closed with 1001 and event streams between two
// events, spread over four fifths of timeout; what remains at its end is cut. ErrServing when the release has a share of
// requests, or gets one again meanwhile. An unknown release, or one that was drained before, is Drained{}. A cancel ends
// the waiting; streams that were asked to part do.
func (c *Client) Drain(ctx context.Context, key, releaseID string, timeout time.Duration) (Drained, error) {
	var d Drained
	err := c.call(ctx, http.MethodPost, "/drain",
		url.Values{"key": {key}, "release": {releaseID}, "timeout": {timeout.String()}}, nil, &d)
	return d, err
}

// Stats returns what was counted since the proxy started.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.call(ctx, http.MethodGet, "/stats", nil, nil, &s)
	return s, err
}

// Samples returns what clients asked a site for between from and to, one Sample for each release, service, method and endpoint that had a
// request then, sorted by these. Both ends are moved outwards to multiples of SampleSlot; the last 15 minutes are kept, in memory. What
// went by Reach or was answered by the gate of a private site is not among it.
func (c *Client) Samples(ctx context.Context, key string, from, to time.Time) ([]Sample, error) {
	var list []Sample
	query := url.Values{"key": {key}, "from": {from.Format(time.RFC3339Nano)}, "to": {to.Format(time.RFC3339Nano)}}
	err := c.call(ctx, http.MethodGet, "/samples", query, nil, &list)
	return list, err
}

// Ping returns nil when a proxy answers, else ErrNoProxy.
func (c *Client) Ping(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/ping", nil, nil, nil)
}

// PID returns the process id of the proxy that answers, 0 when that has not taken over yet from the one before, else ErrNoProxy.
func (c *Client) PID(ctx context.Context) (int, error) {
	var p pong
	err := c.call(ctx, http.MethodGet, "/ping", nil, nil, &p)
	return p.PID, err
}

type pong struct {
	PID int `json:"pid"`
}

// call asks again where a successor has taken over between the dial and the answer.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	for range 3 {
		if err := c.callOnce(ctx, method, path, query, in, out); !errors.Is(err, errMoved) {
			return err
		}
	}
	return fmt.Errorf("%w: proxies follow each other too fast", ErrNoProxy)
}

func (c *Client) callOnce(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path+"?"+query.Encode(), body)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreached(ctx, err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return unreached(ctx, err)
	}
	if a.Error != "" {
		return refusal{text: a.Error, kind: sentinels()[a.Kind]}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Value, out)
}

// unreached tells a proxy that is not there from a call that was broken off.
func unreached(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNoProxy, err)
	}
	return fmt.Errorf("the proxy broke the call off: %w", err)
}

// refusal is an error from the other side of the socket.
type refusal struct {
	text string
	kind error
}

// Error is what the proxy said.
func (r refusal) Error() string { return r.text }

// Unwrap is the sentinel, if any.
func (r refusal) Unwrap() error { return r.kind }
