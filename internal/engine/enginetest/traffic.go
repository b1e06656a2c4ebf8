package enginetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// hammer sets every kind of client on a stage's real host.
func (b *bench) hammer(t T, stage int) *load.Hammer {
	p := b.Plan(b.Stages[stage])
	p.Gets, p.Fresh, p.Uploads, p.Downloads, p.Sockets, p.Streams = 2, 2, 1, 1, 1, 1
	p.UploadBytes, p.DownloadBytes, p.DownloadTime, p.Timeout = 300_000, 100_000, 400*time.Millisecond, patience
	p.Pause = 25 * time.Millisecond
	if b.Static {
		p.Uploads, p.Downloads, p.Sockets, p.Streams, p.Paths = 0, 0, 0, 0, []string{"/get", "/about", "/"}
	}
	h := load.Start(t.Context(), p)
	t.Cleanup(func() { h.Stop() })
	return h
}

func (b *bench) await(t T, h *load.Hammer, answers int) {
	t.Helper()
	if err := h.Await(within(t, patience), answers); err != nil {
		t.Fatalf("%v", err)
	}
}

// Clause 5. Shares go up, over, and back while clients hammer; the old release is stopped, and no request fails. What is said to
// be served is served.
func shiftUnderLoad(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	one, two := tag("one"), tag("two")
	b.start(t, e, 1, one, 2)
	b.shift(t, e, 1, one, 100)
	h := b.hammer(t, 0)
	b.await(t, h, 40)
	b.start(t, e, 2, two, 2)
	steps := []int{5, 50, 100, 0, 100}
	if !e.Facts().Shares {
		steps = []int{100, 0, 100}
		if err := e.Shift(within(t, patience), 2, two, 50); !errors.Is(err, deploy.ErrUnsupported) {
			t.Errorf("a share that cannot be given: %v", err)
		}
	}
	for _, share := range steps {
		for range 2 { // the second changes nothing
			b.shift(t, e, 2, two, share)
			if got, want := b.shares(t, e), map[string]int{one: 100 - share, two: share}; !maps.Equal(got, want) {
				t.Errorf("shares %v, want %v", got, want)
			}
		}
		b.serves(t, e, share, one, two)
		if share == 50 && e.Facts().Sticky {
			b.stays(t)
		}
		b.await(t, h, 30)
	}
	b.stop(t, e, 2, one, 5*time.Second)
	b.await(t, h, 40)
	report := h.Stop()
	if report.Failed != 0 || report.Killed != 0 {
		t.Errorf("under a shift: %s", report.Summary())
	}
	for kind, c := range report.Kinds {
		if c.Requests == 0 {
			t.Errorf("no %s was done", kind)
		}
	}
	t.Logf("%s", report.Summary())
}

// serves asks who answers, over new and kept connections, once the platform's switch time is over.
func (b *bench) serves(t T, e deploy.Engine, share int, one, two string) {
	t.Helper()
	if d := e.Facts().Switch; d > 0 {
		select {
		case <-time.After(d):
		case <-t.Context().Done():
		}
	}
	releases := b.list(t, e)
	count := map[string]int{}
	const asked, afresh = 40, 6
	tr := b.transport(0)
	defer tr.CloseIdleConnections()
	for i := range asked {
		tr.DisableKeepAlives = i < afresh
		_, release := b.whoBy(t, 0, tr)
		count[release]++
	}
	old, fresh := count[releases[one].Release.Short()], count[releases[two].Release.Short()]
	switch {
	case old+fresh != asked:
		t.Errorf("with a share of %d %%, %v answered", share, count)
	case share == 0 && fresh > 0, share == 100 && old > 0:
		t.Errorf("with a share of %d %%, the old one gave %d answers and the new one %d", share, old, fresh)
	case share == 50 && (old < 8 || fresh < 8):
		t.Errorf("with a share of %d %%, the old one gave %d answers and the new one %d", share, old, fresh)
	}
}

// stays loads a page as browsers do, some at a time, and asks on with what it was given: each keeps the release of its page, and not all
// have the same.
func (b *bench) stays(t T) {
	t.Helper()
	pages := map[string]int{}
	for range 12 {
		jar, _ := cookiejar.New(nil) // it has no error
		client, url := b.client(0)
		client.Jar = jar
		first := b.page(t, client, url)
		pages[first]++
		for range 5 {
			if next := b.page(t, client, url); next != first {
				t.Errorf("a page of release %s was answered by %s afterwards", first, next)
			}
		}
		client.CloseIdleConnections()
	}
	if len(pages) != 2 {
		t.Errorf("with half of the traffic each, the pages are of %v", pages)
	}
}

// page says which release answers a browser that loads a page.
func (b *bench) page(t T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url+"/get", nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("a page: %v", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatalf("a page: %v", err)
	}
	return resp.Header.Get("Lotse-Release")
}

// who says which release answers at the stage's real host: as the app says it, which is what the engine told the app.
func (b *bench) who(t T, stage int) (int, string) {
	t.Helper()
	tr := b.transport(stage)
	tr.DisableKeepAlives = true
	return b.whoBy(t, stage, tr)
}

func (b *bench) transport(stage int) *http.Transport {
	p := b.Plan(b.Stages[stage])
	return &http.Transport{DialContext: p.Dial, TLSClientConfig: p.TLS}
}

func (b *bench) whoBy(t T, stage int, tr *http.Transport) (int, string) {
	t.Helper()
	return b.whoAt(t, stage, tr, "/get")
}

func (b *bench) whoAt(t T, stage int, tr *http.Transport, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, b.Plan(b.Stages[stage]).URL+path, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if b.Static {
		return resp.StatusCode, strings.TrimSpace(string(body))
	}
	return resp.StatusCode, resp.Header.Get(load.ReleaseHeader)
}

// Clause 6. Unknown, unhealthy, impossible and outdated: each is refused with its error, and nothing changes; also in a fresh
// process, which has not seen the newer fence itself.
func shiftRefused(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	one, two := tag("one"), tag("two")
	b.start(t, e, 5, one, 1)
	if err := e.Shift(within(t, patience), 5, one, 40); e.Facts().Shares && !errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("a part of the traffic when nobody can take the rest: %v", err)
	}
	b.shift(t, e, 5, one, 100)
	b.start(t, e, 7, two, 2)
	before := b.list(t, e)
	same := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if got, want := b.shares(t, e), map[string]int{one: 100, two: 0}; !maps.Equal(got, want) {
			t.Errorf("after %s the shares are %v", what, got)
		}
		if _, release := b.who(t, 0); release != before[one].Release.Short() {
			t.Errorf("after %s the release %s answers", what, release)
		}
	}
	same("a shift to nobody", e.Shift(within(t, patience), 7, "nobody", 100), deploy.ErrUnknown)
	same("a share of 101", e.Shift(within(t, patience), 7, two, 101), deploy.ErrUnsupported)
	same("a share of -1", e.Shift(within(t, patience), 7, two, -1), deploy.ErrUnsupported)
	heal := b.Break(t, b.Stages[0], two, "web", 1)
	same("a shift to a sick release", e.Shift(within(t, patience), 7, two, 100), deploy.ErrUnhealthy)
	heal()
	if err := b.settled(t, e, two); err != nil {
		t.Errorf("after it was healed: %v", err)
	}
	// One that crashes: a Start that looks at the fence only after it has tried says something else.
	third := b.order(0, tag("third"), b.Release(t, Crash, "third", 1))
	for name, old := range map[string]deploy.Engine{"the same": e, "a fresh": b.Open(t, b.Stages[0])} {
		same("a shift with an old fence in "+name+" process", old.Shift(within(t, patience), 6, two, 100), deploy.ErrFenced)
		same("a stop with an old fence in "+name+" process", old.Stop(within(t, patience), 6, two, 0), deploy.ErrFenced)
		same("a start with an old fence in "+name+" process", old.Start(within(t, patience), 6, third), deploy.ErrFenced)
	}
	b.clean(t, e, 0, one, two)
	b.shift(t, e, 7, two, 100) // the same fence goes on
}

// Clause 7. What is in flight when a Stop begins finishes: a slow answer, a websocket with 1001, a stream between two events.
// What does not finish is cut when the time is over, and not later.
func stopDrains(t T, b *bench) {
	e := b.Open(t, b.Stages[0])
	one, two := tag("one"), tag("two")
	b.startKind(t, e, 1, one, Rude, 1) // it is the engine that must drain, not the app
	b.shift(t, e, 1, one, 100)
	b.start(t, e, 1, two, 1)
	const slow = 1200 * time.Millisecond
	flight := b.takeOff(t, 0, slow)
	b.shift(t, e, 1, two, 100)
	begun := time.Now()
	b.stop(t, e, 1, one, 10*time.Second)
	took := time.Since(begun)
	flight.landed(t)
	if took > 10*time.Second {
		t.Errorf("stop took %s though everything had finished", took)
	}
	b.clean(t, e, 0, two)
	if _, err := e.Reach(within(t, patience), one); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("reach of a stopped rollout: %v", err)
	}
	b.stop(t, e, 1, one, time.Second) // twice is fine
	b.stop(t, e, 1, "nobody", time.Second)

	// A request that takes longer than the drain does not hold the stop up.
	long := b.download(t, 0, time.Minute)
	begun = time.Now()
	b.stop(t, e, 1, two, 500*time.Millisecond)
	if took := time.Since(begun); took > 500*time.Millisecond+b.Slack {
		t.Errorf("a stop with a drain of 500 ms took %s", took)
	}
	if err := long(); err == nil {
		t.Errorf("a download of a minute was whole")
	}
	b.clean(t, e, 0)
	if status, _ := b.get(t, 0, "/get"); status != http.StatusServiceUnavailable {
		t.Errorf("with nothing running the stage answers %d, want 503", status)
	}
}

// flight is what is in the air: each ends with an error unless it ended well.
type flight struct {
	whole          func() error
	socket, events <-chan error
}

func (f flight) landed(t T) {
	t.Helper()
	for what, err := range map[string]error{"a slow download": f.whole(), "a websocket": <-f.socket, "an event stream": <-f.events} {
		if err != nil {
			t.Errorf("%s did not finish: %v", what, err)
		}
	}
}

// takeOff begins a slow download, a websocket and an event stream, and returns when all three have begun.
func (b *bench) takeOff(t T, stage int, slow time.Duration) flight {
	t.Helper()
	return flight{whole: b.download(t, stage, slow), socket: b.socket(t, stage), events: b.events(t, stage)}
}

func (b *bench) client(stage int) (*http.Client, string) {
	tr := b.transport(stage)
	tr.DisableKeepAlives = true
	return &http.Client{Transport: tr}, b.Plan(b.Stages[stage]).URL
}

// download begins one that takes so long, and returns how to await it.
func (b *bench) download(t T, stage int, over time.Duration) (whole func() error) {
	t.Helper()
	const size = 100_000
	client, url := b.client(stage)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/slow?bytes=%d&for=%s", url, size, over), nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	resp, err := client.Do(req) //nolint:bodyclose // the goroutine that reads it closes it
	if err != nil {
		t.Fatalf("begin a download: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("begin a download: %s", resp.Status)
	}
	done := make(chan error, 1)
	go func() {
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil && n != size {
			err = fmt.Errorf("%d of %d bytes", n, size)
		}
		done <- err
	}()
	return func() error { return <-done }
}

func (b *bench) socket(t T, stage int) <-chan error {
	t.Helper()
	client, url := b.client(stage)
	ctx := within(t, patience)
	conn, _, err := websocket.Dial(ctx, url+"/socket", &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // the websocket owns it
	if err != nil {
		t.Fatalf("open a websocket: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		defer func() { _ = conn.CloseNow() }()
		_, _, err := conn.Read(ctx)
		if code := websocket.CloseStatus(err); code == websocket.StatusGoingAway || code == websocket.StatusServiceRestart {
			err = nil
		}
		ended <- err
	}()
	return ended
}

func (b *bench) events(t T, stage int) <-chan error {
	t.Helper()
	client, url := b.client(stage)
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	resp, err := client.Do(req) //nolint:bodyclose // the goroutine that reads it closes it
	if err != nil {
		t.Fatalf("open an event stream: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		defer resp.Body.Close()
		in, event := bufio.NewReader(resp.Body), ""
		for {
			line, err := in.ReadString('\n')
			event += line
			if strings.HasSuffix(event, "\n\n") {
				event = ""
			}
			if err != nil {
				if event == "" {
					err = nil
				}
				ended <- err
				return
			}
		}
	}()
	return ended
}
