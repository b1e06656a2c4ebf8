package proxy

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFilesOfReleasesThatHaveEnded finds chunks of three releases, until their time is over; never pages, and nothing by Reach.
func TestFilesOfReleasesThatHaveEnded(t *testing.T) {
	clock := newTick()
	h := newHarbour(t, func(c *Config) { c.Clock = clock.now })
	files := func(n string) *Static {
		return staticDir(t, map[string]string{"index.html": "page " + n, "only-" + n + ".html": "page", "assets/app-abcdef0" + n + ".js": "chunk " + n, "plain.txt": n}, "index.html")
	}
	one, two := files("1"), files("2")
	ended := func(id string, s *Static, left time.Duration) Release {
		r := staticRelease(id, 0, s)
		r.Until = clock.now().Add(left)
		return r
	}
	s := staticSite(1, "three", files("3"))
	s.Releases = append(s.Releases, ended("two", two, 24*time.Hour), ended("one", one, 12*time.Hour))
	h.put(s)
	c := h.client("HTTP/1.1")
	status := func(what, path string, want int) string {
		t.Helper()
		resp, body := h.get(c, "https://"+host+path)
		mustBe(t, what, resp.StatusCode, want)
		return body
	}
	mustBe(t, "a chunk of release 1", status("of release 1", "/assets/app-abcdef01.js", 200), "chunk 1")
	mustBe(t, "a chunk of release 2", status("of release 2", "/assets/app-abcdef02.js", 200), "chunk 2")
	mustBe(t, "a page of release 1", status("a page", "/only-1", 200), "page 3") // the fallback of what serves
	status("a page by its name", "/only-1.html", 404)
	mustBe(t, "a name in all of them", status("a name in all", "/plain.txt", 200), "3")
	req, _ := http.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if resp, err := h.steer.Reach("shop/dev", "one").RoundTrip(req); err == nil {
		resp.Body.Close()
		t.Errorf("a release that has ended is reached")
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(two.Root); err != nil { // lost: no reason not to start
		t.Fatal(err)
	}
	h.start(nil)
	c = h.client("HTTP/1.1")
	clock.advance(12*time.Hour - time.Second)
	mustBe(t, "a chunk in the last second", status("of release 1", "/assets/app-abcdef01.js", 200), "chunk 1")
	clock.advance(time.Second)
	status("a chunk when its time is over", "/assets/app-abcdef01.js", 404)
	status("a chunk that is lost", "/assets/app-abcdef02.js", 404)
	h.put(s)
	s.Releases[1].Share, s.Releases[0].Share = 100, 0
	mustErr(t, "traffic for one that has ended", h.steer.Put(t.Context(), s), ErrInvalid)
}

// TestCallsNameTheirRelease shows that an API call may name a release that has served and is still there, as the page learns it.
func TestCallsNameTheirRelease(t *testing.T) {
	h := newHarbour(t)
	one, two, three := instance(t, says("one")), instance(t, says("two")), instance(t, says("three"))
	put := func(fence int64, shares map[string]int) {
		s := site(fence, "")
		s.Releases = nil
		for id, addr := range map[string]string{"aaaaaa1111": one, "bbbbbb2222": two, "cccccc3333": three} {
			if share, there := shares[id]; there {
				r := release(id, share, addr)
				r.Label = id
				s.Releases = append(s.Releases, r)
			}
		}
		h.put(s)
	}
	c := h.client("HTTP/2.0")
	answer := func(name string) string {
		t.Helper()
		_, body := h.get(c, "https://"+host+"/api", func(r *http.Request) {
			if name != "" {
				r.Header.Set("Lotse-For", name)
			}
		})
		return body
	}
	put(1, map[string]int{"aaaaaa1111": 100})
	put(2, map[string]int{"aaaaaa1111": 100, "bbbbbb2222": 0})
	mustBe(t, "for one that has not served yet", answer("bbbbbb2222"), "one")
	put(3, map[string]int{"aaaaaa1111": 0, "bbbbbb2222": 100, "cccccc3333": 0})
	for name, want := range map[string]string{"": "two", "aaaaaa1111": "one", "aaaaaa": "one", "sha256:aaaaaa1111ffff": "one", "aaaaa": "two",
		"bbbbbb2222": "two", "cccccc3333": "two", "nonsense": "two"} {
		mustBe(t, "for "+name, answer(name), want)
	}
	if err := h.stop(); err != nil { // it is remembered
		t.Fatal(err)
	}
	h.start(nil)
	c = h.client("HTTP/2.0")
	mustBe(t, "after a restart", answer("aaaaaa1111"), "one")
	put(4, map[string]int{"bbbbbb2222": 100})
	mustBe(t, "for one that is gone", answer("aaaaaa1111"), "two")

	resp, _ := h.get(c, "https://"+host+"/", func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "navigate") })
	mustBe(t, "what a page reads", resp.Header.Get("Server-Timing"), `lotse;desc="bbbbbb2222"`)
	resp, _ = h.get(c, "https://"+host+"/")
	if timing := resp.Header.Get("Server-Timing"); strings.Contains(timing, "lotse") {
		t.Errorf("a call is told %q", timing)
	}
}
