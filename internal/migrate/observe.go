package migrate

import (
	"slices"
	"strings"
)

// observe says what a statement does, by what was seen of it.
func (t *trial) observe(f file, statement int, s seen) observed {
	o := observed{statement: statement, seen: s, found: changes(t.first, s.before, s.after)}
	for _, rule := range spoken(f.piece(statement)) {
		if on, counts := t.spokenOf(f.piece(statement), s); counts {
			o.longer = append(o.longer, finding{rule, on})
		}
	}
	if slices.ContainsFunc(o.longer, func(l finding) bool { return l.rule == "truncate" }) {
		return o // its new file is an empty one
	}
	o.longer = append(o.longer, t.rewritten(s)...)
	o.longer = append(o.longer, t.read(s)...)
	return o
}

// spokenOf is the table that a statement names, and whether it was there before all that is judged. Where no table can be found, as in a
// DO block, it counts.
func (t *trial) spokenOf(sql string, s seen) (string, bool) {
	words := wordsOf(sql)
	for i, w := range words {
		names := []string{w}
		if i+1 < len(words) {
			names = append(names, w+"."+words[i+1])
		}
		for _, name := range names {
			if r := s.before.named(name); r != nil && r.table() {
				return name, t.first.byOID[r.OID] != nil
			}
		}
	}
	return "", true
}

// rewritten are the tables that were there whose rows, or indexes, lie in another file now.
func (t *trial) rewritten(s seen) (found []finding) {
	moved := func(r relation) bool {
		was := s.before.byOID[r.OID]
		return was != nil && t.first.byOID[r.OID] != nil && was.File != 0 && r.File != 0 && was.File != r.File
	}
	for _, r := range s.after.Relations {
		switch {
		case !r.table() || !moved(r):
		case r.Kind == "m":
			if strength(s.held[r.OID]) == strength("ACCESS EXCLUSIVE") {
				found = append(found, finding{"refresh-view", r.Name})
			}
		default:
			found = append(found, finding{"rewrite-table", r.Name})
		}
	}
	for _, r := range s.after.Relations {
		table := s.after.nameOf(r.Of)
		if r.index() && moved(r) && !slices.Contains(found, finding{"rewrite-table", table}) && !slices.Contains(found, finding{"refresh-view", table}) &&
			!slices.Contains(found, finding{"rebuild-index", table}) && strength(s.held[r.Of]) >= keepsOut {
			found = append(found, finding{"rebuild-index", table})
		}
	}
	return found
}

// read are the tables that were there and that were read as a whole while somebody is kept out of one.
func (t *trial) read(s seen) (found []finding) {
	out := slices.ContainsFunc(t.first.Relations, func(r relation) bool { return r.table() && r.Kind != "m" && strength(s.held[r.OID]) >= keepsOut })
	for _, r := range s.after.Relations {
		if !s.scanned[r.OID] || !out {
			continue
		}
		if was := s.before.byOID[r.OID]; was != nil && was.File != r.File {
			continue // it is written anew, which says more
		}
		if rule := why(s, r); rule != "" {
			found = append(found, finding{rule, r.Name})
		}
	}
	if slices.ContainsFunc(found, func(f finding) bool { return f.rule != workUnderLock }) { // a foreign key reads the other table too
		found = slices.DeleteFunc(found, func(f finding) bool { return f.rule == workUnderLock })
	}
	return found
}

const workUnderLock = "work-under-lock"

// why is the rule for reading a whole table; "" where another one says more.
func why(s seen, r relation) string {
	for _, k := range s.after.Constraints {
		valid := slices.ContainsFunc(s.before.Constraints, func(o constraint) bool { return o.OID == k.OID && o.Valid })
		if k.Of != r.OID || valid || !k.Valid {
			continue
		}
		return map[bool]string{true: "build-unique", false: map[string]string{"c": "check-rows", "f": "check-references"}[k.Kind]}[strings.Contains("pux", k.Kind)]
	}
	for _, i := range s.after.Relations {
		was := s.before.byOID[i.OID]
		switch {
		case !i.index() || i.Of != r.OID:
		case was == nil:
			return "build-index"
		case was.File != i.File:
			return ""
		}
	}
	for _, k := range s.after.columns[r.OID] {
		fresh := !slices.ContainsFunc(s.before.columns[r.OID], func(o column) bool { return o.Number == k.Number })
		if fresh && k.required() {
			return ""
		}
		if k.NotNull && slices.ContainsFunc(s.before.columns[r.OID], func(o column) bool { return o.Number == k.Number && !o.NotNull }) {
			return "check-not-null"
		}
	}
	if was := s.before.byOID[r.OID]; was != nil && was.Of != r.Of || strength(s.held[r.OID]) == strength("ACCESS EXCLUSIVE") && len(s.held) > 1 && was != nil && was.Of != 0 {
		return "check-rows"
	}
	return workUnderLock
}

// net leaves of what single statements change only what is different when the transaction has ended: others never see what is between.
func (t *trial) net(all []observed, before *catalog) {
	if len(all) == 0 {
		return
	}
	last := &all[len(all)-1]
	left := changes(t.first, before, last.after)
	for i := range all {
		all[i].found = slices.DeleteFunc(all[i].found, func(f finding) bool { return !slices.Contains(left, f) })
	}
	for _, f := range left {
		if !slices.ContainsFunc(all, func(o observed) bool { return slices.Contains(o.found, f) }) {
			last.found = append(last.found, f)
		}
	}
}
