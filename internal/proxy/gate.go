package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// gate stands before a private site. It lives as long as the site has the same lock, over all tables.
//
// A password that is right is compared with what bcrypt took 50 ms for only once: after that with a digest under a key of this
// process, so that a client that sends it with every request costs a microsecond. Until then passwords are looked at one at
// a time in the whole proxy, so that strangers at the gates never have more than one core.
type gate struct {
	Private
	site     string // key: "app/stage"
	attempts *attempts
	looks    chan struct{} // of the Server: a token for who may take the time of a look

	fast  []byte // of right; never on disk
	right atomic.Pointer[[sha256.Size]byte]
}

func (s *Server) newGate(site string, p Private) *gate {
	g := &gate{Private: p, site: site, attempts: newAttempts(s.cfg.Clock), looks: s.looks, fast: make([]byte, keyBytes)}
	_, _ = rand.Read(g.fast) // never fails
	return g
}

// gateOf is the gate of a site, nil where it is open. One with the same lock stays. Under Server.mu.
func (s *Server) gateOf(site Site) *gate {
	if site.Private == nil {
		return nil
	}
	if live := s.table.Load().sites[site.Key]; live != nil && live.gate != nil && live.gate.same(site.Private) {
		return live.gate
	}
	return s.newGate(site.Key, *site.Private)
}

// verdict is what becomes of a password.
type verdict struct {
	kind verdictKind
	wait time.Duration // isLimited: until another is looked at
}

type verdictKind int

const (
	isRight verdictKind = iota + 1
	isWrong
	isLimited
)

// ask looks at a password. again: the same wrong one counts as another attempt.
func (g *gate) ask(ctx context.Context, x *exchange, password string, again bool) verdict {
	given := sum(g.fast, password)
	if g.right.Load() == nil {
		select {
		case g.looks <- struct{}{}:
			defer func() { <-g.looks }()
		case <-ctx.Done():
			return verdict{kind: isLimited, wait: time.Second}
		}
	}
	return g.attempts.judge(x.client, given, again, func() bool { return g.is(given, password) })
}

func (g *gate) is(given [sha256.Size]byte, password string) bool {
	if right := g.right.Load(); right != nil {
		return subtle.ConstantTimeCompare(right[:], given[:]) == 1
	}
	if !g.opens(password) {
		return false
	}
	g.right.Store(&given)
	return true
}

// knows reports whether it is the password, without taking time for one that nobody has given before.
func (g *gate) knows(password string) bool {
	right := g.right.Load()
	if right == nil {
		return false
	}
	given := sum(g.fast, password)
	return subtle.ConstantTimeCompare(right[:], given[:]) == 1
}

// enters reports whether the request may go on, or has answered it. A table that has changed meanwhile is asked again.
func (x *exchange) enters() bool {
	g := x.entry.site.gate
	if g == x.gate { // open, or asked already
		return true
	}
	x.gate = g
	if g == nil || x.pin != nil { // who may steer may look
		return true
	}
	x.atGate = !x.opened(g)
	return !x.atGate
}

// opened is enters for a gate.
func (x *exchange) opened(g *gate) bool {
	switch x.r.URL.Path {
	case "/robots.txt":
		x.robots()
		return false
	case signInPath:
		x.signIn(g)
		return false
	case signOutPath:
		x.signOut(g)
		return false
	}
	if g.signedIn(x.r.Header, x.server.cfg.Clock()) {
		return true
	}
	password, basic := basicPassword(x.r.Header)
	if !basic {
		x.turnAway(g, verdict{})
		return false
	}
	v := g.ask(x.r.Context(), x, password, false)
	if v.kind != isRight {
		x.turnAway(g, v)
	}
	return v.kind == isRight
}

// basicPassword is the password of Basic authentication (RFC 7617). The user's name is of no matter.
func basicPassword(h http.Header) (password string, ok bool) {
	value := h.Get("Authorization")
	const scheme = "basic "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimLeft(value[len(scheme):], " "))
	if err != nil {
		return "", false
	}
	_, password, ok = strings.Cut(string(raw), ":")
	return password, ok
}

// undisclosed takes out of what goes to the instance what was for us: the cookie, and the password. Other credentials are the
// app's.
func (x *exchange) undisclosed(h http.Header) {
	if lines := h["Cookie"]; len(lines) > 0 {
		if lines = withoutCookie(lines); len(lines) > 0 {
			h["Cookie"] = lines
		} else {
			delete(h, "Cookie")
		}
	}
	if password, basic := basicPassword(h); basic && x.gate.knows(password) {
		delete(h, "Authorization")
	}
}

// turnAway answers who has not signed in: a person with the page, a program with a status and how to do better.
func (x *exchange) turnAway(g *gate, v verdict) {
	status := http.StatusUnauthorized
	if v.kind == isLimited {
		status = x.mustWait(v)
	}
	if x.navigates() {
		p := signInPage{gate: g, to: "/", unsent: true}
		if x.reads() {
			p.to, p.unsent = landing(x.r.URL.RequestURI()), false
		}
		p.wrong = v.kind // where a password stood in the address
		x.page(status, p.html())
		return
	}
	if status == http.StatusUnauthorized && !x.fromBrowser() {
		// A page's own fetch must not make the browser ask with a dialog of its own.
		x.Header().Set("Www-Authenticate", `Basic realm="`+quoted(g.site)+`", charset="UTF-8"`)
	}
	if status == http.StatusUnauthorized {
		x.plain(status, "this stage is private: sign in at "+signInPath+", or send its password by Basic authentication")
		return
	}
	x.plain(status, "too many wrong passwords: wait, then try again")
}

func (x *exchange) mustWait(v verdict) int {
	x.Header().Set("Retry-After", seconds(v.wait))
	return http.StatusTooManyRequests
}

func (x *exchange) reads() bool { return x.r.Method == http.MethodGet || x.r.Method == http.MethodHead }

// navigates reports whether a person waits for a page: as the browser says (Fetch Metadata), else by what is accepted.
func (x *exchange) navigates() bool {
	if mode := x.r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return !x.fromBrowser() && x.r.Method != http.MethodOptions && upgradeOf(x.r.Header) == "" &&
		strings.Contains(x.r.Header.Get("Accept"), "text/html")
}

func (x *exchange) fromBrowser() bool {
	h := x.r.Header
	return h.Get("Sec-Fetch-Mode") != "" || h.Get("Sec-Fetch-Site") != "" || h.Get("Sec-Fetch-Dest") != ""
}

func (x *exchange) robots() { x.plain(http.StatusOK, "User-agent: *\nDisallow: /") }
