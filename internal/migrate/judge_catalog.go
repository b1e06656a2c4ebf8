package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// catalog is what of a schema other code can rely on, at one moment. Objects of extensions are left out: the extension stands for them.
type catalog struct {
	Schemas     []schema     `json:"schemas"`
	Relations   []relation   `json:"relations"`
	Columns     []column     `json:"columns"`
	Constraints []constraint `json:"constraints"`
	Triggers    []trigger    `json:"triggers"`
	Policies    []policy     `json:"policies"`
	Functions   []function   `json:"functions"`
	Types       []datatype   `json:"types"`
	Extensions  []string     `json:"extensions"`
	Publication []string     `json:"publications"`

	byOID   map[int64]*relation
	columns map[int64][]column
}

type schema struct {
	OID   int64    `json:"oid"`
	Name  string   `json:"name"`
	Owner string   `json:"owner"`
	ACL   []string `json:"acl"`
}

type relation struct {
	OID     int64    `json:"oid"`
	Name    string   `json:"name"` // with its schema, but for public
	Schema  string   `json:"schema"`
	Kind    string   `json:"kind"` // as pg_class.relkind
	File    int64    `json:"file"`
	Stays   string   `json:"stays"` // as relpersistence
	RLS     bool     `json:"rls"`
	Forced  bool     `json:"forced"`
	Owner   string   `json:"owner"`
	ACL     []string `json:"acl"`
	Of      int64    `json:"of"` // the table of an index; the parent of a partition
	Unique  bool     `json:"unique"`
	Primary bool     `json:"primary"`
	Key     []int    `json:"key"` // of an index: numbers of columns, 0 for an expression
	Def     string   `json:"def"` // of a view, an index, a sequence
}

func (r relation) table() bool { return slices.Contains([]string{"r", "p", "m", "f"}, r.Kind) }
func (r relation) view() bool  { return r.Kind == "v" || r.Kind == "m" }
func (r relation) index() bool { return r.Kind == "i" || r.Kind == "I" }

type column struct {
	Of        int64  `json:"of"`
	Number    int    `json:"number"`
	Name      string `json:"name"`
	Type      string `json:"type"`
	NotNull   bool   `json:"notnull"`
	Default   string `json:"def"`
	Identity  string `json:"identity"`
	Generated string `json:"generated"`
}

// required reports whether an INSERT must name the column.
func (k column) required() bool {
	return k.NotNull && k.Default == "" && k.Identity == "" && k.Generated == ""
}

type constraint struct {
	OID   int64  `json:"oid"`
	Of    int64  `json:"of"`
	Name  string `json:"name"`
	Kind  string `json:"kind"` // as contype
	Valid bool   `json:"valid"`
	Def   string `json:"def"` // without NOT VALID
	Index int64  `json:"index"`
	Key   []int  `json:"key"` // numbers of columns
}

type trigger struct {
	Of      int64  `json:"of"`
	Name    string `json:"name"`
	Enabled string `json:"enabled"`
	Def     string `json:"def"`
}

type policy struct {
	Of         int64  `json:"of"`
	Name       string `json:"name"`
	Permissive bool   `json:"permissive"`
	Def        string `json:"def"`
}

type function struct {
	OID    int64    `json:"oid"`
	Name   string   `json:"name"` // with its schema, but for public, and its arguments
	Body   string   `json:"body"` // digest
	Result string   `json:"result"`
	ACL    []string `json:"acl"`
}

type datatype struct {
	OID    int64    `json:"oid"`
	Name   string   `json:"name"`
	Labels []string `json:"labels"` // of an enum, in their order
}

// catalogQuery asks with an empty search_path, so that every name that PostgreSQL writes is the same whatever a file has set.
const catalogQuery = `
with ns as (select * from pg_namespace where nspname not in ('pg_catalog', 'information_schema', 'lotse', 'pg_toast') and nspname not like 'pg\_temp%' and nspname not like 'pg\_toast\_temp%'),
grants as (select x.kind, x.oid, array_agg(distinct format('%s to %s', a.privilege_type, case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee) end)) as acl
	from (select 'r' as kind, oid, coalesce(relacl, acldefault(case relkind when 'S' then 's'::"char" else 'r'::"char" end, relowner)) as acl from pg_class where relnamespace in (select oid from ns) and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
		union all select 'n', oid, coalesce(nspacl, acldefault('n', nspowner)) from ns
		union all select 'f', oid, coalesce(proacl, acldefault('f', proowner)) from pg_proc where pronamespace in (select oid from ns)) x, aclexplode(x.acl) a group by 1, 2),
member as (select classid, objid from pg_depend where deptype = 'e'),
named as (select c.oid, c.relname, n.nspname, case n.nspname when 'public' then c.relname::text else n.nspname || '.' || c.relname end as name
	from pg_class c join ns n on n.oid = c.relnamespace where not exists (select from member where classid = 'pg_class'::regclass and objid = c.oid))
select json_build_object(
'schemas', (select json_agg(json_build_object('oid', n.oid::int8, 'name', nspname, 'owner', pg_get_userbyid(nspowner), 'acl', g.acl) order by nspname)
	from ns n left join grants g on g.kind = 'n' and g.oid = n.oid),
'relations', (select json_agg(json_build_object('oid', c.oid::int8, 'name', named.name, 'schema', named.nspname, 'kind', c.relkind, 'file', c.relfilenode::int8, 'stays', c.relpersistence, 'rls', c.relrowsecurity,
		'forced', c.relforcerowsecurity, 'owner', pg_get_userbyid(c.relowner), 'acl', g.acl, 'of', coalesce(i.indrelid, h.inhparent)::int8, 'unique', coalesce(i.indisunique, false), 'primary', coalesce(i.indisprimary, false), 'key', i.indkey::int[],
		'def', case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) when c.relkind in ('i', 'I') then pg_get_indexdef(c.oid)
			when c.relkind = 'S' then (select format('%s by %s from %s to %s %s', s.seqtypid::regtype, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle) from pg_sequence s where s.seqrelid = c.oid) end) order by named.name)
	from pg_class c join named on named.oid = c.oid left join pg_index i on i.indexrelid = c.oid left join pg_inherits h on h.inhrelid = c.oid and c.relispartition
	left join grants g on g.kind = 'r' and g.oid = c.oid where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')),
'columns', (select json_agg(json_build_object('of', a.attrelid::int8, 'number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'notnull', a.attnotnull, 'def', pg_get_expr(d.adbin, d.adrelid),
		'identity', a.attidentity, 'generated', a.attgenerated) order by a.attrelid, a.attnum)
	from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm', 'f') join named on named.oid = c.oid left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
	where a.attnum > 0 and not a.attisdropped),
'constraints', (select json_agg(json_build_object('oid', k.oid::int8, 'of', k.conrelid::int8, 'name', k.conname, 'kind', k.contype, 'valid', k.convalidated, 'def', replace(pg_get_constraintdef(k.oid), ' NOT VALID', ''), 'index', k.conindid::int8, 'key', k.conkey) order by k.conname)
	from pg_constraint k where (k.conrelid in (select oid from named) or k.contypid <> 0 and k.connamespace in (select oid from ns)) and k.contype in ('c', 'f', 'p', 'u', 'x') and k.conparentid = 0),
'triggers', (select json_agg(json_build_object('of', t.tgrelid::int8, 'name', t.tgname, 'enabled', t.tgenabled, 'def', pg_get_triggerdef(t.oid)) order by t.tgname) from pg_trigger t where not t.tgisinternal and t.tgrelid in (select oid from named)),
'policies', (select json_agg(json_build_object('of', p.polrelid::int8, 'name', p.polname, 'permissive', p.polpermissive,
		'def', format('%s %s %s %s', p.polcmd, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))) order by p.polname) from pg_policy p where p.polrelid in (select oid from named)),
'functions', (select json_agg(json_build_object('oid', p.oid::int8, 'name', case n.nspname when 'public' then '' else n.nspname || '.' end || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
		'body', md5(concat(p.prosrc, p.prosqlbody::text, p.provolatile, p.prosecdef, p.proconfig::text)), 'result', pg_get_function_result(p.oid), 'acl', g.acl) order by p.oid)
	from pg_proc p join ns n on n.oid = p.pronamespace left join grants g on g.kind = 'f' and g.oid = p.oid where not exists (select from member where classid = 'pg_proc'::regclass and objid = p.oid)),
'types', (select json_agg(json_build_object('oid', t.oid::int8, 'name', case n.nspname when 'public' then '' else n.nspname || '.' end || t.typname,
		'labels', (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)) order by t.oid)
	from pg_type t join ns n on n.oid = t.typnamespace where t.typtype in ('e', 'd') and not exists (select from member where classid = 'pg_type'::regclass and objid = t.oid)),
'extensions', (select json_agg(extname order by extname) from pg_extension),
'publications', (select json_agg(pubname order by pubname) from pg_publication))`

// lookAt reads the catalog over a connection that may be inside a transaction, and leaves its search_path as it was.
func lookAt(ctx context.Context, conn *pgx.Conn) (*catalog, error) {
	inside := conn.PgConn().TxStatus() == 'T'
	var before string
	var text []byte
	if err := conn.QueryRow(ctx, "select current_setting('search_path')").Scan(&before); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "select set_config('search_path', 'pg_catalog', $1)", inside); err != nil {
		return nil, err
	}
	if err := conn.QueryRow(ctx, catalogQuery).Scan(&text); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "select set_config('search_path', $1, $2)", before, inside); err != nil {
		return nil, err
	}
	c := &catalog{byOID: map[int64]*relation{}, columns: map[int64][]column{}}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, err
	}
	for i := range c.Relations {
		c.byOID[c.Relations[i].OID] = &c.Relations[i]
	}
	for _, k := range c.Columns {
		c.columns[k.Of] = append(c.columns[k.Of], k)
	}
	return c, nil
}

// named is the relation of a name, or nil.
func (c *catalog) named(name string) *relation {
	i := slices.IndexFunc(c.Relations, func(r relation) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Relations[i]
}

// nameOf is the name of the relation with this number, or "".
func (c *catalog) nameOf(oid int64) string {
	if r := c.byOID[oid]; r != nil {
		return r.Name
	}
	return ""
}

// same reports whether two schemas are the same but for numbers and files.
func (c *catalog) same(other *catalog) bool { return maps.Equal(c.described(), other.described()) }

// kinds of relations in words, by pg_class.relkind.
var kinds = map[string]string{"r": "table", "p": "table", "m": "materialized view", "f": "foreign table", "v": "view", "i": "index", "I": "index", "S": "sequence"}

// described is what there is by its kind and name, and how.
func (c *catalog) described() map[string]string {
	all := map[string]string{}
	for _, s := range c.Schemas {
		all["schema "+s.Name] = fmt.Sprint(s.Owner, s.ACL)
	}
	for _, r := range c.Relations {
		all[kinds[r.Kind]+" "+r.Name] = fmt.Sprint(r.Stays, r.RLS, r.Forced, r.Owner, r.ACL, c.nameOf(r.Of), r.Unique, r.Primary, r.Def)
		for _, k := range c.columns[r.OID] {
			k.Of, k.Number = 0, 0
			all["column "+r.Name+"."+k.Name] = fmt.Sprintf("%+v", k)
		}
	}
	for _, k := range c.Constraints {
		all["constraint "+c.nameOf(k.Of)+"."+k.Name] = fmt.Sprint(k.Kind, k.Valid, k.Def)
	}
	for _, t := range c.Triggers {
		all["trigger "+c.nameOf(t.Of)+"."+t.Name] = t.Enabled + t.Def
	}
	for _, p := range c.Policies {
		all["policy "+c.nameOf(p.Of)+"."+p.Name] = fmt.Sprint(p.Permissive, p.Def)
	}
	for _, f := range c.Functions {
		all["function "+f.Name] = fmt.Sprint(f.Body, f.Result, f.ACL)
	}
	for _, t := range c.Types {
		all["type "+t.Name] = fmt.Sprint(t.Labels)
	}
	for _, e := range c.Extensions {
		all["extension "+e] = ""
	}
	for _, p := range c.Publication {
		all["publication "+p] = ""
	}
	return all
}
