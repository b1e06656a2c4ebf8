package aws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// balancer is who carries the requests of a stage.
type balancer interface {
	facts() deploy.Facts
	// options are those of an environment that are its.
	options(s *stack) settings
	// resources are what its part of an environment has that there is no option for, as Elastic Beanstalk's templates take it.
	resources() string
	// launches is how many environments a start may make.
	launches() int
	// begin starts what a new environment needs beside itself, and does not wait for it.
	begin(ctx context.Context) error
	// shares are the percents of new requests that rollouts are given now.
	shares(ctx context.Context, all []environment) (map[string]int, error)
	// give makes next the shares of traffic.
	give(ctx context.Context, all []environment, next map[string]int) error
	// prepare makes an environment that is ready one that can be reached and be given traffic. Twice is fine.
	prepare(ctx context.Context, v environment) error
	// route is how an environment is reached without traffic: the host to dial, and a header that must be there.
	route(ctx context.Context, v environment) (host, token string, err error)
	// forget takes away what prepare has made for a rollout. Twice is fine.
	forget(ctx context.Context, rollout string) error
}

// reachHeader leads a request past the shares of traffic to one rollout. Its value is a secret of the rule. Fronts leave requests that
// have it out of what they count.
const reachHeader = "Lotse-Reach"

// releaseHeader says in every answer of a front which release has given it.
const releaseHeader = "Lotse-Release"

// Shift implements deploy.Engine.
func (e *Engine) Shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	return e.failed(ctx, "shift to "+rollout, e.shift(ctx, fence, rollout, share))
}

func (e *Engine) shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	v, err := e.must(ctx, rollout)
	if err != nil {
		return err
	}
	if share < 0 || share > 100 {
		return fmt.Errorf("%w: a share of %d %%", deploy.ErrUnsupported, share)
	}
	// A release that is sick must still be able to lose its traffic.
	if share > 0 {
		if err := e.check(ctx, v); err != nil {
			return err
		}
	}
	if !e.Facts().Shares && share > 0 && share < 100 {
		return deploy.Hint(fmt.Errorf("%w: a share of %d %%: a name leads to one environment", deploy.ErrUnsupported, share), "with aws: balancer: shared there are shares")
	}
	e.site.Lock()
	defer e.site.Unlock()
	all, err := e.environments(ctx)
	if err != nil {
		return err
	}
	now, err := e.lb.shares(ctx, all)
	if err != nil {
		return err
	}
	if err := e.give(ctx, fence, all, now, rollout, share); err != nil {
		return err
	}
	return e.verify(ctx, v, share)
}

// give changes who has traffic, and keeps who had it before. The note comes first: it is the last look at the fence. The caller holds
// site.
func (e *Engine) give(ctx context.Context, fence deploy.Fence, all []environment, now map[string]int, rollout string, share int) error {
	s, _, err := e.readState(ctx)
	if err != nil {
		return err
	}
	last := s.Last
	if !slices.ContainsFunc(all, func(v environment) bool { return v.rollout() == last && v.ready() }) {
		last = "" // it is gone, and can take nothing back
	}
	next, err := deploy.Shares(now, last, rollout, share)
	if err != nil {
		return err
	}
	moves := !maps.Equal(positive(now), positive(next))
	if err := e.change(ctx, fence, func(s *state) {
		if s.Last = lastOf(now, next, last); moves {
			s.At = e.Now().UTC()
		}
	}); err != nil || !moves {
		return err
	}
	return e.lb.give(ctx, all, positive(next))
}

// lastOf is who had traffic before those who have it now.
func lastOf(now, next map[string]int, last string) string {
	for id, share := range now {
		if share > 0 && next[id] == 0 {
			return id
		}
	}
	if next[last] > 0 {
		return ""
	}
	return last
}

func positive(shares map[string]int) map[string]int {
	out := maps.Clone(shares)
	maps.DeleteFunc(out, func(_ string, share int) bool { return share <= 0 })
	return out
}

// verify asks the stage's host, as everybody does, until what answers is what was said to, as often as nodes may differ.
func (e *Engine) verify(ctx context.Context, v environment, share int) error {
	if share > 0 && share < 100 {
		return nil // one answer says nothing about a share; the rule was read back
	}
	const inARow = 3
	row, got := 0, ""
	err := e.await(ctx, e.Facts().Switch+e.Timing.Settle, "the release that was shifted to", func(ctx context.Context) (bool, error) {
		var err error
		if got, err = e.askRelease(ctx, e.client(e.host, "")); err != nil {
			return false, err
		}
		if row++; (got == v.label()) != (share == 100) && (share == 100 || !e.twin(ctx, v)) {
			row = 0
		}
		return row == inARow, nil
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, deploy.ErrUnavailable) {
		return deploy.Hint(fmt.Errorf("%w; %s answers from the release %q, and %q was given %d %%", err, e.host, got, v.label(), share),
			"look whether the name "+e.host+" leads to the balancer of the app")
	}
	return err
}

// twin reports whether another rollout has the same release, so that answers do not tell them apart.
func (e *Engine) twin(ctx context.Context, v environment) bool {
	all, err := e.environments(ctx)
	return err == nil && slices.ContainsFunc(all, func(o environment) bool { return o.id != v.id && o.label() == v.label() })
}

// askRelease is which release answers. One that gives no answer of a front is "".
func (e *Engine) askRelease(ctx context.Context, rt http.RoundTripper) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timing.Command)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+e.host+healthPath, nil)
	if err != nil {
		return "", err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("%w: a request to %s: %s", deploy.ErrUnavailable, e.host, plain(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<10)
	return resp.Header.Get(releaseHeader), nil
}

// client asks for the stage's hosts at a host that is dialled in their place, with a header where token is not empty.
func (e *Engine) client(host, token string) http.RoundTripper {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.TLS != nil {
		config = e.TLS.Clone()
	}
	tr := &http.Transport{TLSClientConfig: config, IdleConnTimeout: 5 * time.Second, MaxIdleConnsPerHost: 4, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return e.Dial(ctx, network, net.JoinHostPort(host, port))
		}}
	if token == "" {
		tr.DisableKeepAlives = host == e.host
		return tr
	}
	return reaching{tr, token}
}

// reaching adds the header that leads to one rollout.
type reaching struct {
	http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (r reaching) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(reachHeader, r.token)
	return r.RoundTripper.RoundTrip(req)
}

// Reach implements deploy.Engine.
func (e *Engine) Reach(ctx context.Context, rollout string) (http.RoundTripper, error) {
	v, err := e.must(ctx, rollout)
	if err == nil {
		var rt http.RoundTripper
		if rt, err = e.reach(ctx, v); err == nil {
			return rt, nil
		}
	}
	return nil, e.failed(ctx, "reach "+rollout, err)
}

func (e *Engine) reach(ctx context.Context, v environment) (http.RoundTripper, error) {
	host, token, err := e.lb.route(ctx, v)
	if err != nil {
		return nil, err
	}
	return e.client(host, token), nil
}

// awaitReach waits until the rollout answers through the balancer, by its own address, as itself.
func (e *Engine) awaitReach(ctx context.Context, v environment) error {
	rt, err := e.reach(ctx, v)
	if err != nil {
		return err
	}
	return e.await(ctx, e.Timing.Settle, "an answer through the balancer", func(ctx context.Context) (bool, error) {
		got, err := e.askRelease(ctx, rt)
		return err == nil && got == v.label(), err
	})
}
