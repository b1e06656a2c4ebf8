package mask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
)

// What a column is taken for by its type alone, with a birthday or a mail in it: a type that is not known, or that holds others, stops the copy.
func TestTypes(t *testing.T) {
	from := of(t, "create extension hstore", "create extension citext", "create type mood as enum ('good', 'bad')", "create type person as (name text, mail text)", "create domain day as date", "create domain short as varchar(7)",
		"create domain shorter as short", "create domain moods as mood", "create type money3 as (x int)", "create type texts as range (subtype = text)", "create type days as range (subtype = day)",
		`create table hart (birthday date, zeitraum daterange, spans datemultirange, moments tstzrange, list daterange[], own days, words texts, years int4range, phone_range int8range, lebt_seit_geburtsdatum daterange,
			tree hstore, search tsvector, doc xml, bytes bytea, bits bit(3), varbits varbit, who person, people person[], three money3, path_of jsonpath, boxes box[],
			seen inet[], feeling mood, feelings mood[], dm moods, d day, ds day[], s shorter, ss shorter[], unused hstore, unused_range daterange)`,
		`insert into hart select b, daterange(b, null), datemultirange(daterange(b, null)), tstzrange(b, null), array[daterange(b, null)], days(b, null), texts('ada', 'eve'), int4range(1, n), int8range(1, n), daterange(b, 'infinity'),
			'mail=>x', 'ada:1', '<a>x@post.example.com</a>', '\x01', B'101', B'1', row('Ada', 'x@post.example.com')::person, array[row('Ada', 'x')]::person[], row(1)::money3, '$.a', array['(1,1),(0,0)'::box],
			array['192.0.2.7'::inet], 'good', '{good}', 'bad', b, array[b], 'a b', '{a b}', null, null from (select n, date '1980-05-17' + n as b from generate_series(2, 40) n) x`)
	found, err := New(Config{}).Find(within(t), from, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[privacy.Kind][]string{
		"":               {"zeitraum", "spans", "moments", "list", "own", "words", "phone_range", "tree", "search", "doc", "bytes", "bits", "varbits", "who", "people", "three", "path_of", "boxes", "s", "ss"},
		privacy.Keep:     {"years", "feeling", "feelings", "dm", "d", "ds", "unused", "unused_range"},
		privacy.IP:       {"seen"},
		privacy.Birthday: {"birthday", "lebt_seit_geburtsdatum"},
	}
	for _, c := range found.Columns {
		if name := strings.TrimPrefix(c.Column, "hart."); !slices.Contains(want[c.Kind], name) {
			t.Errorf("%s is taken for %q: %s", name, c.Kind, c.Why)
		}
	}
}

// Ranges that hold birthdays become as coarse as birthdays, and the check looks at their bounds.
func TestRanges(t *testing.T) {
	from := of(t, "create table hart (id int, birthday date, zeitraum daterange, spans datemultirange not null, list tstzrange[], leer daterange not null)",
		`insert into hart select n, b, daterange(b, case when n % 2 = 0 then b + 400 end), datemultirange(daterange(b, b + 3), daterange(b + 700, null)), array[tstzrange(b, 'infinity'), null, 'empty'], daterange(b, null)
			from (select n, date '1980-05-17' + n as b from generate_series(1, 40) n) x`)
	named := []deploy.PersonalColumn{{Column: "hart.leer", Kind: "drop"}}
	for _, column := range []string{"zeitraum", "spans", "list"} {
		named = append(named, deploy.PersonalColumn{Column: "hart." + column, Kind: "birthday"})
	}
	to := database(t)
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Named: named})
	copied := dial(t, to)
	none(t, copied, "hart where lower(zeitraum) <> birthday or to_char(birthday, 'MMDD') <> '0101' or to_char(upper(zeitraum), 'MMDD') <> '0101' or leer <> 'empty'",
		"hart where lower(spans) <> birthday + interval '2 years' or lower(list[1]) <> birthday or upper(list[1]) <> 'infinity' or list[2] is not null or list[3] <> 'empty'")
	same(t, dial(t, from), copied, "sum(date_part('year', lower(zeitraum))) from hart", "sum(date_part('year', upper(zeitraum))) from hart")
	for _, column := range []string{"hart.zeitraum", "hart.spans", "hart.list"} {
		c := New(Config{})
		c.spare = func(col *column_) bool { return col.label() == column }
		if _, err := c.Copy(within(t), deploy.MaskOrder{From: from, To: database(t), Named: named}); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), column) {
			t.Errorf("%s is left as it was: %v", column, err)
		}
	}
}

// The check finds a mail of a masked column in columns that nothing reads and that somebody has named to be kept.
func TestCheckLooksIntoWhatIsNotRead(t *testing.T) {
	from := of(t, "create extension hstore", "create type person as (name text, mail text)",
		"create table a (email text, tree hstore, search tsvector, doc xml, who person, list person[], data jsonb)", "insert into a (email) select 'p' || n || '@post.example.com' from generate_series(1, 9) n")
	conn := dial(t, from)
	to := database(t)
	for column, value := range map[string]string{"tree": "hstore('of', email)", "search": "to_tsvector('simple', 'see ' || email)", "doc": "('<a to=\"' || email || '\"/>')::xml", "who": "row('A B', email)::person",
		"list": "array[row('A B', email)]::person[]", "data": "jsonb_build_object('of', 'see ' || email)"} {
		execute(t, conn, fmt.Sprintf("update a set tree = null, search = null, doc = null, who = null, list = null, data = null; update a set %s = %s", column, value))
		_, err := New(Config{}).Copy(within(t), deploy.MaskOrder{From: from, To: to, Named: []deploy.PersonalColumn{{Column: "a." + column, Kind: "keep"}}})
		if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), "a."+column+" (9)") {
			t.Errorf("%s: %v", column, err)
		}
	}
}
