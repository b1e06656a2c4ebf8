package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	cf "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/infra"
	"github.com/lotse-eu/lotse/internal/secret"
)

const twoServices = `[{"path":"/docs"},{"path":"/","fallback":"/index.html"}]`

// shop is a single-page app at the root and documents below /docs, which hide what the app has there.
func (c *shelf) shop(t *testing.T, tag string) deploy.Release {
	t.Helper()
	return c.release(t, tag, func(short string) map[string]string {
		return map[string]string{"dist/index.html": "app " + short, "dist/docs/hidden.html": "hidden", "dist/assets/app-4f3a91c2.js": "app", "dist/assets/app-4f3a91c2.js.br": "br", "dist/assets/app-4f3a91c2.js.gz": "gz",
			"dist/fonts/own.woff2": "font", "dist/über uns.txt": "text", "pages/index.html": "docs " + short, "pages/begin.html": "begin", "pages/more/index.html": "more"}
	}, deploy.Service{Name: "web", Static: "dist", Path: "/", Fallback: "index.html", Immutable: []string{"fonts/**"}}, deploy.Service{Name: "docs", Static: "pages", Path: "/docs"})
}

func (c *shelf) up(t *testing.T, e *aws.Site, id string, r deploy.Release) {
	t.Helper()
	if err := e.Start(within(t, patience), 1, deploy.Order{Rollout: id, Release: r, Stage: c.stages[0]}); err != nil {
		t.Fatalf("start %s: %v\n%s", id, err, c.log)
	}
}

func (c *shelf) shift(t *testing.T, e deploy.Engine, id string, share int) {
	t.Helper()
	if err := e.Shift(within(t, patience), 1, id, share); err != nil {
		t.Fatalf("shift %s to %d: %v\n%s", id, share, err, c.log)
	}
}

// What Reach answers before a shift is what everybody is answered after it: status, bytes and headers.
func TestSiteReachIsWhatWillBeServed(t *testing.T) {
	c := newShelf(t, twoServices)
	e := c.open(t, c.stages[0])
	r := c.shop(t, "one")
	c.up(t, e, "one", r)
	for _, key := range c.keys(t, c.stages[0]) {
		if strings.HasSuffix(key, ".br") || strings.HasSuffix(key, ".gz") && !strings.HasPrefix(key, ".lotse/") || key == "index.html" {
			t.Errorf("%s is in the bucket", key)
		}
	}
	rt, err := e.Reach(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	asks := []string{"/", "/orders/17", "/docs", "/docs/", "/docs/begin", "/docs/more/", "/docs/hidden", "/docsearch", "/assets/app-4f3a91c2.js", "/assets/app-4f3a91c2.js.br",
		"/fonts/own.woff2", "/%C3%BCber%20uns.txt", "/nothing.txt", "/?a=1"}
	type answer struct {
		status                                 int
		body, kind, cache, hsts, sniff, refers string
	}
	ask := func(serve func(url string) (int, string, map[string][]string), url string) answer {
		status, body, h := serve(url)
		of := func(name string) string { return strings.Join(h[name], ",") }
		if status >= 400 {
			body, h = "", map[string][]string{"Strict-Transport-Security": h["Strict-Transport-Security"]}
		}
		return answer{status, body, of("Content-Type"), of("Cache-Control"), of("Strict-Transport-Security"), of("X-Content-Type-Options") + of("X-Frame-Options"), of("Referrer-Policy")}
	}
	before := map[string]answer{}
	for _, uri := range asks {
		before[uri] = ask(func(url string) (int, string, map[string][]string) { return through(t, rt, url) }, c.stages[0].URL+uri)
	}
	c.shift(t, e, "one", 100)
	for _, uri := range asks {
		if now := ask(func(url string) (int, string, map[string][]string) { return c.get(t, url) }, c.stages[0].URL+uri); now != before[uri] {
			t.Errorf("%s\nis answered   %+v\nReach gave    %+v", uri, now, before[uri])
		}
	}
	for uri, want := range map[string]answer{
		"/orders/17":       {200, "app " + r.ID.Short(), "text/html; charset=utf-8", "no-cache", "max-age=31536000", "nosniffSAMEORIGIN", "strict-origin-when-cross-origin"},
		"/fonts/own.woff2": {200, "font", "font/woff2", "public, max-age=31536000, immutable", "max-age=31536000", "nosniffSAMEORIGIN", "strict-origin-when-cross-origin"},
		"/docs/begin":      {200, "begin", "text/html; charset=utf-8", "no-cache", "max-age=31536000", "nosniffSAMEORIGIN", "strict-origin-when-cross-origin"},
	} {
		if before[uri] != want {
			t.Errorf("%s is %+v, want %+v", uri, before[uri], want)
		}
	}
	if before["/docs/hidden"].status != 404 || before["/nothing.txt"].status != 404 || before["/assets/app-4f3a91c2.js.br"].status != 404 {
		t.Errorf("what is not there is answered: %+v", before)
	}
	if status, _, h := through(t, rt, "https://www.dev.shop.example/orders?a=1"); status != 301 || h.Get("Location") != "https://dev.shop.example/orders?a=1" {
		t.Errorf("a redirect is %d %s", status, h.Get("Location"))
	}
	for _, secret := range []string{"/.lotse/serving.json", "/%2elotse/serving.json", "/.lotse/releases/one.json.gz"} {
		if status, _, _ := c.get(t, c.stages[0].URL+secret); status < 400 {
			t.Errorf("%s is answered %d", secret, status)
		}
		if status, _, _ := through(t, rt, c.stages[0].URL+secret); status < 400 {
			t.Errorf("Reach answers %s with %d", secret, status)
		}
	}
}

// Where the stage's name leads elsewhere, a shift says so.
func TestSiteVerifiesWhatIsServed(t *testing.T) {
	c := newShelf(t, twoServices)
	config := c.config(c.stages[0])
	config.Timing.Settle = 300 * time.Millisecond
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return c.w.Dialer()(ctx, network, address)
	} // that keeps no names
	e, err := aws.OpenSite(config)
	if err != nil {
		t.Fatal(err)
	}
	c.up(t, e, "one", c.shop(t, "one"))
	c.shift(t, e, "one", 100)
	c.up(t, e, "two", c.shop(t, "two"))
	c.w.Record("dev.shop.example", awsfake.DistributionName(c.at[1])) // somebody leads the name elsewhere
	err = e.Shift(within(t, patience), 1, "two", 100)
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(deploy.HintOf(err), "dev.shop.example") {
		t.Errorf("a shift that nobody sees: %v (%s)", err, deploy.HintOf(err))
	}
}

// A stop takes away what a rollout alone has. It gives traffic back, at last to nobody; a tab that was opened before still gets its chunks.
func TestSiteStop(t *testing.T) {
	c := newShelf(t, oneService)
	e := c.open(t, c.stages[0])
	one, two := c.kind(t, "good", "one", 1), c.kind(t, "good", "two", 1)
	c.up(t, e, "r1", one)
	c.shift(t, e, "r1", 100)
	c.up(t, e, "r2", two)
	c.shift(t, e, "r2", 100)
	c.up(t, e, "r3", one) // the first release again
	serves := func(want string) {
		t.Helper()
		if status, body, _ := c.get(t, c.stages[0].URL+"/get"); body != want && (want != "" || status != 404) {
			t.Errorf("it serves %q with %d, want %q", body, status, want)
		}
	}
	serves(two.ID.Short())
	for range 2 {
		if err := e.Stop(within(t, patience), 1, "r2", time.Second); err != nil {
			t.Fatalf("stop: %v", err)
		}
		serves(one.ID.Short())
	}
	if status, body, _ := c.get(t, c.stages[0].URL+"/assets/two-0a1b2c3d.js"); status != 200 || body != "of two" {
		t.Errorf("an old tab gets %d for its chunk", status)
	}
	fresh := c.open(t, c.stages[0])
	all, err := fresh.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Rollout != "r1" || all[0].Share != 100 || all[1].Rollout != "r3" || all[1].Release != one.ID {
		t.Errorf("list: %+v, %v", all, err)
	}
	for _, id := range []string{"r3", "r1", "nobody"} {
		if err := fresh.Stop(within(t, patience), 1, id, 0); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
	}
	serves("")
	if left := c.leftovers(t, c.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	c.up(t, fresh, "r4", two)
	c.shift(t, fresh, "r4", 100)
	serves(two.ID.Short())
	for range 2 {
		if err := fresh.End(within(t, patience), 2); err != nil {
			t.Errorf("end: %v", err)
		}
		serves("")
	}
	if err := fresh.Shift(t.Context(), 1, "r4", 100); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("a shift under an older fence than that of the end: %v", err)
	}
}

// What S3 and CloudFront cannot do is said with the service and its reason, before anything is left.
func TestSiteCannotStart(t *testing.T) {
	c := newShelf(t, oneService)
	e := c.open(t, c.stages[0])
	c.up(t, e, "good", c.kind(t, "good", "good", 1))
	fallsBack := deploy.Service{Name: "web", Static: "dist", Path: "/", Fallback: "index.html"}
	page := func(string) map[string]string { return map[string]string{"dist/start.html": "x"} }
	private := c.stages[0]
	private.Private = true
	withJob := c.release(t, "job", page, deploy.Service{Name: "web", Static: "dist", Path: "/"})
	withJob.Manifest.Jobs = []deploy.Job{{Name: "expire", Command: "true"}}
	bare := c.release(t, "bare", page, web1)
	damaged := c.release(t, "damaged", func(string) map[string]string { return map[string]string{"dist/index.html": "whole"} }, web1)
	c.mu.Lock()
	delete(c.files[bare.ID].(fstest.MapFS), ".lotse/static/web.json")
	c.files[damaged.ID].(fstest.MapFS)["dist/index.html"].Data = []byte("whol!")
	c.mu.Unlock()
	for name, try := range map[string]struct {
		order deploy.Order
		is    error
		wants []string
	}{
		"a clash":     {deploy.Order{Release: c.kind(t, "crash", "clash", 1)}, deploy.ErrCannotStart, []string{"web", "assets/app-4f3a91c2.js", "hash"}},
		"no fallback": {deploy.Order{Release: c.release(t, "none", page, fallsBack)}, deploy.ErrCannotStart, []string{"web", "index.html", "fallback"}},
		"no index":    {deploy.Order{Release: bare}, deploy.ErrCannotStart, []string{"web", "index"}},
		"damaged":     {deploy.Order{Release: damaged}, deploy.ErrCannotStart, []string{"index.html"}},
		"a job":       {deploy.Order{Release: withJob}, deploy.ErrUnsupported, []string{"expire", "bucket"}},
		"private":     {deploy.Order{Release: bare, Stage: private, Password: secret.New("harbour")}, deploy.ErrUnsupported, []string{"CloudFront", "access: open"}},
		"a program":   {deploy.Order{Release: c.release(t, "program", page, web1, web("good", 1))}, deploy.ErrUnsupported, []string{"lotse infra apply"}},
	} {
		try.order.Rollout = "bad"
		if try.order.Stage.Name == "" {
			try.order.Stage = c.stages[0]
		}
		mustSay(t, e.Start(within(t, patience), 1, try.order), try.is, try.wants...)
		all, err := e.List(t.Context())
		if err != nil || len(all) != 1 {
			t.Errorf("%s: the stage has %+v, %v", name, all, err)
		}
		if left := c.leftovers(t, c.stages[0], all); len(left) > 0 {
			t.Errorf("%s: left over: %v", name, left)
		}
	}
}

// What a person must put right is said in words, with the action and what to do.
func TestSiteErrors(t *testing.T) {
	for name, try := range map[string]struct {
		change func(c *shelf)
		is     error
		wants  []string
	}{
		"no stack":         {func(c *shelf) { c.w.SetStack(c.w.Region(), "lotse-shop", cf.StackStatusDeleteComplete, nil) }, deploy.ErrNotFound, []string{"lotse-shop", "lotse infra apply"}},
		"a stack without":  {func(c *shelf) { c.w.Stack("lotse-shop", map[string]string{"Releases": "x"}) }, deploy.ErrMissing, []string{"DevSite, DevDistribution", "lotse infra apply"}},
		"denied":           {func(c *shelf) { c.w.Deny("s3", "PutObject") }, deploy.ErrRefused, []string{"s3:PutObject", "role"}},
		"no invalidations": {func(c *shelf) { c.w.Deny("cloudfront", "CreateInvalidation") }, deploy.ErrRefused, []string{"cloudfront:CreateInvalidation", "role"}},
		"another's bucket": {func(c *shelf) { c.w.ForeignBucket(siteBucket("dev")) }, deploy.ErrRefused, []string{"another account"}},
		"expired":          {func(c *shelf) { c.w.Inject(awsfake.Expired("")) }, deploy.ErrUnavailable, []string{"expired", "log in"}},
		"throttled":        {func(c *shelf) { c.w.Inject(awsfake.Fault{Service: "s3", Times: -1, Code: "SlowDown", HTTP: 503}) }, deploy.ErrUnavailable, []string{"SlowDown"}},
		"a distribution that is gone": {func(c *shelf) {
			c.w.Stack("lotse-shop", map[string]string{"DevSite": siteBucket("dev"), "DevDistribution": "E0"})
		}, deploy.ErrNotFound, []string{"NoSuchDistribution", "lotse infra"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newShelf(t, oneService)
			r := c.kind(t, "good", "one", 1)
			try.change(c)
			e := c.open(t, c.stages[0])
			err := e.Start(within(t, patience), 1, deploy.Order{Rollout: "one", Release: r, Stage: c.stages[0]})
			if err == nil {
				err = e.Shift(within(t, patience), 1, "one", 100)
			}
			mustSay(t, err, try.is, try.wants...)
		})
	}
}

// Files are told no setting, and none is kept or said.
func TestSiteTellsNoSetting(t *testing.T) {
	c := newShelf(t, oneService)
	e := c.open(t, c.stages[0])
	const value = "s3cr3t-of-nobody"
	o := deploy.Order{Rollout: "one", Release: c.kind(t, "good", "one", 1), Stage: c.stages[0], Settings: []deploy.Setting{{Name: "SECRET_TOKEN", Value: secret.New(value)}}}
	if err := e.Start(t.Context(), 1, o); err != nil {
		t.Fatal(err)
	}
	c.shift(t, e, "one", 100)
	if told := c.written(t); strings.Contains(told, value) || !strings.Contains(told, "one") {
		t.Errorf("what is kept: %s", told)
	}
}

// An upload that was killed is listed; the same start goes on with it, and a stop removes it.
func TestSiteAfterAKill(t *testing.T) {
	c := newShelf(t, oneService)
	r := c.kind(t, "good", "one", 1)
	o := deploy.Order{Rollout: "one", Release: r, Stage: c.stages[0]}
	kill := func() {
		t.Helper()
		c.w.Inject(awsfake.Fault{Service: "s3", After: 7, Times: -1, Drop: true}) // and what would undo it is cut off too
		if err := c.open(t, c.stages[0]).Start(within(t, patience), 1, o); !deploy.Retryable(err) {
			t.Fatalf("%v", err)
		}
		c.w.Heal()
	}
	kill()
	fresh := c.open(t, c.stages[0])
	all, err := fresh.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Rollout != "one" || all[0].Release != r.ID {
		t.Fatalf("list: %+v, %v", all, err)
	}
	if err := fresh.Check(t.Context(), "one"); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("check: %v", err)
	}
	if err := fresh.Shift(t.Context(), 1, "one", 100); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("shift: %v", err)
	}
	if err := fresh.Stop(t.Context(), 1, "one", 0); err != nil {
		t.Error(err)
	}
	if left := c.leftovers(t, c.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	kill()
	c.up(t, fresh, "one", r)
	c.shift(t, fresh, "one", 100)
}

// A shift that was broken off leaves both releases, and is ended by whatever is said next.
func TestSiteShiftBrokenOff(t *testing.T) {
	for name, next := range map[string]func(c *shelf, e *aws.Site) error{
		"again":    func(_ *shelf, e *aws.Site) error { return e.Shift(t.Context(), 2, "two", 100) },
		"back":     func(_ *shelf, e *aws.Site) error { return e.Shift(t.Context(), 2, "one", 100) },
		"given up": func(_ *shelf, e *aws.Site) error { return e.Shift(t.Context(), 2, "two", 0) },
		"stopped":  func(_ *shelf, e *aws.Site) error { return e.Stop(t.Context(), 2, "two", 0) },
	} {
		c := newShelf(t, oneService)
		e := c.open(t, c.stages[0])
		one, two := c.kind(t, "good", "one", 1), c.kind(t, "good", "two", 1)
		c.up(t, e, "one", one)
		c.shift(t, e, "one", 100)
		c.up(t, e, "two", two)
		c.w.Inject(awsfake.Fault{Service: "cloudfront", Times: -1, Drop: true})
		if err := e.Shift(within(t, patience), 1, "two", 100); !deploy.Retryable(err) {
			t.Errorf("%s: the shift: %v", name, err)
		}
		c.w.Heal()
		fresh := c.open(t, c.stages[0])
		if all, err := fresh.List(t.Context()); err != nil || all[0].Share != 100 || all[1].Share != 0 {
			t.Errorf("%s: list: %+v, %v", name, all, err)
		}
		if err := next(c, fresh); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := map[bool]string{true: two.ID.Short(), false: one.ID.Short()}[name == "again"]
		if _, body, _ := c.get(t, c.stages[0].URL+"/get"); body != want {
			t.Errorf("%s: %q serves, want %q", name, body, want)
		}
	}
}

// A file that somebody has changed in the bucket shows in Check, and a shift mends it.
func TestSiteDrift(t *testing.T) {
	c := newShelf(t, twoServices)
	e := c.open(t, c.stages[0])
	c.up(t, e, "one", c.shop(t, "one"))
	c.shift(t, e, "one", 100)
	c.write(t, c.stages[0], "docs/begin.html", []byte("changed"))
	sick, ok := errors.AsType[*deploy.CheckError](e.Check(t.Context(), "one"))
	if !ok || sick.Service != "docs" || !strings.Contains(sick.Cause, "docs/begin.html") {
		t.Errorf("check: %v", sick)
	}
	c.shift(t, e, "one", 100)
	if err := e.Check(t.Context(), "one"); err != nil {
		t.Errorf("after a shift: %v", err)
	}
}

// The engine calls nothing that the policy of the stack does not allow.
func TestSiteCallsWhatItSays(t *testing.T) {
	c := newShelf(t, oneService)
	e := c.open(t, c.stages[0])
	c.up(t, e, "one", c.kind(t, "good", "one", 1))
	c.shift(t, e, "one", 100)
	c.up(t, e, "two", c.kind(t, "good", "two", 1))
	c.shift(t, e, "two", 100)
	if err := e.Stop(t.Context(), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, a := range aws.SiteActions() {
		said[a.String()] = true
	}
	also := map[string]string{"s3:HeadObject": "s3:GetObject", "s3:CopyObject": "s3:PutObject", "s3:DeleteObjects": "s3:DeleteObject", "s3:ListObjectsV2": "s3:ListBucket"}
	for _, call := range c.w.Calls() {
		name := call.Service + ":" + call.Action
		if as := also[name]; as != "" {
			name = as
		}
		if !said[name] {
			t.Errorf("it calls %s", name)
		}
	}
}

// The function that the stack really has, run by Node.js, leads where Reach and the fake of CloudFront lead.
func TestPagesOfTheStack(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT RUN: there is no Node.js: that Reach does what the function of CloudFront does was not tried")
	}
	app := deploy.App{Name: "shop", Services: []deploy.Service{{Name: "web", Static: "dist", Path: "/", Fallback: "index.html"}, {Name: "docs", Static: "pages", Path: "/docs"}},
		Stages: []deploy.Stage{{Name: "dev", Engine: "aws", URL: "https://dev.shop.example", AWS: deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSShared, Static: true}}}}
	files, err := infra.Terraform(app, infra.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(files, func(f infra.File) bool { return strings.HasSuffix(f.Name, "pages-dev.js") })
	if i < 0 {
		t.Fatal("there is no function")
	}
	uris := []string{"/", "/orders/17", "/orders/", "/docs", "/docs/", "/docs/begin", "/docs/more/", "/docs/a.b/c", "/docsearch", "/docs/x.png", "/assets/a.js", "/a.b/c", "/%C3%BCber", "/.well-known/security.txt", "//"}
	list, _ := json.Marshal(uris)
	script := files[i].Content + `
console.log(JSON.stringify(` + string(list) + `.map((uri) => handler({ request: { uri, querystring: {}, headers: { host: { value: host } } } }).uri)));`
	at := filepath.Join(t.TempDir(), "pages.js")
	if err := os.WriteFile(at, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, at).Output()
	var said []string
	if err != nil || json.Unmarshal(out, &said) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	services := regexp.MustCompile(`(?m)^const services = (.*);`).FindStringSubmatch(files[i].Content)[1]
	for i, uri := range uris {
		if got := aws.Rewrite(app.Services, uri); got != said[i] {
			t.Errorf("%s: CloudFront leads to %s, Reach to %s", uri, said[i], got)
		}
		if got := awsfake.Rewrite(services, uri); got != said[i] {
			t.Errorf("%s: CloudFront leads to %s, the fake to %s", uri, said[i], got)
		}
	}
}
