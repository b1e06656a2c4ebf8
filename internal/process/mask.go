package process

import (
	"bytes"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/lotse-eu/lotse/internal/secret"
)

// minMasked is the length in bytes from which a value is masked. Shorter ones would hide half of every log without
// keeping anything secret.
const minMasked = 6

// minResumed is how much of a value's end is masked where a stream begins in the middle (see resume).
const minResumed = 4

// Mask hides known values in a stream of bytes. It is immutable and safe for concurrent use; nil hides nothing.
//
// Hidden are every value, its lines, the password in it where it is an address, and what encoders make of it: base64 (standard and URL alphabet, with and without
// padding, at all three alignments, so also in the middle of something longer that was encoded), hexadecimal, URL-escaped and
// JSON-escaped. White space around a value is not part of it. Where two values overlap, both are hidden.
//
// Not hidden are values shorter than 6 bytes, the up to 4 bits of a value that share a base64 character with a neighbour, and
// whatever a program does to a value beyond these forms (compressing, encrypting, one character per line).
type Mask struct {
	patterns [][]byte           // sorted, unique, each at least minMasked long
	starts   map[uint64][]int32 // first minMasked bytes → patterns, the longest first
	pairs    *[1 << 13]byte     // a bit for each pair of first two bytes: says "no" fast
	longest  int
}

// NewMask makes a Mask of the values in all their forms.
func NewMask(values []secret.Text) *Mask {
	unique := map[string]bool{}
	for _, v := range values {
		for _, part := range partsOf(v.Reveal()) {
			for _, form := range formsOf(part) {
				unique[form] = true
			}
		}
	}
	return newMask(unique)
}

// minSought is the length in bytes from which a value is looked for in files: shorter ones are words of half of them.
const minSought = 8

// NewSeeker makes a Mask that looks for whole values: not for single lines of them, of which the first and the last of a key stand in
// every file with such a key, and not for values of fewer than 8 bytes.
func NewSeeker(values []secret.Text) *Mask {
	unique := map[string]bool{}
	for _, v := range values {
		if value := strings.TrimSpace(v.Reveal()); len(value) >= minSought {
			for _, form := range long(wholeForms(value)) {
				unique[form] = true
			}
		}
	}
	return newMask(unique)
}

// Find returns where the first value in b begins; -1: there is none.
func (m *Mask) Find(b []byte) int {
	for i := range b {
		if m.match(b[i:]) > 0 {
			return i
		}
	}
	return -1
}

func newMask(unique map[string]bool) *Mask {
	m := &Mask{starts: map[uint64][]int32{}, pairs: new([1 << 13]byte)}
	for form := range unique {
		m.patterns = append(m.patterns, []byte(form))
		m.longest = max(m.longest, len(form))
	}
	sort.Slice(m.patterns, func(i, j int) bool { return bytes.Compare(m.patterns[i], m.patterns[j]) < 0 })
	// A prefix sorts before what it begins, so walking down meets the longest first.
	for i, p := range slices.Backward(m.patterns) {
		m.starts[head(p)] = append(m.starts[head(p)], int32(i))
		pair := uint(p[0])<<8 | uint(p[1])
		m.pairs[pair>>3] |= 1 << (pair & 7)
	}
	return m
}

// head packs the first minMasked bytes of b.
func head(b []byte) uint64 {
	_ = b[minMasked-1]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40
}

// String returns s with every value hidden.
func (m *Mask) String(s string) string {
	var out strings.Builder
	w := m.Writer(&out)
	_, _ = io.WriteString(w, s) // a strings.Builder does not fail
	_ = w.Close()
	return out.String()
}

// Writer returns a writer that passes on to w what is written, with every value hidden, also one that arrives in pieces. What
// may be the beginning of a value is held back until the next Write or Close. Close does not close w. An error of w is
// returned by the call that met it; what it was about is lost. One goroutine at a time may use it.
func (m *Mask) Writer(w io.Writer) io.WriteCloser { return &maskWriter{mask: m, to: w} }

type maskWriter struct {
	mask   *Mask
	to     io.Writer
	held   []byte // read, not decided
	hidden int    // how many bytes of held belong to a value that is already hidden
	out    []byte // reused
}

// Write implements io.Writer.
func (w *maskWriter) Write(p []byte) (int, error) {
	if w.mask == nil || len(w.mask.patterns) == 0 {
		return w.to.Write(p)
	}
	w.held = append(w.held, p...)
	if err := w.pass(false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close decides about what was held back.
func (w *maskWriter) Close() error { return w.pass(true) }

// resume is for a stream whose beginning somebody else has read: the end of a value at its very start is hidden, too.
// It must be called before the first Write.
func (w *maskWriter) resume(p []byte) []byte {
	if w.mask == nil {
		return p
	}
	longest := 0
	for _, pattern := range w.mask.patterns {
		for n := min(len(pattern)-1, len(p)); n >= minResumed && n > longest; n-- {
			if bytes.Equal(pattern[len(pattern)-n:], p[:n]) {
				longest = n
			}
		}
	}
	if longest == 0 {
		return p
	}
	return append([]byte(secret.Shown), p[longest:]...)
}

// pass decides about as much of what is held as can be decided, and writes it. The result does not depend on how the stream
// was cut into writes: a position is decided only when no more bytes could change the longest match that begins there.
func (w *maskWriter) pass(last bool) error {
	m, buf := w.mask, w.held
	out, hidden, i := w.out[:0], w.hidden, 0
	for ; i < len(buf); i++ {
		rest := buf[i:]
		if !last && len(rest) < m.longest && m.begins(rest) {
			break
		}
		if n := m.match(rest); n > 0 {
			if i >= hidden {
				out = append(out, secret.Shown...)
			}
			hidden = max(hidden, i+n)
		}
		if i >= hidden {
			out = append(out, buf[i])
		}
	}
	w.hidden = max(0, hidden-i)
	w.held = append(w.held[:0], buf[i:]...)
	w.out = out[:0]
	if len(out) == 0 {
		return nil
	}
	_, err := w.to.Write(out)
	return err
}

// match returns the length of the longest value that b begins with, or 0.
func (m *Mask) match(b []byte) int {
	if len(b) < minMasked || !m.hasPair(b) {
		return 0
	}
	for _, i := range m.starts[head(b)] {
		if bytes.HasPrefix(b, m.patterns[i]) {
			return len(m.patterns[i])
		}
	}
	return 0
}

// begins reports whether b is the beginning of a value that is longer than b.
func (m *Mask) begins(b []byte) bool {
	if len(b) > 1 && !m.hasPair(b) {
		return false
	}
	// The values that begin with b stand together, b itself first.
	i := sort.Search(len(m.patterns), func(i int) bool { return bytes.Compare(m.patterns[i], b) > 0 })
	return i < len(m.patterns) && bytes.HasPrefix(m.patterns[i], b)
}

func (m *Mask) hasPair(b []byte) bool {
	pair := uint(b[0])<<8 | uint(b[1])
	return m.pairs[pair>>3]&(1<<(pair&7)) != 0
}
