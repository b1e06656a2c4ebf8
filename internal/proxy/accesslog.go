package proxy

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logQueue = 8192
	logBatch = 64 << 10
	logPause = 50 * time.Millisecond // lines are collected so long: one wake-up for many
)

// line is what is known of one request when it has ended. It holds the client's address only until its pseudonym is made,
// in memory.
type line struct {
	at       time.Time
	took     time.Duration
	client   netip.Addr
	host     string // set only where a site answers for it
	site     string
	release  string
	service  string
	method   string
	path     string
	protocol string
	status   int
	in, out  int64
	aborted  bool
}

func (x *exchange) line(took time.Duration) line {
	l := line{at: x.start, took: took, client: x.client, method: x.r.Method, path: x.r.URL.Path, protocol: x.r.Proto,
		status: x.status, in: x.body.n.Load(), out: x.out, aborted: x.aborted}
	if x.entry != nil {
		l.host, l.site = x.entry.host, x.entry.site.Key
	}
	switch {
	case x.atGate:
		l.service = gateService
	case x.route != nil:
		l.release, l.service = x.route.count.label, x.route.service
	}
	return l
}

// accessLog writes lines from one goroutine, in batches. A request never waits for the disk: when too many lines are
// pending, the next is dropped and counted.
type accessLog struct {
	to        io.Writer
	pseudonym func(netip.Addr) string
	log       *slog.Logger
	dropped   atomic.Uint64

	mu      sync.Mutex
	pending []line
	closed  bool
	wake    chan struct{} // the first line is pending
	done    chan struct{} // closed
}

func newAccessLog(cfg Config, log *slog.Logger) *accessLog {
	return &accessLog{to: cfg.AccessLog, pseudonym: cfg.Pseudonym, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (a *accessLog) put(l line) {
	if a.to == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.pending) >= logQueue {
		a.dropped.Add(1)
		return
	}
	if a.pending = append(a.pending, l); len(a.pending) == 1 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

func (a *accessLog) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		close(a.done)
	}
}

// run writes until close, and what is pending then.
func (a *accessLog) run() {
	var text []byte
	var lines []line
	for open := true; open; {
		open = a.collect()
		a.mu.Lock()
		lines, a.pending = a.pending, lines[:0]
		a.mu.Unlock()
		count := 0
		for _, l := range lines {
			text = a.append(text, l)
			if count++; len(text) >= logBatch {
				a.flush(text, count)
				text, count = text[:0], 0
			}
		}
		a.flush(text, count)
		text = text[:0]
		clear(lines) // let go of what the strings hold
	}
}

// collect waits until lines are pending and some more have come, false when it is over.
func (a *accessLog) collect() bool {
	select {
	case <-a.wake:
	case <-a.done:
		return false
	}
	pause := time.NewTimer(logPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-a.done:
		return false
	}
}

func (a *accessLog) flush(text []byte, lines int) {
	if lines == 0 {
		return
	}
	if _, err := a.to.Write(text); err != nil {
		a.dropped.Add(uint64(lines))
		a.log.Error("the access log cannot be written", "lines", lines, "cause", err)
	}
}

// append writes a line as a JSON object. By hand: it is done for every request.
func (a *accessLog) append(b []byte, l line) []byte {
	b = append(b, `{"time":"`...)
	b = l.at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	b = appendText(b, "site", l.site)
	b = appendText(b, "release", l.release)
	b = appendText(b, "service", l.service)
	b = appendText(b, "host", l.host)
	b = appendText(b, "method", method(l.method))
	b = appendText(b, "endpoint", endpoint(l.path))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(l.status), 10)
	b = append(b, `,"ms":`...)
	b = strconv.AppendFloat(b, float64(l.took.Microseconds())/1000, 'f', -1, 64)
	b = append(b, `,"in":`...)
	b = strconv.AppendInt(b, l.in, 10)
	b = append(b, `,"out":`...)
	b = strconv.AppendInt(b, l.out, 10)
	b = appendText(b, "protocol", l.protocol)
	if a.pseudonym != nil && l.client.IsValid() {
		b = appendText(b, "client", a.pseudonym(l.client))
	}
	if l.aborted {
		b = append(b, `,"aborted":true`...)
	}
	return append(b, '}', '\n')
}

// appendText leaves empty values out.
func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), key...), '"', ':')
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(value) // of a string: cannot fail
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), value...), '"')
}

// method shows only methods that are names; a client may send any token.
func method(m string) string {
	if len(m) > 16 || !isWord(m) {
		return placeholder
	}
	return m
}
