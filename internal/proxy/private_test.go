package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	"golang.org/x/crypto/bcrypt"

	"github.com/lotse-eu/lotse/internal/secret"
)

const password = "dock-schleuse-siel"

var locks = sync.OnceValues(func() (*Private, error) { return NewPrivate(secret.New(password), bcrypt.MinCost) }) // the race detector makes each look twenty times as long

func lock(t testing.TB) *Private {
	t.Helper()
	p, err := locks()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// closed is a private site whose instance says what it was sent.
func closed(t testing.TB, h *harbour) Site {
	s := site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Robots-Tag", "index")
		_ = json.NewEncoder(w).Encode(map[string]any{"path": r.URL.Path, "cookie": r.Header.Values("Cookie"), "authorization": r.Header.Values("Authorization")})
	}))
	s.Private = lock(t)
	h.put(s)
	return s
}

func with(kv ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(kv); i += 2 {
			r.Header.Set(kv[i], kv[i+1])
		}
	}
}

func basic(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth("anybody", password) }
}

const page, api = "https://" + host + "/boats?q=1", "https://" + host + "/api/boats"

// signIn posts the form and returns the answer, with the cookie if there is one.
func (h *harbour) signIn(c *http.Client, form url.Values, edit ...func(*http.Request)) (*http.Response, *http.Cookie, string) {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://"+host+signInPath, strings.NewReader(form.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, e := range edit {
		e(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for _, cookie := range resp.Cookies() {
		if cookie.Name == cookieName {
			return resp, cookie, string(body)
		}
	}
	return resp, nil, string(body)
}

func signedInWith(cookie *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value}) }
}

var browser = with("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none", "Sec-Fetch-Dest", "document", "Accept", "text/html,*/*;q=0.8")

// Who has not signed in learns nothing of the app, whoever asks and however; each is told how to do better in its own words.
func TestStrangersStayOutside(t *testing.T) {
	h := newHarbour(t)
	s := closed(t, h)
	s.Releases[0].Routes = append(s.Releases[0].Routes, Route{Prefix: "/files", Service: "files", Static: staticDir(t, map[string]string{"index.html": "files"}, "")})
	s.Redirects = map[string]string{"apex.localhost": "https://" + host}
	h.put(s)
	bothProtocols(t, func(t *testing.T, protocol string) {
		c := h.client(protocol)
		for name, ask := range map[string]struct {
			method, url string
			edit        func(*http.Request)
			page, basic bool
		}{
			"browser":           {http.MethodGet, page, browser, true, false},
			"browser, head":     {http.MethodHead, page, browser, false, false},
			"old browser":       {http.MethodGet, page, with("Accept", "text/html"), true, false},
			"a form":            {http.MethodPost, page, browser, true, false},
			"fetch":             {http.MethodGet, api, with("Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin", "Accept", "text/html"), false, false},
			"image":             {http.MethodGet, api, with("Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"), false, false},
			"preflight":         {http.MethodOptions, api, with("Sec-Fetch-Mode", "cors", "Origin", "https://other.localhost", "Access-Control-Request-Method", "PUT"), false, false},
			"curl":              {http.MethodGet, api, with("Accept", "*/*"), false, true},
			"curl, put":         {http.MethodPut, api, with("Accept", "*/*"), false, true},
			"websocket":         {http.MethodGet, api, with("Sec-Fetch-Mode", "websocket", "Upgrade", "websocket"), false, false},
			"token":             {http.MethodGet, api, with("Authorization", "Bearer "+password), false, true},
			"wrong password":    {http.MethodGet, api, basic("wrong"), false, true},
			"no password":       {http.MethodGet, api, basic(""), false, true},
			"broken basic":      {http.MethodGet, api, with("Authorization", "Basic ???"), false, true},
			"static":            {http.MethodGet, "https://" + host + "/files/", browser, true, false},
			"steering header":   {http.MethodGet, api, with(reachHeader, "key=shop%2Fdev&release=a"), false, true},
			"near a free path":  {http.MethodGet, "https://" + host + "/robots.txt/", nil, false, true},
			"below the sign-in": {http.MethodGet, "https://" + host + signInPath + "/x", nil, false, true},
		} {
			req, _ := http.NewRequest(ask.method, ask.url, nil)
			if ask.edit != nil {
				ask.edit(req)
			}
			if protocol == "HTTP/2.0" {
				req.Header.Del("Upgrade")
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			mustBe(t, name+": status", resp.StatusCode, http.StatusUnauthorized)
			mustBe(t, name+": page", strings.Contains(string(body), "<form"), ask.page)
			challenge := ""
			if ask.basic {
				challenge = `Basic realm="shop/dev", charset="UTF-8"`
			}
			mustBe(t, name+": challenge", resp.Header.Get("WWW-Authenticate"), challenge)
			mustBe(t, name+": Cache-Control", resp.Header.Get("Cache-Control"), "no-store")
			mustBe(t, name+": robots", strings.Join(resp.Header.Values(robotsHeader), "|"), noRobots)
			mustBe(t, name+": release", resp.Header.Get("Lotse-Release"), "")
		}
		resp, body := h.get(c, "https://"+host+"/robots.txt")
		mustBe(t, "robots.txt", fmt.Sprint(resp.StatusCode, body), "200User-agent: *\nDisallow: /\n")
		resp, _ = h.get(c, "https://apex.localhost/x")
		mustBe(t, "redirect", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location"), resp.Header.Get(robotsHeader)), "308https://"+host+"/x"+noRobots)
	})
}

// A person signs in with the form, stays signed in, and signs out.
func TestSignInAndOut(t *testing.T) {
	h := newHarbour(t)
	closed(t, h)
	bothProtocols(t, func(t *testing.T, protocol string) {
		c := h.client(protocol)
		c.Jar, _ = cookiejar.New(nil)
		_, text := h.get(c, page, browser)
		mustSay(t, "the page", text, `name="to" value="/boats?q=1"`)
		resp, cookie, _ := h.signIn(c, url.Values{"password": {password}, "to": {"/boats?q=1"}}, browser)
		mustBe(t, "answer", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location"), resp.Header.Get("Cache-Control")), "303/boats?q=1no-store")
		if cookie == nil {
			t.Fatal("no cookie")
		}
		mustSay(t, "the cookie", resp.Header.Get("Set-Cookie"), "; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax")
		if strings.Contains(resp.Header.Get("Set-Cookie"), "Domain") || !strings.HasPrefix(cookie.Name, "__Host-") {
			t.Error("the cookie is not of this host alone")
		}
		mustBe(t, "robots", resp.Header.Get(robotsHeader), noRobots)
		resp, body := h.get(c, page, browser, with("Cookie", "theirs=1"), with("Authorization", "Bearer of-the-app"))
		mustBe(t, "the app", fmt.Sprint(resp.StatusCode, body), `200{"authorization":["Bearer of-the-app"],"cookie":["theirs=1"],"path":"/boats"}`+"\n")
		mustBe(t, "robots of the app", strings.Join(resp.Header.Values(robotsHeader), "|"), noRobots)
		_, body = h.get(c, api, with("Sec-Fetch-Mode", "cors"))
		mustSay(t, "a fetch", body, `"cookie":null`)
		resp, _ = h.get(c, "https://"+host+signInPath, browser)
		mustBe(t, "the page again", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location")), "303/")
		_, body = h.get(c, "https://"+host+signOutPath, browser)
		mustSay(t, "sign-out asks", body, `method="post" action="/.lotse/sign-out"`)
		resp, _ = h.get(c, page, browser)
		mustBe(t, "asked only", resp.StatusCode, http.StatusOK)
		post, _ := http.NewRequest(http.MethodPost, "https://"+host+signOutPath, nil)
		resp, err := c.Do(post)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		mustBe(t, "signed out", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location")), "303"+signInPath)
		resp, _ = h.get(c, page, browser)
		mustBe(t, "after", resp.StatusCode, http.StatusUnauthorized)
	})
}

// The password by Basic authentication opens, for any user, and goes no further; what is not ours is left alone.
func TestBasicOpens(t *testing.T) {
	h := newHarbour(t)
	closed(t, h)
	c := h.client("HTTP/2.0")
	for range 2 { // by bcrypt, then by digest
		resp, body := h.get(c, api, basic(password))
		mustBe(t, "answer", fmt.Sprint(resp.StatusCode, body), `200{"authorization":null,"cookie":null,"path":"/api/boats"}`+"\n")
	}
	_, cookie, _ := h.signIn(c, url.Values{"password": {password}})
	_, body := h.get(c, api, signedInWith(cookie), basic(password))
	mustSay(t, "both", body, `"authorization":null,"cookie":null`)
	_, body = h.get(c, api, signedInWith(cookie), basic("of the app"))
	mustSay(t, "the app's own", body, `"authorization":["Basic `)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("NOT RUN: curl is not there")
		return
	}
	_, port, _ := strings.Cut(h.addr, ":")
	out, err := exec.Command("curl", "-sS", "--cacert", h.cfg.Authority.CertPath(), "--resolve", host+":"+port+":127.0.0.1",
		"-u", ":"+password, "https://"+host+":"+port+"/curl").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"path":"/curl"`) {
		t.Errorf("curl: %v %s", err, out)
	}
	jar := filepath.Join(t.TempDir(), "jar")
	out, err = exec.Command("curl", "-sS", "--cacert", h.cfg.Authority.CertPath(), "--resolve", host+":"+port+":127.0.0.1",
		"-L", "-b", jar, "-c", jar, "-d", "password="+password, "-d", "to=/kept", "https://"+host+":"+port+signInPath).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"path":"/kept"`) {
		t.Errorf("curl with a jar: %v %s", err, out)
	}
}

// No cookie but the one that was given opens: not that of another site, of an older password, one that was changed or one that
// has ended.
func TestCookiesThatDoNotOpen(t *testing.T) {
	var ahead atomic.Int64
	h := newHarbour(t, func(c *Config) { c.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	s := closed(t, h)
	c := h.client("HTTP/2.0")
	_, good, _ := h.signIn(c, url.Values{"password": {password}})
	status := func(value string) int {
		resp, _ := h.get(c, api, with("Cookie", cookieName+"="+value))
		return resp.StatusCode
	}
	mustBe(t, "the good one", status(good.Value), 200)
	mustBe(t, "behind others", status("x; "+cookieName+"=y; a=b; "+cookieName+"="+good.Value), 200)
	mustBe(t, "behind too many", status(strings.Repeat("x; "+cookieName+"=", cookiesMost)+good.Value), 401)
	for i := range len(good.Value) {
		changed := []byte(good.Value)
		changed[i] ^= 4
		mustBe(t, fmt.Sprintf("byte %d changed", i), status(string(changed)), 401)
	}
	for name, value := range map[string]string{"none": "", "shorter": good.Value[:len(good.Value)-4], "longer": good.Value + "AAAA",
		"for ever": "f" + good.Value[1:], "padded": good.Value + "=", "zero": strings.Repeat("A", len(good.Value))} {
		mustBe(t, name, status(value), 401)
	}
	// The same lock on another site: the name of the site is in the proof.
	h.put(Site{Key: "shop/other", Hosts: []string{"other.localhost"}, Private: s.Private, Releases: []Release{release("o", 100, instance(t, says("other")))}})
	resp, _ := h.get(c, "https://other.localhost/", signedInWith(good))
	mustBe(t, "of another site", resp.StatusCode, 401)
	ahead.Store(int64(cookieLife - time.Minute))
	mustBe(t, "before its end", status(good.Value), 200)
	ahead.Store(int64(cookieLife))
	mustBe(t, "after its end", status(good.Value), 401)
	ahead.Store(0)
	newer, err := NewPrivate(secret.New("another"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s.Private = newer
	h.put(s)
	mustBe(t, "of an older password", status(good.Value), 401)
	resp, _ = h.get(c, api, basic(password))
	mustBe(t, "the older password", resp.StatusCode, 401)
	s.Private = nil
	h.put(s)
	mustBe(t, "opened", status(""), 200)
}

// Sign-ins outlive the proxy, and neither its files nor its socket know the password.
func TestSignInsSurviveARestart(t *testing.T) {
	h := newHarbour(t)
	s := closed(t, h)
	_, cookie, _ := h.signIn(h.client("HTTP/1.1"), url.Values{"password": {password}})
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{stateFile, stateCopy} {
		text, err := os.ReadFile(filepath.Join(h.cfg.StateDir, file))
		if err != nil || strings.Contains(string(text), password) || !strings.Contains(string(text), "verifier") {
			t.Errorf("%s: %v, or it holds the password, or no verifier", file, err)
		}
		info, _ := os.Stat(filepath.Join(h.cfg.StateDir, file))
		mustBe(t, "mode of "+file, info.Mode().Perm(), os.FileMode(0o600))
	}
	h.start(nil)
	resp, _ := h.get(h.client("HTTP/2.0"), api, signedInWith(cookie))
	mustBe(t, "signed in", resp.StatusCode, 200)
	resp, _ = h.get(h.client("HTTP/2.0"), api)
	mustBe(t, "still private", resp.StatusCode, 401)
	got, err := h.steer.Get(t.Context(), s.Key)
	if err != nil || !got.Private.same(s.Private) {
		t.Errorf("the lock after a restart: %v %v", got.Private, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, got.Private); strings.Contains(text, got.Private.Verifier) || strings.Contains(text, fmt.Sprintf("%d", got.Private.Key)) {
			t.Errorf("%s prints it: %s", verb, text)
		}
	}
}

// However a way out is written, a person who has signed in is sent to a path of this host.
func TestNoOpenRedirect(t *testing.T) {
	h := newHarbour(t)
	closed(t, h)
	c := h.client("HTTP/2.0")
	for to, want := range map[string]string{"/a/b?c=d&e=/f": "/a/b?c=d&e=/f", "/x//y": "/x//y", "": "/", "//evil.example": "/", "///evil.example": "/", "/\\evil.example": "/", "\\\\evil.example": "/",
		"/\t/evil.example": "/", "/\n/evil.example": "/", "https://evil.example/": "/", "https:evil.example": "/", "javascript:alert(1)": "/", "evil": "/", "/a\r\nSet-Cookie: x=y": "/",
		"/.lotse/sign-out": "/", "/%2elotse/sign-out": "/", "/ä": "/", "?a": "/", " //evil.example": "/"} {
		resp, _, _ := h.signIn(c, url.Values{"password": {password}, "to": {to}})
		mustBe(t, fmt.Sprintf("after %q", to), resp.Header.Get("Location"), want)
		_, text := h.get(c, "https://"+host+signInPath+"?to="+url.QueryEscape(to), browser)
		mustSay(t, "the page", text, `name="to" value="`+strings.ReplaceAll(want, "&", "&amp;")+`"`)
	}
	_, text := h.get(c, "https://"+host+`/"><script>alert(1)</script>?"><b>`, browser)
	if strings.Contains(text, "<script") || strings.Contains(text, "<b>") {
		t.Errorf("the page holds what stood in the address: %s", text)
	}
}

// A form of another site, and what is no form, does not sign in.
func TestFormsOfOthers(t *testing.T) {
	h := newHarbour(t)
	closed(t, h)
	c := h.client("HTTP/1.1")
	right := url.Values{"password": {password}}
	for name, c2 := range map[string]struct {
		edit func(*http.Request)
		form url.Values
		want int
	}{
		"cross-site":     {with("Sec-Fetch-Site", "cross-site"), right, 403},
		"same-site":      {with("Sec-Fetch-Site", "same-site"), right, 403},
		"another origin": {with("Origin", "https://evil.example"), right, 403},
		"this origin":    {with("Origin", "https://"+host), right, 303},
		"json":           {with("Content-Type", "application/json"), right, 415},
		"too large":      {with(), url.Values{"password": {strings.Repeat("x", formBytes)}}, 400},
		"put":            {func(r *http.Request) { r.Method = http.MethodPut }, right, 405},
	} {
		resp, cookie, _ := h.signIn(c, c2.form, c2.edit)
		mustBe(t, name, resp.StatusCode, c2.want)
		mustBe(t, name+": cookie", cookie != nil, c2.want == 303)
	}
}

// The way of the engine leads past the gate, over the control socket alone, and shows what the app shows.
func TestReachOfAPrivateSite(t *testing.T) {
	h := newHarbour(t)
	s := closed(t, h)
	resp, body := h.get(&http.Client{Transport: h.steer.Reach(s.Key, "a")}, page)
	mustSay(t, "body", body, `"path":"/boats"`)
	mustBe(t, "answer", fmt.Sprint(resp.StatusCode, resp.Header.Get("Lotse-Release"), resp.Header.Get(robotsHeader)), "200label-a"+noRobots)
	_, body = h.get(&http.Client{Transport: h.steer.Reach(s.Key, "a")}, "https://"+host+"/robots.txt")
	mustSay(t, "the app's own robots.txt", body, `"path":"/robots.txt"`)
}

func TestWebsocketsOfAPrivateSite(t *testing.T) {
	ends := make(chan int, 1)
	h := newHarbour(t)
	s := site(1, "a", instance(t, echo(t, ends)))
	s.Private = lock(t)
	h.put(s)
	_, cookie, _ := h.signIn(h.client("HTTP/1.1"), url.Values{"password": {password}})
	dialer := gorilla.Dialer{NetDialContext: h.dial, TLSClientConfig: h.client("HTTP/1.1").Transport.(*http.Transport).TLSClientConfig}
	_, resp, err := dialer.Dial("wss://"+host+"/ws", nil)
	if err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a sign-in: %v", err)
	}
	conn, resp, err := dialer.Dial("wss://"+host+"/ws", http.Header{"Cookie": {cookieName + "=" + cookie.Value}})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "robots", resp.Header.Get(robotsHeader), noRobots)
	_ = conn.WriteMessage(gorilla.TextMessage, []byte("ahoy"))
	_, data, err := conn.ReadMessage()
	mustBe(t, "echo", fmt.Sprint(string(data), err), "ahoy<nil>")
	conn.Close()
	receive(t, "the end", ends)
}
