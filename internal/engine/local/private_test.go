package local_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

const firstPassword, secondPassword = "dock-schleuse-siel", "boje-priel-watt"

// visitor comes through the front door, as people do, and keeps cookies of its own.
type visitor struct {
	t      *testing.T
	base   string
	client *http.Client
	cookie string
}

func (m *machine) visitor(t *testing.T) *visitor {
	transport := &http.Transport{DialContext: proxy.DialLocalhost(nil), TLSClientConfig: &tls.Config{RootCAs: m.authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{t: t, base: fmt.Sprintf("%s:%d", m.stages[0].URL, m.port), client: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) ask(method, path, password string, form url.Values) *http.Response {
	v.t.Helper()
	req, err := http.NewRequestWithContext(within(v.t, patience), method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if password != "" {
		req.SetBasicAuth("", password)
	}
	if v.cookie != "" {
		req.Header.Set("Cookie", v.cookie)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

func (v *visitor) sees(what, password string, want int) {
	v.t.Helper()
	resp := v.ask(http.MethodGet, "/about", password, nil)
	if resp.StatusCode != want {
		v.t.Errorf("%s: status %d, want %d", what, resp.StatusCode, want)
	}
	if private := resp.Header.Get("X-Robots-Tag") != ""; resp.StatusCode == http.StatusUnauthorized && !private {
		v.t.Errorf("%s: search engines are not asked to stay away", what)
	}
}

func (v *visitor) signIn(password string) {
	v.t.Helper()
	resp := v.ask(http.MethodPost, "/.lotse/sign-in", "", url.Values{"password": {password}})
	if resp.StatusCode != http.StatusSeeOther {
		v.t.Fatalf("signing in: %s", resp.Status)
	}
	v.cookie, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
}

// private is an order for a stage with a password.
func (m *machine) private(t *testing.T, id, password string) deploy.Order {
	o := m.order(0, id, m.release(t, id, web("good", 1)))
	o.Stage.Private, o.Password = true, secret.New(password)
	return o
}

// guarded is an engine whose looks at passwords are cheap: the race detector makes each twenty times as long.
func (m *machine) guarded(t *testing.T) *local.Engine {
	c := m.config(m.stages[0])
	c.PasswordCost = bcrypt.MinCost
	e, err := local.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A private stage is closed from its first request on, through every rollout and restart, and while nothing runs; the ways of the
// engine stay open to the engine; the password is nowhere on disk.
func TestPrivateStage(t *testing.T) {
	m := newMachine(t)
	e, v := m.guarded(t), m.visitor(t)
	ctx := within(t, 2*patience)
	mustDo(t, e.Start(ctx, 1, m.private(t, "one", firstPassword)))
	v.sees("before the shift", "", 401)
	v.sees("before the shift, with the password", firstPassword, 503)
	if resp, _ := reach(t, m, e, "one", "/about"); resp.StatusCode != http.StatusOK {
		t.Errorf("reach: %s", resp.Status)
	}
	mustDo(t, e.Check(ctx, "one"), e.Shift(ctx, 1, "one", 100))
	v.sees("a stranger", "", 401)
	v.sees("a guess", "a guess", 401)
	v.sees("the password", firstPassword, 200)
	v.signIn(firstPassword)
	v.sees("signed in", "", 200)

	plan := m.plan(m.stages[0])
	plan.Gets, plan.Fresh, plan.Sockets, plan.Streams, plan.Header = 2, 1, 1, 1, load.Basic(secret.New(firstPassword))
	hammer := load.Start(ctx, plan)
	mustDo(t, hammer.Await(ctx, 20))
	mustDo(t, e.Start(ctx, 2, m.private(t, "two", firstPassword)), e.Shift(ctx, 2, "two", 100), e.Stop(ctx, 2, "one", patience))
	mustDo(t, hammer.Await(ctx, 20))
	if r := hammer.Stop(); r.Failed > 0 {
		t.Errorf("load with the password: %s", r.Summary())
	}
	v.sees("signed in, a rollout later", "", 200)
	stranger := m.visitor(t)
	stranger.sees("a stranger, a rollout later", "", 401)
	mustDo(t, e.Stop(ctx, 2, "two", 0))
	stranger.sees("nothing runs", "", 401)
	v.sees("nothing runs, signed in", "", 503)
	mustDo(t, filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/depot/") {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), firstPassword) {
			t.Errorf("%s holds the password", path)
		}
		return err
	}))
	if strings.Contains(m.log.String(), firstPassword) {
		t.Error("the log holds the password")
	}
}

// A new password is that of the whole stage, whoever brings it: a rollout, an adoption, or by itself. It ends the sign-ins; the same
// one again does not.
func TestNewPassword(t *testing.T) {
	m := newMachine(t)
	e, v := m.guarded(t), m.visitor(t)
	ctx := within(t, 2*patience)
	o := m.private(t, "one", firstPassword)
	mustDo(t, e.Start(ctx, 1, o), e.Shift(ctx, 1, "one", 100))
	v.signIn(firstPassword)
	fresh := m.guarded(t)
	mustDo(t, fresh.Adopt(ctx, "one", o), fresh.SetPassword(ctx, 2, secret.New(firstPassword)), fresh.Start(ctx, 2, o))
	v.sees("the same password", "", 200)
	o.Password = secret.Text{}
	mustDo(t, fresh.Adopt(ctx, "one", o))
	v.sees("an adoption without a password", "", 200)
	o.Password = secret.New(secondPassword)
	mustDo(t, fresh.Adopt(ctx, "one", o))
	v.sees("signed in with the one before", "", 401)
	v.sees("the one before", firstPassword, 401)
	v.sees("the new one", secondPassword, 200)
	mustDo(t, fresh.SetPassword(ctx, 2, secret.New(firstPassword)))
	v.sees("the next", firstPassword, 200)
	mustDo(t, fresh.Start(ctx, 3, m.private(t, "two", secondPassword)))
	v.sees("that of a rollout without traffic", secondPassword, 200)
	if err := fresh.SetPassword(ctx, 3, secret.Text{}); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("none: %v", err)
	}
	if err := fresh.SetPassword(ctx, 2, secret.New("late")); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("an old fence: %v", err)
	}
}

// Whoever has traffic decides whether the stage is open, and a private rollout closes it for both.
func TestWhoDecidesWhatIsOpen(t *testing.T) {
	m := newMachine(t)
	e, v := m.guarded(t), m.visitor(t)
	ctx := within(t, 2*patience)
	m.up(t, e, 0, "open", web("good", 1))
	mustDo(t, e.Shift(ctx, 1, "open", 100))
	v.sees("open", "", 200)
	mustDo(t, e.Start(ctx, 1, m.private(t, "closed", firstPassword)))
	v.sees("a private one without traffic", "", 200)
	mustDo(t, e.Shift(ctx, 1, "closed", 5))
	v.sees("a private one with some", "", 401)
	mustDo(t, e.Shift(ctx, 1, "closed", 100))
	v.sees("a private one with all", "", 401)
	again := m.guarded(t)
	m.up(t, again, 0, "open-again", web("good", 1))
	v.sees("an open one without traffic", "", 401)
	mustDo(t, again.Shift(ctx, 1, "open-again", 100))
	v.sees("an open one with all", "", 200)
}

// A private stage without a password is refused before anything is done; one that has lost its lock is not published as open.
func TestPrivateWithoutPassword(t *testing.T) {
	m := newMachine(t)
	e, v := m.guarded(t), m.visitor(t)
	ctx := within(t, 2*patience)
	if err := e.Start(ctx, 1, m.private(t, "bare", "")); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	mustDo(t, e.Start(ctx, 1, m.private(t, "one", firstPassword)), e.Shift(ctx, 1, "one", 100))
	path := filepath.Join(m.stageDir(m.stages[0]), "stage.json")
	raw, err := os.ReadFile(path)
	mustDo(t, err, os.WriteFile(path, []byte(strings.Replace(string(raw), `"lock"`, `"lost"`, 1)), 0o600))
	if err := e.Shift(ctx, 1, "one", 100); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("without its lock: %v", err)
	}
	v.sees("without its lock", "", 401)
}
