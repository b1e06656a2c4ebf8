package deploy

import (
	"fmt"
	"math"
	"slices"
)

// Look is how a database looks, without anything of any row: what of it can be compared with a copy that a platform has taken itself.
type Look struct {
	Server string      `json:"server"` // version
	Schema string      `json:"schema"` // digest
	Since  string      `json:"since"`  // since when the server counts what is written; opaque
	Tables []TableLook `json:"tables,omitempty"`
	More   int         `json:"more,omitempty"` // tables that are not among Tables, since there was no room
}

// TableLook is how one table looks.
type TableLook struct {
	Name     string `json:"n"`           // with its schema
	Rows     int64  `json:"r"`           // -1: not counted
	Inserted int64  `json:"i,omitempty"` // so often since Look.Since, as the server counts
	Deleted  int64  `json:"d,omitempty"`
	File     int64  `json:"f,omitempty"` // changes where all rows are written anew or taken away at once
}

// Rows are those of all tables.
func (l Look) Rows() (n int64) {
	for _, t := range l.Tables {
		n += max(t.Rows, 0)
	}
	return n
}

func (l Look) table(name string) (TableLook, bool) {
	i := slices.IndexFunc(l.Tables, func(t TableLook) bool { return t.Name == name })
	if i < 0 {
		return TableLook{}, false
	}
	return l.Tables[i], true
}

// Around is how a database looked just before and just after a platform took a copy of it, at a moment in between that nobody else
// chooses. Rows are counted before alone; what was written until after says how many there can have been at the moment.
type Around struct {
	Before Look `json:"before"`
	After  Look `json:"after"`
}

// mostDifferences is how many are told; the rest is counted.
const mostDifferences = 5

// Differences says in sentences why what came back cannot be the copy: its schema is another, a table is not there, or has a number of
// rows that it cannot have had. Of a table that nobody wrote to meanwhile, that is any other number.
func (a Around) Differences(now Look) (all []string) {
	if now.Schema != a.Before.Schema && now.Schema != a.After.Schema {
		all = append(all, "the schema is not the one that was there")
	}
	for _, before := range a.Before.Tables {
		after, lasted := a.After.table(before.Name)
		if is, there := now.table(before.Name); there {
			all = append(all, a.rows(before, after, lasted, is)...)
		} else if lasted && now.More == 0 {
			all = append(all, fmt.Sprintf("table %s is missing; it had %d rows", before.Name, before.Rows))
		}
	}
	if len(all) > mostDifferences {
		all = append(all[:mostDifferences], fmt.Sprintf("and %d more differences", len(all)-mostDifferences))
	}
	return all
}

func (a Around) rows(before, after TableLook, lasted bool, is TableLook) []string {
	least, most, known := a.bounds(before, after)
	switch {
	case !lasted || !known || is.Rows < 0 || is.Rows >= least && is.Rows <= most:
		return nil
	case least == most:
		return []string{fmt.Sprintf("table %s has %d rows, and had %d", before.Name, is.Rows, most)}
	}
	return []string{fmt.Sprintf("table %s has %d rows, and had %d to %d", before.Name, is.Rows, least, most)}
}

// bounds are how many rows a table can have had between the two looks. Counters that began anew say nothing.
func (a Around) bounds(before, after TableLook) (least, most int64, known bool) {
	inserted, deleted := after.Inserted-before.Inserted, after.Deleted-before.Deleted
	if before.Rows < 0 || a.Before.Since != a.After.Since || inserted < 0 || deleted < 0 || inserted > math.MaxInt64-before.Rows {
		return 0, 0, false
	}
	least = max(0, before.Rows-deleted)
	if before.File != after.File { // TRUNCATE takes rows away without counting them
		least = 0
	}
	return least, before.Rows + inserted, true
}

// Exact is of how many tables the rows could be compared exactly, since nobody wrote to them, and of how many at all.
func (a Around) Exact() (exact, all int) {
	for _, before := range a.Before.Tables {
		after, lasted := a.After.table(before.Name)
		least, most, known := a.bounds(before, after)
		if !lasted || !known {
			continue
		}
		all++
		if least == most {
			exact++
		}
	}
	return exact, all
}
