package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// dialWebsocket uses gorilla as client.
func (h *harbour) dialWebsocket(path string) *gorilla.Conn {
	h.t.Helper()
	d := gorilla.Dialer{NetDialContext: h.dial, TLSClientConfig: &tls.Config{RootCAs: h.cfg.Authority.Pool()}, Subprotocols: []string{"chat"}}
	conn, resp, err := d.Dial("wss://"+host+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	mustBe(h.t, "release header", strings.HasPrefix(resp.Header.Get("Lotse-Release"), "label-"), true)
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

// echo is a websocket instance by coder; ends gets the code by which each connection ended.
func echo(t testing.TB, ends chan<- int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true,
			CompressionMode: coder.CompressionContextTakeover})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(-1)
		for {
			kind, data, err := conn.Read(context.Background())
			if err != nil {
				ends <- int(coder.CloseStatus(err))
				return
			}
			if conn.Write(context.Background(), kind, data) != nil {
				return
			}
		}
	}
}

func TestWebsocketsBothWays(t *testing.T) {
	ends := make(chan int, 2)
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, echo(t, ends))))
	conn := h.dialWebsocket("/ws")
	mustBe(t, "subprotocol", conn.Subprotocol(), "chat")
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		text := strings.Repeat("x", size)
		if err := conn.WriteMessage(gorilla.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, fmt.Sprint("echo of ", size), string(got) == text, true)
	}
	_ = conn.WriteMessage(gorilla.CloseMessage, gorilla.FormatCloseMessage(4001, "done"))
	mustBe(t, "code at the instance", receive(t, "the end", ends), 4001)
	_, _, err := conn.ReadMessage()
	mustBe(t, "code at the client", gorilla.IsCloseError(err, 4001), true)
}

// drainIdle puts release b and drains a, whose instances are gone from the table then.
func (h *harbour) drain(t testing.TB, timeout time.Duration) <-chan Drained {
	t.Helper()
	h.put(site(2, "b", instance(t, says("b"))))
	result := make(chan Drained, 1)
	go func() {
		d, err := h.steer.Drain(context.Background(), "shop/dev", "a", timeout)
		if err != nil {
			t.Error(err)
		}
		result <- d
	}()
	return result
}

func TestDrainClosesWebsocketsWith1001(t *testing.T) {
	ends := make(chan int, 1)
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, echo(t, ends))))
	conn := h.dialWebsocket("/")
	done := h.drain(t, 2*time.Second)
	_, _, err := conn.ReadMessage()
	if !gorilla.IsCloseError(err, gorilla.CloseGoingAway) {
		t.Errorf("the client read %v, want close 1001", err)
	}
	mustBe(t, "code at the instance", receive(t, "the end", ends), 1001)
	mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
	mustBe(t, "aborted", h.stats(t, "a").Aborted, uint64(0))
}

// The instance sends one large message in pieces; the close frame must wait for its end, and come although more follows.
func TestGoodbyeWaitsForTheFrameInFlight(t *testing.T) {
	first, goOn := make(chan struct{}), make(chan struct{})
	const size = 300_000
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := handshake(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		frame := append([]byte{0x82, 127, 0, 0, 0, 0, 0, size >> 16, size >> 8 & 0xff, size & 0xff}, make([]byte, size)...)
		_, _ = conn.Write(frame[:size/2])
		close(first)
		<-goOn
		_, _ = conn.Write(append(frame[size/2:], 0x81, 2, 'n', 'o'))
		_, _ = io.Copy(io.Discard, rw)
	})))
	conn := h.dialWebsocket("/")
	_, r, err := conn.NextReader()
	if err != nil {
		t.Fatal(err)
	}
	<-first
	done := h.drain(t, 10*time.Second)
	f := h.flight("a")
	eventually(t, "the websocket was asked to part", func() bool { return len(f.aloft((*exchange).canPart)) == 0 })
	close(goOn)
	n, err := io.Copy(io.Discard, r)
	if err != nil || n != size {
		t.Errorf("got %d bytes, %v, want the whole message", n, err)
	}
	if _, _, err = conn.ReadMessage(); !gorilla.IsCloseError(err, 1001) {
		t.Errorf("behind the message came %v, want close 1001", err)
	}
	conn.Close()
	mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
}

// A client that says nothing more is not waited for until the end; the instance is told in its place.
func TestInstanceIsToldForAClientThatIsGone(t *testing.T) {
	ends := make(chan int, 1)
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, echo(t, ends))))
	conn := h.dialWebsocket("/")
	conn.SetCloseHandler(func(int, string) error { return nil }) // no close frame in return
	done := h.drain(t, 2*time.Second)
	_, _, err := conn.ReadMessage()
	mustBe(t, "1001 at the client", gorilla.IsCloseError(err, 1001), true)
	conn.NetConn().Close()
	mustBe(t, "code at the instance", receive(t, "the end", ends), 1001)
	mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
}

func TestEventStreamsEndBetweenTwoEvents(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		send, gone := make(chan string), make(chan struct{})
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			mustBe(t, "accepted encoding", r.Header.Get("Accept-Encoding"), "")
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			w.(http.Flusher).Flush()
			for {
				select {
				case text := <-send:
					fmt.Fprint(w, text)
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return
				}
			}
		})))
		req, _ := http.NewRequest(http.MethodGet, "https://"+host+"/", nil)
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := h.client(protocol).Do(req) // returns: headers are flushed before the first event
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body := bufio.NewReader(resp.Body)
		send <- "data: 1\n\ndata: half"
		for _, want := range []string{"data: 1\n", "\n"} {
			got, err := body.ReadString('\n')
			mustBe(t, "event", fmt.Sprint(got, err), want+"<nil>")
		}
		half := make([]byte, len("data: half"))
		if _, err := io.ReadFull(body, half); err != nil {
			t.Fatal(err)
		}
		done := h.drain(t, 10*time.Second)
		f := h.flight("a")
		eventually(t, "the stream was asked to part", func() bool { return f.refs.Load() == 1 && len(f.aloft((*exchange).canPart)) == 0 })
		send <- " whole\n\ndata: never"
		rest, err := io.ReadAll(body)
		mustBe(t, "rest", fmt.Sprintf("%q %v", rest, err), `" whole\n\n" <nil>`)
		mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
		receive(t, "the instance to see the end", gone)
		mustBe(t, "aborted", h.stats(t, "a").Aborted, uint64(0))
	})
}

func TestQuietEventStreamEndsAtOnce(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, ": hello\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})))
		resp, err := h.client(protocol).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		done := h.drain(t, 2*time.Second)
		rest, err := io.ReadAll(resp.Body)
		mustBe(t, "stream", fmt.Sprintf("%q %v", rest, err), `": hello\n" <nil>`)
		mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
	})
}

func TestDownloadsFinishWhileDraining(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		for _, known := range []bool{true, false} {
			goOn := make(chan struct{})
			h := newHarbour(t)
			h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
				if known {
					w.Header().Set("Content-Length", "200000")
				}
				_, _ = w.Write(make([]byte, 100_000))
				w.(http.Flusher).Flush()
				<-goOn
				_, _ = w.Write(make([]byte, 100_000))
			})))
			resp, err := h.client(protocol).Get("https://" + host + "/")
			if err != nil {
				t.Fatal(err)
			}
			done := h.drain(t, time.Minute)
			if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the drain waits", func() bool { return h.server.stats().Draining == 1 })
			close(goOn)
			rest, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			mustBe(t, "download", fmt.Sprint(len(rest), err), "199000 <nil>")
			mustBe(t, "drained", receive(t, "the drain", done), Drained{Finished: 1})
		}
	})
}

func TestWhatRemainsIsCut(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		began := make(chan struct{}, 2)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				_, _ = w.Write(make([]byte, 1000))
				w.(http.Flusher).Flush()
			}
			began <- struct{}{}
			<-r.Context().Done()
		})))
		c := h.client(protocol)
		errs := make(chan string, 2)
		for _, path := range []string{"/body", "/silent"} {
			go func() {
				resp, body, err := h.tryGet(c, "https://"+host+path)
				if err == nil {
					err = fmt.Errorf("status %d %s", resp.StatusCode, body)
				}
				errs <- err.Error()
			}()
			receive(t, "the request", began)
		}
		d := receive(t, "the drain", h.drain(t, 10*time.Millisecond))
		mustBe(t, "drained", d, Drained{Cut: 2})
		for range 2 {
			receive(t, "the client's error", errs)
		}
		mustBe(t, "aborted", h.stats(t, "a").Aborted, uint64(2))
	})
}

// A client that stops reading must not hold a release for ever.
func TestClientThatDoesNotReadIsCut(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		})))
		resp, err := h.client(protocol).Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		mustBe(t, "drained", receive(t, "the drain", h.drain(t, 50*time.Millisecond)), Drained{Cut: 1})
	})
}

func TestTruncatedAnswersLookTruncated(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		h := newHarbour(t)
		h.put(site(1, "a", instance(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/known" {
				w.Header().Set("Content-Length", "5000")
			}
			_, _ = w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})))
		for _, path := range []string{"/known", "/chunked"} {
			if _, body, err := h.tryGet(h.client(protocol), "https://"+host+path); err == nil {
				t.Errorf("%s: got %d bytes as if they were all", path, len(body))
			}
		}
		eventually(t, "both are counted", func() bool { return h.stats(t, "a").Aborted == 2 })
	})
}

// Streams part one after the other over the drain time, none at second 0.
func TestPartingIsSpread(t *testing.T) {
	s := spread{span: 20 * time.Second}
	waiting, steps := 100, 0
	for since := time.Duration(0); waiting > 0; since += 100 * time.Millisecond {
		due := s.due(since, waiting)
		if since < time.Second && due > 0 {
			t.Fatalf("%d parted at %v", due, since)
		}
		if due > 6 {
			t.Fatalf("%d parted at once at %v", due, since)
		}
		if due > 0 {
			steps++
		}
		if waiting -= due; since > 21*time.Second {
			t.Fatal("some never parted")
		}
	}
	mustBe(t, "steps", steps >= 18, true)
	late := spread{span: time.Second, last: 3}
	mustBe(t, "due after the span", late.due(2*time.Second, 7), 7)
}

func (h *harbour) flight(id string) *flight {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	return h.server.flights[flightKey{"shop/dev", id}]
}

func (h *harbour) stats(t testing.TB, id string) ServiceStats {
	t.Helper()
	st, err := h.steer.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Services {
		if s.Release == id {
			return s
		}
	}
	return ServiceStats{}
}
