package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// Reach leads to a release without a share, as the real host would, also over a websocket.
func TestReachLeadsToOneRelease(t *testing.T) {
	h := newHarbour(t)
	var seen http.Header
	var seenHost string
	fresh := instance(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket" {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				defer conn.CloseNow()
				kind, message, _ := conn.Read(r.Context())
				_ = conn.Write(r.Context(), kind, message)
			}
			return
		}
		seen, seenHost = r.Header.Clone(), r.Host
		says("new")(w, r)
	})
	s := site(1, "old", instance(t, says("old")))
	s.Releases = append(s.Releases, release("new", 0, fresh))
	h.put(s)
	client := &http.Client{Transport: h.steer.Reach("shop/dev", "new")}
	resp, body := h.get(client, "https://"+host+"/page?q=1")
	mustBe(t, "the answer", body, "new")
	mustBe(t, "Lotse-Release", resp.Header.Get("Lotse-Release"), "label-new")
	mustBe(t, "the host", seenHost, host)
	mustBe(t, "X-Forwarded-Proto", seen.Get("X-Forwarded-Proto"), "https")
	mustBe(t, "X-Forwarded-For", seen.Get("X-Forwarded-For"), "127.0.0.1")
	mustBe(t, "what the instance sees of Reach", seen.Get(reachHeader), "")
	_, body = h.get(client, "https://"+host+"/")
	mustBe(t, "the answer", body, "new")
	conn, _, err := websocket.Dial(t.Context(), "https://"+host+"/socket", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("ahoy")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != "ahoy" {
		t.Errorf("echo %q %v", message, err)
	}
}

// What goes over Reach is nobody's traffic: neither counted nor logged.
func TestReachIsNotCounted(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "r", instance(t, says("x"))))
	h.get(&http.Client{Transport: h.steer.Reach("shop/dev", "r")}, "https://"+host+"/probe")
	h.get(h.client("HTTP/1.1"), "https://"+host+"/visit")
	eventually(t, "the visit is counted", func() bool { return h.stats(t, "r").Requests > 0 })
	mustBe(t, "requests", h.stats(t, "r").Requests, uint64(1))
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, "the access log", h.access.String(), "/visit")
	if log := h.access.String(); strings.Contains(log, "/probe") {
		t.Errorf("the access log has a probe: %s", log)
	}
}

// Nobody but the control socket hears the header.
func TestReachIsNotForClients(t *testing.T) {
	h := newHarbour(t)
	s := site(1, "old", instance(t, says("old")))
	s.Releases = append(s.Releases, release("new", 0, instance(t, says("new"))))
	h.put(s)
	bothProtocols(t, func(t *testing.T, protocol string) {
		_, body := h.get(h.client(protocol), "https://"+host+"/", func(r *http.Request) { r.Header.Set(reachHeader, pin{"shop/dev", "new"}.String()) })
		mustBe(t, "the answer", body, "old")
	})
}

func TestReachOfTheUnknown(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "r", instance(t, says("x"))))
	for _, to := range []pin{{"shop/dev", "other"}, {"other", "r"}, {"", ""}} {
		_, _, err := h.tryGet(&http.Client{Transport: h.steer.Reach(to.key, to.release)}, "https://"+host+"/")
		mustErr(t, "reach "+to.String(), err, ErrUnknown)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	_, _, err := h.tryGet(&http.Client{Transport: h.steer.Reach("shop/dev", "r")}, "https://"+host+"/")
	mustErr(t, "reach without a proxy", err, ErrNoProxy)
}
