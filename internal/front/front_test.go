package front

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

func TestRequestsArrive(t *testing.T) {
	s := sail(t, specOf(web("good"), deploy.Service{Name: "jobs", Command: "bin/app worker"}))
	resp, body := s.page("/get?word=hello") // waits until the service answers
	mustBe(t, "answer", body, "hello\n")
	mustBe(t, "release", resp.Header.Get("Lotse-Release"), digest.Short())
	s.healthy()
	var about struct{ Release, Stage, Service, Instance string }
	_, body = s.page("/about")
	if err := json.Unmarshal([]byte(body), &about); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "about", fmt.Sprint(about), fmt.Sprintf("{%s dev web 0}", digest.Short()))
	resp, _, err := s.get("https://www." + host + "/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "redirect", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location")), "308https://"+host+"/a?b=c")
	if resp, _, err = s.get("https://elsewhere.example.org/"); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "another host", resp.StatusCode, 404)
	st := s.status()
	mustBe(t, "status", fmt.Sprint(st.Release, st.Rollout, st.InFlight, len(st.Services)), fmt.Sprint(digest, "r1", 0, 2))
	for i, name := range []string{"web", "jobs"} {
		mustBe(t, name, fmt.Sprint(st.Services[i].Name, st.Services[i].Healthy, st.Services[i].Cause, st.Services[i].Restarts), name+"true0")
		if st.Services[i].Since.IsZero() {
			t.Error("since is not said")
		}
	}
	stats, err := s.client().Samples(within(t))
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "samples", fmt.Sprint(len(stats.Services), stats.Services[0].Service, stats.Services[0].Requests), "1web2")
}

func TestFilesAreServed(t *testing.T) {
	spec := specOf(deploy.Service{Name: "site", Static: "dist", Path: "/", Fallback: "index.html"})
	dir := release(t, spec)
	write(t, filepath.Join(dir, "dist/index.html"), "<p>front page", 0o644)
	index, err := proxy.BuildIndex(os.DirFS(filepath.Join(dir, "dist")), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(index)
	write(t, filepath.Join(dir, ".lotse/static/site.json"), string(text), 0o644)
	s := &ship{t: t, dir: dir, env: environ(t), out: &buffer{}, errs: &buffer{}}
	s.begin()
	code, _ := s.health()
	mustBe(t, "health", code, 200)
	resp, body := s.page("/any/page")
	mustBe(t, "answer", fmt.Sprint(resp.StatusCode, body), "200<p>front page")
	mustBe(t, "release", resp.Header.Get("Lotse-Release"), digest.Short())
}

// What is secret is in no line, no status, no answer about health and no file of the front, whoever says it and how.
func TestSecretsInNoLine(t *testing.T) {
	shout := `sh -c 'echo "$SECRET_TOKEN" "$DATABASE_URL" battery-staple; printf %s "$SECRET_TOKEN" | base64; echo {\"key\":\"$SECRET_TOKEN\"} >&2; sleep 600'`
	s := sail(t, specOf(web("tellcrash"), deploy.Service{Name: "jobs", Command: shout}, deploy.Service{Name: "sick", Command: "bin/app unhealthy", Path: "/sick", Health: "/health"}))
	until(t, "everything is said", func() bool {
		return strings.Count(s.out.String(), "could not log in") > 1 && strings.Count(s.out.String(), `"jobs"`) == 3 && strings.Contains(s.status().Services[2].Cause, "away")
	})
	var said []string
	exit, err := s.client().Task(within(t), Task{Name: "job", Command: []string{"env; exit 5"}}, func(l string) { said = append(said, l) })
	mustBe(t, "task", fmt.Sprint(exit.Code, err), "5 <nil>")
	mustSay(t, "the task", strings.Join(said, "\n"), "SECRET_TOKEN="+secret.Shown, "DATABASE_URL="+secret.Shown, "LOTSE_SERVICE=job", "HOST=127.0.0.1")
	status, _ := json.Marshal(s.status())
	_, health := s.health()
	all := s.out.String() + s.errs.String() + strings.Join(said, "\n") + string(status) + health
	mustSay(t, "what was said", all, secret.Shown, "the database is away")
	mustSay(t, "health", health, "web", "sick", "answers /health with 500")
	if strings.Contains(health, "away") {
		t.Errorf("everybody may read what the app said: %s", health)
	}
	for _, value := range []string{token, "battery-staple", "aHVudGVyMi1jb3JyZWN0LWhvcnNl", "#ff8800"} {
		if strings.Contains(all, value) {
			t.Errorf("%q is in %s", value, all)
		}
	}
	_ = filepath.WalkDir(string(s.folder()), func(path string, d os.DirEntry, err error) error {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), token) {
			t.Errorf("a secret is in %s", path)
		}
		return err
	})
}

// Every line of the output is JSON of one of two kinds.
func TestOutputIsLines(t *testing.T) {
	s := sail(t, specOf(web("good")))
	s.healthy()
	s.page("/users/4711?token=SECRET", "X-Forwarded-For", "203.0.113.9")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	said, asked := 0, 0
	for lines := bufio.NewScanner(strings.NewReader(s.out.String())); lines.Scan(); {
		var l struct{ At, Service, Text, Time, Endpoint, Client string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		switch {
		case l.At != "" && l.Service == "web" && l.Text != "":
			said++
		case l.Time != "" && l.Endpoint == "/users/{id}" && l.Client != "":
			asked++
		default:
			t.Errorf("a line of neither kind: %s", lines.Text())
		}
	}
	mustBe(t, "lines of the app", said, 2)
	mustBe(t, "lines of the access log", asked, 1)
	if all := s.out.String() + s.errs.String(); strings.Contains(all, "203.0.113") || strings.Contains(all, "4711") {
		t.Errorf("an address or a number of a person is in %s", all)
	}
}

// The log knows clients by what the balancer has added, not by what they say of themselves.
func TestPseudonymsAreOfClients(t *testing.T) {
	s := sail(t, specOf(web("good")))
	s.healthy()
	for _, forwarded := range []string{"203.0.113.9", "198.51.100.1, 203.0.113.77", "203.0.114.1, 198.51.100.1", "198.51.100.5"} {
		s.page("/get", "X-Forwarded-For", forwarded)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var clients []string
	for line := range strings.Lines(s.out.String()) {
		var l struct{ Client string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Client != "" {
			clients = append(clients, l.Client)
		}
	}
	mustBe(t, "requests", len(clients), 4)
	mustBe(t, "one network, one pseudonym", clients[0] == clients[1] && clients[2] == clients[3], true)
	mustBe(t, "two networks, two pseudonyms", clients[0] != clients[2], true)
}

// Nobody on the internet has an address that is believed, and where everybody may connect, nobody on loopback is.
func TestBalancersArePrivate(t *testing.T) {
	for _, c := range []struct {
		host, peer string
		want       bool
	}{
		{"0.0.0.0", "10.20.30.40", true}, {"0.0.0.0", "172.31.0.1", true}, {"0.0.0.0", "192.168.1.1", true}, {"0.0.0.0", "fd00::1", true},
		{"0.0.0.0", "203.0.113.9", false}, {"0.0.0.0", "172.32.0.1", false}, {"0.0.0.0", "2001:db8::1", false}, {"0.0.0.0", "127.0.0.1", false},
		{"0.0.0.0", "169.254.169.254", false}, {"127.0.0.1", "127.0.0.1", true}, {"::1", "::1", true}, {"10.0.0.1", "127.0.0.1", false},
	} {
		believed := false
		for _, p := range balancers(c.host) {
			believed = believed || p.Contains(mustAddr(t, c.peer))
		}
		mustBe(t, c.peer+" at "+c.host, believed, c.want)
	}
}

// A service that dies is said at once and started again.
func TestCrashIsSaidAndMended(t *testing.T) {
	s := sail(t, specOf(web("good"), deploy.Service{Name: "jobs", Command: "bin/app worker"}))
	s.healthy()
	first := s.pid()
	// It cannot come back before the health was read, however busy the machine is.
	bin, away := filepath.Join(s.dir, "bin/app"), filepath.Join(s.dir, "bin/away")
	if err := errors.Join(os.Rename(bin, away), syscall.Kill(first, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	sick := ""
	until(t, "the health says so", func() bool {
		code, body := s.health()
		sick = body
		return code == http.StatusServiceUnavailable
	})
	mustSay(t, "health", sick, `"name":"web"`)
	if strings.Contains(sick, "jobs") {
		t.Errorf("it blames what is well: %s", sick)
	}
	if err := os.Rename(away, bin); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	mustBe(t, "another process", s.pid() != first, true)
	mustBe(t, "started again", s.status().Services[0].Restarts >= 1, true)
	mustSay(t, "the log", s.errs.String(), "a service ended", "SIGKILL")
}

// One that always dies is tried again and again, slower and slower; the others serve, and the health names it.
func TestServiceThatCannotStart(t *testing.T) {
	s := sail(t, specOf(web("good"), deploy.Service{Name: "api", Command: "bin/app crash", Path: "/api"}, deploy.Service{Name: "gone", Command: "bin/nothing", Path: "/gone"}))
	until(t, "it was tried four times", func() bool { return s.status().Services[1].Restarts >= 3 })
	_, body := s.page("/get?word=still")
	mustBe(t, "the other service", body, "still\n")
	until(t, "the causes are said", func() bool {
		code, body := s.health()
		return code == 503 && strings.Contains(body, "ended with exit code 3") && strings.Contains(body, "ended with exit code 127") && !strings.Contains(body, `"web"`)
	})
	for quick, want := range []string{"0s", "100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "6.4s", "10s", "10s"} {
		mustBe(t, "pause", backoff(quick).String(), want)
	}
	mustBe(t, "pause", backoff(1000).String(), "10s")
}

// A port that somebody else has taken while the service was away is not its own any more.
func TestPortIsTakenBySomebodyElse(t *testing.T) {
	f, leave, err := open(t.Context(), Config{Dir: release(t, specOf(web("good"))), Env: environ(t), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	defer f.listener.Close()
	s := f.services[0]
	settle := func() int64 {
		if err := f.settlePort(s); err != nil {
			t.Fatal(err)
		}
		return s.port.Load()
	}
	first := settle()
	mustBe(t, "a port that is free", settle(), first)
	l, err := net.Listen("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	second := settle()
	mustBe(t, "another port", second != first, true)
	mustBe(t, "the proxy's target", f.site().Releases[0].Routes[0].Targets[0], s.address())
}

func TestPrivateStages(t *testing.T) {
	spec := specOf(web("good"))
	spec.Private = true
	dir := release(t, spec)
	err := refused(t, dir, environ(t), deploy.ErrMissing, "LOTSE_PRIVATE", "everybody could see it")
	if deploy.HintOf(err) == "" {
		t.Error("there is no hint")
	}
	err = refused(t, dir, environ(t, "LOTSE_PRIVATE={\"verifier\":\"secret-part"), deploy.ErrBadInput, "LOTSE_PRIVATE")
	if strings.Contains(err.Error(), "secret-part") {
		t.Errorf("it repeats the lock: %v", err)
	}
	refused(t, dir, environ(t, `LOTSE_PRIVATE={"verifier":"x","key":"eA=="}`), deploy.ErrBadInput, "private site")
	lock, err := proxy.NewPrivate(secret.New("open sesame"), 4)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(lock)
	s := sail(t, spec, "LOTSE_PRIVATE="+string(text))
	s.healthy()
	resp, _ := s.page("/get?word=hello")
	mustBe(t, "a stranger", resp.StatusCode, 401)
	resp, body := s.page("/get?word=hello", "Authorization", "Basic "+basic("open sesame"))
	mustBe(t, "who has the password", fmt.Sprintf("%d %q %t", resp.StatusCode, body, resp.Header.Get("X-Robots-Tag") != ""), `200 "hello\n" true`)
	var env []string
	if _, err := s.client().Task(within(t), Task{Name: "t", Command: []string{"env; cat /proc/$PPID/environ >/dev/null"}}, func(l string) { env = append(env, l) }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(env, "\n"), "LOTSE_PRIVATE") {
		t.Error("services are given the lock")
	}
}

func TestRefusalsOfSpecs(t *testing.T) {
	good, _ := json.Marshal(specOf(web("good")))
	for name, c := range map[string]struct {
		text string
		want error
		says []string
	}{
		"none":  {"", deploy.ErrNotFound, []string{"there is no", SpecFile}},
		"cut":   {string(good[:len(good)/2]), deploy.ErrBadInput, []string{SpecFile, "line 1"}},
		"typed": {"{\n\"app\": 5}", deploy.ErrBadInput, []string{"line 2", "app must be a string"}},
		"empty": {"{}", deploy.ErrBadInput, []string{"app is missing", "stage is missing", "rollout is missing", "host is missing", "release is missing", "services is missing"}},
		"wrong": {`{"app":"a","stage":"s","rollout":"r","host":"h","release":"sha256:00","migrations":"../up","mounts":[{"volume":"v","path":"../../etc"}],
			"services":[{"name":"x"},{"name":"x","command":"a"},{"name":"../y","command":"b"}]}`, deploy.ErrBadInput,
			[]string{"services.x must have either", `"x", which`, `"../y"`, "migrations is", `"v" cannot be put at`, `no absolute path for "v"`}},
		"host": {`{"app":"a","stage":"s","rollout":"r","host":"no host","release":"sha256:00","services":[{"name":"x","command":"a","path":"/"}]}`, deploy.ErrBadInput, []string{"no host name"}},
		"file": {`{"app":"a","stage":"s","rollout":"r","host":"h","release":"sha256:00","services":[{"name":"x","static":"dist","path":"/"}]}`, deploy.ErrBadInput, []string{"the index of static files", "x.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.text != "" {
				write(t, filepath.Join(dir, SpecFile), c.text, 0o644)
			}
			refused(t, dir, environ(t), c.want, c.says...)
		})
	}
}

// The JSON of a Spec is a contract: what was written once is read for ever.
func TestSpecAsItIsWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, SpecFile), `{"app":"shop","stage":"dev","rollout":"r1","release":"`+string(digest)+`","host":"shop.example.org",
		"redirects":["www.shop.example.org"],"private":true,"services":[{"name":"api","command":"node api.js","path":"/api","health":"/api/health","drain":20000000000,
		"volumes":[{"volume":"uploads","path":"data"}]}],"mounts":[{"volume":"uploads","path":"data"}],"volumes":{"uploads":"/var/lib/lotse/volumes/uploads"},
		"settings":["TOKEN"],"migrations":"db/migrations","postgres":17,"drain":15000000000,"later":1}`, 0o644)
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "fields", fmt.Sprint(s.App, s.Stage, s.Rollout, s.Release.Short(), s.Host, s.Redirects, s.Private, s.Volumes["uploads"], s.Settings, s.Migrations, s.Postgres, s.drain()),
		"shopdevr10123456789abshop.example.org[www.shop.example.org] true/var/lib/lotse/volumes/uploads[TOKEN]db/migrations17 15s")
	mustBe(t, "mounts, each once", fmt.Sprint(s.mounts()), "[{uploads data}]")
	s.Drain = 0
	mustBe(t, "the services' drain", s.drain().String(), "20s")
	s.Services[0].Drain = 0
	mustBe(t, "the usual drain", s.drain().String(), "30s")
}

func TestSettingsByName(t *testing.T) {
	e := environment{"TOKEN=one-secret", "MODE=production", "PATH=/usr/bin", "LOTSE_STAGE=production"}
	mustBe(t, "all but the platform's", len(e.secrets(nil)), 2)
	mustBe(t, "those that are named", fmt.Sprint(len(e.secrets([]string{"TOKEN"})), e.secrets([]string{"TOKEN"})[0].Reveal()), "1one-secret")
}

func TestTheAddressIsTaken(t *testing.T) {
	s := sail(t, specOf(web("good")))
	env := append(environ(t), "PORT="+fmt.Sprint(portOf(t, s.addr)))
	if err := refused(t, release(t, specOf(web("good"))), env, deploy.ErrUnavailable, "PORT"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
}
