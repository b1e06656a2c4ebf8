package migrate

import (
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// rule is one thing that a migration can do to the code that runs already.
type rule struct {
	name   string
	class  deploy.MigrationClass
	reason string
	safer  string
}

const (
	expand    = deploy.Expand
	contract  = deploy.Contract
	dangerous = deploy.Dangerous
)

const twoReleases = "first a release that does not use it; the next one takes it away"

// rules are all that Lotse knows, in the order of docs/migrations.md. What cannot be told from what a statement leaves in the catalog, in
// pg_locks or in a file of a table is read from its words.
var rules = []rule{
	// A long lock or a rewrite: by execution. They are dangerous where the table is large.
	{"rewrite-table", dangerous, "every row is written anew, and nobody reads or writes the table until that is done", "add a new column or table beside it, fill it in batches, and change over in a later release"},
	{"build-index", dangerous, "the whole table is read while nobody can write to it", "CREATE INDEX CONCURRENTLY, in a file of its own"},
	{"build-unique", dangerous, "its index is built while nobody reads or writes the table", "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, then ADD CONSTRAINT … USING INDEX in the next"},
	{"check-rows", dangerous, "every row is checked while nobody reads or writes the table", "add the constraint as NOT VALID, then VALIDATE CONSTRAINT in a file of its own, which lets others work"},
	{"check-not-null", dangerous, "every row is looked at while nobody reads or writes the table", "CHECK (… IS NOT NULL) NOT VALID, in the next file VALIDATE CONSTRAINT, in the next SET NOT NULL, which then looks at no row; then drop the check"},
	{"check-references", dangerous, "every row is looked up while nobody can write to either table", "add the foreign key as NOT VALID, then VALIDATE CONSTRAINT in a file of its own"},
	{"rebuild-index", dangerous, "the index is built anew while nobody can write to the table", "REINDEX … CONCURRENTLY, in a file of its own"},
	{"refresh-view", dangerous, "nobody reads the materialized view until its query is done", "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on it; or refresh it by a job"},
	{"work-under-lock", dangerous, "rows are read or written while a lock of the same file keeps others from a table", "put what needs the lock and what takes its time into two files: each is a transaction of its own"},
	{"lock-table", dangerous, "the lock is held until the file has ended", "leave it out: PostgreSQL takes the locks that it needs"},
	{"update-all-rows", dangerous, "every row is locked and written anew in one transaction", "UPDATE in batches, by a job or by files with a range each"},

	// Data that is gone, or open.
	{"truncate", dangerous, "all rows are gone", "delete what is not needed by its condition, or drop the table when no release uses it any more"},
	{"delete-all-rows", dangerous, "all rows are gone", "say which, with WHERE"},
	{"recreate-table", dangerous, "the table is dropped with its rows, and another takes its name", "change the table that is there, or give the new one a name of its own"},
	{"recreate-column", dangerous, "the column is dropped with its values, and another takes its name", "give the new one a name of its own, fill it, and drop the old one in a later release"},
	{"set-unlogged", dangerous, "its rows are gone after a crash, and are in no replica", "keep it logged; data that may go can have a table of its own"},
	{"disable-rls", dangerous, "its policies hold no longer: whoever may read the table reads every row", "change the policies instead"},
	{"drop-database", dangerous, "a database and all its data are gone", "let a person do that"},
	{"add-required-column", dangerous, "it fails where the table has rows, and the old code's INSERT does not know the column", "add it with a DEFAULT, or without NOT NULL"},
	{"not-judged", dangerous, "it could not be tried", "let it run on a clone of the database by hand"},

	// What old code may need and finds no more.
	{"drop-table", contract, "the old code reads or writes it", twoReleases},
	{"drop-column", contract, "the old code names it, also by SELECT * and in INSERT", twoReleases},
	{"drop-view", contract, "the old code reads it", twoReleases},
	{"drop-schema", contract, "the old code names what is in it", twoReleases},
	{"drop-function", contract, "the old code calls it", twoReleases},
	{"drop-type", contract, "the old code casts to it", twoReleases},
	{"drop-sequence", contract, "the old code draws numbers from it", twoReleases},
	{"drop-extension", contract, "its functions and types are gone", twoReleases},
	{"drop-publication", contract, "who follows the tables hears no more of them", twoReleases},
	{"drop-trigger", contract, "what it did to the old code's writes is done no more", twoReleases},
	{"drop-policy", contract, "rows that it let the old code see are hidden", "add the new policy first, and drop the old one a release later"},
	{"drop-default", contract, "the old code's INSERT leaves the column out", "keep the default as long as old code writes"},
	{"drop-unique", contract, "the old code's ON CONFLICT names what it was unique by, and duplicates come in", twoReleases},
	{"rename-table", contract, "the old code knows the old name, and new code does not start with it", "a view under the old name in the same file: the old code goes on through it; or a new table, written by both releases"},
	{"rename-column", contract, "the old code knows the old name", "add a column of the new name, write both, fill it, read the new one; drop the old one a release later"},
	{"rename-schema", contract, "the old code knows the old name", "keep the name"},
	{"rename-enum-value", contract, "the old code writes and compares with the old one", "add the new value, and leave the old one"},
	{"rename-constraint", contract, "the old code's ON CONFLICT ON CONSTRAINT knows the old name", "keep the name"},
	{"move-table", contract, "the old code finds it in the old schema alone", "a view in the old schema, in the same file"},
	{"change-type", contract, "values may not fit, and the old code reads and compares them as the old type", "add a column of the new type, write both, fill it, read the new one; drop the old one a release later"},
	{"change-function", contract, "the old code gets another kind of result", "give the new function a name of its own"},
	{"change-view", contract, "the old code reads columns that are gone, or are of another type", "CREATE OR REPLACE VIEW with the new columns at the end"},
	{"change-identity", contract, "the old code's INSERT gives a value of its own, which is refused", "GENERATED BY DEFAULT AS IDENTITY"},
	{"change-owner", contract, "the role of the old code may lose its rights", "GRANT what is needed, and leave the owner"},
	{"change-policy", contract, "the old code sees and writes other rows than before", "add a policy beside it, and drop the old one a release later"},
	{"revoke", contract, "the old code may not do any more what it did", twoReleases},
	{"enable-rls", contract, "the old code sees only the rows that a policy lets it see, and none without one", "write the policies first, and try them with the role of the app"},
	{"add-restrictive-policy", contract, "the old code sees fewer rows", "let a release that expects it serve first"},
	{"detach-partition", contract, "its rows are no longer in the table that the old code reads", "DETACH PARTITION … CONCURRENTLY, when no release reads them there"},
	{"set-not-null", contract, "the old code may still write NULL", "a release that always writes it first"},
	{"add-check", contract, "the old code's writes are checked by it", "a release whose writes keep it first"},
	{"add-unique", contract, "the old code's writes may repeat a value", "a release whose writes keep it first"},
	{"add-foreign-key", contract, "the old code may write what refers to nothing", "a release whose writes keep it first"},

	// What is told, and runs.
	{"drop-not-null", expand, "the old code may meet NULL once the new one writes it", ""},
	{"change-default", expand, "the old code's INSERT gets the new default", ""},
	{"drop-index", expand, "queries that used it read the whole table from now on", "DROP INDEX CONCURRENTLY waits for nobody's queries"},
	{"drop-constraint", expand, "it is checked no more", ""},
	{"add-enum-value", expand, "the old code may meet the new value", ""},
	{"add-trigger", expand, "it runs in the old code's writes too", ""},
	{"change-trigger", expand, "it works otherwise in the old code's writes too", ""},
	{"replace-function", expand, "the old code calls the new body", ""},
	{"replace-view", expand, "the old code reads the new query", ""},
	{"change-sequence", expand, "the old code draws its numbers from it too", ""},
	{"view-for-table", expand, "a view has taken the table's name, with the same columns", ""},
	{"widen-type", expand, "every value of before fits", ""},
}

// ruleOf is the rule of a name; there is one.
func ruleOf(name string) rule {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.name == name })
	if i < 0 {
		return rule{name: name, class: dangerous, reason: "it is not known what it does"}
	}
	return rules[i]
}

// finding is a rule that something was found by.
type finding struct {
	rule string
	on   string
}
