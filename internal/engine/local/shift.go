package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Shift implements deploy.Engine.
func (e *Engine) Shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	return e.failed("shift to "+rollout, e.shift(ctx, fence, rollout, share))
}

func (e *Engine) shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	n, err := e.known(rollout)
	if err != nil {
		return err
	}
	// A release that is sick must still be able to lose its traffic.
	if share > 0 {
		if err := e.check(ctx, n); err != nil {
			return err
		}
	}
	err = e.publish(ctx, fence, func(now map[string]int, last string) (map[string]int, error) {
		return deploy.Shares(now, last, rollout, share)
	})
	if err != nil {
		return err
	}
	return e.verify(ctx, n, share)
}

// keepShares publishes what runs without moving traffic.
func keepShares(now map[string]int, _ string) (map[string]int, error) { return now, nil }

// publish makes the proxy's table of the site that of the notes, with the shares that choose returns. One at a time.
func (e *Engine) publish(ctx context.Context, fence deploy.Fence, choose func(now map[string]int, last string) (map[string]int, error)) error {
	unlock, err := e.lock(ctx, ".site")
	if err != nil {
		return err
	}
	defer unlock()
	now, err := e.shares(ctx)
	if err != nil {
		return err
	}
	s, err := e.readStage()
	if err != nil {
		return err
	}
	if n, err := e.readNote(s.Last); err != nil || n == nil || n.Phase != up {
		s.Last = "" // it is gone, and can take nothing back
	}
	next, err := choose(maps.Clone(now), s.Last)
	if err != nil {
		return err
	}
	site, err := e.site(s, fence, next)
	if err != nil {
		return err
	}
	if err := e.Proxy.Put(ctx, site); err != nil {
		return err
	}
	return e.changeStage(context.WithoutCancel(ctx), func(s *stage) error {
		s.Shares, s.Last, s.Hosts, s.Given = next, lastOf(now, next, s.Last), site.Hosts, ""
		if site.Private != nil {
			s.Given = site.Private.Verifier
		}
		return nil
	})
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

// shares asks the proxy who has traffic. A proxy that does not know the site has lost its state: then it is what we last gave it.
func (e *Engine) shares(ctx context.Context) (map[string]int, error) {
	site, err := e.Proxy.Get(ctx, e.key())
	if errors.Is(err, proxy.ErrUnknown) {
		s, err := e.readStage()
		return s.Shares, err
	}
	if err != nil {
		return nil, err
	}
	shares := map[string]int{}
	for _, r := range site.Releases {
		if r.Share > 0 {
			shares[r.ID] = r.Share
		}
	}
	return shares, nil
}

// site is the proxy's table: every rollout that is up, with its share, and the hosts of all of them, since a stage's URL may
// change from one rollout to the next.
func (e *Engine) site(s stage, fence deploy.Fence, shares map[string]int) (proxy.Site, error) {
	site := proxy.Site{Key: e.key(), Fence: int64(fence), Redirects: map[string]string{}}
	notes, err := e.notes()
	if err != nil {
		return site, err
	}
	var there []*note
	for _, n := range notes {
		if n.Phase == up {
			there = append(there, n)
			if n.Host != "" && !slices.Contains(site.Hosts, n.Host) {
				site.Hosts = append(site.Hosts, n.Host)
			}
			maps.Copy(site.Redirects, n.Redirects)
			site.Drain = max(site.Drain, n.Drain)
			site.Releases = append(site.Releases, proxy.Release{ID: n.Rollout, Label: n.label(), Share: shares[n.Rollout], Routes: e.routes(n)})
		}
	}
	old, err := e.oldReleases(there)
	if err != nil {
		return site, err
	}
	site.Releases = append(site.Releases, old...)
	if len(site.Hosts) == 0 {
		site.Hosts = s.Hosts
	}
	for _, h := range site.Hosts {
		delete(site.Redirects, h)
	}
	for id, share := range shares {
		if share > 0 && !slices.ContainsFunc(there, func(n *note) bool { return n.Rollout == id }) {
			return site, fmt.Errorf("%w: %s, which is to have %d %% of the traffic, is not up", deploy.ErrUnknown, id, share)
		}
	}
	site.Private, err = e.closedBy(s, there, shares)
	return site, err
}

func (e *Engine) routes(n *note) []proxy.Route {
	var routes []proxy.Route
	for _, s := range n.Services {
		r := proxy.Route{Prefix: cmp.Or(s.Path, "/"), Service: s.Name, Health: s.Health}
		switch {
		case s.Worker():
			continue
		case s.Static != "":
			r = e.fileRoute(n.Release, s)
		default:
			for _, i := range e.instances(n) {
				if i.service.Name == s.Name {
					r.Targets = append(r.Targets, i.address())
				}
			}
		}
		routes = append(routes, r)
	}
	return routes
}

func (e *Engine) fileRoute(d deploy.Digest, s deploy.Service) proxy.Route {
	dir := e.releaseDir(d)
	return proxy.Route{Prefix: cmp.Or(s.Path, "/"), Service: s.Name,
		Static: &proxy.Static{Root: path.Join(dir, s.Static), Index: path.Join(dir, ".lotse/static", s.Name+".json"), Fallback: s.Fallback}}
}

// verify looks at what is really served: the proxy's table, and a request that comes back with the release's name.
func (e *Engine) verify(ctx context.Context, n *note, share int) error {
	now, err := e.shares(ctx)
	if err != nil {
		return err
	}
	if now[n.Rollout] != share {
		return fmt.Errorf("%w: the proxy gives it %d %% and not %d %%", deploy.ErrUnavailable, now[n.Rollout], share)
	}
	routes := e.routes(n)
	if share == 0 || len(routes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout+5*time.Second)
	defer cancel()
	url := "https://" + n.Host + cmp.Or(routes[0].Health, routes[0].Prefix)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := e.Proxy.Reach(e.key(), n.Rollout).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%w: a request to what is served now: %w", deploy.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<10)
	if got := resp.Header.Get("Lotse-Release"); !strings.EqualFold(got, n.label()) {
		return fmt.Errorf("%w: the proxy answers from the release %q and not from %q", deploy.ErrUnavailable, got, n.label())
	}
	return nil
}
