package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
)

// reachHeader says, on the control socket only, for which release a request is: who may steer the proxy may also ask a release that
// has no share. No client of the internet can: on the other listeners the header is one like any other.
const reachHeader = "Lotse-Reach"

// pin is a request's way around the shares.
type pin struct{ key, release string }

func (p pin) String() string { return url.Values{"key": {p.key}, "release": {p.release}}.Encode() }

// Reach returns a transport that takes requests to one release of a site, whatever its share, by the same routes, files and
// headers as everybody else's. Host is the site's real host; the scheme may be https, though the way is the control socket.
// What goes this way is in nobody's statistics and in no access log. A release that is not in the table is ErrUnknown.
// Nothing is kept open between requests.
func (c *Client) Reach(key, releaseID string) http.RoundTripper {
	dial := c.http.Transport.(*http.Transport).DialContext
	return &reacher{pin{key, releaseID}, &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true, DisableCompression: true}}
}

type reacher struct {
	to   pin
	base *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *reacher) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Header.Set(reachHeader, t.to.String())
	resp, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, unreached(r.Context(), err)
	}
	if resp.Header.Get(reachHeader) != "" {
		resp.Body.Close()
		return nil, fmt.Errorf("%w, or no release %s in %s", ErrUnknown, t.to.release, t.to.key)
	}
	resp.Request = r
	return resp, nil
}

// withReach answers requests that carry the header, and leaves the others to control.
func (s *Server) withReach(control http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := url.ParseQuery(r.Header.Get(reachHeader))
		if err != nil || len(to) == 0 {
			control.ServeHTTP(w, r)
			return
		}
		r.Header.Del(reachHeader)
		x := newExchange(s, w, r)
		x.client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		x.pin = &pin{to.Get("key"), to.Get("release")}
		s.air.Add(1)
		defer s.air.Add(-1)
		defer x.finish()
		x.carry()
	})
}

// entryOf is where a pinned request goes.
func (p *pin) entryOf(t *table, host string) *entry {
	site := t.sites[p.key]
	if site == nil || site.find(p.release) == nil {
		return nil
	}
	return &entry{site: site, host: host}
}

func (s *liveSite) find(id string) *liveRelease {
	for _, r := range s.releases {
		if r.id == id && r.until.IsZero() {
			return r
		}
	}
	return nil
}
