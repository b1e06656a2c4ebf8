package proxy

import (
	"io"
	"net/http"
	"sync"
)

// eventStream ends an event stream between two events. Asked to part while nothing is half sent, it stops reading at once;
// otherwise it ends behind the last whole event that it has, as soon as it has one. What the instance had begun to say is
// left out: the client comes back with Last-Event-ID.
type eventStream struct {
	mu      sync.Mutex
	marks   events
	parting bool
	reading bool
	stop    func() // ends a read that waits
}

func (e *eventStream) part() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.parting = true
	if e.reading && e.marks.between() {
		e.stop()
	}
}

// before says whether the next read may begin.
func (e *eventStream) before() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parting && e.marks.between() {
		return false
	}
	e.reading = true
	return true
}

// after returns what of p may be sent, and whether it is the last.
func (e *eventStream) after(p []byte) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reading = false
	between := e.marks.between()
	last := e.marks.pass(p)
	switch {
	case !e.parting:
		return p, false
	case last >= 0:
		return p[:last], true
	case between:
		return nil, true
	}
	return p, false
}

func (x *exchange) copyEvents(from io.Reader, buf []byte, flusher http.Flusher) error {
	e := &eventStream{stop: func() { x.cancel(errCut) }}
	x.setParting(e)
	for e.before() {
		n, err := from.Read(buf)
		p, last := e.after(buf[:n])
		if len(p) > 0 {
			if _, err := x.Write(p); err != nil {
				return errClient
			}
			flusher.Flush()
		}
		if last {
			return nil
		}
		if err != nil {
			return unlessEOF(err)
		}
	}
	return nil
}
