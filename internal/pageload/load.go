package pageload

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A page has come to rest when nothing was asked for during the pause; one that never rests is looked at a while after its load event.
const (
	restPause = 500 * time.Millisecond
	restMost  = 5 * time.Second
)

// loaded is one load of one page.
type loaded struct {
	load, paint time.Duration
	resources   []deploy.Resource
	requests    int
	bytes       int64
	foreign     map[string]int
}

// told writes into p what the last load has seen.
func (l loaded) told(p *page) {
	p.Requests, p.Bytes, p.Resources, p.Hosts, p.Foreign = l.requests, l.bytes, l.resources, l.foreign, 0
	for _, n := range l.foreign {
		p.Foreign += n
	}
	p.Heaviest = l.resources[:min(5, len(l.resources))]
}

// load loads one page in a new browser context.
func (c *chromium) load(ctx context.Context, v deploy.Visit, path, screenshot string) (loaded, error) {
	tab, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
	defer cancel()
	limited, stop := context.WithTimeout(tab, v.Each)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	l, err := c.follow(limited, v, path, screenshot)
	switch {
	case err == nil:
		return l, nil
	case ctx.Err() != nil:
		return loaded{}, ctx.Err()
	case limited.Err() != nil:
		return loaded{}, fmt.Errorf("%w: %s did not end loading within %s", deploy.ErrGate, path, v.Each)
	}
	return loaded{}, fmt.Errorf("%w: %s %w", deploy.ErrGate, path, err)
}

func (c *chromium) follow(ctx context.Context, v deploy.Visit, path, screenshot string) (l loaded, err error) {
	if err := prepare(ctx, v); err != nil {
		return l, err
	}
	heard := newTraffic()
	if err := chromedp.Listen(ctx, heard.hear); err != nil {
		return l, err
	}
	went, err := chromedp.Call(ctx, cdppage.Navigate, cdppage.NavigateParams{URL: v.Address + path})
	if err != nil {
		return l, err
	}
	heard.mainIs(went.FrameID)
	if went.ErrorText != "" {
		return l, fmt.Errorf("could not be loaded: %s", went.ErrorText)
	}
	if err := heard.rest(ctx); err != nil {
		return l, err
	}
	first, document := heard.document()
	switch host := hostOf(document.URL); {
	case c.foreign(host):
		return l, fmt.Errorf("leads to %s, which is not this stage", shown(host))
	case document.Status >= 400:
		return l, fmt.Errorf("answered with status %d", document.Status)
	}
	painted, err := largestPaint(ctx, went.FrameID)
	if err != nil {
		return l, err
	}
	l = heard.sum(c.foreign)
	if painted.Paint > 0 {
		l.paint = time.Duration((painted.Origin + painted.Paint - first*1000) * float64(time.Millisecond))
	}
	return l, shoot(ctx, screenshot)
}

// prepare makes the tab slow.
func prepare(ctx context.Context, v deploy.Visit) error {
	condition := &network.Conditions{Latency: float64(v.Network.Delay.Milliseconds()), DownloadThroughput: perSecond(v.Network.Down), UploadThroughput: perSecond(v.Network.Up)}
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	if err == nil {
		_, err = chromedp.Call(ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{condition}})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: v.CPU})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	}
	return err
}

// perSecond makes bytes of bits; the protocol has -1 for a connection that is not slowed down.
func perSecond(bits int64) float64 {
	if bits == 0 {
		return -1
	}
	return float64(bits) / 8
}

type paint struct {
	Origin float64 `json:"origin"` // when the document began, in ms since 1970
	Paint  float64 `json:"paint"`  // ms after that
}

// askPaint waits for what the browser has noted already. It runs in a world of its own, where the page has changed nothing.
const askPaint = `new Promise(done => {
	let paint = 0
	new PerformanceObserver(list => { for (const e of list.getEntries()) paint = e.startTime })
		.observe({type: "largest-contentful-paint", buffered: true})
	setTimeout(() => done(JSON.stringify({origin: performance.timeOrigin, paint})), 50)
})`

func largestPaint(ctx context.Context, frame cdp.FrameID) (p paint, err error) {
	world, err := chromedp.Call(ctx, cdppage.CreateIsolatedWorld, cdppage.CreateIsolatedWorldParams{FrameID: frame})
	if err != nil {
		return p, err
	}
	wait := true
	got, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: askPaint, ContextID: world.ExecutionContextID, AwaitPromise: &wait})
	if err != nil {
		return p, err
	}
	if got.ExceptionDetails != nil || got.Result == nil {
		return p, errors.New("did not stand still")
	}
	var text string
	if err := json.Unmarshal(got.Result.Value, &text); err != nil {
		return p, err
	}
	return p, json.Unmarshal([]byte(text), &p)
}

func shoot(ctx context.Context, to string) error {
	if to == "" {
		return nil
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(to, shot, 0o600)
}

// traffic is what a tab asks for. Events come one at a time, and the load reads beside them.
type traffic struct {
	mu       sync.Mutex
	changed  chan struct{} // something was heard
	frame    cdp.FrameID
	all      map[network.RequestID]*request
	moved    []*request // answered by a redirect
	first    *network.EventRequestWillBeSent
	loadedAt float64 // monotonic, in seconds; 0: not yet
	answer   network.Response
}

type request struct {
	url   string
	bytes int64
	over  bool
	open  bool // a stream that never ends, or a message that nobody waits for
}

func newTraffic() *traffic {
	return &traffic{changed: make(chan struct{}, 1), all: map[network.RequestID]*request{}}
}

func (t *traffic) mainIs(frame cdp.FrameID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame = frame
}

func (t *traffic) hear(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		t.sent(e)
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument && t.first != nil && e.FrameID == t.first.FrameID {
			t.answer = *e.Response
		}
	case *network.EventLoadingFinished:
		t.over(e.RequestID, int64(e.EncodedDataLength))
	case *network.EventLoadingFailed:
		t.over(e.RequestID, 0)
	case *cdppage.EventLoadEventFired:
		t.loadedAt = e.Timestamp.Float64()
	default:
		return
	}
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func (t *traffic) sent(e *network.EventRequestWillBeSent) {
	if !strings.HasPrefix(e.Request.URL, "http") {
		return // data:, blob: and their kind
	}
	if t.first == nil {
		t.first = e
	}
	if before := t.all[e.RequestID]; before != nil && e.RedirectResponse != nil {
		before.bytes, before.over = int64(e.RedirectResponse.EncodedDataLength), true
		t.moved = append(t.moved, before)
	}
	if e.Type == network.ResourceTypeDocument && e.FrameID == t.first.FrameID {
		t.loadedAt = 0 // another document takes the place of the one before
	}
	open := e.Type == network.ResourceTypeEventSource || e.Type == network.ResourceTypePing
	t.all[e.RequestID] = &request{url: e.Request.URL, open: open}
}

func (t *traffic) over(id network.RequestID, bytes int64) {
	if r := t.all[id]; r != nil {
		r.over, r.bytes = true, bytes
	}
}

// stand says whether the load event has ended, and whether anything is on its way.
func (t *traffic) stand() (done, quiet bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.all {
		if !r.over && !r.open {
			return t.loadedAt > 0, false
		}
	}
	return t.loadedAt > 0, true
}

// rest waits for the load event and then until nothing more comes.
func (t *traffic) rest(ctx context.Context) error {
	var most <-chan time.Time
	pause := time.NewTimer(restPause)
	defer pause.Stop()
	for {
		done, quiet := t.stand()
		if done && most == nil {
			timer := time.NewTimer(restMost)
			defer timer.Stop()
			most = timer.C
		}
		select {
		case <-t.changed:
			pause.Reset(restPause)
		case <-pause.C:
			if done && quiet {
				return nil
			}
			pause.Reset(restPause)
		case <-most:
			if done {
				return nil
			}
			most = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// document returns when the visit began, in seconds since 1970, and what was answered for the page itself.
func (t *traffic) document() (began float64, answer network.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first != nil {
		began = float64(t.first.WallTime)
	}
	return began, t.answer
}

// sum adds up what was asked for.
func (t *traffic) sum(foreign func(host string) bool) loaded {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := loaded{foreign: map[string]int{}}
	if t.first != nil {
		l.load = time.Duration((t.loadedAt - t.first.Timestamp.Float64()) * float64(time.Second))
	}
	every := slices.Clone(t.moved)
	for _, r := range t.all {
		every = append(every, r)
	}
	for _, r := range every {
		l.requests++
		l.bytes += r.bytes
		name, host := nameOf(r.url)
		if foreign(host) {
			name = shown(host) + name
			l.foreign[shown(host)]++
		}
		l.resources = append(l.resources, deploy.Resource{Name: name, Bytes: r.bytes})
	}
	slices.SortFunc(l.resources, func(a, b deploy.Resource) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	})
	return l
}

func hostOf(address string) string { _, host := nameOf(address); return host }

// longestName bounds what is told of a path.
const longestName = 120

// nameOf is the path of an address: its query may be about somebody.
func nameOf(address string) (path, host string) {
	u, err := url.Parse(address)
	if err != nil {
		return "?", ""
	}
	path = u.EscapedPath()
	if len(path) > longestName {
		path = path[:longestName] + "…"
	}
	return path, u.Hostname()
}

// shown is a host as it may be told: addresses are not.
func shown(host string) string {
	if net.ParseIP(host) != nil {
		return "(an IP address)"
	}
	return host
}
