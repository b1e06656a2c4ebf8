package plane

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"
)

const stickyCookie = "AWSALBTG"

var errDelayOver = errors.New("the deregistration delay is over")

// born is the key of the time at which a client connected.
type born struct{}

func bornNow(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, born{}, time.Now())
}

// ServeHTTP implements http.Handler: the first rule that takes the request answers it.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if at, ok := r.Context().Value(born{}).(time.Time); ok && r.Header.Get("Upgrade") == "" && time.Since(at) > time.Duration(l.balancer.keepFor.Load()) {
		w.Header().Set("Connection", "close") // over HTTP/2 the server makes it a GOAWAY
	}
	for _, rule := range *l.table.Load() {
		if !rule.takes(r) {
			continue
		}
		switch a := rule.Action; {
		case a.Fixed != nil:
			a.Fixed.write(w)
		case a.Redirect != nil:
			l.redirect(w, r, *a.Redirect)
		default:
			l.forward(w, r, a)
		}
		return
	}
}

func (f FixedResponse) write(w http.ResponseWriter) {
	w.Header().Set("Server", "awselb/2.0")
	w.Header().Set("Content-Type", cmp.Or(f.ContentType, "text/plain; charset=utf-8"))
	w.WriteHeader(f.Code)
	fmt.Fprint(w, f.Body)
}

// fail is an error of the balancer itself.
func fail(w http.ResponseWriter, code int) {
	title := strconv.Itoa(code) + " " + http.StatusText(code)
	FixedResponse{code, "text/html", "<html><head><title>" + title + "</title></head><body><center><h1>" + title + "</h1></center></body></html>"}.write(w)
}

func (l *Listener) protocol() string {
	if l.secure {
		return "https"
	}
	return "http"
}

func (l *Listener) redirect(w http.ResponseWriter, r *http.Request, to Redirect) {
	fill := strings.NewReplacer("#{protocol}", l.protocol(), "#{host}", hostOf(r.Host), "#{port}", strconv.Itoa(l.port),
		"#{path}", strings.TrimPrefix(r.URL.EscapedPath(), "/"), "#{query}", r.URL.RawQuery)
	part := func(given, otherwise string) string { return fill.Replace(cmp.Or(given, otherwise)) }
	host := net.JoinHostPort(part(to.Host, "#{host}"), part(to.Port, "#{port}"))
	where := strings.ToLower(part(to.Protocol, "#{protocol}")) + "://" + host + part(to.Path, "/#{path}")
	if query := part(to.Query, "#{query}"); query != "" {
		where += "?" + query
	}
	w.Header().Set("Server", "awselb/2.0")
	w.Header().Set("Location", where)
	w.WriteHeader(cmp.Or(to.Code, http.StatusMovedPermanently))
}

func (l *Listener) forward(w http.ResponseWriter, r *http.Request, a Action) {
	g := l.choose(r, a)
	if g == nil {
		fail(w, http.StatusServiceUnavailable)
		return
	}
	if a.Sticky > 0 {
		now := l.balancer.plane.o.Clock()
		http.SetCookie(w, &http.Cookie{Name: stickyCookie, Value: stick(g, now.Add(a.Sticky)), Path: "/", Expires: now.Add(a.Sticky)}) //nolint:gosec // as the real one is set
	}
	m, done := g.take()
	if m == nil {
		fail(w, http.StatusServiceUnavailable)
		return
	}
	defer done()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(m.life, func() { cancel(context.Cause(m.life)) })()
	l.proxy(g, m).ServeHTTP(w, r.WithContext(ctx))
}

// choose picks the target group: the one that holds the client, else one by weight. nil where no group has a weight.
func (l *Listener) choose(r *http.Request, a Action) *Group {
	if a.Sticky > 0 {
		if g := l.stuck(r, a); g != nil {
			return g
		}
	}
	sum := 0
	for _, w := range a.Forward {
		sum += w.Weight
	}
	if sum == 0 {
		return nil
	}
	at := rand.IntN(sum) //nolint:gosec // a share of traffic, not a secret
	for _, w := range a.Forward {
		if at -= w.Weight; at < 0 {
			return w.Group
		}
	}
	return nil
}

// stuck is the group of the request's cookie, if that has not run out and the group stands in the rule.
func (l *Listener) stuck(r *http.Request, a Action) *Group {
	for _, c := range r.CookiesNamed(stickyCookie) {
		name, until, ok := unstick(c.Value)
		if !ok || !l.balancer.plane.o.Clock().Before(until) {
			continue
		}
		for _, w := range a.Forward {
			if w.Group.name == name {
				return w.Group
			}
		}
	}
	return nil
}

func stick(g *Group, until time.Time) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(until.UnixNano(), 10) + " " + g.name))
}

func unstick(value string) (group string, until time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(value)
	number, group, found := strings.Cut(string(raw), " ")
	nanos, bad := strconv.ParseInt(number, 10, 64)
	return group, time.Unix(0, nanos), err == nil && found && bad == nil
}

// proxy carries one request to a target. Nothing is sent twice: where a target hangs up, that is a 502, as with the real one.
func (l *Listener) proxy(g *Group, m *member) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { l.rewrite(g, r) },
		Transport:     onceOnly{m.transport},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(l.balancer.plane.o.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if timedOut(err) && !errors.Is(context.Cause(r.Context()), errDelayOver) {
				fail(w, http.StatusGatewayTimeout)
				return
			}
			fail(w, http.StatusBadGateway)
		},
	}
}

// rewrite changes what a load balancer changes and nothing else: the Host and the query stay as the client sent them.
func (l *Listener) rewrite(g *Group, r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = strings.ToLower(g.protocol), anyTarget
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.Out.Host = r.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-Host"} { // a reverse proxy of Go drops them, this balancer does not
		if v := r.In.Header.Values(name); len(v) > 0 {
			r.Out.Header[name] = v
		}
	}
	client, _, _ := net.SplitHostPort(r.In.RemoteAddr)
	before := r.In.Header.Values("X-Forwarded-For")
	r.Out.Header.Set("X-Forwarded-For", strings.Join(append(slices.Clip(before), client), ", "))
	r.Out.Header.Set("X-Forwarded-Proto", l.protocol())
	r.Out.Header.Set("X-Forwarded-Port", strconv.Itoa(l.port))
	if r.Out.Header.Get("X-Amzn-Trace-Id") == "" {
		r.Out.Header.Set("X-Amzn-Trace-Id", fmt.Sprintf("Root=1-%08x-%024x", l.balancer.plane.o.Clock().Unix(), rand.Uint64())) //nolint:gosec // a mark in logs
	}
	if _, ok := r.In.Header["User-Agent"]; !ok {
		r.Out.Header.Set("User-Agent", "") // otherwise Go sets its own
	}
}

// onceOnly keeps net/http from sending a request again on another connection: a body that cannot be rewound forbids it.
type onceOnly struct{ *http.Transport }

func (o onceOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = emptyBody{}
	}
	return o.Transport.RoundTrip(r)
}

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// idleConn ends a connection on which nothing moved in either direction for a while.
type idleConn struct {
	net.Conn
	timeout time.Duration
}

func (c *idleConn) Read(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *idleConn) Write(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
