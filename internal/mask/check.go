package mask

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// originals is how many values of a column are looked for in the copy: of a smaller table all.
const originals = 50_000

// check looks for original values in the copy. It reads both databases anew and asks nothing of the rows that were copied, so that
// what went wrong there is found here: every value of the copy's masked columns is looked at.
func (c *Copier) check(ctx context.Context, from *source, url secret.Text, all *schema, report *deploy.MaskReport) error {
	to, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer to.Close(context.WithoutCancel(ctx)) // it reads only
	k := &checker{seed: maphash.MakeSeed(), all: all, known: map[string]*known{}, anywhere: map[uint64]string{}}
	ctx, alive, end := c.watched(ctx)
	defer end()
	for _, t := range all.tables {
		if err := k.each(ctx, from.conn, t, t.some(), alive, k.learn); err != nil {
			return cause(ctx, err)
		}
	}
	for _, t := range all.tables {
		if err := k.each(ctx, to, t, t.from(), alive, k.look); err != nil {
			return cause(ctx, err)
		}
	}
	for _, o := range k.known {
		report.Checked += int64(len(o.values))
	}
	report.Looked = k.looked
	return c.verdict(k)
}

// verdict names the columns that have something of the source.
func (c *Copier) verdict(k *checker) error {
	var left, invalid []string
	for label, o := range k.known {
		if o.left > 0 || o.again*50 > o.seen {
			left = append(left, fmt.Sprintf("%s (%d)", label, o.left+o.again))
		}
		if o.wasValid > 0 && !o.kind.Coarse() && o.valid*100 < o.seen*(100*o.wasValid/o.was-5) {
			invalid = append(invalid, label)
		}
	}
	switch {
	case len(left) > 0:
		return c.damaged("original values are left in %s", strings.Join(left, ", "))
	case len(invalid) > 0:
		return c.damaged("values of %s have not the form of their kind", strings.Join(invalid, ", "))
	}
	return nil
}

// some reads as many rows as are looked for, from all over a table.
func (t *table) some() string {
	if t.rows <= originals {
		return t.from()
	}
	return fmt.Sprintf("%s tablesample system (%.4f)", t.from(), 100*float64(originals)/float64(t.rows))
}

type checker struct {
	seed     maphash.Seed
	all      *schema
	known    map[string]*known // by column and path
	anywhere map[uint64]string // values that lead to one person wherever they stand, and the column that they are of
	looked   int64
}

// known is what a column or path of the source has: fingerprints, so that nothing of it is kept.
type known struct {
	kind          privacy.Kind
	values        map[uint64]privacy.Weight
	was, wasValid int64 // of the source
	seen, valid   int64
	left, again   int64 // found in the copy: proof, and what may be chance
}

func (k *checker) of(label string, kind privacy.Kind) *known {
	o := k.known[label]
	if o == nil {
		o = &known{kind: kind, values: map[uint64]privacy.Weight{}}
		k.known[label] = o
	}
	return o
}

// visit calls do for each value of a field: an element, a leaf, or all of it.
func (k *checker) visit(c *column, text string, do func(label string, kind privacy.Kind, value string)) {
	one := func(v string) (string, error) { //nolint:unparam // as elements wants it
		if strings.TrimSpace(v) != "" {
			do(c.label(), c.verdict.Kind, v)
		}
		return v, nil
	}
	if c.verdict.Kind == privacy.JSON {
		_, _ = privacy.Walk(text, func(l privacy.Leaf) string { // what is no JSON was refused when it was copied
			v, known := c.paths[l.Path]
			if !known {
				v.Kind = privacy.Text
			}
			if strings.TrimSpace(l.Value) != "" && (known || l.Text) {
				do(c.label()+l.Path, v.Kind, l.Value)
			}
			return l.Value
		})
		return
	}
	if c.opaque() { // pieces of what is not read, such as a mail in a search or in a row in a row
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\"'\\(){}[],:;<>=", r) }) {
			_, _ = one(part)
			for word := range strings.FieldsSeq(part) {
				if len(word) < len(part) {
					_, _ = one(word)
				}
			}
		}
		return
	}
	_, _ = c.each(one)(text)
}

// opaque reports whether a column stays as it is although nothing reads what it holds.
func (c *column) opaque() bool {
	return c.verdict.Kind == privacy.Keep && (c.kind == privacy.OtherType || c.kind == privacy.JSONType)
}

func (k *checker) learn(c *column, text string) {
	k.visit(c, text, func(label string, kind privacy.Kind, value string) {
		if kind == privacy.Keep {
			return
		}
		o := k.of(label, kind)
		o.was++
		if privacy.Looks(kind, value) {
			o.wasValid++
		}
		weight := privacy.Evidence(kind, value)
		if weight > privacy.Nothing {
			o.values[k.print(value)] = weight
		}
		if kind.Identifies() && weight == privacy.Proof && len(value) >= 8 {
			k.anywhere[k.print(value)] = label
		}
	})
}

func (k *checker) look(c *column, text string) {
	k.visit(c, text, func(label string, kind privacy.Kind, value string) {
		if kind == privacy.Keep && (c.kind != privacy.TextType && c.kind != privacy.JSONType && c.kind != privacy.OtherType || len(value) < 8) {
			return
		}
		k.looked++
		o := k.of(label, kind)
		o.seen++
		if privacy.Looks(kind, value) {
			o.valid++
		}
		weight := o.values[k.print(value)]
		_, elsewhere := k.anywhere[k.print(value)]
		switch {
		case weight == privacy.Proof, elsewhere, kind.Coarse() && !privacy.Coarsened(kind, value):
			o.left++
		case weight == privacy.Chance:
			o.again++
		}
	})
}

func (k *checker) print(value string) uint64 { return maphash.String(k.seed, value) }

// each reads the columns of a table that are masked, and those that could hold the same by mistake.
func (k *checker) each(ctx context.Context, conn *pgx.Conn, t *table, from string, alive func(), do func(*column, string)) error {
	var columns []*column
	var list []string
	for _, c := range t.columns {
		if c.changed() || !c.raw && (c.kind == privacy.TextType || c.opaque()) {
			columns, list = append(columns, c), append(list, c.quoted())
		}
	}
	if len(columns) == 0 {
		return nil
	}
	w := &rowsOf{columns: columns, do: do, alive: alive}
	_, err := conn.PgConn().CopyTo(ctx, w, "copy (select "+strings.Join(list, ", ")+" from "+from+") to stdout")
	return told(ctx, "check "+t.label(), err)
}

// rowsOf reads COPY's text.
type rowsOf struct {
	columns []*column
	do      func(*column, string)
	alive   func()
	rest    []byte
	count   int
}

func (w *rowsOf) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		line := w.rest[:end]
		for _, c := range w.columns {
			raw, after, _ := bytes.Cut(line, []byte{'\t'})
			line = after
			if string(raw) != `\N` {
				w.do(c, unescape(raw))
			}
		}
		w.rest = append(w.rest[:0], w.rest[end+1:]...)
		if w.count++; w.count%1000 == 0 {
			w.alive()
		}
	}
}
