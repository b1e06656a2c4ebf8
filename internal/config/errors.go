package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Mistake is one mistake in the file.
type Mistake struct { //nolint:errname // one of the mistakes that the JSON lists; what is returned is Errors
	File    string   `json:"file"`
	Line    int      `json:"line"`             // from 1
	Column  int      `json:"column"`           // from 1, in characters
	Path    []string `json:"path,omitempty"`   // of the field, from the root of the document
	Message string   `json:"message"`          // a sentence that begins with the field and says what is expected
	Hint    string   `json:"hint,omitempty"`   // what to do
	Source  string   `json:"source,omitempty"` // the line; empty where it holds a value of env, or a password in a URL
}

// Error prints the mistake as compilers do: the place and the sentence on one line, then the line itself with a caret, then the
// hint.
func (m *Mistake) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
	if m.Source != "" {
		line, caret := m.excerpt()
		number := fmt.Sprintf("%5d", m.Line)
		fmt.Fprintf(&b, "\n%s | %s", number, line)
		if caret != "" {
			fmt.Fprintf(&b, "\n%s | %s", strings.Repeat(" ", len(number)), caret)
		}
	}
	if m.Hint != "" {
		fmt.Fprintf(&b, "\n    hint: %s", m.Hint)
	}
	return b.String()
}

// excerpt returns the line, cut to what fits on a screen around the place, and a line with the caret below it.
func (m *Mistake) excerpt() (line, caret string) {
	const width = 100
	runes := []rune(strings.ReplaceAll(m.Source, "\t", " "))
	column := m.Column - 1
	if column > len(runes) {
		return string(runes), ""
	}
	from := 0
	if column >= width {
		from = column - width/2
	}
	return string(runes[from:min(len(runes), from+width)]), strings.Repeat(" ", column-from) + "^"
}

// Errors is every mistake in a file, in the order of the file. It is deploy.ErrBadInput; as JSON it is {"mistakes": […]}.
type Errors struct { //nolint:errname // config.Errors says it; config.ErrorsError would not
	Mistakes []Mistake `json:"mistakes"`
}

// Error prints all mistakes, one after the other.
func (e *Errors) Error() string {
	texts := make([]string, len(e.Mistakes))
	for i := range e.Mistakes {
		texts[i] = e.Mistakes[i].Error()
	}
	return strings.Join(texts, "\n")
}

// Is makes every Errors a deploy.ErrBadInput.
func (e *Errors) Is(target error) bool { return target == deploy.ErrBadInput }

func (d *decoder) errors() *Errors {
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	// An anchor that is used twice would tell its mistakes twice.
	d.mistakes = slices.CompactFunc(d.mistakes, func(a, b Mistake) bool {
		return a.Line == b.Line && a.Column == b.Column && lastOf(a.Path) == lastOf(b.Path) && strings.TrimPrefix(a.Message, deploy.FieldName(a.Path)) == strings.TrimPrefix(b.Message, deploy.FieldName(b.Path))
	})
	// Lines that turned out to hold values later are hidden from all.
	for i := range d.mistakes {
		if d.src.hidden[d.mistakes[i].Line] {
			d.mistakes[i].Source = ""
		}
	}
	return &Errors{d.mistakes}
}

func lastOf(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

// shown shortens what a person wrote for a message.
func shown(text string) string {
	const most = 40
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
