package pipeline

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tdewolff/parse/v2"
	"github.com/tdewolff/parse/v2/js"
)

// script reads JavaScript. Minifiers choose short names by how often each letter stands in the text, so that another value of a
// variable gives other names everywhere: two outputs are compared after their names were put in order.
type script struct {
	tree *js.AST
}

func readScript(data []byte) (s script, err error) {
	defer func() {
		if wrong := recover(); wrong != nil { // of the parser, on what it does not know
			err = fmt.Errorf("it cannot be read: %v", wrong)
		}
	}()
	// The parser writes a zero behind what it reads.
	s.tree, err = js.Parse(parse.NewInputBytes(bytes.Clone(data)), js.Options{})
	return s, err
}

// ordered is the script in one notation, with every declared name replaced by the number of its declaration.
func (s script) ordered() string { return s.orderedWith(func(*js.Var) bool { return false }) }

// orderedWith puts the empty text in the place of some variables.
func (s script) orderedWith(empty func(*js.Var) bool) string {
	names := &renaming{numbers: map[*js.Var][]byte{}, top: map[string]*js.Var{}, imported: map[string]bool{}, empty: empty}
	for _, v := range s.tree.Declared {
		names.top[string(v.Data)] = v
	}
	for _, n := range s.tree.List { // the parser takes no import for a declaration
		if i, ok := n.(*js.ImportStmt); ok {
			names.imports(i)
		}
	}
	js.Walk(names, s.tree)
	for _, a := range names.aliases {
		if v := names.top[string(*a)]; v != nil {
			*a = names.number(v)
		}
	}
	for v, number := range names.numbers {
		v.Data = number
	}
	for _, v := range names.linked {
		v.Data = v.Name()
	}
	return s.tree.JSString()
}

type renaming struct {
	numbers  map[*js.Var][]byte
	linked   []*js.Var
	top      map[string]*js.Var
	imported map[string]bool
	aliases  []*[]byte // of imports and exports: names of variables, as text
	empty    func(*js.Var) bool
	count    int
}

func (r *renaming) imports(i *js.ImportStmt) {
	names := [][]byte{i.Default}
	for _, a := range i.List {
		names = append(names, a.Binding)
	}
	for _, name := range names {
		if r.top[string(name)] == nil && len(name) > 0 {
			r.top[string(name)] = &js.Var{Data: name, Decl: js.LexicalDecl}
			r.imported[string(name)] = true
		}
	}
}

// Enter implements js.IVisitor.
func (r *renaming) Enter(n js.INode) js.IVisitor {
	switch n := n.(type) {
	case *js.Var:
		v := resolved(n)
		if v != n {
			r.linked = append(r.linked, n)
		}
		if v.Decl == js.NoDecl && r.imported[string(v.Data)] { // free in the whole script
			r.numbers[v] = r.number(r.top[string(v.Data)])
		} else if v.Decl != js.NoDecl && v.Decl != js.PrivateDecl {
			r.number(v)
		}
	case *js.ImportStmt:
		if n.Default != nil {
			r.aliases = append(r.aliases, &n.Default)
		}
		for i := range n.List {
			a := &n.List[i]
			if a.Name == nil {
				a.Name = a.Binding
			}
			r.aliases = append(r.aliases, &a.Binding)
		}
	case *js.ExportStmt:
		for i := range n.List {
			a := &n.List[i]
			if a.Name == nil {
				a.Name = a.Binding
			}
			if n.Module == nil {
				r.aliases = append(r.aliases, &a.Name)
			}
		}
	}
	return r
}

// Exit implements js.IVisitor.
func (r *renaming) Exit(js.INode) {}

func (r *renaming) number(v *js.Var) []byte {
	if r.numbers[v] == nil && r.empty(v) {
		r.numbers[v] = []byte("``")
	} else if r.numbers[v] == nil {
		r.numbers[v] = fmt.Appendf(nil, "\u00b7%d", r.count) // no name of a script begins so
		r.count++
	}
	return r.numbers[v]
}

// literals are the texts between the quotes of a script: of strings, of templates, and of templates that are given to a function,
// which sees them as they are written.
type literals struct {
	plain  []string
	tagged []string
}

func (s script) literals() literals {
	var all literals
	js.Walk(&all, s.tree)
	return all
}

// Enter implements js.IVisitor.
func (l *literals) Enter(n js.INode) js.IVisitor {
	switch n := n.(type) {
	case *js.LiteralExpr:
		if n.TokenType == js.StringToken {
			l.plain = append(l.plain, between(n.Data))
		}
	case *js.TemplateExpr:
		var text strings.Builder
		for _, p := range n.List {
			text.WriteString(between(p.Value))
			text.WriteByte('\n')
		}
		text.WriteString(between(n.Tail))
		if n.Tag == nil {
			l.plain = append(l.plain, text.String())
		} else {
			l.tagged = append(l.tagged, text.String())
		}
	case *js.ImportStmt:
		l.plain = append(l.plain, between(n.Module))
	case *js.ExportStmt:
		l.plain = append(l.plain, between(n.Module))
	case *js.DirectivePrologueStmt:
		l.plain = append(l.plain, between(n.Value))
	}
	return l
}

// between is what stands between the quotes of a literal, or of a part of a template.
func between(data []byte) string {
	text := strings.TrimSuffix(strings.TrimSuffix(string(data[min(1, len(data)):]), "${"), "`")
	if len(data) > 1 && (data[0] == '"' || data[0] == '\'') {
		return strings.TrimSuffix(text, string(data[0]))
	}
	return text
}

// Exit implements js.IVisitor.
func (l *literals) Exit(js.INode) {}
