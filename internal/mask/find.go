package mask

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
)

// sampled is how many values of a column are looked at to judge it, and cut how many characters of each.
const (
	sampled = 1000
	cut     = 2000
)

// judge fills the verdict of every column: what the file says, else what is found.
func (s *schema) judge(ctx context.Context, conn *pgx.Conn, named []deploy.PersonalColumn) error {
	if err := s.name(named); err != nil {
		return err
	}
	for _, t := range s.tables {
		samples, err := t.sample(ctx, conn)
		if err != nil {
			return err
		}
		for i, c := range t.columns {
			switch {
			case c.raw:
				c.verdict = privacy.Verdict{Kind: privacy.Keep, Why: "a record of migrations"}
			case c.kind == privacy.JSONType && !c.named, c.named && c.verdict.Kind == privacy.JSON:
				c.judgePaths(samples[i])
			case !c.named:
				c.verdict = privacy.Judge(c.evidence(samples[i]))
			}
		}
	}
	return s.spread()
}

func (c *column) evidence(sample []string) privacy.Column {
	e := privacy.Column{Table: c.table.label(), Name: c.name, Comment: c.comment, Type: c.kind, Range: c.span, Key: c.key}
	each := c.each(func(v string) (string, error) { e.Sample = append(e.Sample, v); return v, nil })
	for _, v := range sample {
		_, _ = each(v) // what cannot be read is no evidence, and stops the copy of its row
	}
	e.Empty = len(e.Sample) == 0
	if c.array && e.Type == privacy.JSONType {
		e.Type = privacy.OtherType
	}
	return e
}

// each is do for every value in a field: the elements of an array, the bounds of a range, or all of it.
func (c *column) each(do func(string) (string, error)) func(string) (string, error) {
	if c.span && c.kind != privacy.OtherType {
		one := do
		do = func(v string) (string, error) { return bounds(v, one) }
	}
	if !c.array || c.kind == privacy.JSONType {
		return do
	}
	return func(v string) (string, error) { return elements(v, do) }
}

// judgePaths judges each path by what stands at it in the sample.
func (c *column) judgePaths(sample []string) {
	if c.array {
		c.verdict = privacy.Judge(c.evidence(sample))
		return
	}
	if !c.named {
		c.verdict = privacy.Verdict{Kind: privacy.JSON, Why: "each path is judged by itself"}
	}
	found := map[string]*privacy.Column{}
	for _, document := range sample {
		_, _ = privacy.Walk(document, func(l privacy.Leaf) string {
			e := found[l.Path]
			if e == nil {
				e = &privacy.Column{Table: c.table.label(), Name: c.name + l.Path, Type: privacy.DecimalType}
				found[l.Path] = e
			}
			if l.Text {
				e.Type = privacy.TextType
			}
			if l.Value != "" {
				e.Sample = append(e.Sample, l.Value)
			}
			return l.Value
		})
	}
	for path, e := range found {
		if !c.namedAt[path] {
			e.Empty = len(e.Sample) == 0
			c.paths[path] = privacy.Judge(numbered(*e))
		}
	}
}

// numbered takes a number without a fraction for a whole one: telephones and licences are.
func numbered(e privacy.Column) privacy.Column {
	if e.Type == privacy.DecimalType && !slices.ContainsFunc(e.Sample, func(v string) bool { return strings.ContainsAny(v, ".eE") }) {
		e.Type = privacy.NumberType
	}
	return e
}

// sample reads some values of each column, not empty ones, as text.
func (t *table) sample(ctx context.Context, conn *pgx.Conn) ([][]string, error) {
	samples := make([][]string, len(t.columns))
	if len(t.columns) == 0 {
		return samples, nil
	}
	var list []string
	for _, c := range t.columns {
		list = append(list, c.asText())
	}
	some := ""
	if t.rows > 50*sampled {
		some = fmt.Sprintf(" tablesample system (%.4f)", max(0.01, 100*float64(5*sampled)/float64(t.rows)))
	}
	rows, err := conn.Query(ctx, "select "+strings.Join(list, ", ")+" from "+t.from()+some+fmt.Sprintf(" limit %d", sampled))
	if err != nil {
		return nil, told(ctx, "look at "+t.label(), err)
	}
	values, into := make([]*string, len(t.columns)), make([]any, len(t.columns))
	for i := range values {
		into[i] = &values[i]
	}
	_, err = pgx.ForEachRow(rows, into, func() error {
		for i, v := range values {
			if v != nil && strings.TrimSpace(*v) != "" {
				samples[i] = append(samples[i], *v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, told(ctx, "look at "+t.label(), err)
	}
	return samples, t.sampleRare(ctx, conn, samples)
}

// sampleRare looks further for columns that hardly any row has a value in: that a column is empty has to be known of all rows.
func (t *table) sampleRare(ctx context.Context, conn *pgx.Conn, samples [][]string) error {
	for i, c := range t.columns {
		if len(samples[i]) >= sampled/20 || c.kind == privacy.PlainType || c.raw {
			continue
		}
		rows, err := conn.Query(ctx, fmt.Sprintf("select %s from %s where btrim(%s::text) <> '' limit %d", c.asText(), t.from(), c.quoted(), sampled))
		if err != nil {
			return told(ctx, "look at "+c.label(), err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return told(ctx, "look at "+c.label(), err)
		}
		samples[i] = found
	}
	return nil
}

// asText cuts long values, but no trees, arrays and ranges, which could not be read then.
func (c *column) asText() string {
	if c.kind == privacy.JSONType || c.array || c.span {
		return c.quoted() + "::text"
	}
	return fmt.Sprintf("left(%s::text, %d)", c.quoted(), cut)
}

// name takes what the file says. What is not there, or cannot be, is told at once.
func (s *schema) name(named []deploy.PersonalColumn) error {
	var wrong, hints []string
	for _, n := range named {
		label, path, _ := strings.Cut(n.Column, "/")
		c := s.find(label)
		switch {
		case c == nil:
			wrong = append(wrong, fmt.Sprintf("people.%s: there is no such column%s", n.Column, s.near(label)))
		case !n.Kind.Known():
			wrong = append(wrong, fmt.Sprintf("people.%s: there is no kind %q", n.Column, n.Kind))
		case path != "" && c.kind != privacy.JSONType && c.kind != privacy.TextType:
			wrong = append(wrong, fmt.Sprintf("people.%s: %s is no tree of JSON", n.Column, label))
		case path != "":
			c.at("/"+path, privacy.Verdict{Kind: n.Kind, Why: "lotse.yaml says so"})
		case !c.takes(n.Kind):
			wrong = append(wrong, fmt.Sprintf("people.%s: a column of the type %s cannot be %s", n.Column, c.typeName, n.Kind))
			hints = append(hints, fmt.Sprintf("people.%s can be %s", n.Column, strings.Join(names(c.kinds()), ", ")))
		default:
			c.verdict, c.named = privacy.Verdict{Kind: n.Kind, Why: "lotse.yaml says so"}, true
		}
	}
	for _, t := range s.tables {
		for _, c := range t.columns {
			c.at("", privacy.Verdict{})
		}
	}
	if len(wrong) > 0 {
		err := fmt.Errorf("%w: %s", deploy.ErrBadInput, strings.Join(wrong, "; "))
		if len(hints) > 0 {
			err = deploy.Hint(err, strings.Join(hints, "\n"))
		}
		return err
	}
	return nil
}

// at puts down what a path holds; "" makes room for paths only.
func (c *column) at(path string, v privacy.Verdict) {
	if c.paths == nil {
		c.paths, c.namedAt = map[string]privacy.Verdict{}, map[string]bool{}
	}
	if path != "" {
		c.paths[path], c.namedAt[path] = v, true
	}
}

func (s *schema) find(label string) *column {
	for _, t := range s.tables {
		for _, c := range t.columns {
			if c.label() == label || t.schema+"."+t.name+"."+c.name == label {
				return c
			}
		}
	}
	return nil
}

func (s *schema) near(label string) string {
	var labels []string
	_, wanted, _ := cutLast(label, ".")
	for _, t := range s.tables {
		for _, c := range t.columns {
			if c.name == wanted || t.label()+"." == label[:min(len(label), len(t.label())+1)] {
				labels = append(labels, c.label())
			}
		}
	}
	if len(labels) == 0 {
		return ""
	}
	slices.SortStableFunc(labels, func(a, b string) int { return cmp.Compare(unlike(a, label), unlike(b, label)) })
	return "; is it " + labels[0] + "?"
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return "", s, false
}

// unlike counts letters that two labels do not begin and end with together.
func unlike(a, b string) int {
	i, j := 0, 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	for j < min(len(a), len(b))-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return max(len(a), len(b)) - i - j
}

// takes reports whether values of the column's type can become what the kind makes of them.
func (c *column) takes(kind privacy.Kind) bool {
	if kind == privacy.Keep {
		return true
	}
	if kind == privacy.Drop {
		_, ok := c.nothing()
		return !c.notNull || ok
	}
	fits := map[privacy.Type][]privacy.Kind{
		privacy.NumberType: {privacy.Phone, privacy.ID, privacy.Card, privacy.Postcode}, privacy.DecimalType: {privacy.Coordinates},
		privacy.DateType: {privacy.Birthday}, privacy.TimeType: {privacy.Birthday}, privacy.AddressType: {privacy.IP}, privacy.MACType: {privacy.MAC},
		privacy.PointType: {privacy.Coordinates}, privacy.JSONType: {privacy.JSON}}[c.kind]
	switch {
	case c.span:
		return kind == privacy.Birthday && slices.Contains(fits, kind)
	case c.kind == privacy.TextType:
		return kind != privacy.JSON || !c.array
	case c.typeName == "bytea", c.typeName == "uuid":
		return kind == privacy.Token
	}
	return slices.Contains(fits, kind)
}

// usable are the kinds that a column can be that could not be judged, where they are not those of any text.
func (c *column) usable() (kinds []privacy.Kind) {
	if c.verdict.Kind != "" || c.kind == privacy.TextType {
		return nil
	}
	return c.kinds()
}

func names(kinds []privacy.Kind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// kinds are all that values of the column's type can be, what leaves them out first.
func (c *column) kinds() (kinds []privacy.Kind) {
	for _, k := range append([]privacy.Kind{privacy.Drop}, privacy.Kinds()...) {
		if c.takes(k) && !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// nothing is what stands in a dropped column that must not be null, where its type has such a value.
func (c *column) nothing() (string, bool) {
	switch {
	case c.array, c.kind == privacy.JSONType, strings.HasSuffix(c.typeName, "multirange"):
		return "{}", true
	case c.span:
		return "empty", true
	case c.typeName == "bytea":
		return `\x`, true
	}
	return "", c.kind == privacy.TextType || slices.Contains([]string{"tsvector", "xml", "hstore", "varbit"}, c.typeName)
}

// spread makes columns that are joined one kind, so that they stay joined: what the file says counts, else what is known of either.
func (s *schema) spread() error {
	for range 4 { // a key of a key of a key
		for _, j := range s.joins {
			from, to := &j.from.verdict, &j.to.verdict
			switch {
			case from.Kind == to.Kind:
			case j.from.named && j.to.named:
				return fmt.Errorf("%w: people: %s and %s are joined by %s and must be of one kind", deploy.ErrBadInput, j.from.label(), j.to.label(), j.name)
			case j.to.named || !j.from.named && to.Kind != "":
				*from = privacy.Verdict{Kind: to.Kind, Why: "joins " + j.to.label(), Guard: to.Guard}
			default:
				*to = privacy.Verdict{Kind: from.Kind, Why: "is joined by " + j.from.label(), Guard: from.Guard}
			}
		}
	}
	return nil
}

// people is what was found, path by path.
func (s *schema) people() deploy.People {
	var p deploy.People
	for _, t := range s.tables {
		for _, c := range t.columns {
			p.Columns = append(p.Columns, deploy.ColumnFinding{Column: c.label(), Kind: c.verdict.Kind, Why: c.verdict.Why, Named: c.named, Usable: c.usable()})
			if c.verdict.Kind != privacy.JSON {
				continue
			}
			for _, path := range slices.Sorted(maps.Keys(c.paths)) {
				v := c.paths[path]
				p.Columns = append(p.Columns, deploy.ColumnFinding{Column: c.label() + path, Kind: v.Kind, Why: v.Why, Named: c.namedAt[path]})
			}
		}
	}
	return p
}
