package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"whatsgonow/internal/password"
	"whatsgonow/internal/pgtest"
	"whatsgonow/internal/photo"
	"whatsgonow/internal/store"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// an app is the API as it runs, over real connections.
type app struct {
	t      *testing.T
	url    string
	store  *store.Store
	server *Server
	log    *syncBuffer
	end    context.CancelFunc // what SIGTERM does to the streams
}

func start(t *testing.T) *app {
	t.Helper()
	return startWith(t, pgtest.Migrated(t))
}

func startWith(t *testing.T, database string) *app {
	t.Helper()
	st, err := store.Open(database, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	shelf, err := photo.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	a := &app{t: t, store: st, log: &syncBuffer{}, end: end}
	a.server = &Server{
		Store: st, Photos: shelf, Passwords: password.NewKeeper(2), Now: time.Now,
		Log: slog.New(slog.NewJSONHandler(a.log, nil)), Release: "r7", Stage: "test", Heartbeat: time.Hour,
	}
	srv := httptest.NewServer(a.server.Handler())
	a.url = srv.URL
	streams := make(chan struct{})
	go func() { a.server.Streams(ctx); close(streams) }()
	t.Cleanup(func() { end(); <-streams; srv.Close() })
	return a
}

// a client is one person's browser.
type client struct {
	*app
	cookie string
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) get(t *testing.T, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %v in %s", path, a.body)
		}
		v = m[p]
	}
	return v
}

func (a answer) text(t *testing.T, path ...string) string {
	t.Helper()
	return fmt.Sprint(a.get(t, path...))
}

func (c *client) request(method, path, body string, headers ...string) *http.Request {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.cookie != "" {
		req.Header.Set("Cookie", cookieName+"="+c.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	resp, err := http.DefaultClient.Do(c.request(method, path, body, headers...))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, cookie := range resp.Cookies() {
		c.cookie = cookie.Value
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (c *client) want(status int, method, path, body string) answer {
	c.t.Helper()
	a := c.do(method, path, body)
	if a.status != status {
		c.t.Fatalf("%s %s = %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

func (a *app) guest() *client { return &client{app: a} }

func (a *app) person(name string) *client {
	a.t.Helper()
	c := a.guest()
	c.want(201, "POST", "/api/account", fmt.Sprintf(`{"name":"%s Muster","email":"%s@example.org","password":"immer der Nase nach"}`, name, strings.ToLower(name)))
	return c
}

func draft(extra string) string {
	start := time.Now().UTC().Truncate(time.Hour)
	return fmt.Sprintf(`{"title":"Kommode","note":"von Oma","size":"large","weight_kg":30,"price_cents":6000,
		"from":{"name":"Leipzig","lat":51.34,"lng":12.37},"to":{"name":"Hamburg","lat":53.55,"lng":9.99},
		"window":{"start":%q,"end":%q}%s}`, start.Format(time.RFC3339), start.Add(48*time.Hour).Format(time.RFC3339), extra)
}

func (c *client) post() string {
	c.t.Helper()
	return c.want(201, "POST", "/api/transports", draft("")).text(c.t, "id")
}

func offerID(t *testing.T, a answer) string {
	t.Helper()
	offers := a.get(t, "offers").([]any)
	return offers[0].(map[string]any)["id"].(string)
}

func TestFromPostToCompleted(t *testing.T) {
	a := start(t)
	frieda, jonas, ruben := a.person("Frieda"), a.person("Jonas"), a.person("Ruben")
	id := frieda.post()
	at := "/api/transports/" + id

	found := jonas.want(200, "GET", "/api/transports?from=51.05,13.74&to=53.55,9.99&detour=60", "")
	if !strings.Contains(found.body, id) || strings.Contains(found.body, "Muster") {
		t.Errorf("found: %s", found.body)
	}
	if mine := frieda.want(200, "GET", "/api/transports?from=51.05,13.74&to=53.55,9.99", ""); strings.Contains(mine.body, id) {
		t.Error("she is offered her own transport")
	}
	offer := offerID(t, jonas.want(201, "POST", at+"/offers", `{"price_cents":7000,"note":"Freitag"}`))
	rubens := offerID(t, ruben.want(201, "POST", at+"/offers", `{"price_cents":9000}`))
	if seen := ruben.want(200, "GET", at, ""); strings.Contains(seen.body, "Freitag") {
		t.Error("a driver sees what another offers")
	}
	ruben.want(404, "POST", "/api/offers/"+offer+"/reject", `{}`)
	jonas.want(403, "POST", "/api/offers/"+offer+"/accept", `{}`)
	frieda.want(200, "POST", "/api/offers/"+offer+"/counter", `{"price_cents":6500}`)
	frieda.want(403, "POST", "/api/offers/"+offer+"/accept", `{}`)
	v := jonas.want(200, "POST", "/api/offers/"+offer+"/accept", `{}`)
	if v.text(t, "status") != "deal_accepted" || v.text(t, "deal_cents") != "6500" || v.text(t, "part") != "driver" {
		t.Errorf("after the deal: %s", v.body)
	}
	frieda.want(409, "POST", "/api/offers/"+rubens+"/accept", `{}`)

	jonas.want(403, "POST", at+"/confirm", `{}`)
	v = frieda.want(200, "POST", at+"/confirm", `{}`)
	code := v.text(t, "handover_code")
	jonas.want(200, "POST", at+"/pick-up", `{}`)
	if seen := jonas.want(200, "GET", at, ""); strings.Contains(seen.body, code) {
		t.Error("the driver sees the handover code")
	}
	wrong := jonas.want(422, "POST", at+"/deliver", `{"code":"WGN-AAAA-AAAA"}`)
	if wrong.text(t, "code") != "wrong_code" {
		t.Errorf("the wrong code: %s", wrong.body)
	}
	typed := " " + strings.ToLower(strings.ReplaceAll(code, "-", ""))
	jonas.want(200, "POST", at+"/deliver", fmt.Sprintf(`{"code":%q}`, typed))
	ruben.want(403, "POST", at+"/complete", `{}`)
	v = frieda.want(200, "POST", at+"/complete", `{}`)
	if v.text(t, "status") != "completed" || len(v.get(t, "can").([]any)) != 0 {
		t.Errorf("at the end: %s", v.body)
	}
	if n := len(v.get(t, "history").([]any)); n != 12 {
		t.Errorf("the audit log has %d lines: %s", n, v.body)
	}
	frieda.want(401, "DELETE", "/api/account", `{"password":"wrong"}`)
	frieda.want(204, "DELETE", "/api/account", `{"password":"immer der Nase nach"}`)
	frieda.want(401, "GET", "/api/mine", "")
	for _, secret := range []string{"Frieda", "example.org", id, "51.34", code, "/api/transports/" + id} {
		if strings.Contains(a.log.String(), secret) {
			t.Errorf("the log tells %q", secret)
		}
	}
	if !strings.Contains(a.log.String(), `"endpoint":"POST /api/transports/{id}/{verb}","status":200`) {
		t.Errorf("the log lacks endpoints: %s", a.log.String())
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	c := start(t).guest()
	a := c.want(422, "POST", "/api/account", `{"name":" ","email":"nobody","password":"short"}`)
	if n := len(a.get(t, "errors").([]any)); n != 3 || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d mistakes in %s", n, a.body)
	}
	c.want(400, "POST", "/api/account", `{"name":`)
	c.want(400, "POST", "/api/account", `{"admin":true}`)
	c.want(400, "POST", "/api/account", `{} {}`)
	c.want(413, "POST", "/api/account", `{"name":"`+strings.Repeat("x", mostJSON)+`"}`)
	c.want(422, "GET", "/api/transports?from=1,2,3&to=&detour=-1&start=now", "")
	c.want(404, "GET", "/api/transports/1%27%20or%20true", "")
	c.want(404, "GET", "/api/nothing", "")
	c.want(401, "POST", "/api/transports", "{}")
}

func TestSessionCookie(t *testing.T) {
	a := start(t)
	frieda := a.person("Frieda")
	in := a.guest().want(200, "POST", "/api/session", `{"email":"FRIEDA@example.org ","password":"immer der Nase nach"}`)
	set := in.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-session=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(set, part) {
			t.Errorf("no %s in %s", part, set)
		}
	}
	if strings.Contains(set, "Domain") {
		t.Errorf("a __Host- cookie has no domain: %s", set)
	}
	unknown := a.guest().want(401, "POST", "/api/session", `{"email":"nobody@example.org","password":"immer der Nase nach"}`)
	wrong := a.guest().want(401, "POST", "/api/session", `{"email":"frieda@example.org","password":"immer"}`)
	if unknown.body != wrong.body {
		t.Error("the answer tells whether there is an account")
	}
	a.guest().want(409, "POST", "/api/account", `{"name":"Frida","email":"Frieda@example.org","password":"immer der Nase nach"}`)
	token := frieda.cookie
	frieda.want(204, "DELETE", "/api/session", "")
	frieda.cookie = token
	frieda.want(401, "GET", "/api/mine", "")
	if s := frieda.want(200, "GET", "/api/session", ""); s.get(t, "person") != nil {
		t.Errorf("signed out, and yet %s", s.body)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	a := start(t)
	frieda := a.person("Frieda")
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		if got := frieda.do("POST", "/api/transports", draft(""), h...); got.status != 403 || got.text(t, "code") != "cross_origin" {
			t.Errorf("%v: %d %s", h, got.status, got.body)
		}
	}
	if got := frieda.do("POST", "/api/transports", draft(""), "Sec-Fetch-Site", "same-origin"); got.status != 201 {
		t.Errorf("same origin: %d %s", got.status, got.body)
	}
}

func TestHealth(t *testing.T) {
	a := start(t)
	if got := a.guest().want(200, "GET", "/api/health", ""); got.text(t, "release") != "r7" || got.text(t, "stage") != "test" {
		t.Errorf("got %s", got.body)
	}
	frieda := a.person("Frieda")
	a.store.Close() // as good as a database that went away
	if got := frieda.do("GET", "/api/health", ""); got.status != 503 || strings.Contains(got.body, "postgres") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Without a database this needs none: it is about not having one.
func TestHealthWithoutADatabase(t *testing.T) {
	a := startWith(t, "postgres://me:hunter2@/x?host="+t.TempDir())
	c := a.guest()
	if got := c.want(503, "GET", "/api/health", ""); strings.Contains(got.body, "hunter2") || strings.Contains(got.body, "host") {
		t.Errorf("it tells %s", got.body)
	}
	got := c.want(503, "GET", "/api/transports?from=52,13&to=53,10", "")
	if got.text(t, "code") != "away" || got.header.Get("Retry-After") == "" {
		t.Errorf("got %s", got.body)
	}
	if strings.Contains(a.log.String(), "hunter2") {
		t.Errorf("the log tells: %s", a.log.String())
	}
}

func TestPhotos(t *testing.T) {
	a := start(t)
	guest, frieda := a.guest(), a.person("Frieda")
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 9, 9)), nil); err != nil {
		t.Fatal(err)
	}
	id := guest.want(201, "POST", "/api/uploads", picture.String()).text(t, "id")
	got := guest.want(200, "GET", "/api/uploads/"+id, "")
	if got.header.Get("Content-Type") != "image/jpeg" || got.header.Get("X-Content-Type-Options") != "nosniff" || got.body != picture.String() {
		t.Errorf("got %v", got.header)
	}
	v := frieda.want(201, "POST", "/api/transports", draft(`,"photo":"`+id+`"`))
	if v.text(t, "photo") != id {
		t.Errorf("the transport has no photo: %s", v.body)
	}
	frieda.want(422, "POST", "/api/transports", draft(`,"photo":"`+id+`"`)) // it is taken
	guest.want(415, "POST", "/api/uploads", "<svg onload=alert(1)>")
	huge := picture.String()[:2] + strings.Repeat("\xFF\xFE\xFF\xFF"+strings.Repeat("x", 65533), mostPhoto/65533+1)
	guest.want(413, "POST", "/api/uploads", huge)
	guest.want(404, "GET", "/api/uploads/..%2f..%2fetc%2fpasswd", "")
	frieda.want(204, "DELETE", "/api/account", `{"password":"immer der Nase nach"}`)
	guest.want(404, "GET", "/api/uploads/"+id, "")
}

func (c *client) listen(after string) *bufio.Scanner {
	c.t.Helper()
	headers := []string{}
	if after != "" {
		headers = []string{"Last-Event-ID", after}
	}
	resp, err := http.DefaultClient.Do(c.request("GET", "/api/events", "", headers...))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		c.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	blocks := bufio.NewScanner(resp.Body)
	blocks.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
			return i + 2, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return 0, nil, fmt.Errorf("the stream ended inside of an event: %q", data)
		}
		return 0, nil, nil
	})
	return blocks
}

func next(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatalf("the stream ended: %v", s.Err())
	}
	return s.Text()
}

func TestEvents(t *testing.T) {
	a := start(t)
	frieda, jonas := a.person("Frieda"), a.person("Jonas")
	id := frieda.post()
	stream := frieda.listen("")
	if got := next(t, stream); got != "retry: 2000\nid: 0" {
		t.Fatalf("it begins with %q", got)
	}
	jonas.want(201, "POST", "/api/transports/"+id+"/offers", `{"price_cents":7000}`)
	if got := next(t, stream); !strings.HasPrefix(got, "id: 1\nevent: change\ndata: {") || !strings.Contains(got, `"verb":"propose","status":"proposed"`) {
		t.Errorf("the offer: %q", got)
	}
	if got := next(t, stream); !strings.HasPrefix(got, "id: 2\n") || !strings.Contains(got, `"status":"offer_pending"`) {
		t.Errorf("the transport: %q", got)
	}

	again := frieda.listen("1") // as a browser does after a break
	if got := next(t, again); got != "retry: 2000\nid: 1" {
		t.Errorf("it goes on with %q", got)
	}
	if got := next(t, again); !strings.HasPrefix(got, "id: 2\n") {
		t.Errorf("after 1 comes %q", got)
	}

	a.end()
	for _, s := range []*bufio.Scanner{stream, again} {
		if s.Scan() || s.Err() != nil {
			t.Errorf("at the end: %q, %v", s.Text(), s.Err())
		}
	}
	if late := frieda.listen("2"); next(t, late) == "" || late.Scan() {
		t.Error("a stream opened after the end goes on")
	}
	a.guest().want(401, "GET", "/api/events", "")
}

func TestAStreamEndsWithItsSession(t *testing.T) {
	a := start(t)
	a.server.Heartbeat = time.Millisecond
	frieda := a.person("Frieda")
	stream := frieda.listen("")
	next(t, stream)
	(&client{app: a, cookie: frieda.cookie}).want(204, "DELETE", "/api/session", "")
	for stream.Scan() { // heartbeats, until it ends
	}
	if stream.Err() != nil {
		t.Error(stream.Err())
	}
}

// syncBuffer is a buffer that many may write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
