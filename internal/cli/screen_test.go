package cli

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// screen is as much of a terminal as a test needs to know what a person sees: characters, lines, and where the cursor goes.
type screen struct {
	width, height int
	cells         [][]rune
	row, column   int
	hidden        bool     // the cursor
	cleared       int      // how often everything was erased at once
	strange       []string // sequences that it does not know
}

func newScreen(width, height int) *screen { return &screen{width: width, height: height} }

// text is what stands there, also what has scrolled away above.
func (s *screen) text() string {
	var lines []string
	for _, l := range s.cells {
		lines = append(lines, strings.TrimRight(string(l), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// write takes whole sequences; half of one at the end is returned.
func (s *screen) write(data []byte) (rest []byte) {
	for len(data) > 0 {
		seq, n := sequence(data)
		if n == 0 {
			return data
		}
		switch seq[0] {
		case 0x1b:
			s.escape(string(seq))
		default:
			r, _ := utf8.DecodeRune(seq)
			s.put(r)
		}
		data = data[n:]
	}
	return nil
}

func sequence(data []byte) ([]byte, int) {
	if data[0] != 0x1b {
		if !utf8.FullRune(data) {
			return nil, 0
		}
		_, n := utf8.DecodeRune(data)
		return data[:n], n
	}
	seq, _, n, state := ansi.DecodeSequence(data, ansi.NormalState, nil)
	if state != ansi.NormalState || len(data) == 1 {
		return nil, 0
	}
	return seq, n
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.column = 0
	case '\n':
		s.row++
	case '\b':
		s.column = max(0, min(s.column, s.width-1)-1)
	case '\t':
		s.column = min(s.width-1, (s.column/8+1)*8)
	default:
		if r < ' ' {
			return
		}
		if s.column == s.width { // a line that is full wraps with the next character
			s.row, s.column = s.row+1, 0
		}
		s.line()[s.column] = r
		s.column++
	}
}

func (s *screen) line() []rune {
	for len(s.cells) <= s.row {
		s.cells = append(s.cells, []rune(strings.Repeat(" ", s.width)))
	}
	return s.cells[s.row]
}

func (s *screen) erase(row, from, to int) {
	keep := s.row
	s.row = row
	for i := range s.line()[from:to] {
		s.line()[from+i] = ' '
	}
	s.row = keep
}

func (s *screen) escape(seq string) {
	if seq == "\x1bM" { // up one line
		s.row = max(0, s.row-1)
		return
	}
	final := seq[len(seq)-1]
	if !strings.HasPrefix(seq, "\x1b[") {
		s.strange = append(s.strange, seq)
		return
	}
	if strings.ContainsAny(seq, "?>=<$") {
		s.hidden = s.hidden && seq != "\x1b[?25h" || seq == "\x1b[?25l"
		return // modes and questions
	}
	first, _, _ := strings.Cut(seq[2:len(seq)-1], ";")
	n, err := strconv.Atoi(first)
	if err != nil {
		n = 0
	}
	step, column := max(n, 1), min(s.column, s.width-1)
	switch final {
	case 'A':
		s.row = max(0, s.row-step)
	case 'B':
		s.row += step
	case 'C':
		s.column = min(s.width-1, s.column+step)
	case 'D':
		s.column = max(0, min(s.column, s.width-1)-step)
	case 'G', '`':
		s.column = min(s.width, step) - 1
	case 'X':
		s.erase(s.row, column, min(s.width, column+step))
	case 'K':
		s.erase(s.row, []int{column, 0, 0}[n], []int{s.width, column + 1, s.width}[n])
	case 'J':
		s.eraseBelow(n)
	case 'm':
	default:
		s.strange = append(s.strange, seq)
	}
}

func (s *screen) eraseBelow(n int) {
	if n != 0 {
		s.cleared++
		return
	}
	s.erase(s.row, min(s.column, s.width-1), s.width)
	for row := s.row + 1; row < len(s.cells); row++ {
		s.erase(row, 0, s.width)
	}
}
