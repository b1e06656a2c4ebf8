package proxy

import (
	"fmt"
	"html"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Closure keeps requests from a site's releases: all of them wait (Hold), or all of them are answered by a page (Maintenance), which
// goes before. It is kept beside the site's table: Put changes neither. What comes by Reach passes.
type Closure struct {
	Hold        *Hold        `json:"hold,omitempty"`
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	Held        int64        `json:"held,omitempty"` // requests that wait now; Client.Closure says it
}

// Hold keeps requests waiting until a time and then lets them go on. What is beyond its bounds is answered 503 with Retry-After.
type Hold struct {
	Until    time.Time     `json:"until"`
	For      time.Duration `json:"for"`      // at most HoldLongest; no request waits longer, whatever the clock does
	Requests int           `json:"requests"` // at once
	Bytes    int64         `json:"bytes"`    // of their bodies, as far as they are not left with their clients
}

// Maintenance is a page with 503 and Retry-After.
type Maintenance struct {
	Message string `json:"message,omitempty"` // on our own page, as text
	Page    string `json:"page,omitempty"`    // a whole HTML page instead, at most PageMost bytes; it can load nothing from elsewhere and run no script
}

const (
	// HoldLongest is how long requests can be kept: most clients and balancers give up after a minute or some.
	HoldLongest = 5 * time.Minute
	// PageMost is how large a page of maintenance can be: it stands in the state and in memory.
	PageMost = 256 << 10

	messageMost        = 1000
	maintenanceRetry   = 2 * time.Minute
	maintenanceMessage = "We are working on it and will be back soon."
)

func (c Closure) check() error {
	switch h, m := c.Hold, c.Maintenance; {
	case h != nil && (h.For <= 0 || h.For > HoldLongest):
		return fmt.Errorf("%w: a hold of %s: more than nothing and at most %s", ErrInvalid, h.For, HoldLongest)
	case h != nil && (h.Requests <= 0 || h.Bytes <= 0):
		return fmt.Errorf("%w: a hold of %d requests and %d bytes", ErrInvalid, h.Requests, h.Bytes)
	case m != nil && (len(m.Page) > PageMost || len(m.Message) > messageMost || !utf8.ValidString(m.Page+m.Message)):
		return fmt.Errorf("%w: the page of maintenance is UTF-8 of at most %d bytes, its message of at most %d", ErrInvalid, PageMost, messageMost)
	}
	return nil
}

// barrier is a Closure in force. Nothing of it changes.
type barrier struct {
	Closure
	over chan struct{} // closed when another, or none, is in force
}

// held counts what a hold keeps.
type held struct{ requests, bytes atomic.Int64 }

// close puts a closure in force, or takes it away where it holds nothing: on disk first.
func (s *Server) close(key string, fence int64, change func(*Closure)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admitFence(key, fence); err != nil {
		return err
	}
	if s.table.Load().sites[key] == nil {
		return fmt.Errorf("%s: %w", key, ErrUnknown)
	}
	c := s.state.Closures[key]
	change(&c)
	if err := c.check(); err != nil {
		return err
	}
	next := s.state.closing(key, fence, c)
	if err := s.store.save(next); err != nil {
		return err
	}
	s.state = next
	s.commons[key].close(c)
	s.tell(key)
	return nil
}

// close wakes whoever waited on the closure before.
func (c *siteCommon) close(to Closure) {
	var next *barrier
	if to.Hold != nil || to.Maintenance != nil {
		next = &barrier{to, make(chan struct{})}
	}
	if before := c.barrier.Swap(next); before != nil {
		close(before.over)
	}
}

func (s *Server) hold(key string, fence int64, h *Hold) error {
	return s.close(key, fence, func(c *Closure) {
		if c.Hold = h; h != nil {
			h.Until = s.cfg.Clock().Add(h.For)
		}
	})
}

func (s *Server) maintain(key string, fence int64, m *Maintenance) error {
	return s.close(key, fence, func(c *Closure) { c.Maintenance = m })
}

func (s *Server) closure(key string) (Closure, error) {
	live := s.table.Load().sites[key]
	if live == nil {
		return Closure{}, fmt.Errorf("%s: %w", key, ErrUnknown)
	}
	var c Closure
	if now := live.common.barrier.Load(); now != nil {
		c = now.Closure
		c.Held = live.common.held.requests.Load()
		if c.Hold != nil && c.Hold.left(s.cfg.Clock()) == 0 {
			c.Hold = nil
		}
	}
	return c, nil
}

// left is how long the hold goes on. A clock that went back does not prolong it beyond its length.
func (h *Hold) left(now time.Time) time.Duration { return min(max(h.Until.Sub(now), 0), h.For) }

// passes waits out a hold, or answers. again: the table may be another by now.
func (x *exchange) passes() (on, again bool) {
	site := x.entry.site.common
	c := site.barrier.Load()
	if c == nil || x.pin != nil || c == x.waitedOut {
		return true, false
	}
	if c.Maintenance != nil {
		x.maintained(c.Maintenance)
		return false, false
	}
	left := c.Hold.left(x.server.cfg.Clock())
	if left == 0 {
		return true, false
	}
	begin := time.Now()
	on = x.waitOut(&site.held, c, left)
	x.heldFor += time.Since(begin)
	return on, true
}

// waitOut returns true when the hold is over for this request.
func (x *exchange) waitOut(all *held, c *barrier, left time.Duration) bool {
	size := min(x.r.ContentLength, streamWindow) // more is left with the client until somebody reads
	if size < 0 {
		size = streamWindow
	}
	n, bytes := all.requests.Add(1), all.bytes.Add(size)
	defer all.requests.Add(-1)
	defer all.bytes.Add(-size)
	if n > int64(c.Hold.Requests) || bytes > c.Hold.Bytes {
		x.Header().Set("Retry-After", seconds(left))
		x.plain(http.StatusServiceUnavailable, "too many requests wait: try again soon")
		return false
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-c.over:
	case <-timer.C:
		x.waitedOut = c
	case <-x.r.Context().Done():
		return false
	case <-x.server.ended:
		x.unavailable("the time to finish is over")
		return false
	}
	return true
}

// maintained answers a person with the page, a program with a sentence.
func (x *exchange) maintained(m *Maintenance) {
	x.Header().Set("Retry-After", strconv.Itoa(int(maintenanceRetry.Seconds())))
	message := m.Message
	if message == "" {
		message = maintenanceMessage
	}
	switch {
	case !x.navigates():
		x.plain(http.StatusServiceUnavailable, message)
	case m.Page != "":
		x.guarded(http.StatusServiceUnavailable, m.Page, "style-src 'unsafe-inline'; font-src data:; form-action 'none'")
	default:
		x.page(http.StatusServiceUnavailable, framed("Back soon", "<h1>Back soon</h1>\n<p>"+html.EscapeString(message)+"</p>\n"))
	}
}
