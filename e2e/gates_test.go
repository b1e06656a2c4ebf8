package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/pageload"
)

const smokeScript = `fetch(process.env.LOTSE_URL + "/").then(r => r.text()).then(text => {
	if (text.includes("boats")) return
	console.log("the page has no boats")
	process.exit(1)
})
`

// gatesFile is a site on private stages whose gates ask it by HTTP and by a command.
const gatesFile = `app: page
pipeline:
  site: { run: mkdir -p dist && cp index.html smoke.js dist/, makes: [dist] }
services:
  site: { static: dist }
gates:
  smoke:
    page: { get: /, contains: "<h1>" }
    boats: { run: node dist/smoke.js }
stages:
  dev:  { url: "https://dev.page.localhost", watch: 0s, stable: 50ms, warm: 1s, drain: 1s }
  prod: { url: "https://page.localhost", watch: 0s, stable: 50ms, warm: 1s, drain: 1s, access: open, gates: { page_load: 1.5s } }
`

// withBrowser is a machine on which pages are loaded.
func withBrowser(t *testing.T) *machine {
	t.Helper()
	program, err := pageload.Find("")
	if err != nil {
		t.Skip("NOT RUN: no Chromium is here, so that nothing was shown of the gate of page load")
	}
	m := machineIn(t, folder(t))
	m.env = append(m.env, "LOTSE_CHROMIUM="+program)
	m.serve()
	return m
}

// A release is asked by HTTP and by a command before anybody is sent to it, on a private stage without its password. What is not as
// expected keeps it from its traffic. Where nothing is enforced, a page's figures are evidence. Where page_load is enforced, and there is
// no browser, nothing is let in.
func TestGates(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	repo := m.repository(map[string]string{"lotse.yaml": gatesFile, "smoke.js": smokeScript, "index.html": "<h1>boats</h1>"})
	first := m.must(repo, "deploy")
	m.commit(repo, map[string]string{"index.html": "<h1>nothing</h1>"})
	r := m.lotse(repo, "deploy")
	if r.code != 1 || !strings.Contains(r.err+r.out, "smoke test boats: node dist/smoke.js ended with exit code 1") || !strings.Contains(r.err+r.out, "the page has no boats") {
		t.Errorf("a release without boats: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	m.commit(repo, map[string]string{"index.html": "boats"})
	r = m.lotse(repo, "deploy")
	if r.code != 1 || !strings.Contains(r.err+r.out, `smoke test page: GET / answered with status 200 and 5 bytes without the text "<h1>"`) {
		t.Errorf("a release without a heading: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if status := m.must(repo, "status"); !strings.Contains(status, "dev") || strings.Contains(status, "going") {
		t.Errorf("status:\n%s\nafter\n%s", status, first)
	}
	r = m.lotse(repo, "promote", "prod")
	if r.code != 1 || !strings.Contains(r.err, "page_load is to be within 1.5s") || !strings.Contains(r.err, "apt-get install -y chromium") {
		t.Errorf("without a browser: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	m.commit(repo, map[string]string{"index.html": "<h1>boats</h1>, again"})
	m.must(repo, "deploy")
}

// Where there is a browser, the figures of a page are evidence without anybody asking for them.
func TestPageLoadIsTold(t *testing.T) {
	t.Parallel()
	m := withBrowser(t)
	file := strings.Replace(gatesFile, "stable: 50ms", "stable: 1s", 1)
	repo := m.repository(map[string]string{"lotse.yaml": file, "smoke.js": smokeScript, "index.html": "<!doctype html><h1>boats</h1>"})
	m.must(repo, "deploy")
	id := m.newest().ID
	show := m.must(repo, "show", id)
	t.Log(show)
	for _, want := range []string{"page load: / load ", "one cold load, Chromium", "network 4g", "smoke test boats: node dist/smoke.js: exit code 0", "tls: dev.page.localhost: valid for 8", "disk: ", "variables: 0 set"} {
		if !strings.Contains(show, want) {
			t.Errorf("`lotse show` lacks %q:\n%s", want, show)
		}
	}
	shot := filepath.Join(m.state, "pageload", id, "page-1.png")
	if info, err := os.Stat(shot); err != nil || info.Mode().Perm() != 0o600 || info.Size() < 1000 {
		t.Errorf("the screenshot: %v %v", info, err)
	}
}

// A release with 3 s of blocking script is refused at prod's gate by the figure; the healthy one passes.
func TestPageLoadGate(t *testing.T) {
	provesOnly(t, "a slow page that the gate refuses with real processes")
	t.Parallel()
	m := withBrowser(t)
	repo := m.repository(map[string]string{"lotse.yaml": gatesFile, "smoke.js": smokeScript, "index.html": "<!doctype html><h1>boats</h1>"})
	m.must(repo, "deploy")
	m.must(repo, "promote", "prod")
	m.commit(repo, map[string]string{"index.html": "<!doctype html><script>const end = performance.now() + 3000; while (performance.now() < end);</script><h1>boats</h1>"})
	m.must(repo, "deploy")
	r := m.lotse(repo, "promote", "prod")
	if r.code != 1 || !strings.Contains(r.err, "page_load is to be within 1.5s: / was there after 3.") {
		t.Errorf("the slow release: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	t.Log(r.err)
	if show := m.must(repo, "show", m.newest().ID); !strings.Contains(show, "medians of 5 cold loads") {
		t.Errorf("what was refused has no figure:\n%s", show)
	}
}
