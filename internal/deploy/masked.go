package deploy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// PersonalColumn says what a column of the app's database holds of people.
type PersonalColumn struct {
	Column string // TABLE.COLUMN or SCHEMA.TABLE.COLUMN; with /KEY/KEY behind it, a path in a column of JSON
	Kind   privacy.Kind
}

// Masks finds people in databases and copies databases without them. It is safe for concurrent use. Errors name tables and columns, and
// nothing of any row.
type Masks interface {
	// Find says what each column of a database holds. It reads a sample of each table, and changes nothing. ErrBadInput: a named column is not
	// there, or cannot hold what is said of it.
	Find(ctx context.Context, database secret.Text, named []PersonalColumn) (People, error)

	// Copy fills an empty database with the rows of another, people masked, and checks that no original value is left. What it reads is one
	// moment of the source, which it does not change. ErrRefused: the target is not empty, or a column cannot be judged (the error has all of
	// them as a hint, in the words of lotse.yaml). ErrDamaged: the check found something. After any error the target is not to be used:
	// what is in it is taken away by the next Copy into it, also after a crash.
	Copy(ctx context.Context, order MaskOrder) (MaskReport, error)
}

// MaskOrder asks for a masked copy.
type MaskOrder struct {
	From, To secret.Text
	Named    []PersonalColumn
	// Key makes two copies of one value the same. Empty: a new one that nobody has afterwards, so that copies do not join and nothing can be
	// computed back.
	Key secret.Text
}

// People is what was found in a database.
type People struct {
	Columns []ColumnFinding `json:"columns"` // in the order of schema, table, column
}

// ColumnFinding is what a column holds, and how that is known. Kind "" could not be judged.
type ColumnFinding struct {
	Column string       `json:"column"` // as PersonalColumn has it
	Kind   privacy.Kind `json:"kind,omitempty"`
	Why    string       `json:"why"`
	Named  bool         `json:"named,omitempty"`
	// Usable are kinds that a column of its type can be where none was found, the one that keeps least first. Empty: any.
	Usable []privacy.Kind `json:"usable,omitempty"`
}

// Unjudged are the columns that stop a copy.
func (p People) Unjudged() []ColumnFinding {
	var found []ColumnFinding
	for _, c := range p.Columns {
		if c.Kind == "" {
			found = append(found, c)
		}
	}
	return found
}

// Paste is what to write into lotse.yaml for columns that could not be judged; empty where all were.
func (p People) Paste() string {
	var out strings.Builder
	for _, c := range p.Unjudged() {
		if out.Len() == 0 {
			out.WriteString("people:")
		}
		kind, others := privacy.Text, "keep, or what it is"
		if len(c.Usable) > 0 {
			kind, others = c.Usable[0], ""
			for _, k := range c.Usable[1:] {
				others += string(k) + ", or "
			}
			others = strings.TrimSuffix(others, ", or ")
		}
		fmt.Fprintf(&out, "\n  %s: %s", yamlKey(c.Column), kind)
		if others != "" {
			others = "or " + others + ": "
		}
		fmt.Fprintf(&out, "   # %s%s", others, c.Why)
	}
	return out.String()
}

// yamlKey quotes a name that YAML would take for something else.
func yamlKey(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-*") == "" {
		return name
	}
	return strconv.Quote(name)
}

// MaskReport is what a copy did. No value of any row is in it.
type MaskReport struct {
	Tables  int             `json:"tables"`
	Rows    int64           `json:"rows"`
	Took    time.Duration   `json:"took"`    // nanoseconds, check and indexes with it
	Copying time.Duration   `json:"copying"` // nanoseconds, of reading, masking and writing rows
	Columns []ColumnFinding `json:"columns"`
	Unique  []privacy.Kind  `json:"unique,omitempty"` // kinds of which some column is unique: their values are told apart
	Checked int64           `json:"checked"`          // original values that were looked for
	Looked  int64           `json:"looked"`           // values of the copy that were looked at
}

// Rate is rows a second, while rows were copied.
func (r MaskReport) Rate() float64 {
	if r.Copying <= 0 {
		return 0
	}
	return float64(r.Rows) / r.Copying.Seconds()
}
