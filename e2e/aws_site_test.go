package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/load"
)

// page is an app of one static site: a page, and a chunk with its hash in its name.
func page(text, hash string) map[string]string {
	return map[string]string{
		"dist/index.html":                 "<!doctype html><script src=/assets/app-" + hash + ".js></script>" + text,
		"dist/assets/app-" + hash + ".js": "document.title = '" + text + "'",
		"dist/assets/vendor-4f3a91c2.js":  "of all releases",
		"lotse.yaml":                      "app: page\nservices: { site: { static: dist, fallback: index.html } }\nstages:\n  dev: { engine: aws, url: https://dev.page.example, access: open, stable: 100ms, watch: 100ms }\naws: { zone: page.example }\n",
	}
}

// An app of files alone goes into a bucket behind CloudFront, both FAKES: deploy, the next commit, and back, while pages are asked for.
func TestSiteOnAWS(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	repo := c.begin("page", page("one", "0a1b2c3d"))
	host := hostIn("page", "dev")
	serves := func(text string) {
		t.Helper()
		for _, path := range []string{"/", "/orders/17"} {
			if code, body := c.asked(host, path); code != http.StatusOK || !strings.HasSuffix(body, text) {
				t.Errorf("%s answers %d: %s, want %s", path, code, body, text)
			}
		}
	}
	c.timed(repo, "deploy")
	serves("one")

	h := c.loaded(load.Plan{URL: "https://" + host, Dial: c.world.Dialer(), TLS: c.world.TLS(), Paths: []string{"/", "/orders/17", "/assets/vendor-4f3a91c2.js", "/assets/app-0a1b2c3d.js"},
		Gets: 2, Fresh: 1, Pause: 10 * time.Millisecond})
	next := page("two", "9f8e7d6c")
	c.git(repo, "rm", "-q", "dist/assets/app-0a1b2c3d.js")
	c.commit(repo, next)
	c.timed(repo, "deploy")
	serves("two")
	c.more(h, 50)
	c.timed(repo, "rollback", "dev")
	serves("one")
	c.more(h, 50)
	report := h.Stop()
	t.Logf("a deploy and a rollback of files alone: %s", report.Summary())
	if report.Failed != 0 {
		t.Error("a request has failed")
	}
	if code, _ := c.asked(host, "/.lotse/serving.json"); code != http.StatusForbidden {
		t.Errorf("what Lotse keeps in the bucket is answered with %d", code)
	}
	if status := c.must(repo, "status"); !strings.Contains(status, "https://"+host) {
		t.Errorf("status does not show the stage:\n%s", status)
	}
	c.must(repo, "end", "dev", "--yes-end", "page/dev")
	if code, _ := c.asked(host, "/"); code != http.StatusNotFound {
		t.Errorf("a stage that was ended answers %d, want 404", code)
	}
	for _, call := range c.world.Calls() {
		if call.Service == "elasticbeanstalk" || call.Service == "elasticloadbalancing" {
			t.Errorf("files alone have asked for %s:%s", call.Service, call.Action)
		}
	}
}

// timed runs a command that must succeed, and logs how long it took.
func (c *cloud) timed(repo string, args ...string) {
	c.t.Helper()
	begun := time.Now()
	c.must(repo, args...)
	c.t.Logf("%s: %s", strings.Join(args, " "), time.Since(begun).Round(time.Millisecond))
}
