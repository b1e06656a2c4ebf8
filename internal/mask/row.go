package mask

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
)

// rower masks rows of one table in the text of COPY. It is safe for concurrent use.
type rower struct {
	fields []field
}

// field is what becomes of one column: nil work leaves its bytes as they are.
type field struct {
	column *column
	work   func(string) (string, error)
}

// rower makes the work of each column. Guards are asked of every value that is kept by them, since a sample has shown only some.
func (c *Copier) rower(t *table, m *privacy.Masker) *rower {
	r := &rower{}
	for _, col := range t.columns {
		f := field{column: col}
		if !c.spare(col) {
			f.work = col.work(m)
		}
		r.fields = append(r.fields, f)
	}
	return r
}

func (c *column) work(m *privacy.Masker) func(string) (string, error) {
	var one func(string) (string, error)
	switch {
	case c.verdict.Kind == privacy.JSON:
		return c.treeWork(m)
	case c.verdict.Kind == privacy.Drop:
		nothing, _ := c.nothing()
		return func(string) (string, error) { return nothing, nil }
	case c.verdict.Kind != privacy.Keep && c.typeName == "bytea":
		one = func(v string) (string, error) {
			return `\x` + m.Mask(c.verdict.Kind, strings.TrimPrefix(v, `\x`)), nil
		}
	case c.verdict.Kind != privacy.Keep:
		one = func(v string) (string, error) { return privacy.Fit(m.Mask(c.verdict.Kind, v), c.limit), nil }
	case c.verdict.Guard != privacy.AnyValue:
		one = newGuard(c.label(), c.verdict.Guard).pass
	default:
		return nil
	}
	return c.each(one)
}

// treeWork masks each leaf by the verdict of its path. A path that the sample has not shown is judged by its name, and is free text where
// that says nothing.
func (c *column) treeWork(m *privacy.Masker) func(string) (string, error) {
	guards := map[string]*guard{}
	for path, v := range c.paths {
		if v.Kind == privacy.Keep && v.Guard != privacy.AnyValue {
			guards[path] = newGuard(c.label()+path, v.Guard)
		}
	}
	return func(document string) (string, error) {
		if strings.TrimSpace(document) == "" {
			return document, nil
		}
		var wrong error
		masked, err := privacy.Walk(document, func(l privacy.Leaf) string {
			v, known := c.paths[l.Path]
			if !known {
				v = c.unseen(l)
			}
			if g := guards[l.Path]; g != nil && wrong == nil {
				_, wrong = g.pass(l.Value)
			}
			return m.Mask(v.Kind, l.Value)
		})
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", deploy.ErrRefused, c.label(), err)
		}
		return masked, wrong
	}
}

func (c *column) unseen(l privacy.Leaf) privacy.Verdict {
	e := privacy.Column{Table: c.table.label(), Name: c.name + l.Path, Type: privacy.DecimalType, Sample: []string{l.Value}}
	if l.Text {
		e.Type = privacy.TextType
	}
	if v := privacy.Judge(numbered(e)); v.Kind != "" && v.Guard == privacy.AnyValue {
		return v
	}
	return privacy.Verdict{Kind: privacy.Text}
}

// guard stops a copy at the first value that is not what its column was kept for.
type guard struct {
	label string
	kind  privacy.Guard

	mu   sync.RWMutex
	seen map[string]bool // of codes
}

func newGuard(label string, kind privacy.Guard) *guard {
	return &guard{label: label, kind: kind, seen: map[string]bool{}}
}

func (g *guard) pass(value string) (string, error) {
	ok := strings.TrimSpace(value) == ""
	switch {
	case ok:
	case g.kind == privacy.OnlyUUIDs:
		ok = privacy.UUID(value)
	case g.kind == privacy.OnlyCodes:
		ok = g.code(value)
	}
	if ok {
		return value, nil
	}
	return "", deploy.Hint(fmt.Errorf("%w: %s was to be kept since a sample of it has nothing but %s, and another row has something else", deploy.ErrRefused, g.label, g.kind),
		"say in lotse.yaml what it holds:\npeople:\n  "+g.label+": text   # or keep, or what it is")
}

func (g *guard) code(value string) bool {
	g.mu.RLock()
	known := g.seen[value]
	g.mu.RUnlock()
	if known {
		return true
	}
	if !privacy.Code(value) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen[strings.Clone(value)] = true
	return len(g.seen) <= privacy.FewCodes
}

// rows masks whole lines of COPY's text format, appending to out.
func (r *rower) rows(out, lines []byte) ([]byte, int64, error) {
	var count int64
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n')
		if end < 0 {
			return out, count, fmt.Errorf("%w: a row without an end", deploy.ErrDamaged)
		}
		var err error
		if out, err = r.row(out, lines[:end]); err != nil {
			return out, count, err
		}
		lines = lines[end+1:]
		count++
	}
	return out, count, nil
}

func (r *rower) row(out, line []byte) ([]byte, error) {
	for i, f := range r.fields {
		raw, rest, more := bytes.Cut(line, []byte{'\t'})
		if more != (i < len(r.fields)-1) {
			return out, fmt.Errorf("%w: a row with another number of columns", deploy.ErrDamaged)
		}
		line = rest
		if i > 0 {
			out = append(out, '\t')
		}
		null := len(raw) == 2 && raw[0] == '\\' && raw[1] == 'N'
		switch {
		case f.work == nil || null:
			out = append(out, raw...)
		case f.column.verdict.Kind == privacy.Drop && !f.column.notNull:
			out = append(out, '\\', 'N')
		default:
			masked, err := f.work(unescape(raw))
			if err != nil {
				return out, fmt.Errorf("%s: %w", f.column.label(), err)
			}
			out = escape(out, masked)
		}
	}
	return append(out, '\n'), nil
}

// unescape reads the text format of COPY (manual of COPY, "Text Format"); the server writes no octal and no hexadecimal escapes.
func unescape(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' && i+1 < len(raw) {
			i++
			c = raw[i]
			if at := strings.IndexByte("bfnrtv", c); at >= 0 {
				c = "\b\f\n\r\t\v"[at]
			}
		}
		out = append(out, c)
	}
	return string(out)
}

func escape(out []byte, value string) []byte {
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\':
			out = append(out, '\\', '\\')
		case '\n':
			out = append(out, '\\', 'n')
		case '\r':
			out = append(out, '\\', 'r')
		case '\t':
			out = append(out, '\\', 't')
		default:
			out = append(out, c)
		}
	}
	return out
}
