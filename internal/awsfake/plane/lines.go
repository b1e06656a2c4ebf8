package plane

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// EngineLog and WebLog are the logs of an instance that the platform streams. A process NAME of the Procfile writes to
// NAME.stdout.log, standard error too.
const (
	EngineLog = "eb-engine.log"
	WebLog    = "web.stdout.log"
)

const (
	longestLine = 64 << 10
	mostLines   = 100_000 // kept of an instance; the files have all
)

// Line is one line of a log.
type Line struct {
	Time     time.Time
	Instance string
	File     string // web.stdout.log, eb-engine.log
	Process  string // of the Procfile; empty in eb-engine.log
	PID      int
	Text     string // as it was written
}

// String is the line as it stands in the file and is streamed: behind the time, the host and the process.
func (l Line) String() string {
	if l.Process == "" {
		return fmt.Sprintf("%s %s", l.Time.UTC().Format("2006/01/02 15:04:05.000000"), l.Text)
	}
	return fmt.Sprintf("%s %s %s[%d]: %s", l.Time.UTC().Format(time.Stamp), l.Instance, l.Process, l.PID, l.Text)
}

// journal keeps the lines of an instance, in its files too, and hands them on in order.
type journal struct {
	folder string
	clock  func() time.Time
	onLine func(Line)

	mu    sync.Mutex
	lines []Line
}

func (j *journal) add(l Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.Time = j.clock()
	if len(j.lines) >= mostLines {
		j.lines = slices.Delete(j.lines, 0, mostLines/10)
	}
	j.lines = append(j.lines, l)
	if f, err := os.OpenFile(filepath.Join(j.folder, l.File), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
		fmt.Fprintln(f, l)
		f.Close()
	}
	if j.onLine != nil {
		j.onLine(l)
	}
}

func (j *journal) all() []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// Tail is the last lines of every log, as a tail request of an environment shows them.
func (i *Instance) Tail(last int) string {
	logs := map[string][]Line{}
	for _, l := range i.Lines() {
		logs[l.File] = append(logs[l.File], l)
	}
	var all strings.Builder
	for _, file := range slices.Sorted(maps.Keys(logs)) {
		rule := strings.Repeat("-", 40)
		fmt.Fprintf(&all, "%s\n/var/log/%s\n%s\n", rule, file, rule)
		lines := logs[file]
		for _, l := range lines[max(0, len(lines)-last):] {
			fmt.Fprintln(&all, l)
		}
	}
	return all.String()
}

// lineWriter cuts what is written to it into lines.
type lineWriter struct {
	rest []byte
	line func(string)
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		at := bytes.IndexByte(w.rest, '\n')
		if at < 0 && len(w.rest) < longestLine {
			return len(b), nil
		}
		if at < 0 {
			w.line(string(w.rest))
			w.rest = nil
			return len(b), nil
		}
		w.line(string(w.rest[:at]))
		w.rest = w.rest[at+1:]
	}
}

// close hands on a last line that has no end.
func (w *lineWriter) close() {
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}
