package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// A proxy that says yes and does nothing, or that answers from another release, does not pass for a shift.
func TestShiftIsVerified(t *testing.T) {
	m := newMachine(t)
	m.up(t, m.open(t, m.stages[0]), 0, "one", web("good", 1))
	toReal := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.dir+"/p.sock")
	}, DisableKeepAlives: true}
	for _, liar := range []struct {
		name string
		lie  func(*http.Response)
	}{
		{"deaf", nil}, // first: the other one has the real proxy do it
		{"other", func(r *http.Response) {
			if r.Header.Get("Lotse-Release") != "" {
				r.Header.Set("Lotse-Release", "other")
			}
		}},
	} {
		name, lie := liar.name, liar.lie
		l, err := net.Listen("unix", m.dir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		forward := &httputil.ReverseProxy{Transport: toReal, Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "proxy" },
			ModifyResponse: func(r *http.Response) error {
				if lie != nil {
					lie(r)
				}
				return nil
			}}
		liar := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lie == nil && r.Method == http.MethodPut {
				fmt.Fprintln(w, "{}")
				return
			}
			forward.ServeHTTP(w, r)
		})}
		go func() { _ = liar.Serve(l) }()
		c := m.config(m.stages[0])
		c.Proxy = proxy.NewClient(m.dir + "/" + name)
		e, err := local.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Shift(within(t, patience), 1, "one", 100); !errors.Is(err, deploy.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		liar.Close()
	}
}

// Without a proxy a Stop changes nothing, says to try again, and then succeeds.
func TestStopWithoutProxy(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "here", web("good", 1))
	if err := os.Rename(m.dir+"/p.sock", m.dir+"/away"); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(within(t, patience), 1, "here", 0); !deploy.Retryable(err) {
		t.Errorf("%v", err)
	}
	if err := os.Rename(m.dir+"/away", m.dir+"/p.sock"); err != nil {
		t.Fatal(err)
	}
	if err := e.Shift(within(t, patience), 1, "here", 100); err != nil {
		t.Errorf("after a stop that was refused: %v", err)
	}
	if err := e.Stop(within(t, patience), 1, "here", 0); err != nil {
		t.Error(err)
	}
}

// A proxy that lost its table gets it back as it was.
func TestProxyThatForgot(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "one", web("good", 1))
	m.up(t, e, 0, "two", web("good", 1))
	for id, share := range map[string]int{"one": 100} {
		if err := e.Shift(within(t, patience), 1, id, share); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.client.Remove(within(t, patience), "shop/dev", 1); err != nil {
		t.Fatal(err)
	}
	if err := e.Shift(within(t, patience), 1, "two", 30); err != nil {
		t.Fatal(err)
	}
	site, err := m.client.Get(within(t, patience), "shop/dev")
	if err != nil || len(site.Releases) != 2 || site.Releases[0].Share != 70 || site.Releases[1].Share != 30 {
		t.Errorf("%+v %v", site, err)
	}
}

// A static service is served with the files of its release, a second host name is sent to the first, and a worker runs beside.
func TestStaticRedirectWorker(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	r := m.release(t, "site", deploy.Service{Name: "site", Static: "dist", Fallback: "index.html"},
		deploy.Service{Name: "api", Command: "./app good", Path: "/api", Health: "/api/health", Start: 20 * time.Second},
		deploy.Service{Name: "mailer", Command: "./app worker", Start: 20 * time.Second})
	root := t.TempDir()
	if err := os.WriteFile(root+"/index.html", []byte("<h1>ahoy</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	index, err := proxy.BuildIndex(os.DirFS(root), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string]string{"dist/index.html": "<h1>ahoy</h1>", ".lotse/static/site.json": string(raw)} {
		digest, size, err := m.depot.Put(t.Context(), strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Manifest.Files = append(r.Manifest.Files, deploy.File{Path: path, Digest: deploy.Digest(digest), Size: size})
	}
	slices.SortFunc(r.Manifest.Files, func(a, b deploy.File) int { return strings.Compare(a.Path, b.Path) })
	if err := e.Start(within(t, patience), 1, m.order(0, "site", r)); err != nil {
		t.Fatal(err)
	}
	if resp, body := reach(t, m, e, "site", "/some/page"); resp.StatusCode != http.StatusOK || body != "<h1>ahoy</h1>" || resp.Header.Get("Lotse-Release") != r.ID.Short() {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	if _, body := reach(t, m, e, "site", "/api/get?word=x"); body != "x\n" {
		t.Errorf("%q", body)
	}
	if err := e.Shift(within(t, patience), 1, "site", 100); err != nil {
		t.Fatal(err)
	}
	p := m.plan(m.stages[0])
	rt := &http.Transport{DialContext: p.Dial, TLSClientConfig: p.TLS, DisableKeepAlives: true}
	resp, _ := fetch(t, rt, fmt.Sprintf("https://www.dev-shop.localhost:%d/some?q=1", m.port))
	if want := fmt.Sprintf("https://dev-shop.localhost:%d/some?q=1", m.port); resp.Header.Get("Location") != want {
		t.Errorf("redirect to %q, want %q", resp.Header.Get("Location"), want)
	}
	list, err := e.List(within(t, patience))
	if err != nil || len(list) != 1 || len(list[0].Services) != 3 || len(list[0].Services[0].Instances) != 0 || !list[0].Services[2].Instances[0].Healthy {
		t.Errorf("%+v %v", list, err)
	}
}

// A stage whose URL changes answers at the old host as long as a rollout from then is up, and then gives it back.
func TestHostsChange(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "before", web("good", 1))
	o := m.order(0, "after", m.release(t, "after", web("good", 1)))
	o.Stage.URL, o.Stage.Redirects = "https://new-shop.localhost", []string{"https://dev-shop.localhost"}
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	hosts := func(want string) {
		t.Helper()
		site, err := m.client.Get(within(t, patience), "shop/dev")
		if got := fmt.Sprint(site.Hosts, " ", len(site.Redirects)); err != nil || got != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	hosts("[new-shop.localhost dev-shop.localhost] 1") // the old one still serves, so it is not sent away yet
	if err := e.Stop(within(t, patience), 1, "before", 0); err != nil {
		t.Fatal(err)
	}
	hosts("[new-shop.localhost] 1")
	if err := e.Stop(within(t, patience), 1, "after", 0); err != nil {
		t.Fatal(err)
	}
	hosts("[new-shop.localhost] 0") // where it says 503
}
