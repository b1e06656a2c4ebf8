package deploy

import "sync"

// Output is one line of a step's output while it runs.
type Output struct {
	Step string `json:"step"`
	Line string `json:"line"`
}

// broadcast gives the latest lines to whoever listens. It never waits for a listener: one that is slow misses lines, which the
// kept log has.
type broadcast struct {
	mu        sync.Mutex
	recent    []Output
	listeners map[chan Output]struct{}
}

const (
	recentLines   = 200
	listenerLines = 1000
)

func newBroadcast() *broadcast { return &broadcast{listeners: map[chan Output]struct{}{}} }

func (b *broadcast) send(o Output) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent = append(b.recent, o)
	if len(b.recent) > recentLines {
		b.recent = append([]Output(nil), b.recent[len(b.recent)-recentLines/2:]...)
	}
	for l := range b.listeners {
		select {
		case l <- o:
		default:
		}
	}
}

// listen returns what was said lately and a channel of what follows.
func (b *broadcast) listen() (recent []Output, more <-chan Output, stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan Output, listenerLines)
	b.listeners[c] = struct{}{}
	return append([]Output(nil), b.recent...), c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, c)
	}
}
