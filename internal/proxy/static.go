package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheAsk     = "no-cache"
)

// files are the files of one static service. The index says which there are; os.Root sees to it that no name and no link
// leads out. A file that is being sent stays readable when the release is removed meanwhile: it is open.
type files struct {
	root     *os.Root
	index    StaticIndex
	fallback string
}

func openFiles(s Static) (*files, error) {
	data, err := os.ReadFile(s.Index)
	if err != nil {
		return nil, fmt.Errorf("%w: the index of static files: %w", ErrInvalid, err)
	}
	f := &files{fallback: strings.TrimPrefix(s.Fallback, "/")}
	if err := json.Unmarshal(data, &f.index); err != nil {
		return nil, fmt.Errorf("%w: the index of static files: %w", ErrInvalid, err)
	}
	if f.root, err = os.OpenRoot(s.Root); err != nil {
		return nil, fmt.Errorf("%w: the root of static files: %w", ErrInvalid, err)
	}
	return f, nil
}

// found is what a path leads to.
type found struct {
	name     string
	redirect bool // a directory was asked for without the slash that its relative links need
	fallback bool
}

// find looks a request path up: the file itself, the page of that name, the index of that directory, the fallback.
func (f *files) find(urlPath string) (found, bool) {
	clean := path.Clean("/" + urlPath)
	name := clean[1:]
	if hidden(name) {
		return found{}, false
	}
	slash := strings.HasSuffix(urlPath, "/")
	if !slash {
		if f.has(name) {
			return found{name: name}, true
		}
		if f.has(name + ".html") {
			return found{name: name + ".html"}, true
		}
	}
	if inner := path.Join(name, "index.html"); f.has(inner) {
		return found{name: inner, redirect: !slash && name != ""}, true
	}
	if f.fallback != "" && f.has(f.fallback) && !looksLikeAsset(name) {
		return found{name: f.fallback, fallback: true}, true
	}
	return found{}, false
}

func (f *files) has(name string) bool {
	_, ok := f.index.Files[name]
	return ok
}

// hidden reports whether a segment begins with a dot: .env and .lotse are nobody's business.
func hidden(name string) bool {
	for segment := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(segment, ".") && segment != ".well-known" {
			return true
		}
	}
	return false
}

// looksLikeAsset tells a missing file from a page of a single-page app: it has an extension, or lies where hashed files do.
func looksLikeAsset(name string) bool {
	return path.Ext(name) != "" || hashedDir(name)
}

func (x *exchange) serveFile() {
	f := x.route.files
	if f == nil {
		x.unavailable("the files of this release cannot be read")
		return
	}
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.Header().Set("Allow", "GET, HEAD")
		x.plain(http.StatusMethodNotAllowed, "files are read only")
		return
	}
	hit, ok := f.find(x.r.URL.Path)
	switch {
	case ok && hit.redirect:
		to := path.Clean("/"+x.r.URL.Path) + "/"
		x.redirect(withQuery((&url.URL{Path: to}).EscapedPath(), x.r.URL.RawQuery))
	case ok:
		x.sendFile(f, hit)
	case !x.oldAsset():
		x.notFound(f)
	}
}

// oldAsset looks for an immutable file in the site's other releases: a page loaded before the shift still wants it.
func (x *exchange) oldAsset() bool {
	name := strings.TrimPrefix(path.Clean("/"+x.r.URL.Path), "/")
	for _, r := range x.entry.site.releases {
		route := r.match(x.r.URL.Path)
		if r.flight == x.flight || route == nil || route.files == nil || !route.files.index.Files[name].Immutable || hidden(name) || isEntry(name) {
			continue
		}
		if !r.until.IsZero() && !x.server.cfg.Clock().Before(r.until) {
			continue
		}
		r.refs.Add(1)
		if x.server.table.Load().sites[x.entry.site.Key] != x.entry.site {
			r.refs.Add(-1)
			return false
		}
		r.flight.enter(x)
		defer r.flight.leave(x)
		x.Header()["Lotse-Release"] = []string{r.label}
		x.sendFile(route.files, found{name: name})
		return true
	}
	return false
}

// isEntry reports whether a file is a page: an old one would load an old app.
func isEntry(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".html" || ext == ".htm"
}

func (x *exchange) notFound(f *files) {
	const page = "404.html"
	x.Header().Set("Cache-Control", cacheAsk)
	if f.has(page) {
		if file, err := f.root.Open(page); err == nil {
			defer file.Close()
			x.Header().Set("Content-Type", f.index.Files[page].Type)
			x.WriteHeader(http.StatusNotFound)
			if x.r.Method != http.MethodHead {
				_, _ = x.ReadFrom(file)
			}
			return
		}
	}
	x.plain(http.StatusNotFound, "there is no such file")
}

// sendFile lets net/http answer conditions and ranges (RFC 9110 §13, §14) on the encoding that was chosen.
func (x *exchange) sendFile(f *files, hit found) {
	meta := f.index.Files[hit.name]
	h := x.Header()
	name, tag := hit.name, strings.TrimPrefix(meta.Digest, "sha256:")
	if meta.Br || meta.Gzip {
		h.Set("Vary", "Accept-Encoding")
	}
	encoding, suffix := meta.choose(x.r.Header.Values("Accept-Encoding"))
	file, err := f.root.Open(name + suffix)
	if err != nil {
		x.server.log.Warn("a file of a release is missing", "site", x.entry.site.Key, "release", x.flight.label)
		x.plain(http.StatusNotFound, "there is no such file")
		return
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil || !stat.Mode().IsRegular() {
		x.plain(http.StatusNotFound, "there is no such file")
		return
	}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
		h.Set("Content-Length", strconv.FormatInt(stat.Size(), 10))
		tag += "-" + encoding
	}
	h.Set("Content-Type", meta.Type)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Etag", `"`+tag+`"`)
	h.Set("Cache-Control", cacheAsk)
	if meta.Immutable && !hit.fallback {
		h.Set("Cache-Control", cacheForever)
	}
	http.ServeContent(x, x.r, "", time.Time{}, io.ReadSeeker(file))
}

// choose picks the encoding that the client likes best, br before gzip before none where it does not care (RFC 9110
// §12.5.3), and the suffix of its file.
func (m StaticFile) choose(accept []string) (encoding, suffix string) {
	if len(accept) == 0 {
		return "", ""
	}
	likes := qualities(strings.Join(accept, ","))
	like := func(name string, missing float64) float64 {
		if q, ok := likes[name]; ok {
			return q
		}
		if q, ok := likes["*"]; ok {
			return q
		}
		return missing
	}
	best := like("identity", 0.0001) // acceptable unless it is said otherwise, but only just
	if q := like("gzip", 0); m.Gzip && q > 0 && q >= best {
		encoding, suffix, best = "gzip", ".gz", q
	}
	if q := like("br", 0); m.Br && q > 0 && q >= best {
		encoding, suffix = "br", ".br"
	}
	return encoding, suffix
}

func qualities(accept string) map[string]float64 {
	likes := map[string]float64{}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		q := 1.0
		if key, value, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.EqualFold(strings.TrimSpace(key), "q") {
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil || !(q >= 0 && q <= 1) {
				q = 0
			}
		}
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			likes[name] = q
		}
	}
	return likes
}

func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}
