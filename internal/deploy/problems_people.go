package deploy

import (
	"regexp"

	"github.com/lotse-eu/lotse/internal/privacy"
)

// columnPattern is TABLE.COLUMN or SCHEMA.TABLE.COLUMN, and /KEY/KEY for a path in a column of JSON. Whether the column is there is known by the
// database alone.
var columnPattern = regexp.MustCompile(`^[^./\x00-\x1f]+(?:\.[^./\x00-\x1f]+){1,2}(?:/[^/\x00-\x1f]+)*$`)

func (c *checker) people() {
	var kinds []string
	for _, k := range privacy.Kinds() {
		kinds = append(kinds, string(k))
	}
	for _, p := range c.app.People {
		at := []string{"people", p.Column}
		if !columnPattern.MatchString(p.Column) {
			c.reportName(at, "for example users.email, or users.profile/address for a key in a column of JSON", "must be TABLE.COLUMN")
		}
		if p.Kind.Known() {
			continue
		}
		hint := suggestion(string(p.Kind), kinds, "")
		if near := privacy.Near(string(p.Kind)); near != "" {
			hint = suggestion(string(near), kinds, "")
		}
		c.report(at, hint, "must be a kind, not %q", string(p.Kind))
	}
}
