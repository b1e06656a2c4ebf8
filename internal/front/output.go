package front

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// lines is the one output of everything: whole lines, one at a time.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

// Write writes whole lines that are JSON already.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// Line is what a service has said, as it stands in the front's output.
type Line struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"` // or the name of a task
	Text    string    `json:"text"`    // masked
}

func (l *lines) say(at time.Time, service, text string) {
	line, err := json.Marshal(Line{at.UTC(), service, text})
	if err == nil { // of strings: always
		_, _ = l.Write(append(line, '\n')) // an output that is gone takes nothing, and the services go on
	}
}
