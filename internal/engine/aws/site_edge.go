package aws

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/bucket"
)

// edge answers requests from the files of one rollout as the distribution of the stack would if they were served: its function
// (templates/pages.js of package infra) with the services of the rollout, its policy of headers, the methods that it takes. It
// compresses nothing and answers ranges in full, which a server may.
type edge struct {
	s     *Site
	b     *bucket.Bucket
	note  siteNote
	files map[string]bucket.File // by path
}

func newEdge(s *Site, b *bucket.Bucket, note siteNote, index []bucket.File) *edge {
	e := &edge{s: s, b: b, note: note, files: map[string]bucket.File{}}
	for _, f := range index {
		e.files[f.Path] = f
	}
	return e
}

// RoundTrip implements http.RoundTripper.
func (e *edge) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	uri := req.URL.EscapedPath()
	if uri == "" {
		uri = "/"
	}
	switch {
	case req.URL.Hostname() != e.s.e.host:
		return e.moved(req, "https://"+e.s.e.host+uri), nil
	case req.URL.Scheme != "https":
		return e.moved(req, "https://"+req.URL.Host+uri), nil
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		return e.plain(req, http.StatusForbidden, "CloudFront takes GET and HEAD alone\n"), nil
	}
	name, err := url.PathUnescape(e.note.rewrite(uri))
	if err != nil {
		return e.plain(req, http.StatusBadRequest, "Bad Request\n"), nil //nolint:nilerr // it is the answer
	}
	f, there := e.files[strings.TrimPrefix(name, "/")]
	if !there {
		return e.plain(req, http.StatusNotFound, "NoSuchKey\n"), nil
	}
	return e.send(req, f)
}

// rewrite is what the function of the stack makes of a path.
func (n siteNote) rewrite(uri string) string {
	service := n.of(uri)
	if service.Path == "" || strings.Contains(uri[strings.LastIndex(uri, "/")+1:], ".") {
		return uri // a file, or what is not there
	}
	root := uri == service.Path || uri == service.Path+"/"
	switch {
	case service.Fallback != "" && !root:
		return service.Fallback
	case root || strings.HasSuffix(uri, "/"):
		return strings.TrimSuffix(uri, "/") + "/index.html"
	}
	return uri + ".html"
}

func (e *edge) send(req *http.Request, f bucket.File) (*http.Response, error) {
	resp := e.answer(req, http.StatusOK)
	resp.Header.Set("Content-Type", f.Type)
	resp.Header.Set("Cache-Control", f.CacheControl())
	resp.Header.Set("Etag", strconv.Quote(strings.TrimPrefix(f.Digest, "sha256:")))
	if strings.Contains(req.Header.Get("If-None-Match"), resp.Header.Get("Etag")) {
		resp.StatusCode, resp.Status = http.StatusNotModified, "304 Not Modified"
		return resp, nil
	}
	resp.Header.Set("Content-Length", strconv.FormatInt(f.Size, 10))
	resp.ContentLength = f.Size
	if req.Method == http.MethodHead {
		return resp, nil
	}
	body, err := e.b.Read(req.Context(), f)
	if err != nil {
		return nil, e.s.failed(req.Context(), "read "+f.Path, err)
	}
	resp.Body = body
	return resp, nil
}

// answer has the headers that the stack's policy gives to every answer.
func (e *edge) answer(req *http.Request, status int) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, Body: http.NoBody,
		Header: http.Header{
			"Strict-Transport-Security": {"max-age=31536000"},
			"X-Content-Type-Options":    {"nosniff"},
			"X-Frame-Options":           {"SAMEORIGIN"},
			"Referrer-Policy":           {"strict-origin-when-cross-origin"},
		}}
}

func (e *edge) plain(req *http.Request, status int, text string) *http.Response {
	resp := e.answer(req, status)
	resp.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp.ContentLength = int64(len(text))
	if req.Method != http.MethodHead {
		resp.Body = io.NopCloser(strings.NewReader(text))
	}
	return resp
}

func (e *edge) moved(req *http.Request, to string) *http.Response {
	if req.URL.RawQuery != "" {
		to += "?" + req.URL.RawQuery
	}
	resp := e.answer(req, http.StatusMovedPermanently)
	resp.Header.Set("Location", to)
	return resp
}

func escapedPath(file string) string { return (&url.URL{Path: "/" + file}).EscapedPath() }
