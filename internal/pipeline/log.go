package pipeline

import (
	"bufio"
	"fmt"
	"os"
)

// How much of a step's output is kept: the beginning up to logBytes, and in any case the last lines, since the error stands
// at the end.
const (
	logBytes  = 16 << 20
	lastLines = 1000
	tailLines = 30 // are shown with a failed step
)

// stepLog keeps the output of one step. It is used by one goroutine at a time.
type stepLog struct {
	file    *os.File
	w       *bufio.Writer
	written int
	left    int      // lines that are not in the file
	last    []string // the last lines, whether or not they are in the file
}

func openLog(name string) (*stepLog, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &stepLog{file: f, w: bufio.NewWriter(f)}, nil
}

// add takes one line. A log that cannot be written any more (a full disk) does not end the step, whose own writes will.
func (l *stepLog) add(line string) {
	if len(l.last) == 2*lastLines {
		l.last = append(l.last[:0], l.last[lastLines:]...)
	}
	l.last = append(l.last, line)
	if l.written+len(line) >= logBytes {
		l.left++
		l.written = logBytes
		return
	}
	n, _ := fmt.Fprintln(l.w, line)
	l.written += n
	if l.w.Buffered() > 0 && len(l.last)%64 == 0 {
		_ = l.w.Flush() // somebody may be reading along
	}
}

func (l *stepLog) tail(n int) []string { return l.last[max(0, len(l.last)-n):] }

// shortened is for evidence, which is kept with the release and sent around.
func shortened(lines []string) []string {
	short := make([]string, len(lines))
	for i, line := range lines {
		short[i] = cut(line, 500)
	}
	return short
}

func (l *stepLog) close() {
	kept := l.tail(lastLines)
	if l.left > len(kept) {
		fmt.Fprintf(l.w, "… %d lines are left out here …\n", l.left-len(kept))
	}
	for _, line := range kept[len(kept)-min(len(kept), l.left):] {
		fmt.Fprintln(l.w, line)
	}
	_ = l.w.Flush()
	_ = l.file.Close()
}
