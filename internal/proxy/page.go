package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"strings"
)

// style is all that the pages load. Its digest stands in their policy.
const style = `
:root{color-scheme:light dark;--back:#f3f5f7;--card:#fff;--text:#14202b;--soft:#52606d;--line:#8794a1;--sea:#0b5fa5;--on:#fff;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--back:#0f161d;--card:#18222c;--text:#e8edf2;--soft:#a5b3c0;--line:#6d7d8c;--sea:#7cc0ff;--on:#08233b;--bad:#ffb4ab}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--back);color:var(--text);font:1rem/1.5 system-ui,sans-serif}
main{width:100%;max-width:24rem;padding:2rem;background:var(--card);border-radius:.75rem;box-shadow:0 1px 3px #0003,0 8px 30px #0000001a}
h1{margin:0 0 .25rem;font-size:1.4rem;line-height:1.25;overflow-wrap:anywhere}
p{margin:0 0 1.25rem;color:var(--soft)}
p[role=alert]{color:var(--bad);font-weight:600}
label{display:block;margin-bottom:.35rem;font-weight:600}
input,button{width:100%;min-height:2.75rem;padding:.5rem .75rem;font:inherit;border-radius:.4rem}
input{margin-bottom:1rem;background:transparent;color:inherit;border:1px solid var(--line)}
button{border:0;background:var(--sea);color:var(--on);font-weight:600;cursor:pointer}
:focus-visible{outline:3px solid var(--sea);outline-offset:2px}
`

const pageFrame = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow, noarchive">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>` + style + `</style>
</head>
<body>
<main>
{main}</main>
</body>
</html>
`

// signInPage is what the page says.
type signInPage struct {
	gate   *gate
	to     string      // where to go from here
	wrong  verdictKind // isWrong, isLimited, or nothing
	unsent bool        // what the person sent to the app has not arrived there
}

func (p signInPage) html() string {
	app, stage := p.gate.names()
	notice, described := "", ""
	for _, n := range []struct {
		on   bool
		text string
	}{
		{p.wrong == isWrong, "This is not the password. Please try again."},
		{p.wrong == isLimited, "There were too many wrong passwords. Please wait a minute, then try again."},
		{p.unsent, "What you have just sent did not arrive. Sign in, then send it again."},
	} {
		if n.on {
			notice += `<p role="alert" id="notice">` + n.text + "</p>\n"
			described = ` aria-describedby="notice"`
			break
		}
	}
	if p.wrong == isWrong {
		described += ` aria-invalid="true"`
	}
	return framed("Sign in to "+app+" "+stage, `<h1>`+html.EscapeString(app)+`</h1>
<p>The stage <strong>`+html.EscapeString(stage)+`</strong> is private.</p>
`+notice+`<form method="post" action="`+signInPath+`">
<input type="hidden" name="to" value="`+html.EscapeString(p.to)+`">
<input type="text" name="username" autocomplete="username" value="`+html.EscapeString(p.gate.site)+`" hidden>
<label for="password">Password</label>
<input type="password" id="password" name="password" autocomplete="current-password" required autofocus`+described+`>
<button type="submit">Sign in</button>
</form>
`)
}

func signOutPage(g *gate) string {
	app, stage := g.names()
	return framed("Sign out of "+app+" "+stage, `<h1>`+html.EscapeString(app)+`</h1>
<p>Sign out of the stage <strong>`+html.EscapeString(stage)+`</strong> in this browser?</p>
<form method="post" action="`+signOutPath+`"><button type="submit" autofocus>Sign out</button></form>
`)
}

func framed(title, main string) string {
	return strings.NewReplacer("{title}", html.EscapeString(title), "{main}", main).Replace(pageFrame)
}

func (g *gate) names() (app, stage string) {
	app, stage, _ = strings.Cut(g.site, "/")
	return app, stage
}

// page answers with a page of ours. form-action holds for where a form's answer leads, too, and the app's first page may send a person on
// to the host where they sign in to the app.
func (x *exchange) page(status int, text string) {
	digest := sha256.Sum256([]byte(style))
	x.guarded(status, text, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(digest[:])+"'; form-action https:")
}

// guarded answers with a page that may load nothing but what policy lets it, run nothing and stand in no frame.
func (x *exchange) guarded(status int, text, policy string) {
	h := x.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; img-src data:; "+policy+"; base-uri 'none'; frame-ancestors 'none'")
	x.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = io.WriteString(x, text)
	}
}
