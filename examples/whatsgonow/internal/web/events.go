package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"whatsgonow/internal/store"
)

// Streams passes wake-ups on to the event streams of this instance, until ctx ends; then
// it ends them, each between two events.
func (s *Server) Streams(ctx context.Context) {
	s.Store.Listen(ctx, s.streams.wake)
	s.streams.end()
}

// streams are the open event streams by person.
type streams struct {
	mu     sync.Mutex
	ended  bool
	waking map[string]map[chan struct{}]bool
}

// join returns a channel that gets a value when there may be news for the person, and
// is closed when the stream must end.
func (st *streams) join(person string) (news chan struct{}, leave func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	news = make(chan struct{}, 1)
	if st.ended {
		close(news)
		return news, func() {}
	}
	if st.waking == nil {
		st.waking = map[string]map[chan struct{}]bool{}
	}
	if st.waking[person] == nil {
		st.waking[person] = map[chan struct{}]bool{}
	}
	st.waking[person][news] = true
	return news, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		delete(st.waking[person], news)
		if len(st.waking[person]) == 0 {
			delete(st.waking, person)
		}
	}
}

func (st *streams) wake(person string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for who, channels := range st.waking {
		if person != "" && who != person {
			continue
		}
		for news := range channels {
			select {
			case news <- struct{}{}:
			default: // it has yet to look at the last one
			}
		}
	}
}

func (st *streams) end() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ended = true
	for _, channels := range st.waking {
		for news := range channels {
			close(news)
		}
	}
	st.waking = nil
}

// events streams what happens to the person's transports and offers. A client that comes
// back says which event it saw last, to this instance or another, and misses none.
func (s *Server) events(w http.ResponseWriter, r *http.Request, who store.Account) error {
	news, leave := s.streams.join(who.ID)
	defer leave()

	last, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		if last, err = s.Store.LastEvent(r.Context(), who.ID); err != nil {
			return err
		}
	}
	out := &stream{w: w, rc: http.NewResponseController(w)}
	if err := out.begin(last); err != nil {
		return nil // who hung up does not want to hear of it
	}
	heartbeat := time.NewTicker(s.Heartbeat)
	defer heartbeat.Stop()
	for {
		if last, err = s.sendEvents(r, out, who, last); err != nil {
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case _, more := <-news:
			if !more {
				return nil
			}
		case <-heartbeat.C:
			// The session may have ended; and a wake-up may have been missed.
			if still, err := s.who(r); err == nil && still.ID != who.ID {
				return nil
			}
			if err := out.send(": still here\n\n"); err != nil {
				return nil
			}
		}
	}
}

// sendEvents writes all events after the given one. While the database is away there
// are none.
func (s *Server) sendEvents(r *http.Request, out *stream, who store.Account, last int64) (int64, error) {
	for {
		events, err := s.Store.EventsAfter(r.Context(), who.ID, last)
		if err != nil || len(events) == 0 {
			return last, r.Context().Err()
		}
		for _, e := range events {
			data, err := json.Marshal(e)
			if err != nil {
				return last, err
			}
			if err := out.send(fmt.Sprintf("id: %d\nevent: change\ndata: %s\n\n", e.Seq, data)); err != nil {
				return last, err
			}
			last = e.Seq
		}
	}
}

// A stream is text/event-stream on its way out. Each send is whole or an error.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (s *stream) begin(last int64) error {
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("X-Accel-Buffering", "no")
	// The request has been read whole; from here on it may take as long as it likes.
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return s.send(fmt.Sprintf("retry: 2000\nid: %d\n\n", last))
}

func (s *stream) send(text string) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.rc.Flush()
}
