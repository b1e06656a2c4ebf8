package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Lines returns the last lines of the output kept in dir, the oldest first, across rotated files; all of them when last is
// negative. It needs no keeper.
func Lines(dir string, last int) ([]Line, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	r, err := tail(dir, last)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var lines []Line
	for {
		line, ok, err := r.next()
		if err != nil || !ok {
			return lines, err
		}
		lines = append(lines, line)
	}
}

// Follow yields the last lines (all when last is negative) and then each new one as it is written, across rotations and
// restarts of the process and of its keeper. It returns nil when yield returns false, when everything was read of a process
// that has ended and has no keeper left, or when dir is removed, and the context's cause after a cancel. dir must exist. A reader that is slower than
// the output loses what is rotated away unread, and nothing else.
func Follow(ctx context.Context, dir string, last int, yield func(Line) bool) error {
	w, err := watch(ctx, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
	if err != nil {
		return err
	}
	defer w.close()
	r, err := tail(dir, last)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		w.arm(dir)
		// Asked before reading: what is written after this look is not the last.
		over := finished(dir)
		for {
			line, ok, err := r.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !yield(line) {
				return nil
			}
		}
		if over {
			return nil
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// finished reports whether nothing is written in dir any more. One that is removed soon after the end may never be seen ended.
func finished(dir string) bool {
	status, err := Inspect(dir)
	if err != nil {
		return !exists(dir)
	}
	return status.Ended && !status.Keeper
}

// reader reads whole lines, file after file.
type reader struct {
	dir    string
	number int // of the file that is open, or that was read last
	file   *os.File
	buf    []byte // read, not yielded
	chunk  []byte
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// next returns the next line, or false when there is none yet.
func (r *reader) next() (Line, bool, error) {
	for {
		if end := bytes.IndexByte(r.buf, '\n'); end >= 0 {
			line := parseLine(r.buf[:end])
			r.buf = r.buf[end+1:]
			return line, true, nil
		}
		later := r.later() // asked first: when there is a later file, this one gets no more lines
		more, err := r.fill()
		if err != nil {
			return Line{}, false, err
		}
		if more {
			continue
		}
		if later == 0 {
			return Line{}, false, nil
		}
		if err := r.open(later, 0); err != nil {
			return Line{}, false, err
		}
	}
}

// later returns the number of the next file, or 0. Numbers have no gaps, so that as long as the file being read is there, the
// next one has the next number or is not yet made.
func (r *reader) later() int {
	if exists(logPath(r.dir, r.number+1)) {
		return r.number + 1
	}
	if exists(logPath(r.dir, r.number)) {
		return 0
	}
	for _, n := range logNumbers(r.dir) {
		if n > r.number {
			return n
		}
	}
	return 0
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (r *reader) open(number int, offset int64) error {
	r.close()
	r.number, r.file, r.buf = number, nil, nil
	f, err := os.Open(logPath(r.dir, number))
	if errors.Is(err, os.ErrNotExist) {
		return nil // rotated away just now; the next one follows
	}
	if err != nil {
		return err
	}
	r.file = f
	_, err = f.Seek(offset, io.SeekStart)
	return err
}

// fill reads on and reports whether there was anything.
func (r *reader) fill() (bool, error) {
	if r.file == nil {
		return false, nil
	}
	if r.chunk == nil {
		r.chunk = make([]byte, 64<<10)
	}
	n, err := r.file.Read(r.chunk)
	r.buf = append(bytes.Clone(r.buf), r.chunk[:n]...)
	if err == io.EOF {
		err = nil
	}
	return n > 0, err
}

func parseLine(b []byte) Line {
	if len(b) > len(timeLayout) {
		if at, err := time.Parse(timeLayout, string(b[:len(timeLayout)])); err == nil {
			return Line{at, string(b[len(timeLayout)+1:])}
		}
	}
	return Line{Text: string(b)}
}

// tail returns a reader that stands before the last lines.
func tail(dir string, last int) (*reader, error) {
	r := &reader{dir: dir}
	numbers := logNumbers(dir)
	if last < 0 || len(numbers) == 0 {
		return r, nil
	}
	for i, number := range slices.Backward(numbers) {
		found, offset, err := lastLines(logPath(dir, number), last)
		if err != nil {
			return nil, err
		}
		if last -= found; last == 0 || i == 0 {
			return r, r.open(number, offset)
		}
	}
	return r, nil
}

// lastLines finds where the last whole lines of a file begin, and how many there are, at most want. It reads backwards, since
// the file may be large.
func lastLines(path string, want int) (found int, offset int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	ends := 0 // line ends seen; the last lines begin behind the one before them
	after := end
	for pos := end; pos > 0; {
		n := min(int64(len(buf)), pos)
		pos -= n
		if _, err := f.ReadAt(buf[:n], pos); err != nil {
			return 0, 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] != '\n' {
				continue
			}
			if ends == 0 {
				after = pos + i + 1
			}
			if ends == want {
				if want == 0 {
					return 0, after, nil
				}
				return want, pos + i + 1, nil
			}
			ends++
		}
	}
	return ends, 0, nil
}
