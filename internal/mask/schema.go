package mask

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/privacy"
)

// schema is what of the catalog decides what becomes of rows.
type schema struct {
	tables    []*table
	joins     []join
	uniques   []unique
	sequences []string // quoted
}

type table struct {
	oid          uint32
	schema, name string
	partitioned  bool
	rows         int64 // as the server guesses
	columns      []*column
}

// column is one that can be written: generated ones are the server's.
type column struct {
	table    *table
	number   int16
	name     string
	typeName string // of an element, where it is an array
	kind     privacy.Type
	array    bool
	span     bool // ranges or multiranges: kind is what their bounds are
	notNull  bool
	limit    int // characters; 0: none
	comment  string
	key      bool // primary, or of a foreign key
	joined   bool // of a foreign key
	raw      bool // not masked by rule: own records of tools

	verdict privacy.Verdict
	named   bool
	paths   map[string]privacy.Verdict // of JSON
	namedAt map[string]bool
}

// join is one column of a foreign key.
type join struct {
	name     string
	from, to *column
}

// unique is an index whose rows must differ.
type unique struct {
	name    string
	table   uint32
	part    bool // of some rows, or of expressions
	nulls   bool // there may be one null only
	columns []*column
}

// label is the column as a file names it.
func (c *column) label() string {
	if c.table.schema == "public" {
		return c.table.name + "." + c.name
	}
	return c.table.schema + "." + c.table.name + "." + c.name
}

func (t *table) label() string {
	if t.schema == "public" {
		return t.name
	}
	return t.schema + "." + t.name
}

func (t *table) quoted() string  { return pgx.Identifier{t.schema, t.name}.Sanitize() }
func (c *column) quoted() string { return pgx.Identifier{c.name}.Sanitize() }

// from is the table as it is read: rows of tables that inherit from it are their own.
func (t *table) from() string {
	if t.partitioned {
		return t.quoted()
	}
	return "only " + t.quoted()
}

// ours leaves out what PostgreSQL, extensions and this package made; c is a row of pg_class and n its namespace.
const ours = `n.nspname !~ '^pg_' and n.nspname not in ('information_schema', '` + markSchema + `')
	and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`

const tablesSQL = `select c.oid, n.nspname, c.relname, c.relkind = 'p', greatest(c.reltuples, 0)::bigint
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' and ` + ours + ` order by 2, 3`

// A domain is what it is made of, also by way of another; an array is what its elements are, and a range what its bounds are (multiranges came with
// PostgreSQL 14, and so their column of pg_range). mod is a limit of the
// length that a domain has.
const columnsSQL = `with recursive base(oid, root, mod) as (select oid, oid, -1 from pg_type where typtype <> 'd'
		union all select d.oid, base.root, case when d.typtypmod > 0 then d.typtypmod else base.mod end from pg_type d join base on d.typtype = 'd' and d.typbasetype = base.oid)
	select a.attrelid, a.attnum, a.attname, e.typname, e.typtype::text, coalesce(s.typname, ''), b.typcategory = 'A' and b.typelem <> 0, a.attnotnull or t.typnotnull,
		case when e.typname in ('varchar', 'bpchar') then greatest(case when a.atttypmod > 0 then a.atttypmod when of_t.mod > 0 then of_t.mod else of_e.mod end - 4, 0) else 0 end,
		coalesce(col_description(a.attrelid, a.attnum), '')
	from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		join pg_type t on t.oid = a.atttypid
		join base of_t on of_t.oid = t.oid join pg_type b on b.oid = of_t.root
		join base of_e on of_e.oid = case when b.typcategory = 'A' and b.typelem <> 0 then b.typelem else b.oid end join pg_type e on e.oid = of_e.root
		left join pg_range r on e.oid::text in (r.rngtypid::text, to_jsonb(r)->>'rngmultitypid') left join base of_s on of_s.oid = r.rngsubtype left join pg_type s on s.oid = of_s.root
	where a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and c.relkind in ('r', 'p') and not c.relispartition and ` + ours + `
	order by a.attrelid, a.attnum`

const joinsSQL = `select k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey from pg_constraint k where k.contype = 'f' and k.conparentid = 0`

// The columns of an index are the first indnkeyatts of indkey (others are in it to be read alone), and those of its expressions are variables of their
// trees. Nulls are one since PostgreSQL 15 only.
const uniquesSQL = `select i.indexrelid::regclass::text, i.indrelid, i.indisprimary, i.indisexclusion or i.indpred is not null or i.indexprs is not null,
		coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false),
		array(select distinct k from (select unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
			union select (regexp_matches(i.indexprs::text, ':varattno (\d+)', 'g'))[1]::int2) x where k > 0)
	from pg_index i where i.indisunique or i.indisexclusion`

const sequencesSQL = `select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' and ` + ours

func readSchema(ctx context.Context, conn *pgx.Conn) (*schema, error) {
	s := &schema{}
	err := each(ctx, conn, tablesSQL, func(row pgx.CollectableRow) error {
		t := &table{}
		s.tables = append(s.tables, t)
		return row.Scan(&t.oid, &t.schema, &t.name, &t.partitioned, &t.rows)
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, conn, columnsSQL, func(row pgx.CollectableRow) error {
		c, kind, bound, of := &column{}, "", "", uint32(0)
		err := row.Scan(&of, &c.number, &c.name, &c.typeName, &kind, &bound, &c.array, &c.notNull, &c.limit, &c.comment)
		if t := s.table(of); t != nil {
			c.table, c.span, c.raw = t, bound != "", ownRecord(t)
			c.kind = typeOf(c.typeName, kind, bound)
			if c.array && c.typeName == "box" { // the one whose arrays have ; between elements
				c.kind = privacy.OtherType
			}
			t.columns = append(t.columns, c)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.readKeys(ctx, conn); err != nil {
		return nil, err
	}
	return s, each(ctx, conn, sequencesSQL, func(row pgx.CollectableRow) error {
		s.sequences = append(s.sequences, "")
		return row.Scan(&s.sequences[len(s.sequences)-1])
	})
}

func (s *schema) readKeys(ctx context.Context, conn *pgx.Conn) error {
	err := each(ctx, conn, joinsSQL, func(row pgx.CollectableRow) error {
		var name string
		var from, to uint32
		var fromKeys, toKeys []int16
		if err := row.Scan(&name, &from, &to, &fromKeys, &toKeys); err != nil {
			return err
		}
		for i := range fromKeys {
			j := join{name, s.column(from, fromKeys[i]), s.column(to, toKeys[i])}
			if j.from != nil && j.to != nil {
				j.from.key, j.to.key, j.from.joined, j.to.joined = true, true, true, true
				s.joins = append(s.joins, j)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, conn, uniquesSQL, func(row pgx.CollectableRow) error {
		var u unique
		var keys []int16
		var primary bool
		if err := row.Scan(&u.name, &u.table, &primary, &u.part, &u.nulls, &keys); err != nil {
			return err
		}
		for _, k := range keys {
			if c := s.column(u.table, k); c != nil {
				c.key = c.key || primary
				u.columns = append(u.columns, c)
			}
		}
		if len(u.columns) > 0 {
			s.uniques = append(s.uniques, u)
		}
		return nil
	})
}

func each(ctx context.Context, conn *pgx.Conn, sql string, do func(pgx.CollectableRow) error) error {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return told(ctx, "read the catalog", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, do(row) })
	return told(ctx, "read the catalog", err)
}

func (s *schema) table(oid uint32) *table {
	if i := slices.IndexFunc(s.tables, func(t *table) bool { return t.oid == oid }); i >= 0 {
		return s.tables[i]
	}
	return nil
}

func (s *schema) column(of uint32, number int16) *column {
	t := s.table(of)
	if t == nil {
		return nil
	}
	if i := slices.IndexFunc(t.columns, func(c *column) bool { return c.number == number }); i >= 0 {
		return t.columns[i]
	}
	return nil
}

// ownRecord tells the tables in which Lotse and other tools write which migrations have run: code, and none of people.
func ownRecord(t *table) bool {
	return t.schema == "lotse" || t.schema == "supabase_migrations" || slices.Contains([]string{"lotse_migrations", "schema_migrations", "goose_db_version",
		"_prisma_migrations", "atlas_schema_revisions", "__drizzle_migrations", "knex_migrations", "knex_migrations_lock"}, t.name)
}

// typeOf knows types by name; kind is pg_type.typtype, and bound the type of a range's bounds. What is not known here is OtherType: whoever
// knows what it holds has to say so.
func typeOf(name, kind, bound string) privacy.Type {
	switch kind {
	case "e":
		return privacy.PlainType
	case "r", "m":
		if of := typeOf(bound, "b", ""); slices.Contains([]privacy.Type{privacy.NumberType, privacy.DecimalType, privacy.DateType, privacy.TimeType}, of) {
			return of
		}
		return privacy.OtherType
	case "b":
	default:
		return privacy.OtherType
	}
	switch name {
	case "text", "varchar", "bpchar", "citext", "name":
		return privacy.TextType
	case "int2", "int4", "int8", "oid":
		return privacy.NumberType
	case "numeric", "float4", "float8":
		return privacy.DecimalType
	case "date":
		return privacy.DateType
	case "timestamp", "timestamptz":
		return privacy.TimeType
	case "bool", "uuid", "interval", "time", "timetz", "money", "char", "pg_lsn":
		return privacy.PlainType
	case "inet", "cidr":
		return privacy.AddressType
	case "macaddr", "macaddr8":
		return privacy.MACType
	case "point", "lseg", "path", "box", "polygon", "circle", "geometry", "geography":
		return privacy.PointType
	case "json", "jsonb":
		return privacy.JSONType
	}
	return privacy.OtherType
}
