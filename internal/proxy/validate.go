package proxy

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// normal returns the site as it is kept: hosts in lower case, or ErrInvalid with every mistake.
func (s Site) normal() (Site, error) {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if s.Key == "" {
		bad("key is empty")
	}
	hosts := make([]string, 0, len(s.Hosts))
	for _, h := range s.Hosts {
		if h = strings.ToLower(strings.TrimSuffix(h, ".")); !isHost(h) {
			bad("host %q is no host name", h)
		}
		hosts = append(hosts, h)
	}
	s.Hosts = hosts
	redirects := make(map[string]string, len(s.Redirects))
	for h, to := range s.Redirects {
		if u, err := url.Parse(to); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			bad("redirect of %s: %q is no https URL without query", h, to)
		}
		if h = strings.ToLower(h); !isHost(h) || slices.Contains(s.Hosts, h) {
			bad("redirect of %q: no host name, or also among the hosts", h)
		}
		redirects[h] = to
	}
	s.Redirects = redirects
	s.Private.check(bad)
	s.checkReleases(bad)
	if len(wrong) > 0 {
		return Site{}, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(wrong, "; "))
	}
	return s, nil
}

func (s Site) checkReleases(bad func(string, ...any)) {
	sum := 0
	seen := map[string]bool{}
	for _, r := range s.Releases {
		if r.ID == "" || seen[r.ID] {
			bad("release id %q is empty or stands twice", r.ID)
		}
		if strings.ContainsFunc(r.Label, func(c rune) bool { return c < ' ' || c > '~' }) {
			bad("label %q cannot stand in a header", r.Label)
		}
		seen[r.ID] = true
		if r.Share < 0 {
			bad("share of %s is negative", r.ID)
		}
		sum += r.Share
		if !r.Until.IsZero() && (r.Share > 0 || slices.ContainsFunc(r.Routes, func(r Route) bool { return r.Static == nil })) {
			bad("%s has ended, and can have files alone", r.ID)
		}
		for _, route := range r.Routes {
			route.check(bad)
		}
	}
	if sum != 0 && sum != 100 {
		bad("shares sum to %d, not to 100 or 0", sum)
	}
}

func (r Route) check(bad func(string, ...any)) {
	if !strings.HasPrefix(r.Prefix, "/") || path.Clean(r.Prefix) != strings.TrimSuffix(r.Prefix, "/") && r.Prefix != "/" {
		bad("prefix %q of %s is no clean absolute path", r.Prefix, r.Service)
	}
	if r.Static != nil && (len(r.Targets) > 0 || r.Health != "") {
		bad("%s has both files and targets", r.Service)
	}
	if r.Static != nil && !path.IsAbs(r.Static.Root) {
		bad("root %q of %s is not absolute", r.Static.Root, r.Service)
	}
	if r.Health != "" && !strings.HasPrefix(r.Health, "/") {
		bad("health %q of %s is no path", r.Health, r.Service)
	}
	for _, t := range r.Targets {
		if _, err := netip.ParseAddrPort(t); err != nil {
			bad("a target of %s is no address with port", r.Service)
		}
	}
}

// names are all host names that lead here.
func (s Site) names() []string {
	names := slices.Clone(s.Hosts)
	for h := range s.Redirects {
		names = append(names, h)
	}
	return names
}

func isHost(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
