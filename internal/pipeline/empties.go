package pipeline

import (
	"bytes"
	"strings"

	"github.com/tdewolff/parse/v2/js"
)

// Minifiers put a short constant in the place of a name, and a long one not. So where a build with an empty value is compared, an
// empty constant stands for its name in both scripts, and what is joined to it is joined.

// empties are the variables of a script that are nothing but the empty text, always.
type empties struct {
	inits   map[*js.Var]int // how often it is declared as empty, in a place from which it can be taken
	written map[*js.Var]int // how often it is declared or written to
}

// withoutEmpties is the script in order, as ordered, with empty constants in their places.
func (s script) withoutEmpties() string {
	e := &empties{map[*js.Var]int{}, map[*js.Var]int{}}
	js.Walk(e, s.tree)
	js.Walk(dropping{e}, s.tree)
	text := s.orderedWith(func(v *js.Var) bool { return e.always(v) })
	for _, joint := range []string{"${``}", "` + `"} {
		text = strings.ReplaceAll(text, joint, "")
	}
	return text
}

func resolved(v *js.Var) *js.Var {
	for v.Link != nil {
		v = v.Link
	}
	return v
}

func (e *empties) always(v *js.Var) bool { return e.inits[v] == 1 && e.written[v] == 1 }

// Enter implements js.IVisitor.
func (e *empties) Enter(n js.INode) js.IVisitor {
	switch n := n.(type) {
	case *js.BlockStmt:
		e.list(n.List)
	case *js.CaseClause:
		e.list(n.List)
	case *js.LiteralExpr:
		if n.TokenType == js.StringToken && len(n.Data) > 1 && !bytes.ContainsAny(n.Data[1:len(n.Data)-1], "\\`$") {
			n.Data = []byte("`" + string(n.Data[1:len(n.Data)-1]) + "`")
		}
	case *js.BindingElement:
		e.write(n.Binding)
	case *js.FuncDecl:
		if n.Name != nil {
			e.write(n.Name)
		}
	case *js.ClassDecl:
		if n.Name != nil {
			e.write(n.Name)
		}
	case *js.BinaryExpr:
		if assigns(n.Op) {
			e.write(n.X)
		}
	case *js.UnaryExpr:
		if n.Op == js.PreIncrToken || n.Op == js.PreDecrToken || n.Op == js.PostIncrToken || n.Op == js.PostDecrToken {
			e.write(n.X)
		}
	case *js.ForInStmt:
		e.write(n.Init)
	case *js.ForOfStmt:
		e.write(n.Init)
	}
	return e
}

// Exit implements js.IVisitor.
func (e *empties) Exit(js.INode) {}

func assigns(op js.TokenType) bool {
	s := op.String()
	return strings.HasSuffix(s, "=") && s != "==" && s != "===" && s != "!=" && s != "!==" && s != "<=" && s != ">="
}

func (e *empties) list(statements []js.IStmt) {
	for _, s := range statements {
		d, ok := s.(*js.VarDecl)
		if !ok {
			continue
		}
		for _, item := range d.List {
			if v, ok := item.Binding.(*js.Var); ok && isEmptyText(item.Default) {
				e.inits[resolved(v)]++
			}
		}
	}
}

func isEmptyText(x js.IExpr) bool {
	switch x := x.(type) {
	case *js.LiteralExpr:
		return x.TokenType == js.StringToken && len(x.Data) == 2
	case *js.TemplateExpr:
		return x.Tag == nil && len(x.List) == 0 && len(x.Tail) == 2
	}
	return false
}

// write counts every variable in what is written to.
func (e *empties) write(target js.INode) {
	if target == nil {
		return
	}
	js.Walk(writing{e}, target)
}

type writing struct{ e *empties }

// Enter implements js.IVisitor.
func (w writing) Enter(n js.INode) js.IVisitor {
	switch n := n.(type) {
	case *js.Var:
		w.e.written[resolved(n)]++
	case *js.VarDecl: // its elements are visited themselves
		return nil
	}
	return w
}

// Exit implements js.IVisitor.
func (w writing) Exit(js.INode) {}

// dropping takes the declarations of empty constants away.
type dropping struct{ e *empties }

// Enter implements js.IVisitor.
func (d dropping) Enter(n js.INode) js.IVisitor {
	switch n := n.(type) {
	case *js.BlockStmt:
		n.List = d.kept(n.List)
	case *js.CaseClause:
		n.List = d.kept(n.List)
	}
	return d
}

// Exit implements js.IVisitor.
func (d dropping) Exit(js.INode) {}

func (d dropping) kept(statements []js.IStmt) []js.IStmt {
	var kept []js.IStmt
	for _, s := range statements {
		decl, ok := s.(*js.VarDecl)
		if !ok {
			kept = append(kept, s)
			continue
		}
		var items []js.BindingElement
		for _, item := range decl.List {
			if v, ok := item.Binding.(*js.Var); !ok || !d.e.always(resolved(v)) {
				items = append(items, item)
			}
		}
		if decl.List = items; len(items) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}
