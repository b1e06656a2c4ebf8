package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// entries is a mapping whose names the file chooses, in the order of the file.
type entries[T any] []entry[T]

type entry[T any] struct {
	name  string
	value T
}

// add makes room for an entry. What it returns is filled before the next call.
func (e *entries[T]) add(name string) any {
	*e = append(*e, entry[T]{name: name})
	return &(*e)[len(*e)-1].value
}

type mapping interface{ add(name string) any }

// sequence is a list. What grow returns is filled before the next call.
type sequence interface{ grow() any }

// maxNodes bounds what aliases may unfold to.
const maxNodes = 50_000

// decoder fills the grammar's types from nodes, notes where everything stands, and collects mistakes.
type decoder struct {
	src       *source
	root      *yaml.Node
	mistakes  []Mistake
	places    map[string]place
	failed    map[string]bool // fields of which a mistake was told
	visited   int
	exhausted bool
}

// place is where a field stands. There is no key for entries of lists.
type place struct{ key, value *yaml.Node }

func newDecoder(src *source, root *yaml.Node) *decoder {
	return &decoder{src: src, root: root, places: map[string]place{}, failed: map[string]bool{}}
}

func keyOf(at []string) string { return strings.Join(at, "\x00") }

func at(n *yaml.Node) position { return position{n.Line, n.Column} }

// fail tells a mistake. rest goes on from the name of the field.
func (d *decoder) fail(n *yaml.Node, path []string, rest, hint string) {
	name := deploy.FieldName(path)
	if name == "" {
		name = "the file"
	}
	d.failed[keyOf(path)] = true
	d.mistakes = append(d.mistakes, *d.src.mistake(at(n), slices.Clone(path), name+" "+rest, hint))
}

// visit counts nodes, since a few aliases can stand for millions.
func (d *decoder) visit(n *yaml.Node, path []string) bool {
	if d.visited++; d.visited <= maxNodes {
		return true
	}
	if !d.exhausted {
		d.exhausted = true
		d.fail(n, path, "unfolds to too much: aliases in aliases, or in themselves", "write it out")
	}
	return false
}

// into fills target, which is a pointer to one of the grammar's types.
func (d *decoder) into(target any, n *yaml.Node, path []string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if !d.visit(n, path) {
		return
	}
	switch t := target.(type) {
	case scalar:
		d.scalar(t, n, path)
	case sequence:
		d.list(t, n, path)
	case mapping:
		d.entries(t, n, path)
	case shorthand:
		if n.Kind == yaml.ScalarNode {
			d.into(t.short(), n, path)
			return
		}
		d.fields(reflect.ValueOf(target).Elem(), n, path)
	default:
		d.fields(reflect.ValueOf(target).Elem(), n, path)
	}
}

func (d *decoder) scalar(target scalar, n *yaml.Node, path []string) {
	if _, secret := target.(*value); secret {
		d.src.hidden[n.Line] = true
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "must be "+wants(target)+", not "+kindOf(n), "")
		if t, ok := target.(*text); ok {
			*t = "?" // something is there, so it is not missed as well
		}
		return
	}
	if expected, hint := target.set(n); expected != "" {
		found := ""
		if n.Tag == "!!null" {
			found = ", not nothing"
		}
		if n.Tag == "!!null" && expected == "text" {
			hint = ""
		}
		d.fail(n, path, "must be "+expected+found, hint)
	}
}

func wants(target scalar) string {
	switch target.(type) {
	case *count, *dollars:
		return "a whole number"
	case *cores:
		return "a number"
	case *duration:
		return "a duration"
	case *size:
		return "a size"
	case *percent:
		return "a percentage"
	case *canaryStep:
		return "a share and a time"
	}
	return "text"
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!str":
		return "text"
	case n.Tag == "!!bool":
		return "true or false"
	}
	return "a number"
}

func (d *decoder) list(target sequence, n *yaml.Node, path []string) {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			if word, ok := target.grow().(scalar); ok { // others may speak of it
				hint = "write [" + n.Value + "]"
				word.set(n)
			}
		}
		d.fail(n, path, "must be a list, not "+kindOf(n), hint)
		return
	}
	for i, item := range n.Content {
		here := append(slices.Clone(path), strconv.Itoa(i))
		d.places[keyOf(here)] = place{value: item}
		d.into(target.grow(), item, here)
		if d.exhausted {
			return
		}
	}
}

func (d *decoder) entries(target mapping, n *yaml.Node, path []string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // as good as {}
	}
	for _, p := range d.pairs(n, path) {
		here := append(slices.Clone(path), p.key.Value)
		d.places[keyOf(here)] = p
		d.into(target.add(p.key.Value), p.value, here)
	}
}

// fields fills a struct.
func (d *decoder) fields(target reflect.Value, n *yaml.Node, path []string) {
	known := fieldsOf(target.Type())
	if len(known) == 0 && n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	given := map[string]bool{}
	pairs := d.pairs(n, path)
	for _, p := range pairs {
		given[p.key.Value] = true
	}
	for _, p := range pairs {
		name := p.key.Value
		here := append(slices.Clone(path), name)
		if len(path) == 0 && strings.HasPrefix(name, "x-") {
			continue
		}
		if !slices.Contains(known, name) {
			meant := deploy.Nearest(name, known)
			d.unknown(p.key, here, meant, known)
			if meant == "" || given[meant] {
				continue
			}
			// What was meant is read, so that it is not missed as well.
			given[meant] = true
			name, here = meant, append(slices.Clone(path), meant)
		}
		d.places[keyOf(here)] = p
		d.into(target.FieldByIndex(indexOf(target.Type(), name)).Addr().Interface(), p.value, here)
	}
	d.fillIn(target, path, given)
}

func (d *decoder) unknown(key *yaml.Node, path []string, meant string, known []string) {
	hint := "there is no field here"
	if len(known) > 0 {
		hint = "there are: " + strings.Join(known, ", ")
	}
	if meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
	}
	short := append(slices.Clone(path[:len(path)-1]), strings.Trim(shown(path[len(path)-1]), `"`))
	d.fail(key, short, "is not a field that Lotse knows", hint)
}

// fillIn writes the defaults where the file says nothing.
func (d *decoder) fillIn(target reflect.Value, path []string, given map[string]bool) {
	for _, name := range fieldsOf(target.Type()) {
		field := target.FieldByIndex(indexOf(target.Type(), name))
		if field.Kind() == reflect.Struct && !given[name] {
			d.fillIn(field, append(slices.Clone(path), name), nil)
			continue
		}
		def, ok := defaultOf(path, name)
		if !ok || given[name] || def.with != "" && !given[def.with] {
			continue
		}
		var n yaml.Node
		if err := yaml.Load([]byte(def.value), &n); err == nil {
			field.Addr().Interface().(scalar).set(n.Content[0])
		}
	}
}

// fieldsOf returns the names of a struct's fields in the file.
func fieldsOf(t reflect.Type) (names []string) {
	for field := range t.Fields() {
		names = append(names, field.Tag.Get("json"))
	}
	return names
}

func indexOf(t reflect.Type, name string) []int { return []int{slices.Index(fieldsOf(t), name)} }

// pairs returns what a mapping holds, with merge keys unfolded: what stands there itself wins, then the first that is merged.
func (d *decoder) pairs(n *yaml.Node, path []string) (pairs []place) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be a mapping, not "+kindOf(n), "")
		return nil
	}
	first := map[string]*yaml.Node{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if !d.visit(key, path) {
			return nil
		}
		switch before, twice := first[key.Value]; {
		case key.Tag == "!!merge":
			merged = append(merged, value)
		case key.Kind != yaml.ScalarNode || key.Tag == "!!null" || key.Value == "":
			d.fail(key, path, "must have names of text only", "")
		case twice:
			d.fail(key, append(slices.Clone(path), key.Value), fmt.Sprintf("is there twice; the first is in line %d", before.Line), "take one of them away")
		default:
			first[key.Value] = key
			pairs = append(pairs, place{key, value})
		}
	}
	for _, m := range merged {
		for _, p := range d.merged(m, path) {
			if first[p.key.Value] == nil {
				first[p.key.Value] = p.key
				pairs = append(pairs, p)
			}
		}
	}
	return pairs
}

// merged returns what a merge key brings: a mapping, or several in a list.
func (d *decoder) merged(n *yaml.Node, path []string) (pairs []place) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case !d.visit(n, path):
		return nil
	case n.Kind == yaml.MappingNode:
		return d.pairs(n, path)
	case n.Kind != yaml.SequenceNode:
		d.fail(n, path, "must be merged from mappings (<<)", "")
		return nil
	}
	for _, one := range n.Content {
		if d.exhausted {
			return nil
		}
		pairs = append(pairs, d.merged(one, path)...)
	}
	return pairs
}

// judge adds the problems of the app, unless what they speak of was told already.
func (d *decoder) judge(problems []deploy.Problem) {
	for _, p := range problems {
		if d.toldAt(p.Path) {
			continue
		}
		d.mistakes = append(d.mistakes, *d.src.mistake(d.find(p), p.Path, p.Message, p.Hint))
	}
}

func (d *decoder) toldAt(path []string) bool {
	for i := range len(path) + 1 {
		if d.failed[keyOf(path[:i])] && (i > 0 || d.root.Kind != yaml.MappingNode) {
			return true
		}
	}
	return false
}

// find maps a path to a place: the value where the mistake is in one, the name where it is in that or in what is below it, and
// the nearest part above where the field is not in the file.
func (d *decoder) find(p deploy.Problem) position {
	for i := len(p.Path); i > 0; i-- {
		found, ok := d.places[keyOf(p.Path[:i])]
		switch {
		case !ok:
			continue
		case found.key == nil:
			return at(found.value)
		case i == len(p.Path) && !p.Name && found.value.Kind == yaml.ScalarNode && found.value.Tag != "!!null":
			return at(found.value)
		}
		return at(found.key)
	}
	return at(d.root)
}
