package snapshot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// object is a table, an index, a policy: what makes the schema. It is known by pg_dump's words for it.
type object struct {
	What   string `json:"what"`   // "index public.people_email"
	Digest string `json:"digest"` // of the statement that makes it
	Owner  string `json:"owner,omitempty"`
}

// notSchema are entries that say nothing of the schema.
var notSchema = []string{kindRows, kindBlobs, "BLOB", "BLOB METADATA", "SEQUENCE SET", "MATERIALIZED VIEW DATA", "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES", "STATISTICS DATA"}

// objects are in an order of their own: pg_dump's goes by numbers that another database has given otherwise.
func (c *contents) objects() []object {
	var all []object
	for _, e := range c.entries {
		if !slices.Contains(notSchema, e.kind) {
			all = append(all, object{e.what(), digestOf(normal(e)), e.owner})
		}
	}
	slices.SortFunc(all, func(a, b object) int { return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Digest, b.Digest)) })
	return all
}

// normal is a statement without the order of roles in it: pg_dump takes that from the numbers of roles, which another server gives otherwise.
func normal(e entry) string {
	switch e.kind {
	case "POLICY":
		if at := policyTo.FindStringSubmatchIndex(e.statement); at != nil {
			const roles = 2 * 4 // of the fourth group
			names := oneName.FindAllString(e.statement[at[roles]:at[roles+1]], -1)
			slices.Sort(names)
			return e.statement[:at[roles]] + strings.Join(names, ", ") + e.statement[at[roles+1]:]
		}
	case "ACL", "DEFAULT ACL":
		lines := strings.Split(e.statement, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	return e.statement
}

func digestOf(text string) string {
	all := sha256.Sum256([]byte(text))
	return hex.EncodeToString(all[:12])
}

// schemaDigest is of the whole schema, without who owns it.
func schemaDigest(objects []object) string {
	bare := slices.Clone(objects)
	for i := range bare {
		bare[i].Owner = ""
	}
	text, _ := json.Marshal(bare) // plain values
	all := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(all[:])
}

// found is what a database, or an archive, turns out to hold.
type found struct {
	tables    []tableDetails
	sequences map[string]string
	objects   []object
}

func (c *contents) found() found { return found{c.tables(), c.sequences(), c.objects()} }

// tables are the tables with rows of their own, each with what they add up to.
func (c *contents) tables() []tableDetails {
	byName := map[string]sum{}
	for _, e := range c.entries {
		if rows, there := c.sums[e.id]; there {
			all := byName[e.table()]
			all.addAll(rows)
			byName[e.table()] = all
		}
	}
	all := make([]tableDetails, 0, len(byName))
	for name, s := range byName {
		all = append(all, tableDetails{name, s.rows, s.String()})
	}
	slices.SortFunc(all, func(a, b tableDetails) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// setval is how pg_dump says where a sequence stands.
var setval = regexp.MustCompile(`setval\('(?:[^']|'')*', (-?\d+), (true|false)\)`)

func (c *contents) sequences() map[string]string {
	all := map[string]string{}
	for _, e := range c.entries {
		if found := setval.FindStringSubmatch(e.statement); e.kind == "SEQUENCE SET" && found != nil {
			all[e.schema+"."+e.name] = found[1] + "," + found[2]
		}
	}
	return all
}

// comparison is what of a restored database must be as it was.
type comparison struct {
	sameMajor bool              // the text of statements is compared; other versions write some otherwise
	left      func(object) bool // what was left out on purpose
}

// most is how many differences are told; the rest is counted.
const most = 5

// differences says in sentences what is not as the manifest says: "table public.orders has 41 rows, 42 were taken".
func (d details) differences(now found, how comparison) (all []string) {
	all = append(d.rowsDiffer(now.tables), d.sequencesDiffer(now.sequences)...)
	all = append(all, d.schemaDiffers(now.objects, how)...)
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("and %d more differences", len(all)-most))
	}
	return all
}

func (d details) rowsDiffer(tables []tableDetails) (all []string) {
	is := map[string]tableDetails{}
	for _, t := range tables {
		is[t.Name] = t
	}
	for _, was := range d.Tables {
		now, there := is[was.Name]
		delete(is, was.Name)
		switch {
		case !there:
			all = append(all, fmt.Sprintf("table %s is missing; %d rows of it were taken", was.Name, was.Rows))
		case now.Rows != was.Rows:
			all = append(all, fmt.Sprintf("table %s has %d rows, %d were taken", was.Name, now.Rows, was.Rows))
		case now.Sum != was.Sum:
			all = append(all, fmt.Sprintf("table %s has %d rows as it had, and not the same ones", was.Name, now.Rows))
		}
	}
	for name := range is {
		all = append(all, fmt.Sprintf("table %s is there and was not taken", name))
	}
	slices.Sort(all)
	return all
}

func (d details) sequencesDiffer(now map[string]string) (all []string) {
	for name, was := range d.Sequences {
		if now[name] != was {
			all = append(all, fmt.Sprintf("sequence %s does not stand where it stood", name))
		}
	}
	slices.Sort(all)
	return all
}

func (d details) schemaDiffers(objects []object, how comparison) (all []string) {
	was, now := byWhat(d.Objects, how), byWhat(objects, how)
	for what, digest := range was {
		switch is, there := now[what]; {
		case !there:
			all = append(all, what+" is missing")
		case is != digest && how.sameMajor:
			all = append(all, what+" is not defined as it was")
		}
	}
	for what := range now {
		if _, there := was[what]; !there {
			all = append(all, what+" is there and was not taken")
		}
	}
	slices.Sort(all)
	return all
}

func byWhat(objects []object, how comparison) map[string]string {
	all := map[string]string{}
	for _, o := range objects {
		if how.left == nil || !how.left(o) {
			all[o.What] += o.Digest + " "
		}
	}
	return all
}

func sentence(differences []string) string { return strings.Join(differences, "; ") }
