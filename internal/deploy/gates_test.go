package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
)

// visitor is a browser that has been everywhere already.
type visitor struct {
	mu     sync.Mutex
	visits []deploy.Visit
	kept   []string
	seen   []deploy.PageSeen
	err    error
	takes  time.Duration
	answer int // of the site, when it was asked for /
}

func (v *visitor) Visit(ctx context.Context, q deploy.Visit) (deploy.Visited, error) {
	if v.takes > 0 {
		select {
		case <-time.After(v.takes):
		case <-ctx.Done():
			return deploy.Visited{}, ctx.Err()
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.Address+"/", nil)
	if err != nil {
		return deploy.Visited{}, err
	}
	answer := &status{header: http.Header{}}
	q.Site.ServeHTTP(answer, req)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.visits, v.answer = append(v.visits, q), answer.code
	return deploy.Visited{Browser: "Chromium 1", Folder: "pageload/" + q.Rollout, Pages: v.seen}, v.err
}

func (v *visitor) Prune(keep []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept = slices.Clone(keep)
	return nil
}

// status is an answer of which only that counts.
type status struct {
	header http.Header
	code   int
}

func (s *status) Header() http.Header         { return s.header }
func (s *status) WriteHeader(code int)        { s.code = code }
func (s *status) Write(p []byte) (int, error) { s.code = max(s.code, 200); return len(p), nil }
func (s *status) Flush()                      {}

// gated gives dev gates, and starts another controller, since that one reads lotse.yaml by itself.
func (s *site) gated(g deploy.Gates) {
	s.end()
	defer s.boot()
	a := app
	a.Stages = slices.Clone(app.Stages)
	a.Stages[0].Gates = g
	s.builder.app = a
	s.world.Serve = serve
}

// serve is an app with pages of every kind.
func serve(i memory.Instance) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, "ada@example.org has no boat")
		case "/hang":
			<-r.Context().Done()
		case "/drip":
			fmt.Fprint(w, "ok, but")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprintf(w, "%s at %s: all is ok", i.Release.ID, r.Host)
		}
	})
}

func smoke(tests ...deploy.Expectation) deploy.Gates {
	for i := range tests {
		tests[i].Name = "boats"
		if tests[i].Timeout == 0 {
			tests[i].Timeout = 30 * time.Second
		}
	}
	return deploy.Gates{Smoke: tests}
}

// provenBy joins what a step has for evidence of a probe.
func provenBy(r deploy.Rollout, step, probe string) string {
	var all []string
	for _, s := range r.Steps {
		of := s.Evidence
		if r.Turned != nil && r.Turned.Step == s.Name {
			of = slices.Concat(of, r.Turned.Evidence)
		}
		for _, e := range of {
			if s.Name == step && strings.HasPrefix(e.Probe, probe) {
				all = append(all, strings.TrimSpace(e.Figure+" "+e.File))
			}
		}
	}
	return strings.Join(all, " | ")
}

// A release that does not do what is expected gets no traffic, whoever served before goes on, and the reason says what was expected and
// what came, and nothing of what was answered.
func TestSmokeTests(t *testing.T) {
	for _, c := range []struct {
		name string
		test deploy.Expectation
		want string // empty: it passes
	}{
		{"a good answer", deploy.Expectation{Get: "/boats?near=Kiel", Contains: "dev.shop.localhost: all is ok"}, ""},
		{"a status that is wanted", deploy.Expectation{Get: "/gone", Status: 410}, ""},
		{"another status", deploy.Expectation{Get: "/broken"}, "GET /broken answered with status 500, one from 200 to 299 is expected"},
		{"a status that is not the one", deploy.Expectation{Get: "/", Status: 204}, "GET / answered with status 200, 204 is expected"},
		{"no such text", deploy.Expectation{Get: "/", Contains: "boats"}, `bytes without the text "boats"`},
		{"no answer", deploy.Expectation{Get: "/hang", Timeout: 5 * time.Second}, "GET /hang did not end within 5s"},
		{"an answer that does not end", deploy.Expectation{Get: "/drip", Timeout: 5 * time.Second}, "GET /drip did not end within 5s"},
		{"a command", deploy.Expectation{Run: "true"}, ""},
		{"a command that fails", deploy.Expectation{Run: "false"}, "false ended with exit code 1"},
		{"a command that hangs", deploy.Expectation{Run: "sleep", Timeout: 7 * time.Second}, "sleep did not end within 7s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				s.world.Command = func(ctx context.Context, _, name, command string) error {
					switch {
					case name != "smoke-boats":
						return errors.New("a task named " + name)
					case command == "false":
						return &deploy.ExitError{Command: command, Code: 1}
					case command == "sleep":
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				s.gated(deploy.Gates{})
				one := s.deploy("one")
				s.gated(smoke(c.test))
				two := s.deploy("two")
				if c.want == "" {
					if two.Outcome != deploy.Settled || provenBy(two, "health", "smoke test boats") == "" {
						t.Errorf("%s: %+v", two.Outcome, two.Turned)
					}
					return
				}
				if two.Outcome != deploy.Reverted || two.Turned.Step != "health" || two.Turned.Code != "gate" {
					t.Fatalf("%s: %+v", two.Outcome, two.Turned)
				}
				if !strings.Contains(two.Turned.Why, "smoke test boats: ") || !strings.Contains(two.Turned.Why, c.want) || strings.Contains(two.Turned.Why, "ada@") {
					t.Errorf("it says %q, want %q", two.Turned.Why, c.want)
				}
				if slices.Contains(steps(two), "shift") {
					t.Error("it was shifted")
				}
				if got, want := s.running(), map[string]int{one.ID: 100}; !maps.Equal(got, want) {
					t.Errorf("runs %v, want %v", got, want)
				}
				if took := two.Ended.Sub(two.Began); took > time.Minute {
					t.Errorf("it took %s", took)
				}
				s.leaseIsFree()
			})
		})
	}
}

// The new release is asked, not the one that has the traffic.
func TestSmokeTestAsksTheNewRelease(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.gated(smoke(deploy.Expectation{Get: "/", Contains: string(digestOf("two"))}))
		if one := s.deploy("one"); one.Outcome != deploy.Reverted {
			t.Errorf("the release without the text is %s", one.Outcome)
		}
		if two := s.deploy("two"); two.Outcome != deploy.Settled {
			t.Errorf("the release with the text is %s: %+v", two.Outcome, two.Turned)
		}
	})
}

// Page load: refused by its figure, let in by it; no browser, a page that never ends, a browser that fails do not pass where it is enforced,
// and cost nothing where it is not.
func TestPageLoad(t *testing.T) {
	page := func(load, paint time.Duration) []deploy.PageSeen {
		return []deploy.PageSeen{{Path: "/", Load: load, Paint: paint, Requests: 3, Bytes: 2048, Heaviest: []deploy.Resource{{Name: "/a.js", Bytes: 1024}}}}
	}
	never := fmt.Errorf("%w: / did not end loading within 16.5s", deploy.ErrGate)
	none := fmt.Errorf("%w: no Chromium is here", deploy.ErrUnsupported)
	for _, c := range []struct {
		name     string
		page     deploy.PageLoad
		browser  *visitor
		why      string // empty: it settles
		evidence string
		times    int
	}{
		{"fast", deploy.PageLoad{Limit: 1500 * time.Millisecond}, &visitor{seen: page(time.Second, 1500*time.Millisecond)}, "", "/ load 1s, largest content 1.5s (medians of 5 cold loads, Chromium 1, network 4g, CPU 1x); 3 requests, 2.0 KiB; heaviest: /a.js 1.0 KiB pageload/", 5},
		{"slow to load", deploy.PageLoad{Limit: 1500 * time.Millisecond}, &visitor{seen: page(1501*time.Millisecond, time.Second)}, "/ was there after 1.501s", "load 1.501s", 5},
		{"slow to paint", deploy.PageLoad{Limit: 1500 * time.Millisecond}, &visitor{seen: page(time.Second, 3*time.Second)}, "page_load is to be within 1.5s: / was there after 3s (load 1s, largest content 3s)", "largest content 3s", 5},
		{"never ends", deploy.PageLoad{Limit: 1500 * time.Millisecond}, &visitor{err: never}, "did not end loading", "", 5},
		{"no browser", deploy.PageLoad{Limit: 1500 * time.Millisecond}, &visitor{err: none}, "page_load is to be within 1.5s, and this engine cannot do that: no Chromium is here", "", 5},
		{"no browser at all", deploy.PageLoad{Limit: 1500 * time.Millisecond}, nil, "page_load is to be within 1.5s, and there is no browser", "", 0},
		{"a browser that crashes", deploy.PageLoad{Limit: time.Second}, &visitor{err: errors.New("it crashed")}, "page_load: it crashed", "", 5},
		{"not enforced", deploy.PageLoad{}, &visitor{seen: page(9*time.Second, 0)}, "", "/ load 9s, largest content 0s (one cold load", 1},
		{"not enforced, no browser", deploy.PageLoad{}, &visitor{err: none}, "", "not measured: this engine cannot do that: no Chromium is here", 1},
		{"not enforced, never ends", deploy.PageLoad{}, &visitor{takes: time.Hour}, "", "not measured: ", 0},
		{"off", deploy.PageLoad{Off: true}, &visitor{seen: page(time.Second, 0)}, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSite(t, func(t *testing.T, s *site) {
				if c.browser != nil {
					s.browser = c.browser
				}
				s.gated(deploy.Gates{PageLoad: c.page})
				r := s.deploy("one")
				if c.why == "" && r.Outcome != deploy.Settled {
					t.Fatalf("%s: %+v", r.Outcome, r.Turned)
				}
				if c.why != "" && (r.Outcome != deploy.Reverted || r.Turned.Code != "gate" || !strings.Contains(r.Turned.Why, c.why) || slices.Contains(steps(r), "shift")) {
					t.Errorf("%s: %+v, want %q", r.Outcome, r.Turned, c.why)
				}
				if c.why != "" && strings.Contains(c.why, "browser") != strings.Contains(r.Turned.Hint, "apt-get install -y chromium") && !strings.Contains(c.why, "Chromium") {
					t.Errorf("the hint is %q", r.Turned.Hint)
				}
				if got := provenBy(r, "health", "page load"); !strings.Contains(got, c.evidence) || (got == "") != (c.evidence == "") {
					t.Errorf("evidence is %q, want %q", got, c.evidence)
				}
				if c.browser == nil {
					return
				}
				if took := r.Ended.Sub(r.Began); took > 76*time.Second {
					t.Errorf("it took %s, with 65 s of windows", took)
				}
				if c.times == 0 {
					return
				}
				v := c.browser.visits[0]
				if v.Times != c.times || v.Address != "https://dev.shop.localhost" || !slices.Equal(v.Hosts, []string{"dev.shop.localhost"}) || v.CPU != 1 || v.Network.Name != "4g" || !slices.Equal(v.Pages, []string{"/"}) {
					t.Errorf("the visit is %+v", v)
				}
				if c.browser.answer != http.StatusOK {
					t.Errorf("the release answered the browser with %d", c.browser.answer)
				}
				synctest.Wait() // old things are removed after the last event
				if !slices.Contains(c.browser.kept, r.ID) {
					t.Errorf("kept are %v", c.browser.kept)
				}
			})
		})
	}
}

// Going back asks no gates of health beside health: what is gone back to has passed them.
func TestRollbackDoesNotWaitForGates(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.browser = &visitor{err: errors.New("it crashed")}
		s.gated(deploy.Gates{})
		s.deploy("one")
		s.deploy("two")
		s.gated(deploy.Gates{Smoke: smoke(deploy.Expectation{Get: "/broken"}).Smoke, PageLoad: deploy.PageLoad{Limit: time.Second}})
		id, err := s.Rollback(t.Context(), deploy.Move{Stage: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		if back := s.ended(id); back.Outcome != deploy.Settled || back.Release != digestOf("one") {
			t.Errorf("going back is %s: %+v", back.Outcome, back.Turned)
		}
	})
}

// What is asked on entry is evidence, with its figures; a full disk and a variable that went missing refuse.
func TestGatesOfEntry(t *testing.T) {
	inSite(t, func(t *testing.T, s *site) {
		s.end()
		s.free = 3 << 30
		s.boot()
		one := s.deploy("one")
		for probe, want := range map[string]string{
			"release": "0 files verified", "region": "somewhere", "disk": "3.0 GiB of 1.0 TiB free, the release has 0 B",
			"variables": "3 set, 0 of them secrets; all 1 that the stage needs are among them",
		} {
			if got := provenBy(one, "entry", probe); !strings.Contains(got, want) {
				t.Errorf("evidence of %s is %q, want %q", probe, got, want)
			}
		}
		if got := provenBy(one, "health", "tls"); got == "" {
			t.Error("nothing is said of TLS")
		}
		s.end()
		s.free = 200 << 20
		s.boot()
		two := s.deploy("two")
		if two.Outcome != deploy.Reverted || two.Turned.Code != "no-space" || two.Turned.Step != "entry" || !strings.Contains(two.Turned.Why, "200 MiB of 1.0 TiB free") {
			t.Errorf("with a full disk: %s %+v", two.Outcome, two.Turned)
		}
		if got := provenBy(two, "entry", "disk"); !strings.Contains(got, "200 MiB") {
			t.Errorf("what refused left as evidence %q", got)
		}
	})
}

// certified is an engine that knows the certificate of its stage.
type certified struct{ restarting }

func (e certified) Certificate(context.Context, string) (deploy.Certificate, error) {
	return e.site.certificate()
}

// A certificate that is over, or for another name, keeps a release from its traffic; one that nobody can see does not.
func TestCertificate(t *testing.T) {
	for _, c := range []struct {
		left      time.Duration
		err       error
		why, told string
	}{
		{72*time.Hour + time.Minute, nil, "", "dev.shop.localhost: valid for 3 days, by an authority"},
		{-time.Hour, nil, "the certificate of dev.shop.localhost is not valid any more", ""},
		{0, fmt.Errorf("%w: for another name", deploy.ErrBadInput), "the certificate of dev.shop.localhost: the input is not usable: for another name", ""},
		{0, fmt.Errorf("%w: dial 127.0.0.1", deploy.ErrUnavailable), "", "dev.shop.localhost: not known right now"},
	} {
		inSite(t, func(t *testing.T, s *site) {
			s.end()
			at := time.Now()
			s.certificate = func() (deploy.Certificate, error) {
				return deploy.Certificate{Until: at.Add(c.left), Issuer: "an authority"}, c.err
			}
			s.boot()
			r := s.deploy("one")
			if c.why == "" && (r.Outcome != deploy.Settled || provenBy(r, "health", "tls") != c.told) {
				t.Errorf("%s: %+v, %q, want %q", r.Outcome, r.Turned, provenBy(r, "health", "tls"), c.told)
			}
			if c.why != "" && (r.Outcome != deploy.Reverted || r.Turned.Code != "gate" || !strings.Contains(r.Turned.Why, c.why)) {
				t.Errorf("%s: %+v, want %q", r.Outcome, r.Turned, c.why)
			}
		})
	}
}
