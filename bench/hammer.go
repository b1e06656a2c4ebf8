package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// volley is a fixed number of requests from a fixed number of clients, each of which asks again as soon as it is answered.
type volley struct {
	client   *http.Client
	url      string
	size     int64 // of every answer; another is an error
	protocol int   // major version of HTTP that must be spoken
	requests int
	clients  int
	limit    time.Duration // no new request after it; the figures are then of fewer requests
}

// outcome of a volley.
type outcome struct {
	requests int
	took     time.Duration
	p50, p99 time.Duration
}

func (v volley) fire(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(v.requests))
	times := make([][]time.Duration, v.clients)
	began := time.Now()
	var clients sync.WaitGroup
	for i := range times {
		clients.Go(func() {
			for left.Add(-1) >= 0 && time.Since(began) < v.limit && ctx.Err() == nil {
				asked := time.Now()
				if err := v.ask(ctx); err != nil {
					cancel(err)
					return
				}
				times[i] = append(times[i], time.Since(asked))
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return outcome{}, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	return outcome{len(all), took, quantile(all, 0.5), quantile(all, 0.99)}, nil
}

func (v volley) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || n != v.size || response.ProtoMajor != v.protocol {
		return fmt.Errorf("%s: %s %s with %d bytes, want %d by HTTP/%d", v.url, response.Proto, response.Status, n, v.size, v.protocol)
	}
	return nil
}

// newClient reaches address whatever the URL's host is. HTTP/1.1 takes one connection for each client, HTTP/2 one for all.
func newClient(address string, roots *x509.CertPool, protocol, clients int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == 1)
	protocols.SetHTTP2(protocol == 2)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Protocols:           protocols,
		MaxIdleConnsPerHost: clients,
		DisableCompression:  true,
	}}
}
