package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

const patience = 40 * time.Second // the machine that runs this may be busy

func (m *machine) order(stage int, id string, r deploy.Release) deploy.Order {
	return deploy.Order{Rollout: id, Release: r, Stage: m.stages[stage], Settings: []deploy.Setting{
		{Name: "SECRET_TOKEN", Value: secret.New("hunter2-correct-horse")}, {Name: "PORT", Value: secret.New("3000")},
		{Name: "COLOUR", Value: secret.New("#ff8800")}}}
}

func (m *machine) up(t *testing.T, e *local.Engine, stage int, id string, services ...deploy.Service) deploy.Order {
	t.Helper()
	o := m.order(stage, id, m.release(t, id, services...))
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	return o
}

func fetch(t *testing.T, rt http.RoundTripper, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func reach(t *testing.T, m *machine, e *local.Engine, id, path string) (*http.Response, string) {
	t.Helper()
	rt, err := e.Reach(within(t, patience), id)
	if err != nil {
		t.Fatal(err)
	}
	return fetch(t, rt, m.stages[0].URL+path)
}

func about(t *testing.T, m *machine, e *local.Engine, id string) load.About {
	t.Helper()
	var a load.About
	_, body := reach(t, m, e, id, "/about")
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// until polls a condition that ought to come true by itself.
func until(t *testing.T, what string, d time.Duration, cond func() bool) {
	t.Helper()
	for ctx := within(t, d); !cond(); {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, d)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Each way of not starting is named so that a person knows where to look.
func TestWhyAReleaseCannotStart(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	cases := []struct {
		mode  string
		wants []string
		soon  bool // it does not wait for the deadline
	}{
		{"crash", []string{"ended with exit code 3", "3 times in a row", "cannot find the module"}, true},
		{"hang", []string{"listens on its PORT (", "but gave no answer within 6s"}, false},
		{"idle", []string{"did not listen on its PORT (", ") within 6s; it listens on no port at all"}, false},
		{"wrongport", []string{"did not listen on its PORT (", "; it listens on "}, false},
		{"unhealthy", []string{"answers /health with 500: the database is away within 6s"}, false},
	}
	for _, c := range cases {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			svc := web(c.mode, 1)
			svc.Start = 6 * time.Second
			if c.soon {
				svc.Start = time.Minute
			}
			begun := time.Now()
			err := e.Start(within(t, patience), 1, m.order(0, c.mode, m.release(t, c.mode, svc)))
			if _, ok := errors.AsType[*deploy.StartError](err); !ok {
				t.Fatal(err)
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
			if took := time.Since(begun); c.soon && took > 30*time.Second {
				t.Errorf("it took %s to notice", took)
			}
		})
	}
}

// A program that is not there, and a worker that ends, fail like everything else.
func TestOtherStartFailures(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	for name, svc := range map[string]deploy.Service{
		"nothing": {Name: "api", Command: "./nothing", Path: "/api", Start: 20 * time.Second},
		"worker":  {Name: "mailer", Command: "./app crash", Start: 20 * time.Second},
		"later":   {Name: "mailer", Command: "sh -c 'sleep 0.5; exit 4'", Start: 20 * time.Second},
	} {
		err := e.Start(within(t, patience), 1, m.order(0, name, m.release(t, name, svc, web("good", 1))))
		var failed *deploy.StartError
		if !errors.As(err, &failed) || failed.Service != svc.Name || !strings.Contains(failed.Cause, "ended with exit code") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// What a service says of itself when it is sick is masked.
func TestSickAnswerIsMasked(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	svc := web("good", 1)
	svc.Health, svc.Start = "/nowhere", time.Second
	// The app answers 404 with a text of its own; the secret is that text.
	o := m.order(0, "sick", m.release(t, "sick", svc))
	o.Settings = []deploy.Setting{{Name: "X", Value: secret.New("404 page not found")}}
	err := e.Start(within(t, patience), 1, o)
	if err == nil || !strings.Contains(err.Error(), "404") || strings.Contains(err.Error(), "page not found") {
		t.Errorf("%v", err)
	}
}

// An instance gets the variables that are promised, and its settings, but not somebody else's PORT.
func TestEnvironment(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	o := m.up(t, e, 0, "env", web("good", 2))
	status, err := process.Inspect(m.instance(m.stages[0], "env", "web", 1))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", status.PID))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for kv := range strings.SplitSeq(string(raw), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		if _, twice := env[name]; twice && name != "" {
			t.Errorf("%s is set twice", name)
		}
		env[name] = value
	}
	home := filepath.Join(m.stageDir(m.stages[0]), "homes", "env.web.1")
	for name, want := range map[string]string{"HOME": home, "TMPDIR": home + "/tmp", "HOST": "127.0.0.1", "LOTSE_APP": "shop", "LOTSE_STAGE": "dev",
		"LOTSE_RELEASE": o.Release.ID.Short(), "LOTSE_SERVICE": "web", "LOTSE_INSTANCE": "1", "COLOUR": "#ff8800"} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	// As root, instances run as users who may not enter every folder of PATH; a shell would call what is not there forbidden.
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		enters := exec.Command("/bin/sh", "-c", "cd "+dir)
		if os.Getuid() == 0 {
			enters.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61999, Gid: 61999}}
		}
		may := enters.Run() == nil
		if has := slices.Contains(filepath.SplitList(env["PATH"]), dir); has != may && (os.Getuid() == 0 || !has) {
			t.Errorf("PATH has %s: %v; its user may enter it: %v", dir, has, may)
		}
	}
	if env["PORT"] == "3000" || env["PORT"] == "" {
		t.Errorf("PORT = %q: a setting has replaced where requests come", env["PORT"])
	}
	for name := range env {
		if !slices.Contains([]string{"", "PATH", "HOME", "TMPDIR", "HOST", "PORT", "COLOUR", "SECRET_TOKEN", "PWD", "OLDPWD", "SHLVL", "_", "LOTSE_TREE"}, name) &&
			!strings.HasPrefix(name, "LOTSE_") {
			t.Errorf("%s is passed on from our own environment", name)
		}
	}
}

// As root, a stage's processes run as a user of the stage: they can write to their home and volumes, not to the release, and
// read nothing of another stage.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT PROVEN without root: that instances run as a user of their stage")
	}
	m := newMachine(t)
	e, other := m.open(t, m.stages[0]), m.open(t, m.stages[1])
	svc := web("good", 1)
	svc.Volumes = []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}
	m.up(t, e, 0, "mine", svc)
	m.up(t, other, 1, "theirs", svc)
	mine, theirs := about(t, m, e, "mine"), about(t, m, other, "theirs")
	if mine.UID < 61184 || mine.UID > 65519 || theirs.UID < 61184 || mine.UID == theirs.UID {
		t.Errorf("users %d and %d", mine.UID, theirs.UID)
	}
	foreign := m.stageDir(m.stages[1])
	for script, ok := range map[string]bool{
		"echo x > $HOME/f && echo x > $TMPDIR/f":                     true,
		"echo x > data/uploads/f && cat data/uploads/f":              true,
		"cat tag && ! test -w app && ! test -w . && ! touch x":       true,
		"! cat " + foreign + "/homes/theirs.web.0/* 2>/dev/null":     true,
		"! ls " + foreign + "/releases 2>/dev/null":                  true,
		"! ls " + foreign + "/volumes/uploads 2>/dev/null":           true,
		"! ls " + m.stageDir(m.stages[0]) + "/instances 2>/dev/null": true,
		"test $(id -u) = 0": false,
		"kill -0 1":         false,
	} {
		if err := e.Task(within(t, patience), "mine", "probe", script, nil); (err == nil) != ok {
			t.Errorf("%s: %v", script, err)
		}
	}
	again := m.open(t, m.stages[0])
	m.up(t, again, 0, "again", svc)
	if about(t, m, again, "again").UID != mine.UID {
		t.Error("the stage's user has changed")
	}
}

// What is in a volume outlives releases, and a volume does not hide a file of the release.
func TestVolumes(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	svc := web("good", 1)
	svc.Volumes = []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}
	m.up(t, e, 0, "one", svc)
	if err := e.Task(within(t, patience), "one", "write", "echo kept > data/uploads/file", nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(within(t, patience), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	m.up(t, e, 0, "two", svc)
	if err := e.Task(within(t, patience), "two", "read", "grep kept data/uploads/file", nil); err != nil {
		t.Error(err)
	}
	if err := e.Task(within(t, patience), "two", "other", "grep kept elsewhere/file", []deploy.VolumeMount{{Volume: "uploads", Path: "elsewhere"}}); err != nil {
		t.Error(err)
	}
	for name, mount := range map[string]deploy.VolumeMount{"file": {Volume: "uploads", Path: "tag"}, "out": {Volume: "uploads", Path: "../out"},
		"up": {Volume: "../up", Path: "data"}, "all": {Volume: "uploads", Path: "."}} {
		bad := svc
		bad.Volumes = []deploy.VolumeMount{mount}
		if err := e.Start(within(t, patience), 1, m.order(0, name, m.release(t, name, bad))); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("a volume at %q: %v", mount.Path, err)
		}
	}
	if left := m.leftovers(t, m.stages[0], []deploy.Running{{Rollout: "two", Release: m.release(t, "two", svc).ID}}); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// A port that somebody has taken meanwhile is given up for another; one that a rollout remembers is given to nobody else.
func TestPorts(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	refusing := web("refusing", 1)
	refusing.Start = 20 * time.Second
	m.up(t, e, 0, "refusing", refusing)
	owners := map[string]bool{}
	for _, id := range []string{"a", "b"} {
		m.up(t, e, 0, id, web("good", 2))
	}
	m.up(t, m.open(t, m.stages[1]), 1, "a", web("good", 2))
	claims, err := filepath.Glob(filepath.Join(m.dir, "local", "ports", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims {
		owner, _ := os.ReadFile(c)
		owners[string(owner)] = true
	}
	if len(claims) != 7 || len(owners) != 7 {
		t.Errorf("%d ports of %d instances, want 7 of 7", len(claims), len(owners))
	}
}

// An instance that finds its port taken gets another one.
func TestTakenPort(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	svc := web("good", 1)
	svc.Start = 20 * time.Second
	o := m.order(0, "late", m.release(t, "late", svc))
	e := m.open(t, m.stages[0])
	services, err := json.Marshal(o.Release.Manifest.Services)
	if err != nil {
		t.Fatal(err)
	}
	// What a Start that died has left: it had chosen the port.
	note := fmt.Sprintf(`{"format":1,"rollout":"late","release":%q,"phase":"starting","since":"2026-01-02T03:04:05Z","services":%s,"ports":{"web":[%d]}}`,
		o.Release.ID, services, taken)
	if err := os.WriteFile(filepath.Join(m.stageDir(m.stages[0]), "rollouts", "late.json"), []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	if _, body := reach(t, m, e, "late", "/get?word=x"); body != "x\n" {
		t.Errorf("%q", body)
	}
}

// Claims that a dead process has left without a note are freed, those of others are not.
func TestStaleClaims(t *testing.T) {
	m := newMachine(t)
	m.open(t, m.stages[0])
	ports := filepath.Join(m.dir, "local", "ports")
	for name, owner := range map[string]string{"11": "shop/dev gone.web.0", "12": "shop/prod gone.web.0", "13": "shop/development gone.web.0"} {
		if err := os.WriteFile(filepath.Join(ports, name), []byte(owner), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.open(t, m.stages[0])
	left, err := filepath.Glob(ports + "/*")
	if err != nil || !slices.Equal(left, []string{ports + "/12", ports + "/13"}) {
		t.Errorf("%q %v", left, err)
	}
}

// Two rollouts of one release share its folder, which stays as long as one of them does.
func TestReleaseOfTwo(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	r := m.release(t, "both", web("good", 1))
	for _, id := range []string{"one", "two"} {
		if err := e.Start(within(t, patience), 1, m.order(0, id, r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Stop(within(t, patience), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Task(within(t, patience), "two", "look", "test -x app", nil); err != nil {
		t.Error(err)
	}
	if left := m.leftovers(t, m.stages[0], []deploy.Running{{Rollout: "two", Release: r.ID}}); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// A proxy that says yes and does nothing, or that answers from another release, does not pass for a shift.
func TestShiftIsVerified(t *testing.T) {
	m := newMachine(t)
	m.up(t, m.open(t, m.stages[0]), 0, "one", web("good", 1))
	toReal := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.dir+"/p.sock")
	}, DisableKeepAlives: true}
	for name, lie := range map[string]func(*http.Response){
		"deaf": nil,
		"other": func(r *http.Response) {
			if r.Header.Get("Lotse-Release") != "" {
				r.Header.Set("Lotse-Release", "other")
			}
		},
	} {
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

// A release whose bytes are not what they should be is not started.
func TestDamagedRelease(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	r := m.release(t, "missing", web("good", 1))
	r.Manifest.Files[1].Digest = "sha256:" + deploy.Digest(strings.Repeat("0", 64))
	if err := e.Start(within(t, patience), 1, m.order(0, "missing", r)); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// Tasks run beside the services with their settings; what they print is masked and kept.
func TestTasksAndLogs(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "jobs", web("good", 1))
	err := e.Task(within(t, patience), "jobs", "migrate", `echo "token $SECRET_TOKEN in $LOTSE_SERVICE"; test -f app; exit 7`, nil)
	var exit *deploy.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || !slices.Contains(exit.Tail, "token ••• in migrate") {
		t.Errorf("%v", err)
	}
	if err := e.Task(within(t, patience), "nobody", "x", "true", nil); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("a task of an unknown rollout: %v", err)
	}
	if err := m.open(t, m.stages[0]).Task(within(t, patience), "jobs", "x", "true", nil); !deploy.Retryable(err) {
		t.Errorf("a task before the settings are known: %v", err)
	}
	logs := func(q deploy.LogQuery) (texts []string) {
		t.Helper()
		if err := e.Logs(within(t, patience), q, func(l deploy.LogLine) bool { texts = append(texts, l.Service+": "+l.Text); return true }); err != nil {
			t.Error(err)
		}
		return texts
	}
	if got := logs(deploy.LogQuery{}); !slices.Equal(got, []string{"web: app starts in mode good", "web: app listens", "migrate: token ••• in migrate"}) {
		t.Errorf("%q", got)
	}
	if got := logs(deploy.LogQuery{Rollout: "jobs", Service: "web", Lines: 1}); !slices.Equal(got, []string{"web: app listens"}) {
		t.Errorf("%q", got)
	}
	var followed []string
	err = e.Logs(within(t, patience), deploy.LogQuery{Follow: true, Lines: 5}, func(l deploy.LogLine) bool {
		followed = append(followed, l.Text)
		return len(followed) < 2
	})
	if err != nil || len(followed) != 2 {
		t.Errorf("%q %v", followed, err)
	}
}

// A rollout id never leads out of the stage's folders.
func TestStrangeIDs(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "real", web("good", 1))
	for _, id := range []string{"..", "../stage", "../rollouts/real", "x/../real", "a/b", "", strings.Repeat("x", 100)} {
		if err := e.Start(within(t, patience), 1, m.order(0, id, m.release(t, "x", web("good", 1)))); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("start %q: %v", id, err)
		}
		if err := e.Check(within(t, patience), id); !errors.Is(err, deploy.ErrUnknown) {
			t.Errorf("check %q: %v", id, err)
		}
		if err := e.Stop(within(t, patience), 1, id, 0); err != nil {
			t.Errorf("stop %q: %v", id, err)
		}
	}
}
