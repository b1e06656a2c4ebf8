package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// socketeer holds a websocket and waits for each echo. A close with 1001 (going away) or 1012 (service restart) is the
// server's good right, RFC 6455 §7.4.1; the client connects again at once.
func (h *Hammer) socketeer(t *http.Transport, kind string) func(going, alive context.Context) {
	return func(going, alive context.Context) {
		a := h.tally.begin(kind)
		conn, f := h.dialSocket(alive, a, t)
		a.end(f)
		if f != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for n, since := 0, a.start; ; n++ {
			a := h.tally.begin(kind)
			// A kill may have hit the connection while it was idle, or while the answer before lay unread: only an echo that was
			// asked for and answered after the kill proves that the connection outlived it.
			a.from = since
			err := echo(alive, conn, strconv.Itoa(n), h.plan.Timeout)
			switch code := websocket.CloseStatus(err); {
			case err == nil:
				a.end(nil)
				since = a.start
			case code == websocket.StatusGoingAway || code == websocket.StatusServiceRestart:
				a.drop()
				return
			default:
				a.end(socketFailure(err, code))
				return
			}
			select {
			case <-going.Done():
				_ = conn.Close(websocket.StatusNormalClosure, "")
				return
			case <-time.After(h.plan.Pause):
			}
		}
	}
}

// dialSocket opens a websocket. The handshake is a GET, so it is tried again once when the connection failed.
func (h *Hammer) dialSocket(ctx context.Context, a *attempt, t *http.Transport) (*websocket.Conn, *failure) {
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(ctx, h.plan.Timeout)
		conn, resp, err := websocket.Dial(ctx, h.plan.URL+"/socket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: t}, HTTPHeader: h.plan.Header.Clone()}) //nolint:bodyclose // the websocket owns it
		cancel()
		a.retried = try - 1
		switch {
		case err == nil:
			a.served(resp.Header.Get(ReleaseHeader))
			return conn, nil
		case resp != nil:
			if f := refused(resp); f != nil {
				return nil, f
			}
			return nil, &failure{"no websocket", fmt.Sprintf("status %d", resp.StatusCode)}
		case try > 1:
			return nil, broken(err, "no answer")
		}
	}
}

func echo(ctx context.Context, conn *websocket.Conn, word string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte(word)); err != nil {
		// The close frame that says why has come before, or comes now: it is what counts.
		if _, _, reason := conn.Read(ctx); websocket.CloseStatus(reason) != -1 {
			return reason
		}
		return err
	}
	_, got, err := conn.Read(ctx)
	if err == nil && string(got) != word {
		return fmt.Errorf("%w: %q for %q", errEcho, clip(string(got)), word)
	}
	return err
}

var errEcho = errors.New("wrong echo")

func socketFailure(err error, code websocket.StatusCode) *failure {
	switch {
	case errors.Is(err, errEcho):
		return &failure{"wrong echo", err.Error()}
	case code != -1:
		return &failure{fmt.Sprintf("socket closed %d", code), "closed by the server"}
	}
	return broken(err, "socket cut")
}

// streamer holds an event stream. It may end between two events and never inside one, and with Last-Event-ID it must go on
// where it ended (HTML, "Server-sent events").
func (h *Hammer) streamer(t *http.Transport, kind string) func(going, alive context.Context) {
	last := 0
	return func(going, alive context.Context) {
		a := h.tally.begin(kind)
		forever := 24 * time.Hour
		got, f := h.ask(alive, a, t, http.MethodGet, "/events", nil, forever, "Accept", "text/event-stream", "Last-Event-ID", strconv.Itoa(last))
		if f != nil {
			a.end(f)
			return
		}
		defer got.close()
		a.end(nil)
		read := make(chan struct{})
		go func() { // the only way to leave a stream that is silent
			select {
			case <-going.Done():
				got.close()
			case <-read:
			}
		}()
		defer close(read)
		last = h.readEvents(going, got, kind, last)
	}
}

// readEvents counts the events of one connection and returns the last id.
func (h *Hammer) readEvents(going context.Context, got *answer, kind string, last int) int {
	in := bufio.NewReader(got.Body)
	a := h.tally.begin(kind)
	for {
		event, err := readEvent(in)
		if err != nil {
			if going.Err() != nil || event == "" {
				a.drop()
				return last
			}
			a.end(&failure{"event cut", clip(event)})
			return last
		}
		id, ok := eventID(event)
		if !ok {
			continue // a comment, to keep the connection
		}
		if last > 0 && id != last+1 {
			a.end(&failure{"event lost", fmt.Sprintf("id %d after %d", id, last)})
			return id
		}
		a.end(nil)
		last = id
		a = h.tally.begin(kind)
	}
}

// readEvent returns one event without its empty line, or what there was of it and an error.
func readEvent(in *bufio.Reader) (string, error) {
	var event strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			event.WriteString(line)
			if errors.Is(err, io.EOF) && event.Len() == 0 {
				return "", io.EOF
			}
			return event.String(), err
		}
		if line == "\n" {
			return event.String(), nil
		}
		event.WriteString(line)
	}
}

func eventID(event string) (int, bool) {
	for line := range strings.Lines(event) {
		if text, ok := strings.CutPrefix(line, "id: "); ok {
			id, err := strconv.Atoi(strings.TrimSpace(text))
			return id, err == nil
		}
	}
	return 0, false
}
