package mask

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
)

// plan refuses what cannot be copied, and says what the columns of each kind ask of its rule together.
func (s *schema) plan() (privacy.Rules, error) {
	rules := privacy.Rules{Unique: map[privacy.Kind]bool{}, Limit: map[privacy.Kind]int{}}
	people := s.people()
	if unjudged := people.Unjudged(); len(unjudged) > 0 {
		var labels []string
		for _, c := range unjudged {
			labels = append(labels, c.Column)
		}
		return rules, deploy.Hint(fmt.Errorf("%w: it cannot be judged whether there is something of people in %s", deploy.ErrRefused, strings.Join(labels, ", ")),
			"say in lotse.yaml what they hold:\n"+people.Paste())
	}
	for _, u := range s.uniques {
		if err := u.plan(s.uniques, rules); err != nil {
			return rules, err
		}
	}
	for _, j := range s.joins {
		if j.from.verdict.Kind != privacy.Keep {
			rules.Unique[j.from.verdict.Kind] = true
		}
	}
	for _, t := range s.tables {
		for _, c := range t.columns {
			if kind := c.verdict.Kind; c.limit > 0 && (kind.Grows() || c.joined) && (rules.Limit[kind] == 0 || c.limit < rules.Limit[kind]) {
				rules.Limit[kind] = c.limit
			}
			if c.verdict.Kind == privacy.Mail && c.limit > 0 && c.limit < shortestMail {
				return rules, deploy.Hint(fmt.Errorf("%w: %s has room for %d characters, and an invented address needs %d", deploy.ErrRefused, c.label(), c.limit, shortestMail),
					"make the column longer, or say token")
			}
		}
	}
	return rules, nil
}

// shortestMail has 8 letters that tell addresses apart, and @xx.example.
const shortestMail = 19

// plan of an index asks the kinds to keep values apart. Where one of its columns may not be kept apart, rows that differ in nothing else would become
// one, and the index could not be built: unless the others are unique by themselves.
func (u unique) plan(all []unique, rules privacy.Rules) error {
	for _, c := range u.columns {
		if u.apart(c) || slices.ContainsFunc(all, func(o unique) bool { return o.table == u.table && o.within(u) }) {
			continue
		}
		return deploy.Hint(fmt.Errorf("%w: the index %s wants different values, and what %s becomes as %s may be the same for two", deploy.ErrRefused, u.name, c.label(), c.verdict.Kind),
			fmt.Sprintf("name a kind that keeps values apart (%s):\npeople:\n  %s: %s", strings.Join(c.distinctKinds(), ", "), c.label(), c.distinctKinds()[0]))
	}
	for _, c := range u.columns {
		if c.verdict.Kind != privacy.Keep {
			rules.Unique[c.verdict.Kind] = true
		}
	}
	return nil
}

// apart reports whether two values of a column of the index stay two, or become nothing, which is different from itself.
func (u unique) apart(c *column) bool {
	switch c.verdict.Kind { //nolint:exhaustive // of the others their kind says it
	case privacy.Drop:
		return !c.notNull && !u.nulls
	case privacy.JSON: // what an expression takes from a tree is for the index to show
		return u.part || !c.changed()
	}
	return c.verdict.Kind.Distinct()
}

// within reports whether u is unique already because o is, and stays so.
func (u unique) within(of unique) bool {
	return !u.part && len(u.columns) < len(of.columns) && !slices.ContainsFunc(u.columns, func(c *column) bool {
		return !u.apart(c) || c.verdict.Kind == privacy.Drop || !slices.Contains(of.columns, c)
	})
}

// distinctKinds are those that a unique column may be named.
func (c *column) distinctKinds() []string {
	var kinds []privacy.Kind
	for _, k := range []privacy.Kind{privacy.ID, privacy.Token, privacy.Username, privacy.Mail, privacy.Phone, privacy.IP, privacy.MAC, privacy.Card, privacy.Keep} {
		if c.takes(k) {
			kinds = append(kinds, k)
		}
	}
	return names(kinds)
}

// changed reports whether anything of the column is not what it was.
func (c *column) changed() bool {
	switch c.verdict.Kind { //nolint:exhaustive // all others change what is there
	case privacy.Keep:
		return false
	case privacy.JSON:
		for _, v := range c.paths {
			if v.Kind != privacy.Keep {
				return true
			}
		}
	}
	return true
}

func uniqueKinds(rules privacy.Rules) []privacy.Kind {
	var kinds []privacy.Kind
	for _, k := range privacy.Kinds() {
		if rules.Unique[k] && slices.Contains([]privacy.Kind{privacy.Phone, privacy.FirstName, privacy.LastName, privacy.Name, privacy.IP, privacy.City, privacy.Street}, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
