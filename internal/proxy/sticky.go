package proxy

import (
	"net/http"
	"strconv"
	"strings"
)

// While releases share a site, who has loaded a page stays with its release: a page of one and the chunks and the API of the other need
// not go together. What the browser keeps is a place among a hundred, drawn as the shares are, and no release: a share that grows keeps
// those whom it had. A hundred places tell nobody from anybody, and without the cookie the page would not work, so that it needs no consent
// (§ 25 (2) no. 2 TDDDG; Article 29 Working Party, opinion 04/2012, 3.5: load balancing).
const (
	placeCookie = "__Host-lotse-share" // the prefix as at cookieName
	placeLife   = 24 * 60 * 60         // seconds; longer than any step of a canary should last
	places      = 100
)

// shared reports whether more than one release has a share.
func (s *liveSite) shared() bool {
	n := 0
	for _, r := range s.releases {
		if r.share > 0 {
			n++
		}
	}
	return n > 1
}

// stay returns the release for a request among several: the one of its place, or of the next place, which a page then keeps.
func (x *exchange) stay(s *liveSite) *liveRelease {
	place, kept := placeOf(x.r.Header)
	if !kept {
		place = s.turn()
		if x.place = 0; x.navigates() {
			x.place = place + 1
		}
	}
	return s.at(place)
}

// keepPlace asks the browser to keep the place that was given to it.
func (x *exchange) keepPlace() {
	c := http.Cookie{Name: placeCookie, Value: strconv.Itoa(x.place - 1), Path: "/", MaxAge: placeLife, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	x.w.Header().Add("Set-Cookie", c.String())
}

func placeOf(h http.Header) (place int, kept bool) {
	for _, line := range h["Cookie"] {
		if !strings.Contains(line, placeCookie) {
			continue
		}
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if place, err := strconv.Atoi(value); name == placeCookie && err == nil && place >= 0 && place < places {
				return place, true
			}
		}
	}
	return 0, false
}
