package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"time"
)

const (
	cookieName  = "__Host-lotse" // the prefix holds it to this host, the whole of it, and TLS (RFC 6265bis §4.1.3.2)
	cookieLife  = 30 * 24 * time.Hour
	cookieBytes = 8 + sha256.Size // when it ends, and the proof
	cookiesMost = 4               // of our name in one request that are looked at
)

// newCookie is a sign-in until then. Nobody keeps a list: the key is what it is worth.
func (g *gate) newCookie(until time.Time) *http.Cookie {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, cookieBytes), uint64(until.Unix()))
	proof := g.proof(value)
	return &http.Cookie{Name: cookieName, Value: base64.RawURLEncoding.EncodeToString(append(value, proof[:]...)), Path: "/",
		MaxAge: int(cookieLife / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func (g *gate) proof(until []byte) [sha256.Size]byte {
	return sum(g.Key, "lotse sign-in", g.site, string(until))
}

// signedIn reports whether one of the request's cookies is a sign-in that has not ended.
func (g *gate) signedIn(h http.Header, now time.Time) bool {
	looked := 0
	for _, line := range h["Cookie"] {
		for value := range cookiesOf(line) {
			if looked++; looked > cookiesMost {
				return false
			}
			if g.holds(value, now) {
				return true
			}
		}
	}
	return false
}

func (g *gate) holds(value string, now time.Time) bool {
	var raw [cookieBytes]byte
	if base64.RawURLEncoding.DecodedLen(len(value)) != cookieBytes {
		return false
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(value)); err != nil || n != cookieBytes {
		return false
	}
	want := g.proof(raw[:8])
	until := binary.BigEndian.Uint64(raw[:8])
	return subtle.ConstantTimeCompare(want[:], raw[8:]) == 1 && uint64(now.Unix()) < until
}

// cookiesOf yields the values of our cookie in one Cookie field.
func cookiesOf(line string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for pair := range strings.SplitSeq(line, ";") {
			if value, ours := ourCookie(pair); ours && !yield(value) {
				return
			}
		}
	}
}

func ourCookie(pair string) (value string, ours bool) {
	name, value, _ := strings.Cut(pair, "=")
	return strings.Trim(value, " \t\""), strings.Trim(name, " \t") == cookieName
}

// withoutCookie is a request's Cookie fields without ours. What has none of them is returned as it is.
func withoutCookie(lines []string) []string {
	var kept []string
	for i, line := range lines {
		if !strings.Contains(line, cookieName) {
			if kept != nil {
				kept = append(kept, line)
			}
			continue
		}
		if kept == nil {
			kept = append(make([]string, 0, len(lines)), lines[:i]...)
		}
		if line = withoutOurs(line); line != "" {
			kept = append(kept, line)
		}
	}
	if kept == nil {
		return lines
	}
	return kept
}

func withoutOurs(line string) string {
	var rest []string
	for pair := range strings.SplitSeq(line, ";") {
		if _, ours := ourCookie(pair); !ours {
			rest = append(rest, strings.TrimLeft(pair, " \t"))
		}
	}
	return strings.Join(rest, "; ")
}
