package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/lotse-eu/lotse/internal/secret"
)

// After ten wrong passwords in a minute even the right one is not looked at, and the guesser cannot tell; who is signed in does not
// notice. A program that repeats one mistake shuts nobody out.
func TestGuessingIsSlow(t *testing.T) {
	var ahead atomic.Int64
	h := newHarbour(t, func(c *Config) { c.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	closed(t, h)
	c := h.client("HTTP/2.0")
	for range 3 * attemptsMost {
		resp, _ := h.get(c, api, basic("the same mistake"))
		mustBe(t, "repeated", resp.StatusCode, 401)
	}
	_, cookie, _ := h.signIn(c, url.Values{"password": {password}})
	for i := range attemptsMost - 1 {
		resp, _, body := h.signIn(c, url.Values{"password": {"wrong"}}, browser)
		mustBe(t, fmt.Sprintf("wrong password %d", i), resp.StatusCode, 401)
		mustSay(t, "the page", body, `role="alert"`)
	}
	for _, p := range []string{"a new guess", password} {
		resp, cookie, body := h.signIn(c, url.Values{"password": {p}}, browser)
		mustBe(t, "status", resp.StatusCode, 429)
		mustBe(t, "cookie", cookie == nil, true)
		mustSay(t, "the page", body, "too many")
		if after := resp.Header.Get("Retry-After"); after == "" || len(after) > 2 {
			t.Errorf("Retry-After: %q", after)
		}
		resp, _ = h.get(c, api, basic(p))
		mustBe(t, "by Basic", resp.StatusCode, 429)
	}
	resp, _ := h.get(c, api, signedInWith(cookie))
	mustBe(t, "who is signed in", resp.StatusCode, 200)
	ahead.Store(int64(attemptTime + time.Second))
	resp, _ = h.get(c, api, basic(password))
	mustBe(t, "a minute later", resp.StatusCode, 200)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.SplitSeq(strings.TrimSpace(h.access.String()), "\n") {
		var l written
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		counts[fmt.Sprint(l.Service, " ", l.Endpoint, " ", l.Status)]++
	}
	for what, want := range map[string]int{"lotse /.lotse/sign-in 401": attemptsMost - 1, "lotse /.lotse/sign-in 429": 2, "lotse /.lotse/sign-in 303": 1,
		"lotse /api/boats 429": 2, "lotse /api/boats 401": 3 * attemptsMost, "web /api/boats 200": 2} {
		mustBe(t, what, counts[what], want)
	}
	for _, text := range []string{h.access.String(), h.logs.String()} {
		for _, secret := range []string{password, "wrong", "mistake", "127.0.0.1", cookie.Value} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in a log", secret)
			}
		}
	}
	all := h.server.stats().Services
	at := slices.IndexFunc(all, func(s ServiceStats) bool { return s.Service == gateService })
	mustBe(t, "counted", all[at].Status4x, uint64(3*attemptsMost+attemptsMost-1+4))
	web := slices.IndexFunc(all, func(s ServiceStats) bool { return s.Service == "web" })
	mustBe(t, "counted as the app's errors", all[web].Status4x, uint64(0))
}

// Many at once get no more looks than many in a row, and the right password of many at once opens for all.
func TestGuessingAtOnce(t *testing.T) {
	h := newHarbour(t)
	closed(t, h)
	at := func(password func(i int) string) map[int]int {
		var mu sync.Mutex
		var all sync.WaitGroup
		seen := map[int]int{}
		c := h.client("HTTP/2.0")
		for i := range 40 {
			all.Go(func() {
				resp, _, err := h.tryGet(c, api, basic(password(i)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[resp.StatusCode]++
			})
		}
		all.Wait()
		return seen
	}
	mustBe(t, "the right one", fmt.Sprint(at(func(int) string { return password })), "map[200:40]")
	mustBe(t, "guesses", fmt.Sprint(at(func(i int) string { return fmt.Sprint("guess ", i) })), fmt.Sprintf("map[401:%d 429:%d]", attemptsMost, 40-attemptsMost))
}

func TestLocksThatCannotClose(t *testing.T) {
	h := newHarbour(t)
	good := lock(t)
	for name, p := range map[string]*Private{"empty": {}, "no verifier": {Key: good.Key}, "short key": {Verifier: good.Verifier, Key: good.Key[1:]},
		"too costly": {Verifier: strings.Replace(good.Verifier, "$04$", "$31$", 1), Key: good.Key}} {
		s := site(1, "a", "127.0.0.1:1")
		s.Private = p
		mustErr(t, name, h.steer.Put(t.Context(), s), ErrInvalid)
	}
	_, err := NewPrivate(secret.Text{}, 0)
	mustErr(t, "no password", err, ErrInvalid)
	mustBe(t, "the password", good.Opens(secret.New(password)), true)
	long := strings.Repeat("x", 100)
	p, err := NewPrivate(secret.New(long), 0)
	mustErr(t, "a long password", err, nil)
	cost, err := bcrypt.Cost([]byte(p.Verifier))
	mustBe(t, "the cost of a look", fmt.Sprint(cost, err), "10 <nil>")
	mustBe(t, "its beginning", p.Opens(secret.New(long[:72])), false)
	mustBe(t, "all of it", p.Opens(secret.New(long)), true)
}

// What is left of a Cookie field is what others put there, and never ours; and nothing but a cookie with a proof opens.
func FuzzCookies(f *testing.F) {
	for _, line := range []string{"a=b; __Host-lotse=x; c=d", "__Host-lotse=x", "__Host-lotse", ";;__Host-lotse = x ;", "a=__Host-lotse=x", `__Host-lotse="x"`, "=", "\t__Host-lotse=x"} {
		f.Add(line)
	}
	g := &gate{Private: Private{Key: make([]byte, keyBytes)}, site: "shop/dev"}
	good := g.newCookie(time.Unix(2000, 0)).Value
	f.Fuzz(func(t *testing.T, line string) {
		if g.signedIn(http.Header{"Cookie": {line}}, time.Unix(1000, 0)) && !strings.Contains(line, good) {
			t.Errorf("%q opens", line)
		}
		left := withoutCookie([]string{line, "kept=1"})
		for _, l := range left {
			for range cookiesOf(l) {
				t.Errorf("%q is left of %q", l, line)
			}
		}
		if len(left) == 0 || left[len(left)-1] != "kept=1" {
			t.Errorf("of %q is left %q", line, left)
		}
		others := func(line string) (all []string) {
			for pair := range strings.SplitSeq(line, ";") {
				if _, ours := ourCookie(pair); !ours {
					all = append(all, strings.TrimLeft(pair, " \t"))
				}
			}
			return all
		}
		if was, now := others(line), others(left[0]); len(left) == 2 && !slices.Equal(was, now) {
			t.Errorf("of %q is left %q", was, now)
		}
	})
}

// BenchmarkGate is what a request costs within the handler: of an open site, and of a private one by cookie and by Basic.
func BenchmarkGate(b *testing.B) {
	addr := instance(b, echoNothing)
	h := newHarbour(b, func(c *Config) { c.AccessLog = io.Discard })
	s := site(1, "a", addr)
	h.put(s)
	s.Key, s.Hosts, s.Private = "shop/closed", []string{"closed.localhost"}, lock(b)
	h.put(s)
	cookie := h.server.table.Load().sites["shop/closed"].gate.newCookie(time.Now().Add(time.Hour))
	for _, c := range []struct {
		name, host string
		edit       func(*http.Request)
	}{
		{"open", host, func(r *http.Request) { r.Header.Set("Cookie", "a=b") }},
		{"cookie", "closed.localhost", func(r *http.Request) { r.Header.Set("Cookie", "a=b; "+cookieName+"="+cookie.Value) }},
		{"basic", "closed.localhost", basic(password)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+c.host+"/", http.NoBody)
				r.RemoteAddr, r.RequestURI = "127.0.0.1:1", "/"
				c.edit(r)
				w := &sink{header: http.Header{}}
				h.server.ServeHTTP(w, r)
				if w.header.Get("Lotse-Release") == "" {
					b.Fatal("not the app")
				}
			}
		})
	}
	g := h.server.table.Load().sites["shop/closed"].gate
	header := http.Header{"Cookie": {"a=b; " + cookieName + "=" + cookie.Value}}
	b.Run("only the cookie", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !g.signedIn(header, time.Now()) || len(withoutCookie(header["Cookie"])) != 1 {
				b.Fatal("not signed in")
			}
		}
	})
}

func echoNothing(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
