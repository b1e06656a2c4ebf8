package awsfake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// pages is what the function of a template does, of which the host and the services are read; the rest is done here once more. That it is
// the same is tried with Node.js, by those who use it.
type pages struct {
	host     string
	services []pagesService // the longest path first
}

type pagesService struct{ Path, Fallback string }

var (
	pagesHost     = regexp.MustCompile(`(?m)^const host = ("[^"]*");`)
	pagesServices = regexp.MustCompile(`(?m)^const services = (\[.*\]);`)
)

// readPages reads a program; none leaves requests as they are.
func readPages(program string) (p pages, err error) {
	if program == "" {
		return p, nil
	}
	host, services := pagesHost.FindStringSubmatch(program), pagesServices.FindStringSubmatch(program)
	if host == nil || services == nil {
		return p, fmt.Errorf("the function is not the one that the fake of CloudFront knows")
	}
	if err = json.Unmarshal([]byte(host[1]), &p.host); err == nil {
		err = json.Unmarshal([]byte(services[1]), &p.services)
	}
	return p, err
}

// rewrite is the path that is asked for in place of uri, or where the request is sent to.
func (p pages) rewrite(host, uri, query string) (path, location string) {
	if p.host != "" && host != p.host {
		if query != "" {
			query = "?" + query
		}
		return "", "https://" + p.host + uri + query
	}
	if strings.Contains(uri[strings.LastIndexByte(uri, '/'):], ".") {
		return uri, ""
	}
	for _, s := range p.services {
		if uri != s.Path && s.Path != "/" && !strings.HasPrefix(uri, s.Path+"/") {
			continue
		}
		if root := uri == s.Path || uri == s.Path+"/"; s.Fallback != "" && !root {
			return s.Fallback, ""
		} else if root || uri[len(uri)-1] == '/' {
			return strings.TrimSuffix(uri, "/") + "/index.html", ""
		}
		return uri + ".html", ""
	}
	return uri, ""
}

// ServeHTTP answers as the edge of the distribution. It is stricter than CloudFront in one thing: whatever it has answered it answers again
// until an invalidation is complete, also where the file says no-cache, so that a forgotten invalidation shows.
func (d *Distribution) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	for name, value := range d.Headers {
		rw.Header().Set(name, value)
	}
	rw.Header().Set("Via", "1.1 fake.cloudfront.net (CloudFront)")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(rw, "This distribution is not configured to allow the HTTP request method that was used for this request.", http.StatusForbidden)
		return
	}
	host, _, _ := strings.Cut(r.Host, ":") // with or without a port
	path, location := d.pages.rewrite(host, r.URL.EscapedPath(), r.URL.RawQuery)
	if location != "" {
		rw.Header().Set("Location", location)
		rw.WriteHeader(http.StatusMovedPermanently)
		return
	}
	if path == "/" {
		path += d.Root
	}
	path = unescape(path)
	d.mu.Lock()
	answer, hit := d.kept[path]
	if !hit {
		answer = d.origin(path)
		d.kept[path] = answer
	}
	d.mu.Unlock()
	maps.Copy(rw.Header(), answer.header)
	rw.Header().Set("X-Cache", map[bool]string{true: "Hit from cloudfront", false: "Miss from cloudfront"}[hit])
	rw.Header().Set("Content-Length", fmt.Sprint(len(answer.body)))
	rw.WriteHeader(answer.status)
	if r.Method == http.MethodGet {
		_, _ = rw.Write(answer.body) // who has gone away reads no answer
	}
}

// origin asks the bucket, as one that may list it: what is not there is 404.
func (d *Distribution) origin(path string) keptAnswer {
	key := strings.TrimPrefix(path, "/")
	for _, begin := range d.Denied {
		if strings.HasPrefix(key, begin) {
			return s3Refusal(http.StatusForbidden, "AccessDenied")
		}
	}
	d.w.objects.mu.RLock()
	defer d.w.objects.mu.RUnlock()
	object, err := d.w.objects.backend.GetObject(d.Bucket, key, nil)
	if err != nil {
		return s3Refusal(http.StatusNotFound, "NoSuchKey")
	}
	defer object.Contents.Close()
	body, err := io.ReadAll(object.Contents)
	if err != nil {
		return s3Refusal(http.StatusInternalServerError, "InternalError")
	}
	header := http.Header{"Etag": {fmt.Sprintf(`"%x"`, object.Hash)}}
	for from, to := range map[string]string{"Content-Type": "Content-Type", heldCacheControl: "Cache-Control"} {
		if value := object.Metadata[from]; value != "" {
			header.Set(to, value)
		}
	}
	return keptAnswer{http.StatusOK, header, body}
}

func s3Refusal(status int, code string) keptAnswer {
	return keptAnswer{status, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>" + code + "</Code></Error>")}
}

func unescape(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// Rewrite is the path that the fake's edge asks a bucket for, where services stand in the function of a template.
func Rewrite(services, uri string) string {
	p, err := readPages("const host = \"\";\nconst services = " + services + ";")
	if err != nil {
		return err.Error()
	}
	path, _ := p.rewrite("", uri, "") // without a host nothing is sent elsewhere
	return path
}
