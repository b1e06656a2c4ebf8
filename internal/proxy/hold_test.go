package proxy

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func aHold(d time.Duration) *Hold { return &Hold{For: d, Requests: 10, Bytes: 1 << 20} }

// ask begins a request and returns where its answer comes.
func (h *harbour) ask(c *http.Client, body string) <-chan string {
	answers := make(chan string, 1)
	go func() {
		resp, err := c.Post("https://"+host+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answers <- strconv.Itoa(resp.StatusCode) + " " + string(text)
	}()
	return answers
}

func (h *harbour) heldNow() int64 {
	c, err := h.steer.Closure(h.t.Context(), "shop/dev")
	if err != nil {
		h.t.Fatal(err)
	}
	return c.Held
}

// TestHold keeps requests over a change of the release and a restart of whoever steers; they get their answer from the new one.
func TestHold(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, says("old"))))
		if err := h.steer.Hold(t.Context(), "shop/dev", 1, aHold(time.Minute)); err != nil {
			t.Fatal(err)
		}
		answer := h.ask(h.client(protocol), "an order")
		eventually(t, "it waits", func() bool { return h.heldNow() == 1 })
		h.put(site(2, "b", instance(t, says("new"))))
		if d, err := h.steer.Drain(t.Context(), "shop/dev", "a", time.Second); err != nil || d.Cut > 0 {
			t.Errorf("what waits is no flight of the old release: %+v %v", d, err)
		}
		select {
		case a := <-answer:
			t.Errorf("it did not wait: %s", a)
		default:
		}
		mustErr(t, "an old fence", NewClient(h.cfg.Control).Hold(t.Context(), "shop/dev", 1, nil), ErrFenced)
		if err := NewClient(h.cfg.Control).Hold(t.Context(), "shop/dev", 2, nil); err != nil {
			t.Fatal(err)
		}
		mustBe(t, "the answer", receive(t, "an answer", answer), "200 new")
		mustBe(t, "held in the end", h.heldNow(), int64(0))
	})
}

func TestHoldEndsByItself(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("hello"))))
	begin := time.Now()
	const length = 300 * time.Millisecond
	if err := h.steer.Hold(t.Context(), "shop/dev", 1, aHold(length)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "the answer", receive(t, "an answer", h.ask(h.client("HTTP/1.1"), "")), "200 hello")
	if took := time.Since(begin); took < length {
		t.Errorf("the hold was over after %s", took)
	}
	mustBe(t, "the answer afterwards", receive(t, "an answer", h.ask(h.client("HTTP/1.1"), "")), "200 hello")
	if c, err := h.steer.Closure(t.Context(), "shop/dev"); err != nil || c.Hold != nil {
		t.Errorf("afterwards: %+v %v", c, err)
	}
	samples := h.server.Samples("shop/dev", begin.Add(-time.Minute), time.Now())
	if len(samples) != 1 || samples[0].Latency.Quantile(1) >= length {
		t.Errorf("the time of the hold counts as the app's: %+v", samples)
	}
}

func TestHoldIsBounded(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("hello"))))
	bounds := aHold(20 * time.Second)
	bounds.Requests, bounds.Bytes = 2, 100
	if err := h.steer.Hold(t.Context(), "shop/dev", 1, bounds); err != nil {
		t.Fatal(err)
	}
	c := h.client("HTTP/2.0")
	first := h.ask(c, strings.Repeat("x", 60))
	eventually(t, "it waits", func() bool { return h.heldNow() == 1 })
	tooLarge := receive(t, "an answer", h.ask(c, strings.Repeat("x", 60)))
	mustSay(t, "an answer beyond the bytes", tooLarge, "503 too many requests wait")
	second := h.ask(c, "small")
	eventually(t, "it waits", func() bool { return h.heldNow() == 2 })
	resp, _ := h.get(c, "https://"+host+"/")
	mustBe(t, "status beyond the number", resp.StatusCode, http.StatusServiceUnavailable)
	if after, _ := strconv.Atoi(resp.Header.Get("Retry-After")); after < 1 || after > 20 {
		t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
	}
	if err := h.steer.Hold(t.Context(), "shop/dev", 1, nil); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "the first", receive(t, "an answer", first), "200 hello")
	mustBe(t, "the second", receive(t, "an answer", second), "200 hello")
}

func TestBadClosures(t *testing.T) {
	h := newHarbour(t)
	h.put(site(5, "a", instance(t, says("hello"))))
	ctx := t.Context()
	mustErr(t, "for ever", h.steer.Hold(ctx, "shop/dev", 5, aHold(time.Hour)), ErrInvalid)
	mustErr(t, "no time", h.steer.Hold(ctx, "shop/dev", 5, aHold(0)), ErrInvalid)
	mustErr(t, "no request", h.steer.Hold(ctx, "shop/dev", 5, &Hold{For: time.Second, Bytes: 1}), ErrInvalid)
	mustErr(t, "an unknown site", h.steer.Hold(ctx, "shop/prod", 5, aHold(time.Second)), ErrUnknown)
	mustErr(t, "an old fence", h.steer.Maintain(ctx, "shop/dev", 4, &Maintenance{}), ErrFenced)
	mustErr(t, "a large page", h.steer.Maintain(ctx, "shop/dev", 5, &Maintenance{Page: strings.Repeat("x", PageMost+1)}), ErrInvalid)
	mustErr(t, "a page in Latin-1", h.server.maintain("shop/dev", 5, &Maintenance{Page: "gr\xfc\xdfe"}), ErrInvalid)
	resp, _ := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "the status after all that", resp.StatusCode, http.StatusOK)
}

// TestMaintenance shows what people and programs get, and that nothing on the page is from elsewhere; also after a restart of the proxy.
func TestMaintenance(t *testing.T) {
	h := newHarbour(t)
	addr := instance(t, says("hello"))
	h.put(site(1, "a", addr))
	person := func(r *http.Request) { r.Header.Set("Accept", "text/html") }
	look := func(message string) {
		t.Helper()
		c := h.client("HTTP/1.1")
		resp, body := h.get(c, "https://"+host+"/orders", person)
		mustBe(t, "status", resp.StatusCode, http.StatusServiceUnavailable)
		mustBe(t, "Retry-After", resp.Header.Get("Retry-After"), "120")
		mustSay(t, "the page", body, message)
		mustSay(t, "the policy", resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
		if strings.Contains(resp.Header.Get("Content-Security-Policy"), "script") || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("headers are %v", resp.Header)
		}
		resp, body = h.get(c, "https://"+host+"/api")
		mustBe(t, "status of a program", resp.StatusCode, http.StatusServiceUnavailable)
		mustSay(t, "the type for a program", resp.Header.Get("Content-Type"), "text/plain")
		if strings.Contains(body, "<h1>") {
			t.Errorf("a program got %q", body)
		}
	}
	for _, m := range []struct {
		maintenance Maintenance
		says        string
	}{{Maintenance{}, maintenanceMessage}, {Maintenance{Message: "Until <noon>"}, "Until &lt;noon&gt;"}, {Maintenance{Page: "<h1>ours</h1>"}, "<h1>ours</h1>"}} {
		if err := h.steer.Maintain(t.Context(), "shop/dev", 1, &m.maintenance); err != nil {
			t.Fatal(err)
		}
		look(m.says)
	}
	h.put(site(2, "b", addr)) // a rollout does not end it
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.start(nil)
	look("<h1>ours</h1>")
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+host+"/", nil)
	resp, err := h.steer.Reach("shop/dev", "b").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	mustBe(t, "status by Reach", resp.StatusCode, http.StatusOK)
	if err := h.steer.Maintain(t.Context(), "shop/dev", 2, nil); err != nil {
		t.Fatal(err)
	}
	resp, _ = h.get(h.client("HTTP/1.1"), "https://"+host+"/orders", person)
	mustBe(t, "status in the end", resp.StatusCode, http.StatusOK)
}

// TestHoldSurvivesARestart of the proxy, and no longer than it was for.
func TestHoldSurvivesARestart(t *testing.T) {
	clock := newTick()
	h := newHarbour(t, func(c *Config) { c.Clock, c.Drain = clock.now, 300*time.Millisecond })
	h.put(site(1, "a", instance(t, says("hello"))))
	if err := h.steer.Hold(t.Context(), "shop/dev", 1, aHold(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	clock.advance(30 * time.Second)
	h.start(nil)
	answer := h.ask(h.client("HTTP/1.1"), "")
	eventually(t, "it waits", func() bool { return h.heldNow() == 1 })
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, "what waits when the proxy ends", receive(t, "an answer", answer), "503")
	clock.advance(31 * time.Second)
	h.start(nil)
	mustBe(t, "after its time", receive(t, "an answer", h.ask(h.client("HTTP/1.1"), "")), "200 hello")
}
