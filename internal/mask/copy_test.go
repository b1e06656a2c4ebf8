package mask

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/secret"
)

func mustCopy(t *testing.T, c *Copier, order deploy.MaskOrder) deploy.MaskReport {
	t.Helper()
	report, err := c.Copy(within(t), order)
	if err != nil {
		t.Fatalf("%v (%s)", err, deploy.HintOf(err))
	}
	return report
}

// The rows of an app such as Whatsgonow's: as many as before, unique, joined, in form, of their country, and of nobody.
func TestCopy(t *testing.T) {
	users := 5_000
	if os.Getenv("LOTSE_PROVE") != "" {
		users = 1_000_000
	}
	from, to := app(t, users), database(t)
	before := digest(t, from)
	report := mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Named: named(), Key: secret.New("one key, so that chance is the same each time")})
	t.Logf("%d users: %d rows of %d tables, %.0f rows/s, %v in all; %d originals looked for among %d values", users, report.Rows, report.Tables, report.Rate(), report.Took, report.Checked, report.Looked)
	if digest(t, from) != before {
		t.Error("the source is not as it was")
	}
	source, copied := dial(t, from), dial(t, to)
	same(t, source, copied, "count(*) from users", "count(*) from drivers", "count(*) from transports_new", "count(*) from messages", "count(*) from payments", "count(*) from logins",
		"sum(price) from transports", "count(distinct ort) from users", "count(distinct first_name) from users", "count(*) from towns", "sum(people) from towns",
		"count(*) from users where phone is null", "count(distinct lower(email)) from users", "max(id) from drivers", "string_agg(distinct substr(plz, 1, 2), '' order by substr(plz, 1, 2)) from users",
		"count(*) from logins l join users u on lower(u.email) = lower(l.email)", "count(*) from transports t join users u on u.email = t.contact_email", "count(*) from messages m join users u on u.email = m.from_mail",
		"count(*) from payments p join users u on u.display_name = p.account_holder and u.id = p.user_id", "count(*) from users where display_name = first_name || ' ' || last_name",
		"count(*) from users where initials = left(first_name, 1) || left(last_name, 1)", "count(*) from users where phone like '+49 1%'", "count(*) from payments where iban like 'DE%'",
		"sum(date_part('year', birthday)) from users", "count(*) from users where profile->'contact'->>'phone' like '+48 6%'", "sum((profile->>'rating')::int) from users",
		"sum(cardinality(phones)) from users", "count(*) from users where phones[2] is null", "count(*) from pg_policies", "count(*) from pg_trigger where not tgisinternal", "relrowsecurity from pg_class where relname = 'users'",
		"nextval('transports_id_seq')", "nextval(pg_get_serial_sequence('drivers', 'id'))", "sum(length(body)) from messages where body like '%' and from_mail is null")
	none(t, copied, "payments where (substr(iban, 5) || '1314' || substr(iban, 3, 2))::numeric % 97 <> 1 or length(iban) <> 22", "users where email !~* '^[a-z0-9.]+@[a-z0-9]+\\.example$'",
		"users where profile->'contact'->>'email' !~ '\\.example$'", "users where length(password_hash) <> 60 or password_hash !~ '^\\$2b\\$10\\$[0-9a-f]{53}$'", "users where not last_ip << '240.0.0.0/4'",
		"users where phone !~ '^\\+49 17\\d \\d+$' or length(translate(phone, '+ ', '')) <> 15", "transports where abholadresse !~ '^\\S+ \\d+, \\d{2}000 \\S+$'", "drivers where length(steuer_id) <> 11 or kennzeichen !~ '^[A-Z]-[A-Z]{2} \\d{1,4}$'",
		"pg_namespace where nspname = 'lotse_copy'")
	if text, _ := json.Marshal(report); regexp.MustCompile(`@|\d\.\d{3,}|Vor[a-j]`).Match(text) || !slices.Equal(report.Unique, []privacy.Kind{privacy.Phone}) {
		t.Errorf("the report: %s", text)
	}
}

// same asks both databases.
func same(t *testing.T, a, b *pgx.Conn, questions ...string) {
	t.Helper()
	for _, q := range questions {
		if x, y := ask[any](t, a, "select ("+strings.Replace(q, " from ", ")::text from ", 1)+ifNoFrom(q)), ask[any](t, b, "select ("+strings.Replace(q, " from ", ")::text from ", 1)+ifNoFrom(q)); x != y {
			t.Errorf("%s: %v in the source, %v in the copy", q, x, y)
		}
	}
}

func ifNoFrom(q string) string {
	if strings.Contains(q, " from ") {
		return ""
	}
	return ")::text"
}

func none(t *testing.T, conn *pgx.Conn, tables ...string) {
	t.Helper()
	for _, of := range tables {
		if n := ask[int](t, conn, "select count(*) from "+of); n != 0 {
			t.Errorf("%d %s", n, of)
		}
	}
}

// digest is of all rows of users, and of what tables there are.
func digest(t *testing.T, dsn secret.Text) string {
	t.Helper()
	return ask[string](t, dial(t, dsn), "select (select sum(hashtext(u::text))::text from users u) || (select count(*) from pg_class)")
}

// A value becomes the same with the same key, and another with a new one.
func TestKeys(t *testing.T) {
	from := of(t, "create table users (email text primary key)", "insert into users select 'p' || n || '@post.example.com' from generate_series(1, 50) n")
	mails := func(key secret.Text) string {
		to := database(t)
		mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Key: key})
		return ask[string](t, dial(t, to), "select string_agg(email, ' ' order by email) from users")
	}
	if once, again := mails(secret.New("k")), mails(secret.New("k")); once != again {
		t.Error("two copies with one key differ")
	}
	if once, again := mails(secret.Text{}), mails(secret.Text{}); once == again {
		t.Error("two copies without a key have the same one")
	}
}

// With the masking of one column left out, the check is red and names it, whatever the column is.
func TestCheckFindsWhatWasLeft(t *testing.T) {
	from := app(t, 400)
	columns := []string{"users.email", "users.profile", "users.lat", "payments.iban"}
	if os.Getenv("LOTSE_PROVE") != "" {
		columns = append(columns, "messages.body", "users.phones", "users.birthday", "users.first_name", "users.last_name", "users.display_name", "users.phone", "users.password_hash", "users.street", "users.plz", "users.ort", "users.last_ip", "drivers.steuer_id",
			"drivers.kennzeichen", "drivers.home", "drivers.seen_mac", "transports.title", "transports.beschreibung", "transports.abholadresse", "transports.contact_email", "payments.bic", "payments.account_holder", "logins.email", "logins.session_token", "logins.user_agent")
	}
	to := database(t)
	for _, column := range columns {
		c := New(Config{})
		c.spare = func(col *column_) bool { return col.label() == column }
		_, err := c.Copy(within(t), deploy.MaskOrder{From: from, To: to, Named: named()})
		if column == "users.email" || column == "messages.from_mail" { // its joins are broken before that
			if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "messages_from_mail_fkey") {
				t.Errorf("%s: %v", column, err)
			}
			continue
		}
		if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), column) {
			t.Errorf("%s is left as it was: %v", column, err)
		}
	}
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Named: named()}) // what a refused copy leaves is in nobody's way
}

type column_ = column

// What must be known before anything is copied.
func TestRefused(t *testing.T) {
	people := "create table users (id int primary key, email text unique, note text, code text, name varchar(20), doc bytea)"
	to := database(t)
	for what, c := range map[string]struct {
		sql   []string
		named []deploy.PersonalColumn
		is    error
		says  []string // in the error and its hint
	}{
		"a column that tells nothing": {[]string{people, "insert into users (id, code) select n, 'Xy ' || n from generate_series(1, 20) n"}, nil, deploy.ErrRefused,
			[]string{"users.code", "people:\n  users.code: text", "neither its name nor 20 values tell"}},
		"bytes": {[]string{people, "insert into users values (1, null, null, null, null, '\\x00')"}, nil, deploy.ErrRefused, []string{"users.doc"}},
		"a path that tells nothing": {[]string{`create table t (data jsonb)`, `insert into t select jsonb_build_object('a', jsonb_build_object('code', 'Xy ' || n)) from generate_series(1, 20) n`}, nil,
			deploy.ErrRefused, []string{"t.data/a/code: text"}},
		"a name of no column": {[]string{people}, []deploy.PersonalColumn{{Column: "users.mail", Kind: "mail"}, {Column: "user.email", Kind: "mail"}}, deploy.ErrBadInput,
			[]string{"people.users.mail: there is no such column; is it users.email?", "people.user.email: there is no such column; is it users.email?"}},
		"a kind that the type cannot hold": {[]string{people}, []deploy.PersonalColumn{{Column: "users.id", Kind: "mail"}}, deploy.ErrBadInput, []string{"people.users.id: a column of the type int4 cannot be mail",
			"people.users.id can be phone, postcode, card, id, keep"}},
		"a path of no tree": {[]string{people}, []deploy.PersonalColumn{{Column: "users.id/a", Kind: "mail"}}, deploy.ErrBadInput, []string{"users.id is no tree"}},
		"a unique column whose values may fall together": {[]string{people}, []deploy.PersonalColumn{{Column: "users.email", Kind: "postcode"}}, deploy.ErrRefused,
			[]string{"users_email_key wants different values", "token"}},
		"a unique text": {[]string{"create table a (code text unique)", "insert into a values ('ab')"}, []deploy.PersonalColumn{{Column: "a.code", Kind: "text"}}, deploy.ErrRefused,
			[]string{"a_code_key wants different values", "a.code", "id, token, username", "people:\n  a.code: id"}},
		"a unique index of text, small": {[]string{"create table a (code text)", "create unique index small on a (lower(code)) where code <> ''"}, []deploy.PersonalColumn{{Column: "a.code", Kind: "text"}}, deploy.ErrRefused, []string{"small wants", "a.code"}},
		"text in a primary key":         {[]string{"create table a (n int, code text, primary key (n, code))"}, []deploy.PersonalColumn{{Column: "a.code", Kind: "text"}}, deploy.ErrRefused, []string{"a_pkey wants", "a.code"}},
		"a birthday beside a key":       {[]string{"create table a (n uuid, born date, unique (n, born))"}, nil, deploy.ErrRefused, []string{"a_n_born_key wants", "a.born", "people:\n  a.born: keep"}},
		"a link that is unique":         {[]string{"create table a (url text primary key)", "insert into a values ('https://site.example.com/a')"}, nil, deploy.ErrRefused, []string{"a_pkey wants", "a.url"}},
		"too little room to stay apart": {[]string{"create table a (code text unique)", "insert into a select chr(97 + n) from generate_series(0, 25) n"}, []deploy.PersonalColumn{{Column: "a.code", Kind: "token"}}, deploy.ErrRefused,
			[]string{"a_code_key", "two values have become one", "username"}},
		"too little room for an address": {[]string{"create table a (email varchar(12))", "insert into a values ('a@exam.ple')"}, nil, deploy.ErrRefused, []string{"a.email has room for 12 characters"}},
		"joined columns of two kinds": {[]string{"create table a (x text primary key)", "create table b (y text references a)"}, []deploy.PersonalColumn{{Column: "a.x", Kind: "mail"}, {Column: "b.y", Kind: "keep"}},
			deploy.ErrBadInput, []string{"b.y and a.x are joined by b_y_fkey and must be of one kind"}},
		"a row that the sample did not show": {[]string{"create table a (status text)", "insert into a select 'done' from generate_series(1, 90000)", "insert into a values ('Frau Beispiel hat angerufen')", "analyze a"}, nil,
			deploy.ErrRefused, []string{"a.status was to be kept", "a.status: text"}},
		"too many words for words of a program": {[]string{"create table a (status text)", "insert into a select 'done' from generate_series(1, 90000)",
			"insert into a select 'n' || translate(n::text, '0123456789', 'abcdefghij') from generate_series(1, 90) n", "analyze a"}, nil, deploy.ErrRefused, []string{"a.status was to be kept"}},
		"a check that masked values break": {[]string{"create table a (email text check (email like '%@firma.example.com'))", "insert into a values ('x@firma.example.com')"}, nil, deploy.ErrRefused, []string{"a_email_check"}},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := New(Config{}).Copy(within(t), deploy.MaskOrder{From: of(t, c.sql...), To: to, Named: c.named})
			if !errors.Is(err, c.is) {
				t.Fatalf("%v", err)
			}
			for _, says := range c.says {
				if text := err.Error() + "\n" + deploy.HintOf(err); !strings.Contains(text, says) {
					t.Errorf("it does not say %q: %s", says, text)
				}
			}
			if strings.Contains(err.Error(), "Beispiel") || strings.Contains(err.Error(), "x@firma") {
				t.Errorf("it says what is in a row: %v", err)
			}
		})
	}
}

// A target that is somebody's stays as it is.
func TestTargetThatIsNotEmpty(t *testing.T) {
	from, to := of(t, "create table a (id int)"), of(t, "create table theirs (id int)", "insert into theirs values (7)")
	_, err := New(Config{}).Copy(within(t), deploy.MaskOrder{From: from, To: to})
	if !errors.Is(err, deploy.ErrRefused) || !strings.Contains(err.Error(), "not empty") {
		t.Error(err)
	}
	if ask[int](t, dial(t, to), "select id from theirs") != 7 || ask[bool](t, dial(t, to), "select to_regclass('a') is not null") {
		t.Error("it is not as it was")
	}
}

func TestNamesMakeIt(t *testing.T) {
	from := of(t, `create table t (code text, data jsonb, doc bytea not null, photo bytea, n jsonb, "Große Tabelle" text)`,
		`insert into t select 'Xy ' || n, jsonb_build_object('a', 'Aa ' || n, 'b', n, n || 'x@post.example.com', 'Zz'), '\x0102030405060708', '\x01', '"Wer"', 'Q' from generate_series(1, 20) n`)
	to := database(t)
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Named: []deploy.PersonalColumn{{Column: "t.code", Kind: "keep"}, {Column: "t.data/a", Kind: "username"}, {Column: "public.t.doc", Kind: "token"}, {Column: "t.photo", Kind: "drop"}, {Column: "t.n", Kind: "drop"},
		{Column: "t.data/*", Kind: "mail"}, {Column: "t.Große Tabelle", Kind: "text"}}})
	same(t, dial(t, from), dial(t, to), "string_agg(code, ' ' order by code) from t", "sum((data->>'b')::int) from t", "sum(length(doc)) from t")
	none(t, dial(t, to), "t where photo is not null or n is not null or doc = '\\x0102030405060708' or data->>'a' like 'Aa%' or data::text like '%@post%'")
}

// What is unique without the column that may become the same for two is no reason to stop, nor is a column that an index has to be read alone.
func TestUniqueWithoutIt(t *testing.T) {
	from := of(t, "create table a (id int primary key, note text, born date, photo text, mail text, unique (id, note), unique (born, photo))", "create unique index on a (mail) include (note) where born is not null",
		"insert into a select n, 'x', '1980-05-17', n, 'a' || n || '@post.example.com' from generate_series(1, 9) n")
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: database(t), Named: []deploy.PersonalColumn{{Column: "a.born", Kind: "keep"}, {Column: "a.photo", Kind: "drop"}}})
}

// The length of a text's column is its own: a short one beside it cuts nothing.
func TestLimitsOfColumns(t *testing.T) {
	long := strings.Repeat("wort ", 30)
	from := of(t, "create table a (title varchar(40), note text, data text, mail varchar(30), other_mail varchar(60))", "insert into a values ('kurz und gut', '"+long+"', '{\"note\": \""+long+"\"}', 'x@post.example.com', 'x@post.example.com')")
	to := database(t)
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: to, Named: []deploy.PersonalColumn{{Column: "a.data", Kind: "text"}}})
	same(t, dial(t, from), dial(t, to), "length(note) from a", "length(data) from a", "length(title) from a", "mail = other_mail from a")
}

// What is suggested for columns that nothing reads is what they can be: copied into the file as it stands, it works.
func TestSuggestionsWork(t *testing.T) {
	from := of(t, "create extension hstore", "create type person as (name text, mail text)",
		"create table a (search tsvector, needed tsvector not null, doc xml not null, bytes bytea, tree hstore not null, who person, must person not null, bits bit(3), span daterange not null, list person[] not null)",
		"insert into a values ('ada', 'ada', '<a/>', '\\x01', 'a=>b', ('a', 'b'), ('a', 'b'), '101', '[2020-01-02,2020-02-03)', '{}'), (null, '', '<b/>', null, '', null, ('a', 'b'), null, 'empty', array[row('a', 'b')]::person[])")
	found, err := New(Config{}).Find(within(t), from, nil)
	if err != nil {
		t.Fatal(err)
	}
	var named []deploy.PersonalColumn
	for line := range strings.Lines(found.Paste()) {
		if column, rest, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			kind, _, _ := strings.Cut(rest, " ")
			named = append(named, deploy.PersonalColumn{Column: column, Kind: privacy.Kind(kind)})
			if want := map[bool]privacy.Kind{true: "keep", false: "drop"}[column == "a.must"]; privacy.Kind(kind) != want {
				t.Errorf("%s: %s is suggested", column, kind)
			}
		}
	}
	if len(named) != 10 {
		t.Errorf("%d columns are suggested: %s", len(named), found.Paste())
	}
	mustCopy(t, New(Config{}), deploy.MaskOrder{From: from, To: database(t), Named: named})
}
