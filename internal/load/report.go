package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptrace"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what became of a load.
type Report struct {
	Counts
	Took     time.Duration
	Gap      time.Duration // longest time without a good answer, from the first good one until the clients were told to stop
	Kinds    map[string]Counts
	Failures []Failure      // most frequent first
	Served   map[string]int // answers by what the app said its release is
}

// Counts are the figures of all requests or of one kind. An echo of a websocket and an event of a stream are requests.
type Counts struct {
	Requests int // answered or failed
	Failed   int
	Retried  int // sent again within the rule
	Killed   int // failed while in flight in a process that the caller killed; not in Failed
	Ended    int // websockets and streams that the server ended as it may
	Latency  Latency
}

// Latency is the time from asking to the last byte, of good answers.
type Latency struct{ P50, P95, P99, Max time.Duration }

// Failure is one way in which requests failed. It names no address.
type Failure struct {
	Kind    string // of client
	Cause   string
	Count   int
	Example string
}

// Summary is the report in a line and a line for each way of failing.
func (r Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d failed, %d retried, %d killed, %d ended by the server in %s; p50 %s, p99 %s, max %s, longest gap %s",
		r.Requests, r.Failed, r.Retried, r.Killed, r.Ended, r.Took.Round(time.Millisecond),
		r.Latency.P50.Round(time.Microsecond), r.Latency.P99.Round(time.Microsecond), r.Latency.Max.Round(time.Microsecond), r.Gap.Round(time.Microsecond))
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n  %d× %s: %s, e.g. %s", f.Count, f.Kind, f.Cause, f.Example)
	}
	return b.String()
}

// failure is why one request failed.
type failure struct{ cause, example string }

// attempt is one request from its beginning to its answer. Only its client touches it.
type attempt struct {
	to      *tally
	kind    string
	from    time.Time
	start   time.Time
	retried int
	release string
	idle    atomic.Int64 // how long its connection had waited, in nanoseconds
}

func (a *attempt) served(release string) { a.release = release }

// over notes the connection. One that has been idle since before a kill is of the process that was killed, though the client may not have
// heard of its end yet.
func (a *attempt) over(c httptrace.GotConnInfo) { a.idle.Store(int64(c.IdleTime)) }

// since is from when on the attempt, or the connection that it got, was with the server.
func (a *attempt) since() time.Time { return a.from.Add(-time.Duration(a.idle.Load())) }

func (a *attempt) end(f *failure) { a.to.end(a, f) }

// drop ends an attempt that the server may leave unanswered.
func (a *attempt) drop() { a.to.drop(a) }

// tally counts. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	started  time.Time
	all      *figures
	kinds    map[string]*figures
	failures map[[2]string]*Failure
	released map[string]int
	kills    [][2]time.Time // from, to; a zero to is going on
	lastGood time.Time
	told     time.Time // when the clients were told to stop; zero before
	gap      time.Duration
	answered int
	change   chan struct{}
}

type figures struct {
	Counts
	took *hdrhistogram.Histogram // µs
}

func newFigures() *figures {
	return &figures{took: hdrhistogram.New(1, int64(5*time.Minute/time.Microsecond), 3)}
}

func newTally(now time.Time) *tally {
	return &tally{started: now, all: newFigures(), kinds: map[string]*figures{}, failures: map[[2]string]*Failure{},
		released: map[string]int{}, change: make(chan struct{})}
}

func (t *tally) begin(kind string) *attempt {
	now := time.Now()
	return &attempt{to: t, kind: kind, from: now, start: now}
}

func (t *tally) end(a *attempt, f *failure) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	killed := f != nil && t.overlapsKill(a.since())
	for _, fig := range []*figures{t.all, t.kind(a.kind)} {
		fig.Requests++
		fig.Retried += a.retried
		switch {
		case killed:
			fig.Killed++
		case f != nil:
			fig.Failed++
		default:
			_ = fig.took.RecordValue(max(1, int64(now.Sub(a.start)/time.Microsecond)))
		}
	}
	switch {
	case f == nil:
		t.wasGood(now)
		if a.release != "" {
			t.released[a.release]++
		}
	case !killed:
		t.fail(a.kind, f)
	}
}

func (t *tally) wasGood(now time.Time) {
	t.gap = t.gapUntil(now)
	t.lastGood = now
	t.answered++
	close(t.change)
	t.change = make(chan struct{})
}

// gapUntil is the longest gap if nothing good came until now. Who was told to stop begins nothing new, so that what is still in
// flight then leaves gaps of the clients' making.
func (t *tally) gapUntil(now time.Time) time.Duration {
	if t.lastGood.IsZero() {
		return t.gap
	}
	if !t.told.IsZero() && t.told.Before(now) {
		now = t.told
	}
	return max(t.gap, now.Sub(t.lastGood))
}

func (t *tally) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told.IsZero() {
		t.told = time.Now()
	}
}

func (t *tally) fail(kind string, f *failure) {
	key := [2]string{kind, f.cause}
	if t.failures[key] == nil {
		t.failures[key] = &Failure{Kind: kind, Cause: f.cause, Example: f.example}
	}
	t.failures[key].Count++
}

func (t *tally) drop(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.Ended++
	t.kind(a.kind).Ended++
}

func (t *tally) kind(name string) *figures {
	if t.kinds[name] == nil {
		t.kinds[name] = newFigures()
	}
	return t.kinds[name]
}

// overlapsKill reports whether a request that began at from and ended now was in flight during a kill.
func (t *tally) overlapsKill(from time.Time) bool {
	return slices.ContainsFunc(t.kills, func(k [2]time.Time) bool { return k[1].IsZero() || from.Before(k[1]) })
}

func (t *tally) killing(from, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.kills {
		if t.kills[i][0].Equal(from) {
			t.kills[i][1] = to
			return
		}
	}
	t.kills = append(t.kills, [2]time.Time{from, to})
}

func (t *tally) good() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answered
}

func (t *tally) moved() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.change
}

func (t *tally) report(now time.Time) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Report{Counts: t.all.counts(), Took: now.Sub(t.started), Gap: t.gapUntil(now), Kinds: map[string]Counts{}, Served: maps.Clone(t.released)}
	for name, f := range t.kinds {
		r.Kinds[name] = f.counts()
	}
	for _, f := range t.failures {
		r.Failures = append(r.Failures, *f)
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind+a.Cause, b.Kind+b.Cause))
	})
	return r
}

func (f *figures) counts() Counts {
	at := func(q float64) time.Duration { return time.Duration(f.took.ValueAtQuantile(q)) * time.Microsecond }
	c := f.Counts
	c.Latency = Latency{P50: at(50), P95: at(95), P99: at(99), Max: time.Duration(f.took.Max()) * time.Microsecond}
	return c
}

// broken names a connection's failure without the addresses that the errors of net carry.
func broken(err error, otherwise string) *failure {
	var unknown *tls.CertificateVerificationError
	var number syscall.Errno
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return &failure{"timeout", "no whole answer in time"}
	case errors.Is(err, context.Canceled):
		return &failure{"broken off", "by the client"}
	case errors.As(err, &unknown):
		return &failure{"certificate", clip(unknown.Err.Error())}
	case errors.As(err, &number):
		return &failure{number.Error(), otherwise}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &failure{otherwise, "the connection was closed"}
	}
	return &failure{otherwise, clip(err.Error())}
}

var address = regexp.MustCompile(`\[[0-9a-fA-F:.]+\](:\d+)?|\b\d{1,3}(\.\d{1,3}){3}(:\d+)?`)

// clip is the first line of text, short and without addresses.
func clip(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = address.ReplaceAllString(text, "…")
	return text[:min(len(text), 120)]
}
