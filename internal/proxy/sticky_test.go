package proxy

import (
	"net/http"
	"net/http/cookiejar"
	"testing"
)

// sharing is a site of two releases, the second of which has this share.
func sharing(fence int64, share int, one, two string) Site {
	s := site(fence, "one", one)
	s.Releases[0].Share = 100 - share
	s.Releases = append(s.Releases, release("two", share, two))
	return s
}

// A share that grows keeps those who had it; who is given back goes to the old release; what a browser keeps is no release and nobody.
func TestPagesStayWithTheirRelease(t *testing.T) {
	h := newHarbour(t)
	one := instance(t, func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "app", Value: "1", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}) // the app's own stay what they are
	})
	two := instance(t, says("two"))
	h.put(sharing(1, 20, one, two))
	page := headers("Accept: text/html")
	browsers := make([]*http.Client, 100)
	first := map[string]int{}
	mine := make([]string, len(browsers))
	for i := range browsers {
		browsers[i] = h.client("HTTP/1.1")
		browsers[i].Jar, _ = cookiejar.New(nil)
		resp, _ := h.get(browsers[i], "https://"+host+"/", page)
		mine[i] = resp.Header.Get("Lotse-Release")
		first[mine[i]]++
		for _, c := range resp.Cookies() {
			if c.Name == placeCookie && (len(c.Value) > 2 || !c.Secure || !c.HttpOnly || c.Path != "/" || c.MaxAge <= 0) {
				t.Errorf("the cookie is %v", c)
			}
		}
	}
	mustBe(t, "pages of the new one", first["label-two"], 20)
	again := func(fence int64, share int, want func(i int, now string) bool) {
		t.Helper()
		h.put(sharing(fence, share, one, two))
		for i, b := range browsers {
			resp, _ := h.get(b, "https://"+host+"/chunk.js")
			if now := resp.Header.Get("Lotse-Release"); !want(i, now) {
				t.Errorf("with %d %%, browser %d, whose page was of %s, is answered by %s", share, i, mine[i], now)
			}
			if kept := resp.Header.Values("Set-Cookie"); len(kept) > 1 {
				t.Errorf("it is told again to keep %v", kept)
			}
		}
	}
	again(2, 20, func(i int, now string) bool { return now == mine[i] })
	again(3, 60, func(i int, now string) bool { return now == mine[i] || now == "label-two" })
	again(4, 0, func(_ int, now string) bool { return now == "label-one" })
}

func TestWhoIsToldToStay(t *testing.T) {
	h := newHarbour(t)
	one, two := instance(t, says("one")), instance(t, says("two"))
	ask := func(edits ...func(*http.Request)) string {
		resp, _ := h.get(h.client("HTTP/1.1"), "https://"+host+"/", edits...)
		return resp.Header.Get("Set-Cookie")
	}
	h.put(site(1, "one", one))
	mustBe(t, "a page of the only release", ask(headers("Accept: text/html")), "")
	h.put(sharing(2, 50, one, two))
	mustSay(t, "a page", ask(headers("Accept: text/html")), placeCookie+"=")
	mustBe(t, "a call", ask(), "")
	mustBe(t, "a script of a page", ask(headers("Accept: */*", "Sec-Fetch-Mode: no-cors")), "")
	for _, wrong := range []string{"100", "-1", "x", "", "12abc"} {
		mustSay(t, "a page with "+wrong, ask(headers("Accept: text/html", "Cookie: a=b; "+placeCookie+"="+wrong)), placeCookie+"=")
	}
}
