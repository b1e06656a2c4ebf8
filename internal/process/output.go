package process

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// maxLine is the longest line that is kept, in bytes; a longer one is cut into several, between two characters.
const maxLine = 64 << 10

// output turns raw bytes of a process into lines: escape sequences out first, since a colour in the middle of a value must not
// save it from the mask; then the mask; then lines. Its memory is bounded by maxLine and the longest masked value.
type output struct {
	strip stripper
	mask  *maskWriter
	lines lineWriter
	fresh bool // nothing was read yet of a stream that somebody else had begun
}

// newOutput yields each line. resumed says that a reader before us may have taken the beginning of a line.
func newOutput(mask *Mask, resumed bool, yield func(string)) *output {
	o := &output{lines: lineWriter{yield: yield}, fresh: resumed}
	o.mask = &maskWriter{mask: mask, to: &o.lines}
	o.strip.to = o.mask
	return o
}

// Write implements io.Writer; it never fails.
func (o *output) Write(p []byte) (int, error) {
	if o.fresh && len(p) > 0 {
		o.fresh = false
		_, err := o.strip.Write(o.mask.resume(p))
		return len(p), err
	}
	return o.strip.Write(p)
}

// Close yields what is left, as a line of its own.
func (o *output) Close() error {
	err := o.mask.Close()
	o.lines.flush()
	return err
}

// stripper takes out escape sequences as of ECMA-48 (CSI, OSC and other strings, two-character escapes), also when they
// arrive in pieces. A line end always ends a sequence, so that a broken one cannot swallow more than its line.
type stripper struct {
	to    io.Writer
	state int
	out   []byte
}

const (
	stripText      = iota
	stripEscape    // after ESC
	stripCSI       // after ESC [
	stripString    // after ESC ] P X ^ _, until BEL or ESC \
	stripStringEnd // after ESC inside such a string
	stripCharset   // after ESC and an intermediate byte such as ( or #
)

// Write implements io.Writer.
func (s *stripper) Write(p []byte) (int, error) {
	if s.state == stripText && bytes.IndexByte(p, 0x1b) < 0 {
		return s.to.Write(p)
	}
	s.out = s.out[:0]
	for _, c := range p {
		if s.keeps(c) {
			s.out = append(s.out, c)
		}
	}
	if _, err := s.to.Write(s.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// keeps moves the state on by one byte and reports whether the byte is text.
func (s *stripper) keeps(c byte) bool {
	if c == '\n' {
		s.state = stripText
		return true
	}
	if c == 0x1b && s.state != stripString {
		s.state = stripEscape
		return false
	}
	switch s.state {
	case stripText:
		return true
	case stripEscape:
		s.state = afterEscape(c)
	case stripCSI:
		if c >= 0x40 && c <= 0x7e {
			s.state = stripText
		} else if c < 0x20 || c > 0x7e {
			s.state = stripText
			return true
		}
	case stripCharset:
		if c < 0x20 || c > 0x2f {
			s.state = stripText
		}
	case stripString:
		switch c {
		case 0x07:
			s.state = stripText
		case 0x1b:
			s.state = stripStringEnd
		}
	case stripStringEnd:
		s.state = stripString
		if c == '\\' {
			s.state = stripText
		}
	}
	return false
}

func afterEscape(c byte) int {
	switch {
	case c == '[':
		return stripCSI
	case strings.IndexByte("]PX^_", c) >= 0:
		return stripString
	case c >= 0x20 && c <= 0x2f:
		return stripCharset
	}
	return stripText
}

// stripAll returns s without escape sequences: what the mask gets to see of it.
func stripAll(s string) string {
	var out strings.Builder
	st := stripper{to: &out}
	_, _ = io.WriteString(&st, s) // a strings.Builder does not fail
	return out.String()
}

// lineWriter cuts a stream into lines.
type lineWriter struct {
	yield func(string)
	part  []byte
}

// Write implements io.Writer; it never fails.
func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.add(p)
			break
		}
		l.add(p[:end])
		l.yield(clean(l.part))
		l.part = l.part[:0]
		p = p[end+1:]
	}
	if cap(l.part) > maxLine/4 && len(l.part) < maxLine/16 {
		l.part = append([]byte(nil), l.part...) // one long line must not cost its memory for ever
	}
	return n, nil
}

// add appends to the line that is not yet whole, cutting it where it gets too long.
func (l *lineWriter) add(p []byte) {
	for len(l.part)+len(p) > maxLine {
		room := maxLine - len(l.part)
		l.part = append(l.part, p[:room]...)
		p = p[room:]
		cut := wholeRunes(l.part)
		l.yield(clean(l.part[:cut]))
		l.part = append(l.part[:0], l.part[cut:]...)
	}
	l.part = append(l.part, p...)
}

func (l *lineWriter) flush() {
	if len(l.part) > 0 {
		l.yield(clean(l.part))
		l.part = l.part[:0]
	}
}

// wholeRunes returns the length of b without a character at its end that is not whole.
func wholeRunes(b []byte) int {
	for back := 1; back <= utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-back:]) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

// clean makes a line fit to be shown: valid UTF-8, no control characters (a terminal would obey them), a carriage return
// inside it, as progress bars write, a space.
func clean(b []byte) string {
	s := strings.ToValidUTF8(string(bytes.TrimRight(b, "\r")), "\uFFFD")
	if strings.IndexFunc(s, controls) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return ' '
		case controls(r):
			return -1
		}
		return r
	}, s)
}

func controls(r rune) bool { return r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 }
