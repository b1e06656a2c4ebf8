package proxy

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

const appPage = `<!doctype html><meta charset="utf-8"><title>boats</title><link rel="icon" href="data:,"><h1>Boats</h1>`

// chromium is a headless browser that takes every name to the harbour and trusts its authority's certificates unseen.
func (h *harbour) chromium() context.Context {
	h.t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		h.t.Skip("NOT RUN: no Chromium is here, so that nothing was shown of a real browser")
	}
	dir, err := os.MkdirTemp("", "px") // its locks are links that t.TempDir may not remove in time
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(dir) })
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.IgnoreCertErrors, chromedp.UserDataDir(dir),
		chromedp.Flag("host-resolver-rules", "MAP *.localhost "+h.addr), chromedp.WindowSize(900, 700))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root has no other way to run it
	}
	limit, cancelLimit := context.WithTimeout(context.Background(), 60*time.Second)
	allocator, cancelAllocator := chromedp.NewExecAllocator(limit, options...)
	ctx, cancel := chromedp.NewContext(allocator)
	h.t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		cancelAllocator()
		cancelLimit()
	})
	if err := chromedp.Do(ctx); err != nil {
		h.t.Fatal(err)
	}
	return ctx
}

func js[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// becomes waits for a page on the way to which the one before may vanish under the question.
func becomes(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	eventually(t, expression, func() bool {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		return err == nil && is
	})
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// A person in a real browser meets the page, is told of a mistake, signs in, has the app with its fetches and websockets, and signs
// out. Without a sign-in a page's fetch ends with 401 and no dialog hangs over the page.
func TestSignInInABrowser(t *testing.T) {
	h := newHarbour(t)
	s := site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			if conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
				defer conn.CloseNow()
				kind, data, _ := conn.Read(r.Context())
				_ = conn.Write(r.Context(), kind, data)
				_, _, _ = conn.Read(r.Context())
			}
		case "/api":
			fmt.Fprint(w, "cookies: "+r.Header.Get("Cookie"))
		default:
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Set-Cookie", "theirs=1; Path=/")
			fmt.Fprint(w, appPage)
		}
	}))
	s.Private = lock(t)
	h.put(s)
	ctx := h.chromium()
	const origin = "https://" + host
	do(t, ctx, chromedp.Navigate(origin+"/boats?near=Kiel"), chromedp.WaitVisible(chromedp.CSS("#password")))
	if file := os.Getenv("LOTSE_SCREENSHOT"); file != "" {
		if png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot()); err == nil {
			_ = os.WriteFile(file, png, 0o600)
		}
	}
	mustBe(t, "title", js[string](t, ctx, `document.title`), "Sign in to shop dev")
	mustBe(t, "where the keys go", js[string](t, ctx, `document.activeElement.id`), "password")
	mustBe(t, "the field's name for a screen reader", js[string](t, ctx, `document.querySelector('#password').labels[0].textContent`), "Password")
	mustBe(t, "language", js[string](t, ctx, `document.documentElement.lang`), "en")
	mustBe(t, "the style has come in", js[string](t, ctx, `getComputedStyle(document.querySelector('main')).borderRadius`), "12px")
	mustBe(t, "a script that got in", js[string](t, ctx, `new Promise(r=>{const s=document.createElement('script');s.textContent='window.ran=1';document.body.append(s);setTimeout(()=>r(String(window.ran)),50)})`), "undefined")

	enter := func(password, expression string) {
		t.Helper()
		do(t, ctx, chromedp.SendKeys(chromedp.CSS("#password"), password+"\r"))
		becomes(t, ctx, expression)
	}
	const inTheApp, atTheGate = `document.title=="boats"`, `document.readyState=="complete"&&!!document.querySelector("#password")`
	enter("wrong", `document.readyState=="complete"&&(document.querySelector("#notice")||{}).textContent=="This is not the password. Please try again."`)
	enter(password, inTheApp)
	mustBe(t, "where it is", js[string](t, ctx, `location.pathname+location.search`), "/boats?near=Kiel")
	mustBe(t, "a fetch", js[string](t, ctx, `fetch('/api').then(r=>r.text())`), "cookies: theirs=1")
	mustBe(t, "what scripts see", js[string](t, ctx, `document.cookie`), "theirs=1")
	mustBe(t, "a websocket", js[string](t, ctx, `new Promise((yes,no)=>{const w=new WebSocket('wss://'+location.host+'/ws');w.onopen=()=>w.send('ahoy');w.onmessage=e=>{yes(e.data);w.close()};w.onerror=()=>no('failed')})`), "ahoy")

	// Another tab signs out: what the page fetches then is refused, without a dialog that would hold it up.
	js[bool](t, ctx, `fetch('`+signOutPath+`',{method:'POST'}).then(r=>r.ok)`)
	mustBe(t, "a fetch without a sign-in", js[float64](t, ctx, `fetch('/api').then(r=>r.status)`), 401.0)
	do(t, ctx, chromedp.Reload())
	becomes(t, ctx, atTheGate)
	enter(password, inTheApp)
	do(t, ctx, chromedp.Navigate(origin+signOutPath), chromedp.Click(chromedp.CSS("button")))
	becomes(t, ctx, atTheGate)
	do(t, ctx, chromedp.Navigate(origin+"/boats"))
	becomes(t, ctx, atTheGate)
}
