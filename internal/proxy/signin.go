package proxy

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	ours        = ".lotse" // the folder of a site's paths that are never the app's while the site is private
	signInPath  = "/" + ours + "/sign-in"
	signOutPath = "/" + ours + "/sign-out"
	formBytes   = 8 << 10
)

// signIn shows the page, or takes the password.
func (x *exchange) signIn(g *gate) {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		to := landing(x.r.URL.Query().Get("to"))
		if g.signedIn(x.r.Header, x.server.cfg.Clock()) {
			x.seeOther(to)
			return
		}
		x.page(http.StatusOK, signInPage{gate: g, to: to}.html())
	case http.MethodPost:
		if form, ok := x.form(); ok {
			x.tryPassword(g, form.Get("password"), landing(form.Get("to")))
		}
	default:
		x.onlyGetAndPost()
	}
}

func (x *exchange) tryPassword(g *gate, password, to string) {
	v := g.ask(x.r.Context(), x, password, true)
	switch {
	case v.kind == isRight:
		http.SetCookie(x, g.newCookie(x.server.cfg.Clock().Add(cookieLife)))
		x.seeOther(to)
	case x.navigates():
		status := http.StatusUnauthorized
		if v.kind == isLimited {
			status = x.mustWait(v)
		}
		x.page(status, signInPage{gate: g, to: to, wrong: v.kind}.html())
	default:
		x.turnAway(g, v)
	}
}

// signOut asks on GET, since a link or a preview must not do it, and does it on POST.
func (x *exchange) signOut(g *gate) {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		x.page(http.StatusOK, signOutPage(g))
	case http.MethodPost:
		if _, ok := x.form(); ok {
			http.SetCookie(x, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
			x.seeOther(signInPath)
		}
	default:
		x.onlyGetAndPost()
	}
}

func (x *exchange) onlyGetAndPost() {
	x.Header().Set("Allow", "GET, HEAD, POST")
	x.plain(http.StatusMethodNotAllowed, "this is a form")
}

// form reads a small form that was sent from a page of this host, or by no page at all; else it has answered.
func (x *exchange) form() (url.Values, bool) {
	if new(http.CrossOriginProtection).Check(x.r) != nil {
		x.plain(http.StatusForbidden, "this form was sent from another site")
		return nil, false
	}
	kind, _, _ := strings.Cut(x.r.Header.Get("Content-Type"), ";")
	if x.r.ContentLength != 0 && !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		x.plain(http.StatusUnsupportedMediaType, "this takes application/x-www-form-urlencoded")
		return nil, false
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(headerTimeout))
	text, err := io.ReadAll(http.MaxBytesReader(x.w, &x.body, formBytes))
	_ = control.SetReadDeadline(time.Time{})
	form, wrong := url.ParseQuery(string(text))
	if err != nil || wrong != nil {
		x.plain(http.StatusBadRequest, "the form cannot be read")
		return nil, false
	}
	return form, true
}

func (x *exchange) seeOther(to string) {
	x.Header().Set("Location", to)
	x.Header().Set("Cache-Control", "no-store")
	x.WriteHeader(http.StatusSeeOther)
}

// landing is where a person is sent who has signed in: a path of this host, never another host, and never one of our own forms. A
// browser takes \ for /, and leaves tabs and line ends out, before it looks where an address leads (WHATWG URL §4.4).
func landing(to string) string {
	strange := func(r rune) bool { return r <= ' ' || r == '\\' || r > '~' }
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsFunc(to, strange) ||
		u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "/"+ours+"/") {
		return "/"
	}
	return to
}

func seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}
