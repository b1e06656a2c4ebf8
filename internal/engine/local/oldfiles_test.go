package local_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// siteRelease is a release of files: a page, and a chunk that no other release has.
func (m *machine) siteRelease(t *testing.T, n int) deploy.Release {
	t.Helper()
	r := m.release(t, fmt.Sprint("site", n), deploy.Service{Name: "web", Static: "dist", Path: "/"})
	index := proxy.StaticIndex{Files: map[string]proxy.StaticFile{}}
	add := func(path, text string, immutable bool) {
		digest, size, err := m.depot.Put(t.Context(), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Manifest.Files = append(r.Manifest.Files, deploy.File{Path: path, Digest: deploy.Digest(digest), Size: size})
		if name, ok := strings.CutPrefix(path, "dist/"); ok {
			index.Files[name] = proxy.StaticFile{Type: "text/plain", Size: size, Digest: digest, Immutable: immutable}
		}
	}
	add("dist/index.html", fmt.Sprint("page ", n), false)
	add(chunk(n)[1:], fmt.Sprint("chunk ", n), true)
	index.Files[strings.TrimPrefix(chunk(n), "/dist/")] = proxy.StaticFile{Type: "text/plain", Immutable: true}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	add(".lotse/static/web.json", string(raw), false)
	slices.SortFunc(r.Manifest.Files, func(a, b deploy.File) int { return strings.Compare(a.Path, b.Path) })
	return r
}

func chunk(n int) string { return fmt.Sprintf("/dist/assets/chunk-0123456%d.js", n) }

// TestOpenTabsFindTheirFiles rolls three releases out, stops those before, and goes back: every tab finds its chunk for 24 hours, and
// then the folders are gone.
func TestOpenTabsFindTheirFiles(t *testing.T) {
	m := newMachine(t)
	var ahead atomic.Int64 // of the clocks of engine and proxy
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c := m.config(m.stages[0])
	c.Clock = now
	e, err := local.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, patience)
	begin := func(id string, n int) {
		t.Helper()
		o := m.order(0, id, m.siteRelease(t, n))
		o.Stage.OldFiles = 24 * time.Hour
		if err := e.Start(ctx, 1, o); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(id string, before ...string) {
		t.Helper()
		if err := e.Shift(ctx, 1, id, 100); err != nil {
			t.Fatal(err)
		}
		for _, old := range before {
			if err := e.Stop(ctx, 1, old, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	has := func(n int, want bool) {
		t.Helper()
		if body := m.fetch(t, strings.TrimPrefix(chunk(n), "/dist")); (body == fmt.Sprint("chunk ", n)) != want {
			t.Errorf("the chunk of release %d is %q", n, body)
		}
	}
	begin("one", 1)
	serve("one")
	begin("never", 9)
	begin("two", 2)
	serve("two", "one", "never")
	begin("three", 3)
	serve("three", "two")
	for n := 1; n <= 3; n++ {
		has(n, true)
	}
	has(9, false) // nobody has a tab of what never served
	begin("back", 2)
	serve("back", "three")
	has(1, true)
	has(3, true)
	if body := m.fetch(t, "/"); body != "page 2" {
		t.Errorf("after going back the page is %q", body)
	}

	ahead.Store(int64(24*time.Hour + time.Minute))
	begin("four", 4)
	serve("four", "back")
	has(1, false)
	has(2, true) // it has ended just now
	has(3, false)
	folders, err := filepath.Glob(filepath.Join(m.stageDir(m.stages[0]), "releases", "*"))
	if err != nil || len(folders) != 2 {
		t.Errorf("folders are left: %v %v", folders, err)
	}
	if err := e.Stop(ctx, 1, "four", 0); err != nil {
		t.Fatal(err)
	}
	if err := e.End(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("the end of the stage leaves %v", left)
	}
}

func (m *machine) fetch(t *testing.T, path string) string {
	t.Helper()
	p := m.plan(m.stages[0])
	tr := &http.Transport{DialContext: p.Dial, TLSClientConfig: p.TLS, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, p.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}
