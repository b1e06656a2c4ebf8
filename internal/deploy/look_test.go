package deploy_test

import (
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What a copy can have been follows from what was counted around it, and from nothing where that began anew.
func TestWhatACopyCanHaveBeen(t *testing.T) {
	look := func(since string, tables ...deploy.TableLook) deploy.Look {
		return deploy.Look{Schema: "a", Since: since, Tables: tables}
	}
	orders := func(rows, inserted, deleted, file int64) deploy.TableLook {
		return deploy.TableLook{Name: "orders", Rows: rows, Inserted: inserted, Deleted: deleted, File: file}
	}
	for name, c := range map[string]struct {
		before, after, back deploy.Look
		says                string
	}{
		"as it was":                   {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), look("y", orders(5, 0, 0, 9)), ""},
		"one too few":                 {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), look("y", orders(4, 0, 0, 9)), "table orders has 4 rows, and had 5"},
		"one too many":                {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), look("y", orders(6, 0, 0, 9)), "table orders has 6 rows, and had 5"},
		"within what was written":     {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 8, 2, 1)), look("y", orders(3, 0, 0, 9)), ""},
		"beyond what was written":     {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 8, 2, 1)), look("y", orders(9, 0, 0, 9)), "table orders has 9 rows, and had 3 to 8"},
		"emptied meanwhile":           {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 2)), look("y", orders(0, 0, 0, 9)), ""},
		"the server was restarted":    {look("x", orders(5, 5, 0, 1)), look("z", orders(-1, 6, 0, 1)), look("y", orders(1, 0, 0, 9)), ""},
		"counters began anew":         {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 1, 0, 1)), look("y", orders(1, 0, 0, 9)), ""},
		"it may not be read":          {look("x", orders(-1, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), look("y", orders(1, 0, 0, 9)), ""},
		"it is not there":             {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), look("y"), "table orders is missing; it had 5 rows"},
		"it was dropped meanwhile":    {look("x", orders(5, 5, 0, 1)), look("x"), look("y"), ""},
		"another schema":              {look("x"), look("x"), deploy.Look{Schema: "b"}, "the schema is not the one that was there"},
		"it was changed in between":   {look("x"), deploy.Look{Schema: "b", Since: "x"}, deploy.Look{Schema: "b"}, ""},
		"no room for all in the look": {look("x", orders(5, 5, 0, 1)), look("x", orders(-1, 5, 0, 1)), deploy.Look{Schema: "a", More: 1}, ""},
	} {
		if says := strings.Join(deploy.Around{Before: c.before, After: c.after}.Differences(c.back), "; "); says != c.says {
			t.Errorf("%s: %q, want %q", name, says, c.says)
		}
	}
}
