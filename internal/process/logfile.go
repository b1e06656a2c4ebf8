package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	logPrefix  = "log-"
	timeLayout = "2006-01-02T15:04:05.000000Z" // always as long, always UTC
)

// logFile writes lines into files with rising numbers. A full file is left and never touched again until it is the oldest
// and goes; a reader therefore never loses a line by rotation: it reads a file to its end and goes on with the next number.
//
// It never fails and never waits for space: lines that cannot be written are dropped and counted, and the count is written
// as a line of its own as soon as something can be written again. It is for one goroutine.
type logFile struct {
	dir    string
	policy LogPolicy
	now    func() time.Time
	open   func(path string) (appender, error) // os, but for tests

	file    appender
	number  int
	size    int64
	buf     []byte
	pending int // lines in buf
	dropped int
	reason  error
}

// appender is the part of *os.File that a log needs.
type appender interface {
	Write(p []byte) (int, error)
	Truncate(size int64) error
	Close() error
}

func openAppender(path string) (appender, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// openLog goes on behind what is there. A last line that its writer could not finish is finished.
func openLog(dir string, policy LogPolicy, now func() time.Time) *logFile {
	if policy.MaxBytes <= 0 {
		policy.MaxBytes = 16 << 20
	}
	if policy.Files <= 0 {
		policy.Files = 4
	}
	l := &logFile{dir: dir, policy: policy, now: now, open: openAppender}
	if numbers := logNumbers(dir); len(numbers) > 0 {
		l.number = numbers[len(numbers)-1]
		if whole, size := endsWhole(logPath(dir, l.number)); !whole {
			l.buf = append(l.buf, '\n')
			l.size = size
		} else {
			l.size = size
		}
	}
	return l
}

func endsWhole(path string) (whole bool, size int64) {
	f, err := os.Open(path)
	if err != nil {
		return true, 0
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true, 0
	}
	last := []byte{'\n'}
	_, _ = f.ReadAt(last, info.Size()-1) // an unreadable file is left as it is
	return last[0] == '\n', info.Size()
}

func logPath(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%06d", logPrefix, number))
}

// logNumbers lists the numbers of the files that are there, rising. Only the oldest ever go, so that there are no gaps: where
// one is seen, the directory was read while a file was made, and the number belongs to a file all the same.
func logNumbers(dir string) []int {
	entries, _ := os.ReadDir(dir) // nothing there, nothing to list
	var seen []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), logPrefix)
		if n, err := strconv.Atoi(rest); ok && err == nil {
			seen = append(seen, n)
		}
	}
	sort.Ints(seen)
	const mostMissed = 1000 // a wider gap was made by somebody's hand
	var numbers []int
	for i, n := range seen {
		from := n
		if i > 0 && n-seen[i-1] <= mostMissed {
			from = seen[i-1] + 1
		}
		for ; from <= n; from++ {
			numbers = append(numbers, from)
		}
	}
	return numbers
}

// add takes one line; flush writes what was taken.
func (l *logFile) add(text string) {
	l.buf = l.now().UTC().AppendFormat(l.buf, timeLayout)
	l.buf = append(append(append(l.buf, ' '), text...), '\n')
	l.pending++
	if len(l.buf) >= 64<<10 {
		l.flush()
	}
}

// flush writes what was taken, after the count of what was dropped before it.
func (l *logFile) flush() {
	if l.pending == 0 && l.dropped == 0 && len(l.buf) == 0 {
		return
	}
	if l.dropped > 0 {
		note := fmt.Sprintf("%s lotse: %d lines were lost here: %v\n", l.now().UTC().Format(timeLayout), l.dropped, l.reason)
		if err := l.write([]byte(note)); err != nil {
			l.drop(err)
			return
		}
		l.dropped = 0
	}
	if err := l.write(l.buf); err != nil {
		l.drop(err)
		return
	}
	l.buf, l.pending = l.buf[:0], 0
	if cap(l.buf) > 128<<10 {
		l.buf = nil
	}
}

func (l *logFile) drop(err error) {
	l.dropped += l.pending
	l.buf, l.pending = l.buf[:0], 0
	l.reason = err
	if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) {
		l.reason = pathErr.Err
	}
}

// write appends whole lines, or nothing.
func (l *logFile) write(p []byte) error {
	if l.file != nil && l.size > 0 && l.size+int64(len(p)) > l.policy.MaxBytes {
		l.file.Close()
		l.file = nil
		l.number++
		l.size = 0
	}
	if l.file == nil {
		if err := l.next(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(p)
	if err != nil && n > 0 {
		if l.file.Truncate(l.size) != nil {
			l.size += int64(n) // half a line stays; the reader shows it as one
		}
	}
	if err == nil {
		l.size += int64(n)
	}
	return err
}

// next opens the file to write to and removes those that are too old.
func (l *logFile) next() error {
	l.number = max(l.number, 1)
	f, err := l.open(logPath(l.dir, l.number))
	if err != nil {
		return err
	}
	l.file = f
	l.removeOldest(l.policy.Files)
	return nil
}

// removeOldest keeps so many files.
func (l *logFile) removeOldest(keep int) {
	numbers := logNumbers(l.dir)
	for len(numbers) > keep {
		os.Remove(logPath(l.dir, numbers[0]))
		numbers = numbers[1:]
	}
}

func (l *logFile) close() {
	l.flush()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
