package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// staticDir writes files and their index. The index lies within the root, as releases have it.
func staticDir(t testing.TB, files map[string]string, fallback string) *Static {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := BuildIndex(os.DirFS(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	return writeIndex(t, dir, index, fallback)
}

func writeIndex(t testing.TB, dir string, index StaticIndex, fallback string) *Static {
	t.Helper()
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".lotse", "static", "web.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return &Static{Root: dir, Index: path, Fallback: fallback}
}

func staticSite(fence int64, id string, s *Static) Site {
	return Site{Key: "shop/dev", Fence: fence, Hosts: []string{host}, Releases: []Release{staticRelease(id, 100, s)}}
}

func staticRelease(id string, share int, s *Static) Release {
	return Release{ID: id, Label: "label-" + id, Share: share, Routes: []Route{{Prefix: "/", Service: "web", Static: s}}}
}

func TestStaticFiles(t *testing.T) {
	dir := staticDir(t, map[string]string{
		"index.html": "<home>", "about.html": "about", "docs/index.html": "docs", "assets/index-B7xA93kd.js": "js",
		"assets/index-B7xA93kd.js.br": "br!", "assets/index-B7xA93kd.js.gz": "gzip!", "logo.svg": "svg", "data.json": "{}",
		".env": "SECRET", ".well-known/security.txt": "security", "a b.txt": "space", "404.html": "lost"}, "index.html")
	h := newHarbour(t)
	h.put(staticSite(1, "a", dir))
	const js = "/assets/index-B7xA93kd.js"
	for _, c := range []struct {
		path, accept string
		want         string // status, body, type, cache, encoding
	}{
		{"/", "", "200 <home> text/html; charset=utf-8 no-cache -"},
		{"/about", "", "200 about text/html; charset=utf-8 no-cache -"},
		{"/docs/", "", "200 docs text/html; charset=utf-8 no-cache -"},
		{"/logo.svg", "", "200 svg image/svg+xml no-cache -"},
		{"/data.json", "", "200 {} application/json no-cache -"},
		{"/a%20b.txt", "", "200 space text/plain; charset=utf-8 no-cache -"},
		{"/.well-known/security.txt", "", "200 security text/plain; charset=utf-8 no-cache -"},
		{"/orders/17", "", "200 <home> text/html; charset=utf-8 no-cache -"},
		{js, "", "200 js text/javascript; charset=utf-8 " + cacheForever + " -"},
		{js, "gzip, br", "200 br! text/javascript; charset=utf-8 " + cacheForever + " br"},
		{js, "gzip", "200 gzip! text/javascript; charset=utf-8 " + cacheForever + " gzip"},
		{js, "br;q=0.1, gzip;q=0.9", "200 gzip! text/javascript; charset=utf-8 " + cacheForever + " gzip"},
		{js, "br;q=0, gzip;q=0", "200 js text/javascript; charset=utf-8 " + cacheForever + " -"},
		{js, "identity, br;q=0.5", "200 js text/javascript; charset=utf-8 " + cacheForever + " -"},
		{js, "*;q=0.3", "200 br! text/javascript; charset=utf-8 " + cacheForever + " br"},
		{js, "GZIP ; q=1.0", "200 gzip! text/javascript; charset=utf-8 " + cacheForever + " gzip"},
		{js + ".br", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/assets/index-00000000.js", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/assets/gone", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/missing.png", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/.env", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/.lotse/static/web.json", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/docs/../.env", "", "404 lost text/html; charset=utf-8 no-cache -"},
		{"/%2e%2e/%2e%2e/etc/passwd.txt", "", "404 lost text/html; charset=utf-8 no-cache -"},
	} {
		resp, body := h.get(h.client("HTTP/2.0"), "https://"+host+c.path, func(r *http.Request) {
			if c.accept != "" {
				r.Header.Set("Accept-Encoding", c.accept)
			}
		})
		encoding := resp.Header.Get("Content-Encoding")
		if encoding == "" {
			encoding = "-"
		}
		mustBe(t, c.path+" "+c.accept, fmt.Sprint(resp.StatusCode, " ", body, " ", resp.Header.Get("Content-Type"), " ",
			resp.Header.Get("Cache-Control"), " ", encoding), c.want)
		if c.path == js {
			mustBe(t, "Vary", resp.Header.Get("Vary"), "Accept-Encoding")
		}
	}
	resp, _ := h.get(h.client("HTTP/1.1"), "https://"+host+"/docs?x=1")
	mustBe(t, "directory", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location")), "308/docs/?x=1")
	resp, _ = h.get(h.client("HTTP/1.1"), "https://"+host+"//docs")
	mustBe(t, "no other host", resp.Header.Get("Location"), "/docs/")
}

func TestStaticConditionsAndRanges(t *testing.T) {
	h := newHarbour(t)
	h.put(staticSite(1, "a", staticDir(t, map[string]string{"f.txt": "0123456789", "f.txt.gz": "gzipgzip"}, "")))
	bothProtocols(t, func(t *testing.T, protocol string) {
		c := h.client(protocol)
		ask := func(method string, headers ...string) (*http.Response, string) {
			resp, body := h.get(c, "https://"+host+"/f.txt", func(r *http.Request) {
				r.Method = method
				for i := 0; i < len(headers); i += 2 {
					r.Header.Set(headers[i], headers[i+1])
				}
			})
			return resp, body
		}
		plain, _ := ask("GET")
		tag := plain.Header.Get("Etag")
		mustBe(t, "length", plain.ContentLength, int64(10))
		zipped, _ := ask("GET", "Accept-Encoding", "gzip")
		mustBe(t, "length of gzip", zipped.ContentLength, int64(8))
		mustBe(t, "tags differ by encoding", zipped.Header.Get("Etag") != tag && tag != "", true)
		resp, body := ask("GET", "If-None-Match", `"x", `+tag)
		mustBe(t, "If-None-Match", fmt.Sprint(resp.StatusCode, body, resp.Header.Get("Etag") == tag), "304true")
		resp, body = ask("GET", "If-None-Match", tag, "Accept-Encoding", "gzip")
		mustBe(t, "If-None-Match of the other encoding", fmt.Sprint(resp.StatusCode, body), "200gzipgzip")
		resp, body = ask("GET", "Range", "bytes=2-4", "If-Range", tag)
		mustBe(t, "Range", fmt.Sprint(resp.StatusCode, body, resp.Header.Get("Content-Range")), "206234bytes 2-4/10")
		resp, body = ask("GET", "Range", "bytes=2-4", "If-Range", `"old"`)
		mustBe(t, "Range of another version", fmt.Sprint(resp.StatusCode, body), "2000123456789")
		resp, body = ask("GET", "Range", "bytes=-2", "Accept-Encoding", "gzip")
		mustBe(t, "Range of gzip", fmt.Sprint(resp.StatusCode, body, resp.ContentLength), "206ip2")
		resp, _ = ask("GET", "Range", "bytes=20-")
		mustBe(t, "Range behind the end", resp.StatusCode, 416)
		resp, body = ask("HEAD")
		mustBe(t, "HEAD", fmt.Sprint(resp.StatusCode, body, resp.ContentLength), "20010")
		resp, _ = ask("POST")
		mustBe(t, "POST", fmt.Sprint(resp.StatusCode, resp.Header.Get("Allow")), "405GET, HEAD")
	})
}

// Even an index that names them does not open links out of the root, dotfiles, directories or devices.
func TestNothingLeadsOutOfTheRoot(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside.txt")
	if err := os.WriteFile(outside, []byte("SECRET"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for link, to := range map[string]string{"link.txt": outside, "up.txt": "../" + filepath.Base(filepath.Dir(outside)) + "/outside.txt", "in.txt": "real.txt"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"real.txt": "fine", ".env": "SECRET"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.txt"), 0o755); err != nil {
		t.Fatal(err)
	}
	forged := StaticIndex{Files: map[string]StaticFile{}}
	for _, name := range []string{"link.txt", "up.txt", "in.txt", ".env", "dir.txt", "../outside.txt", "gone.txt"} {
		forged.Files[name] = StaticFile{Type: "text/plain", Digest: "sha256:00"}
	}
	h := newHarbour(t)
	h.put(staticSite(1, "a", writeIndex(t, dir, forged, "")))
	for path, want := range map[string]int{"/link.txt": 404, "/up.txt": 404, "/in.txt": 200, "/.env": 404, "/dir.txt": 404,
		"/../outside.txt": 404, "/gone.txt": 404} {
		resp, body := h.get(h.client("HTTP/1.1"), "https://"+host+path)
		mustBe(t, path, resp.StatusCode, want)
		if strings.Contains(body, "SECRET") {
			t.Errorf("%s answered with %q", path, body)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	index, err := BuildIndex(root.FS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "files in the index", fmt.Sprint(len(index.Files), index.Files["in.txt"].Size, index.Files["real.txt"].Size), "2 4 4")
}

// A release that is removed does not break an answer in flight.
func TestFilesOfARemovedReleaseAreSentToTheEnd(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		big := strings.Repeat("0123456789", 2_000_000) // more than buffers hold
		dir := staticDir(t, map[string]string{"big.bin": big}, "")
		h := newHarbour(t)
		h.put(staticSite(1, "a", dir))
		resp, err := h.client(protocol).Get("https://" + host + "/big.bin")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := os.RemoveAll(dir.Root); err != nil {
			t.Fatal(err)
		}
		if err := h.steer.Remove(t.Context(), "shop/dev", 1); err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		mustBe(t, "file", fmt.Sprint(string(body) == big, err), "true <nil>")
	})
}

// A page that was loaded before the shift finds its assets after it; unhashed files are the new release's alone.
func TestOldTabsFindTheirAssets(t *testing.T) {
	h := newHarbour(t)
	old := staticDir(t, map[string]string{"assets/old-B7xA93kd.js": "old", "old.txt": "old", "index.html": "old"}, "")
	s := staticSite(1, "b", staticDir(t, map[string]string{"index.html": "new"}, ""))
	s.Releases = append(s.Releases, staticRelease("a", 0, old))
	h.put(s)
	resp, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/assets/old-B7xA93kd.js")
	mustBe(t, "old asset", fmt.Sprint(resp.StatusCode, body, resp.Header.Get("Lotse-Release")), "200oldlabel-a")
	resp, _ = h.get(h.client("HTTP/1.1"), "https://"+host+"/old.txt")
	mustBe(t, "old file", resp.StatusCode, 404)
	_, body = h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "page", body, "new")
	mustBe(t, "references left", h.flight("a").refs.Load(), int64(0))
}

func TestImmutableNames(t *testing.T) {
	for name, want := range map[string]bool{
		"assets/index-B7xA93kd.js": true, "assets/index-DgfxkP_d.css": true, "assets/vendor.a1b2c3d4.js": true, "assets/logo.svg": false,
		"assets/my-component.js": false, "_next/static/chunks/main-0123456789abcdef.js": true, "_next/static/Xy12/_buildManifest.js": true,
		"static/js/main.8f3d2c1a.js": true, "static/js/main.js": false, "static/hand-written.css": false, "_astro/page.BxY3kz9Q.css": true,
		"index-B7xA93kd.html": false, "index.html": false, "_app/immutable/entry/start.js": true, "fonts/a.woff2": false,
		"img/x.png": false, "img/deep/y.png": true, "assets/information-architecture.js": false,
	} {
		mustBe(t, name, IsImmutable(name, []string{"img/deep/*", "fonts/**/hashed/*.woff2"}), want)
	}
	mustBe(t, "**", IsImmutable("fonts/x/y/hashed/a.woff2", []string{"fonts/**/hashed/*.woff2"}), true)
	mustBe(t, "** as nothing", IsImmutable("fonts/hashed/a.woff2", []string{"fonts/**/hashed/*.woff2"}), true)
}

func TestIndexIsComplete(t *testing.T) {
	index, err := BuildIndex(fstest.MapFS{"a.js": {Data: []byte("abc")}, "a.js.br": {Data: []byte("x")}, "b.tar.gz": {Data: []byte("y")},
		".git/config": {Data: []byte("z")}, "c/.htaccess": {Data: []byte("z")}, "c/d.unknown": {Data: []byte("z")}}, []string{"a.js"})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "files", len(index.Files), 3)
	mustBe(t, "a.js", index.Files["a.js"], StaticFile{Type: "text/javascript; charset=utf-8", Size: 3, Immutable: true, Br: true,
		Digest: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"})
	mustBe(t, "b.tar.gz", index.Files["b.tar.gz"].Type, "application/gzip")
	mustBe(t, "d.unknown", index.Files["c/d.unknown"].Type, "application/octet-stream")
}
