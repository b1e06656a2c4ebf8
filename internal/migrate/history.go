package migrate

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// history is what another tool has written down of what it applied.
type history struct {
	tool     string
	versions map[int64]bool
	unclean  string // why it cannot be taken over; empty: it can
}

// source is where a tool writes it down.
type source struct {
	tool   string
	schema string // empty: those in which names are looked up
	table  string
	has    string // a column by which the table is told from one of the same name
	hasNot string
	query  string // of (number, applied, note) with %s for the table
}

// sources are the tables of the tools as their manuals or sources describe them.
var sources = []source{
	{"supabase", "supabase_migrations", "schema_migrations", "version", "", "select version::text, true, '' from %s"},
	{"atlas", "atlas_schema_revisions", "atlas_schema_revisions", "version", "", atlasQuery},
	{"atlas", "", "atlas_schema_revisions", "version", "", atlasQuery},
	{"goose", "", "goose_db_version", "version_id", "", "select distinct on (version_id) version_id::text, is_applied, '' from %s order by version_id, id desc"},
	// One row: everything up to this number.
	{"golang-migrate", "", "schema_migrations", "dirty", "", "select version::text, true, case when dirty then 'dirty' else '' end from %s"},
	{"dbmate", "", "schema_migrations", "version", "dirty", "select version::text, true, '' from %s"},
	{"prisma", "", "_prisma_migrations", "migration_name", "", `select migration_name::text, finished_at is not null and rolled_back_at is null,
		case when finished_at is null and rolled_back_at is null then 'broken off' else '' end from %s`},
}

// A revision with fewer statements applied than it has was broken off; a baseline has none and stands for what was there.
const atlasQuery = "select version::text, true, case when applied < total then 'broken off' else '' end from %s"

// histories looks for what other tools have applied, and returns what fits the folder best; the zero history where nothing does.
func histories(ctx context.Context, tx pgx.Tx, folder []file) (history, error) {
	var best history
	most := 0
	for _, s := range sources {
		table, err := s.find(ctx, tx)
		if err != nil {
			return best, err
		}
		if table == "" {
			continue
		}
		h, err := s.read(ctx, tx, table)
		if err != nil {
			return best, err
		}
		if s.tool == "golang-migrate" {
			h.upTo(folder)
		}
		if n := h.matches(folder); n > most {
			best, most = h, n
		}
	}
	if best.unclean != "" {
		return best, deploy.Hint(fmt.Errorf("%w: %s has left the database half migrated: %s", deploy.ErrMigration, best.tool, best.unclean), "mend it with "+best.tool+" first")
	}
	return best, nil
}

func (h history) matches(folder []file) (n int) {
	for _, f := range folder {
		if h.versions[f.version] {
			n++
		}
	}
	return n
}

// upTo adds every file before the one that the table names.
func (h history) upTo(folder []file) {
	for last := range maps.Clone(h.versions) {
		for _, f := range folder {
			if f.version < last {
				h.versions[f.version] = true
			}
		}
	}
}

func (s source) find(ctx context.Context, tx pgx.Tx) (string, error) {
	rows, err := tx.Query(ctx, `select n.nspname, array_agg(a.attname::text) from pg_catalog.pg_class c
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where c.relkind in ('r', 'p') and c.relname = $2 and (n.nspname = $1 or $1 = '' and n.nspname = any (current_schemas(false)))
		group by n.nspname order by n.nspname`, s.schema, s.table)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var schema string
		var columns []string
		if err := rows.Scan(&schema, &columns); err != nil {
			return "", err
		}
		if slices.Contains(columns, s.has) && !slices.Contains(columns, s.hasNot) {
			return pgx.Identifier{schema, s.table}.Sanitize(), nil
		}
	}
	return "", rows.Err()
}

var leading = regexp.MustCompile(`^\d{1,18}`)

func (s source) read(ctx context.Context, tx pgx.Tx, table string) (history, error) {
	h := history{tool: s.tool, versions: map[int64]bool{}}
	rows, err := tx.Query(ctx, fmt.Sprintf(s.query, table))
	if err != nil {
		return h, err
	}
	defer rows.Close()
	for rows.Next() {
		var number, note string
		var applied bool
		if err := rows.Scan(&number, &applied, &note); err != nil {
			return h, err
		}
		if note != "" {
			h.unclean = fmt.Sprintf("number %s is %s", leading.FindString(number), note)
		}
		version, err := strconv.ParseInt(leading.FindString(number), 10, 64)
		if err != nil || !applied {
			continue // the tool's own rows, such as .atlas_cloud_identifier
		}
		if s.tool == "goose" && version == 0 {
			continue // the first row of every goose table
		}
		h.versions[version] = true
	}
	return h, rows.Err()
}
