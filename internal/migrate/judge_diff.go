package migrate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// changes says what became of a schema for code that knew it as it was before. Objects are told apart by their names, as that code does:
// what is dropped and made again in one transaction is only what is different then. What is new is nobody's business. first is the schema
// before all that is judged: a table that was not there then is known to no code that runs.
func changes(first, before, after *catalog) []finding {
	d := &difference{first: first, before: before, after: after}
	d.schemas()
	for i := range before.Relations {
		d.relation(&before.Relations[i])
	}
	for _, k := range before.Constraints {
		d.constraintGone(k)
	}
	for _, k := range after.Constraints {
		d.constraintCame(k)
	}
	d.indexes()
	d.triggers()
	d.policies()
	d.functions()
	d.types()
	d.lists()
	return d.found
}

type difference struct {
	first, before, after *catalog
	found                []finding
}

func (d *difference) say(rule, on string) {
	if f := (finding{rule, on}); !slices.Contains(d.found, f) {
		d.found = append(d.found, f)
	}
}

// known reports whether a relation was there before all that is judged.
func (d *difference) known(r *relation) bool { return r != nil && d.first.byOID[r.OID] != nil }

func (d *difference) schemas() {
	for _, s := range d.before.Schemas {
		i := slices.IndexFunc(d.after.Schemas, func(o schema) bool { return o.Name == s.Name })
		switch {
		case i >= 0:
			d.rights("schema "+s.Name, s.ACL, d.after.Schemas[i].ACL)
			if d.after.Schemas[i].Owner != s.Owner {
				d.say("change-owner", "schema "+s.Name)
			}
		case slices.ContainsFunc(d.after.Schemas, func(o schema) bool { return o.OID == s.OID }):
			d.say("rename-schema", s.Name)
		default:
			d.say("drop-schema", s.Name)
		}
	}
}

func (d *difference) rights(on string, before, after []string) {
	for _, right := range before {
		if !slices.Contains(after, right) {
			d.say("revoke", on)
		}
	}
}

// relation compares a table, view or sequence with what has its name afterwards.
func (d *difference) relation(r *relation) {
	if r.index() || !d.known(r) {
		return
	}
	same, moved := d.after.named(r.Name), d.after.byOID[r.OID]
	switch {
	case same == nil && moved == nil && r.view():
		d.say("drop-view", r.Name)
	case same == nil && moved == nil && r.Kind == "S":
		d.say("drop-sequence", r.Name)
	case same == nil && moved == nil:
		d.say("drop-table", r.Name)
	case same == nil && moved.Schema != r.Schema:
		if !d.schemaRenamed(r.Schema, moved.Schema) {
			d.say("move-table", r.Name)
		}
	case same == nil:
		d.say("rename-table", r.Name)
	case same.OID != r.OID && !r.view() && r.Kind != "S":
		d.replaced(r, same, moved != nil)
	default:
		d.compare(r, same)
	}
}

func (d *difference) schemaRenamed(from, to string) bool {
	return slices.ContainsFunc(d.before.Schemas, func(b schema) bool {
		return b.Name == from && slices.ContainsFunc(d.after.Schemas, func(a schema) bool { return a.OID == b.OID && a.Name == to })
	})
}

// replaced is a table whose name has gone to something else; kept says that its rows are still there under another.
func (d *difference) replaced(r, now *relation, kept bool) {
	if !kept {
		d.say("recreate-table", r.Name)
	} else if d.columnsOf(r, now, true) {
		d.say("view-for-table", r.Name)
	}
}

func (d *difference) compare(r, now *relation) {
	if r.view() {
		if d.columnsOf(r, now, true) && r.Def != now.Def {
			d.say("replace-view", r.Name)
		}
	} else {
		d.columnsOf(r, now, false)
	}
	d.rights(r.Name, r.ACL, now.ACL)
	switch {
	case r.Owner != now.Owner:
		d.say("change-owner", r.Name)
	case r.Kind == "S" && r.Def != now.Def:
		d.say("change-sequence", r.Name)
	}
	switch {
	case !r.RLS && now.RLS, r.RLS && !r.Forced && now.Forced:
		d.say("enable-rls", r.Name)
	case r.RLS && !now.RLS:
		d.say("disable-rls", r.Name)
	}
	if r.Stays == "p" && now.Stays == "u" {
		d.say("set-unlogged", r.Name)
	}
	if r.Of != 0 && now.Of == 0 {
		d.say("detach-partition", d.before.nameOf(r.Of))
	}
}

// columnsOf compares columns, and reports whether code that knew those of before goes on. Of a view all that is wrong is one finding.
func (d *difference) columnsOf(r, now *relation, view bool) bool {
	before, after := d.before.columns[r.OID], d.after.columns[now.OID]
	for _, k := range before {
		i := slices.IndexFunc(after, func(o column) bool { return o.Name == k.Name })
		switch {
		case view && (i < 0 || after[i].Type != k.Type && !widens(k.Type, after[i].Type)):
			d.say("change-view", r.Name)
			return false
		case view:
		case i < 0 && slices.ContainsFunc(after, func(o column) bool { return o.Number == k.Number }):
			d.say("rename-column", r.Name+"."+k.Name)
		case i < 0:
			d.say("drop-column", r.Name+"."+k.Name)
		case after[i].Number != k.Number:
			d.say("recreate-column", r.Name+"."+k.Name)
		default:
			d.column(r, k, after[i])
		}
	}
	for _, k := range after {
		fresh := !slices.ContainsFunc(before, func(o column) bool { return o.Name == k.Name || o.Number == k.Number })
		if fresh && !view && k.required() {
			d.say("add-required-column", r.Name+"."+k.Name)
		}
	}
	return true
}

func (d *difference) column(r *relation, k, now column) {
	on := r.Name + "." + k.Name
	switch {
	case k.Type == now.Type:
	case widens(k.Type, now.Type):
		d.say("widen-type", on)
	default:
		d.say("change-type", on)
	}
	switch {
	case k.NotNull && !now.NotNull:
		d.say("drop-not-null", on)
	case !k.NotNull && now.NotNull && !d.checkedNotNull(r, k.Name):
		d.say("set-not-null", on)
	}
	switch {
	case k.Default == now.Default:
	case now.Default == "" && (now.NotNull && now.Identity == ""):
		d.say("drop-default", on)
	default:
		d.say("change-default", on)
	}
	if k.Identity != "a" && now.Identity == "a" {
		d.say("change-identity", on)
	}
}

// checkedNotNull reports whether a check that was there already keeps NULL out.
func (d *difference) checkedNotNull(r *relation, column string) bool {
	return slices.ContainsFunc(d.before.Constraints, func(k constraint) bool {
		return k.Of == r.OID && strings.ReplaceAll(k.Def, `"`, "") == "CHECK (("+column+" IS NOT NULL))"
	})
}

var sized = regexp.MustCompile(`^([a-z ]+?)(?:\((\d+)(?:,(\d+))?\))?( with(?:out)? time zone)?$`)

// widens reports whether every value of one type is one of the other, and reads alike.
func widens(from, to string) bool {
	numbers := []string{"smallint", "integer", "bigint"}
	if i, j := slices.Index(numbers, from), slices.Index(numbers, to); i >= 0 && j > i {
		return true
	}
	a, b := sized.FindStringSubmatch(from), sized.FindStringSubmatch(to)
	if a == nil || b == nil {
		return false
	}
	length := func(text string) int { n, _ := strconv.Atoi(text); return n } // digits, or none
	switch {
	case a[1] == "character varying" && (b[1] == "text" || b[1] == a[1] && (b[2] == "" || length(b[2]) >= length(a[2]) && a[2] != "")), a[1] == "text" && to == "character varying":
		return true
	case a[1] == "numeric" && b[1] == "numeric":
		return b[2] == "" || a[2] != "" && length(b[3]) >= length(a[3]) && length(b[2])-length(b[3]) >= length(a[2])-length(a[3])
	}
	return a[1] == b[1] && a[4] == b[4] && strings.HasPrefix(a[1], "time") && (b[2] == "" || a[2] != "" && length(b[2]) >= length(a[2]))
}

// constraintGone looks at what was checked before.
func (d *difference) constraintGone(k constraint) {
	r := d.before.byOID[k.Of]
	if !d.known(r) || d.after.byOID[r.OID] == nil {
		return
	}
	unique := strings.Contains("pux", k.Kind)
	for _, now := range d.after.Constraints {
		if now.Of != k.Of {
			continue
		}
		if now.Name == k.Name && now.Kind == k.Kind {
			return // another condition is a constraint that came
		}
		if now.OID == k.OID {
			if unique {
				d.say("rename-constraint", r.Name+"."+k.Name)
			}
			return
		}
	}
	switch {
	case unique && !d.coveredUnique(d.after, k.Of, d.before.byOID[k.Index]):
		d.say("drop-unique", r.Name+"."+k.Name)
	case !unique:
		d.say("drop-constraint", r.Name+"."+k.Name)
	}
}

// constraintCame looks at what is checked from now on.
func (d *difference) constraintCame(k constraint) {
	r := d.after.byOID[k.Of]
	if !d.known(r) {
		return
	}
	for _, was := range d.before.Constraints {
		if was.Of == k.Of && was.Kind == k.Kind && was.Def == k.Def {
			return
		}
	}
	if d.fresh(k.Of, k.Key) {
		return
	}
	on := r.Name + "." + k.Name
	switch k.Kind {
	case "c":
		d.say("add-check", on)
	case "f":
		d.say("add-foreign-key", on)
	default:
		if !d.coveredUnique(d.before, k.Of, d.after.byOID[k.Index]) {
			d.say("add-unique", on)
		}
	}
}

// fresh reports whether all columns of a key are new: the old code writes none of them.
func (d *difference) fresh(table int64, key []int) bool {
	return len(key) > 0 && !slices.ContainsFunc(key, func(number int) bool {
		return number == 0 || slices.ContainsFunc(d.before.columns[table], func(k column) bool { return k.Number == number })
	})
}

// coveredUnique reports whether a unique index over the same columns is in the other schema.
func (d *difference) coveredUnique(other *catalog, table int64, index *relation) bool {
	return index != nil && slices.ContainsFunc(other.Relations, func(o relation) bool {
		return o.index() && o.Unique && o.Of == table && keyOf(o.Def) == keyOf(index.Def)
	})
}

// keyOf is what of an index' definition comes after its name and table.
func keyOf(def string) string {
	_, key, _ := strings.Cut(def, " USING ")
	return key
}

func (d *difference) indexes() {
	for _, i := range d.before.Relations {
		if !i.index() || !d.known(&i) || d.after.byOID[i.Of] == nil || d.isConstraint(d.before, i.OID) {
			continue
		}
		if slices.ContainsFunc(d.after.Relations, func(o relation) bool {
			return o.index() && o.Of == i.Of && keyOf(o.Def) == keyOf(i.Def) && o.Unique == i.Unique
		}) {
			continue
		}
		if d.after.byOID[i.OID] != nil { // a column of it was renamed or changed
			continue
		}
		if i.Unique {
			d.say("drop-unique", i.Name)
		} else {
			d.say("drop-index", i.Name)
		}
	}
	for _, i := range d.after.Relations {
		table := d.after.byOID[i.Of]
		if i.index() && i.Unique && d.before.byOID[i.OID] == nil && d.known(table) && !d.fresh(i.Of, i.Key) && !d.isConstraint(d.after, i.OID) && !d.coveredUnique(d.before, i.Of, &i) {
			d.say("add-unique", i.Name)
		}
	}
}

func (d *difference) isConstraint(c *catalog, index int64) bool {
	return slices.ContainsFunc(c.Constraints, func(k constraint) bool { return k.Index == index && strings.Contains("pux", k.Kind) })
}

func (d *difference) triggers() {
	find := func(all []trigger, t trigger) int {
		return slices.IndexFunc(all, func(o trigger) bool { return o.Of == t.Of && o.Name == t.Name })
	}
	for _, t := range d.before.Triggers {
		r := d.before.byOID[t.Of]
		if !d.known(r) || d.after.byOID[t.Of] == nil {
			continue
		}
		switch i := find(d.after.Triggers, t); {
		case i < 0:
			d.say("drop-trigger", r.Name+"."+t.Name)
		case d.after.Triggers[i] != t:
			d.say("change-trigger", r.Name+"."+t.Name)
		}
	}
	for _, t := range d.after.Triggers {
		if r := d.after.byOID[t.Of]; d.known(r) && find(d.before.Triggers, t) < 0 {
			d.say("add-trigger", r.Name+"."+t.Name)
		}
	}
}

func (d *difference) policies() {
	find := func(all []policy, p policy) int {
		return slices.IndexFunc(all, func(o policy) bool { return o.Of == p.Of && o.Name == p.Name })
	}
	for _, p := range d.before.Policies {
		r := d.before.byOID[p.Of]
		if !d.known(r) || d.after.byOID[p.Of] == nil {
			continue
		}
		switch i := find(d.after.Policies, p); {
		case i < 0 && p.Permissive:
			d.say("drop-policy", r.Name+"."+p.Name)
		case i >= 0 && d.after.Policies[i] != p:
			d.say("change-policy", r.Name+"."+p.Name)
		}
	}
	for _, p := range d.after.Policies {
		if r := d.after.byOID[p.Of]; d.known(r) && !p.Permissive && find(d.before.Policies, p) < 0 {
			d.say("add-restrictive-policy", r.Name+"."+p.Name)
		}
	}
}

func (d *difference) functions() {
	for _, f := range d.before.Functions {
		if !slices.ContainsFunc(d.first.Functions, func(o function) bool { return o.OID == f.OID }) {
			continue
		}
		i := slices.IndexFunc(d.after.Functions, func(o function) bool { return o.Name == f.Name })
		switch {
		case i < 0:
			d.say("drop-function", f.Name)
		case d.after.Functions[i].Result != f.Result:
			d.say("change-function", f.Name)
		case d.after.Functions[i].Body != f.Body:
			d.say("replace-function", f.Name)
		}
		if i >= 0 {
			d.rights(f.Name, f.ACL, d.after.Functions[i].ACL)
		}
	}
}

func (d *difference) types() {
	for _, t := range d.before.Types {
		if !slices.ContainsFunc(d.first.Types, func(o datatype) bool { return o.OID == t.OID }) {
			continue
		}
		i := slices.IndexFunc(d.after.Types, func(o datatype) bool { return o.Name == t.Name })
		switch {
		case i < 0:
			d.say("drop-type", t.Name)
		case slices.ContainsFunc(t.Labels, func(l string) bool { return !slices.Contains(d.after.Types[i].Labels, l) }):
			d.say("rename-enum-value", t.Name)
		case len(d.after.Types[i].Labels) > len(t.Labels):
			d.say("add-enum-value", t.Name)
		}
	}
	for _, k := range d.after.Constraints { // of domains
		if k.Of == 0 && !slices.ContainsFunc(d.before.Constraints, func(o constraint) bool { return o.OID == k.OID }) &&
			!slices.ContainsFunc(d.after.Types, func(t datatype) bool {
				return !slices.ContainsFunc(d.first.Types, func(o datatype) bool { return o.OID == t.OID })
			}) {
			d.say("add-check", k.Name)
		}
	}
}

func (d *difference) lists() {
	for _, name := range d.before.Extensions {
		if !slices.Contains(d.after.Extensions, name) {
			d.say("drop-extension", name)
		}
	}
	for _, name := range d.before.Publication {
		if !slices.Contains(d.after.Publication, name) {
			d.say("drop-publication", name)
		}
	}
}
