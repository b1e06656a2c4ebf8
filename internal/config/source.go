package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// position is a place in the file. Both count from 1; columns count characters, as editors do.
type position struct{ line, column int }

// source is the text of the file, and its lines as YAML sees them.
type source struct {
	name   string
	text   string
	lines  []string
	hidden map[int]bool // lines that are not shown
}

// newSource refuses what is no text, with the place where that begins.
func newSource(name string, data []byte) (*source, *Mistake) {
	s := &source{name: name, text: strings.TrimPrefix(string(data), "\ufeff"), hidden: map[int]bool{}}
	if len(data) > maxBytes {
		s.lines = []string{""}
		return nil, s.mistake(position{1, 1}, nil, fmt.Sprintf("the file has %d bytes; at most %d are read", len(data), maxBytes), "is this the right file?")
	}
	s.lines = strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s.text), "\n")
	for i, line := range s.lines {
		if column, what := strange(line); what != "" {
			s.hidden[i+1] = true
			return nil, s.mistake(position{i + 1, column}, nil, "the file must be text in UTF-8, and here is "+what, "save it as UTF-8 in an editor")
		}
	}
	return s, nil
}

// strange finds the first character of a line that YAML does not allow (YAML 1.2.2 §5.1), or that it takes for the end of a line
// while editors do not.
func strange(line string) (column int, what string) {
	for i, r := range line {
		column++
		_, size := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return column, fmt.Sprintf("the byte 0x%02x", line[i])
		case r < ' ' && r != '\t', r >= 0x7f && r <= 0x9f, r == '\u2028', r == '\u2029', r == '\ufeff', r == '\ufffe', r == '\uffff':
			return column, fmt.Sprintf("the character U+%04X", r)
		}
	}
	return 0, ""
}

// line returns a line by its number, or "".
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// inside moves a place that is not in the file to its nearest end.
func (s *source) inside(at position) position {
	if at.line < 1 {
		return position{1, 1}
	}
	if at.line > len(s.lines) {
		at = position{len(s.lines), 1 << 30}
	}
	end := utf8.RuneCountInString(s.line(at.line)) + 1
	return position{at.line, min(max(at.column, 1), end)}
}

// atEnd reports whether nothing but white space follows.
func (s *source) atEnd(at position) bool {
	at = s.inside(at)
	rest := []rune(s.line(at.line))[at.column-1:]
	return strings.TrimSpace(string(rest)+strings.Join(s.lines[at.line:], "")) == ""
}

// mistake tells a mistake at a place.
func (s *source) mistake(at position, path []string, message, hint string) *Mistake {
	at = s.inside(at)
	m := &Mistake{File: s.name, Line: at.line, Column: at.column, Path: path, Message: message, Hint: hint}
	if line := s.line(at.line); !s.hidden[at.line] && !strings.Contains(line, "@") {
		m.Source = line
	}
	return m
}
